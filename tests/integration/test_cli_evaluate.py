"""`samreg evaluate`: a transform scored by label maps and landmarks."""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from samreg import cli
from samreg.errors import InputRefused
from samreg.geometry import Volume
from samreg.io.writing import write_image
from samreg.tables import PointTable, paired
from samreg.transforms import Rigid
from samreg.transforms.files import write_transform
from tests.shifted import GRID, SHIFT


def test_evaluate_scores_labels_and_landmarks(tmp_path: Path, shift: Path):
    labels = np.zeros(GRID.shape, np.uint8)
    labels[4:10, 5:12, 3:8] = 1
    labels[12:16, 5:12, 3:8] = 2
    write_image(labels, GRID, tmp_path / "moving.nii.gz")
    write_image(SHIFT.warp(Volume(labels, GRID), GRID, interpolation="nearest"), GRID, tmp_path / "fixed.nii.gz")
    (tmp_path / "fixed.csv").write_text("x,y,z\n0,0,0\n1,2,3\n")
    (tmp_path / "moving.csv").write_text("x,y,z\n5,-3,2\n6,-1,8\n")
    options = []
    for side in ("fixed", "moving"):
        options += [f"--{side}-labels", str(tmp_path / f"{side}.nii.gz")]
        options += [f"--{side}-landmarks", str(tmp_path / f"{side}.csv")]
    assert cli.main(["evaluate", str(shift), *options, "-o", str(tmp_path / "metrics.json")]) == 0
    scores = json.loads((tmp_path / "metrics.json").read_text())
    assert {n: entry["dice"] for n, entry in scores["labels"]["labels"].items()} == {"1": 1.0, "2": 1.0}
    assert scores["landmarks"]["landmarks_mm"] == pytest.approx([0.0, 3.0])
    assert scores["transform"] == "shift.h5"


def test_evaluate_tells_great_numbers_apart_and_names_the_limit_of_floating_point(tmp_path: Path, shift: Path, capsys):
    labels = np.zeros(GRID.shape, np.uint64)
    for n, number in enumerate((2**24, 2**24 + 1, 614454277, 2**63 + 1)):
        labels[4 * n + 2 : 4 * n + 5, 5:12, 3:8] = number
    write_image(labels, GRID, tmp_path / "moving.nii.gz")
    write_image(SHIFT.warp(Volume(labels, GRID), GRID, interpolation="nearest"), GRID, tmp_path / "fixed.nrrd")
    options = ["--fixed-labels", str(tmp_path / "fixed.nrrd"), "--moving-labels", str(tmp_path / "moving.nii.gz")]
    assert cli.main(["evaluate", str(shift), *options, "-o", str(tmp_path / "metrics.json"), "--quiet"]) == 0
    scores = json.loads((tmp_path / "metrics.json").read_text())["labels"]["labels"]
    assert {n: entry["dice"] for n, entry in scores.items()} == {
        str(n): 1.0 for n in (2**24, 2**24 + 1, 614454277, 2**63 + 1)
    }
    write_image(labels.astype(np.float32), GRID, tmp_path / "moving.nii.gz")
    assert cli.main(["evaluate", str(shift), *options, "-o", str(tmp_path / "metrics2.json"), "--quiet"]) == 3
    assert "numbers below 16777216" in capsys.readouterr().err
    assert not (tmp_path / "metrics2.json").exists()


def evaluate_landmarks(folder: Path, transform: Path, fixed: str, moving: str) -> int:
    for side, text in (("fixed", fixed), ("moving", moving)):
        (folder / f"{side}.csv").write_text(text)
    files = ["--fixed-landmarks", str(folder / "fixed.csv"), "--moving-landmarks", str(folder / "moving.csv")]
    return cli.main(["evaluate", str(transform), *files, "-o", str(folder / "metrics.json")])


@pytest.mark.parametrize(
    ("fixed", "moving"),
    [
        ("name,x,y,z\na,0,0,0\nb,1,2,3\n", "name,x,y,z\nb,6,-1,8\na,5,-3,2\n"),
        ("ID,name,x,y,z\n1,a,0,0,0\n2,b,1,2,3\n", "x,y,z,Name\n6,-1,8,b\n5,-3,2,a\n"),
        ("id,x,y,z\n1,0,0,0\n2,1,2,3\n", "label,x,y,z\n2,6,-1,8\n1,5,-3,2\n"),
        ("name,x,y,z\nb,0,0,0\na,1,2,3\n", "5,-3,2\n6,-1,8\n"),
    ],
    ids=["one column", "the shared column", "other columns", "names in one file"],
)
def test_landmarks_are_paired_by_name_and_else_by_order(tmp_path: Path, shift: Path, fixed: str, moving: str):
    assert evaluate_landmarks(tmp_path, shift, fixed, moving) == 0
    scores = json.loads((tmp_path / "metrics.json").read_text())
    assert scores["landmarks"]["landmarks_mm"] == pytest.approx([0.0, 3.0])


