"""Every kind of bad input is refused with its own reason and a sentence that helps."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEGLSLossless, RLELossless

import samreg.io.dicom_folder
import samreg.io.limits
from samreg.errors import InputRefused
from samreg.io import describe, find_pair, read_image, read_pair
from samreg.phantoms import write_dicom_series
from tests.dicom_series import copy_of, edit, small_volume, write_enhanced, write_small


def refusal(call, *arguments, **options) -> InputRefused:
    """The refusal of a call, after checking that its sentence is complete and safe to show."""
    with pytest.raises(InputRefused) as caught:
        call(*arguments, **options)
    error = caught.value
    assert error.exit_code == 3
    assert error.got
    assert error.expected
    assert error.next_step.endswith(".")
    said = str(error).casefold()  # sentences begin with capital letters
    assert all(part.casefold() in said for part in (error.got, error.expected, error.next_step))
    assert "\n" not in str(error)
    assert "PHANTOM-1" not in str(error)
    return error


def reason(call, *arguments, **options) -> str:
    return refusal(call, *arguments, **options).reason


def shift(file, offset) -> None:
    position = np.array(dcmread(file).ImagePositionPatient, float) + offset
    edit(file, ImagePositionPatient=[round(float(v), 4) for v in position])


@pytest.fixture
def files(tmp_path):
    """A sound series of eight axial slices, 4 mm apart."""
    return write_small(tmp_path / "series")


@pytest.fixture
def folder(files):
    return files[0].parent


class TestFolder:
    def test_empty(self, tmp_path):
        assert reason(read_image, tmp_path) == "empty-folder"

    def test_junk_only_is_counted(self, tmp_path):
        (tmp_path / "a.txt").write_text("a")
        (tmp_path / "b.dcm").write_text("b")
        error = refusal(read_image, tmp_path)
        assert error.reason == "empty-folder"
        assert "2 files skipped, not DICOM" in error.got

    @pytest.mark.parametrize("name", ["0008.dcm", "IM0009", "notes.txt"])
    def test_an_empty_file_is_a_lost_image(self, folder, name):
        (folder / name).write_bytes(b"")
        error = refusal(read_image, folder)
        assert error.reason == "unreadable-file"
        assert f"'{name}' is empty" in error.got
        assert describe(folder)["refused"]["reason"] == "unreadable-file"

    def test_an_empty_file_alone(self, tmp_path):
        (tmp_path / "a.dcm").write_bytes(b"")
        assert reason(read_image, tmp_path / "a.dcm") == "unreadable-file"

    def test_a_file_of_200_bytes(self, files, folder):
        files[-1].write_bytes(files[-1].read_bytes()[:200])
        assert reason(read_image, folder) == "unreadable-file"

    def test_links_only(self, tmp_path, files):
        (tmp_path / "links").mkdir()
        for file in files:
            (tmp_path / "links" / file.name).symlink_to(file)
        error = refusal(read_image, tmp_path / "links")
        assert error.reason == "empty-folder"
        assert "8 symbolic links not followed" in error.got

    def test_missing_path(self, tmp_path):
        assert reason(read_image, tmp_path / "nowhere") == "no-such-path"

    def test_a_dicom_prefix_is_never_forced(self, files, folder):
        for file in files:
            file.write_bytes(file.read_bytes()[132:])
        assert reason(read_image, folder) == "empty-folder"

    @pytest.mark.parametrize("kept", [0.1, 0.3, 0.5, 0.7])
    def test_a_file_cut_within_its_header_is_never_just_left_out(self, files, folder, kept):
        # The last slice: without it the rest would pass.
        whole = files[-1].read_bytes()
        files[-1].write_bytes(whole[: int((len(whole) - 12 * 10 * 2) * kept)])
        assert reason(read_image, folder) == "unreadable-file"

    def test_a_file_cut_late_in_its_header(self, files, folder):
        whole = files[-1].read_bytes()
        files[-1].write_bytes(whole[: whole.index(b"\x20\x00\x52\x00")])  # at the frame of reference
        assert reason(read_image, folder) == "no-frame-of-reference"

    def test_a_damaged_byte_in_the_file_meta(self, files, folder):
        whole = bytearray(files[-1].read_bytes())
        place = whole.index(b"\x02\x00\x02\x00UI") + 4  # the VR of MediaStorageSOPClassUID
        whole[place : place + 2] = b"UQ"
        files[-1].write_bytes(bytes(whole))
        assert reason(read_image, folder) == "unreadable-file"

    def test_folders_nested_deeper_than_python_recurses(self, files, folder):
        deep = [folder]
        for _ in range(1200):
            deep.append(deep[-1] / "d")
            deep[-1].mkdir()
        try:
            assert read_image(folder).grid.shape[2] == 8
            assert reason(find_pair, folder) == "too-few-series"
        finally:
            for path in reversed(deep[1:]):
                path.rmdir()

    def test_forbidden_folders_are_refused_where_folders_are_searched_for_names(self, folder):
        (folder / "locked").mkdir(mode=0)
        try:
            if os.access(folder / "locked", os.R_OK):
                pytest.skip("root may read anything")
            assert reason(find_pair, folder) == "no-permission"
        finally:
            (folder / "locked").chmod(0o700)

    def test_several_series(self, tmp_path):
        for n in range(3):
            folder = tmp_path / str(n)
            write_small(folder, description="Doe Jane", series_uid=f"1.2.34567890.{n}", series_number=n + 4)
        error = refusal(read_image, tmp_path)
        assert error.reason == "several-series"
        for n in range(3):
            line = f"MR, 8 images, series number {n + 4}, UID 1.2.34567890.{n}"
            assert line in error.got
        assert "Doe" not in str(error)
        assert "--fixed-series" in error.next_step
        assert "--moving-series" in error.next_step

    def test_unknown_series(self, folder):
        assert reason(read_image, folder, series_uid="1.2.3") == "no-such-series"

    def test_too_many_files(self, folder, monkeypatch):
        monkeypatch.setattr(samreg.io.dicom_folder, "MAX_FILES", 7)
        assert reason(read_image, folder) == "size-limit"


class TestSlices:
    def test_missing(self, files, folder):
        files[3].unlink()
        files[5].unlink()
        error = refusal(read_image, folder)
        assert error.reason == "missing-slices"
        assert "lacks 2 slices" in error.got

    def test_every_other_one_missing(self, files, folder):
        edit(files, SpacingBetweenSlices="4")
        for file in files[1::2]:
            file.unlink()
        assert reason(read_image, folder) == "missing-slices"

    def test_copies_of_a_slice(self, files, folder):
        copy_of(files[3], folder / "copy.dcm")
        assert reason(read_image, folder) == "duplicate-slices"

    def test_the_same_files_twice(self, files, folder):
        shutil.copytree(folder, folder / "again")
        assert reason(read_image, folder) == "duplicate-slices"

    def test_uneven(self, files, folder):
        shift(files[4], [0, 0, 1.0])
        error = refusal(read_image, folder)
        assert error.reason == "uneven-spacing"
        assert "3 to 5 mm" in error.got

    def test_spacing_that_grows_along_the_stack(self, files, folder):
        for n, file in enumerate(files):
            shift(file, [0, 0, 0.03 * n * n])
        assert reason(read_image, folder) == "uneven-spacing"

    @pytest.mark.parametrize("degrees", [1.0, 15.0])
    def test_gantry_tilt(self, files, folder, degrees):
        for n, file in enumerate(files):
            shift(file, [0, np.tan(np.radians(degrees)) * 4.0 * n, 0])
        error = refusal(read_image, folder)
        assert error.reason == "gantry-tilt"
        assert f"{degrees:.1f} degrees" in error.got

    def test_gantry_tilt_that_the_orientation_does_not_show(self, files, folder):
        edit(files, GantryDetectorTilt="12")
        assert reason(read_image, folder) == "gantry-tilt"

    def test_single_slice(self, files):
        assert reason(read_image, files[0]) == "too-few-slices"


class TestMixed:
    def test_orientation(self, files, folder):
        edit(files[2], ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
        assert reason(read_image, folder) == "mixed-orientation"

    def test_matrix(self, files, folder):
        edit(files[2], Rows=8)
        error = refusal(read_image, folder)
        assert error.reason == "mixed-matrix"
        assert "12x8 and 12x10" in error.got

    def test_pixel_spacing(self, files, folder):
        edit(files[2], PixelSpacing=[1.0, 1.5])
        assert reason(read_image, folder) == "mixed-matrix"

    def test_frame_of_reference(self, files, folder):
        edit(files[2], FrameOfReferenceUID="1.2.3")
        assert reason(read_image, folder) == "mixed-frame-of-reference"

    def test_patient(self, files, folder):
        edit(files[2], PatientID="another")
        assert reason(read_image, folder) == "mixed-patient"

    def test_localizer_inside(self, files, folder):
        edit(files[0], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
        error = refusal(read_image, folder)
        assert error.reason == "localizer"
        assert "1 localizer image" in error.got

    def test_localizers_alone(self, files, folder):
        edit(files, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
        assert reason(read_image, folder) == "localizer"


MISSING = [
    ("FrameOfReferenceUID", "no-frame-of-reference"),
    ("ImagePositionPatient", "no-position"),
    ("ImageOrientationPatient", "no-position"),
    ("PixelSpacing", "no-spacing"),
]


class TestIncomplete:
    @pytest.mark.parametrize(("keyword", "slug"), MISSING)
    @pytest.mark.parametrize("which", [slice(None), slice(2, 3)], ids=["everywhere", "in one slice"])
    def test_attribute_missing(self, files, folder, keyword, slug, which):
        edit(files[which], **{keyword: None})
        error = refusal(read_image, folder)
        assert error.reason == slug
        assert f"{len(files[which])} of 8 images" in error.got

    @pytest.mark.parametrize(("keyword", "slug"), MISSING)
    def test_attribute_empty(self, files, folder, keyword, slug):
        edit(files, **{keyword: ""})
        assert reason(read_image, folder) == slug

    @pytest.mark.parametrize("value", [[0, 0], [-1.5, 1.5], [1e-9, 1.5]], ids=["zero", "negative", "below atoms"])
    def test_spacing_that_is_none(self, files, folder, value):
        edit(files, PixelSpacing=value)
        assert reason(read_image, folder) == "no-spacing"

    def test_uids_missing(self, files, folder):
        edit(files, SOPClassUID="", SeriesInstanceUID="")
        assert reason(read_image, folder) == "no-uid"

    @pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
    @pytest.mark.parametrize("value", [None, ""], ids=["missing", "empty"])
    @pytest.mark.parametrize("which", [slice(None), slice(2, 3)], ids=["everywhere", "in one slice"])
    def test_a_uid_that_is_missing_is_named(self, files, folder, keyword, value, which):
        edit(files[which], **{keyword: value})
        error = refusal(read_image, folder)
        assert error.reason == "no-uid"
        assert f"'{files[which][0].name}' has no {keyword}" in error.got
        assert describe(folder)["refused"] == error.as_dict()

    def test_orientation_that_is_none(self, files, folder):
        edit(files, ImageOrientationPatient=[1, 0, 0, 1, 0, 0])
        assert reason(read_image, folder) == "bad-orientation"

    def test_damaged_rescale(self, files, folder):
        edit(files, RescaleSlope="0", RescaleIntercept="0")
        assert reason(read_image, folder) == "bad-rescale"


class TestFourDimensions:
    @pytest.mark.parametrize(
        ("keyword", "value", "name"),
        [
            ("TemporalPositionIdentifier", 2, "time"),
            ("DiffusionBValue", 800.0, "b-value"),
            ("EchoTime", "90", "echo time"),
            ("ImageType", ["ORIGINAL", "PRIMARY", "P"], "image type"),
        ],
    )
    def test_classic(self, files, folder, keyword, value, name):
        for n, file in enumerate(files):
            copy_of(file, folder / f"second-{n}.dcm", **{keyword: value})
        error = refusal(read_image, folder)
        assert error.reason == "4d"
        assert name in error.got

    def test_enhanced(self, tmp_path):
        write_enhanced(small_volume(), tmp_path / "enhanced.dcm", times=2)
        assert reason(read_image, tmp_path) == "4d"


class TestObjects:
    @pytest.mark.parametrize(
        ("uid", "name"),
        [
            ("1.2.840.10008.5.1.4.1.1.7", "Secondary Capture"),
            ("1.2.840.10008.5.1.4.1.1.481.3", "RT Structure Set"),
            ("1.2.840.10008.5.1.4.1.1.1.1", "Digital X-Ray"),
        ],
    )
    def test_unsupported(self, files, folder, uid, name):
        edit(files, SOPClassUID=uid)
        error = refusal(read_image, folder)
        assert error.reason == "unsupported-sop-class"
        assert name in error.got

    def test_one_capture_inside_the_series(self, files, folder):
        edit(files[-1], SOPClassUID="1.2.840.10008.5.1.4.1.1.7")
        assert reason(read_image, folder) == "unsupported-sop-class"

    def test_colour(self, files, folder):
        edit(files, PhotometricInterpretation="RGB", SamplesPerPixel=3)
        assert reason(read_image, folder) == "not-greyscale"

    def test_several_enhanced_objects(self, tmp_path):
        for n in (1, 2):
            write_enhanced(small_volume(), tmp_path / f"{n}.dcm")
            edit(tmp_path / f"{n}.dcm", SeriesInstanceUID="1.2.3")
        assert reason(read_image, tmp_path) == "several-multiframe"

    def test_size_limit(self, folder, monkeypatch):
        monkeypatch.setattr(samreg.io.limits, "MAX_VOXELS", 900)
        assert reason(read_image, folder) == "size-limit"


class TestPixels:
    @pytest.mark.parametrize("kept", [0.9, 0.2])
    def test_truncated_file(self, files, folder, kept):
        raw, pixels = files[4].read_bytes(), 12 * 10 * 2
        files[4].write_bytes(raw[: len(raw) - int(pixels * (1 - kept))])
        error = refusal(read_image, folder)
        assert error.reason == "undecodable-pixels"
        assert "slice 5 of 8" in error.got

    @pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless], ids=["RLE", "JPEG-LS"])
    def test_truncated_stream(self, tmp_path, syntax):
        files = write_dicom_series(small_volume(shape=(64, 48, 4)), tmp_path)

        def shorten(dataset):
            dataset.compress(syntax, generate_instance_uid=False)
            stream = next(generate_frames(dataset.PixelData, number_of_frames=1))
            dataset.PixelData = encapsulate([stream[: len(stream) // 4 * 3]])

        edit(files[1], shorten)
        assert reason(read_image, tmp_path) == "undecodable-pixels"

    def test_no_pixels(self, files, folder):
        edit(files[4], PixelData=None)
        assert reason(read_image, folder) == "undecodable-pixels"

    def test_unknown_transfer_syntax(self, files, folder):
        def mpeg(dataset):
            dataset.PixelData = encapsulate([b"\x00\x00\x01\xb3" * 20])
            dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"

        edit(files[4], mpeg)
        assert reason(read_image, folder) == "undecodable-pixels"


class TestPair:
    @pytest.mark.parametrize(
        ("values", "word"),
        [
            ({"PatientID": "other"}, "patient ID"),
            ({"PatientName": "Other^Person"}, "name"),
            ({"PatientBirthDate": "19800101"}, "birth date"),
            ({"PatientBirthDate": ""}, "birth date"),
            ({"PatientSex": "F"}, "sex"),
            ({"IssuerOfPatientID": "Elsewhere"}, "issuer"),
        ],
    )
    def test_different_patients(self, tmp_path, values, word):
        write_small(tmp_path / "a", overrides={"IssuerOfPatientID": "Clinic"})
        write_small(tmp_path / "b", overrides={"IssuerOfPatientID": "Clinic", **values})
        error = refusal(read_pair, tmp_path / "a", tmp_path / "b")
        assert error.reason == "different-patients"
        assert word in error.got
        assert not any(str(value) in str(error) for value in values.values() if value)
        read_pair(tmp_path / "a", tmp_path / "b", allow_different_patients=True)

    def test_no_patient_id(self, tmp_path):
        for name in "ab":
            write_small(tmp_path / name, overrides={"PatientID": ""})
        assert reason(read_pair, tmp_path / "a", tmp_path / "b") == "no-patient-id"

    def test_the_same_series_twice(self, folder):
        assert reason(read_pair, folder, folder) == "same-series"

    def test_a_copy_of_the_series(self, tmp_path, folder):
        shutil.copytree(folder, tmp_path / "copy")
        assert reason(read_pair, folder, tmp_path / "copy") == "same-series"

    def test_a_copy_under_another_series_uid(self, tmp_path, folder):
        shutil.copytree(folder, tmp_path / "copy")
        edit(sorted((tmp_path / "copy").iterdir()), SeriesInstanceUID="1.2.3")
        assert reason(read_pair, folder, tmp_path / "copy") == "same-series"

    def test_the_same_file(self, tmp_path):
        nibabel = pytest.importorskip("nibabel")
        nibabel.save(nibabel.Nifti1Image(small_volume().voxels, np.eye(4)), tmp_path / "a.nii")
        (tmp_path / "b.nii").symlink_to(tmp_path / "a.nii")
        assert reason(read_pair, tmp_path / "a.nii", tmp_path / "b.nii") == "same-series"

    def test_a_picture_with_a_volume(self, tmp_path):
        nibabel = pytest.importorskip("nibabel")
        nibabel.save(nibabel.Nifti1Image(small_volume().voxels, np.eye(4)), tmp_path / "a.nii")
        nibabel.save(nibabel.Nifti1Image(small_volume().voxels[:, :, :1], np.eye(4)), tmp_path / "b.nii")
        assert reason(read_pair, tmp_path / "a.nii", tmp_path / "b.nii") == "mixed-dimensions"


class TestRoles:
    def test_three_series(self, tmp_path):
        for n in range(3):
            write_small(tmp_path / str(n), overrides={"AcquisitionTime": f"1{n}0000"})
        error = refusal(find_pair, tmp_path)
        assert error.reason == "several-series"
        assert "(3)" in error.got

    def test_three_series_and_one_uid(self, tmp_path):
        for n in range(3):
            write_small(tmp_path / str(n), series_uid=f"1.2.{n}")
        assert reason(find_pair, tmp_path, fixed_series="1.2.0") == "several-series"

    def test_one_series(self, folder):
        assert reason(find_pair, folder) == "too-few-series"

    def test_no_series(self, tmp_path):
        assert reason(find_pair, tmp_path) == "empty-folder"

    def test_the_same_uid_for_both(self, folder):
        assert reason(find_pair, folder, fixed_series="1.2", moving_series="1.2") == "same-series"

    def test_equal_times(self, tmp_path):
        for name in "ab":
            write_small(tmp_path / name)
        error = refusal(find_pair, tmp_path)
        assert error.reason == "no-acquisition-time"
        assert "--fixed-series" in error.next_step

    def test_no_times(self, tmp_path):
        nothing = {f"{stem}Time": None for stem in ("Acquisition", "Series", "Study")}
        for name in "ab":
            write_small(tmp_path / name, overrides=nothing)
        assert reason(find_pair, tmp_path) == "no-acquisition-time"

    def test_several_series_in_a_sub_folder(self, tmp_path):
        for name in ("fixed/1", "fixed/2", "moving"):
            write_small(tmp_path / name)
        assert reason(find_pair, tmp_path) == "several-series"
