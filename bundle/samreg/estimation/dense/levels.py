"""Both images on the same grids, coarse to fine, around their bodies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from samreg.estimation.dense.fields import pulled
from samreg.estimation.image_pair import ImagePair
from samreg.geometry import Grid, Volume, finest_spacing_mm, resample
from samreg.preprocess import on_grid
from samreg.transforms import Affine
from samreg.types import Points

COARSEST = 4
LEAST_VOXELS = 8  # along each side that is coarsened
MARGIN_VOX = 4  # around the bodies
MOST_VOXELS, MOST_PIXELS = 2_000_000, 1_000_000  # of volumes, and of pictures
COARSER = 1.05  # times the spacing, until there are no more voxels than that
ROBUST = 0.5, 99.5  # percentiles that values are cut at
NORMAL_MEDIAN = 0.6745  # of the absolute value of a normal variable of deviation one
TINY = float(np.finfo(np.float32).tiny)
KNOWN = 0.99  # share of a voxel's neighbourhood that must have values


@dataclass(frozen=True, eq=False)
class DenseLevel:
    """Both images on one grid of the fixed space.

    Attributes:
        factor: By which it is coarser than the finest level.
        images: float32 [2, 1, i, j, k] fixed and moving image, of mean zero and variance one.
        known: [2, i, j, k] 1 where each image has values that count.
        noise: Variance of the noise of each image.
        masked: A mask says what counts.
    """

    factor: int
    grid: Grid
    images: Tensor
    known: Tensor
    noise: Sequence[float] = (0.0, 0.0)
    masked: bool = False

    def seen(self, fields: Tensor) -> Tensor:
        """[i, j, k] 1 where both images count, as fields [2, i, j, k, 3] show them.

        Without masks that is where both have values before anything moves.
        """
        shown = pulled(self.known[:, None], fields, self.grid)[:, 0] if self.masked else self.known
        return shown[0] * shown[1]


def dense_levels(pair: ImagePair, start: Affine, also: Points | None = None) -> list[DenseLevel]:
    """Both images around their bodies, coarse to fine; an axis with thick slices keeps its spacing.

    Args:
        pair: The images and their bodies.
        start: That the moving image is read through.
        also: [n, 3] LPS mm in the fixed space, points that the levels hold too, beyond the fixed image if need be.
    """
    finest = _around_bodies(pair, start, also)
    spacing = np.maximum(pair.moving.grid.spacing_mm, finest_spacing_mm(finest))
    smooth = on_grid(pair.moving, pair.moving.grid.with_spacing(spacing))
    ours = resample(pair.fixed.voxels, pair.fixed.grid, finest, outside=float(pair.fixed.voxels.min()))
    theirs = start.warp(smooth, finest, outside=float(pair.moving.voxels.min()), device=pair.device)
    known = _known(pair, start, finest, smooth.grid)
    images = [Volume(np.clip(values, *np.percentile(values, ROBUST)), finest) for values in (ours, theirs)]
    noise = [_noise_variance(image.voxels) for image in images]
    levels = []
    for factor in _factors(finest):
        grid = finest.with_spacing(np.maximum(finest.spacing_mm, factor * finest_spacing_mm(finest)))
        coarse = [on_grid(image, grid).voxels for image in images]
        averaged = float(np.prod(grid.spacing_mm / finest.spacing_mm))  # voxels, whose noise is one's own
        noisy = [float(n / averaged / max(v.var(dtype=np.float64), TINY)) for n, v in zip(noise, coarse, strict=True)]
        both = torch.as_tensor(np.stack([_standardised(values) for values in coarse]))
        seen = torch.as_tensor(np.stack([on_grid(side, grid).voxels for side in known]))
        levels.append(DenseLevel(factor, grid, both[:, None].to(pair.device), seen.to(pair.device), noisy, pair.masked))
    return levels


def _known(pair: ImagePair, start: Affine, finest: Grid, moving: Grid) -> tuple[Volume, Volume]:
    """1 where each image has values that count, on the finest grid; the moving image is read on a grid of its own."""
    fixed = np.ones(finest.shape, np.float32)
    beyond = ~pair.fixed.grid.contains(finest.corners(shape=finest.shape)).all()
    if pair.fixed_mask is not None:
        fixed = resample(pair.fixed_mask.voxels, pair.fixed_mask.grid, finest, mode="nearest").astype(np.float32)
    elif beyond:
        fixed = resample(np.ones(pair.fixed.grid.shape, np.float32), pair.fixed.grid, finest)
    seen = np.ones(moving.shape, np.float32)
    known = start.warp(Volume(seen, moving), finest, device=pair.device) > KNOWN
    if pair.moving_mask is not None:
        known &= start.warp(pair.moving_mask, finest, interpolation="nearest") > 0
    return Volume(fixed, finest), Volume(known.astype(np.float32), finest)


def _factors(finest: Grid) -> Sequence[int]:
    spacing = finest_spacing_mm(finest)
    coarsened = [n for n, s in zip(finest.shape, finest.spacing_mm, strict=True) if n > 1 and s < 2 * spacing]
    factors, factor = [1], 2
    while factor <= COARSEST and min(coarsened) >= factor * LEAST_VOXELS:
        factors.insert(0, factor)
        factor *= 2
    return factors


def _around_bodies(pair: ImagePair, start: Affine, also: Points | None) -> Grid:
    """The part of the fixed grid that holds both bodies, and more where asked, no finer than can be afforded."""
    bodies = [
        pair.fixed_body.grid.lps(np.argwhere(pair.fixed_body.voxels > 0)),
        start.inverse().map_points(pair.moving_body.grid.lps(np.argwhere(pair.moving_body.voxels > 0))),
    ]
    ijk = pair.fixed.grid.index(np.concatenate(bodies))
    shape = np.asarray(pair.fixed.grid.shape)
    low = np.clip(np.floor(ijk.min(0)).astype(int) - MARGIN_VOX, 0, shape - 1)
    high = np.clip(np.ceil(ijk.max(0)).astype(int) + 1 + MARGIN_VOX, low + 1, shape)
    if also is not None and len(also):
        more = pair.fixed.grid.index(also)
        low = np.minimum(low, np.floor(more.min(0)).astype(int) - MARGIN_VOX * (shape > 1))
        high = np.maximum(high, np.ceil(more.max(0)).astype(int) + 1 + MARGIN_VOX * (shape > 1))
        low, high = np.where(shape > 1, low, 0), np.where(shape > 1, high, 1)
    whole = grid = pair.fixed.grid.crop(low, high)
    spacing = finest_spacing_mm(whole)
    most = MOST_PIXELS if whole.is_2d else MOST_VOXELS
    while grid.size > most:
        spacing *= COARSER
        grid = whole.with_spacing(np.maximum(whole.spacing_mm, spacing))
    return grid


def _standardised(values: np.ndarray) -> np.ndarray:
    deviation = max(values.std(dtype=np.float64), TINY)
    return np.asarray((values - values.mean(dtype=np.float64)) / deviation, np.float32)


def _noise_variance(image: np.ndarray) -> float:
    """Of white noise that would curve an image [i, j, k] as much as this one mostly is; constant regions left out.

    Source: Rank, Lendl and Unbehauen, IEE Proc Vis Image Signal Process 146(2), 1999 (noise from differences).
    """
    least = np.inf
    for axis, count in enumerate(image.shape):
        if count < 3:
            continue
        middle, *sides = (np.take(image, range(start, start + count - 2), axis) for start in (1, 0, 2))
        curved = np.abs(sides[0] + sides[1] - 2 * middle)
        if len(varied := curved[curved > 0]):
            least = min(least, float(np.median(varied) / NORMAL_MEDIAN) ** 2 / 6)
    return least if np.isfinite(least) else 0.0
