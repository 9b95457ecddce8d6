"""Mutual information at sample points, differentiable in the transform.

Source: Mattes et al., IEEE TMI 22(1), 2003 (whole bins for the fixed values, cubic B-splines for the moving ones).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from samreg.estimation.splines import coefficients, with_slopes
from samreg.geometry import Volume, index_points, inside
from samreg.types import Mask

BINS = 32
BINS_TOUCHED = 4  # by a value, through its cubic B-spline
TINY = 1e-9  # beside a share, so that its logarithm is finite
MIN_OVERLAP = 0.3
EDGE_VOX = 0.5  # over which a point that leaves the moving image loses its weight


@dataclass(frozen=True, eq=False)
class PointSamples:
    """Fixed values at points, and the moving image to compare them with.

    Attributes:
        points: [n, 3] LPS mm, float64.
        fixed_bins: [n] int64 bin of the fixed value at each point.
        moving: [i, j, k] float64, the spline coefficients of the intensities in units of bins.
        moving_volume: Its geometry.
        readable: [i, j, k] float64, the spline coefficients of where the moving picture is read, 0..1. None: within
            its field of view.
    """

    points: Tensor
    fixed_bins: Tensor
    moving: Tensor
    moving_volume: Volume
    readable: Tensor | None = None

    @staticmethod
    def draw(
        fixed: Volume, moving: Volume, fixed_mask: Mask, moving_mask: Mask, count: int, *, seed: int, device: str
    ) -> PointSamples:
        """Random points of the fixed mask, jittered within their voxels so that no grid is favoured.

        Of volumes the whole moving image is read, so that the outline of the body counts. Of pictures only what lies in
        both masks is compared: their outline may be that of a camera's field of view, which does not move.
        """
        rng = np.random.default_rng(seed)
        flat = np.flatnonzero(fixed_mask)
        chosen = np.sort(rng.choice(flat, min(count, flat.size), replace=False))
        ijk = np.stack(np.unravel_index(chosen, fixed.grid.shape), -1).astype(np.float64)
        jitter = rng.uniform(-0.5, 0.5, ijk.shape) * (np.asarray(fixed.grid.shape) > 1)
        ijk = ijk + jitter
        image, other = (
            torch.as_tensor(coefficients(_in_bins(volume, mask)), device=device)
            for volume, mask in ((fixed, fixed_mask), (moving, moving_mask))
        )
        values, _ = with_slopes(image, torch.as_tensor(ijk, device=device))
        return PointSamples(
            torch.as_tensor(fixed.grid.lps(ijk), device=device),
            values.round().long().clamp(0, BINS - 1),
            other,
            moving,
            torch.as_tensor(coefficients(moving_mask.astype(np.float64)), device=device) if moving.grid.is_2d else None,
        )

    def mutual_information(self, moving_from_fixed: Tensor) -> tuple[Tensor, Tensor]:
        """Mutual information (nats) under a [4, 4] matrix, and the share of points inside the moving image.

        Both change smoothly with the matrix, also where points leave the image.
        """
        mapped = self.points @ moving_from_fixed[:3, :3].T + moving_from_fixed[:3, 3]
        return self.at(mapped)

    def at(self, mapped: Tensor) -> tuple[Tensor, Tensor]:
        """Mutual information (nats) with the points at `mapped` [n, 3] LPS mm of the moving image."""
        information, overlap = _Compared.apply(index_points(self.moving_volume.grid, mapped), self)
        return information, overlap

    def compared(self, points_ijk: Tensor) -> Compared:
        """Mutual information with the points at these indices [n, 3] of the moving image, and its slopes."""
        seen, seen_slopes = self._seen(points_ijk)
        values, slopes = with_slopes(self.moving, points_ijk)
        first, weights, changes = parzen(values)
        cells = self.fixed_bins * BINS + first + torch.arange(BINS_TOUCHED, device=first.device)[:, None]
        joint = weights.new_zeros(BINS * BINS)
        joint = joint.index_add_(0, cells.flatten(), (weights * seen).flatten()).view(BINS, BINS)
        total = joint.sum().clamp_min(1e-6)
        joint = joint / total
        ratio = (joint + TINY).log() - (joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True) + TINY).log()
        information = (joint * ratio).sum()
        # What a point adds where its bins gain. That the marginals gain with them changes nothing: they add up to one.
        gain = ((ratio - information) / total).flatten().take(cells)
        by_value, by_weight = (gain * changes).sum(0) * seen, (gain * weights).sum(0)
        return Compared(
            information,
            by_value[:, None] * slopes + by_weight[:, None] * seen_slopes,
            seen.mean(),
            seen_slopes / len(seen),
        )

    def _seen(self, points_ijk: Tensor) -> tuple[Tensor, Tensor]:
        """Weights [n] of points, and their slopes [n, 3] by index; see `_within`."""
        seen, slopes = _within(points_ijk, self.moving.shape)
        if self.readable is None:
            return seen, slopes
        read, read_slopes = with_slopes(self.readable, points_ijk)
        known = read.clamp(0, 1)
        read_slopes = read_slopes * (known == read)[:, None]
        return seen * known, slopes * known[:, None] + read_slopes * seen[:, None]


class Compared(NamedTuple):
    """What the points tell where they lie.

    Attributes:
        information: Mutual information in nats.
        information_slopes: [n, 3] by the index of each point.
        overlap: Share of the points inside the moving image.
        overlap_slopes: [n, 3] likewise.
    """

    information: Tensor
    information_slopes: Tensor
    overlap: Tensor
    overlap_slopes: Tensor


class _Compared(torch.autograd.Function):
    """The slopes are found with the values, in a third of the time that automatic differentiation takes."""

    @staticmethod
    def forward(ctx: Any, points_ijk: Tensor, samples: PointSamples) -> tuple[Tensor, Tensor]:
        found = samples.compared(points_ijk)
        ctx.save_for_backward(found.information_slopes, found.overlap_slopes)
        return found.information, found.overlap

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor, None]:
        information, overlap = ctx.saved_tensors
        return above[0] * information + above[1] * overlap, None


def _within(points_ijk: Tensor, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Weights [n] of points [n, 3]: 1 within the field of view, 0 beyond, smooth between; and their slopes [n, 3].

    Of a single slice the weight is 1 in its plane and 0 out of it.
    """
    weights, slopes = inside(points_ijk, shape).to(points_ijk.dtype), torch.zeros_like(points_ijk)
    for axis, size in enumerate(shape):
        if size > 1:
            low, high = points_ijk[:, axis] + 0.5, size - 0.5 - points_ijk[:, axis]
            t = (torch.minimum(low, high) / EDGE_VOX).clamp(0, 1)
            each, change = t**2 * (3 - 2 * t), 6 * t * (1 - t) / EDGE_VOX
            slopes = slopes * each[:, None]
            slopes[:, axis] = weights * torch.where(low < high, change, -change)
            weights = weights * each
    return weights, slopes


