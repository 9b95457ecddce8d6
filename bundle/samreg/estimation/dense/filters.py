"""Window means, smoothing and differences by sums in one order, so that they are the same for any number of threads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

NEGLIGIBLE_VOX = 0.2  # smoothing by less leaves an axis as it is
EXACT_VOX = 1.2  # smoothing by less is summed tap by tap, by more with boxes
BOXES = 3


def window_mean(values: Tensor, radii: Sequence[int], *, first: int = -3) -> Tensor:
    """Mean over the window of 2 r + 1 voxels along each of three axes; the border repeats.

    Args:
        values: Floating point, on any device.
        radii: Of the window along the three axes in voxels; 0 leaves an axis as it is.
        first: The first of the three axes, which follow each other.
    """
    for axis, radius in enumerate(radii):
        if radius:
            dim = values.ndim + first + axis
            values = _sliding_sum(_padded(values, dim, radius), dim, values.shape[dim], 2 * radius + 1, 0)
            values.div_(2 * radius + 1)
    return values


def smoothed(values: Tensor, sigmas_vox: Sequence[float], *, first: int = -3) -> Tensor:
    """Gaussian smoothing along three axes; the border repeats.

    Wide Gaussians are three boxes whose ends count in part, so that their variance is that of the Gaussian.
    Source: Gwosdek et al., SSVM 2011 (extended box filter).

    Args:
        values: Floating point, on any device.
        sigmas_vox: Standard deviation along the three axes in voxels.
        first: The first of the three axes, which follow each other.
    """
    for axis, sigma in enumerate(sigmas_vox):
        dim = values.ndim + first + axis
        if sigma < NEGLIGIBLE_VOX or values.shape[dim] == 1:
            continue
        values = _by_taps(values, dim, sigma) if sigma < EXACT_VOX else _by_boxes(values, dim, sigma)
    return values


def gradient(values: Tensor) -> Tensor:
    """Central differences along the last three axes, one-sided at the border.

    Args:
        values: [..., i, j, k].

    Returns:
        [..., i, j, k, 3], per voxel; 0 along an axis of one voxel.
    """
    out = values.new_zeros((*values.shape, 3))
    for axis in range(3):
        dim = values.ndim - 3 + axis
        count = values.shape[dim]
        if count == 1:
            continue
        along = out[..., axis]
        along.narrow(dim, 0, 1).copy_(values.narrow(dim, 1, 1) - values.narrow(dim, 0, 1))
        along.narrow(dim, count - 1, 1).copy_(values.narrow(dim, count - 1, 1) - values.narrow(dim, count - 2, 1))
        if count > 2:
            inner = values.narrow(dim, 2, count - 2) - values.narrow(dim, 0, count - 2)
            along.narrow(dim, 1, count - 2).copy_(inner.mul_(0.5))
    return out


def _padded(values: Tensor, dim: int, margin: int) -> Tensor:
    shape = list(values.shape)
    shape[dim] = margin
    first, last = values.narrow(dim, 0, 1), values.narrow(dim, values.shape[dim] - 1, 1)
    return torch.cat([first.expand(shape), values, last.expand(shape)], dim)


def _sliding_sum(padded: Tensor, dim: int, count: int, width: int, start: int) -> Tensor:
    """Sums of `width` neighbours from `start` on, by doubling: few additions for wide windows."""
    total: Tensor | None = None
    block, size = padded, 1
    while width:
        if width & 1:
            part = block.narrow(dim, start, count)
            total = part.clone() if total is None else total.add_(part)
            start += size
        width >>= 1
        if width:
            length = block.shape[dim] - size
            block = block.narrow(dim, 0, length) + block.narrow(dim, size, length)
            size *= 2
    if total is None:
        raise RuntimeError("a window without voxels")
    return total


def _by_taps(values: Tensor, dim: int, sigma: float) -> Tensor:
    radius = max(1, int(np.ceil(3 * sigma)))
    kernel = np.exp(-0.5 * (np.arange(radius + 1) / sigma) ** 2)
    kernel /= kernel[0] + 2 * kernel[1:].sum()
    count, padded = values.shape[dim], _padded(values, dim, radius)
    out = values * float(kernel[0])
    for tap in range(1, radius + 1):
        both = padded.narrow(dim, radius - tap, count) + padded.narrow(dim, radius + tap, count)
        out.add_(both, alpha=float(kernel[tap]))
    return out


def _by_boxes(values: Tensor, dim: int, sigma: float) -> Tensor:
    variance = sigma**2 / BOXES
    radius = int((np.sqrt(12 * variance + 1) - 1) / 2)
    ends = (2 * radius + 1) * (radius * (radius + 1) - 3 * variance) / (6 * (variance - (radius + 1) ** 2))
    for _ in range(BOXES):
        count, padded = values.shape[dim], _padded(values, dim, radius + 1)
        total = _sliding_sum(padded, dim, count, 2 * radius + 1, 1)
        outer = padded.narrow(dim, 0, count) + padded.narrow(dim, 2 * radius + 2, count)
        values = total.add_(outer, alpha=float(ends)).div_(2 * radius + 1 + 2 * ends)
    return values
