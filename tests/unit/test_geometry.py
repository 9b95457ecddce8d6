"""Index ↔ LPS mm and interpolation, on oblique, anisotropic, flipped and single-slice grids."""

import itertools

import numpy as np
import pytest
import SimpleITK
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from samreg.errors import UsageError
from samreg.geometry import Grid, Volume, gaussian_smooth, grid_points, inside, resample, sample
from samreg.geometry.sampling import HALF_WAY_VOX
from samreg.transforms import Affine

few = settings(max_examples=25, deadline=None, derandomize=True)
degrees = st.floats(-180, 180)


@st.composite
def grids(draw: st.DrawFn, min_voxels: int = 1) -> Grid:
    """Oblique, anisotropic, and in half the cases with a left-handed direction."""
    shape = draw(st.tuples(*[st.integers(min_voxels, 9)] * 3))
    spacing = draw(st.tuples(*[st.floats(0.3, 10)] * 3))
    direction = Rotation.from_euler("xyz", draw(st.tuples(degrees, degrees, degrees)), degrees=True).as_matrix()
    signs = draw(st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3))
    return Grid.from_axes(shape, spacing, draw(st.tuples(*[st.floats(-500, 500)] * 3)), direction * signs)


def itk_image(voxels: np.ndarray, grid: Grid) -> SimpleITK.Image:
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(voxels.T))
    image.SetOrigin(grid.origin_lps.tolist())
    image.SetSpacing(grid.spacing_mm.tolist())
    image.SetDirection(grid.direction.ravel().tolist())
    return image


@few
@given(grids(), st.integers(0, 100))
def test_index_and_lps_undo_each_other_and_agree_with_itk(grid: Grid, seed: int):
    ijk = np.random.default_rng(seed).uniform(-3, 12, (6, 3))
    lps = grid.lps(ijk)
    assert np.allclose(grid.index(lps), ijk, atol=1e-9)
    image = itk_image(np.zeros(grid.shape, np.float32), grid)
    expected = [image.TransformContinuousIndexToPhysicalPoint(tuple(p)) for p in ijk]
    assert np.allclose(lps, expected, atol=1e-9)


@few
@given(grids())
def test_a_grid_gives_back_what_it_was_made_from(grid: Grid):
    again = Grid.from_axes(grid.shape, grid.spacing_mm, grid.origin_lps, grid.direction)
    assert np.allclose(again.affine, grid.affine, atol=1e-9)
    assert np.isclose(grid.voxel_mm3, np.prod(grid.spacing_mm))
    assert np.allclose(grid.direction.T @ grid.direction, np.eye(3), atol=1e-9)
    assert np.allclose(grid.extent_mm, grid.spacing_mm * grid.shape)


@few
@given(grids(), st.integers(1, 40))
def test_slabs_cover_every_voxel_once(grid: Grid, max_voxels: int):
    whole = np.full((*grid.shape, 3), np.nan)
    for where, points in grid.slabs(max_voxels):
        assert np.isnan(whole[where]).all()
        whole[where] = points
    assert np.allclose(whole, grid.points())
    assert np.allclose(whole[-1, -1, -1], grid.lps(np.array([[n - 1.0 for n in grid.shape]]))[0])
    assert np.allclose(grid_points(grid, dtype=torch.float64).numpy(), whole)


@few
@given(grids(), st.floats(0.5, 12))
def test_another_spacing_keeps_centre_axes_and_field_of_view(grid: Grid, spacing: float):
    other = grid.with_spacing((spacing,) * 3)
    assert np.allclose(other.centre_lps, grid.centre_lps, atol=1e-8)
    assert np.allclose(other.direction, grid.direction, atol=1e-9)
    active = np.array(grid.shape) > 1
    assert (np.array(other.shape)[~active] == 1).all()
    # A stack stays a stack: an axis never falls below two voxels, which then share its field of view.
    assert (np.array(other.shape)[active] >= 2).all()
    two, many = np.array(other.shape) == 2, active & (np.array(other.shape) > 2)
    assert np.allclose(other.extent_mm[active & two], grid.extent_mm[active & two])
    assert np.allclose(other.spacing_mm[many], spacing)
    assert (np.abs(other.extent_mm - grid.extent_mm)[many] <= spacing / 2 + 1e-6).all()


