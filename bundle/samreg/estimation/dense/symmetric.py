"""The symmetric descent: both images are moved towards each other until they agree in the middle.

Source: Avants et al., Med Image Anal 12(1), 2008 (symmetric normalisation), with greedy composition of small steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from samreg.estimation.dense.capture import captured
from samreg.estimation.dense.fields import composed, on_level, unfolded
from samreg.estimation.dense.filters import smoothed
from samreg.estimation.dense.forces import Force, LocalCorrelation, SelfSimilarity
from samreg.estimation.dense.levels import DenseLevel, dense_levels
from samreg.estimation.image_pair import ImagePair
from samreg.geometry import Grid, finest_spacing_mm
from samreg.transforms import Affine, DisplacementField, compose

# Chosen on hippocampi of different people and on phantoms (docs/performance.md).
STEPS = {8: 40, 4: 60, 2: 60, 1: 30}  # by the spacing of the level, in finest spacings
STEP_VOX = 0.25  # that the fastest point of each image moves in a step, of the level's finest spacing
FORCE_VOX = 3.0  # smoothing of the forces, likewise
FIELD_VOX = 0.5  # smoothing of the fields after each step, likewise
SELF_SIMILARITY = 10.0  # weight of descriptors, on the coarsest level, beside local correlation
MOST_CAPTURED = 1_500_000  # voxels of the images that large displacements are searched on
FALL = 0.25  # mm per mm, of a displacement outside of the images


def fit_symmetric(
    pair: ImagePair, start: Affine, *, capture: bool = False, on_progress: Callable[[float], None] | None = None
) -> DisplacementField:
    """The field u of x_moving = start(x_fixed + u(x_fixed)), with its inverse.

    Args:
        pair: The images and their bodies.
        start: Linear transform to begin with, fixed to moving points.
        capture: Whether displacements of up to a third of the field are searched first (`captured`).
        on_progress: Called with the share done, 0..1.

    Returns:
        A field around the bodies that vanishes at the border of its grid. It knows its inverse.
    """
    levels = dense_levels(pair, start)
    total = sum(STEPS[level.factor] * level.grid.size for level in levels)
    done = 0
    grid = levels[0].grid
    fields = torch.zeros((2, *grid.shape, 3), device=pair.device)
    if capture:
        sharpest = next((level for level in reversed(levels) if level.grid.size <= MOST_CAPTURED), levels[0])
        fields, grid = captured(sharpest), sharpest.grid
    for level in levels:
        fields, grid = on_level(fields, grid, level.grid), level.grid
        terms: list[tuple[float, Force]] = [(1.0, LocalCorrelation(level.images, grid))]
        if level is levels[0]:
            terms.append((SELF_SIMILARITY, SelfSimilarity.of(level.images, grid)))
        for _ in range(STEPS[level.factor]):
            fields = _stepped(fields, level, terms)
            done += grid.size
            if on_progress:
                on_progress(done / total)
        fields = unfolded(fields, grid)
    return _between_images(fields, grid)


def _stepped(fields: Tensor, level: DenseLevel, terms: Sequence[tuple[float, Force]]) -> Tensor:
    """The fields [2, i, j, k, 3] of both images after one step along the smoothed force."""
    grid = level.grid
    force = torch.stack([weight * term.force(fields) for weight, term in terms]).sum(0)
    # Motion across thick slices is seen less well by as much as they are thicker.
    seen = torch.as_tensor(finest_spacing_mm(grid) / grid.spacing_mm).to(force)
    force = smoothed(force * seen * level.known[..., None], _sigmas(grid, FORCE_VOX), first=-4)
    fastest = force.square().sum(-1).max().sqrt()
    step = force * (STEP_VOX * finest_spacing_mm(grid) / fastest.clamp_min(torch.finfo(torch.float32).tiny))
    return smoothed(composed(fields, step, grid), _sigmas(grid, FIELD_VOX), first=-4)


def _sigmas(grid: Grid, finest: float) -> list[float]:
    """The same smoothing in mm along all axes, in voxels."""
    return [finest * finest_spacing_mm(grid) / float(spacing) for spacing in grid.spacing_mm]


def _between_images(fields: Tensor, grid: Grid) -> DisplacementField:
    """From the middle to each image becomes from the fixed to the moving image, and back."""
    fields, grid = _vanishing(fields, grid)
    axes = torch.as_tensor(grid.direction.T).to(fields)
    to_fixed, to_moving = (DisplacementField(grid, vectors) for vectors in (fields @ axes).cpu().numpy())
    forward = compose([to_fixed.inverse(), to_moving])
    backward = compose([to_moving.inverse(), to_fixed])
    return DisplacementField(grid, forward.displacement(grid), DisplacementField(grid, backward.displacement(grid)))


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
