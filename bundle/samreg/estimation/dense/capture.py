"""The discrete stage: large displacements are found by trying all of them, coarse to fine.

Source: Heinrich, Papież, Schnabel and Handels, MICCAI 2014 (coupled convex optimisation of a cost volume). Here both
images are moved by half of each displacement, so that they are treated alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool3d, pad

from samreg.estimation.dense.fields import composed, on_level, sigmas_vox, unfolded
from samreg.estimation.dense.filters import smoothed
from samreg.estimation.dense.forces import SelfSimilarity
from samreg.estimation.dense.levels import DenseLevel
from samreg.geometry import Grid, finest_spacing_mm, sample_each

# Chosen on hippocampi of different people, known warps, a cardiac pair, brain slices and phantoms.
POINTS = 12  # along the longest side, on the coarsest control grid
REACH = 0.35  # of the field of view along each axis, that the first search covers
REFINED = 1  # steps that each further search covers
FINER = 0.5**0.5  # spacing of the control points, from one search to the next
FINEST = 1.5  # spacing of the control points beside that of the images, which no search goes below
MOST_WORK = 30_000_000  # voxels times displacements of a search; a finer one is left out
# Cost of a step off the smooth field; the first only decides between equals.
COUPLINGS = 0.00001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1
SMOOTHING = 1.2  # of the field, in control points


def captured(level: DenseLevel) -> Tensor:
    """Displacements of the middle towards both images, up to a third of the field of view along each axis.

    Each search tries the whole range of displacements at every control point, on descriptors that were made once and
    travel with the images. The first covers the range, the next ones correct it with control points closer together,
    none closer than thick slices lie.

    Args:
        level: Both images.

    Returns:
        [2, i, j, k, 3] mm along the axes of the level's grid, to the fixed and to the moving image. They do not fold.
    """
    finest, extent = level.grid, level.grid.extent_mm
    descriptors = SelfSimilarity.of(level.images, finest).descriptors
    images = torch.cat([descriptors, level.known[:, None]], 1)
    fields, grid = torch.zeros((2, 1, 1, 1, 3), device=images.device), finest.recentred((1, 1, 1), extent)
    spacing, search = float(extent.max()) / POINTS, 0
    while not search or spacing >= FINEST * finest_spacing_mm(finest):
        control = finest.with_spacing(np.maximum(finest.spacing_mm, spacing))
        reach = np.floor(REACH * extent / control.spacing_mm + 0.5).astype(int)
        reach = np.minimum(reach, REFINED) if search else reach
        halves = _halves(control)
        if search and halves.size * np.prod(2 * reach + 1) > MOST_WORK:
            break
        fields, grid = on_level(fields, grid, halves), halves
        cost = _cost_volume(_seen(images, finest, fields, grid), control, reach.tolist())
        found = on_level(_coupled(cost, control)[None] / 2, control, grid)
        fields = unfolded(composed(fields, torch.cat([-found, found]), grid), grid)
        spacing, search = spacing * FINER, search + 1
    return unfolded(on_level(fields, grid, finest), finest)


def _halves(control: Grid) -> Grid:
    """The grid of half the spacing: two voxels to a control point, and as far as each image moves in a step."""
    parts = np.where(np.asarray(control.shape) > 1, 2, 1)
    return control.recentred(parts * control.shape, control.spacing_mm / parts)


def _seen(images: Tensor, source: Grid, fields: Tensor, grid: Grid) -> Tensor:
    """Images [2, c, i, j, k] of the source grid, averaged over voxels of the grid, where its displacements lead."""
    ratios = grid.spacing_mm / source.spacing_mm
    blocks = [max(1, min(round(ratio), count)) for ratio, count in zip(ratios.tolist(), source.shape, strict=True)]
    averaged = avg_pool3d(images, blocks, ceil_mode=True)
    block = torch.tensor(blocks).to(fields)
    ijk = torch.as_tensor(source.index(grid.points())).to(fields)
    ijk = ijk + fields / torch.as_tensor(source.spacing_mm).to(fields)
    ijk = (ijk - (block - 1) / 2) / block
    return sample_each(averaged, ijk.reshape(2, -1, 3)).reshape(2, -1, *grid.shape)


def _cost_volume(seen: Tensor, control: Grid, reach: Sequence[int]) -> Tensor:
    """Mean squared difference of the descriptors for every displacement at every control point.

    Args:
        seen: [2, c + 1, i, j, k] descriptors of both images at half the spacing, and 1 where they are known.
        control: Grid of the control points.
        reach: Steps of a control point in either direction along each axis.

    Returns:
        [2 r + 1, 2 r + 1, 2 r + 1, i, j, k]. Less than of unrelated places is negative; 0 where nothing is known.
    """
    exact = seen[:, :-1].double()
    fixed, moving = exact.mean((2, 3, 4))
    unrelated = float((exact.square().mean((2, 3, 4)).sum(0) - 2 * fixed * moving).mean())
    shape = seen.shape[2:]
    padded = pad(seen, [steps for steps in reversed(reach) for _ in range(2)])
    cost = seen.new_empty((*(2 * steps + 1 for steps in reach), *control.shape))
    for place in product(*(range(2 * steps + 1) for steps in reach)):
        one, other = padded
        for axis, (at, steps) in enumerate(zip(place, reach, strict=True)):
            one = one.narrow(axis + 1, 2 * steps - at, shape[axis])
            other = other.narrow(axis + 1, at, shape[axis])
        distance = (one[:-1] - other[:-1]).square_().mean(0)
        cost[place] = _block_mean((distance - unrelated) * (one[-1] * other[-1]), control.shape)
    return cost


def _block_mean(values: Tensor, shape: Sequence[int]) -> Tensor:
    """Mean [i, j, k] of the voxels that belong to each control point."""
    for axis, count in enumerate(shape):
        if values.shape[axis] > count:
            one, other = values.unflatten(axis, (count, 2)).unbind(axis + 1)
            values = (one + other) / 2
    return values


def _coupled(cost: Tensor, control: Grid) -> Tensor:
    """The smooth field [i, j, k, 3] mm of the least cost: best displacements and smoothing take turns."""
    unit = finest_spacing_mm(control)
    sigmas = sigmas_vox(control, SMOOTHING)
    along = [
        (torch.arange(count).to(cost) - count // 2) * float(spacing)
        for count, spacing in zip(cost.shape[:3], control.spacing_mm, strict=True)
    ]
    displacements = torch.stack(torch.meshgrid(*along, indexing="ij"), -1).reshape(-1, 3)
    field = cost.new_zeros((*control.shape, 3))
    for coupling in COUPLINGS:
        total = cost
        for axis, values in enumerate(along):
            apart = (values[:, None, None, None] - field[..., axis]).square_().mul_(coupling / unit**2)
            total = total + apart.reshape([-1 if a == axis else 1 for a in range(3)] + list(control.shape))
        field = smoothed(displacements[total.flatten(0, 2).argmin(0)], sigmas, first=-4)
    return field
