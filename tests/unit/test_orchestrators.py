"""What each platform lays out and sets is understood: folders, settings, archives."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from app import __main__, service
from app.orchestrators import Call, called
from samreg import __version__
from samreg.config import Config
from samreg.errors import InputRefused, UsageError
from samreg.io import find_roles
from samreg.run import plan
from samreg.sources import Sources
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
    assert calls(given) == (Call(platform, tmp_path, tmp_path / "out", {"matching": {"max_pairs": 5}}),)
    with pytest.raises(UsageError, match=f"Only {source} is set"):
        calls({source: tmp_path})


def test_settings_hold_where_options_name_the_folders(tmp_path):
    with called({"SAMREG_SETTINGS": '{"seed": 3}'}, source=tmp_path, target=tmp_path / "out") as (call,):
        assert call == Call("options", tmp_path, tmp_path / "out", {"seed": 3})


def test_mercure_sets_all_variables_and_hands_settings_in_its_task(tmp_path):
    everything = dict.fromkeys(("HOLOSCAN_INPUT_PATH", "MONAI_INPUTPATH", "MERCURE_IN_DIR"), tmp_path)
    everything |= dict.fromkeys(("HOLOSCAN_OUTPUT_PATH", "MONAI_OUTPUTPATH", "MERCURE_OUT_DIR"), tmp_path / "out")
    settings = {"transform": "rigid", "series": {"fixed": {"modality": "CT"}}}
    (tmp_path / "task.json").write_text(json.dumps({"process": {"module_name": "samreg", "settings": settings}}))
    (call,) = calls(everything)
    assert (call.platform, call.settings) == ("mercure", settings)
    several = [{"module_name": "other", "settings": {"seed": 1}}, {"module_name": "samreg 1", "settings": None}]
    (tmp_path / "task.json").write_text(json.dumps({"process": several}))
    assert calls(everything)[0].settings == {}


def test_mercure_rules_of_both_kinds_hold(tmp_path):
    settings = {"series": {"moving": {"description": "T1"}}}
    (tmp_path / "task.json").write_text(json.dumps({"process": {"settings": settings}}))
    environ = {"MERCURE_IN_DIR": tmp_path, "MERCURE_OUT_DIR": tmp_path / "out"}
    (call,) = calls({**environ, "SAMREG_SETTINGS": '{"series.fixed.modality": "CT"}'})
    assert call.settings == {"series": {"fixed": {"modality": "CT"}, "moving": {"description": "T1"}}}


@pytest.mark.parametrize(
    "task",
    [
        "{", "[]", '{"process": "x"}', '{"process": 5}', '{"process": [null]}', '{"process": {"settings": "x"}}',
        '{"process": {"settings": ["ab"]}}', '{"process": [{"settings": {}}, {"settings": {}}]}', "9" * 5000,
    ],
)  # fmt: skip
def test_a_task_that_cannot_be_read_is_told_with_the_call(tmp_path, task):
    (tmp_path / "task.json").write_text(task)
    (call,) = calls({"MERCURE_IN_DIR": tmp_path, "MERCURE_OUT_DIR": tmp_path / "out"})
    assert isinstance(call.wrong, UsageError)
    assert "task.json" in call.wrong.sentence


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


def test_a_kaapana_item_without_a_study_is_not_passed_over(tmp_path):
    batch = tmp_path / "data" / "batch"
    for name in ("a/get-input/1", "a/get-input/2", "b/get-input/1"):
        write_small(batch / name, series_uid=f"1.{name[-1]}")
    damaged = batch / "c" / "get-input" / "x.dcm"
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"")
    assert [call.fixed for call in calls(kaapana(), tmp_path)] == [batch / item / "get-input" for item in "abc"]


def test_kaapana_items_of_one_series_each_are_one_study(tmp_path):
    batch = tmp_path / "data" / "batch"
    for number, item in enumerate(("a", "b")):
        write_small(
            batch / item / "get-input", series_uid=f"1.{number}", overrides={"AcquisitionTime": f"1{number}0000"}
        )
        write_small(batch / item / "other-operator", series_uid=f"1.{number}")
    (call,) = calls(kaapana(), tmp_path)
    assert (call.fixed, call.out) == (batch, tmp_path / "data" / "samreg")
    roles = find_roles(call.fixed, Config().with_values(call.settings).series)
    assert roles.fixed.series_uid == "1.1"


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
        assert files == {"0/ct/1.dcm", "0/outside.dcm"}
    assert not call.fixed.exists()
    assert not list(tmp_path.rglob("outside.dcm"))


def test_flywheel_hands_a_study_over_as_one_archive(tmp_path):
    study = archive(tmp_path / "study.zip", "a/1.dcm", "b/1.dcm")
    gear(tmp_path, {}, study=study)
    with called({}, tmp_path) as (call,):
        assert call.moving is None
        assert {path.relative_to(call.fixed).as_posix() for path in call.fixed.glob("*/*")} == {"0/a", "0/b"}


def test_an_archive_that_would_fill_the_disk_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("app.orchestrators.shutil.disk_usage", lambda path: SimpleNamespace(free=4))
    gear(tmp_path, {}, study=archive(tmp_path / "study.zip", "1.dcm"))
    (call,) = calls({}, tmp_path)
    assert isinstance(call.wrong, InputRefused)
    assert call.wrong.reason == "size-limit"


def test_a_damaged_archive_is_refused_without_the_names_in_it(tmp_path):
    file = archive(tmp_path / "study.zip", "DOE_JANE.dcm")
    file.write_bytes(file.read_bytes().replace(b"dicom", b"cidom"))
    gear(tmp_path, {}, study=file)
    (call,) = calls({}, tmp_path)
    assert call.wrong.reason == "unreadable-archive"
    assert "DOE" not in call.wrong.sentence


@pytest.mark.parametrize(
    "config",
    [
        '{"inputs": [5]}', '{"inputs": {"fixed": "x"}}', '{"inputs": {"fixed": {"location": 5}}}', '{"config": ["x"]}',
        '{"config": {"settings": {"seed": 1}}}', "[", '{"inputs": {"moving": {"location": {"path": "/"}}}}',
    ],
)  # fmt: skip
def test_a_gear_that_is_laid_out_otherwise_is_told_with_the_call(tmp_path, config):
    (gear(tmp_path, {}) / "config.json").write_text(config)
    (call,) = calls({}, tmp_path)
    assert isinstance(call.wrong, UsageError)
    assert call.out == tmp_path / "flywheel" / "v0" / "output"


@pytest.mark.parametrize("text", ["{", "[1]", '"rigid"', "9" * 5000, "[" * 100_000])
def test_settings_that_are_no_object_are_told_with_the_call(tmp_path, text):
    (call,) = calls({"HOLOSCAN_INPUT_PATH": tmp_path, "HOLOSCAN_OUTPUT_PATH": tmp_path, "SAMREG_SETTINGS": text})
    assert isinstance(call.wrong, UsageError)
    assert "SAMREG_SETTINGS" in call.wrong.sentence


def report(status: str) -> dict[str, object]:
    return {"status": status, "reasons": [], "kind": "rigid", "roles": "as given", "objects": {}}


class InstantApplication:
    """Stands in for the class of the application of operators, which needs the SDK and time.

    Attributes:
        asked: The sources and the configuration of each registration.
        answer: Called with the sources and the folder of their results; the contents of `report.json`.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[Sources, Config]] = []
        self.answer = lambda sources, folder: report("PASS")

    def __call__(self, sources: Sources, config: Config, folder: Path) -> SimpleNamespace:
        application = SimpleNamespace(report=None)

        def run() -> None:
            self.asked.append((sources, config))
            application.report = self.answer(sources, folder)

        application.run = run
        return application


