"""The dense linear fit: smooth in the transform, so that it ends where the images say and not where digits do."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from samreg import phantoms
from samreg.estimation.image_pair import ImagePair
from samreg.estimation.linear import refine
from samreg.estimation.mutual_information import PointSamples
from samreg.estimation.rigid import Start, fit_rigid
from samreg.estimation.splines import coefficients, with_slopes
from samreg.geometry import Grid, Volume, transform_points
from samreg.phantoms import Phantom
from samreg.transforms import about_centre


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(20, 15, 6), (17, 9, 1), (5, 2, 3)])
def test_a_spline_goes_through_the_voxels_and_is_that_of_scipy(shape):
    voxels = rng().normal(size=shape)
    image = torch.as_tensor(coefficients(voxels))
    every = np.argwhere(np.ones(shape)).astype(float)
    np.testing.assert_allclose(with_slopes(image, torch.as_tensor(every))[0], voxels.ravel(), atol=1e-12)
    points = rng().uniform(-0.5, np.array(shape) - 0.5, (500, 3)) * (np.array(shape) > 1)
    expected = ndimage.map_coordinates(voxels, points.T, order=2, mode="mirror")
    np.testing.assert_allclose(with_slopes(image, torch.as_tensor(points))[0], expected, atol=1e-12)


def test_the_slope_of_a_spline_is_that_of_its_values():
    image = torch.as_tensor(coefficients(rng().normal(size=(8, 7, 6))))
    points = torch.as_tensor(rng().uniform(-2, 9, (60, 3)))
    _, slopes = with_slopes(image, points)
    for axis, step in enumerate(1e-6 * torch.eye(3, dtype=torch.float64)):
        change = with_slopes(image, points + step)[0] - with_slopes(image, points - step)[0]
        np.testing.assert_allclose(slopes[:, axis], change / 2e-6, rtol=1e-3, atol=1e-5)


@pytest.fixture(scope="module")
def noisy() -> Phantom:
    """A pair as scanners give it: noise in each voxel, and a body that is larger than the moving field of view."""
    phantom, noise = phantoms.pair("rigid", fixed_grid=phantoms.grid("axial", 48), outside=0.2), rng()
    sides = {
        side: replace(volume, voxels=volume.voxels + noise.normal(0, 40, volume.voxels.shape).astype(np.float32))
        for side, volume in (("fixed", phantom.fixed), ("moving", phantom.moving))
    }
    return replace(phantom, **sides)


def samples(phantom: Phantom) -> PointSamples:
    everywhere = np.ones(phantom.moving.grid.shape, bool)
    return PointSamples.draw(phantom.fixed, phantom.moving, phantom.body, everywhere, 4000, seed=0, device="cpu")


def test_mutual_information_is_smooth_where_voxels_meet_and_where_points_leave_the_image(noisy):
    drawn = samples(noisy)
    direction = torch.tensor([0.6, 0.7, 0.4], dtype=torch.float64)

    def at(shift: float) -> tuple[torch.Tensor, torch.Tensor]:
        along = torch.tensor(shift, dtype=torch.float64, requires_grad=True)
        return drawn.at(drawn.points + along * direction)[0], along

    def value(shift: float) -> float:
        return at(shift)[0].item()

    step = 1e-5  # mm
    for shift in np.linspace(-6, 6, 40):
        score, along = at(shift)
        (slope,) = torch.autograd.grad(score, along)
        difference = (value(shift + step) - value(shift - step)) / (2 * step)
        assert difference == pytest.approx(float(slope), abs=1e-5)


def test_the_slopes_of_a_picture_count_where_it_is_read():
    """Mutual information and overlap of a picture of which only a disc is read."""
    voxels = ndimage.gaussian_filter(rng().uniform(0, 1000, (40, 36, 1)), (2, 2, 0)).astype(np.float32)
    picture = Volume(voxels, Grid.from_axes((40, 36, 1), (1, 1, 1)))
    i, j, _ = np.ogrid[:40, :36, :1]
    disc = (i - 20) ** 2 + (j - 18) ** 2 < 14**2
    drawn = PointSamples.draw(picture, picture, disc, disc, 4000, seed=0, device="cpu")
    step = 1e-5  # mm
    for shift in np.linspace(-5, 5, 11):
        along = torch.tensor(shift, dtype=torch.float64, requires_grad=True)
        direction = torch.tensor([0.8, 0.6, 0.0], dtype=torch.float64)
        ahead, behind = (drawn.at(drawn.points + (shift + s) * direction) for s in (step, -step))
        for value, more, less in zip(drawn.at(drawn.points + along * direction), ahead, behind, strict=True):
            (slope,) = torch.autograd.grad(value, along, retain_graph=True)
            assert float(more - less) / (2 * step) == pytest.approx(float(slope), abs=1e-5)


def test_of_a_small_body_fewer_points_are_read():
    phantom = phantoms.pair("rigid", fixed_grid=phantoms.grid("axial", 48))
    body = Volume(phantom.body.astype(np.uint8), phantom.fixed.grid)
    images = ImagePair(phantom.fixed, phantom.moving, body, body, 60_000, 0, "cpu")
    assert len(images.coarse.points) <= len(images.middle.points) <= len(images.fine.points)
    assert len(images.fine.points) < phantom.fixed.grid.size / 2


@pytest.mark.parametrize("kind", ["rigid", "affine"])
def test_a_fit_ends_in_the_same_place_from_starts_a_little_apart(noisy, kind):
    drawn, truth = samples(noisy), noisy.truth.moving_from_fixed
    ends = []
    for shift in (0.0, 1e-6, 0.5):  # mm
        start = about_centre(np.eye(3), np.full(3, shift), np.zeros(3)) @ truth
        matrix, _ = refine(start, drawn, kind, noisy.fixed.grid)
        ends.append(transform_points(matrix, noisy.fixed.grid.lps(np.argwhere(noisy.body)[::97])))
    assert np.abs(ends[1] - ends[0]).max() < 1e-4
    assert np.abs(ends[2] - ends[0]).max() < 1e-2


def test_of_alignments_that_score_alike_the_smaller_motion_is_taken_whatever_their_order():
    """A picture that half a turn does not change, so that two alignments are right."""
    half = rng().uniform(0, 1, (48, 48))
    voxels = ndimage.gaussian_filter(half + half[::-1, ::-1], 2)[..., None].astype(np.float32)
    picture = Volume(voxels * 1000, Grid.from_axes((48, 48, 1), (1, 1, 1)))
    body = Volume(np.ones(picture.grid.shape, np.uint8), picture.grid)
    pair = ImagePair(picture, picture, body, body, 4000, 0, "cpu")
    centre = picture.grid.centre_lps
    starts = [
        Start(name, about_centre(np.diag([sign, sign, 1.0]), np.array([0.4, 0.3, 0]), centre))
        for name, sign in (("as it is", 1.0), ("half a turn", -1.0))
    ]
    for order in (starts, starts[::-1]):
        fit = fit_rigid(pair, order)
        assert fit.origin == "as it is"
        assert fit.rivals == pytest.approx(1.0, abs=1e-3)
