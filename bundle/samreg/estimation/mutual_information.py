"""Mutual information at sample points, differentiable in the transform.

Source: Mattes et al., IEEE TMI 22(1), 2003 (whole bins for the fixed values, cubic B-splines for the moving ones).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from samreg.geometry import Volume, index_points, inside, sample
from samreg.types import Mask

BINS = 32
MIN_OVERLAP = 0.3


@dataclass(frozen=True, eq=False)
class PointSamples:
    """Fixed values at points, and the moving image to compare them with.

    Attributes:
        points: [n, 3] LPS mm, float64.
        fixed_bins: [n] int64 bin of the fixed value at each point.
        moving: [1, i, j, k] intensities in units of bins, float64.
        moving_volume: Its geometry.
    """

    points: Tensor
    fixed_bins: Tensor
    moving: Tensor
    moving_volume: Volume

    @staticmethod
    def draw(
        fixed: Volume, moving: Volume, fixed_mask: Mask, moving_mask: Mask, count: int, *, seed: int, device: str
    ) -> PointSamples:
        """Random points of the fixed mask, jittered within their voxels so that no grid is favoured."""
        rng = np.random.default_rng(seed)
        flat = np.flatnonzero(fixed_mask)
        chosen = np.sort(rng.choice(flat, min(count, flat.size), replace=False))
        ijk = np.stack(np.unravel_index(chosen, fixed.grid.shape), -1).astype(np.float64)
        jitter = rng.uniform(-0.5, 0.5, ijk.shape) * (np.asarray(fixed.grid.shape) > 1)
        ijk = ijk + jitter
        image = torch.as_tensor(_in_bins(fixed, fixed_mask), device=device)[None]
        values = sample(image, torch.as_tensor(ijk, device=device))[0]
        return PointSamples(
            torch.as_tensor(fixed.grid.lps(ijk), device=device),
            values.round().long(),
            torch.as_tensor(_in_bins(moving, moving_mask), device=device)[None],
            moving,
        )

    def mutual_information(self, moving_from_fixed: Tensor) -> tuple[Tensor, float]:
        """Mutual information (nats) under a [4, 4] matrix, and the share of points inside the moving image."""
        mapped = self.points @ moving_from_fixed[:3, :3].T + moving_from_fixed[:3, 3]
        return self.at(mapped)

    def at(self, mapped: Tensor) -> tuple[Tensor, float]:
        """Mutual information (nats) with the points at `mapped` [n, 3] LPS mm of the moving image."""
        ijk = index_points(self.moving_volume.grid, mapped)
        valid = inside(ijk, self.moving.shape[1:])
        overlap = float(valid.float().mean())
        values = sample(self.moving, ijk)[0]
        first, weights = parzen(values)
        cells = (self.fixed_bins * BINS + first)[:, None] + torch.arange(4, device=values.device)
        joint = values.new_zeros(BINS * BINS)
        joint = joint.index_add(0, cells.flatten(), (weights * valid[:, None]).flatten()).view(BINS, BINS)
        joint = joint / joint.sum().clamp_min(1e-6)
        expected = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
        return (joint * ((joint + 1e-9).log() - (expected + 1e-9).log())).sum(), overlap


def parzen(values: Tensor) -> tuple[Tensor, Tensor]:
    """The first of the four bins that a value in units of bins touches [n], and its cubic B-spline weights [n, 4]."""
    first = values.detach().floor().clamp(1, BINS - 3).long() - 1
    t = (values - (first + 1)).clamp(0, 1)
    rest = 1 - t
    weights = [rest**3 / 6, 2 / 3 - t**2 + t**3 / 2, 2 / 3 - rest**2 + rest**3 / 2, t**3 / 6]
    return first, torch.stack(weights, -1)


def _in_bins(volume: Volume, mask: Mask) -> np.ndarray:
    """Intensities from bin 2 to bin BINS - 3 between the 0.5th and 99.5th percentile of the body and its rim."""
    low, high = np.percentile(volume.voxels[mask], (0.5, 99.5))
    low = min(low, float(volume.voxels.min())) if low - volume.voxels.min() < high - low else low
    scaled = (volume.voxels - low) / max(high - low, float(np.finfo(np.float32).tiny))
    return np.asarray(2 + scaled.clip(0, 1) * (BINS - 5), np.float64)
