"""Phantoms: the truth is true, the pose is unambiguous, the series are what a scanner would write."""

import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from scipy.ndimage import binary_erosion
from scipy.spatial.transform import Rotation

from samreg import phantoms
from samreg.errors import UsageError
from samreg.geometry import Grid
from samreg.transforms import Affine, Rigid, about_centre, compose

SMALL = phantoms.grid("axial", 48)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1])


@pytest.mark.parametrize("kind", ["identity", "rigid", "affine", "deformable"])
def test_labels_of_both_images_agree_through_the_truth(kind):
    phantom = phantoms.pair(kind, fixed_grid=SMALL, moving_grid=phantoms.grid("oblique", 48))
    points = phantom.fixed.grid.lps(np.argwhere(phantom.fixed_labels > 0).astype(float))
    index = np.round(phantom.moving.grid.index(phantom.truth.map_points(points))).astype(int)
    seen = ((index >= 0) & (index < phantom.moving.grid.shape)).all(-1)
    there = phantom.moving_labels[tuple(index[seen].T)]
    assert seen.mean() > 0.8
    # What differs is rounding to the voxel at the organs' borders.
    assert (there == phantom.fixed_labels[phantom.fixed_labels > 0][seen]).mean() > 0.75


@pytest.mark.parametrize("name", ["axial", "anisotropic", "oblique", "flipped", "sagittal", "thin", "picture"])
def test_every_grid_shows_the_organs(name):
    phantom = phantoms.pair("identity", fixed_grid=phantoms.grid(name, 48))
    shown = np.unique(phantom.fixed_labels[phantom.body])
    assert len(shown) - 1 >= 18
    assert shown.max() <= len(phantom.names)
    assert 0.3 < phantom.body.mean() < 0.7
    assert not phantom.fixed_labels[~phantom.body].any()


def test_the_same_seed_gives_the_same_voxels_and_another_seed_others():
    first, again, other = (phantoms.pair("affine", seed=s, fixed_grid=SMALL) for s in (4, 4, 5))
    assert np.array_equal(first.fixed.voxels, again.fixed.voxels)
    assert np.array_equal(first.moving.voxels, again.moving.voxels)
    assert not np.array_equal(first.fixed_labels, other.fixed_labels)


def test_the_truth_has_no_error_and_a_shift_has_its_length():
    phantom = phantoms.pair("deformable", fixed_grid=SMALL)
    shift = Rigid(about_centre(np.eye(3), np.array([3.0, 4, 0]), np.zeros(3)))
    assert phantom.errors_mm(phantom.truth).max() == 0
    assert phantom.errors_mm(phantom.truth.then(shift)) == pytest.approx(5.0)


@pytest.mark.parametrize("name", ["axial", "thin", "picture"])
def test_a_deformable_truth_does_not_fold_and_its_inverse_is_exact(name):
    phantom = phantoms.pair("deformable", fixed_grid=phantoms.grid(name, 48), peak_mm=15)
    assert phantom.truth.jacobian_determinant(phantom.fixed.grid).min() > 0.3
    points = phantom.fixed.grid.lps(np.argwhere(phantom.body)[::53].astype(float))
    back = phantom.truth.inverse().map_points(phantom.truth.map_points(points))
    assert np.linalg.norm(back - points, axis=-1).max() < 0.1
    if name == "picture":  # stays within its plane
        across = (phantom.truth.map_points(points) - points) @ phantom.fixed.grid.direction[:, 2]
        assert np.abs(across).max() < 1e-4


@pytest.mark.parametrize(("wrong_mm", "wrong_deg"), [(1.0, 0.0), (0.0, 1.0)])
def test_the_texture_tells_small_errors_of_pose(wrong_mm: float, wrong_deg: float):
    phantom = phantoms.pair("rigid", fixed_grid=phantoms.grid("axial", 80), noise=0.0)
    rotation = Rotation.from_euler("z", wrong_deg, degrees=True).as_matrix()
    error = Rigid(about_centre(rotation, np.array([wrong_mm, 0, 0]), phantom.fixed.grid.centre_lps))
    right, wrong = (
        correlation(t.warp(phantom.moving, phantom.fixed.grid)[phantom.body], phantom.fixed.voxels[phantom.body])
        for t in (phantom.truth, error.then(phantom.truth))
    )
    assert right > wrong + 0.004


def test_the_anatomy_is_not_symmetric():
    phantom = phantoms.pair("identity", fixed_grid=phantoms.grid("isotropic", 48), noise=0.0)
    for axes in ((0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)):
        turned = np.flip(phantom.fixed.voxels, axes)
        assert correlation(turned[phantom.body], phantom.fixed.voxels[phantom.body]) < 0.7


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_contrasts(modality):
    same, inverted, other = (
        phantoms.pair("identity", fixed_grid=SMALL, modality=modality, contrast=c, noise=0.0).moving
        for c in ("same", "inverted", "other")
    )
    body = phantoms.pair("identity", fixed_grid=SMALL).body
    inner = binary_erosion(body, iterations=3)
    assert correlation(same.voxels[inner], inverted.voxels[inner]) < -0.95
    assert abs(correlation(same.voxels[inner], other.voxels[inner])) < 0.7
    air = -1000.0 if modality == "CT" else 0.0
    assert same.voxels[0, 0, 0] == inverted.voxels[0, 0, 0] == pytest.approx(air)