def parzen(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where values [n] in units of bins are counted.

    Returns:
        The first of the four bins that each touches [n], its cubic B-spline weights [4, n], and how these change with
        the value [4, n].
    """
    first = values.floor().clamp(1, BINS - 3).long() - 1
    t = values - (first + 1)
    known = (t >= 0) & (t <= 1)
    t = t.clamp(0, 1)
    rest = 1 - t
    weights = [rest**3 / 6, 2 / 3 - t**2 + t**3 / 2, 2 / 3 - rest**2 + rest**3 / 2, t**3 / 6]
    changes = [-(rest**2) / 2, 1.5 * t**2 - 2 * t, 2 * rest - 1.5 * rest**2, t**2 / 2]
    return first, torch.stack(weights), torch.stack(changes) * known


def _in_bins(volume: Volume, mask: Mask) -> np.ndarray:
    """Intensities from bin 2 to bin BINS - 3 between the 0.5th and 99.5th percentile of the body and its rim."""
    low, high = np.percentile(volume.voxels[mask], (0.5, 99.5))
    low = min(low, float(volume.voxels.min())) if low - volume.voxels.min() < high - low else low
    scaled = (volume.voxels - low) / max(high - low, float(np.finfo(np.float32).tiny))
    return np.asarray(2 + scaled.clip(0, 1) * (BINS - 5), np.float64)
