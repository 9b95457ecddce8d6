"""Mutual information at sample points, differentiable in the transform.

Source: Mattes et al., IEEE TMI 22(1), 2003 (whole bins for the fixed values, cubic B-splines for the moving ones).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from samreg.estimation.splines import coefficients, cubic_weights, interpolate
from samreg.geometry import Volume, index_points, inside
from samreg.types import Mask

BINS = 32
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
        values = interpolate(image, torch.as_tensor(ijk, device=device))
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
        ijk = index_points(self.moving_volume.grid, mapped)
        seen = _seen(ijk, self.moving.shape)
        if self.readable is not None:
            seen = seen * interpolate(self.readable, ijk).clamp(0, 1)
        first, weights = parzen(interpolate(self.moving, ijk))
        cells = (self.fixed_bins * BINS + first)[:, None] + torch.arange(4, device=first.device)
        joint = weights.new_zeros(BINS * BINS)
        joint = joint.index_add(0, cells.flatten(), (weights * seen[:, None]).flatten()).view(BINS, BINS)
        joint = joint / joint.sum().clamp_min(1e-6)
        expected = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
        return (joint * ((joint + 1e-9).log() - (expected + 1e-9).log())).sum(), seen.mean()


def _seen(points_ijk: Tensor, shape: Sequence[int]) -> Tensor:
    """Weights [n] of points [n, 3]: 1 within the field of view, 0 beyond, smooth between; in a slice's plane or not."""
    weights = inside(points_ijk, shape).to(points_ijk.dtype)
    for axis, size in enumerate(shape):
        if size > 1:
            at = points_ijk[:, axis]
            t = (torch.minimum(at + 0.5, size - 0.5 - at) / EDGE_VOX).clamp(0, 1)
            weights = weights * t**2 * (3 - 2 * t)
    return weights


def parzen(values: Tensor) -> tuple[Tensor, Tensor]:
    """The first of the four bins that a value in units of bins touches [n], and its cubic B-spline weights [n, 4]."""
    first = values.detach().floor().clamp(1, BINS - 3).long() - 1
    t = (values - (first + 1)).clamp(0, 1)
    return first, torch.stack(cubic_weights(t), -1)


def _in_bins(volume: Volume, mask: Mask) -> np.ndarray:
    """Intensities from bin 2 to bin BINS - 3 between the 0.5th and 99.5th percentile of the body and its rim."""
    low, high = np.percentile(volume.voxels[mask], (0.5, 99.5))
    low = min(low, float(volume.voxels.min())) if low - volume.voxels.min() < high - low else low
    scaled = (volume.voxels - low) / max(high - low, float(np.finfo(np.float32).tiny))
    return np.asarray(2 + scaled.clip(0, 1) * (BINS - 5), np.float64)
