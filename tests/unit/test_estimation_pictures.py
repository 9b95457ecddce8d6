"""Pictures through a camera's round field of view, which stays in place while the tissue moves."""

from functools import cache

import numpy as np
import pytest
from scipy import ndimage

from samreg.estimation.image_pair import ImagePair
from samreg.estimation.rigid import edge_starts, fit_rigid, plain_starts
from samreg.geometry import Grid, Volume, transform_points
from samreg.preprocess import body_mask, flattened
from samreg.transforms import about_centre

WIDTH = 256
GRID = Grid.from_axes((WIDTH, WIDTH, 1), (0.1, 0.1, 1.0))


@cache
def vessels(seed: int) -> np.ndarray:
    """Dark curves [3 WIDTH, 3 WIDTH] on bright tissue that the camera sees a third of."""
    rng = np.random.default_rng(seed)
    canvas = np.zeros((3 * WIDTH, 3 * WIDTH))
    for _ in range(90):
        place, heading = rng.uniform(0, 3 * WIDTH, 2), rng.uniform(0, 2 * np.pi)
        for _ in range(400):
            heading += rng.normal(0, 0.05)
            place = (place + (np.cos(heading), np.sin(heading))) % (3 * WIDTH)
            canvas[tuple(place.astype(int))] = 1
    return -np.minimum(ndimage.gaussian_filter(canvas, 1.5) * 6, 1)


def photographed(tissue: np.ndarray, turn_deg: float, shift: tuple[float, float], seed: int) -> Volume:
    """What a camera sees of tissue that was turned and moved by shares of the width; its light falls off outwards."""
    index = np.indices((WIDTH, WIDTH)).reshape(2, -1).T - (WIDTH - 1) / 2
    angle = np.deg2rad(turn_deg)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    there = (index - np.multiply(shift, WIDTH)) @ turn + (3 * WIDTH - 1) / 2
    values = ndimage.map_coordinates(tissue, there.T, order=1).reshape(WIDTH, WIDTH)
    radius = np.linalg.norm(index, axis=1).reshape(WIDTH, WIDTH) / WIDTH
    light = 150 * (1 - radius**2) * (1 + 0.15 * values)
    noise = np.random.default_rng(seed).normal(0, 2.0, values.shape)
    seen = np.where(radius < 0.47, light + noise, 0.0)
    return Volume(seen.astype(np.float32)[:, :, None], GRID)


def error_of_width(turn_deg: float, shift: tuple[float, float]) -> tuple[float, float]:
    """Mean error over the field before and after the rigid fit, as shares of the width."""
    tissue = vessels(4)
    fixed, moving = photographed(tissue, 0, (0, 0), 1), photographed(tissue, turn_deg, shift, 2)
    bodies = (Volume(body_mask(image).astype(np.uint8), GRID) for image in (fixed, moving))
    pair = ImagePair(fixed, moving, *bodies, samples=20_000, seed=0, device="cpu")
    found = fit_rigid(pair, edge_starts(pair) + plain_starts(pair)).moving_from_fixed
    angle = np.deg2rad(turn_deg)
    turn = np.eye(3)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    directions = GRID.direction
    moved = directions @ np.array([*np.multiply(shift, WIDTH) * 0.1, 0.0])
    truth = about_centre(directions @ turn @ directions.T, moved, GRID.centre_lps)
    points = GRID.lps(np.argwhere(body_mask(fixed)).astype(float))
    true = transform_points(truth, points)
    width = WIDTH * 0.1
    return tuple(
        float(np.linalg.norm(transform_points(matrix, points) - true, axis=1).mean() / width)
        for matrix in (np.eye(4), found)
    )


@pytest.mark.parametrize(("turn_deg", "shift"), [(5.0, (1 / 3, 0.0)), (-5.0, (-0.2, 0.27)), (90.0, (0.1, 0.1))])
def test_a_large_motion_behind_a_fixed_field_of_view_is_found(turn_deg, shift):
    before, after = error_of_width(turn_deg, shift)
    assert before > 0.1
    assert after < 0.005


def test_a_small_motion_behind_a_fixed_field_of_view_is_not_left_at_the_identity():
    before, after = error_of_width(0.0, (0.02, 0.0))
    assert before == pytest.approx(0.02)
    assert after < 0.005


def test_flattening_removes_the_light_and_the_edge_of_the_field_but_not_the_vessels():
    tissue = vessels(4)
    image = photographed(tissue, 0, (0, 0), 1)
    flat, read = flattened(image, body_mask(image), 0.1)
    values = flat.voxels[read]
    index = np.argwhere(read)[:, :2] - (WIDTH - 1) / 2
    true = ndimage.map_coordinates(tissue, (index + (3 * WIDTH - 1) / 2).T, order=1)
    light = np.linalg.norm(index, axis=1) ** 2
    assert np.corrcoef(image.voxels[read], light)[0, 1] < -0.7
    assert abs(np.corrcoef(values, light)[0, 1]) < 0.2
    assert np.corrcoef(values, true)[0, 1] > 0.7
    assert not flat.voxels[~read].any()
    assert np.isfinite(flat.voxels).all()
