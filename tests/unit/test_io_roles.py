"""Which series of a study is fixed and which moving: rules, ambiguity, and a reason for every series."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest

from samreg.config import Config, SeriesConfig, SeriesRule
from samreg.errors import InputRefused, UsageError
from samreg.io import Roles, find_roles, find_series, read_pair, roles_of
from tests.dicom_series import edit, write_small

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
    return SeriesConfig(fixed=SeriesRule(**fixed or {}), moving=SeriesRule(**moving or {}), **others)


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
    by_uid = {uid: one for one in roles.decisions for uid in re.findall(r"\b1(?:\.\d)+", one)}
    assert len(by_uid) == len(roles.decisions) == 5
    for uid, words in {
        "1.1": ("taken as fixed", "CT"),
        "1.2.1": ("taken as moving", "MR"),
        "1.1.2": ("modality does not match 'CT'", "description does not match 'T1'"),
        "1.1.1": ("not the latest",),
    }.items():
        assert all(word in by_uid[uid] for word in words), by_uid[uid]
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


def two(folder: Path, fixed: str = "fixed", moving: str = "moving") -> None:
    """An earlier CT and a later MR: by time, the moving one here would be fixed."""
    write(folder / fixed, "1.1", Modality=CT, AcquisitionDate="20200101")
    write(folder / moving, "1.2", AcquisitionDate="20240101")


class TestRoleFolders:
    @pytest.mark.parametrize(
        ("fixed", "moving"),
        [("Fixed", "Moving"), ("study1/fixed", "study1/moving"), ("a/FIXED/b", "c/d/moving"), ("fixed", "new/Moving")],
    )
    def test_names_count_in_any_case_and_at_any_depth(self, tmp_path, fixed, moving):
        two(tmp_path, fixed, moving)
        roles = find_roles(tmp_path)
        assert (roles.fixed.series_uid, roles.moving[0].series_uid) == ("1.1", "1.2")
        assert "sub-folders" in roles.sentence

    @pytest.mark.parametrize(
        ("fixed", "moving", "said"),
        [
            ("fixed", "other", "1 folder named fixed and 0 folders named moving"),
            ("other", "a/Moving", "0 folders named fixed and 1 folder named moving"),
            ("fixed", "fixed/moving", "inside the other"),
            ("a/fixed", "Fixed/moving", "2 folders named fixed and 1 folder named moving"),
        ],
    )
    def test_names_that_do_not_tell_are_refused_unless_rules_do(self, tmp_path, fixed, moving, said):
        two(tmp_path, fixed, moving)
        for unclear in (rules(), rules({"modality": CT}), rules(moving={"series_uid": "1.2"})):
            with pytest.raises(InputRefused, match=said) as caught:
                find_roles(tmp_path, unclear)
            assert caught.value.reason == "role-folders"
        for clear in (rules({"series_uid": "1.2"}, {"series_uid": "1.1"}), rules({"modality": MR}, {"modality": CT})):
            assert find_roles(tmp_path, clear).fixed.series_uid == "1.2"

    def test_a_link_is_refused(self, tmp_path):
        two(tmp_path / "in", "a", "moving")
        (tmp_path / "in" / "fixed").symlink_to("a")
        with pytest.raises(InputRefused, match="symbolic link") as caught:
            find_roles(tmp_path / "in")
        assert caught.value.reason == "role-folders"

    def test_files_of_these_names_are_no_folders(self, tmp_path):
        two(tmp_path, "a", "b")
        (tmp_path / "fixed").write_text("no folder")
        (tmp_path / "moving").symlink_to("fixed")
        assert find_roles(tmp_path).fixed.series_uid == "1.2"


class TestTwoFolders:
    def test_without_rules_they_are_as_given(self, tmp_path):
        two(tmp_path, "a", "b")
        roles = roles_of(tmp_path / "a", tmp_path / "b", rules())
        assert names(roles) == ("a", ["b"])
        assert roles.sentence == "as given"
        assert len(roles.decisions) == 2

    def test_rules_hold(self, study):
        wanted = rules({"modality": CT}, {"description": "T1", "acquired": "latest"})
        roles = roles_of(study / "ct", study, wanted)
        assert names(roles) == ("ct", ["T1-2"])
        assert "by the rules" in roles.sentence
        with pytest.raises(InputRefused) as caught:
            roles_of(study / "T1-1", study / "T1-2", wanted)
        assert caught.value.reason == "no-series-for-role"
        assert "by series UID" in roles_of(study / "ct", study, rules(moving={"series_uid": "1.1.2"})).sentence

    def test_several_moving_are_without_the_fixed_one(self, study):
        assert names(roles_of(study / "ct", study, rules(several_moving=True)))[1] == ["T1-1", "T1-2", "T2-1", "T2-2"]

    @pytest.mark.parametrize("wanted", [rules(), rules({"modality": "CT"})])
    def test_several_that_suit_are_refused(self, study, wanted):
        with pytest.raises(InputRefused) as caught:
            roles_of(study / "ct", study, wanted)
        assert caught.value.reason == "several-series"

    def test_patterns_of_folders_are_relative_to_each(self, study):
        assert names(roles_of(study / "ct", study, rules({"folder": "."}, {"folder": "T2-1"})))[1] == ["T2-1"]
        file = next((study / "ct").iterdir())
        assert find_series(file, within=".").series[0].series_uid == "1.1"

    def test_other_objects_are_noted(self, tmp_path):
        two(tmp_path, "a", "b")
        write(tmp_path / "b" / "capture", "1.3", SOPClassUID="1.2.840.10008.5.1.4.1.1.7")
        (moving,) = roles_of(tmp_path / "a", tmp_path / "b").moving
        assert "1 series" in moving.notes["other_series"]


class TestWithin:
    PATTERN = "*/get-input-data*"

    def test_files_elsewhere_are_as_if_they_were_not_there(self, tmp_path):
        two(tmp_path, "1/get-input-data", "2/get-input-data/deep")
        write(tmp_path / "1/other/fixed", "1.3")
        (tmp_path / "1/other/lost.dcm").write_bytes(b"")
        assert names(find_roles(tmp_path, rules(within=self.PATTERN))) == ("deep", ["get-input-data"])
        found = find_series(tmp_path, within=self.PATTERN)
        assert ([s.series_uid for s in found.series], found.skipped) == (["1.1", "1.2"], 0)

    @pytest.mark.parametrize("form", ["x/get-input-data/{}", "x/{}/get-input-data"])
    def test_role_folders_count_within(self, tmp_path, form):
        two(tmp_path, form.format("fixed"), form.format("moving"))
        write(tmp_path / "y/fixed", "1.3")
        roles = find_roles(tmp_path, rules(within=self.PATTERN))
        assert roles.fixed.series_uid == "1.1"
        assert "sub-folders" in roles.sentence

    def test_nothing_there_is_said_with_the_pattern(self, tmp_path):
        two(tmp_path, "a", "b")
        with pytest.raises(InputRefused, match="get-input-data") as caught:
            find_roles(tmp_path, rules(within=self.PATTERN))
        assert caught.value.reason == "empty-folder"
        assert Config().with_values({"series": {"within": self.PATTERN}}).hash == Config().hash


class TestTimeZones:
    def test_the_zone_of_a_header_counts(self, tmp_path):
        day = {"AcquisitionDate": "20240101"}
        write(tmp_path / "paris", "1.1", **day, AcquisitionTime="130000", TimezoneOffsetFromUTC="+0100")
        write(tmp_path / "new york", "1.2", **day, TimezoneOffsetFromUTC="-0500")
        assert names(find_roles(tmp_path)) == ("new york", ["paris"])

    def test_a_time_with_its_own_zone_keeps_it(self, tmp_path):
        for name, time in (("a", "20240101120000-0500"), ("b", "20240101130000+0100")):
            write(tmp_path / name, f"1.{ord(name)}", AcquisitionDateTime=time, TimezoneOffsetFromUTC="+0000")
        assert names(find_roles(tmp_path)) == ("a", ["b"])

    @pytest.mark.parametrize("offset", [None, "abcde"])
    def test_a_zone_of_one_series_alone_compares_nothing(self, tmp_path, offset):
        write(tmp_path / "a", "1.1", AcquisitionTime="100000", TimezoneOffsetFromUTC="+0100")
        write(tmp_path / "b", "1.2", AcquisitionTime="230000", TimezoneOffsetFromUTC=offset)
        with pytest.raises(InputRefused) as caught:
            find_roles(tmp_path)
        assert caught.value.reason == "no-acquisition-time"


class TestNoPatientInMessages:
    NAME = "Doe^Jane\nERROR forged"

    def test_uids_and_modalities_that_are_none_are_not_repeated(self, tmp_path, caplog):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            write(tmp_path / "a", self.NAME, AcquisitionDate="20240101", Modality="DOE_JANE")
            write(tmp_path / "b", "1.2", AcquisitionDate="20240102")
            write(tmp_path / "c", "1.3", SOPClassUID=self.NAME)
        caplog.clear()  # of what pydicom says on writing
        with caplog.at_level("INFO", logger="samreg"):
            roles = find_roles(tmp_path)
        (moving,) = roles.moving
        assert "unknown modality" in moving.line
        assert "an invalid UID" in moving.line
        refusals = []
        for call, wanted in (
            (find_roles, rules({"modality": "PT"})),
            (find_roles, rules({"series_uid": self.NAME, "modality": "CT"})),
            (find_roles, rules({"series_uid": "Jane\n"})),
        ):
            with pytest.raises(InputRefused) as caught:
                call(tmp_path, wanted)
            refusals.append(caught.value.sentence)
        with pytest.raises(InputRefused) as caught:
            find_roles(tmp_path / "c")
        assert "an invalid UID" in caught.value.sentence
        said = [caplog.text, *roles.decisions, *refusals, caught.value.sentence]
        assert not any(word in text for text in said for word in ("Jane", "DOE", "forged"))

    def test_no_warning_repeats_a_value(self, tmp_path):
        bad = "Doe, Jane (née Roe) of the second floor, and a value that is much too long for anything"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for n, name in enumerate("ab"):
                write(
                    tmp_path / name,
                    f"{bad} {n}",
                    Modality=bad,
                    StudyInstanceUID=bad,
                    FrameOfReferenceUID=bad,
                    AcquisitionTime=f"12000{n}",
                    PatientID=bad,
                )
                edit(sorted((tmp_path / name).iterdir()), BodyPartExamined=bad, PatientSex=bad, AccessionNumber=bad)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            roles = find_roles(tmp_path)
            with pytest.raises(InputRefused) as refused:
                read_pair(roles.fixed, roles.moving[0])
            fixed, _ = read_pair(roles.fixed, roles.moving[0], as_files=True)
        assert refused.value.reason == "bad-uid"
        assert "Doe" not in refused.value.sentence
        assert not any("Doe" in note for note in fixed.notes.values())
        assert [str(w.message) for w in caught if "Doe" in str(w.message)] == []
        assert fixed.modality is None
        assert "Doe" not in fixed.name


def test_a_pattern_is_searched_in_the_first_characters(tmp_path):
    two(tmp_path, "a", "b")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        edit(sorted((tmp_path / "a").iterdir()), SeriesDescription="x" * 1024 + "T1")
    with pytest.raises(InputRefused):
        find_roles(tmp_path, rules({"description": "T1"}))
