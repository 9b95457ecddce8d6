"""The one way from sources to a folder, with a door of the test's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from samreg.config import Config
from samreg.errors import InputRefused, OutputInvalid, SamregError, UsageError
from samreg.run import Door, exit_code, run
from samreg.sources import Sources
from tests.dicom_series import write_small

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture
def pair(tmp_path: Path) -> Sources:
    for seed, name in enumerate(("fixed", "moving")):
        write_small(tmp_path / name, seed=seed)
    return Sources(tmp_path / "fixed", tmp_path / "moving")


@pytest.fixture
def study(tmp_path: Path) -> tuple[Sources, Config]:
    """A fixed series and two moving ones, and the rules that say so."""
    for number in range(3):
        hour = {"AcquisitionTime": f"1{number}0000"}
        write_small(tmp_path / "in" / str(number), series_uid=f"1.{number}", overrides=hour)
    rules = {"fixed": {"acquired": "earliest"}, "several_moving": True}
    return Sources(tmp_path / "in"), Config().with_values({"series": rules})


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.iterdir()}


@pytest.fixture
def failing(instant):
    """Makes what computes raise an error."""

    def fail_with(error: Exception) -> None:
        def fail() -> None:
            raise error

        instant.during = fail

    return fail_with


class Careful(Door):
    """Tells every error in other words, and leaves a file beside reasons."""

    def told(self, error: Exception) -> SamregError:
        return InputRefused("told in other words", reason="same-series")

    def beside_reason(self, error: SamregError, folder: Path) -> None:
        (folder / "result.json").write_text(error.got)


def test_stages_are_told_in_order(pair, tmp_path, instant):
    stages = []
    report = run(pair, tmp_path / "out", door=Door(lambda stage, fraction: stages.append(stage)))
    assert instant.calls == 1
    assert report["status"] == "PASS"
    assert report == json.loads((tmp_path / "out" / "report.json").read_text())
    assert list(dict.fromkeys(stages)) == ["read", "match", "write"]


def test_a_refusal_leaves_its_reason_alone(pair, tmp_path, failing):
    failing(InputRefused("it cannot be registered", reason="same-series"))
    with pytest.raises(InputRefused, match="cannot be registered"):
        run(pair, tmp_path / "out", Config(transform="rigid"))
    assert names(tmp_path / "out") == {"report.json"}
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["status"], report["asked"], report["exit_code"]) == ("REFUSED", "rigid", 3)


@pytest.mark.parametrize("error", [UsageError("a wrong option"), OutputInvalid("not whole"), ZeroDivisionError()])
def test_other_errors_leave_nothing(pair, tmp_path, failing, error):
    failing(error)
    with pytest.raises(type(error)):
        run(pair, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("error", [UsageError("JANE DOE"), ZeroDivisionError("JANE DOE")])
def test_a_door_decides_what_is_told_and_what_lies_beside_it(pair, tmp_path, failing, error):
    failing(error)
    with pytest.raises(InputRefused, match="other words"):
        run(pair, tmp_path / "out", door=Careful())
    assert names(tmp_path / "out") == {"report.json", "result.json"}
    assert "JANE" not in "".join(path.read_text() for path in (tmp_path / "out").iterdir())


def test_one_of_several_that_is_refused_does_not_stop_the_others(study, tmp_path, instant):
    def fail_once() -> None:
        if instant.calls == 1:
            raise InputRefused("JANE DOE", reason="same-series")

    instant.during = fail_once
    document = run(study[0], tmp_path / "out", study[1], Careful())
    assert [entry["status"] for entry in document["registrations"]] == ["REFUSED", "PASS"]
    assert exit_code(document) == 3
    assert names(tmp_path / "out") == {"registrations.json", "moving-1", "moving-2"}
    assert names(tmp_path / "out" / "moving-1") == {"report.json"}
    assert "Told in other words" in document["reasons"][0]
    assert "JANE" not in (tmp_path / "out" / "moving-1" / "report.json").read_text()


def test_paths_that_do_not_exist_leave_nothing(pair, tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        run(Sources(pair.fixed, tmp_path / "none"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