@few
@given(grids(min_voxels=2), st.floats(0, 30))
def test_padding_keeps_voxels_where_they_were(grid: Grid, margin: float):
    padded = grid.padded(margin)
    extra = padded.index(grid.origin_lps[None])[0]
    assert np.allclose(extra, np.round(extra), atol=1e-6)
    assert (extra.round() * grid.spacing_mm >= margin - 1e-6).all()
    back = padded.crop(extra.round().astype(int), extra.round().astype(int) + grid.shape)
    assert back.same_as(grid, 1e-6)


@few
@given(grids(), st.floats(0.5, 8))
def test_bounding_grid_is_axis_aligned_and_holds_every_corner(grid: Grid, spacing: float):
    bounding = grid.bounding_grid(spacing)
    corners = np.array([(i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * np.array(grid.shape) - 0.5
    assert np.allclose(bounding.direction, np.eye(3))
    index = bounding.index(grid.lps(corners))
    assert (index >= -0.5 - 1e-5).all()
    assert (index <= np.array(bounding.shape) - 0.5 + 1e-5).all()


def test_contains_takes_half_a_voxel_of_border():
    grid = Grid.from_axes((4, 5, 1), (2, 2, 8), direction=np.diag([-1.0, 1.0, 1.0]))
    ijk = np.array([(-0.49, 0, 0), (-0.51, 0, 0), (3.49, 4.49, 0.49), (3.51, 0, 0), (0, 0, -0.51)])
    assert grid.contains(grid.lps(ijk)).tolist() == [True, False, True, False, False]
    assert inside(torch.as_tensor(ijk), grid.shape).tolist() == [True, False, True, False, False]


def test_a_picture_is_a_grid_of_one_slice():
    grid = Grid.from_axes((6, 4, 1), (0.5, 0.5, 1))
    assert grid.is_2d
    assert grid.active_axes == (0, 1)
    assert grid.padded(3).shape == (18, 16, 1)


@pytest.mark.parametrize(
    ("shape", "affine"),
    [
        ((4, 4, 0), np.eye(4)),
        ((4, 4), np.eye(4)),
        ((4, 4, 4), np.diag([1.0, 0.0, 1.0, 1.0])),
        ((4, 4, 4), np.full((4, 4), np.nan)),
        ((4, 4, 4), np.eye(3)),
    ],
)
def test_impossible_grids_are_refused(shape, affine):
    with pytest.raises(UsageError):
        Grid(shape, affine)


def test_a_grid_cannot_be_changed_by_accident():
    affine = np.eye(4)
    grid = Grid((2, 2, 2), affine)
    affine[0, 3] = 5
    assert grid.affine[0, 3] == 0
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 3] = 5


def test_a_volume_must_fit_its_grid():
    with pytest.raises(UsageError):
        Volume(np.zeros((3, 3, 3), np.float32), Grid((3, 3, 4), np.eye(4)))


def test_content_hash_tells_voxels_and_place_apart():
    voxels = np.arange(27, dtype=np.float32).reshape(3, 3, 3)
    grid = Grid((3, 3, 3), np.eye(4))
    first = Volume(voxels, grid)
    assert first.content_hash == Volume(voxels.copy(), Grid((3, 3, 3), np.eye(4)), name="other").content_hash
    assert first.content_hash != Volume(voxels + 1, grid).content_hash
    assert first.content_hash != Volume(voxels, Grid((3, 3, 3), np.diag([1.0, 1.0, 2.0, 1.0]))).content_hash


@few
@given(grids(), grids(), st.sampled_from(["linear", "nearest"]), st.integers(0, 100))
def test_resampling_agrees_with_itk(source: Grid, target: Grid, mode: str, seed: int):
    # Whole numbers, because nearest mode is for labels.
    voxels = np.random.default_rng(seed).integers(0, 50, source.shape).astype(np.float32)
    centre = target.affine.copy()
    centre[:3, 3] += source.centre_lps - target.centre_lps
    target = Grid(target.shape, centre)
    ours = resample(voxels, source, target, mode=mode, outside=-7.0, antialias=False)
    itk_mode = SimpleITK.sitkLinear if mode == "linear" else SimpleITK.sitkNearestNeighbor
    reference = itk_image(np.zeros(target.shape, np.float32), target)
    theirs = SimpleITK.Resample(itk_image(voxels, source), reference, SimpleITK.Transform(), itk_mode, -7.0)
    theirs = SimpleITK.GetArrayFromImage(theirs).T
    # At the very border the last bit decides; in nearest mode we go to the next voxel a little before halfway.
    index = source.index(target.points())
    border = (np.abs(index + 0.5) < 1e-4) | (np.abs(index + 0.5 - source.shape) < 1e-4)
    if mode == "nearest":
        beyond_half = index - np.floor(index) - 0.5
        border |= (beyond_half > -HALF_WAY_VOX - 1e-4) & (beyond_half < 1e-4)
    clear = ~border.any(-1)
    assert np.allclose(ours[clear], theirs[clear], atol=2e-4)


def test_sampling_repeats_the_border_or_gives_the_outside_value():
    image = torch.arange(24.0).reshape(1, 2, 3, 4)
    points = torch.tensor([[-5.0, 0, 0], [0.5, 1.0, 1.5], [1.4, 2.4, 3.4]])
    assert sample(image, points).tolist()[0] == pytest.approx([0.0, 11.5, 23.0])
    assert sample(image, points, outside=-1).tolist()[0] == pytest.approx([-1.0, 11.5, 23.0])


def test_sampling_folds_any_number_of_points():
    image = torch.rand(2, 4, 4, 4, dtype=torch.float64)
    for count in (1, 2, 3, 7):
        points = torch.rand(count, 3, dtype=torch.float64) * 3
        together = sample(image, points)
        one_by_one = torch.stack([sample(image, p) for p in points], -1)
        assert torch.allclose(together, one_by_one)


def test_sampling_has_gradients_in_image_and_points():
    image = torch.rand(1, 4, 5, 3, dtype=torch.float64, requires_grad=True)
    points = (torch.rand(6, 3, dtype=torch.float64) * 1.6 + 0.2).requires_grad_()
    assert torch.autograd.gradcheck(lambda i, p: sample(i, p), (image, points))


def test_downsampling_averages_instead_of_aliasing():
    fine = Grid.from_axes((64, 64, 8), (1, 1, 1))
    checker = np.indices(fine.shape)[:2].sum(0) % 2
    coarse = fine.with_spacing((4, 4, 1))
    inner = resample(checker.astype(np.float32), fine, coarse)[2:-2, 2:-2]
    assert np.abs(inner - 0.5).max() < 0.02


def test_nearest_keeps_labels_and_their_type():
    grid = Grid.from_axes((5, 5, 5), (1, 1, 1))
    labels = np.random.default_rng(0).integers(0, 4000, grid.shape).astype(np.uint16)
    out = resample(labels, grid, grid, mode="nearest")
    assert out.dtype == np.uint16
    assert np.array_equal(out, labels)


@pytest.mark.parametrize("kind", ["int8", "uint16", "uint32", "int64", "uint64", "float64"])
def test_nearest_picks_voxels_of_any_type_and_computes_with_none(kind: str):
    grid = Grid.from_axes((4, 1, 1), (1, 1, 1))
    top = np.iinfo(kind).max if kind != "float64" else 2**53 - 1
    labels = np.array([0, 1, top - 1, top], kind).reshape(grid.shape)
    # The voxel of greater index from half way on, a little before it too; the border itself belongs to the grid.
    for shift in (0.0, -1e-5):
        target = Grid.from_axes((5, 1, 1), (1, 1, 1), (-0.5 + shift, 0, 0))
        out = resample(labels, grid, target, mode="nearest")
        assert out.dtype == kind
        assert out[1:, 0, 0].tolist() == [1, top - 1, top, top]
        warped = Affine.identity().warp(Volume(labels, grid), target, interpolation="nearest")
        assert warped.dtype == kind
        np.testing.assert_array_equal(warped, out)


def test_nearest_of_points_that_are_nowhere():
    image = torch.arange(8.0).reshape(1, 2, 2, 2)
    points = torch.tensor([[float("nan"), 0, 0], [float("inf"), 0, 0], [1e30, 0, 0], [1.0, 0, 0]])
    assert sample(image, points, mode="nearest", outside=-1).tolist() == [[-1.0, -1.0, -1.0, 4.0]]


def sheared(lean: np.ndarray) -> Grid:
    """An oblique grid of which axis j leans along i by lean[0], and k along i and j by the others (of their length)."""
    upper = np.eye(3)
    upper[np.triu_indices(3, 1)] = lean
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_rotvec([0.3, -0.2, 0.5]).as_matrix() @ upper @ np.diag([1.5, 2.0, -4.0])
    affine[:3, 3] = -20, 30, 5
    return Grid((9, 7, 6), affine)


@few
@given(st.tuples(*[st.floats(-0.6, 0.6)] * 3))
def test_an_upright_grid_covers_a_sheared_one(lean: tuple[float, float, float]):
    grid = sheared(np.array(lean))
    upright = grid.upright()
    assert not upright.is_sheared
    assert upright.shear_mm == pytest.approx(0, abs=1e-9)
    assert upright.voxel_mm3 == pytest.approx(grid.voxel_mm3)
    assert np.sign(np.linalg.det(upright.affine)) == np.sign(np.linalg.det(grid.affine))
    assert upright.shape[2] == grid.shape[2]  # its slices lie in the same planes
    ijk = upright.index(grid.corners())
    assert (ijk > -0.56).all()
    assert (ijk < np.asarray(upright.shape) - 0.44).all()


@few
@given(st.tuples(*[st.floats(-180, 180)] * 3), st.tuples(*[st.sampled_from([-1.5, 0.9375, 2.0])] * 3))
def test_a_grid_whose_axes_were_rounded_keeps_its_voxels_when_set_upright(
    degrees: tuple[float, float, float], spacing: tuple[float, float, float]
):
    affine = np.eye(4)
    affine[:3, :3] = np.round(Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ np.diag(spacing), 4)
    affine[:3, 3] = -120, 80, 15
    grid = Grid((256, 256, 124), affine)
    upright = grid.upright()
    assert upright.shape == grid.shape
    assert not upright.is_sheared
    corners = np.array(list(itertools.product(*((0, n - 1) for n in grid.shape))))
    moved_mm = np.linalg.norm(upright.lps(corners) - grid.lps(corners), axis=1)
    assert moved_mm.max() < 0.05 * np.abs(spacing).min()


@few
@given(grids())
def test_an_upright_grid_of_perpendicular_axes_is_the_grid_itself(grid: Grid):
    assert not grid.is_sheared
    assert grid.upright().same_as(grid)


def test_smoothing_keeps_constants_and_leaves_single_axes_alone():
    image = torch.full((1, 6, 7, 1), 3.0)
    assert torch.allclose(gaussian_smooth(image, (2.0, 1.0, 5.0)), image)
    impulse = torch.zeros(1, 31, 1, 1)
    impulse[0, 15] = 1
    spread = gaussian_smooth(impulse, (2.0, 0, 0))[0, :, 0, 0]
    offsets = torch.arange(31.0) - 15
    assert float((spread * offsets**2).sum().sqrt()) == pytest.approx(2.0, rel=0.03)
