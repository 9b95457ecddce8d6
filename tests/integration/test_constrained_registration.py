"""What a caller demands of a transform, from the command to the report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from samreg import Config, ConstraintInputs, Session, phantoms, run
from samreg.cli import main
from samreg.constraints.measuring import measured
from samreg.errors import UsageError
from samreg.io.writing import write_image
from samreg.sources import Sources
from samreg.transforms import Affine
from samreg.transforms.files import read_transform

MASKS = ("--fixed-mask", "--moving-mask", "--keep-volume", "--keep-rigid")


@pytest.fixture(scope="module")
def phantom() -> phantoms.Phantom:
    return phantoms.pair(
        "deformable", fixed_grid=phantoms.grid("axial", 48), rotation_deg=1, translation_mm=2.0, peak_mm=10
    )


@pytest.fixture(scope="module")
def files(phantom, tmp_path_factory) -> Path:
    """Both images, masks of what counts (with a rim), of a lesion and of an implant, and three landmarks."""
    folder = tmp_path_factory.mktemp("constrained")

    def write(name: str, voxels: np.ndarray, grid) -> None:
        write_image(voxels.astype(np.float32), grid, folder / f"{name}.nii.gz")

    fixed, moving = phantom.fixed, phantom.moving
    write("fixed", fixed.voxels, fixed.grid)
    write("moving", moving.voxels, moving.grid)
    inner = np.zeros(fixed.grid.shape)
    inner[1:-1, 1:-1] = 1
    write("counts", inner, fixed.grid)
    for name in ("liver", "spine"):
        write(name, phantom.moving_labels == phantom.names.index(name) + 1, moving.grid)
    write("empty", np.zeros(fixed.grid.shape), fixed.grid)
    rows = ["name,fixed_x,fixed_y,fixed_z,moving_x,moving_y,moving_z,accuracy_mm"]
    for name in ("stomach", "bladder", "spleen"):
        here = phantom.fixed.grid.lps(np.argwhere(phantom.fixed_labels == phantom.names.index(name) + 1).mean(0)[None])
        there = phantom.truth.map_points(here)
        rows.append(",".join([name, *(f"{v:.3f}" for v in (*here[0], *there[0])), "1.5" if name == "spleen" else ""]))
    (folder / "pairs.csv").write_text("\n".join(rows) + "\n")
    return folder


def command(files: Path, out: Path, *options: str) -> int:
    paths = [str(files / "fixed.nii.gz"), str(files / "moving.nii.gz"), "-o", str(out)]
    settings = ["--encoder", "handcrafted", "--device", "cpu", "--quiet", "--estimators", "rigid,symmetric"]
    return main(["register", *paths, *settings, *options])


@pytest.fixture(scope="module")
def constrained(files, tmp_path_factory) -> Path:
    """The folder of a registration with every constraint."""
    out = tmp_path_factory.mktemp("out") / "out"
    counts, liver, spine = (str(files / f"{name}.nii.gz") for name in ("counts", "liver", "spine"))
    code = command(
        files, out, "--fixed-mask", counts, "--moving-mask", counts, "--keep-volume", liver, "--keep-rigid", spine,
        "--landmarks", str(files / "pairs.csv"), "--landmarks-accuracy", "0.8",
    )  # fmt: skip
    assert code == 0
    return out


@pytest.fixture(scope="module")
def report(constrained) -> dict:
    return json.loads((constrained / "report.json").read_text(encoding="utf-8"))


class TestEverything:
    def test_a_deformable_transform_is_found_that_respects_all(self, report):
        assert report["kind"] == "deformable"
        stated = report["constraints"]
        assert stated["masks"] == ["fixed", "moving"]
        assert all(entry["met"] for entry in stated["landmarks"] + stated["regions"])
        assert [mark["accuracy_mm"] for mark in stated["landmarks"]] == [0.8, 0.8, 1.5]
        verdicts = {line["name"]: line["verdict"] for line in report["criteria"]}
        assert {verdicts[name] for name in ("landmarks", "keep-volume", "keep-rigid")} == {"met"}

    def test_what_was_written_respects_it_too(self, constrained, files, phantom):
        transform, inverse = (read_transform(constrained / f"{name}.h5") for name in ("transform", "inverse"))
        asked = ConstraintInputs(
            landmarks=files / "pairs.csv", keep_volume=files / "liver.nii.gz", keep_rigid=files / "spine.nii.gz"
        )
        found = measured(transform, inverse, asked.read(phantom.fixed, phantom.moving))
        assert all(mark.residual_mm < mark.accuracy_mm + 0.05 for mark in found.landmarks)
        lesion, implant = found.regions
        assert lesion.volume_ratio == pytest.approx(1, abs=0.02)
        assert implant.most_mm < 0.2

    def test_it_is_a_registration_still(self, constrained, phantom):
        found = read_transform(constrained / "transform.h5")
        before, after = (phantom.errors_mm(transform).mean() for transform in (Affine.identity(), found))
        assert after < 0.6 * before

    def test_the_page_states_it(self, constrained):
        page = (constrained / "report.html").read_text(encoding="utf-8")
        for words in ("What was asked of the transform", "stays rigid", "keeps its volume", "bladder"):
            assert words in page


def test_what_a_rigid_transform_misses_asks_for_review(files, phantom):
    """A rigid request meets no landmarks by bending: it states them."""
    session = Session(Config(encoder="handcrafted", transform="rigid", device="cpu"))
    asked = ConstraintInputs(
        landmarks=files / "pairs.csv", landmarks_accuracy_mm=0.01, keep_rigid=files / "spine.nii.gz"
    )
    result = session.register(phantom.fixed, phantom.moving, constraints=asked)
    assert result.kind == "rigid"
    assert all(region.met for region in result.constraints.regions)
    assert not all(mark.met for mark in result.constraints.landmarks)
    assert result.quality.status == "REVIEW"
    assert any("Landmarks" in reason for reason in result.quality.reasons)


def test_a_dry_run_lists_what_is_asked(files, tmp_path, capsys):
    marks, liver, counts = (str(files / name) for name in ("pairs.csv", "liver.nii.gz", "counts.nii.gz"))
    asked = "--landmarks", marks, "--keep-volume", liver, "--fixed-mask", counts
    assert command(files, tmp_path / "out", *asked, "--dry-run") == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["refused"] is None
    assert plan["constraints"]["masks"] == ["fixed"]
    assert plan["constraints"]["landmarks"][2] == {"name": "spleen", "accuracy_mm": 1.5}
    assert {region["mask"] for region in plan["constraints"]["keep_volume"]} == {"liver.nii.gz"}
    assert plan["constraints"]["keep_rigid"] == []
    assert command(files, tmp_path / "out", "--dry-run") == 0
    assert json.loads(capsys.readouterr().out)["constraints"] is None


class TestRefusals:
    @pytest.mark.parametrize("option", MASKS)
    def test_an_empty_mask(self, files, tmp_path, capsys, option):
        assert command(files, tmp_path / "out", option, str(files / "empty.nii.gz")) == 3
        assert "cannot be used: the label map is empty" in capsys.readouterr().err
        refused = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
        assert refused["error"]["reason"] == "no-labels"
        assert refused["constraints"] is None

    @pytest.mark.parametrize("option", [*MASKS, "--landmarks"])
    def test_a_file_that_is_not_there(self, files, tmp_path, capsys, option):
        assert command(files, tmp_path / "out", option, str(tmp_path / "nowhere.nii.gz")) == 2
        assert "does not exist" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("option", MASKS)
    def test_a_file_that_is_no_label_map(self, files, tmp_path, option):
        assert command(files, tmp_path / "out", option, str(files / "fixed.nii.gz")) == 3

    @pytest.mark.parametrize("option", MASKS)
    def test_a_dry_run_refuses_as_the_run_does(self, files, tmp_path, capsys, option):
        assert command(files, tmp_path / "out", option, str(files / "empty.nii.gz"), "--dry-run") == 3
        assert json.loads(capsys.readouterr().out)["refused"]["reason"] == "no-labels"
        broken = tmp_path / "pairs.csv"
        broken.write_text((files / "pairs.csv").read_text() + "broken,1,2\n")
        assert command(files, tmp_path / "out", "--landmarks", str(broken), "--dry-run") == 2
        assert "row 5" in capsys.readouterr().err.lower()
        assert not (tmp_path / "out").exists()

    def test_a_malformed_row(self, files, tmp_path, capsys):
        broken = tmp_path / "pairs.csv"
        broken.write_text((files / "pairs.csv").read_text() + "broken,1,2\n")
        assert command(files, tmp_path / "out", "--landmarks", str(broken)) == 2
        assert "row 5" in capsys.readouterr().err.lower()

    def test_an_accuracy_that_is_none(self, files, tmp_path, capsys):
        with pytest.raises(SystemExit) as ended:
            command(files, tmp_path / "out", "--landmarks", str(files / "pairs.csv"), "--landmarks-accuracy", "-1")
        assert ended.value.code == 2
        assert "is not a length in mm" in capsys.readouterr().err
        assert command(files, tmp_path / "out", "--landmarks-accuracy", "1") == 2
        assert "without landmarks" in capsys.readouterr().err

    def test_constraints_of_one_of_several_moving_series(self, study, files, tmp_path):
        config = Config(series={"several_moving": True})
        asked = ConstraintInputs(keep_rigid=files / "spine.nii.gz")
        with pytest.raises(UsageError, match="mask of one moving image"):
            run.run(Sources(study, constraints=asked), tmp_path / "out", config)
        with pytest.raises(UsageError, match="mask of one moving image"):
            run.plan(Sources(study, constraints=asked), tmp_path / "out", config)
