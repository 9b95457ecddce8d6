import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from samreg import phantoms
from samreg.estimation.linear import generators
from samreg.estimation.mutual_information import BINS, parzen
from samreg.estimation.patches import RoiPatches, roi_loss
from samreg.estimation.robust import affine_from_points, irls, ransac_rigid
from samreg.estimation.search import global_search, tilts
from samreg.geometry import Grid, transform_points
from samreg.preprocess import body_mask, contrast_matched, working_volume
from samreg.rois import Roi, RoiPair, RoiPairs
from samreg.transforms import about_centre, rigid_from_points


@pytest.fixture
def motion() -> np.ndarray:
    rotation = Rotation.from_euler("xyz", (25, -10, 40), degrees=True).as_matrix()
    return about_centre(rotation, np.array([40.0, -15, 22]), np.array([10.0, 0, 5]))


def points(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-90, 90, (count, 3))


def test_rigid_from_exact_points_is_exact(motion):
    x = points(5)
    found = rigid_from_points(x, transform_points(motion, x), np.ones(5))
    np.testing.assert_allclose(found, motion, atol=1e-10)


def test_ransac_finds_the_motion_among_three_quarters_of_wrong_pairs(motion):
    rng = np.random.default_rng(1)
    x = points(120)
    y = transform_points(motion, x) + rng.normal(0, 1.5, x.shape)
    y[30:] = rng.uniform(-90, 90, (90, 3))
    found, inliers = ransac_rigid(x, y, np.ones(120), 8.0)
    assert np.linalg.norm(transform_points(found, x) - transform_points(motion, x), axis=1).max() < 4
    assert inliers[:30].all()


def test_ransac_says_so_when_nothing_agrees():
    rng = np.random.default_rng(2)
    assert ransac_rigid(points(3), points(3, 1), np.ones(3), 5.0) is None
    assert ransac_rigid(points(6), rng.uniform(-900, 900, (6, 3)), np.ones(6), 1.0) is None


def test_irls_ignores_outliers_of_an_affine(motion):
    stretched = motion.copy()
    stretched[:3, :3] = motion[:3, :3] @ np.diag([1.06, 0.95, 1.0])
    x = points(60)
    y = transform_points(stretched, x)
    y[::10] += 60
    start = rigid_from_points(x, y, np.ones(60))
    found = irls(start, x, y, np.ones(60), 15.0, kind="affine", iterations=60)
    assert np.linalg.norm(transform_points(found, x) - transform_points(stretched, x), axis=1).mean() < 1.0


def test_affine_of_points_on_a_line_stays_with_its_prior(motion):
    x = np.outer(np.linspace(-50, 50, 8), [1.0, 0, 0])
    found = affine_from_points(x, transform_points(motion, x), np.ones(8), prior=motion)
    np.testing.assert_allclose(found, motion, atol=1e-9)


def test_motions_of_a_picture_stay_in_its_plane():
    tilt = Rotation.from_euler("xy", (30, 20), degrees=True).as_matrix()
    grid = Grid.from_axes((40, 30, 1), (1, 1, 1), (0, 0, 0), tilt)
    for kind, count in (("rigid", 3), ("affine", 6)):
        basis = generators(kind, grid, 20.0)
        assert len(basis) == count
        x = grid.lps(np.array([[0.0, 0, 0], [39, 29, 0], [39, 0, 0]]))
        velocity = np.einsum("pab,nb->pna", basis[:, :3, :3], x) + basis[:, None, :3, 3]
        np.testing.assert_allclose(velocity @ grid.direction[:, 2], 0, atol=1e-12)


def test_parzen_weights_add_up_and_follow_the_value():
    values = torch.linspace(2, BINS - 3, 400, dtype=torch.float64)
    first, weights, changes = parzen(values)
    np.testing.assert_allclose(weights.sum(0), 1, atol=1e-12)
    np.testing.assert_allclose(changes.sum(0), 0, atol=1e-12)
    bins = first + torch.arange(4)[:, None]
    np.testing.assert_allclose((bins * weights).sum(0), values, atol=1e-12)
    np.testing.assert_allclose((bins * changes).sum(0), 1, atol=1e-12)


@pytest.mark.parametrize("contrast", ["same", "inverted"])
def test_the_global_search_comes_near_a_large_motion(contrast):
    phantom = phantoms.pair(
        "rigid", fixed_grid=phantoms.grid("oblique", 64), rotation_deg=15, translation_mm=64, contrast=contrast
    )
    volumes = [working_volume(v, 4.0) for v in (phantom.fixed, phantom.moving)]
    bodies = [body_mask(v) for v in volumes]
    starts = global_search(*volumes, *bodies, tilts((-20.0, 20.0), phantom.fixed.grid), spacing_mm=8.0)
    x = phantom.fixed.grid.lps(np.argwhere(phantom.body)[::50])
    errors = [np.linalg.norm(transform_points(m, x) - phantom.truth.map_points(x), axis=1).mean() for _, m in starts]
    assert min(errors) < 25


def test_contrast_matching_turns_inverted_values_back():
    phantom = phantoms.pair("rigid", fixed_grid=phantoms.grid("axial", 48), contrast="inverted")
    before = phantom.truth.warp(phantom.moving, phantom.fixed.grid)[phantom.body]
    matched = contrast_matched(phantom.moving, phantom.fixed, phantom.truth, phantom.body)
    after = phantom.truth.warp(matched, phantom.fixed.grid)[phantom.body]
    fixed = phantom.fixed.voxels[phantom.body]
    assert np.corrcoef(fixed, before)[0, 1] < 0
    assert np.corrcoef(fixed, after)[0, 1] > 0.8


def test_the_body_is_the_same_for_inverted_contrast():
    masks = []
    for contrast in ("same", "inverted"):
        phantom = phantoms.pair("identity", fixed_grid=phantoms.grid("axial", 64), contrast=contrast)
        masks.append(body_mask(phantom.moving))
        overlap = 2 * (masks[-1] & phantom.body).sum() / (masks[-1].sum() + phantom.body.sum())
        assert overlap > 0.95
    assert (masks[0] != masks[1]).mean() < 0.02


def ball(grid: Grid, centre_lps: np.ndarray, radius: float) -> Roi:
    return Roi.from_mask(np.linalg.norm(grid.points() - centre_lps, axis=-1) <= radius)


def test_the_roi_loss_pulls_regions_together_and_vanishes_when_they_agree():
    fixed_grid = Grid.from_axes((40, 40, 20), (2, 2, 4))
    turn = Rotation.from_euler("z", 30, degrees=True).as_matrix()
    centre, shift = np.array([40.0, 40, 40]), np.array([12.0, 0, 0])
    corner = centre - turn @ (np.array([2.0, 2, 3]) * (25, 25, 15))
    moving_grid = Grid.from_axes((50, 50, 30), (2, 2, 3), corner, turn)
    pair = RoiPair(1, ball(fixed_grid, centre, 14), ball(moving_grid, centre + shift, 14), 0.9, 1.0)
    patches = RoiPatches.of(RoiPairs(fixed_grid, moving_grid, (pair,)), 30.0)
    x = patches.draw(3000, torch.Generator().manual_seed(0))
    push = torch.zeros(3, requires_grad=True)
    loss = roi_loss(*patches.distances(x, x + push), 4.0)[0]
    (slope,) = torch.autograd.grad(loss, push)
    assert -slope[0] > 0.01
    assert abs(slope[1]) < 0.2 * abs(slope[0])
    aligned = roi_loss(*patches.distances(x, x + torch.as_tensor(shift, dtype=torch.float32)), 4.0)[0]
    assert aligned < 0.15 * loss
