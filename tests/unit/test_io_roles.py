"""Which series of a study is fixed and which moving: rules, ambiguity, and a reason for every series."""

from __future__ import annotations

from pathlib import Path

import pytest

from samreg.config import Config, SeriesConfig, SeriesRule
from samreg.errors import InputRefused, UsageError
from samreg.io import Roles, find_roles
from tests.dicom_series import write_small

CT, MR = "CT", "MR"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A planning CT, and T1 and T2 of two days; a name stands in the description."""
    days = {"1": "20240101", "2": "20240301"}
    write(tmp_path / "ct", "1.1", Modality=CT, SeriesDescription="Planning Doe^Jane", AcquisitionDate="20240201")
    for day, date in days.items():
        for weighting in ("T1", "T2"):
            name = f"{weighting}-{day}"
            write(
                tmp_path / name, f"1.{day}.{weighting[1]}", SeriesDescription=f"{weighting} tra", AcquisitionDate=date
            )
    return tmp_path


def write(folder: Path, uid: str, **values: str) -> None:
    write_small(folder, series_uid=uid, overrides={"Modality": MR, "AcquisitionTime": "120000", **values})


def names(roles: Roles) -> tuple[str, list[str]]:
    """Folders of the fixed and of the moving series."""
    return roles.fixed.files[0].parent.name, [series.files[0].parent.name for series in roles.moving]


def rules(fixed: dict | None = None, moving: dict | None = None, **others) -> SeriesConfig:
    return SeriesConfig(SeriesRule(**fixed or {}), SeriesRule(**moving or {}), **others)


@pytest.mark.parametrize(
    ("fixed", "moving", "expected"),
    [
        ({"modality": "CT"}, {"description": "t1", "acquired": "latest"}, ("ct", ["T1-2"])),
        ({"modality": "CT"}, {"description": "T2", "acquired": "earliest"}, ("ct", ["T2-1"])),
        ({"description": "T1", "acquired": "earliest"}, {"description": "T1"}, ("T1-1", ["T1-2"])),
        ({"description": "T1"}, {"description": "T1", "acquired": "earliest"}, ("T1-2", ["T1-1"])),
        ({"description": "T1"}, {"description": "T1"}, ("T1-2", ["T1-1"])),  # the later of two that suit both
        ({"folder": "T1-*", "acquired": "latest"}, {"modality": "CT"}, ("T1-2", ["ct"])),
        ({"series_uid": "1.1.2"}, {"folder": "T?-2", "description": "T1"}, ("T2-1", ["T1-2"])),
    ],
)
def test_rules_name_the_two(study, fixed, moving, expected):
    assert names(find_roles(study, rules(fixed, moving))) == expected


def test_several_moving_series_are_all_those_that_the_rule_names(study):
    wanted = rules({"modality": "CT"}, {"description": "T1"}, several_moving=True)
    assert names(find_roles(study, wanted)) == ("ct", ["T1-1", "T1-2"])
    anything = rules({"description": "T2", "acquired": "latest"}, several_moving=True)
    assert names(find_roles(study, anything)) == ("T2-2", ["T1-1", "T1-2", "T2-1", "ct"])


@pytest.mark.parametrize(
    ("fixed", "moving", "reason"),
    [
        ({"modality": "CT"}, {"description": "T1"}, "several-series"),
        ({"modality": "MR"}, {"modality": "CT"}, "several-series"),
        ({"modality": "PT"}, {}, "no-series-for-role"),
        ({"modality": "CT"}, {"modality": "CT"}, "no-series-for-role"),
        ({"series_uid": "1.1", "modality": "MR"}, {"series_uid": "1.1.2"}, "no-series-for-role"),
        ({"series_uid": "1.9"}, {}, "no-such-series"),
        ({"series_uid": "1.1"}, {"series_uid": "1.1"}, "same-series"),
        ({"acquired": "latest"}, {"modality": "CT"}, "no-acquisition-time"),  # T1 and T2 of one moment
    ],
)
def test_what_is_ambiguous_or_absent_is_refused(study, fixed, moving, reason):
    with pytest.raises(InputRefused) as caught:
        find_roles(study, rules(fixed, moving))
    assert caught.value.reason == reason
    assert "Doe" not in caught.value.sentence


def test_every_series_has_a_reason_without_free_text(study, caplog):
    with caplog.at_level("INFO", logger="samreg"):
        roles = find_roles(study, rules({"modality": "CT"}, {"description": "T1", "acquired": "latest"}))
    by_uid = {decision.split("UID ending ")[1].split(": ")[1]: decision for decision in roles.decisions}
    assert len(by_uid) == 5
    assert by_uid["1.1"].startswith("taken as fixed: CT")
    assert by_uid["1.2.1"].startswith("taken as moving: MR")
    assert "its modality does not match 'CT'" in by_uid["1.1.2"]
    assert "its description does not match 'T1'" in by_uid["1.1.2"]
    assert "not the latest" in by_uid["1.1.1"]
    assert all(decision in caplog.text for decision in roles.decisions)
    assert "Doe" not in caplog.text


def test_the_rules_are_configuration_but_not_part_of_its_hash(tmp_path):
    file = tmp_path / "series.yaml"
    file.write_text("series: {fixed: {modality: CT}, moving: {acquired: latest}, several_moving: true}\n")
    config = Config.load(file)
    assert config.series == rules({"modality": "CT"}, {"acquired": "latest"}, several_moving=True)
    assert config.hash == Config().hash


@pytest.mark.parametrize(
    ("rule", "said"), [({"description": "(T1"}, "regular expression"), ({"acquired": "today"}, "earliest, latest")]
)
def test_a_rule_that_means_nothing_is_refused(rule, said):
    with pytest.raises(UsageError, match=said):
        Config().with_values({"series": {"fixed": rule}})
