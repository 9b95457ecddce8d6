"""Displacements in mm along the axes of a grid, in torch: pulled images, composition and folds."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from samreg.estimation.dense.filters import gradient, smoothed, window_mean
from samreg.geometry import Grid, finest_spacing_mm, sample_each

LEAST_DETERMINANT = 0.3  # of the Jacobian; less is nearly a fold, and vectors of the same grid may hold no inverse
MOST_REPAIRS = 50
FALL = 0.4  # mm per mm, of a displacement outside of the images; beyond 1/√3 a corner could fold
REPAIR_VOX = 1.0  # smoothing of a repair
REPAIR_RADIUS = 1  # voxels around it that are smoothed


def voxel_indices(grid: Grid, device: torch.device | str = "cpu") -> Tensor:
    """[1, i, j, k, 3] float32 index of every voxel."""
    axes = [torch.arange(n, dtype=torch.float32, device=device) for n in grid.shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)[None]


def sigmas_vox(grid: Grid, finest: float) -> list[float]:
    """The same smoothing in mm along all axes, in voxels of each.

    Args:
        grid: Whose voxels count.
        finest: Standard deviation in voxels along the axis of the finest spacing.
    """
    return [finest * finest_spacing_mm(grid) / float(spacing) for spacing in grid.spacing_mm]


def in_lps(vectors: Tensor, grid: Grid) -> np.ndarray:
    """Vectors [..., 3] in mm along the axes of a grid as vectors in LPS mm, float32."""
    return np.asarray((vectors @ torch.as_tensor(grid.direction.T).to(vectors)).cpu().numpy())


def along_axes(vectors_lps: np.ndarray, grid: Grid, like: Tensor) -> Tensor:
    """Vectors [..., 3] in LPS mm in mm along the axes of a grid, of the type and on the device of another tensor."""
    return torch.as_tensor(vectors_lps @ np.linalg.inv(grid.direction.T)).to(like)


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


def on_level(displacements: Tensor, source: Grid, target: Grid) -> Tensor:
    """Displacements [b, i, j, k, 3] of one grid on another with the same axes."""
    ijk = torch.as_tensor(source.index(target.points())).to(displacements)
    points = ijk.reshape(1, -1, 3).expand(len(displacements), -1, 3)
    found = sample_each(displacements.movedim(-1, 1), points)
    return found.reshape(len(displacements), 3, *target.shape).movedim(1, -1)


def unfolded(displacements: Tensor, grid: Grid) -> Tensor:
    """Displacements [b, i, j, k, 3] smoothed where they fold or nearly do, until they do not."""
    for _ in range(MOST_REPAIRS):
        folded = determinants(displacements, grid) < LEAST_DETERMINANT
        if not folded.any():
            break
        displacements = softened(displacements, folded, grid)
    return displacements


def softened(displacements: Tensor, where: Tensor, grid: Grid) -> Tensor:
    """Displacements [b, i, j, k, 3] smoothed around some voxels [b, i, j, k], less and less outwards."""
    radii = [min(REPAIR_RADIUS, (n - 1) // 2) for n in grid.shape]
    near = (window_mean(where.float(), radii) > 0).float()
    share = window_mean(near, radii)[..., None]  # where a patch ended at once, it would fold
    return displacements + share * (smoothed(displacements, [REPAIR_VOX] * 3, first=-4) - displacements)


def determinants(displacements: Tensor, grid: Grid) -> Tensor:
    """Of the Jacobian of x → x + displacement(x), [b, i, j, k]."""
    slopes = gradient(displacements.movedim(-1, 1)) / torch.as_tensor(grid.spacing_mm).to(displacements)
    (a, b, c), (d, e, f), (g, h, i) = (
        [slopes[:, row, ..., column] + (row == column) for column in range(3)] for row in range(3)
    )
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)


def vanishing(fields: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
    """The fields on a larger grid, at whose border they are zero: they fall so slowly that nothing folds."""
    faces = [fields.select(axis + 1, end).abs() for axis in grid.active_axes for end in (0, -1)]
    largest = torch.stack([face.amax((0, 1, 2)) for face in faces]).amax(0).cpu().numpy()
    margin = np.ceil(largest / (FALL * grid.spacing_mm)).astype(int) + 1
    margin = np.where(np.asarray(grid.shape) == 1, 0, margin)
    wider = grid.crop(-margin, np.asarray(grid.shape) + margin)
    outside = torch.zeros(wider.shape, device=fields.device)  # squared, of the way to the border
    for axis in grid.active_axes:
        n, count = int(margin[axis]), wider.shape[axis]
        place = torch.arange(count, device=fields.device)
        way = 1 - (torch.minimum(place, count - 1 - place) / n).clamp(max=1.0)
        outside += way.square().reshape([-1 if a == axis else 1 for a in range(3)])
    ramp = (1 - outside.sqrt()).clamp(min=0.0)
    return on_level(fields, grid, wider) * ramp[..., None], wider
