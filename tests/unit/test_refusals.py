"""One table holds every reason for which samreg does not go on; the errors of the code and the documents read it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from samreg.errors import InputRefused, OutputInvalid, UsageError
from samreg.image_arguments import MIN_VOXELS
from samreg.io.dicom_check import MIN_SLICES
from samreg.io.dicom_folder import MAX_FILES
from samreg.io.limits import MAX_VOXELS
from samreg.refusals import GROUPS, REFUSALS

ROOT = Path(__file__).parents[2]
# Of errors that name no reason of their own.
REASONS_OF_CLASSES = {"UsageError": "usage-error", "OutputInvalid": "output-invalid"}
ERRORS = {"SamregError", "InputRefused", *REASONS_OF_CLASSES}


def trees() -> list[ast.Module]:
    folders = (ROOT / "bundle" / "samreg", ROOT / "app", ROOT / "operators")
    files = [p for folder in folders for p in sorted(folder.rglob("*.py"))]
    return [ast.parse(p.read_text(encoding="utf-8")) for p in files]


def reasons_in(code: list[ast.Module]) -> Iterator[str]:
    """Each reason that code gives to an error, or to a function that passes it on; a hole in it is `.+`."""
    nodes = [node for tree in code for node in ast.walk(tree)]
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
    names = {f.name: [a.arg for a in f.args.args] for f in functions}
    place = {name: arguments.index("reason") for name, arguments in names.items() if "reason" in arguments}
    for call in (node for node in nodes if isinstance(node, ast.Call)):
        name = call.func.id if isinstance(call.func, ast.Name) else ""
        given = [k.value for k in call.keywords if k.arg == "reason"]
        given += [a for n, a in enumerate(call.args) if n == place.get(name)]
        if name in ERRORS and not given:
            yield REASONS_OF_CLASSES.get(name, f"{name} without a reason")
        for value in given:
            if isinstance(value, ast.Constant):
                yield re.escape(value.value)
            elif isinstance(value, ast.JoinedStr):
                parts = value.values
                yield "".join(re.escape(p.value) if isinstance(p, ast.Constant) else ".+" for p in parts)
            elif ast.unparse(value).rpartition(".")[2] != "reason":
                yield f"not to be told: {ast.unparse(value)}"


def test_the_table_and_the_code_hold_the_same_reasons():
    patterns = set(reasons_in(trees()))
    unknown = {pattern for pattern in patterns if not any(re.fullmatch(pattern, reason) for reason in REFUSALS)}
    unused = {reason for reason in REFUSALS if not any(re.fullmatch(pattern, reason) for pattern in patterns)}
    assert (unknown, unused) == (set(), set())


def test_a_reason_stands_in_one_row():
    rows = [row.reason for group in GROUPS for row in group.refusals]
    assert sorted(rows) == sorted(REFUSALS)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", reason) for reason in rows)


@pytest.mark.parametrize("row", REFUSALS.values(), ids=REFUSALS)
def test_a_row_says_what_it_means_and_what_to_do(row):
    assert row.got
    assert not row.got.endswith(".")
    assert not row.expected.endswith(".")
    if row.reason not in REASONS_OF_CLASSES.values():
        assert row.next_step.endswith(".")
        assert row.expected or row.reason in ("stopped", "unexpected")


def test_an_error_takes_from_the_table_what_it_does_not_say_itself():
    row = REFUSALS["missing-slices"]
    error = InputRefused("the stack lacks 2 slices", reason="missing-slices")
    assert error.sentence == f"The stack lacks 2 slices. Expected {row.expected}. {row.next_step}"
    assert InputRefused("g", "one part", reason="concatenation").expected == "one part"
    assert InputRefused("g", next_step="Join them.", reason="concatenation").next_step == "Join them."
    assert UsageError("no such preset").sentence == f"No such preset. {REFUSALS['usage-error'].next_step}"
    assert OutputInvalid("other bytes").reason == "output-invalid"


@pytest.mark.parametrize("error", [InputRefused, UsageError, OutputInvalid])
def test_there_is_no_reason_outside_the_table(error):
    with pytest.raises(ValueError, match="no-such-reason"):
        error("something", reason="no-such-reason")


def test_an_input_is_not_refused_without_a_reason():
    with pytest.raises(ValueError, match="input-refused"):
        InputRefused("something")


@pytest.mark.parametrize(
    ("reason", "limit"),
    [
        ("too-few-slices", MIN_SLICES),
        ("too-small", MIN_VOXELS),
        ("size-limit", MAX_VOXELS),
        ("size-limit", MAX_FILES),
    ],
)
def test_the_limits_in_the_table_are_those_of_the_code(reason, limit):
    assert f"at least {limit} " in REFUSALS[reason].expected or f"{limit:,} " in REFUSALS[reason].expected