@pytest.fixture
def registered(monkeypatch) -> InstantApplication:
    stand_in = InstantApplication()
    monkeypatch.setitem(sys.modules, "app.application", SimpleNamespace(RegistrationApplication=stand_in))
    monkeypatch.setattr(__main__, "map_extra_missing", lambda: "")
    return stand_in


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
    ((sources, session),) = registered.asked
    config = session.config
    assert (config.transform, config.method, config.matching.max_pairs) == ("affine", "samreg", 7)
    assert (sources.fixed_series, sources.moving_series, sources.allow_different_patients) == ("1.2", "1.3", False)
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
    assert not registered.asked
    reason = json.loads((tmp_path / "out" / "metadata.json").read_text())
    assert reason["exception"] == "UsageError"
    assert "transfrom" in reason["exception_message"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"report.json", "result.json", "metadata.json"}


@pytest.mark.parametrize(
    "settings",
    [
        '{"fixed_series": 5}',
        '{"moving_series": ""}',
        '{"file": "x"}',
        '{"allow_different_patients": 1}',
        '{"as_files": 1}',
        "{",
    ],
)
def test_settings_of_the_wrong_kind_replace_an_earlier_result_by_the_reason(tmp_path, registered, settings):
    (tmp_path / "in").mkdir()
    out = tmp_path / "out"
    (out / "dicom").mkdir(parents=True)
    for name in ("report.json", "dicom/reg.dcm"):
        (out / name).write_text("{}")
    environ = {"SAMREG_SETTINGS": settings}
    assert __main__.main(["-i", str(tmp_path / "in"), "-o", str(out)], environ, tmp_path) == 2
    assert not registered.asked
    assert {path.name for path in out.iterdir()} == {"report.json", "result.json", "metadata.json"}


