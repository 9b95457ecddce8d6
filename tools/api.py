"""The reference of the Python library, written from its docstrings.

python tools/api.py --write    # write docs/api/
python tools/api.py            # exit 1 if a page is out of date
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import generated
from docstrings import Docstring, parsed

FOLDER = generated.DOCS / "api"
# What a researcher calls. What has `__all__` shows those names; another module, the public ones that it defines.
MODULES = (
    "samreg",
    "samreg.io",
    "samreg.geometry",
    "samreg.transforms",
    "samreg.rois",
    "samreg.config",
    "samreg.result",
    "samreg.metrics",
    "samreg.locate",
    "samreg.session",
    "samreg.constraints.inputs",
    "samreg.constraints.model",
    "samreg.constraints.measuring",
    "samreg.encoders",
    "samreg.proposals.base",
    "samreg.matching.base",
    "samreg.estimation.base",
    "samreg.estimation.image_pair",
    "samreg.phantoms",
    "samreg.errors",
)
WIDTH = 100  # of a signature in one line


@dataclass(frozen=True)
class Entry:
    """A public class, function or method.

    Attributes:
        name: As a user writes it below its module ("Grid.crop").
        thing: The object itself.
    """

    name: str
    thing: Any

    @property
    def docstring(self) -> Docstring:
        """Its own docstring, or that of the method that it overrides."""
        return parsed(inspect.getdoc(self.thing))

    @property
    def is_callable(self) -> bool:
        """Whether it has a signature to show: not a property."""
        return callable(self.thing)


def documents() -> dict[Path, str]:
    """The text of each page: one for each module, and the list of them."""
    pages = {FOLDER / f"{name}.md": page(import_module(name)) for name in MODULES}
    return {FOLDER / "README.md": contents(), **pages}


def contents() -> str:
    """The list of the modules."""
    lines = ["# Python library", "", "Written from the docstrings by `make docs`.", ""]
    for name in MODULES:
        text = parsed(import_module(name).__doc__).text
        lines.append(f"- [`{name}`]({name}.md): {_first_paragraph(text)}")
    return "\n".join(lines) + "\n"


def page(module: ModuleType) -> str:
    """The page of one module, as Markdown."""
    parts = [f"# `{module.__name__}`", parsed(module.__doc__).text]
    for entry in entries(module):
        parts.append(f"## `{entry.name}`")
        home = entry.thing.__module__
        if home != module.__name__ and home in MODULES:
            parts.append(f"See [`{home}.{entry.name}`]({home}.md#{entry.name.lower()}).")
            continue
        parts += described(entry)
        for member in members(entry):
            parts += [f"### `{member.name}`", *described(member)]
    return "\n\n".join(part for part in parts if part) + "\n"


def entries(module: ModuleType) -> list[Entry]:
    """The public classes and functions of a module, in order of their names."""
    names = getattr(module, "__all__", None) or [
        name for name, thing in vars(module).items() if getattr(thing, "__module__", "") == module.__name__
    ]
    found = [Entry(name, getattr(module, name)) for name in sorted(names) if not name.startswith("_")]
    return [entry for entry in found if inspect.isclass(entry.thing) or inspect.isfunction(entry.thing)]


def members(entry: Entry) -> list[Entry]:
    """The public methods and properties of a class, in order of the source; none of a function."""
    if not inspect.isclass(entry.thing):
        return []
    return [Entry(f"{entry.name}.{name}", thing) for name, thing in _own(entry.thing)]


def _own(cls: type) -> Iterator[tuple[str, Any]]:
    for name, thing in vars(cls).items():
        if name.startswith("_"):
            continue
        if isinstance(thing, staticmethod | classmethod) or inspect.isfunction(thing):
            yield name, getattr(cls, name)
        elif isinstance(thing, property) or hasattr(thing, "func"):  # a cached property has one
            yield name, thing


def described(entry: Entry) -> Iterator[str]:
    """The parts of an entry below its heading."""
    if entry.is_callable and (shown := signature(entry)):
        yield f"```python\n{shown}\n```"
    docstring = entry.docstring
    yield docstring.text
    for name, text in docstring.sections.items():
        if name == "Example":
            yield f"**{name}**\n\n```python\n{text}\n```"
        elif name in ("Returns", "Yields"):
            yield f"**{name}**\n\n{text}"
        else:
            rows = (f"- `{names}`: {meaning}" for names, meaning in docstring.entries(name).items())
            yield f"**{name}**\n\n" + "\n".join(rows)


def signature(entry: Entry) -> str:
    """How it is called, in one line or one line for each parameter; empty for a class that is not called."""
    try:
        found = inspect.signature(entry.thing)
    except ValueError:
        return ""
    parameters = list(_parameters(found, getattr(entry.thing, "__annotations__", {})))
    returned = found.return_annotation
    end = "" if inspect.isclass(entry.thing) or returned is found.empty else f" -> {_annotation(returned)}"
    line = f"{entry.name}({', '.join(parameters)}){end}"
    if len(line) <= WIDTH:
        return line
    return f"{entry.name}(\n" + "".join(f"    {parameter},\n" for parameter in parameters) + f"){end}"


def _parameters(found: inspect.Signature, written: Mapping[str, Any]) -> Iterator[str]:
    """Each parameter, with its annotation as it is written in the source where that is known."""
    marked = False
    for parameter in found.parameters.values():
        if parameter.name in ("self", "cls"):
            continue
        marked = marked or parameter.kind is parameter.VAR_POSITIONAL
        if parameter.kind is parameter.KEYWORD_ONLY and not marked:
            marked = True
            yield "*"
        bare = written.get(parameter.name, parameter.annotation)
        if isinstance(bare, str):
            parameter = parameter.replace(annotation=_Bare(bare))
        yield re.sub(r"<[^<>]*>", "...", str(parameter))  # a default that no source code spells


class _Bare(str):
    """An annotation that is shown as it stands in the source, without quotation marks."""

    __slots__ = ()
    __repr__ = str.__str__


def _annotation(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _first_paragraph(text: str) -> str:
    return " ".join(text.split("\n\n")[0].split())


if __name__ == "__main__":
    sys.exit(generated.main(documents()))
