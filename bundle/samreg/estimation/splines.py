"""Quadratic B-spline interpolation at points, with its slopes.

An image between its voxels is then smooth, with a slope that has no jumps. Interpolated linearly it has an edge at
every voxel, on which a line search stops wherever the last digits of the arithmetic take it. A cubic spline needs 64
coefficients of each point in place of 27, and a fit by it ends in the same place.

Source: Unser, IEEE Signal Processing Magazine 16(6), 1999.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

POINTS_AT_ONCE = 8192  # of a CPU: their coefficients then stay near the processor


def coefficients(voxels: np.ndarray) -> np.ndarray:
    """Float64 [i, j, k] coefficients of the spline through the voxels, mirrored at its borders."""
    out = np.asarray(voxels, np.float64)
    for axis, size in enumerate(out.shape):
        if size > 1:
            out = ndimage.spline_filter1d(out, 2, axis, mode="mirror")
    return out


def with_slopes(image: Tensor, points_ijk: Tensor) -> tuple[Tensor, Tensor]:
    """Values of a spline at continuous indices, and how they change with these.

    Args:
        image: [i, j, k] float64, from `coefficients`.
        points_ijk: [n, 3] float64 in voxel indices; beyond the field of view (half a voxel of border included) the
            border repeats.

    Returns:
        Values [n], and slopes [n, 3] by index.
    """
    at_once = POINTS_AT_ONCE if image.device.type == "cpu" else max(1, len(points_ijk))
    values, slopes = zip(*(_at(image, part) for part in points_ijk.split(at_once)), strict=True)
    return torch.cat(values), torch.cat(slopes)


def _at(image: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    (i, wi, di), (j, wj, dj), (k, wk, dk) = (_taps(points[:, axis], size) for axis, size in enumerate(image.shape))
    place = (i[:, None] * image.shape[1] + j)[:, :, None] * image.shape[2] + k
    around = image.take(place)
    along_k, slope_k = ((around * weights).sum(2) for weights in (wk, dk))
    along_jk, slope_j, slope_k = ((along_k * wj).sum(1), (along_k * dj).sum(1), (slope_k * wj).sum(1))
    slopes = torch.stack([(along_jk * di).sum(0), (slope_j * wi).sum(0), (slope_k * wi).sum(0)], -1)
    return (along_jk * wi).sum(0), slopes


def _taps(at: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Along one axis: which coefficients points [m] need, their weights, and how these change, each [3, m]."""
    if size == 1:
        return at.new_zeros(1, len(at), dtype=torch.long), at.new_ones(1, len(at)), at.new_zeros(1, len(at))
    seen = at.clamp(-0.5, size - 0.5)
    nearest = (seen + 0.5).floor()
    t = seen - nearest
    weights = torch.stack([(0.5 - t) ** 2 / 2, 0.75 - t**2, (0.5 + t) ** 2 / 2])
    slopes = torch.stack([t - 0.5, -2 * t, t + 0.5]) * (seen == at)
    taps = (nearest.long() + torch.arange(-1, 2, device=at.device)[:, None]).abs()
    return (size - 1 - (size - 1 - taps).abs()).abs(), weights, slopes
