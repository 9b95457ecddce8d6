"""The discrete stage: large displacements in volumes, thick stacks and pictures, and the descent that follows it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from samreg import phantoms
from samreg.estimation.dense.capture import captured
from samreg.estimation.dense.fields import determinants
from samreg.estimation.dense.levels import DenseLevel, dense_levels
from samreg.estimation.dense.symmetric import fit_symmetric
from samreg.estimation.image_pair import ImagePair
from samreg.geometry import Grid, Volume
from samreg.transforms import Affine


def image_pair(phantom: phantoms.Phantom) -> ImagePair:
    """A phantom with the bodies that its formula gives."""
    fixed = Volume(phantom.body.astype(np.uint8), phantom.fixed.grid)
    moving = Volume((phantom.moving_labels > 0).astype(np.uint8), phantom.moving.grid)
    return ImagePair(phantom.fixed, phantom.moving, fixed, moving, samples=1000, seed=0, device="cpu")


def finest(phantom: phantoms.Phantom) -> DenseLevel:
    return dense_levels(image_pair(phantom), Affine.identity())[-1]


def errors_mm(phantom: phantoms.Phantom, fields: torch.Tensor, grid: Grid) -> np.ndarray:
    """How far the two ends of a field lie from being counterparts, where both images show the body."""
    to_fixed, to_moving = grid.points() + fields.numpy() @ grid.direction.T
    true = phantom.truth.map_points(to_fixed)
    ijk = np.round(phantom.fixed.grid.index(to_fixed)).astype(int)
    ijk = np.clip(ijk, 0, np.asarray(phantom.fixed.grid.shape) - 1)
    seen = phantom.body[tuple(np.moveaxis(ijk, -1, 0))] & phantom.moving.grid.contains(true)
    return np.linalg.norm(true - to_moving, axis=-1)[seen]


# A phantom, the displacement of its body in mm, and the mean error that is left at most: two control points of the
# last search.
LARGE = {
    "thin slices": ("isotropic", 64, (18.0, -14.0, 10.0), 8.0),
    "oblique": ("oblique", 64, (-15.0, 15.0, 12.0), 8.0),
    "thick stack": ("thin", 96, (20.0, -15.0, 0.0), 6.0),
    "across thick slices": ("thin", 96, (10.0, 10.0, 18.0), 9.0),
    "picture by a quarter": ("picture", 96, (64.0, 0.0, 0.0), 8.0),
}


@pytest.fixture(scope="module", params=LARGE)
def moved(request) -> tuple[phantoms.Phantom, float]:
    name, size, shift, allowed = LARGE[request.param]
    grid = phantoms.grid(name, size)
    phantom = phantoms.pair("deformable", fixed_grid=grid, rotation_deg=2, translation_mm=shift, peak_mm=6)
    return phantom, allowed


class TestCaptured:
    def test_large_displacements_are_found(self, moved):
        phantom, allowed = moved
        level = finest(phantom)
        fields = captured(level)
        before = errors_mm(phantom, torch.zeros_like(fields), level.grid).mean()
        after = errors_mm(phantom, fields, level.grid).mean()
        assert before > 17
        assert after < allowed

    def test_fields_are_finite_and_do_not_fold(self, moved):
        level = finest(moved[0])
        fields = captured(level)
        assert fields.isfinite().all()
        assert determinants(fields, level.grid).min() > 0

    def test_exchanged_images_give_exchanged_ends(self, moved):
        level = finest(moved[0])
        swapped = DenseLevel(level.factor, level.grid, level.images.flip(0), torch.ones_like(level.known))
        level = DenseLevel(level.factor, level.grid, level.images, torch.ones_like(level.known))
        torch.testing.assert_close(captured(swapped), captured(level).flip(0))

    def test_threads_do_not_matter(self, moved):
        level = finest(moved[0])
        before = torch.get_num_threads()
        found = []
        try:
            for threads in (1, 2):
                torch.set_num_threads(threads)
                found.append(captured(level))
        finally:
            torch.set_num_threads(before)
        assert torch.equal(*found)


@pytest.mark.parametrize("shape", [(24, 20, 2), (9, 8, 7), (40, 4, 1)])
def test_constant_images_are_left_alone_on_any_grid(shape):
    grid = Grid.from_axes(shape, (1.0, 1.5, 8.0))
    level = DenseLevel(1, grid, torch.zeros(2, 1, *shape), torch.ones(2, *shape))
    fields = captured(level)
    assert fields.shape == (2, *shape, 3)
    assert fields.isfinite().all()


def test_a_picture_stays_in_its_plane():
    level = finest(phantoms.pair("rigid", fixed_grid=phantoms.grid("picture", 64), translation_mm=30))
    assert captured(level)[..., 2].abs().max() == 0


def test_the_descent_goes_on_from_what_was_captured():
    grid = phantoms.grid("picture", 96)
    phantom = phantoms.pair("deformable", fixed_grid=grid, rotation_deg=2, translation_mm=(56, 0, 0), peak_mm=8)
    alone, after = (
        phantom.errors_mm(
            fit_symmetric(image_pair(phantom), [Affine.identity()], capture=wide)[0], seen_only=True
        ).mean()
        for wide in (False, True)
    )
    assert after < 1.5
    assert after < 0.2 * alone


def test_nothing_folds_after_the_descent():
    grid = phantoms.grid("picture", 64)
    phantom = phantoms.pair("deformable", fixed_grid=grid, rotation_deg=2, translation_mm=(45, 30, 0), peak_mm=8)
    field, _ = fit_symmetric(image_pair(phantom), [Affine.identity()], capture=True)
    assert min(t.jacobian_determinant(grid).min() for t in (field, field.inverse())) > 0


def test_it_captures_no_less_than_the_published_program():
    """The discrete stage of convexAdam, without its later descent, on the same images."""
    module = pytest.importorskip(
        "convexAdam.convex_adam_MIND", reason="The package convexAdam is not installed; it is the oracle of this test."
    )
    grid = phantoms.grid("isotropic", 64)
    phantom = phantoms.pair("deformable", fixed_grid=grid, translation_mm=(18, -14, 10), peak_mm=12)
    level = finest(phantom)
    images = level.images[:, 0].numpy()
    voxels = module.convex_adam_pt(*images, lambda_weight=0, grid_sp=4, dtype=torch.float32, device=torch.device("cpu"))
    theirs = torch.zeros(2, *level.grid.shape, 3)
    theirs[1] = torch.as_tensor(voxels * level.grid.spacing_mm)
    ours = errors_mm(phantom, captured(level), level.grid).mean()
    assert ours <= 1.1 * errors_mm(phantom, theirs, level.grid).mean()
