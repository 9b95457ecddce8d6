"""Documents that are generated are current, and what they say is what the library takes."""

import ast
import doctest
import inspect
import re
import textwrap
from importlib import import_module
from typing import Any

import api
import docstrings
import generated
import pytest
import reference
import rooms
import yaml

from samreg.config import Config, nested

REFERENCE = (generated.DOCS / "reference.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("tool", [reference, rooms, api], ids=lambda tool: tool.__name__)
def test_generated_documents_are_current(tool):
    for path, text in tool.documents().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run `make docs`"


def test_the_reference_of_the_library_has_no_page_of_a_module_that_is_gone():
    assert set(api.FOLDER.iterdir()) == set(api.documents())


@pytest.mark.parametrize("document", ["reference.md", "refusals.md", "architecture.md"])
def test_every_row_of_a_table_has_a_meaning(document: str):
    for row in re.findall(r"^\|.*\|$", (generated.DOCS / document).read_text(encoding="utf-8"), re.MULTILINE):
        assert not row.rstrip("|").rstrip().endswith("|"), row


def documented_keys() -> dict[str, Any]:
    """Defaults by key, as docs/reference.md states them."""
    table = REFERENCE.partition("<!-- generated: configuration -->")[2].partition("<!-- end -->")[0]
    rows = re.findall(r"^\| `([\w.]+)` \| (.*?) \| ", table, re.MULTILINE)
    return {key: None if default == "none" else yaml.safe_load(default) for key, default in rows}


@pytest.mark.parametrize(("key", "default"), documented_keys().items())
def test_a_documented_key_is_taken_with_its_documented_default(key: str, default: object):
    assert Config().with_values(nested({key: default})) == Config()


def test_every_key_is_documented():
    def keys(values: dict[str, Any], prefix: str = "") -> set[str]:
        return set().union(
            *(keys(v, f"{prefix}{k}.") if isinstance(v, dict) else {f"{prefix}{k}"} for k, v in values.items())
        )

    assert documented_keys().keys() == keys(Config().as_dict())


ENTRIES = {
    f"{name}.{entry.name}": entry
    for name in api.MODULES
    for top in api.entries(import_module(name))
    for entry in (top, *api.members(top))
}
FUNCTIONS = {name: entry for name, entry in ENTRIES.items() if inspect.isfunction(entry.thing)}


@pytest.mark.parametrize("name", ENTRIES)
def test_what_is_public_has_a_docstring(name: str):
    assert ENTRIES[name].docstring.text


def raises(node: ast.AST) -> bool:
    """Whether an exception leaves a piece of code, apart from what it calls."""
    if isinstance(node, ast.Raise):
        return True
    inner = node.handlers + node.orelse + node.finalbody if isinstance(node, ast.Try) else ast.iter_child_nodes(node)
    return any(map(raises, inner))


@pytest.mark.parametrize("name", [name for name, entry in FUNCTIONS.items() if "." not in entry.name])
def test_a_public_function_says_what_it_takes_and_returns(name: str):
    function, docstring = FUNCTIONS[name].thing, FUNCTIONS[name].docstring
    found = inspect.signature(function)
    assert docstring.names("Args").keys() == found.parameters.keys()
    if found.return_annotation not in ("None", "Iterator[None]"):
        assert docstring.sections.get("Returns")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_public_function_or_method_says_what_it_raises(name: str):
    if raises(ast.parse(textwrap.dedent(inspect.getsource(FUNCTIONS[name].thing)))):
        assert FUNCTIONS[name].docstring.entries("Raises")


@pytest.mark.parametrize("name", [name for name, entry in ENTRIES.items() if "Example" in entry.docstring.sections])
def test_an_example_is_python(name: str):
    text = ENTRIES[name].docstring.sections["Example"]
    sources = [example.source for example in doctest.DocTestParser().get_examples(text)] or [text]
    assert all(ast.parse(source).body for source in sources)


def test_a_docstring_is_taken_apart():
    found = docstrings.parsed(
        """What it does.

        Args:
            fixed, moving: Images,
                of one patient.

        Raises (from `load`):
            UsageError: No such file.

        Example:
            >>> 1 + 1
            2
        """
    )
    assert found.text == "What it does."
    assert found.names("Args") == {"fixed": "Images, of one patient.", "moving": "Images, of one patient."}
    assert found.entries("Raises") == {"UsageError": "No such file."}
    assert found.sections["Example"] == ">>> 1 + 1\n2"
