"""Displacements in mm along the axes of a grid, in torch: pulled images, composition and inverse."""

from __future__ import annotations

import torch
from torch import Tensor

from samreg.geometry import Grid, sample_each

INVERSE_STEPS = 20


def voxel_indices(grid: Grid, device: torch.device | str = "cpu") -> Tensor:
    """[1, i, j, k, 3] float32 index of every voxel."""
    axes = [torch.arange(n, dtype=torch.float32, device=device) for n in grid.shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)[None]


def pulled(images: Tensor, displacements: Tensor, grid: Grid) -> Tensor:
    """Images read where displacements lead; the border repeats.

    Args:
        images: [b, c, i, j, k] on the grid.
        displacements: [b, i, j, k, 3] mm along the axes of the grid.
        grid: Of both.

    Returns:
        [b, c, i, j, k].
    """
    per_mm = torch.as_tensor(1 / grid.spacing_mm).to(displacements)
    where = voxel_indices(grid, displacements.device) + displacements * per_mm
    found = sample_each(images, where.reshape(len(images), -1, 3))
    return found.reshape(*images.shape[:2], *grid.shape)


def composed(outer: Tensor, inner: Tensor, grid: Grid) -> Tensor:
    """The displacement of x → x + inner(x), followed by y → y + outer(y).

    Args:
        outer, inner: [b, i, j, k, 3] mm along the axes of the grid.
        grid: Of both.
    """
    return inner + pulled(outer.movedim(-1, 1), inner, grid).movedim(1, -1)


def inverted(displacements: Tensor, grid: Grid) -> Tensor:
    """The inverse by fixed-point iteration (Chen et al., Med Phys 35(1), 2008).

    Args:
        displacements: [b, i, j, k, 3] mm along the axes of the grid, without folds.
        grid: Of the displacements.
    """
    channels = displacements.movedim(-1, 1)
    inverse = -displacements
    for _ in range(INVERSE_STEPS):
        inverse = -pulled(channels, inverse, grid).movedim(1, -1)
    return inverse


def on_level(displacements: Tensor, source: Grid, target: Grid) -> Tensor:
    """Displacements [b, i, j, k, 3] of one grid on another with the same axes."""
    ijk = torch.as_tensor(source.index(target.points())).to(displacements)
    points = ijk.reshape(1, -1, 3).expand(len(displacements), -1, 3)
    found = sample_each(displacements.movedim(-1, 1), points)
    return found.reshape(len(displacements), 3, *target.shape).movedim(1, -1)
