"""DREG: the layout of the grid, its error, and reading objects of others."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from samreg.dicom_out import read_deformable, verify_registration, write_objects
from samreg.dicom_out.common import matrix_item
from samreg.dicom_out.dreg import probe_points, sampled_field
from samreg.errors import InputRefused, OutputInvalid
from samreg.geometry import Grid, Volume
from samreg.transforms import DisplacementField
from tests.dicom_results import affine, deformable, result_of, rigid, small_series


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Volume, Volume]:
    folder = tmp_path_factory.mktemp("series")
    return small_series(folder / "fixed", 0), small_series(folder / "moving", 1)


@pytest.fixture(scope="module")
def file(images: tuple[Volume, Volume], tmp_path_factory: pytest.TempPathFactory) -> Path:
    transform, stage = deformable(images[0])
    result = result_of(*images, transform, kind="deformable", stages={"rigid": stage})
    return write_objects(result, tmp_path_factory.mktemp("objects")).files["dreg"]


@pytest.fixture
def dreg(file: Path) -> Dataset:
    return dcmread(file)


def grid_item(ds: Dataset) -> Dataset:
    return ds.DeformableRegistrationSequence[0].DeformableRegistrationGridSequence[0]


def test_vectors_run_along_x_first_and_point_to_the_moving_image(images, dreg):
    item = grid_item(dreg)
    assert list(item.ImageOrientationPatient) == [1, 0, 0, 0, 1, 0]
    n, m, _ = item.GridDimensions
    vectors = np.frombuffer(item.VectorGridData, "<f4").reshape(-1, 3)
    x, y, z = 3, 2, 1
    point = np.array(item.ImagePositionPatient, float) + np.array([x, y, z]) * np.array(item.GridResolution)
    transform, _ = deformable(images[0])
    np.testing.assert_allclose(point + vectors[x + n * (y + m * z)], transform.map_points(point[None])[0], atol=1e-4)


def test_the_object_states_frames_matrices_and_error(images, dreg):
    (item,) = dreg.DeformableRegistrationSequence
    assert dreg.FrameOfReferenceUID == images[0].frame_of_reference_uid
    assert item.SourceFrameOfReferenceUID == images[1].frame_of_reference_uid
    for when in ("Pre", "Post"):
        (matrix,) = item[f"{when}DeformationMatrixRegistrationSequence"].value
        assert [float(v) for v in matrix.FrameOfReferenceTransformationMatrix] == np.eye(4).ravel().tolist()
    assert "mm grid, interpolation error" in item.FrameOfReferenceTransformationComment
    assert len(item.FrameOfReferenceTransformationComment) <= 64


def test_the_nodes_enclose_the_image(images):
    fixed = images[0].grid
    field, error = sampled_field(affine(images[0]), fixed)
    assert error < 1e-3, "linear interpolation is exact for an affine"
    ijk = field.grid.index(probe_points(fixed))
    assert ijk.min() >= 0
    assert (ijk.max(0) <= np.array(field.grid.shape) - 1).all()
    assert np.array_equal(field.grid.direction, np.eye(3))


def test_a_sharper_transform_gets_a_finer_grid(images):
    fixed = images[0].grid
    smooth, _ = deformable(images[0], peak_mm=1.0)
    sharp, _ = deformable(images[0], peak_mm=20.0)
    (gentle, small), (bent, _) = sampled_field(smooth, fixed), sampled_field(sharp, fixed, tolerance_mm=0.2)
    assert bent.grid.spacing_mm[0] < gentle.grid.spacing_mm[0]
    assert small <= 0.1


def test_what_no_grid_can_carry_is_left_out_with_a_note(images, tmp_path):
    grid = images[0].grid.bounding_grid(0.9)
    jagged = DisplacementField(grid, np.random.default_rng(0).normal(0, 4, (*grid.shape, 3)).astype(np.float32))
    result = replace(result_of(*images, rigid(images[0]), kind="deformable"), transform=jagged)
    objects = write_objects(result, tmp_path)
    assert "dreg" not in objects.files
    assert not (tmp_path / "dreg.dcm").exists()
    assert any(n.startswith("No DREG") and "misses the transform by" in n for n in objects.notes)


def test_a_field_in_the_wrong_direction_does_not_pass(images, dreg, tmp_path):
    transform, _ = deformable(images[0])
    item = grid_item(dreg)
    item.VectorGridData = (-np.frombuffer(item.VectorGridData, "<f4")).tobytes()
    dreg.save_as(tmp_path / "wrong.dcm")
    with pytest.raises(OutputInvalid, match="misses the transform"):
        verify_registration(tmp_path / "wrong.dcm", transform, *images, 0.1)


def test_pre_and_post_matrices_of_foreign_objects_are_applied(images, dreg):
    """x_moving = post · (pre · x + D(x)), PS3.3 C.20.3.1.1."""
    alone = read_deformable(dreg)
    pre, post = rigid(images[1]), affine(images[1])
    (item,) = dreg.DeformableRegistrationSequence
    item.PreDeformationMatrixRegistrationSequence = [matrix_item(pre.moving_from_fixed)]
    item.PostDeformationMatrixRegistrationSequence = [matrix_item(post.moving_from_fixed)]
    points = probe_points(images[0].grid, 50)
    displaced = pre.map_points(points) + (alone.map_points(points) - points)
    np.testing.assert_allclose(read_deformable(dreg).map_points(points), post.map_points(displaced), atol=1e-3)


def test_absent_matrices_are_identities_and_oblique_grids_are_read(images, dreg):
    (item,) = dreg.DeformableRegistrationSequence
    del item.PreDeformationMatrixRegistrationSequence, item.PostDeformationMatrixRegistrationSequence
    grid = grid_item(dreg)
    # The grid seen from the other side: x and y swapped, z reversed.
    n = [int(v) for v in grid.GridDimensions]
    vectors = np.frombuffer(grid.VectorGridData, "<f4").reshape(n[2], n[1], n[0], 3)
    before = read_deformable(dreg)
    grid.ImageOrientationPatient = [0, 1, 0, 1, 0, 0]
    grid.GridDimensions = [n[1], n[0], n[2]]
    origin = [float(v) for v in grid.ImagePositionPatient]
    grid.ImagePositionPatient = [origin[0], origin[1], origin[2] + (n[2] - 1) * float(grid.GridResolution[2])]
    grid.VectorGridData = np.ascontiguousarray(vectors.transpose(0, 2, 1, 3)[::-1]).tobytes()
    points = probe_points(images[0].grid, 50)
    np.testing.assert_allclose(read_deformable(dreg).map_points(points), before.map_points(points), atol=1e-3)


def test_undefined_displacements_are_refused(dreg):
    item = grid_item(dreg)
    vectors = np.frombuffer(item.VectorGridData, "<f4").copy()
    vectors[7] = np.nan
    item.VectorGridData = vectors.tobytes()
    with pytest.raises(InputRefused, match="undefined"):
        read_deformable(dreg)


def test_a_matrix_alone_is_no_deformation(dreg):
    del dreg.DeformableRegistrationSequence[0].DeformableRegistrationGridSequence
    with pytest.raises(InputRefused, match="0 items with a deformation grid"):
        read_deformable(dreg)


def test_probe_points_cover_the_corners():
    grid = Grid.from_axes((4, 5, 6), (1, 2, 3))
    points = probe_points(grid, 10)
    assert points.min(0) == pytest.approx([-0.5, -1, -1.5])
    assert points.max(0) == pytest.approx([3.5, 9, 16.5])
