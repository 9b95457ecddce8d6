"""`samreg register`: what it writes, what it says, and how it ends."""

import json
import logging
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from samreg import cli, outputs, report
from samreg.config import Config, QualityConfig
from samreg.io import read_image
from samreg.transforms.files import read_transform
from tests.dicom_series import edit
from tests.faults import mount_point
from tests.instant import rotation

pytestmark = pytest.mark.usefixtures("no_pictures")

FILES = {
    "transform.h5",
    "inverse.h5",
    "warped.nii.gz",
    "pairs.json",
    "rois_fixed.nii.gz",
    "rois_moving.nii.gz",
    "report.json",
    "report.html",
}
SEGMENTATIONS = {"dicom/seg_fixed.dcm", "dicom/seg_moving.dcm"}


def register(study: Path, out: Path, *options: str) -> int:
    return cli.main(["register", str(study / "fixed"), str(study / "moving"), "-o", str(out), *options])


def written(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def report_in(out: Path) -> dict:
    return json.loads((out / "report.json").read_text(encoding="utf-8"))


def test_a_dicom_pair_gives_every_file_of_the_contract(study: Path, tmp_path: Path, instant, capsys):
    out = tmp_path / "out"
    assert register(study, out) == 0
    assert written(out) == FILES | SEGMENTATIONS | {"dicom/reg.dcm"}
    assert [p.name for p in tmp_path.iterdir()] == ["out"], "a temporary folder was left behind"
    assert capsys.readouterr().out.startswith("PASS\n")
    document = report_in(out)
    assert set(document["objects"].values()) == written(out) - {"report.json"}
    assert {"read", "match", "write"} <= set(document["timings_s"])


def test_the_written_transforms_are_the_result(study: Path, tmp_path: Path, instant):
    from samreg.io import read_image

    assert register(study, tmp_path / "out", "--quiet") == 0
    fixed = read_image(study / "fixed")
    points = fixed.grid.lps(np.random.default_rng(0).uniform(0, 20, (50, 3)))
    mapped = rotation(fixed).map_points(points)
    np.testing.assert_allclose(read_transform(tmp_path / "out/transform.h5").map_points(points), mapped, atol=1e-6)
    np.testing.assert_allclose(read_transform(tmp_path / "out/inverse.h5").map_points(mapped), points, atol=1e-6)
    warped = read_image(tmp_path / "out/warped.nii.gz")
    assert warped.grid.same_as(fixed.grid)
    moving = read_image(study / "moving")
    np.testing.assert_allclose(warped.voxels, rotation(fixed).warp(moving, fixed.grid), atol=0.5)


@pytest.fixture
def nameless(study: Path, tmp_path: Path) -> Path:
    """The study after an anonymisation that put a word in the place of every frame of reference."""
    shutil.copytree(study, tmp_path / "nameless")
    edit(sorted((tmp_path / "nameless").rglob("*.dcm")), FrameOfReferenceUID="anonymized")
    return tmp_path / "nameless"


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_series_that_no_object_can_refer_to_are_registered_as_files(nameless: Path, tmp_path: Path, instant, capsys):
    out = tmp_path / "out"
    assert register(nameless, out) == 3
    assert written(out) == {"report.json"}
    assert report_in(out)["error"]["reason"] == "bad-uid"
    assert "--as-files" in capsys.readouterr().err
    assert register(nameless, out, "--dry-run") == 3
    assert register(nameless, out, "--dry-run", "--as-files") == 0
    capsys.readouterr()

    assert register(nameless, out, "--as-files") == 0
    assert written(out) == FILES
    said = " ".join(report_in(out)["warnings"])
    assert "because `as_files` is set" in said
    assert "the FrameOfReferenceUID of 10 of 10 images is no UID" in said
    assert "because `as_files` is set" in capsys.readouterr().err
    image, warped = str(nameless / "moving"), str(tmp_path / "warped.nii.gz")
    arguments = [str(out / "transform.h5"), image, "--reference", str(nameless / "fixed"), "-o", warped]
    assert cli.main(["apply", *arguments]) == 0, "the image of a transform is read as the registration read it"


def test_as_files_is_a_key_of_the_configuration(study: Path, tmp_path: Path, instant):
    (tmp_path / "files.yaml").write_text("as_files: true\n")
    assert register(study, tmp_path / "out", "--config", str(tmp_path / "files.yaml"), "--quiet") == 0
    assert written(tmp_path / "out") == FILES
    document = report_in(tmp_path / "out")
    assert document["fixed"]["series_uid"], "identifiers that are sound are reported"
    assert not any("dicom/" in path for path in document["objects"].values())


def test_files_that_are_not_dicom_give_no_dicom(study: Path, tmp_path: Path, instant):
    from samreg.io import read_image
    from samreg.io.writing import write_image

    names = {"fixed": tmp_path / "a.nii.gz", "moving": tmp_path / "b.nrrd"}
    for name, path in names.items():
        volume = read_image(study / name)
        write_image(volume.voxels, volume.grid, path)
        assert read_image(path).grid.same_as(volume.grid)
    assert cli.main(["register", *map(str, names.values()), "-o", str(tmp_path / "out"), "--quiet"]) == 0
    assert written(tmp_path / "out") == FILES


def test_quiet_says_nothing(study: Path, tmp_path: Path, instant, capsys):
    assert register(study, tmp_path / "out", "--quiet") == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("talk", ["--quiet", "--verbose"])
def test_a_caller_in_process_keeps_its_own_logging(study: Path, tmp_path: Path, instant, talk):
    logger = logging.getLogger("samreg")
    before = logger.handlers[:], logger.propagate, logger.level
    register(study, tmp_path / "out", talk)
    assert (logger.handlers, logger.propagate, logger.level) == before


def test_progress_is_one_line_for_each_stage_in_a_pipe(study: Path, tmp_path: Path, instant, capsys):
    register(study, tmp_path / "out")
    lines = capsys.readouterr().err.splitlines()
    assert all(line.endswith(" …") for line in lines)
    stages = [line.removesuffix(" …") for line in lines]
    assert len(set(stages)) == len(stages)
    assert [stage for stage in stages if stage in ("read", "match", "write")] == ["read", "match", "write"]


def test_a_failed_gate_keeps_the_outputs_without_a_dicom_registration(study: Path, tmp_path: Path, instant, capsys):
    instant.status = "FAIL"
    assert register(study, tmp_path / "out") == 4
    assert written(tmp_path / "out") == FILES | SEGMENTATIONS
    document = report_in(tmp_path / "out")
    assert document["status"] == "FAIL"
    assert any("No REG" in warning for warning in document["warnings"])
    assert "FAIL" in capsys.readouterr().out


def test_a_refusal_leaves_the_reason_alone(study: Path, tmp_path: Path, instant, capsys):
    out = tmp_path / "out"
    assert register(study, out, "--quiet") == 0
    code = cli.main(["register", str(study / "fixed"), str(study / "fixed"), "-o", str(out), "--quiet"])
    assert code == 3
    assert instant.calls == 1
    assert written(out) == {"report.json"}, "results of an earlier run stand beside a refusal"
    document = report_in(out)
    assert document["status"] == "REFUSED"
    assert document["error"]["reason"] == "same-series"
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"samreg: {document['reasons'][0]}"


@pytest.mark.parametrize("role", ["fixed", "moving"])
def test_a_refusal_says_which_of_the_two_images_it_is(study: Path, tmp_path: Path, role: str, instant, capsys):
    shutil.copytree(study, tmp_path / "study")
    files = sorted((tmp_path / "study" / role).rglob("*.dcm"))
    files[len(files) // 2].unlink()
    assert register(tmp_path / "study", tmp_path / "out", "--dry-run") == 3
    assert json.loads(capsys.readouterr().out)["refused"]["role"] == role
    assert register(tmp_path / "study", tmp_path / "out") == 3
    assert (
        f"samreg: {role.capitalize()} image: the stack with 9 mm between slices lacks 1 slice."
        in capsys.readouterr().err
    )
    error = report_in(tmp_path / "out")["error"]
    assert (error["role"], error["reason"]) == (role, "missing-slices")


def test_a_refusal_of_the_pair_names_neither(study: Path, tmp_path: Path, instant):
    cli.main(["register", str(study / "fixed"), str(study / "fixed"), "-o", str(tmp_path / "out"), "--quiet"])
    assert "role" not in report_in(tmp_path / "out")["error"]


def test_a_refusal_satisfies_the_schema_of_the_report(study: Path, tmp_path: Path):
    jsonschema = pytest.importorskip("jsonschema")
    cli.main(["register", str(study / "fixed"), str(study / "fixed"), "-o", str(tmp_path / "out")])
    jsonschema.validate(report_in(tmp_path / "out"), report.schema())


def test_earlier_results_are_replaced(study: Path, tmp_path: Path, instant):
    out = tmp_path / "out"
    register(study, out, "--quiet")
    (out / "dicom" / "dreg.dcm").write_bytes(b"of an earlier deformable run")
    register(study, out, "--quiet")
    assert written(out) == FILES | SEGMENTATIONS | {"dicom/reg.dcm"}


@pytest.mark.parametrize("foreign", ["notes.txt", "dicom/scan.dcm", "transform.h5"])
def test_a_folder_with_other_files_is_not_touched(study: Path, tmp_path: Path, instant, foreign: str, capsys):
    path = tmp_path / "out" / foreign
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    assert register(study, tmp_path / "out") == 2
    assert instant.calls == 0
    assert written(tmp_path) == {f"out/{foreign}"}
    assert path.name in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_known_before_the_work(study: Path, tmp_path: Path, instant, capsys):
    (tmp_path / "file").write_text("")
    assert register(study, tmp_path / "file") == 2
    assert register(study, tmp_path / "file" / "out") == 2
    assert instant.calls == 0
    assert "cannot be written" in capsys.readouterr().err


def test_an_output_among_the_inputs_is_refused(study: Path, instant):
    before = written(study)
    assert register(study, study / "fixed" / "out") == 2
    assert register(study, study) == 2
    assert written(study) == before


def test_a_failure_while_writing_leaves_the_earlier_results(study: Path, tmp_path: Path, instant, monkeypatch, capsys):
    out = tmp_path / "out"
    register(study, out, "--quiet")
    before = report_in(out)

    def full_disk(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report, "write_report", full_disk)
    assert register(study, out, "--quiet") == 1
    assert report_in(out) == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"samreg: '{out}' cannot be written because its disk is full (No space left on device).")
    assert "-o" in line


def test_a_terminated_process_leaves_nothing_but_a_sentence(study: Path, tmp_path: Path, instant, capsys):
    instant.during = lambda: signal.raise_signal(signal.SIGTERM)
    with pytest.raises(SystemExit) as end:
        register(study, tmp_path / "out", "--quiet")
    assert end.value.code == 143
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err == "samreg: The process was stopped from outside (SIGTERM). Start it again.\n"


def test_a_mount_point_is_filled_in_place(study: Path, tmp_path: Path, instant, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    inode = out.stat().st_ino
    mount_point(monkeypatch, out)
    for _ in range(2):
        assert register(study, out, "--quiet") == 0
        assert written(out) == FILES | SEGMENTATIONS | {"dicom/reg.dcm"}
        assert {p.name for p in out.iterdir() if p.is_dir()} == {"dicom"}
    assert out.stat().st_ino == inode


def test_an_empty_output_folder_keeps_its_permissions(study: Path, tmp_path: Path, instant):
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o2770)
    register(study, out, "--quiet")
    assert out.stat().st_mode & 0o7777 == 0o2770


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(study: Path, tmp_path: Path, instant, capsys):
    assert register(study, tmp_path / "out", "--dry-run", "--transform", "rigid") == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["fixed"]["size"] == list(read_image(study / "fixed").grid.shape)
    assert (plan["transform"], plan["method"], plan["refused"]) == ("rigid", Config().method, None)
    assert list(tmp_path.iterdir()) == []
    assert instant.calls == 0


def test_a_dry_run_says_that_a_pair_would_be_refused(study: Path, tmp_path: Path, capsys):
    path = str(study / "fixed")
    assert cli.main(["register", path, path, "-o", str(tmp_path / "out"), "--dry-run"]) == 3
    assert json.loads(capsys.readouterr().out)["refused"]["reason"] == "same-series"
    assert list(tmp_path.iterdir()) == []


REFUSED_ARGUMENTS = [
    (["--encoder", "sam"], "without weights"),
    (["--encoder", "sam", "--weights", "no-such.pth"], "'no-such.pth' do not exist"),
    (["--encoder", "sam", "--weights", ""], "do not exist"),
    (["--encoder", "handcrafted", "--weights", "."], "Weights are given for the encoder 'handcrafted'"),
    (["--device", "cuda:99"], "device 'cuda:99' is not there"),
    (["--pixel-spacing", "1", "1"], "no image is a picture"),
    (
        ["--encoder", "handcrafted", "--config", "proposer.yaml"],
        "proposer 'everything' does not work with the encoder 'handcrafted'",
    ),
    (["--config", "encoder.yaml"], "The encoder 'no-such' is unknown"),
]


@pytest.fixture(scope="module")
def blind_study(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study without the pixels, which a registration refuses when it reads them."""
    folder = tmp_path_factory.mktemp("blind") / "study"
    shutil.copytree(study, folder)
    for file in folder.glob("*/*"):
        file.write_bytes(file.read_bytes()[:-100])
    assert register(folder, folder.parent / "out", "--quiet") == 3
    return folder


@pytest.mark.parametrize("dry", [["--dry-run"], []], ids=["dry", "wet"])
@pytest.mark.parametrize(("options", "said"), REFUSED_ARGUMENTS, ids=lambda v: v if isinstance(v, str) else " ".join(v))
def test_a_dry_run_refuses_the_arguments_that_the_run_refuses(
    blind_study: Path, tmp_path: Path, instant, options: list[str], said: str, dry: list[str], monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "proposer.yaml").write_text("proposals: {proposer: everything}\n")
    (tmp_path / "encoder.yaml").write_text("encoder: no-such\n")
    assert register(blind_study, tmp_path / "out", "--quiet", *options, *dry) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert instant.calls == 0
    assert not (tmp_path / "out").exists()


def test_loosened_quality_limits_are_named_in_the_report(study: Path, tmp_path: Path, instant):
    (tmp_path / "lax.yaml").write_text("quality: {min_pairs: 0, max_error_mm: 50, min_dice: 0.9}\n")
    assert register(study, tmp_path / "out", "--quiet", "--config", str(tmp_path / "lax.yaml")) == 0
    (warning,) = (text for text in report_in(tmp_path / "out")["warnings"] if "quality limits" in text)
    usual = QualityConfig()
    for loosened in (f"min_pairs 0 instead of {usual.min_pairs}", f"max_error_mm 50 instead of {usual.max_error_mm:g}"):
        assert loosened in warning
    assert "min_dice" not in warning
    (tmp_path / "strict.yaml").write_text("quality: {min_pairs: 9, mean_error_mm: 1}\n")
    assert register(study, tmp_path / "out", "--quiet", "--config", str(tmp_path / "strict.yaml")) == 0
    assert not any("quality limits" in warning for warning in report_in(tmp_path / "out")["warnings"])


@pytest.mark.parametrize("number", [1, 2**24 + 1, 3_000_000_000, 2**63 + 1])
def test_label_maps_reach_the_registration(study: Path, tmp_path: Path, instant, number: int):
    from samreg.io import read_image
    from samreg.io.writing import write_image

    options = []
    for name in ("fixed", "moving"):
        volume = read_image(study / name)
        labels = (volume.voxels > volume.voxels.mean()) * np.array(number, np.min_scalar_type(number))
        write_image(labels, volume.grid, tmp_path / f"{name}.nii.gz")
        options += [f"--{name}-rois", str(tmp_path / f"{name}.nii.gz")]
    assert register(study, tmp_path / "out", "--quiet", *options) == 0
    assert [np.unique(labels).tolist() for labels in instant.labels] == [[0, number], [0, number]]
    assert register(study, tmp_path / "out2", "--quiet", *options[:2]) == 2


def test_python_writes_the_same_folder(study: Path, tmp_path: Path, instant):
    from samreg.io import read_pair

    result = instant(*read_pair(study / "fixed", study / "moving"))
    document = outputs.write_outputs(result, tmp_path / "out")
    assert document == report_in(tmp_path / "out")
    assert written(tmp_path / "out") == FILES | SEGMENTATIONS | {"dicom/reg.dcm"}
