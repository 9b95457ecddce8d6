"""Both images on the same grids, coarse to fine, around their bodies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from samreg.estimation.image_pair import ImagePair
from samreg.geometry import Grid, Volume, finest_spacing_mm, resample
from samreg.preprocess import on_grid
from samreg.transforms import Affine

COARSEST = 4
LEAST_VOXELS = 8  # along each side that is coarsened
MARGIN_VOX = 4  # around the bodies
MOST_VOXELS = 4_000_000
COARSER = 1.05  # times the spacing, until there are no more voxels than that
ROBUST = 0.5, 99.5  # percentiles that values are cut at
KNOWN = 0.99  # share of a voxel's neighbourhood that must have values


@dataclass(frozen=True, eq=False)
class DenseLevel:
    """Both images on one grid of the fixed space.

    Attributes:
        factor: By which it is coarser than the finest level.
        images: float32 [2, 1, i, j, k] fixed and moving image, of mean zero and variance one.
        known: [i, j, k] 1 where the moving image has values.
    """

    factor: int
    grid: Grid
    images: Tensor
    known: Tensor


def dense_levels(pair: ImagePair, start: Affine) -> list[DenseLevel]:
    """Both images around their bodies, coarse to fine; an axis with thick slices keeps its spacing.

    Args:
        pair: The images and their bodies.
        start: That the moving image is read through.
    """
    finest = _around_bodies(pair, start)
    spacing = np.maximum(pair.moving.grid.spacing_mm, finest_spacing_mm(finest))
    smooth = on_grid(pair.moving, pair.moving.grid.with_spacing(spacing))
    ours = resample(pair.fixed.voxels, pair.fixed.grid, finest, outside=float(pair.fixed.voxels.min()))
    theirs = start.warp(smooth, finest, outside=float(pair.moving.voxels.min()), device=pair.device)
    ones = Volume(np.ones(smooth.grid.shape, np.float32), smooth.grid)
    known = Volume((start.warp(ones, finest, device=pair.device) > KNOWN).astype(np.float32), finest)
    images = [Volume(np.clip(values, *np.percentile(values, ROBUST)), finest) for values in (ours, theirs)]
    levels = []
    for factor in _factors(finest):
        grid = finest.with_spacing(np.maximum(finest.spacing_mm, factor * finest_spacing_mm(finest)))
        both = torch.as_tensor(np.stack([_standardised(on_grid(image, grid).voxels) for image in images]))
        seen = torch.as_tensor(on_grid(known, grid).voxels)
        levels.append(DenseLevel(factor, grid, both[:, None].to(pair.device), seen.to(pair.device)))
    return levels


def _factors(finest: Grid) -> Sequence[int]:
    spacing = finest_spacing_mm(finest)
    coarsened = [n for n, s in zip(finest.shape, finest.spacing_mm, strict=True) if n > 1 and s < 2 * spacing]
    factors, factor = [1], 2
    while factor <= COARSEST and min(coarsened) >= factor * LEAST_VOXELS:
        factors.insert(0, factor)
        factor *= 2
    return factors


def _around_bodies(pair: ImagePair, start: Affine) -> Grid:
    """The part of the fixed grid that holds both bodies, no finer than can be afforded."""
    bodies = [
        pair.fixed_body.grid.lps(np.argwhere(pair.fixed_body.voxels > 0)),
        start.inverse().map_points(pair.moving_body.grid.lps(np.argwhere(pair.moving_body.voxels > 0))),
    ]
    ijk = pair.fixed.grid.index(np.concatenate(bodies))
    shape = np.asarray(pair.fixed.grid.shape)
    low = np.clip(np.floor(ijk.min(0)).astype(int) - MARGIN_VOX, 0, shape - 1)
    high = np.clip(np.ceil(ijk.max(0)).astype(int) + 1 + MARGIN_VOX, low + 1, shape)
    whole = grid = pair.fixed.grid.crop(low, high)
    spacing = finest_spacing_mm(whole)
    while grid.size > MOST_VOXELS:
        spacing *= COARSER
        grid = whole.with_spacing(np.maximum(whole.spacing_mm, spacing))
    return grid


def _standardised(values: np.ndarray) -> np.ndarray:
    deviation = max(values.std(dtype=np.float64), float(np.finfo(np.float32).tiny))
    return np.asarray((values - values.mean(dtype=np.float64)) / deviation, np.float32)
