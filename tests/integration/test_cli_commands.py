"""The other sub-commands, and the arguments that all share."""

import io
import json
from pathlib import Path

import nibabel
import numpy as np
import PIL.Image
import pytest

from samreg import cli, registry
from samreg.cli_progress import ProgressLine
from samreg.config import Config, configured, presets
from samreg.errors import InputRefused, UsageError
from samreg.geometry import Grid, Volume
from samreg.io import read_image
from samreg.io.writing import write_image
from samreg.tables import PointTable, paired
from samreg.transforms import Affine, Rigid
from samreg.transforms.files import write_transform
from tests.written import assert_in_place, read_by_every_reader, tilted, told_by_place

SHIFT = Affine(np.array([[1.0, 0, 0, 5], [0, 1, 0, -3], [0, 0, 1, 2], [0, 0, 0, 1]]))
GRID = Grid.from_axes((20, 18, 12), (2.0, 2.0, 3.0), (-20, -10, 5))


@pytest.fixture
def shift(tmp_path: Path) -> Path:
    write_transform(SHIFT, tmp_path / "shift.h5")
    return tmp_path / "shift.h5"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    voxels = np.random.default_rng(0).uniform(1, 100, GRID.shape).astype(np.float32)
    write_image(voxels, GRID, tmp_path / "image.nii.gz")
    return tmp_path / "image.nii.gz"


@pytest.mark.parametrize("name", ["out.nii.gz", "out.nrrd", "out.mha"])
def test_apply_warps_onto_the_grid_of_the_reference(tmp_path: Path, shift: Path, image: Path, name: str):
    coarse = Grid.from_axes((9, 8, 7), (4.0, 4.0, 4.0), (-18, -8, 7))
    write_image(np.zeros(coarse.shape, np.float32), coarse, tmp_path / "reference.nii.gz")
    out = tmp_path / name
    assert (
        cli.main(["apply", str(shift), str(image), "--reference", str(tmp_path / "reference.nii.gz"), "-o", str(out)])
        == 0
    )
    found = read_image(out)
    assert found.grid.same_as(coarse)
    np.testing.assert_allclose(found.voxels, SHIFT.warp(read_image(image), coarse), atol=1e-3)


def test_apply_keeps_labels(tmp_path: Path, shift: Path, image: Path):
    labels = np.random.default_rng(1).integers(0, 4, GRID.shape).astype(np.uint8)
    write_image(labels, GRID, tmp_path / "labels.nii.gz")
    arguments = ["apply", str(shift), str(tmp_path / "labels.nii.gz"), "--reference", str(image)]
    assert cli.main([*arguments, "-o", str(tmp_path / "out.nii.gz"), "--interpolation", "nearest"]) == 0
    expected = SHIFT.warp(Volume(labels, GRID), GRID, interpolation="nearest")
    np.testing.assert_array_equal(read_image(tmp_path / "out.nii.gz").voxels, expected)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize(
    "kind", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
)
def test_apply_keeps_each_number_of_a_label_map(tmp_path: Path, shift: Path, image: Path, kind: str, suffix: str):
    top = np.iinfo(kind).max if kind[0] != "f" else 2 ** (np.finfo(kind).nmant + 1) - 1
    labels = np.array([0, 1, top - 1, top], kind)[np.random.default_rng(1).integers(0, 4, GRID.shape)]
    write_image(labels, GRID, tmp_path / f"labels{suffix}")
    out = tmp_path / f"out{suffix}"
    arguments = ["apply", str(shift), str(tmp_path / f"labels{suffix}"), "--reference", str(image), "-o", str(out)]
    assert cli.main([*arguments, "--interpolation", "nearest"]) == 0
    expected = SHIFT.warp(Volume(labels, GRID), GRID, interpolation="nearest")
    assert {1, top - 1, top} <= set(np.unique(expected).tolist())
    for name, (values, _) in read_by_every_reader(out).items():
        assert values.dtype.kind in "iu", name
        assert values.dtype == (kind if kind[0] != "f" else np.min_scalar_type(int(top))), name
        np.testing.assert_array_equal(values, expected, err_msg=name)


