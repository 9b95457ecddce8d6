"""The field fitted to pairs: Eq. 10 of the paper, and our velocity field on the same pairs."""

import numpy as np
import pytest
import torch

from samreg.config import EstimationConfig
from samreg.estimation.deformable import fit_field, margin_mm, pair_loss, roughness
from samreg.estimation.patches import RoiPatches, roi_loss
from samreg.geometry import Grid, Volume
from samreg.metrics import why_not_invertible
from samreg.rois import Roi, RoiPair, RoiPairs
from samreg.transforms import Affine, DisplacementField, VelocityField

GRID = Grid.from_axes((64, 64, 1), (2.0, 2.0, 1.0))
SHIFT = np.array([5.0, -3.0, 0.0])


def disc(centre: np.ndarray, radius: float) -> Roi:
    return Roi.from_mask(np.linalg.norm(GRID.points() - centre, axis=-1) <= radius)


@pytest.fixture
def pairs() -> RoiPairs:
    """Discs over a picture, moved by up to SHIFT: all of it in the middle, nothing at the border."""
    found = []
    for x in (30.0, 64.0, 98.0):
        for y in (30.0, 64.0, 98.0):
            centre = np.array([x, y, 0.0])
            found.append(RoiPair(len(found) + 1, disc(centre, 12), disc(centre + warp(centre), 12), 0.9, 0.5))
    return RoiPairs(GRID, GRID, tuple(found))


def warp(points: np.ndarray) -> np.ndarray:
    away = np.linalg.norm(points - [64.0, 64.0, 0.0], axis=-1, keepdims=True)
    return np.exp(-((away / 50) ** 2)) * SHIFT


def fitted(pairs: RoiPairs, parametrisation, **options):
    config = EstimationConfig(similarity_weight=0.0, **options)
    image = Volume(np.zeros(GRID.shape, np.float32), GRID)
    patches = RoiPatches.of(pairs, margin_mm(config))
    return fit_field(Affine.identity(), image, image, image, patches, config, parametrisation=parametrisation)


@pytest.mark.parametrize(
    ("parametrisation", "kind", "left"), [("displacement", DisplacementField, 0.25), ("velocity", VelocityField, 0.35)]
)
def test_a_known_small_warp_is_recovered_from_pairs_alone(pairs, parametrisation, kind, left):
    smoothness = {"displacement": 1.0, "velocity": 0.05}[parametrisation]
    field = fitted(pairs, parametrisation, smoothness_weight=smoothness)
    assert isinstance(field, kind)
    points = pairs.fixed.centroids_lps()
    errors = np.linalg.norm(field.map_points(points) - points - warp(points), axis=-1)
    assert errors.mean() < left * np.linalg.norm(warp(points), axis=-1).mean()
    assert why_not_invertible(field, GRID) == ""
    assert np.abs(field.displacement(GRID)[..., 2]).max() < 1e-5


def test_the_loss_of_pairs_alone_is_that_of_equation_10():
    """Σ_k (MSE + Dice) + λ |∇u|², here by hand on two pairs of masks and a field that is linear."""
    a = torch.tensor([[9.0, 9, -9, -9], [9, -9, -9, -9]])
    b = torch.tensor([[9.0, -9, 9, -9], [9, -9, -9, -9]])
    each = roi_loss(a, b, 0.1)  # nearly hard masks
    torch.testing.assert_close(each, torch.tensor([2 / 4 + 1 - 0.5, 0.0]), atol=1e-4, rtol=0)
    total = pair_loss(each, torch.ones(2), roi_share=0.1, as_published=True)
    assert total.item() == pytest.approx(1.0, abs=1e-4)
    grid = Grid.from_axes((5, 4, 3), (2.0, 3.0, 4.0))
    slope = torch.tensor([[0.1, 0, 0], [0, -0.2, 0], [0, 0, 0.3]])
    u = torch.einsum("ab,ijkb->aijk", slope, torch.as_tensor(grid.points(), dtype=torch.float32))
    assert roughness(u, grid, torch.eye(3)).item() == pytest.approx(0.01 + 0.04 + 0.09, rel=1e-4)


def test_a_field_that_folds_is_named():
    grid = Grid.from_axes((8, 8, 8), (2.0, 2.0, 2.0))
    vectors = np.zeros((*grid.shape, 3), np.float32)
    vectors[4, :, :, 0] = 9.0
    assert why_not_invertible(DisplacementField(grid, vectors), grid) == "it folds"
    assert why_not_invertible(DisplacementField(grid, 0 * vectors), grid) == ""


def test_a_field_close_to_folding_is_named():
    """It has an inverse that stretches fourteen times, which vectors on a grid do not hold."""
    grid = Grid.from_axes((40, 12, 12), (2.0, 2.0, 2.0))
    vectors = np.zeros((*grid.shape, 3), np.float32)
    slope = np.select([np.arange(39) % 20 < 6, np.arange(39) % 20 < 12], [-0.93, 0.93], 0.0)
    vectors[1:, :, :, 0] = 2.0 * np.cumsum(slope)[:, None, None]
    field = DisplacementField(grid, vectors)
    assert field.jacobian_determinant(grid).min() > 0
    assert "its inverse misses by up to" in why_not_invertible(field, grid)
