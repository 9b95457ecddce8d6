"""Identifiers that no DICOM object can refer to: refused for DICOM output, and no obstacle to files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import samreg
from samreg.config import Config
from samreg.dicom_out import write_objects
from samreg.errors import InputRefused
from samreg.io import describe, describe_pair, find_roles, read_image, read_pair
from samreg.io.identifiers import is_uid
from samreg.io.writing import write_image
from samreg.outputs import write_dicom
from tests.dicom_results import result_of, rigid, small_series
from tests.dicom_series import edit, small_volume, write_enhanced, write_small
from tests.instant import instant_result

pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR", "ignore:The value length")  # on purpose

KEYWORDS = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
LONG = "1.2." + "3" * 73


def reason(call, *arguments, **options) -> str:
    with pytest.raises(InputRefused) as caught:
        call(*arguments, **options)
    assert "--as-files" in caught.value.next_step
    assert "anonym" not in caught.value.got
    return caught.value.reason


@pytest.mark.parametrize("uid", ["1.2", "2.25.1", "1.2.840.10008.1.4.1.1", "1.2.03.4", "1." + "2" * 62])
def test_what_archives_and_readers_take_is_a_uid(uid):
    assert is_uid(uid)


@pytest.mark.parametrize(
    "uid", ["", "1", "anonymized", "1.2.", ".1.2", "1..2", "1.2.a", "1.2 3", "1.2\n", "1.٣", LONG, "1." + "2" * 63]
)
def test_words_and_long_or_broken_numbers_are_none(uid):
    assert not is_uid(uid)


@pytest.mark.parametrize("keyword", KEYWORDS)
@pytest.mark.parametrize("value", ["anonymized", LONG], ids=["a word", "77 characters"])
def test_a_word_in_place_of_a_uid(tmp_path, keyword, value):
    files = write_small(tmp_path)
    edit(files, lambda ds: ds.add_new(keyword, "LO", value))
    if keyword == "SOPInstanceUID":  # each its own word
        for n, file in enumerate(files):
            edit(file, lambda ds, n=n: ds.add_new(keyword, "LO", f"{value[:30]}-{n}"))
    assert reason(read_image, tmp_path) == "bad-uid"
    assert describe(tmp_path)["refused"]["reason"] == "bad-uid"
    np.testing.assert_array_equal(read_image(tmp_path, as_files=True).voxels, small_volume().voxels)


def test_one_uid_for_several_images(tmp_path):
    edit(write_small(tmp_path)[:3], SOPInstanceUID="1.2.3")
    with pytest.raises(InputRefused, match="3 of 8 images") as caught:
        read_image(tmp_path)
    assert caught.value.reason == "duplicate-uid"
    np.testing.assert_array_equal(read_image(tmp_path, as_files=True).voxels, small_volume().voxels)


def test_leading_zeros_are_taken_as_they_stand_through_to_the_objects(tmp_path):
    volumes = [
        small_series(tmp_path / name, n, frame_of_reference_uid=f"1.2.03.{n}1", study_uid="1.2.007.1")
        for n, name in enumerate(("fixed", "moving"))
    ]
    (tmp_path / "out").mkdir()
    written = write_objects(result_of(*volumes, rigid(volumes[0]), kind="rigid"), tmp_path / "out")
    assert set(written.files) == {"reg", "seg_fixed", "seg_moving"}


@pytest.mark.parametrize("keyword", KEYWORDS)
def test_files_need_no_identifiers(tmp_path, keyword):
    edit(write_small(tmp_path), **{keyword: None})
    assert reason(read_image, tmp_path) == ("no-frame-of-reference" if "Frame" in keyword else "no-uid")
    read = read_image(tmp_path, as_files=True)
    np.testing.assert_array_equal(read.voxels, small_volume().voxels)
    assert read.source is None
    assert read.frame_of_reference_uid is None
    assert "DICOM object" in read.notes["identifiers"]
    assert "0001.dcm" not in read.notes["identifiers"], "names of files travel in no report"
    assert describe(tmp_path, as_files=True)["refused"] is None


def test_files_have_the_sop_class_of_their_meta_information(tmp_path):
    edit(write_small(tmp_path), SOPClassUID=None)
    assert reason(read_image, tmp_path) == "no-uid"
    np.testing.assert_array_equal(read_image(tmp_path, as_files=True).voxels, small_volume().voxels)


def test_what_makes_no_volume_is_refused_as_files_too(tmp_path):
    files = write_small(tmp_path)
    edit(files, FrameOfReferenceUID=None)
    edit(files[:1], FrameOfReferenceUID="1.2.3")
    with pytest.raises(InputRefused) as caught:
        read_image(tmp_path, as_files=True)
    assert caught.value.reason == "mixed-frame-of-reference"


def test_a_sound_series_read_as_files_keeps_what_the_report_says_of_it(tmp_path):
    write_small(tmp_path)
    plain, read = read_image(tmp_path), read_image(tmp_path, as_files=True)
    assert read.notes == plain.notes
    assert read.source.series_uid == plain.source.series_uid


def test_an_enhanced_object_with_a_word_for_its_frame_of_reference(tmp_path):
    write_enhanced(small_volume(), tmp_path / "enhanced.dcm")
    edit(tmp_path / "enhanced.dcm", FrameOfReferenceUID="anonymized")
    assert reason(read_image, tmp_path) == "bad-uid"
    assert read_image(tmp_path, as_files=True).grid.shape == (12, 10, 8)


def write_nameless(folder: Path) -> tuple[Path, Path]:
    """Two series of one patient, every UID the same word."""
    for seed, name in enumerate(("fixed", "moving")):
        words = dict.fromkeys(KEYWORDS, "anonymized")
        edit(write_small(folder / name, seed=seed), **words)
    return folder / "fixed", folder / "moving"


def test_words_shared_by_two_series_do_not_make_them_one(tmp_path):
    pair = write_nameless(tmp_path)
    assert reason(read_pair, *pair) == "bad-uid"
    assert describe_pair(*pair, as_files=True)["refused"] is None
    fixed, moving = read_pair(*pair, as_files=True)
    np.testing.assert_array_equal(fixed.voxels, small_volume(seed=0).voxels)
    np.testing.assert_array_equal(moving.voxels, small_volume(seed=1).voxels)
    roles = find_roles(tmp_path, as_files=True)
    assert [series.files[0].parent.name for series in (roles.fixed, *roles.moving)] == ["fixed", "moving"]
    assert [decision.split(":")[0] for decision in roles.decisions] == ["taken as fixed", "taken as moving"]


def test_beside_an_image_that_is_not_dicom_nothing_is_asked_of_identifiers(tmp_path):
    fixed, _ = write_nameless(tmp_path)
    write_image(small_volume(seed=1).voxels, small_volume().grid, tmp_path / "moving.nii.gz")
    assert describe_pair(fixed, tmp_path / "moving.nii.gz")["refused"] is None
    assert read_pair(fixed, tmp_path / "moving.nii.gz")[0].source is None
    assert describe_pair(fixed, tmp_path / "none.nii.gz")["refused"]["reason"] == "bad-uid"


def test_two_series_under_one_sound_uid_have_a_way_out(tmp_path):
    pair = tmp_path / "fixed", tmp_path / "moving"
    for seed, folder in enumerate(pair):
        write_small(folder, seed=seed, series_uid="1.2.3")
    assert reason(read_pair, *pair) == "same-series"
    read_pair(*pair, as_files=True)


def test_one_uid_for_all_images_of_two_series_does_not_make_them_one(tmp_path):
    for seed, name in enumerate(("fixed", "moving")):
        edit(write_small(tmp_path / name, seed=seed), SOPInstanceUID="1.2.3")
    assert reason(read_pair, tmp_path / "fixed", tmp_path / "moving") == "duplicate-uid"


def test_the_same_series_twice_is_refused_as_files_too(tmp_path):
    fixed, _ = write_nameless(tmp_path)
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in fixed.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    for other in (fixed, copy):
        with pytest.raises(InputRefused) as caught:
            read_pair(fixed, other, as_files=True)
        assert caught.value.reason == "same-series"


def test_a_registration_reads_as_its_configuration_says(tmp_path):
    pair = write_nameless(tmp_path)
    for folder, value in zip(pair, (b"\1\0", b"\2\0"), strict=True):
        edit(sorted(folder.iterdir()), lambda ds, value=value: setattr(ds, "PixelData", value * (ds.Rows * ds.Columns)))
    for as_files, wanted in ((False, "bad-uid"), (True, "constant-image")):
        with pytest.raises(InputRefused) as caught:
            samreg.register(*pair, Config(as_files=as_files, encoder="handcrafted"))
        assert caught.value.reason == wanted


@pytest.mark.parametrize("as_files", [False, True])
def test_as_files_writes_no_dicom_and_says_so(tmp_path, caplog, as_files):
    pair = [small_series(tmp_path / name, n) for n, name in enumerate(("fixed", "moving"))]
    written, notes = write_dicom(instant_result(*pair, Config(as_files=as_files)), tmp_path)
    assert bool(written) is (tmp_path / "dicom").exists() is not as_files
    assert any("as_files" in note for note in notes) is as_files
    assert ("as_files" in caplog.text) is as_files


def test_the_choice_decides_no_result():
    assert Config(as_files=True).hash == Config().hash
