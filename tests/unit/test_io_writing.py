"""Every reader finds a written image where it lies, on a sheared grid too, and its integers as they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from samreg.counterparts import Located, Point
from samreg.errors import UsageError
from samreg.geometry import Grid
from samreg.io.labels import read_labels
from samreg.io.writing import WRITTEN_SUFFIXES, writable_grid, write_image, write_labels
from samreg.outputs import write_files, write_located
from samreg.rois import Roi, RoiPair, RoiPairs
from tests.report_result import head_phantom, plausible_result
from tests.written import assert_in_place, read_by_every_reader, tilted, told_by_place

NIFTI = (".nii", ".nii.gz")
GRIDS = {"tilt": tilted(), "slice": tilted((12, 10, 1)), "too little to tell": tilted(degrees=0.0196)}
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


@pytest.mark.parametrize("suffix", WRITTEN_SUFFIXES)
@pytest.mark.parametrize("kind", INTEGERS)
def test_each_integer_type_is_read_as_it_was_written(tmp_path: Path, kind: str, suffix: str):
    limits = np.iinfo(kind)
    labels = np.random.default_rng(0).choice(np.array([0, 1, limits.max - 1, limits.max, limits.min], kind), (4, 3, 2))
    write_image(labels, Grid.from_axes(labels.shape, (1, 2, 3)), tmp_path / f"a{suffix}")
    for name, (values, _) in read_by_every_reader(tmp_path / f"a{suffix}").items():
        assert values.dtype == kind, name
        np.testing.assert_array_equal(values, labels, err_msg=name)


@pytest.mark.parametrize("suffix", WRITTEN_SUFFIXES)
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_the_corners_of_a_sheared_grid_lie_where_every_reader_says(tmp_path: Path, grid: Grid, suffix: str):
    path = tmp_path / f"a{suffix}"
    target = writable_grid(grid, path)
    assert (target is grid) == (suffix not in NIFTI or not grid.is_sheared)
    write_image(told_by_place(target).voxels, target, path)
    assert_in_place(path, covered=grid)
    for name, (_, affine) in read_by_every_reader(path).items():
        assert Grid(target.shape, affine).same_as(target, 0.01), name


@pytest.mark.parametrize("suffix", NIFTI)
def test_a_sheared_grid_itself_is_not_written_as_nifti(tmp_path: Path, suffix: str):
    with pytest.raises(UsageError, match="not perpendicular") as caught:
        write_image(np.zeros(tilted().shape, np.uint8), tilted(), tmp_path / f"a{suffix}")
    assert "NRRD" in caught.value.next_step
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", WRITTEN_SUFFIXES)
def test_a_label_of_a_sheared_grid_stays_in_its_place(tmp_path: Path, suffix: str):
    grid = tilted()
    labels = np.zeros(grid.shape, np.uint64)
    labels[2:7, 3:8, 1:6] = 2**63 + 1
    write_labels(labels, grid, tmp_path / f"a{suffix}")
    for name, (values, affine) in read_by_every_reader(tmp_path / f"a{suffix}").items():
        read = Grid(values.shape, affine)
        assert set(np.unique(values).tolist()) == {0, 2**63 + 1}, name
        # A voxel's own centre is at most half a voxel away from where it is looked up.
        there = values[tuple(np.round(read.index(grid.points())).astype(int).reshape(-1, 3).T)].reshape(grid.shape)
        np.testing.assert_array_equal(there[3:6, 4:7, 2:5], labels[3:6, 4:7, 2:5], err_msg=name)
        assert np.abs((values > 0).sum() / (labels > 0).sum() - 1) < 0.25, name


@pytest.mark.parametrize("suffix", WRITTEN_SUFFIXES)
def test_labels_of_a_grid_whose_axes_were_rounded_fit_it_again(tmp_path: Path, suffix: str):
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", (12, -7, 20), degrees=True).as_matrix()
    affine[:3, :3] = np.round(turn @ np.diag([0.9375, 0.9375, 1.5]), 4)
    grid = Grid((256, 256, 124), affine)
    assert grid.is_sheared
    labels = np.zeros(grid.shape, np.uint8)
    labels[100:120, 50:90, 10:20] = 3
    write_labels(labels, grid, tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(read_labels(tmp_path / f"a{suffix}", grid), labels)


def test_all_images_of_a_run_on_a_sheared_grid_are_in_place(tmp_path: Path):
    grid = tilted((24, 28, 16))
    around = grid.bounding_grid(6.0, 20.0)
    result, _ = plausible_result(head_phantom((24, 28, 20), (8.0, 8.0, 9.0)), kind="identity", rois=2)
    pairs = RoiPairs(grid, around, (RoiPair(1, _middle(grid), _middle(around), 1.0, 1.0),))
    result = replace(result, fixed=told_by_place(grid), moving=told_by_place(around), pairs=pairs)
    report = write_files(result, tmp_path)
    assert_in_place(tmp_path / "warped.nii.gz", covered=grid)
    _assert_middle(tmp_path / "rois_fixed.nii.gz", grid)
    _assert_middle(tmp_path / "rois_moving.nii.gz", around)
    assert [w for w in report["warnings"] if "the fixed image" in w and "perpendicular grid" in w]
    assert not [w for w in report["warnings"] if "the moving image" in w]


def test_a_located_region_on_a_sheared_grid_is_in_place(tmp_path: Path):
    grid = tilted((24, 28, 16))
    roi = _middle(grid)
    write_located(Located(Point(grid.centre_lps), roi, roi, grid, grid, None, None, 1.0, "prompts"), tmp_path)
    for side in ("fixed", "moving"):
        _assert_middle(tmp_path / f"roi_{side}.nii.gz", grid)


def _middle(grid: Grid) -> Roi:
    return Roi.from_mask(np.ones((4, 4, 4), bool), offset=[n // 2 - 2 for n in grid.shape])


def _assert_middle(path: Path, grid: Grid) -> None:
    expected = grid.lps(np.asarray(_middle(grid).centroid_ijk)[None])[0]
    for name, (values, affine) in read_by_every_reader(path).items():
        found = Grid(values.shape, affine).lps(np.argwhere(values == 1)).mean(0)
        assert np.linalg.norm(found - expected) < 2, name  # half a voxel of nearest neighbour
