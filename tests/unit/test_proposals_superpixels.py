"""Superpixels find the same regions in two images of the same anatomy."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from samreg import phantoms
from samreg.config import ProposalConfig
from samreg.geometry import Grid, Volume, gaussian_smooth, resample, transform_points
from samreg.proposals import create_proposer
from samreg.rois import RoiSet
from tests.shared import DATA

CONFIG = ProposalConfig()


def anatomy(shape=(60, 54, 40), spacing=(3.0, 3.0, 3.0), seed=0) -> tuple[Volume, np.ndarray]:
    """Organs of different brightness, some nested, in a body that varies slowly; and the body mask."""
    rng = np.random.default_rng(seed)
    grid = Grid.from_axes(shape, spacing, (-80, -70, -50))
    points = (grid.points() - grid.centre_lps) / (grid.extent_mm / 2)
    active = [a for a in range(3) if shape[a] > 1]
    body = (points[..., active] ** 2).sum(-1) < 0.8
    voxels = np.where(body, 40.0, 0.0)
    for _ in range(26):
        centre, size = rng.uniform(-0.55, 0.55, 3), rng.uniform(0.08, 0.25, 3)
        inside = (((points - centre) / size)[..., active] ** 2).sum(-1) < 1
        voxels[inside & body] = rng.uniform(15, 100)
    smooth = gaussian_smooth(torch.from_numpy(voxels.astype(np.float32))[None], [0.5 if n > 1 else 0 for n in shape])[0]
    return Volume(smooth.numpy(), grid), body


def moved(volume: Volume, body: np.ndarray, *, degrees: float, shift_mm, spacing, invert: bool, noise: float):
    """The same anatomy turned about the slice normal, shifted, on another grid, noisy, its contrast inverted."""
    angle = np.radians(degrees)
    there = np.eye(4)
    there[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    centre = volume.grid.centre_lps
    there[:3, 3] = centre - there[:3, :3] @ centre + shift_mm
    source = Grid(volume.grid.shape, there @ volume.grid.affine)
    target = volume.grid.with_spacing(spacing)
    voxels = resample(volume.voxels, source, target)
    inside = resample(body.astype(np.float32), source, target) > 0.5
    if invert:
        voxels = np.where(inside, 115 - voxels, 0)
    rng = np.random.default_rng(1)
    voxels = (voxels + rng.normal(0, noise, voxels.shape)).astype(np.float32)
    return Volume(voxels, target), inside, there


def dice_of_best(first: RoiSet, second: RoiSet, there: np.ndarray) -> np.ndarray:
    """[n] Dice of each region of the first image with the best region of the second, on 40,000 points."""
    size = first.grid.size
    chosen = np.random.default_rng(3).choice(size, min(size, 40_000), replace=False)
    ijk = np.stack(np.unravel_index(chosen, first.grid.shape), -1)
    there_ijk = np.rint(second.grid.index(transform_points(there, first.grid.lps(ijk)))).astype(int)
    seen = ((there_ijk >= 0) & (there_ijk < second.grid.shape)).all(1)
    masks = np.stack([r.mask(first.grid.shape)[tuple(ijk.T)] for r in first]).astype(np.float32)
    other = np.zeros((len(second), len(chosen)), np.float32)
    for row, roi in zip(other, second, strict=True):
        row[seen] = roi.mask(second.grid.shape)[tuple(there_ijk[seen].T)]
    return (2 * masks @ other.T / (masks.sum(1)[:, None] + other.sum(1)[None] + 1e-6)).max(1)


@pytest.mark.parametrize(
    ("shape", "spacing", "least"),
    [
        ((60, 54, 40), (3, 3, 3), 0.5),
        ((60, 54, 10), (3, 3, 10), 0.35),
        ((100, 90, 1), (2, 2, 5), 0.4),
    ],
)
def test_regions_are_found_again(shape, spacing, least):
    """Turned by 10 degrees, shifted, resampled, noisy, contrast inverted."""
    volume, body = anatomy(shape, spacing)
    rng = np.random.default_rng(2)
    noisy = Volume((volume.voxels + rng.normal(0, 2, shape)).astype(np.float32), volume.grid)
    finer = np.array(spacing) * (1.1, 1.1, 1.0)
    other, other_body, there = moved(volume, body, degrees=10, shift_mm=(6, -4, 0), spacing=finer, invert=True, noise=2)
    proposer = create_proposer("superpixels")
    first = proposer.propose(noisy, body, CONFIG)
    second = proposer.propose(other, other_body, CONFIG)
    assert len(first) >= 15
    best = dice_of_best(first, second, there)
    assert (best > 0.7).mean() >= least


def test_organs_are_among_the_regions():
    """A bright and a dark ball come out whole."""
    grid = Grid.from_axes((60, 60, 40), (2.5, 2.5, 2.5))
    points = grid.points() - grid.centre_lps
    body = np.linalg.norm(points / (70, 70, 45), axis=-1) < 1
    balls = [np.linalg.norm(points - c, axis=-1) < 14 for c in ((25, 0, 0), (-25, 10, 5))]
    rng = np.random.default_rng(0)
    voxels = (50 * body + 40 * balls[0] - 30 * balls[1] + rng.normal(0, 3, grid.shape)).astype(np.float32)
    rois = create_proposer("superpixels").propose(Volume(voxels, grid), body, CONFIG)
    for ball in balls:
        overlaps = [2 * (r.mask(grid.shape) & ball).sum() / (r.count + ball.sum()) for r in rois]
        assert max(overlaps) > 0.85


@pytest.mark.parametrize("shape", [(60, 50, 30), (60, 50, 6), (60, 50, 1)])
def test_regions_keep_their_limits(shape):
    volume, body = anatomy(shape, (2.0, 2.0, 4.0))
    config = ProposalConfig(min_volume_mm3=900, min_area_mm2=80, max_rois=30, max_overlap=0.7)
    shares = []
    rois = create_proposer("superpixels").propose(volume, body, config, on_progress=shares.append)
    assert 3 <= len(rois) <= 30
    assert rois.grid is volume.grid
    for roi in rois:
        assert not (roi.mask(shape) & ~body).any()
        assert 0 <= roi.score <= 1
        assert roi.count <= 0.5 * body.sum()
        assert (rois.area_mm2(roi) >= 80) if shape[2] == 1 else (rois.volume_mm3(roi) >= 900)
    assert [r.score for r in rois] == sorted((r.score for r in rois), reverse=True)
    for n, one in enumerate(rois):
        assert all(one.overlap(other) <= 0.7 * max(one.count, other.count) for other in rois.rois[:n])
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_the_same_image_gives_the_same_regions():
    volume, body = anatomy((50, 40, 20))
    one, two = (create_proposer("superpixels").propose(volume, body, CONFIG) for _ in range(2))
    assert [r.bits for r in one] == [r.bits for r in two]


@pytest.mark.parametrize("body_value", [True, False])
def test_nothing_to_see_gives_no_regions(body_value):
    grid = Grid.from_axes((20, 20, 10), (2, 2, 2))
    body = np.full(grid.shape, body_value)
    rois = create_proposer("superpixels").propose(Volume(np.zeros(grid.shape, np.float32), grid), body, CONFIG)
    assert len(rois) == 0


def test_a_region_set_is_small_in_memory():
    volume, body = anatomy()
    rois = create_proposer("superpixels").propose(volume, body, CONFIG)
    assert sum(len(r.bits) for r in rois) < 4e6


@pytest.mark.shared("decubitus")
def test_regions_of_a_real_head_are_found_again():
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(DATA / "decubitus" / "HFS")))
    image = reader.Execute()
    voxels = sitk.GetArrayFromImage(image).transpose(2, 1, 0).astype(np.float32)
    direction = np.array(image.GetDirection()).reshape(3, 3)
    whole = Grid.from_axes(voxels.shape, image.GetSpacing(), image.GetOrigin(), direction)
    grid = whole.with_spacing((2.5, 2.5, whole.spacing_mm[2]))
    volume = Volume(resample(voxels, whole, grid), grid)
    body = volume.voxels > 60
    other, other_body, there = moved(
        volume, body, degrees=8, shift_mm=(5, 6, -4), spacing=grid.spacing_mm * (1.07, 1.07, 1), invert=False, noise=25
    )
    proposer = create_proposer("superpixels")
    first, second = proposer.propose(volume, body, CONFIG), proposer.propose(other, other_body, CONFIG)
    assert len(first) > 200
    assert (dice_of_best(first, second, there) > 0.7).mean() > 0.4


def test_regions_of_each_slice_alone_lie_in_one_slice_and_keep_the_papers_limits():
    phantom = phantoms.pair("identity", fixed_grid=phantoms.grid("thin", 64))
    config = ProposalConfig(per_slice=True, min_area_px=200, max_area_px=7000, overlap_of="smaller")
    found = create_proposer("superpixels").propose(phantom.fixed, phantom.body, config)
    pixels = 64 * 64
    assert len({roi.start[2] for roi in found}) >= 8
    for roi in found:
        assert roi.is_2d
        assert 0.005 <= roi.count / pixels <= 0.175
    for n, one in enumerate(found):
        assert all(one.overlap(two) <= 0.8 * min(one.count, two.count) for two in list(found)[:n])