@pytest.mark.parametrize(
    ("names", "said"),
    [("ac", "'b' is in only one file"), ("aa", "'a' stands twice"), (" a", "has no name"), ("a", "'b' is in only one")],
)
def test_landmark_names_that_do_not_pair_are_refused(tmp_path: Path, shift: Path, names: str, said: str, capsys):
    moving = "name,x,y,z\n" + "".join(f"{name},0,0,0\n" for name in names)
    assert evaluate_landmarks(tmp_path, shift, "name,x,y,z\na,0,0,0\nb,1,2,3\n", moving) == 3
    assert said in capsys.readouterr().err
    assert not (tmp_path / "metrics.json").exists()
    with pytest.raises(InputRefused) as refused:
        paired(PointTable.read(tmp_path / "fixed.csv"), PointTable.read(tmp_path / "moving.csv"))
    assert refused.value.reason == "landmark-names"


def evaluate_in_pixels(folder: Path, fixed: str, moving: str, *options: str) -> int:
    """Of two pictures of 20 x 30 pixels, spaced 2 x 3 mm, the moving one shifted by 4 mm along x."""
    for side, text in (("fixed", fixed), ("moving", moving)):
        PIL.Image.fromarray(np.arange(600, dtype=np.uint8).reshape(30, 20)).save(folder / f"{side}.png")
        (folder / f"{side}.csv").write_text(text)
    matrix = np.eye(4)
    matrix[0, 3] = 4.0
    write_transform(Rigid(matrix), folder / "t.h5")
    given = []
    for side in ("fixed", "moving"):
        given += [f"--{side}-landmarks", str(folder / f"{side}.csv"), f"--{side}", str(folder / f"{side}.png")]
    out = ["-o", str(folder / "metrics.json"), "--pixel-spacing", "2", "3"]
    return cli.main(["evaluate", str(folder / "t.h5"), *given, *out, "--landmarks-in", "pixels", *options])


def test_landmarks_in_pixels_are_scored_beside_the_identity(tmp_path: Path, capsys):
    assert evaluate_in_pixels(tmp_path, ",X,Y\n1,3,4\n2,5,6\n", ",X,Y\n2,7,7\n1,5,4\n3,1,1\n") == 0
    scores = json.loads((tmp_path / "metrics.json").read_text())["landmarks"]
    assert scores["landmarks_mm"] == pytest.approx([0.0, 3.0])
    assert scores["landmarks_px"] == pytest.approx([0.0, 1.0])
    assert scores["before"]["landmarks_mm"] == pytest.approx([4.0, 5.0])
    assert scores["relative_tre"]["max"] == pytest.approx(1 / np.hypot(20, 30))
    assert (scores["count"], scores["left_out"]) == (2, 1)
    said = capsys.readouterr().out
    assert "mean [pixels]" in said
    assert "→ 0.5" in said


@pytest.mark.parametrize(
    ("moving", "options", "code", "said"),
    [
        ("x,y\n30,4\n", (), 3, "outside the image's 20 x 30 pixels"),
        ("x,z\n1,4\n", (), 2, "columns named x and y (pixels)"),
        ("1,2,3\n", (), 2, "has 3 fields"),
        ("x,y\n1,4\n", ("--landmarks-in", "mm"), 2, "Images are given without landmarks in pixels"),
    ],
)
def test_wrong_landmarks_in_pixels_are_refused(tmp_path: Path, moving, options, code, said, capsys):
    assert evaluate_in_pixels(tmp_path, "x,y\n3,4\n", moving, *options) == code
    assert said in capsys.readouterr().err
    assert not (tmp_path / "metrics.json").exists()


@pytest.mark.parametrize("options", [[], ["--fixed-labels", "a.nii.gz"], ["--moving-landmarks", "a.csv"]])
def test_evaluate_asks_for_both_sides(tmp_path: Path, shift: Path, options: list[str]):
    assert cli.main(["evaluate", str(shift), *options, "-o", str(tmp_path / "metrics.json")]) == 2
    assert not (tmp_path / "metrics.json").exists()
