"""Cubic B-spline interpolation at points, with its derivative.

An image between its voxels is then smooth. Interpolated linearly it has an edge at every voxel, on which a line search
stops wherever the last digits of the arithmetic take it.

Source: Unser, IEEE Signal Processing Magazine 16(6), 1999.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

POINTS_AT_ONCE = 8192  # their 64 coefficients each stay near the processor


def coefficients(voxels: np.ndarray) -> np.ndarray:
    """Float64 [i, j, k] coefficients of the spline through the voxels, mirrored at its borders."""
    out = np.asarray(voxels, np.float64)
    for axis, size in enumerate(out.shape):
        if size > 1:
            out = ndimage.spline_filter1d(out, 3, axis, mode="mirror")
    return out


def interpolate(image: Tensor, points_ijk: Tensor) -> Tensor:
    """Values [n] of a spline at continuous indices, differentiable in these.

    Args:
        image: [i, j, k] float64, from `coefficients`.
        points_ijk: [n, 3] float64 in voxel indices; beyond the field of view (half a voxel of border included) the
            border repeats.
    """
    return _Interpolation.apply(image, points_ijk)


def cubic_weights(t: Tensor) -> list[Tensor]:
    """Weights of the four cubic B-splines that reach a point by `t`, 0..1, after the middle of the second one."""
    rest = 1 - t
    return [rest**3 / 6, 2 / 3 - t**2 + t**3 / 2, 2 / 3 - rest**2 + rest**3 / 2, t**3 / 6]


class _Interpolation(torch.autograd.Function):
    """The derivative at each point is found with the value, from the same coefficients."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, points_ijk: Tensor) -> Tensor:
        parts = [_at(image, part) for part in points_ijk.split(POINTS_AT_ONCE)]
        values, slopes = (torch.cat(part) for part in zip(*parts, strict=True))
        ctx.save_for_backward(slopes)
        return values

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[None, Tensor]:
        (slopes,) = ctx.saved_tensors
        return None, above[0][:, None] * slopes


def _at(image: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Values [m] and their slopes [m, 3] by index."""
    (i, wi, di), (j, wj, dj), (k, wk, dk) = (_taps(points[:, axis], size) for axis, size in enumerate(image.shape))
    place = (i[:, None] * image.shape[1] + j)[:, :, None] * image.shape[2] + k
    around = image.flatten()[place]
    along_k, slope_k = ((around * weights).sum(2) for weights in (wk, dk))
    along_jk, slope_j, slope_k = ((along_k * wj).sum(1), (along_k * dj).sum(1), (slope_k * wj).sum(1))
    slopes = torch.stack([(along_jk * di).sum(0), (slope_j * wi).sum(0), (slope_k * wi).sum(0)], -1)
    return (along_jk * wi).sum(0), slopes


def _taps(at: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Along one axis: which coefficients points [m] need, their weights, and how these change, each [4, m]."""
    if size == 1:
        return at.new_zeros(1, len(at), dtype=torch.long), at.new_ones(1, len(at)), at.new_zeros(1, len(at))
    seen = at.clamp(-0.5, size - 0.5)
    first = seen.floor()
    t = seen - first
    rest = 1 - t
    slopes = [-(rest**2) / 2, 1.5 * t**2 - 2 * t, 2 * rest - 1.5 * rest**2, t**2 / 2]
    taps = (first.long() + torch.arange(-1, 3, device=at.device)[:, None]).abs()
    taps = (size - 1 - (size - 1 - taps).abs()).abs()
    return taps, torch.stack(cubic_weights(t)), torch.stack(slopes) * (seen == at)
