"""The paths that commands are given: inputs are there and stay, outputs can be written."""

from pathlib import Path

import pytest

from samreg import cli


def commands(shift: Path, image: Path, points: Path) -> dict[str, list[str]]:
    """A command of each kind that writes a file, without its `-o`."""
    labels = ["--fixed-labels", str(image), "--moving-labels", str(image)]
    return {
        "apply": ["apply", str(shift), str(image), "--reference", str(image)],
        "apply-points": ["apply-points", str(shift), str(points)],
        "evaluate": ["evaluate", str(shift), *labels],
    }


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("apply", "image.nii.gz"),
        ("apply", "sub/../image.nii.gz"),
        ("apply", "link.nii.gz"),
        ("apply-points", "points.csv"),
        ("apply-points", "shift.h5"),
        ("evaluate", "shift.h5"),
        ("evaluate", "image.nii.gz"),
    ],
)
def test_an_input_is_not_overwritten(
    tmp_path: Path, shift: Path, image: Path, points: Path, command: str, name: str, capsys
):
    (tmp_path / "sub").mkdir()
    (tmp_path / "link.nii.gz").hardlink_to(image)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    out = f"{tmp_path}/{name}"
    assert cli.main([*commands(shift, image, points)[command], "-o", out]) == 2
    assert f"output '{out}' is the input" in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before


@pytest.mark.parametrize("command", ["apply", "apply-points", "evaluate"])
def test_an_output_that_cannot_be_a_file_is_refused_by_its_name(
    tmp_path: Path, shift: Path, image: Path, points: Path, command: str, capsys
):
    (tmp_path / "folder.nii.gz").mkdir()
    for name, said in (("folder.nii.gz", "is a folder"), ("none/out.nii.gz", "does not exist")):
        assert cli.main([*commands(shift, image, points)[command], "-o", str(tmp_path / name)]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert name.split("/")[0] in error
        assert ".samreg-" not in error


@pytest.mark.parametrize(
    "arguments",
    [
        ["register", "a", "b"],
        ["apply", "t.h5", "a", "--reference", "b"],
        ["apply-points", "t.h5", "p.csv"],
        ["evaluate", "t.h5"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_an_empty_output_is_refused(arguments: list[str], capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([*arguments, "-o", ""])
    assert end.value.code == 2
    assert "the path is empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["register", "IMAGE", "no", "-o", "out"],
        ["register", "IMAGE", "no", "-o", "out", "--dry-run"],
        ["register", "IMAGE", "IMAGE", "-o", "out", "--fixed-rois", "no", "--moving-rois", "IMAGE"],
        ["register", "IMAGE", "IMAGE", "-o", "out", "--config", "no"],
        ["apply", "no.h5", "IMAGE", "--reference", "IMAGE", "-o", "out.mha"],
        ["apply", "SHIFT", "no.nii", "--reference", "IMAGE", "-o", "out.mha"],
        ["apply", "SHIFT", "IMAGE", "--reference", "no.nii", "-o", "out.mha"],
        ["apply-points", "no.h5", "POINTS", "-o", "out.csv"],
        ["apply-points", "SHIFT", "no.csv", "-o", "out.csv"],
        ["evaluate", "no.h5", "--fixed-labels", "IMAGE", "--moving-labels", "IMAGE", "-o", "out.json"],
        ["evaluate", "SHIFT", "--fixed-labels", "IMAGE", "--moving-labels", "no.nii", "-o", "out.json"],
        ["evaluate", "SHIFT", "--fixed-landmarks", "POINTS", "--moving-landmarks", "no.csv", "-o", "out.json"],
        ["locate", "IMAGE", "no.nii", "--point", "0", "0", "0"],
        ["locate", "IMAGE", "IMAGE", "--roi", "no.nii"],
    ],
    ids=" ".join,
)
def test_a_path_that_does_not_exist_ends_with_2(
    tmp_path: Path, shift: Path, image: Path, points: Path, arguments: list[str], monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    before = {p.name for p in tmp_path.iterdir()}
    places = {"IMAGE": image, "SHIFT": shift, "POINTS": points}
    assert cli.main([str(places.get(a, a)) for a in arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no" in line
    assert {p.name for p in tmp_path.iterdir()} == before


def test_paths_that_do_not_exist_end_with_2(tmp_path: Path, capsys):
    assert cli.main(["register", str(tmp_path / "a"), str(tmp_path / "b"), "-o", str(tmp_path / "out")]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