def test_apply_keeps_fractions_and_negative_numbers_of_an_image(tmp_path: Path, shift: Path, image: Path):
    for values in (np.float32(-0.5), np.int16(-1000)):
        voxels = np.random.default_rng(1).integers(0, 4, GRID.shape).astype(values.dtype) + values
        write_image(voxels, GRID, tmp_path / "moving.nrrd")
        arguments = ["apply", str(shift), str(tmp_path / "moving.nrrd"), "--reference", str(image)]
        assert cli.main([*arguments, "-o", str(tmp_path / "out.nrrd"), "--interpolation", "nearest"]) == 0
        expected = SHIFT.warp(Volume(voxels, GRID), GRID, interpolation="nearest")
        for found, _ in read_by_every_reader(tmp_path / "out.nrrd").values():
            assert found.dtype == values.dtype
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("interpolation", ["linear", "nearest"])
@pytest.mark.parametrize("given", [".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_apply_onto_a_sheared_reference_is_in_place(
    tmp_path: Path, suffix: str, given: str, interpolation: str, capsys: pytest.CaptureFixture[str]
):
    grid = tilted()
    around = told_by_place(grid.bounding_grid(2.0, 20.0))
    write_transform(Affine.identity(), tmp_path / "identity.tfm")
    write_image(around.voxels, around.grid, tmp_path / "image.nii.gz")
    save_sheared(np.zeros(grid.shape, np.float32), grid, tmp_path / f"reference{given}")
    out = tmp_path / f"out{suffix}"
    arguments = ["apply", str(tmp_path / "identity.tfm"), str(tmp_path / "image.nii.gz"), "-o", str(out)]
    arguments += ["--reference", str(tmp_path / f"reference{given}"), "--interpolation", interpolation]
    assert cli.main(arguments) == 0
    # Nearest neighbour takes the value from up to a voxel's corner away.
    assert_in_place(out, covered=grid, within=0.01 if interpolation == "linear" else 3**0.5)
    kept = ".nii" not in suffix
    assert ("perpendicular grid" in capsys.readouterr().err) == (not kept)
    for name, (values, affine) in read_by_every_reader(out).items():
        assert Grid(values.shape, affine).same_as(grid, 0.01) == kept, name


def save_sheared(voxels: np.ndarray, grid: Grid, path: Path) -> None:
    """As dcm2niix writes a tilted CT: an sform alone."""
    if ".nii" not in path.name:
        write_image(voxels, grid, path)
        return
    header = nibabel.Nifti1Image(voxels, np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid.affine)
    header.set_sform(header.affine, 1)
    header.header["qform_code"] = 0
    header.header.set_xyzt_units("mm")
    nibabel.save(header, path)


def test_apply_refuses_a_format_it_cannot_write(tmp_path: Path, shift: Path, image: Path, capsys):
    assert cli.main(["apply", str(shift), str(image), "--reference", str(image), "-o", str(tmp_path / "out.png")]) == 2
    assert ".nrrd" in capsys.readouterr().err


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


def commands(shift: Path, image: Path, points: Path) -> dict[str, list[str]]:
    """A command of each kind that writes a file, without its `-o`."""
    labels = ["--fixed-labels", str(image), "--moving-labels", str(image)]
    return {
        "apply": ["apply", str(shift), str(image), "--reference", str(image)],
        "apply-points": ["apply-points", str(shift), str(points)],
        "evaluate": ["evaluate", str(shift), *labels],
    }


@pytest.fixture
def points(tmp_path: Path) -> Path:
    (tmp_path / "points.csv").write_text("1,2,3\n")
    return tmp_path / "points.csv"


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


def test_apply_reads_pictures_with_the_spacing_it_is_given(tmp_path: Path, capsys):
    from PIL import Image

    pixels = np.random.default_rng(2).integers(1, 250, (20, 24), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    write_transform(Affine.identity(), tmp_path / "same.h5")
    picture, out = str(tmp_path / "a.png"), tmp_path / "out.nii.gz"
    arguments = ["apply", str(tmp_path / "same.h5"), picture, "--reference", picture, "-o", str(out)]
    assert cli.main(arguments) == 3
    assert "--pixel-spacing X Y" in capsys.readouterr().err
    assert cli.main([*arguments, "--pixel-spacing", "0.5", "0.25"]) == 0
    warped = read_image(out)
    np.testing.assert_allclose(warped.grid.spacing_mm[:2], (0.5, 0.25))
    np.testing.assert_allclose(warped.voxels[:, :, 0], pixels.T, atol=1e-3)


def test_apply_refuses_a_pixel_spacing_without_a_picture(tmp_path: Path, shift: Path, image: Path, points: Path):
    arguments = commands(shift, image, points)["apply"]
    assert cli.main([*arguments, "-o", str(tmp_path / "out.nii.gz"), "--pixel-spacing", "1", "1"]) == 2


@pytest.mark.parametrize("options", [[], ["--fixed-labels", "a.nii.gz"], ["--moving-landmarks", "a.csv"]])
def test_evaluate_asks_for_both_sides(tmp_path: Path, shift: Path, options: list[str]):
    assert cli.main(["evaluate", str(shift), *options, "-o", str(tmp_path / "metrics.json")]) == 2
    assert not (tmp_path / "metrics.json").exists()


def test_a_missing_transform_is_one_sentence(tmp_path: Path, capsys):
    (tmp_path / "points.csv").write_text("1,2,3\n")
    code = cli.main(
        ["apply-points", str(tmp_path / "no.h5"), str(tmp_path / "points.csv"), "-o", str(tmp_path / "out.csv")]
    )
    assert code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "out.csv").exists()


def test_locate_prints_the_counterpart_of_a_point(study: Path, instant, capsys):
    fixed = read_image(study / "fixed")
    point = [str(c) for c in fixed.grid.lps(np.array([fixed.grid.shape]) // 4)[0]]  # in the first region
    pair = [str(study / "fixed"), str(study / "moving")]
    assert cli.main(["locate", *pair, "--point", *point, "--quiet"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pair"]["id"] == 1
    assert cli.main(["locate", *pair, "--point", "9999", "0", "0", "--quiet"]) == 3
    assert "outside the fixed image" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["register", "a"],
        ["register", "a", "b", "-o", "c", "--transform", "bspline"],
        ["register", "a", "b", "-o", "c", "--device", "gpu"],
        ["register", "a", "b", "-o", "c", "--pixel-spacing", "0", "1"],
        ["register", "a", "b", "-o", "c", "--encoder", "no-such"],
        ["register", "a", "b", "-o", "c", "--quiet", "--verbose"],
        ["locate", "a", "b", "--point", "1", "2"],
        ["locate", "a", "b"],
        ["locate", "a", "b", "--box", "1", "2", "3"],
        ["locate", "a", "b", "--point", "1", "2", "3", "--roi", "c"],
    ],
)
def test_wrong_arguments_end_with_2(arguments: list[str]):
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2


def test_paths_that_do_not_exist_end_with_2(tmp_path: Path, capsys):
    assert cli.main(["register", str(tmp_path / "a"), str(tmp_path / "b"), "-o", str(tmp_path / "out")]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_configuration_ends_with_2(study: Path, tmp_path: Path, capsys):
    (tmp_path / "c.yaml").write_text("matching: {max_pears: 5}\n")
    pair = [str(study / "fixed"), str(study / "moving")]
    arguments = ["register", *pair, "-o", str(tmp_path / "out"), "--config", str(tmp_path / "c.yaml")]
    assert cli.main(arguments) == 2
    assert "max_pears" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "line"), [("seed: 1\nmatching: {a: [\n", 3), ("seed: 1\n  transform: rigid\n", 2)])
def test_a_configuration_that_is_no_yaml_is_one_sentence(tmp_path: Path, text: str, line: int, capsys):
    (tmp_path / "c.yaml").write_text(text)
    arguments = ["register", str(tmp_path), str(tmp_path), "-o", str(tmp_path / "out")]
    assert cli.main([*arguments, "--config", str(tmp_path / "c.yaml")]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert f"line {line}, column" in sentence


def test_options_win_over_the_file_and_the_file_over_the_preset(tmp_path: Path):
    (tmp_path / "c.yaml").write_text("seed: 7\ntransform: affine\nestimation: {weight_by_confidence: true}\n")
    config = configured(method="samreg", file=tmp_path / "c.yaml", transform="rigid", seed=None)
    assert (config.method, config.seed, config.transform, config.estimation.weight_by_confidence) == (
        "samreg",
        7,
        "rigid",
        True,
    )


def test_methods_and_presets_are_the_same_thing():
    assert set(registry.METHODS) == set(presets())
    for name in registry.METHODS:
        assert configured(method=name) == configured(preset=name)
        assert configured(preset=name).method == name
    assert configured(method="hybrid") == Config()


def test_info_says_what_can_be_chosen(capsys):
    assert cli.main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [e["name"] for e in facts["encoders"]] == list(registry.ENCODERS)
    assert [e["name"] for e in facts["methods"]] == list(registry.METHODS)
    assert facts["presets"] == list(presets())
    assert cli.main(["info"]) == 0
    assert "sam" in capsys.readouterr().out


def test_a_terminal_gets_a_live_line():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    line = ProgressLine(stream)
    for fraction in (0.0, 0.5, 0.5):
        line("match", fraction)
    line.close()
    assert "\n" not in stream.getvalue()
    shown = [text.removesuffix("\x1b[K") for text in stream.getvalue().split("\r")]
    assert shown == ["", "match 0 %", "match 50 %", ""]