def test_the_container_leaves_no_dicom_objects_out(tmp_path, registered):
    (tmp_path / "in").mkdir()
    (tmp_path / "asked.yaml").write_text("as_files: true")
    folders = ["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out")]
    for options, settings in ([], '{"as_files": true}'), (["--config", str(tmp_path / "asked.yaml")], "{}"):
        assert __main__.main([*folders, *options], {"SAMREG_SETTINGS": settings}, tmp_path) == 2
        assert "samreg register --as-files" in json.loads((tmp_path / "out/report.json").read_text())["reasons"][0]
    assert not registered.asked


def test_an_unexpected_failure_says_where_and_not_what(tmp_path, registered, capsys):
    def fail(sources, folder):
        raise RuntimeError("DOE^JANE")

    registered.answer = fail
    (tmp_path / "in").mkdir()
    assert __main__.main(["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out")], {}, tmp_path) == 1
    said = capsys.readouterr().err + "".join(p.read_text() for p in (tmp_path / "out").iterdir())
    assert "RuntimeError" in said
    assert Path(__file__).name in said
    assert "DOE" not in said


def test_names_of_files_stay_where_they_are(tmp_path, registered, capsys):
    def refuse(sources, folder):
        raise InputRefused("'DOE_JANE.dcm' is empty", "a whole file", reason="unreadable-file")

    registered.answer = refuse
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "DOE_JANE.dcm").touch()
    assert __main__.main(["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out")], {}, tmp_path) == 3
    said = capsys.readouterr().err + "".join(p.read_text() for p in (tmp_path / "out").iterdir())
    assert "file 1 of 1 is empty" in said
    assert "DOE" not in said


def test_a_call_that_is_stopped_leaves_the_reason_alone(tmp_path, registered):
    def stop(sources, folder):
        (folder / "dicom").mkdir()
        (folder / "dicom" / "reg.dcm").touch()
        service.stopped()
        raise SystemExit(143)

    registered.answer = stop
    (tmp_path / "in").mkdir()
    out = tmp_path / "out"
    with pytest.raises(SystemExit):
        __main__.main(["-i", str(tmp_path / "in"), "-o", str(out)], {}, tmp_path)
    assert {path.name for path in out.iterdir()} == {"report.json", "result.json", "metadata.json"}
    assert json.loads((out / "result.json").read_text())["exit_code"] == 143
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_wrong_options_leave_the_reason_too(tmp_path, registered, capsys):
    (tmp_path / "in").mkdir()
    environ = {"HOLOSCAN_INPUT_PATH": str(tmp_path / "in"), "HOLOSCAN_OUTPUT_PATH": str(tmp_path / "elsewhere")}
    out = tmp_path / "out"
    assert __main__.main(["--output", str(out), "--transform", "nonsense"], environ, tmp_path) == 2
    assert not registered.asked
    assert "nonsense" in json.loads((out / "metadata.json").read_text())["exception_message"]
    assert "nonsense" in capsys.readouterr().err
    for wrong in (["--transform", "nonsense"], ["--fixed", "1.2"], ["--input"]):
        assert __main__.main([*wrong, "--log-format", "json"] if wrong != ["--input"] else wrong, {}, tmp_path) == 2
        assert wrong[0] in capsys.readouterr().err


def test_of_several_studies_the_gravest_exit_code_counts(tmp_path, registered):
    for item in ("a", "b"):
        for name in ("1", "2"):
            write_small(tmp_path / "data" / "batch" / item / "get-input" / name, series_uid=f"1.{name}")
    registered.answer = lambda sources, folder: report("FAIL" if "a" in sources.fixed.parts else "PASS")
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
    taken = [(sources.fixed_series, sources.moving_series) for sources, _ in registered.asked[:2]]
    assert taken == [("1.0", "1.1"), ("1.0", "1.2")]
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert [entry["folder"] for entry in result["registrations"]] == ["moving-1", "moving-2"]


def test_rules_hold_where_each_image_has_a_folder_of_its_own(tmp_path):
    for name in ("fixed", "moving"):
        write_small(tmp_path / name, series_uid=f"1.{len(name)}")
    rules = Config().with_values({"series": {"fixed": {"modality": "CT"}}})
    with pytest.raises(InputRefused) as caught:
        plan(Sources(tmp_path / "fixed", tmp_path / "moving"), tmp_path / "out", rules)
    assert caught.value.reason == "no-series-for-role"
    (tmp_path / "moving.nii.gz").touch()
    with pytest.raises(UsageError, match="not DICOM"):
        plan(Sources(tmp_path / "fixed", tmp_path / "moving.nii.gz"), tmp_path / "out", rules)


def test_the_log_is_one_json_object_a_line_on_request(tmp_path, registered, capsys):
    (tmp_path / "in").mkdir()
    folders = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert __main__.main(folders, {"SAMREG_LOG_FORMAT": "json"}, tmp_path) == 0
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    messages = [line["message"] for line in lines]
    assert any(__version__ in message for message in messages)
    assert "The caller is options." in messages
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
