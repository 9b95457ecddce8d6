"""The dense engine: smoothing, forces, the symmetric descent, the affine fit by descriptors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from samreg import phantoms
from samreg.estimation.dense.affine import fit_by_descriptors
from samreg.estimation.dense.fields import determinants, on_level, unfolded, vanishing
from samreg.estimation.dense.filters import gradient, smoothed, window_mean
from samreg.estimation.dense.invertible import invertible
from samreg.estimation.dense.levels import dense_levels
from samreg.estimation.dense.symmetric import fit_symmetric
from samreg.estimation.image_pair import ImagePair
from samreg.geometry import Grid, Volume
from samreg.metrics import why_not_invertible
from samreg.transforms import Affine, DisplacementField, compose


def image_pair(phantom: phantoms.Phantom) -> ImagePair:
    """A phantom with the bodies that its formula gives, the moving one's as the fixed one's."""
    fixed = Volume(phantom.body.astype(np.uint8), phantom.fixed.grid)
    moving = Volume((phantom.moving_labels > 0).astype(np.uint8), phantom.moving.grid)
    return ImagePair(phantom.fixed, phantom.moving, fixed, moving, samples=1000, seed=0, device="cpu")


def swapped(pair: ImagePair) -> ImagePair:
    return ImagePair(pair.moving, pair.fixed, pair.moving_body, pair.fixed_body, pair.samples, pair.seed, pair.device)


@pytest.fixture(scope="module", params=["axial", "thin", "picture"])
def deformed(request) -> phantoms.Phantom:
    grid = phantoms.grid(request.param, 48)
    return phantoms.pair("deformable", fixed_grid=grid, rotation_deg=0.5, translation_mm=1.0, peak_mm=10)


@pytest.fixture(scope="module")
def field(deformed):
    return fit_symmetric(image_pair(deformed), [Affine.identity()])[0]


class TestFilters:
    def test_a_window_mean_is_that_of_scipy(self):
        values = torch.randn(2, 11, 9, 7, generator=torch.Generator().manual_seed(0))
        expected = ndimage.uniform_filter(values.numpy(), (0, 7, 5, 3), mode="nearest")
        np.testing.assert_allclose(window_mean(values, [3, 2, 1]), expected, atol=1e-6)

    @pytest.mark.parametrize("sigma", [1.1, 1.3, 3.0, 6.5])
    def test_smoothing_spreads_a_point_as_its_gaussian_does(self, sigma):
        values = torch.zeros(1, 81, 1, 1)
        values[0, 40] = 1
        out = smoothed(values, [sigma, sigma, sigma])[0, :, 0, 0].double()
        place = torch.arange(81) - 40.0
        assert float(out.sum()) == pytest.approx(1, abs=1e-5)
        assert float((out * place**2).sum()) ** 0.5 == pytest.approx(sigma, rel=0.02)

    def test_slight_smoothing_is_that_of_scipy(self):
        values = torch.randn(2, 11, 9, 7, generator=torch.Generator().manual_seed(0))
        expected = ndimage.gaussian_filter(values.numpy(), (0, 0.5, 0.8, 0), mode="nearest", truncate=3.5)
        np.testing.assert_allclose(smoothed(values, [0.5, 0.8, 0.1]), expected, atol=2e-3)

    def test_the_gradient_of_a_ramp_is_its_slope(self):
        i, j, k = torch.meshgrid(*(torch.arange(float(n)) for n in (5, 4, 1)), indexing="ij")
        found = gradient(2 * i - 3 * j + k)
        np.testing.assert_allclose(found, np.broadcast_to([2.0, -3.0, 0.0], found.shape))


def test_folds_are_smoothed_away_and_the_rest_is_left_alone():
    grid = Grid.from_axes((40, 30, 12), (1.0, 1.0, 4.0))
    field = torch.zeros(1, *grid.shape, 3)
    field[0, 10, 10, 5, 0] = 4.0
    assert determinants(field, grid).min() < 0
    mended = unfolded(field, grid)
    assert determinants(mended, grid).min() > 0
    assert mended[0, 25:].abs().max() == 0


def test_a_shear_between_slices_is_smoothed_until_the_grid_holds_its_inverse_and_the_rest_is_left_alone():
    grid = Grid.from_axes((60, 40, 8), (1.0, 1.0, 8.0))
    vectors = np.zeros((*grid.shape, 3), np.float32)
    bump = np.exp(-(np.square(np.indices((20, 20)) - 9.5).sum(0)) / 18)
    vectors[10:30, 10:30, 3] = bump[..., None] * (3.0, 3.0, 1.0)
    assert why_not_invertible(DisplacementField(grid, vectors), grid)
    mended = invertible(DisplacementField(grid, vectors))
    assert not why_not_invertible(mended, grid)
    assert np.abs(mended.vectors - vectors)[40:].max() == 0
    assert np.abs(mended.vectors).max() > 0.5 * np.abs(vectors).max()


def test_what_moves_at_the_border_of_the_images_comes_to_rest_without_a_fold():
    grid = Grid.from_axes((20, 20, 20), (1.0, 1.0, 1.0))
    for direction in ((1, 1, 1), (1, -1, 1), (0, 1, 0)):
        field = torch.tensor(direction, dtype=torch.float32) * 6.0
        wider_field, wider = vanishing(field.expand(1, *grid.shape, 3), grid)
        assert determinants(wider_field, wider).min() > 0
        assert wider_field[:, 0].abs().max() == 0
        np.testing.assert_allclose(on_level(wider_field, wider, grid), field.expand(1, *grid.shape, 3), atol=1e-4)


class TestSymmetric:
    def test_more_than_half_of_the_error_is_gone(self, deformed, field):
        before, after = (deformed.errors_mm(t).mean() for t in (Affine.identity(), field))
        assert after < 0.5 * before

    def test_nothing_folds(self, deformed, field):
        for transform in (field, field.inverse()):
            assert transform.jacobian_determinant(deformed.fixed.grid).min() > 0

    def test_there_and_back(self, deformed, field):
        points = deformed.fixed.grid.lps(np.argwhere(deformed.body))
        apart = np.linalg.norm(field.inverse().map_points(field.map_points(points)) - points, axis=1)
        voxel = deformed.fixed.grid.spacing_mm[0]
        assert apart.mean() < 0.02 * voxel
        assert np.percentile(apart, 99) < 0.1 * voxel

    def test_exchanged_images_give_the_inverse(self, deformed, field):
        back, _ = fit_symmetric(swapped(image_pair(deformed)), [Affine.identity()])
        points = deformed.fixed.grid.lps(np.argwhere(deformed.body))
        assert np.linalg.norm(back.map_points(field.map_points(points)) - points, axis=1).mean() < 0.5

    def test_a_picture_stays_in_its_plane(self, deformed, field):
        if deformed.fixed.grid.is_2d:
            assert np.abs(field.vectors @ deformed.fixed.grid.direction[:, 2]).max() == 0

    def test_threads_do_not_matter(self, deformed, field):
        before = torch.get_num_threads()
        try:
            torch.set_num_threads(3 - min(before, 2))
            other, _ = fit_symmetric(image_pair(deformed), [Affine.identity()])
        finally:
            torch.set_num_threads(before)
        np.testing.assert_array_equal(other.vectors, field.vectors)


@pytest.mark.parametrize("contrast", ["same", "inverted"])
@pytest.mark.parametrize("grid", ["axial", "oblique", "thin", "picture"])
def test_an_affine_is_found_by_descriptors(contrast, grid):
    phantom = phantoms.pair(
        "affine", fixed_grid=phantoms.grid(grid, 64), contrast=contrast, rotation_deg=4, translation_mm=6, scale=0.08
    )
    found = fit_by_descriptors(image_pair(phantom), [Affine.identity()])
    assert phantom.errors_mm(found).mean() < 0.4 * phantom.fixed.grid.spacing_mm.max()


@pytest.mark.parametrize("start", [(26, 20, 17), (19, 22, 1)])
def test_an_affine_fit_of_images_of_which_little_counts_does_not_mirror_them(start):
    grid = phantoms.grid("axial", 48)
    phantom = phantoms.pair("affine", fixed_grid=grid, rotation_deg=8, translation_mm=20)

    def counts(grid: Grid, shift: int) -> Volume:
        mask = np.zeros(grid.shape, np.uint8)
        mask[tuple(slice(n + shift, n + shift + 4) for n in start)] = 1
        return Volume(mask, grid)

    masks = {"fixed_mask": counts(phantom.fixed.grid, 0), "moving_mask": counts(phantom.moving.grid, 1)}
    found = fit_by_descriptors(replace(image_pair(phantom), **masks), [Affine.identity()])
    assert np.linalg.det(found.moving_from_fixed[:3, :3]) > 0


def test_the_field_stands_in_front_of_its_start():
    """x_moving = start(x_fixed + u): what the start does, the field does not do again. The better start wins."""
    phantom = phantoms.pair("affine", fixed_grid=phantoms.grid("axial", 48), rotation_deg=6, translation_mm=15)
    field, start = fit_symmetric(image_pair(phantom), [Affine.identity(), phantom.truth])
    assert start is phantom.truth
    assert phantom.errors_mm(compose([field, start])).mean() < 0.3 * phantom.fixed.grid.spacing_mm[0]


@pytest.mark.parametrize("deviation", [0.02, 0.1])
def test_noise_of_an_image_is_known_and_falls_where_voxels_are_averaged(deviation):
    phantom = phantoms.pair("identity", fixed_grid=phantoms.grid("axial", 48))
    levels = {level.factor: level for level in dense_levels(image_pair(noisy(phantom, deviation)), Affine.identity())}
    inside = phantom.fixed.voxels.std()
    added = (deviation * np.ptp(phantom.fixed.voxels) / inside) ** 2
    assert all(0.5 * added < found < 2.5 * added for found in levels[1].noise)
    assert max(levels[2].noise) < 0.3 * min(levels[1].noise)


def test_noise_moves_the_same_anatomy_little():
    phantom = phantoms.pair("identity", fixed_grid=phantoms.grid("axial", 48))
    field, _ = fit_symmetric(image_pair(noisy(phantom, 0.1)), [Affine.identity()])
    moved = np.linalg.norm(field.displacement(phantom.fixed.grid), axis=-1)[phantom.body]
    assert moved.mean() < 0.4 * phantom.fixed.grid.spacing_mm[0]


def noisy(phantom: phantoms.Phantom, deviation: float) -> phantoms.Phantom:
    """With noise of each image's own, whose deviation is a share of the range of values."""
    rng = np.random.default_rng(0)
    spread = deviation * np.ptp(phantom.fixed.voxels)
    noise = rng.normal(0, spread, (2, *phantom.fixed.grid.shape)).astype(np.float32)
    fixed, moving = (
        replace(v, voxels=v.voxels + n) for v, n in zip((phantom.fixed, phantom.moving), noise, strict=True)
    )
    return replace(phantom, fixed=fixed, moving=moving)
