"""Displacement fields and stationary velocity fields, in LPS mm."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from samreg.errors import UsageError
from samreg.geometry import Grid, grid_points, index_points, sample
from samreg.transforms.base import Transform
from samreg.types import Vectors

MOST_STEPS, FEW_STEPS = 300, 20  # of the search for an inverse; few where a near one is known
SHORTER = 0.7  # a step after one that brought a point no nearer


class DisplacementField(Transform):
    """x_moving = x_fixed + u(x_fixed), linear between grid points, zero beyond the grid (ITK's rule).

    Args:
        grid: Where the vectors stand, in the fixed image's space.
        vectors: [i, j, k, 3] LPS mm.
        near_inverse: A field that is nearly the inverse, which begins the search for it; None: none is known.

    Raises:
        UsageError: Shapes disagree or a vector is not finite.
    """

    def __init__(self, grid: Grid, vectors: Vectors, near_inverse: DisplacementField | None = None) -> None:
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if vectors.shape != (*grid.shape, 3):
            raise UsageError(f"the vectors have the shape {vectors.shape}", f"{(*grid.shape, 3)}")
        if not np.isfinite(vectors).all():
            raise UsageError("a displacement is not finite", "finite millimetres everywhere")
        self.grid = grid
        self.vectors = vectors
        self.near_inverse = near_inverse

    @cached_property
    def _channels(self) -> Tensor:
        return torch.as_tensor(self.vectors).movedim(-1, 0).contiguous()

    def map_tensor(self, points: Tensor) -> Tensor:
        channels = self._channels.to(points)
        return points + sample(channels, index_points(self.grid, points), outside=0.0).movedim(0, -1)

    def inverse(self, tolerance_mm: float = 1e-3) -> DisplacementField:
        """The inverse, by fixed-point iteration: on the grid of the known one, or this one grown by what is displaced.

        Source: Chen et al., Med Phys 35(1), 2008 (x ← x + y - (x + u(x))). Where a step does not bring a point
        nearer, as in a field that more than doubles lengths, its next steps are shorter.

        Raises:
            UsageError: The iteration does not settle: the field folds.
        """
        tolerance_mm = min(tolerance_mm, 1e-2 * float(self.grid.spacing_mm.min()))
        known = self.near_inverse
        grid = self.grid.padded(float(np.linalg.norm(self.vectors, axis=-1).max())) if known is None else known.grid
        target = grid_points(grid)
        guess = target.clone() if known is None else known.map_tensor(target)
        step = torch.ones(grid.shape)
        before = torch.full(grid.shape, torch.inf)
        for _ in range(MOST_STEPS if known is None else FEW_STEPS):
            missing = target - self.map_tensor(guess)
            distance = missing.norm(dim=-1)
            if distance.max() < tolerance_mm:
                break
            step[distance >= before] *= SHORTER
            guess += step[..., None] * missing
            before = distance
        if distance.max() > 0.5 * float(self.grid.spacing_mm.min()):
            raise UsageError(
                f"the inverse of the displacement field does not converge ({float(distance.max()):.2f} mm are missing)",
                "an invertible field without folds",
            )
        return DisplacementField(grid, (guess - target).numpy(), self)


class VelocityField(Transform):
    """exp(v): the flow of a stationary velocity field over unit time, a diffeomorphism.

    Source: Arsigny et al., MICCAI 2006 (scaling and squaring).

    Args:
        grid: Where the velocities stand; the flow is the identity beyond it.
        velocity: [i, j, k, 3] LPS mm per unit time.
        steps: Number of squarings.
    """

    def __init__(self, grid: Grid, velocity: Vectors, steps: int = 7) -> None:
        self.grid = grid
        self.velocity = np.ascontiguousarray(velocity, dtype=np.float32)
        self.steps = steps
        self.field = DisplacementField(grid, self._integrated())

    def _integrated(self) -> np.ndarray:
        v = torch.as_tensor(self.velocity)
        if v.shape != (*self.grid.shape, 3):
            raise UsageError(f"the velocities have the shape {tuple(v.shape)}", f"{(*self.grid.shape, 3)}")
        return integrate_velocity(v.movedim(-1, 0), self.grid, self.steps).movedim(0, -1).numpy()

    def map_tensor(self, points: Tensor) -> Tensor:
        return self.field.map_tensor(points)

    def inverse(self) -> VelocityField:
        """exp(-v), exact up to interpolation."""
        return VelocityField(self.grid, -self.velocity, self.steps)


def integrate_velocity(velocity: Tensor, grid: Grid, steps: int = 7) -> Tensor:
    """The displacement of the flow of a stationary velocity; differentiable.

    Source: Arsigny et al., MICCAI 2006: u ← u + u∘(id + u), `steps` times from v / 2^steps.

    Args:
        velocity: [3, i, j, k] LPS mm, floating point.
        grid: Where the vectors stand.
        steps: Number of squarings.

    Returns:
        [3, i, j, k] LPS mm of the dtype and on the device of the velocity.
    """
    to_index = torch.as_tensor(grid.index_from_lps[:3, :3], dtype=velocity.dtype, device=velocity.device)
    axes = [torch.arange(n, dtype=velocity.dtype, device=velocity.device) for n in grid.shape]
    here = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    u = velocity / 2**steps
    for _ in range(steps):
        u = u + sample(u, here + u.movedim(0, -1) @ to_index.T)
    return u
