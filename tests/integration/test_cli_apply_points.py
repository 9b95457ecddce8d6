"""`samreg apply-points`: points of a table, mapped."""

from pathlib import Path

import pytest

from samreg import cli
from samreg.errors import UsageError
from samreg.tables import PointTable


def number(word: str) -> float | str:
    """The number that a word is, or the word."""
    try:
        return float(word)
    except ValueError:
        return word


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("1,2,3\n4,5,6\n", "6,-1,5\n9,2,8\n"),
        ("name,Z,X,Y\ntip,3,1,2\n", "name,Z,X,Y\ntip,5,6,-1\n"),
        ("\ufeffx,y,z\n1,2,3\n", "x,y,z\n6,-1,5\n"),
    ],
    ids=["bare", "named", "marked"],
)
def test_apply_points_keeps_the_layout(tmp_path: Path, shift: Path, given: str, expected: str):
    (tmp_path / "points.csv").write_text(given, encoding="utf-8")
    assert cli.main(["apply-points", str(shift), str(tmp_path / "points.csv"), "-o", str(tmp_path / "out.csv")]) == 0
    found, wanted = (
        [line.split(",") for line in text.splitlines()]
        for text in ((tmp_path / "out.csv").read_text(encoding="utf-8"), expected)
    )
    assert len(found) == len(wanted)
    for ours, theirs in zip(found, wanted, strict=True):
        assert [number(word) for word in ours] == pytest.approx([number(word) for word in theirs])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x,y\n1,2\n", "columns named x, y and z"),
        ("x,y,z,x\n1,2,3,4\n", "one column x"),
        ("1,2,3\n4,five,6\n", "Row 2"),
        ("1,2,3\n4,5\n", "Row 2 of .* has 2 fields"),
        ("1,10,20,30\n", "Row 1 of .* has 4 fields"),
        ("tip,10,20,30\n", "Row 1 of .* has 4 fields"),
        ("x,y,z\n1,5,2,5,3,5\n", "Row 2 of .* has 6 fields"),
        ("1,2,nan\n", "Row 1 .* three finite numbers"),
        ("x,y,z\n1,inf,2\n", "Row 2 .* three finite numbers"),
        ("1,2,-100001\n", "Row 1 .* none beyond 100000"),
        ("", "no points"),
        ("x,y,z\n", "no points"),
    ],
)
def test_damaged_points_are_refused(tmp_path: Path, shift: Path, text: str, said: str, capsys):
    points = tmp_path / "points.csv"
    points.write_text(text)
    with pytest.raises(UsageError, match=said):
        PointTable.read(points)
    assert cli.main(["apply-points", str(shift), str(points), "-o", str(tmp_path / "out.csv")]) == 2
    assert not (tmp_path / "out.csv").exists()
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_missing_transform_is_one_sentence(tmp_path: Path, capsys):
    (tmp_path / "points.csv").write_text("1,2,3\n")
    code = cli.main(
        ["apply-points", str(tmp_path / "no.h5"), str(tmp_path / "points.csv"), "-o", str(tmp_path / "out.csv")]
    )
    assert code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "out.csv").exists()
