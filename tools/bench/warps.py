"""Known warps, of another kind than the registration's own model: sums of compact radial functions, no flows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from samreg.errors import UsageError
from samreg.geometry import Grid
from samreg.transforms import Transform

LEAST_JACOBIAN = 0.15
MOST_PARTS = 8
BISECTIONS = 14
SUPPORT = 2.7  # radius over width at which Wendland's function is half as high where a Gaussian is
CHUNK = 4096


@dataclass(frozen=True, eq=False)
class RadialWarp(Transform):
    """x + a Σ φ(|x − c|) v, one part after the other; φ(r) = (1 − r)⁴ (4 r + 1) below 1 (Wendland, 1995).

    Attributes:
        parts: Centres [n, 3] and vectors [n, 3] of each part, LPS mm.
        radius_mm: Where φ ends.
        amplitude: a.
    """

    parts: tuple[tuple[Tensor, Tensor], ...]
    radius_mm: float
    amplitude: float

    def map_tensor(self, points: Tensor) -> Tensor:
        flat = points.reshape(-1, 3).to(torch.float32)
        return torch.cat([self._mapped(chunk) for chunk in flat.split(CHUNK)]).reshape(points.shape).to(points.dtype)

    def _mapped(self, points: Tensor) -> Tensor:
        for centres, vectors in self.parts:
            # Neighbouring points come together, so that few centres reach a chunk.
            low, high = points.min(0).values - self.radius_mm, points.max(0).values + self.radius_mm
            near = ((centres > low) & (centres < high)).all(1)
            centres, vectors = centres[near], vectors[near]
            r = (torch.cdist(points, centres) / self.radius_mm).clamp(max=1.0)
            points = points + self.amplitude * ((1 - r) ** 4 * (4 * r + 1)) @ vectors
        return points

    def inverse(self) -> Transform:
        raise UsageError("the inverse of a known warp is asked for", "its forward direction alone")


def radial_warp(grid: Grid, body: np.ndarray, mean_mm: float, width_mm: float, seed: int) -> RadialWarp:
    """A random warp that does not fold and moves the body by a stated mean distance.

    Args:
        grid: That it is checked on.
        body: bool [i, j, k] on the grid.
        mean_mm: Mean displacement in the body.
        width_mm: Of the Gaussian that the radial function resembles.
        seed: Of centres and vectors.

    Raises:
        ValueError: No warp of `MOST_PARTS` parts reaches the mean without a fold.
    """
    inside = grid.lps(np.argwhere(body)[:: max(1, int(body.sum()) // 4000)].astype(float))
    coarse = grid.with_spacing(np.maximum(grid.spacing_mm, width_mm / 4))
    for count in range(1, MOST_PARTS + 1):
        rng = np.random.default_rng([seed, count])
        parts = tuple(_part(grid, width_mm, rng) for _ in range(count))
        low, high = 0.0, 4 * mean_mm
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            moved = RadialWarp(parts, SUPPORT * width_mm, middle).map_points(inside) - inside
            low, high = (middle, high) if np.linalg.norm(moved, axis=1).mean() < mean_mm else (low, middle)
        warp = RadialWarp(parts, SUPPORT * width_mm, low)
        if warp.jacobian_determinant(coarse).min() > LEAST_JACOBIAN:
            return warp
    raise ValueError(f"a mean of {mean_mm} mm with a width of {width_mm} mm folds even in {MOST_PARTS} parts")


def _part(grid: Grid, width_mm: float, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Centres on a shaken lattice 1.5 widths apart, beyond the grid too, and normal vectors."""
    step = 1.5 * width_mm
    corners = grid.corners()
    axes = [np.arange(a - step, b + step, step) for a, b in zip(corners.min(0), corners.max(0), strict=True)]
    lattice = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    centres = lattice + rng.uniform(-step / 2, step / 2, lattice.shape)
    vectors = rng.standard_normal(lattice.shape)
    return torch.as_tensor(centres, dtype=torch.float32), torch.as_tensor(vectors, dtype=torch.float32)
