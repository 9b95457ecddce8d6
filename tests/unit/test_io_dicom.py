"""DICOM series become the volumes that they are."""

from __future__ import annotations

import json
import logging

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from samreg.errors import InputRefused
from samreg.geometry import Volume
from samreg.io import check_series, describe, describe_pair, find_pair, find_series, read_image, read_pair
from samreg.phantoms import write_dicom_series
from tests.dicom_series import edit, rotation, small_volume, write_enhanced, write_small
from tests.shared import DATA

FLIPPED = np.diag([-1.0, 1.0, -1.0])
SAGITTAL = np.array([[0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


def at_same_places(volume: Volume, other: Volume) -> np.ndarray:
    """Values of `other` at the voxel centres of `volume`."""
    ijk = other.grid.index(volume.grid.points())
    nearest = np.round(ijk).astype(int)
    assert np.abs(ijk - nearest).max() < 1e-3
    return other.voxels[tuple(np.moveaxis(nearest, -1, 0))]


@pytest.mark.parametrize(
    ("spacing", "direction"),
    [
        ((1.5, 1.5, 4.0), None),
        ((0.7, 1.9, 3.0), rotation()),
        ((2.0, 1.0, 8.0), FLIPPED),
        ((1.0, 1.2, 2.5), SAGITTAL),
        ((1.0, 1.2, 2.5), rotation(40) @ np.diag([1.0, 1.0, -1.0])),
    ],
    ids=["axial", "oblique, pixels not square", "flipped", "sagittal", "left-handed"],
)
def test_a_voxel_keeps_its_value_and_its_place(tmp_path, spacing, direction):
    written = small_volume(spacing=spacing, direction=direction)
    write_dicom_series(written, tmp_path)
    read = read_image(tmp_path)
    assert read.voxels.dtype == np.float32
    assert read.grid.shape == written.grid.shape
    np.testing.assert_allclose(read.grid.spacing_mm, spacing, rtol=1e-6)
    np.testing.assert_array_equal(at_same_places(read, written), read.voxels)


def test_slices_run_along_the_normal_and_files_follow_them(tmp_path):
    write_dicom_series(small_volume(direction=rotation() @ FLIPPED), tmp_path)
    read = read_image(tmp_path)
    assert np.linalg.det(read.grid.direction) == pytest.approx(1.0)
    assert len(read.source.files) == len(read.source.instances) == 8
    assert read.source.frames == ()
    for k, (file, (_, uid)) in enumerate(zip(read.source.files, read.source.instances, strict=True)):
        dataset = dcmread(file, stop_before_pixels=True)
        assert dataset.SOPInstanceUID == uid
        np.testing.assert_allclose(dataset.ImagePositionPatient, read.grid.lps(np.array([0, 0, k])), atol=1e-6)


def test_highdicom_reads_the_same(tmp_path):
    files = write_dicom_series(small_volume(spacing=(0.7, 1.9, 3.0), direction=rotation()), tmp_path)
    edit(files[::2], RescaleSlope="2.5", RescaleIntercept="-7")
    edit(files[1::2], RescaleSlope="0.5", RescaleIntercept="3")
    read = read_image(tmp_path)
    other = hd.get_volume_from_series([dcmread(f) for f in files], apply_presentation_lut=False)
    ijk = (np.linalg.inv(other.affine) @ np.append(read.grid.lps(np.array([3, 2, 5])), 1))[:3]
    assert other.array[tuple(np.round(ijk).astype(int))] == read.voxels[3, 2, 5]
    assert sorted(other.array.ravel()) == pytest.approx(sorted(read.voxels.ravel()))


def test_each_slice_has_its_own_rescale(tmp_path):
    written = small_volume()
    files = write_dicom_series(written, tmp_path, modality="MR")
    slopes = 0.5 + np.arange(8)
    for file, slope in zip(files, slopes, strict=True):
        edit(file, RescaleSlope=str(slope), RescaleIntercept="10")
    np.testing.assert_allclose(read_image(tmp_path).voxels, written.voxels * slopes + 10, rtol=1e-6)


def test_ct_is_in_hounsfield_units(tmp_path):
    written = small_volume(modality="CT")
    write_dicom_series(Volume(written.voxels - 1000, written.grid, modality="CT"), tmp_path)
    read = read_image(tmp_path)
    np.testing.assert_array_equal(read.voxels, written.voxels - 1000)
    assert read.modality == "CT"


def test_monochrome1_keeps_its_values(tmp_path):
    files = write_small(tmp_path)
    plain = read_image(tmp_path).voxels
    edit(files, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read_image(tmp_path).voxels, plain)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless], ids=["RLE", "JPEG 2000", "JPEG-LS"])
def test_compressed_pixels_decode_to_the_same_values(tmp_path, syntax):
    files = write_dicom_series(small_volume(shape=(64, 48, 4)), tmp_path)
    plain = read_image(tmp_path).voxels
    edit(files, lambda dataset: dataset.compress(syntax, generate_instance_uid=False))
    np.testing.assert_array_equal(read_image(tmp_path).voxels, plain)


def test_an_enhanced_object_is_read_in_order_of_its_slices(tmp_path):
    written = small_volume(spacing=(0.7, 1.9, 3.0), direction=rotation())
    slopes, order = 1.0 + np.arange(8), [3, 0, 7, 1, 2, 6, 5, 4]
    write_enhanced(written, tmp_path / "enhanced.dcm", order=order, slopes=slopes)
    read = read_image(tmp_path / "enhanced.dcm")
    np.testing.assert_allclose(read.voxels, written.voxels * slopes)
    np.testing.assert_allclose(read.grid.affine, written.grid.affine, atol=1e-6)
    assert len(read.source.instances) == len(read.source.files) == 1
    assert [order[n - 1] for n in read.source.frames] == list(range(8))


def test_rounded_positions_are_no_uneven_spacing(tmp_path):
    files = write_dicom_series(small_volume(spacing=(1.0, 1.0, 0.625)), tmp_path)
    for file in files:
        position = [round(float(v), 1) for v in dcmread(file).ImagePositionPatient]
        edit(file, ImagePositionPatient=position)
    assert read_image(tmp_path).grid.spacing_mm[2] == pytest.approx(0.625, abs=0.02)


def test_junk_and_links_are_skipped_and_counted(tmp_path):
    folder, elsewhere = tmp_path / "series", tmp_path / "elsewhere"
    write_small(folder / "deep")
    other = write_small(elsewhere)
    (folder / "notes.txt").write_text("not an image")
    (folder / "other.dcm").write_bytes(b"not DICOM")
    (folder / "link.dcm").symlink_to(other[0])
    (folder / "linked").symlink_to(elsewhere)
    found = find_series(folder)
    assert (len(found.series), found.skipped, found.links) == (1, 2, 2)
    note = read_image(folder).notes["skipped"]
    assert "2 files skipped" in note
    assert "2 symbolic links" in note


def test_other_objects_in_the_folder_are_left_aside_with_a_note(tmp_path):
    write_small(tmp_path / "images")
    captures = write_small(tmp_path / "captures")
    edit(captures, SOPClassUID="1.2.840.10008.5.1.4.1.1.7")
    scout = write_small(tmp_path / "scout")
    edit(scout, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    assert "2 series" in read_image(tmp_path).notes["other_series"]


def test_a_series_is_chosen_by_its_uid(tmp_path):
    write_small(tmp_path / "a", series_uid="1.2.3", seed=1)
    write_small(tmp_path / "b", series_uid="1.2.4", seed=2)
    np.testing.assert_array_equal(read_image(tmp_path, series_uid="1.2.4").voxels, small_volume(seed=2).voxels)


def test_descriptions_hold_no_patient_data(tmp_path):
    write_small(tmp_path / "a", overrides={"PatientName": "Secret^Person", "PatientID": "SECRET-7"})
    write_small(tmp_path / "b", overrides={"PatientName": "Other^Person", "PatientID": "SECRET-8"})
    described = describe(tmp_path / "a")
    assert described["size"] == [12, 10, 8]
    assert described["spacing_mm"] == [1.5, 1.5, 4.0]
    assert (described["slices"], described["modality"], described["refused"]) == (8, "MR", None)
    both = describe_pair(tmp_path / "a", tmp_path / "b")
    assert both["refused"]["reason"] == "different-patients"
    text = json.dumps([described, both]).lower()
    assert not any(word in text for word in ("secret", "person", "1970"))


def test_a_description_needs_no_pixels(tmp_path):
    files = write_small(tmp_path)
    for file in files:
        file.write_bytes(file.read_bytes()[:-50])
    assert describe(tmp_path)["refused"] is None
    with pytest.raises(InputRefused):
        read_image(tmp_path)


class TestPair:
    def test_one_patient(self, tmp_path):
        write_small(tmp_path / "a", overrides={"PatientName": "DOE^Zoë", "IssuerOfPatientID": "Clinic"})
        write_small(tmp_path / "b", overrides={"PatientName": "Doe^Zoë^^^"}, seed=1)
        fixed, moving = read_pair(tmp_path / "a", tmp_path / "b")
        assert fixed.frame_of_reference_uid != moving.frame_of_reference_uid
        assert "patient_check" not in fixed.notes

    def test_an_override_is_logged_and_noted_without_values(self, tmp_path, caplog):
        write_small(tmp_path / "a", overrides={"PatientID": "SECRET-7"})
        write_small(tmp_path / "b", overrides={"PatientID": "SECRET-8"}, seed=1)
        with caplog.at_level(logging.WARNING):
            pair = read_pair(tmp_path / "a", tmp_path / "b", allow_different_patients=True)
        assert "patient ID" in caplog.text
        assert "SECRET" not in caplog.text
        for volume in pair:
            assert "patient ID" in volume.notes["patient_check"]
            assert "SECRET" not in volume.notes["patient_check"]

    def test_a_copy_under_other_uids_is_warned_of(self, tmp_path):
        for name in "ab":
            write_small(tmp_path / name)
        for volume in read_pair(tmp_path / "a", tmp_path / "b"):
            assert "the same voxels" in volume.notes["identical"]

    def test_dicom_with_nifti_is_noted(self, tmp_path):
        nibabel = pytest.importorskip("nibabel")
        write_small(tmp_path / "a")
        nibabel.save(nibabel.Nifti1Image(small_volume(seed=1).voxels, np.diag([2.0, 2, 2, 1])), tmp_path / "b.nii.gz")
        _, moving = read_pair(tmp_path / "a", tmp_path / "b.nii.gz")
        assert "not possible" in moving.notes["patient_check"]

    def test_two_series_of_one_folder(self, tmp_path):
        write_small(tmp_path / "a", series_uid="1.2.3", seed=1)
        write_small(tmp_path / "b", series_uid="1.2.4", seed=2)
        fixed, moving = read_pair(tmp_path, tmp_path, fixed_series="1.2.4", moving_series="1.2.3")
        assert (fixed.source.series_uid, moving.source.series_uid) == ("1.2.4", "1.2.3")


class TestRoles:
    def roles(self, folder, **options):
        fixed, moving, sentence = find_pair(folder, **options)
        return fixed.series_uid, moving.series_uid, sentence

    def write_two(self, folder, first=None, second=None):
        write_small(folder / "x" / "1", series_uid="1.2.1", overrides=first)
        write_small(folder / "x" / "2", series_uid="1.2.2", overrides=second)

    def test_sub_folders_come_first(self, tmp_path):
        write_small(tmp_path / "fixed", series_uid="1.2.1")
        write_small(tmp_path / "moving", series_uid="1.2.2")
        fixed, moving, sentence = self.roles(tmp_path)
        assert (fixed, moving) == ("1.2.1", "1.2.2")
        assert "sub-folders" in sentence

    def test_given_uids_come_before_times(self, tmp_path):
        self.write_two(tmp_path, second={"AcquisitionDate": "20990101"})
        assert self.roles(tmp_path, fixed_series="1.2.1", moving_series="1.2.2")[:2] == ("1.2.1", "1.2.2")
        assert self.roles(tmp_path, fixed_series="1.2.1")[:2] == ("1.2.1", "1.2.2")
        assert self.roles(tmp_path, moving_series="1.2.2")[:2] == ("1.2.1", "1.2.2")

    @pytest.mark.parametrize(
        ("first", "second", "rule"),
        [
            ({"AcquisitionDateTime": "20240101120000.5"}, {"AcquisitionDateTime": "20240101120001"}, "DateTime"),
            ({"AcquisitionTime": "1000"}, {"AcquisitionTime": "100001.25"}, "AcquisitionDate and AcquisitionTime"),
            ({"AcquisitionDateTime": "20250101120000"}, {"AcquisitionTime": "235959"}, "AcquisitionTime"),
            ({"AcquisitionTime": None, "SeriesTime": "1000"}, {"SeriesTime": "1001"}, "SeriesDate and SeriesTime"),
            (
                {"AcquisitionTime": None, "SeriesTime": None, "StudyTime": "1000"},
                {"StudyTime": "1001"},
                "StudyDate and StudyTime",
            ),
        ],
    )
    def test_the_later_series_is_fixed(self, tmp_path, first, second, rule):
        self.write_two(tmp_path, first, second)
        fixed, moving, sentence = self.roles(tmp_path)
        assert (fixed, moving) == ("1.2.2", "1.2.1")
        assert rule in sentence

    def test_time_zones_count(self, tmp_path):
        # 12:00 in New York is later than 13:00 in Paris.
        self.write_two(
            tmp_path, {"AcquisitionDateTime": "20240101120000-0500"}, {"AcquisitionDateTime": "20240101130000+0100"}
        )
        assert self.roles(tmp_path)[0] == "1.2.1"

    def test_reports_beside_the_two_series_do_not_matter(self, tmp_path):
        self.write_two(tmp_path, second={"AcquisitionTime": "235959"})
        edit(write_small(tmp_path / "structures")[:1], SOPClassUID="1.2.840.10008.5.1.4.1.1.481.3")
        for file in sorted((tmp_path / "structures").iterdir())[1:]:
            file.unlink()
        assert self.roles(tmp_path)[0] == "1.2.2"


@pytest.mark.shared("decubitus", "ct_dicom")
class TestRealSeries:
    def test_decubitus(self):
        fixed, moving = read_pair(DATA / "decubitus" / "HFS", DATA / "decubitus" / "HFDR")
        assert fixed.grid.shape == moving.grid.shape == (256, 256, 35)
        np.testing.assert_allclose(fixed.grid.spacing_mm, [1.015625, 1.015625, 4.8], atol=1e-4)
        assert fixed.frame_of_reference_uid != moving.frame_of_reference_uid

    def test_decubitus_roles(self, tmp_path):
        for name in ("HFS", "HFDR"):
            (tmp_path / name).mkdir()
            for file in (DATA / "decubitus" / name).iterdir():
                (tmp_path / name / file.name).write_bytes(file.read_bytes())
        fixed, _, _ = find_pair(tmp_path)
        assert fixed.files[0].parent.name == "HFDR"

    def test_ct_without_uids_is_refused_and_with_uids_is_read(self, tmp_path):
        with pytest.raises(InputRefused) as caught:
            read_image(DATA / "ct_dicom")
        assert caught.value.reason == "no-uid"
        for n, file in enumerate(sorted((DATA / "ct_dicom").glob("*.dcm"))):
            dataset = dcmread(file)
            dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID
            dataset.SOPInstanceUID, dataset.SeriesInstanceUID = f"1.2.3.{n}", "1.2.3"
            dataset.StudyInstanceUID = "1.2"
            dataset.save_as(tmp_path / f"{n}.dcm")
        read = read_image(tmp_path)
        assert read.grid.shape == (512, 512, 20)
        assert -1100 < read.voxels.min() < -900
        other = hd.get_volume_from_series(
            [dcmread(f) for f in sorted(tmp_path.iterdir())], apply_presentation_lut=False
        ).array
        assert read.voxels.mean() == pytest.approx(other.mean())
        assert check_series(find_series(tmp_path).series[0]).grid.spacing_mm[2] == pytest.approx(2.0)
