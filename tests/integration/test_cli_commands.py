"""The other sub-commands, and the arguments that all share."""

import io
import json
from pathlib import Path

import numpy as np
import pytest

from samreg import cli, registry, workflow
from samreg.cli_progress import ProgressLine
from samreg.config import Config
from samreg.errors import UsageError
from samreg.geometry import Grid, Volume
from samreg.io import read_image
from samreg.io.writing import write_image
from samreg.tables import PointTable
from samreg.transforms import Affine
from samreg.transforms.files import write_transform

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


def test_apply_refuses_a_format_it_cannot_write(tmp_path: Path, shift: Path, image: Path, capsys):
    assert cli.main(["apply", str(shift), str(image), "--reference", str(image), "-o", str(tmp_path / "out.png")]) == 2
    assert ".nrrd" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("1,2,3\n4,5,6\n", "6.000000,-1.000000,5.000000\n9.000000,2.000000,8.000000\n"),
        ("name,Z,X,Y\ntip,3,1,2\n", "name,Z,X,Y\ntip,5.000000,6.000000,-1.000000\n"),
        ("\ufeffx,y,z\n", "x,y,z\n"),
    ],
    ids=["bare", "named", "empty"],
)
def test_apply_points_keeps_the_layout(tmp_path: Path, shift: Path, given: str, expected: str):
    (tmp_path / "points.csv").write_text(given, encoding="utf-8")
    assert cli.main(["apply-points", str(shift), str(tmp_path / "points.csv"), "-o", str(tmp_path / "out.csv")]) == 0
    assert (tmp_path / "out.csv").read_text(encoding="utf-8") == expected


@pytest.mark.parametrize("text", ["x,y\n1,2\n", "1,2,3\n4,five,6\n", "1,2,3\n4,5\n", "1,2,nan\n"])
def test_damaged_points_are_refused(tmp_path: Path, text: str):
    (tmp_path / "points.csv").write_text(text)
    with pytest.raises(UsageError):
        PointTable.read(tmp_path / "points.csv")


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


@pytest.mark.parametrize("options", [[], ["--fixed-labels", "a.nii.gz"], ["--moving-landmarks", "a.csv"]])
def test_evaluate_asks_for_both_sides(tmp_path: Path, shift: Path, options: list[str]):
    assert cli.main(["evaluate", str(shift), *options, "-o", str(tmp_path / "metrics.json")]) == 2
    assert not (tmp_path / "metrics.json").exists()


def test_a_missing_transform_is_one_sentence(tmp_path: Path, capsys):
    (tmp_path / "points.csv").write_text("1,2,3\n")
    code = cli.main(
        ["apply-points", str(tmp_path / "no.h5"), str(tmp_path / "points.csv"), "-o", str(tmp_path / "out.csv")]
    )
    assert code in (2, 3)
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "out.csv").exists()


def test_locate_prints_the_counterpart_of_a_point(study: Path, instant, capsys):
    fixed = read_image(study / "fixed")
    point = [str(c) for c in fixed.grid.lps(np.array([[14.0, 14.0, 8.0]]))[0]]
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


def test_options_win_over_the_file_and_the_file_over_the_preset(tmp_path: Path):
    (tmp_path / "c.yaml").write_text("seed: 7\ntransform: affine\nestimation: {dense: true}\n")
    config = workflow.configured(method="samreg", file=tmp_path / "c.yaml", transform="rigid", seed=None)
    assert (config.method, config.seed, config.transform, config.estimation.dense) == ("samreg", 7, "rigid", True)


def test_methods_and_presets_are_the_same_thing():
    assert set(registry.METHODS) <= set(workflow.presets())
    for name in registry.METHODS:
        assert workflow.configured(method=name) == workflow.configured(preset=name)
        assert workflow.configured(preset=name).method == name
    assert workflow.configured(method="hybrid") == Config()


def test_info_says_what_can_be_chosen(capsys):
    assert cli.main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [e["name"] for e in facts["encoders"]] == list(registry.ENCODERS)
    assert [e["name"] for e in facts["methods"]] == list(registry.METHODS)
    assert facts["presets"] == list(workflow.presets())
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
    assert stream.getvalue() == "\rmatch 0 %\x1b[K\rmatch 50 %\x1b[K\r\x1b[K"
