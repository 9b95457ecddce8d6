"""What each platform lays out and sets is understood: folders, settings, archives."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from app import __main__, service
from app.orchestrators import Call, called
from samreg import __version__
from samreg.errors import InputRefused, UsageError
from tests.dicom_series import write_small


def calls(environ: dict[str, object], root: Path = Path("/nowhere")) -> tuple[Call, ...]:
    with called({key: str(value) for key, value in environ.items()}, root) as found:
        return found


def test_nothing_says_who_calls():
    assert calls({"PATH": "/usr/bin"}) == ()


@pytest.mark.parametrize(
    ("platform", "source", "target"),
    [
        ("holoscan", "HOLOSCAN_INPUT_PATH", "HOLOSCAN_OUTPUT_PATH"),
        ("monai", "MONAI_INPUTPATH", "MONAI_OUTPUTPATH"),
        ("mercure", "MERCURE_IN_DIR", "MERCURE_OUT_DIR"),
    ],
)
def test_variables_name_the_folders(tmp_path, platform, source, target):
    given = {source: tmp_path, target: tmp_path / "out", "SAMREG_SETTINGS": '{"matching.max_pairs": 5}'}
    assert calls(given) == (Call(platform, tmp_path, tmp_path / "out", {"matching.max_pairs": 5}),)


def test_mercure_sets_all_variables_and_hands_settings_in_its_task(tmp_path):
    everything = dict.fromkeys(("HOLOSCAN_INPUT_PATH", "MONAI_INPUTPATH", "MERCURE_IN_DIR"), tmp_path)
    everything |= dict.fromkeys(("HOLOSCAN_OUTPUT_PATH", "MONAI_OUTPUTPATH", "MERCURE_OUT_DIR"), tmp_path / "out")
    settings = {"transform": "rigid", "series": {"fixed": {"modality": "CT"}}}
    (tmp_path / "task.json").write_text(json.dumps({"process": {"module_name": "samreg", "settings": settings}}))
    (call,) = calls(everything)
    assert (call.platform, call.settings) == ("mercure", settings)
    (tmp_path / "task.json").write_text(json.dumps({"process": [{"settings": {"seed": 1}}, {"settings": None}]}))
    assert calls(everything)[0].settings == {"seed": 1}
    (tmp_path / "task.json").write_text("{")
    with pytest.raises(UsageError, match=r"task\.json cannot be read"):
        calls(everything)


def kaapana() -> dict[str, object]:
    return {"WORKFLOW_DIR": "data", "BATCH_NAME": "batch", "OPERATOR_IN_DIR": "get-input", "OPERATOR_OUT_DIR": "samreg"}


def test_kaapana_items_with_a_study_each_are_registered_one_by_one(tmp_path):
    for item in ("a", "b"):
        for name in ("1", "2"):
            write_small(tmp_path / "data" / "batch" / item / "get-input" / name, series_uid=f"1.{name}")
    batch = tmp_path / "data" / "batch"
    assert calls(kaapana(), tmp_path) == tuple(
        Call("kaapana", batch / item / "get-input", batch / item / "samreg") for item in ("a", "b")
    )


def test_kaapana_items_of_one_series_each_are_one_study(tmp_path):
    for item in ("a", "b"):
        write_small(tmp_path / "data" / "batch" / item / "get-input")
    (call,) = calls(kaapana(), tmp_path)
    assert (call.fixed, call.out) == (tmp_path / "data" / "batch", tmp_path / "data" / "samreg")


def gear(root: Path, config: dict[str, object], **inputs: Path) -> Path:
    folder = root / "flywheel" / "v0"
    folder.mkdir(parents=True, exist_ok=True)
    stated = {name: {"base": "file", "location": {"path": str(path)}} for name, path in inputs.items()}
    (folder / "config.json").write_text(json.dumps({"config": config, "inputs": stated}))
    return folder


def archive(path: Path, *names: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, "dicom")
    return path


def test_flywheel_inputs_are_unpacked_for_the_time_of_the_call(tmp_path):
    inputs = tmp_path / "flywheel" / "v0" / "input"
    fixed = archive(inputs / "fixed" / "ct.dicom.zip", "ct/1.dcm", "../outside.dcm")
    moving = inputs / "moving" / "mr.dcm"
    moving.parent.mkdir()
    moving.write_text("dicom")
    folder = gear(tmp_path, {"transform": "rigid", "preset": "", "settings": '{"seed": 3}'}, fixed=fixed, moving=moving)
    with called({"PATH": "/usr/bin"}, tmp_path) as (call,):
        assert (call.platform, call.moving, call.out) == ("flywheel", moving, folder / "output")
        assert call.settings == {"transform": "rigid", "seed": 3}
        files = {path.relative_to(call.fixed).as_posix() for path in call.fixed.rglob("*") if path.is_file()}
        assert files == {"ct/1.dcm", "outside.dcm"}
    assert not call.fixed.exists()
    assert not list(tmp_path.rglob("outside.dcm"))


def test_flywheel_hands_a_study_over_as_one_archive(tmp_path):
    study = archive(tmp_path / "study.zip", "a/1.dcm", "b/1.dcm")
    gear(tmp_path, {}, study=study)
    with called({}, tmp_path) as (call,):
        assert call.moving is None
        assert {path.name for path in call.fixed.iterdir()} == {"a", "b"}


def test_an_archive_that_would_fill_the_disk_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("app.orchestrators.MAX_UNPACKED_BYTES", 4)
    gear(tmp_path, {}, study=archive(tmp_path / "study.zip", "1.dcm"))
    with pytest.raises(InputRefused) as caught:
        calls({}, tmp_path)
    assert caught.value.reason == "size-limit"


@pytest.mark.parametrize("text", ["{", "[1]", '"rigid"'])
def test_settings_that_are_no_object_are_refused(tmp_path, text):
    with pytest.raises(UsageError, match="SAMREG_SETTINGS"):
        calls({"HOLOSCAN_INPUT_PATH": tmp_path, "HOLOSCAN_OUTPUT_PATH": tmp_path, "SAMREG_SETTINGS": text})


@pytest.fixture
def registered(monkeypatch, tmp_path):
    """The jobs that would be registered; the operators answer at once."""
    jobs = []

    def answer(job, folder):
        jobs.append(job)
        return {"status": "PASS", "reasons": [], "kind": "rigid", "roles": "as given", "objects": {}}

    monkeypatch.setattr(service, "_run_operators", answer)
    monkeypatch.setattr(__main__, "map_extra_missing", lambda: "")
    return jobs


def test_options_come_before_settings(tmp_path, registered):
    (tmp_path / "in").mkdir()
    environ = {
        "HOLOSCAN_INPUT_PATH": str(tmp_path / "in"),
        "HOLOSCAN_OUTPUT_PATH": str(tmp_path / "out"),
        "SAMREG_SETTINGS": json.dumps(
            {"method": "samreg", "transform": "rigid", "matching.max_pairs": 7, "fixed_series": "1.2"}
        ),
    }
    assert __main__.main(["--transform", "affine", "--moving-series", "1.3"], environ, tmp_path) == 0
    (job,) = registered
    assert (job.config.transform, job.config.method, job.config.matching.max_pairs) == ("affine", "samreg", 7)
    assert (job.fixed_series, job.moving_series, job.allow_different_patients) == ("1.2", "1.3", False)
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (result["status"], result["exit_code"]) == ("PASS", 0)


def test_settings_that_cannot_be_followed_leave_the_reason(tmp_path, registered, capsys):
    (tmp_path / "in").mkdir()
    environ = {
        "MONAI_INPUTPATH": str(tmp_path / "in"),
        "MONAI_OUTPUTPATH": str(tmp_path / "out"),
        "SAMREG_SETTINGS": '{"transfrom": "rigid"}',
    }
    assert __main__.main([], environ, tmp_path) == 2
    assert not registered
    reason = json.loads((tmp_path / "out" / "metadata.json").read_text())
    assert reason["exception"] == "UsageError"
    assert "transfrom" in reason["exception_message"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"report.json", "result.json", "metadata.json"}


def test_wrong_options_leave_the_reason_too(tmp_path, registered, capsys):
    (tmp_path / "in").mkdir()
    environ = {"HOLOSCAN_INPUT_PATH": str(tmp_path / "in"), "HOLOSCAN_OUTPUT_PATH": str(tmp_path / "elsewhere")}
    out = tmp_path / "out"
    assert __main__.main(["--output", str(out), "--transform", "nonsense"], environ, tmp_path) == 2
    assert not registered
    assert "nonsense" in json.loads((out / "metadata.json").read_text())["exception_message"]
    assert "nonsense" in capsys.readouterr().err
    assert __main__.main(["--transform", "nonsense"], {}, tmp_path) == 2
    assert "nonsense" in capsys.readouterr().err


def test_of_several_studies_the_gravest_exit_code_counts(tmp_path, registered, monkeypatch):
    for item in ("a", "b"):
        for name in ("1", "2"):
            write_small(tmp_path / "data" / "batch" / item / "get-input" / name, series_uid=f"1.{name}")
    statuses = iter(["FAIL", "PASS"])

    def answer(job, folder):
        return {"status": next(statuses), "reasons": [], "kind": "rigid", "roles": "as given", "objects": {}}

    monkeypatch.setattr(service, "_run_operators", answer)
    assert __main__.main([], {key: str(value) for key, value in kaapana().items()}, tmp_path) == 4
    for item in ("a", "b"):
        assert (tmp_path / "data" / "batch" / item / "samreg" / "result.json").is_file()


def test_several_moving_series_have_folders_of_their_own(tmp_path, registered):
    for number in range(3):
        write_small(
            tmp_path / "in" / str(number), series_uid=f"1.{number}", overrides={"AcquisitionTime": f"1{number}0000"}
        )
    settings = {"series": {"fixed": {"acquired": "earliest"}, "several_moving": True}}
    environ = {
        "HOLOSCAN_INPUT_PATH": str(tmp_path / "in"),
        "HOLOSCAN_OUTPUT_PATH": str(tmp_path / "out"),
        "SAMREG_SETTINGS": json.dumps(settings),
    }
    for _ in range(2):  # earlier results are replaced
        assert __main__.main([], environ, tmp_path) == 0
    assert [(job.fixed_series, job.moving_series) for job in registered[:2]] == [("1.0", "1.1"), ("1.0", "1.2")]
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert [entry["folder"] for entry in result["registrations"]] == ["moving-1", "moving-2"]


def test_the_log_is_one_json_object_a_line_on_request(tmp_path, registered, capsys):
    (tmp_path / "in").mkdir()
    folders = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert __main__.main(folders, {"SAMREG_LOG_FORMAT": "json"}, tmp_path) == 0
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["message"] for line in lines[:2]] == [f"samreg {__version__} starts", "called by options"]
    assert set(lines[0]) == {"time", "level", "logger", "message"}
