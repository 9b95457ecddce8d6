"""The symmetric descent: both images are moved towards each other until they agree in the middle.

Source: Avants et al., Med Image Anal 12(1), 2008 (symmetric normalisation), with greedy composition of small steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from samreg.estimation.dense.fields import composed, inverted, on_level, pulled
from samreg.estimation.dense.filters import smoothed
from samreg.estimation.dense.forces import LocalCorrelation, SelfSimilarity
from samreg.geometry import Grid, Volume, finest_spacing_mm, resample
from samreg.preprocess import on_grid
from samreg.transforms import Affine, DisplacementField

# Chosen on hippocampi of different people and on phantoms (docs/performance.md).
COARSEST = 8  # times the finest spacing
LEAST_VOXELS = 8  # along each side that is coarsened
STEPS = {8: 40, 4: 60, 2: 60, 1: 30}  # by the spacing of the level, in finest spacings
STEP_VOX = 0.25  # that the fastest point of each image moves in a step, of the level's finest spacing
FORCE_VOX = 3.0  # smoothing of the forces, likewise
FIELD_VOX = 0.5  # smoothing of the fields after each step, likewise
SELF_SIMILARITY = 10.0  # weight of descriptors, on the coarsest level, beside local correlation
MARGIN_VOX = 4  # around the bodies
MOST_VOXELS = 4_000_000
ROBUST = 0.5, 99.5  # percentiles that values are cut at
FALL = 0.25  # mm per mm, of a displacement outside of the images
KNOWN = 0.99  # share of a voxel's neighbourhood that must have values


@dataclass(frozen=True, eq=False)
class _Level:
    """Both images on one grid.

    Attributes:
        images: [2, 1, i, j, k] of variance one.
        known: [i, j, k] 1 where the moving image has values.
    """

    grid: Grid
    images: Tensor
    known: Tensor
    steps: int


def fit_symmetric(
    start: Affine,
    fixed: Volume,
    moving: Volume,
    fixed_body: Volume,
    moving_body: Volume,
    *,
    device: str = "cpu",
    on_progress: Callable[[float], None] | None = None,
) -> DisplacementField:
    """The field u of x_moving = start(x_fixed + u(x_fixed)), with its inverse.

    Args:
        start: Linear transform to begin with.
        fixed, moving: The images.
        fixed_body, moving_body: Masks as volumes of 0 and 1, on any grid of their image.
        device: Where tensors live.
        on_progress: Called with the share done, 0..1.

    Returns:
        A field around the bodies that vanishes at the border of its grid. It knows its inverse.
    """
    levels = _levels(start, fixed, moving, fixed_body, moving_body, device)
    total = sum(level.steps * level.grid.size for level in levels)
    done = 0
    fields: Tensor | None = None
    before: Grid | None = None
    for number, level in enumerate(levels):
        shape = (2, *level.grid.shape, 3)
        fields = torch.zeros(shape, device=device) if fields is None or before is None else on_level(fields, before, level.grid)  # noqa: E501
        terms = [(1.0, LocalCorrelation(level.images, level.grid))]
        if number == 0:
            terms.append((SELF_SIMILARITY, SelfSimilarity.of(level.images, level.grid)))
        for _ in range(level.steps):
            fields = _stepped(fields, level, terms)
            done += level.grid.size
            if on_progress:
                on_progress(done / total)
        before = level.grid
    if fields is None or before is None:
        raise RuntimeError("no level to fit")
    return _between_images(fields, before)


def _stepped(fields: Tensor, level: _Level, terms: list[tuple[float, LocalCorrelation | SelfSimilarity]]) -> Tensor:
    """The fields [2, i, j, k, 3] of both images after one step along the smoothed force."""
    grid = level.grid
    force = sum(weight * term.force(fields) for weight, term in terms)
    force = smoothed(force * level.known[..., None], _sigmas(grid, FORCE_VOX), first=-4)
    fastest = force.square().sum(-1).max().sqrt()
    step = force * (STEP_VOX * finest_spacing_mm(grid) / fastest.clamp_min(torch.finfo(torch.float32).tiny))
    return smoothed(composed(fields, step, grid), _sigmas(grid, FIELD_VOX), first=-4)


def _sigmas(grid: Grid, finest: float) -> list[float]:
    """The same smoothing in mm along all axes, in voxels."""
    return [finest * finest_spacing_mm(grid) / float(spacing) for spacing in grid.spacing_mm]


def _between_images(fields: Tensor, grid: Grid) -> DisplacementField:
    """From the middle to each image becomes from the fixed to the moving image, and back."""
    fields, grid = _vanishing(fields, grid)
    to_middle = inverted(fields, grid)
    forward, backward = (
        composed(fields[[there]], to_middle[[here]], grid)[0] for here, there in ((0, 1), (1, 0))
    )
    axes = torch.as_tensor(grid.direction.T).to(forward)
    inverse = DisplacementField(grid, (backward @ axes).cpu().numpy())
    return DisplacementField(grid, (forward @ axes).cpu().numpy(), inverse)


def _vanishing(fields: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
    """The fields on a larger grid, at whose border they are zero: they fall so slowly that nothing folds."""
    faces = [fields.select(axis + 1, end).abs() for axis in grid.active_axes for end in (0, -1)]
    largest = torch.stack([face.amax((0, 1, 2)) for face in faces]).amax(0).cpu().numpy()
    margin = np.ceil(largest / (FALL * grid.spacing_mm)).astype(int) + 1
    margin = np.where(np.asarray(grid.shape) == 1, 0, margin)
    wider = grid.crop(-margin, np.asarray(grid.shape) + margin)
    ramp = torch.ones(wider.shape, device=fields.device)
    for axis in grid.active_axes:
        n, count = int(margin[axis]), wider.shape[axis]
        place = torch.arange(count, device=fields.device)
        share = (torch.minimum(place, count - 1 - place) / n).clamp(max=1.0)
        ramp *= share.reshape([-1 if a == axis else 1 for a in range(3)])
    return on_level(fields, grid, wider) * ramp[..., None], wider


def _levels(
    start: Affine, fixed: Volume, moving: Volume, fixed_body: Volume, moving_body: Volume, device: str
) -> list[_Level]:
    finest = _around_bodies(start, fixed, fixed_body, moving_body)
    spacing = np.maximum(moving.grid.spacing_mm, finest_spacing_mm(finest))
    smooth = on_grid(moving, moving.grid.with_spacing(spacing))
    low = float(moving.voxels.min())
    ours = resample(fixed.voxels, fixed.grid, finest, outside=float(fixed.voxels.min()))
    theirs = start.warp(smooth, finest, outside=low, device=device)
    known = start.warp(Volume(np.ones(smooth.grid.shape, np.float32), smooth.grid), finest, device=device)
    images = [Volume(_standardised(values), finest) for values in (ours, theirs)]
    seen = Volume((known > KNOWN).astype(np.float32), finest)
    out = []
    for factor in _factors(finest):
        grid = finest.with_spacing(np.maximum(finest.spacing_mm, factor * finest_spacing_mm(finest)))
        pair = np.stack([on_grid(image, grid).voxels for image in images])[:, None]
        out.append(
            _Level(
                grid,
                torch.as_tensor(_standardised(pair, (1, 2, 3, 4)), device=device),
                torch.as_tensor(on_grid(seen, grid).voxels, device=device),
                STEPS[factor],
            )
        )
    return out


def _factors(finest: Grid) -> list[int]:
    """By which the levels are coarser than the finest one."""
    spacing, sides = finest.spacing_mm, np.asarray(finest.shape)
    short = min(
        float(n * s) for n, s in zip(sides, spacing, strict=True) if n > 1 and s < 2 * finest_spacing_mm(finest)
    )
    most = short / finest_spacing_mm(finest) / LEAST_VOXELS
    return [factor for factor in STEPS if factor == 1 or factor <= min(most, COARSEST)]


def _around_bodies(start: Affine, fixed: Volume, fixed_body: Volume, moving_body: Volume) -> Grid:
    """The part of the fixed grid that holds both bodies, not finer than can be afforded."""
    points = [
        fixed_body.grid.lps(np.argwhere(fixed_body.voxels > 0)),
        start.inverse().map_points(moving_body.grid.lps(np.argwhere(moving_body.voxels > 0))),
    ]
    ijk = fixed.grid.index(np.concatenate(points))
    shape = np.asarray(fixed.grid.shape)
    low = np.clip(np.floor(ijk.min(0)).astype(int) - MARGIN_VOX, 0, shape - 1)
    high = np.clip(np.ceil(ijk.max(0)).astype(int) + 1 + MARGIN_VOX, low + 1, shape)
    grid = fixed.grid.crop(low, high)
    spacing = finest_spacing_mm(grid)
    while grid.size > MOST_VOXELS:
        spacing *= 1.05
        grid = fixed.grid.crop(low, high).with_spacing(np.maximum(fixed.grid.spacing_mm, spacing))
    return grid


def _standardised(values: np.ndarray, axes: tuple[int, ...] | None = None) -> np.ndarray:
    """Cut at robust percentiles, mean zero and variance one."""
    if axes is None:
        values = np.clip(values, *np.percentile(values, ROBUST))
    mean, deviation = (f(values, axis=axes, keepdims=axes is not None, dtype=np.float64) for f in (np.mean, np.std))
    return ((values - mean) / np.maximum(deviation, np.finfo(np.float32).tiny)).astype(np.float32)