def test_part_of_the_body_can_lie_outside_the_moving_image():
    phantom = phantoms.pair("rigid", fixed_grid=SMALL, outside=0.3, translation_mm=(0.0, 5.0, 0.0))
    points = phantom.fixed.grid.lps(np.argwhere(phantom.body)[::17].astype(float))
    seen = phantom.moving.grid.contains(phantom.truth.map_points(points)).mean()
    assert 0.4 < seen < 0.9
    count = phantom.errors_mm(compose([])).size
    assert phantom.errors_mm(compose([]), seen_only=True).size < 0.95 * count


def test_translation_and_rotation_are_what_was_asked():
    phantom = phantoms.pair("rigid", fixed_grid=SMALL, rotation_deg=25, translation_mm=64)
    assert isinstance(phantom.truth, Affine)
    matrix = phantom.truth.moving_from_fixed
    assert np.rad2deg(Rotation.from_matrix(matrix[:3, :3]).magnitude()) == pytest.approx(25)
    centre = phantom.fixed.grid.centre_lps
    assert np.linalg.norm(phantom.truth.map_points(centre[None])[0] - centre) == pytest.approx(64)


def test_unknown_names_are_refused():
    with pytest.raises(UsageError, match="kind"):
        phantoms.pair("elastic")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="grid"):
        phantoms.grid("round")  # type: ignore[arg-type]


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("name", ["oblique", "flipped", "sagittal"])
def test_series_place_every_voxel_where_it_was(tmp_path, name, modality):
    volume = phantoms.pair("identity", fixed_grid=phantoms.grid(name, 24), modality=modality).fixed
    files = phantoms.write_dicom_series(volume, tmp_path)
    assert len(files) == volume.grid.shape[2]
    for k in (0, len(files) - 1):
        ds = pydicom.dcmread(files[k])
        row, column = np.array(ds.ImageOrientationPatient, float).reshape(2, 3)
        position = np.array(ds.ImagePositionPatient, float)
        x, y = 7, 3  # column and row of a pixel
        lps = position + row * x * ds.PixelSpacing[1] + column * y * ds.PixelSpacing[0]
        assert np.allclose(lps, volume.grid.lps(np.array([[x, y, k]], float))[0], atol=1e-6)
        value = ds.pixel_array[y, x] * ds.get("RescaleSlope", 1) + ds.get("RescaleIntercept", 0)
        assert value == pytest.approx(volume.voxels[x, y, k], abs=0.51)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian package dicom3tools) is not installed")
@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_series_pass_dciodvfy(tmp_path, modality):
    volume = phantoms.pair("identity", fixed_grid=phantoms.grid("oblique", 24), modality=modality).fixed
    file = phantoms.write_dicom_series(volume, tmp_path)[3]
    check = subprocess.run(["dciodvfy", "-new", file], capture_output=True, text=True, timeout=60, check=False)
    assert check.returncode == 0
    assert "Error" not in check.stderr


def test_a_study_is_two_studies_of_one_patient(tmp_path):
    phantom = phantoms.pair("rigid", fixed_grid=phantoms.grid("picture", 24))
    folders = phantoms.write_dicom_study(phantom, tmp_path, patient=phantoms.Patient(id="X-1"))
    fixed, moving = (pydicom.dcmread(next(folder.iterdir())) for folder in folders)
    assert fixed.PatientID == moving.PatientID == "X-1"
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID"):
        assert fixed[keyword].value != moving[keyword].value
    assert fixed.StudyDate > moving.StudyDate


def test_overrides_set_and_delete_attributes(tmp_path):
    volume = phantoms.pair("identity", fixed_grid=phantoms.grid("picture", 24)).fixed
    overrides = {"PatientID": "other", "FrameOfReferenceUID": None}
    (file,) = phantoms.write_dicom_series(volume, tmp_path, study_uid="1.2.3", overrides=overrides)
    ds = pydicom.dcmread(file)
    assert (ds.PatientID, ds.StudyInstanceUID) == ("other", "1.2.3")
    assert "FrameOfReferenceUID" not in ds


def test_small_values_survive_through_a_rescale(tmp_path):
    volume = phantoms.pair("identity", fixed_grid=phantoms.grid("picture", 24)).fixed
    small = type(volume)(volume.voxels / 1000, volume.grid, modality="MR")
    (file,) = phantoms.write_dicom_series(small, tmp_path)
    ds = pydicom.dcmread(file)
    back = ds.pixel_array.T * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
    assert np.abs(back - small.voxels[:, :, 0]).max() < 1e-4


def test_sheared_grids_cannot_be_a_series(tmp_path):
    affine = np.eye(4)
    affine[0, 2] = 0.3
    volume = phantoms.pair("identity", fixed_grid=phantoms.grid("picture", 24)).fixed
    sheared = type(volume)(volume.voxels, Grid(volume.grid.shape, affine))
    with pytest.raises(UsageError, match="perpendicular"):
        phantoms.write_dicom_series(sheared, tmp_path)
