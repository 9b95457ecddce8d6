"""Displacement fields and stationary velocity fields, in LPS mm."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from samreg.errors import UsageError
from samreg.geometry import Grid, index_points, sample
from samreg.transforms.base import Transform
from samreg.types import Points, Vectors

PLAIN_STEPS, MOST_STEPS = 15, 80  # of the search for an inverse: by fixed point, and with Newton's method after them
SHORTER = 0.5  # a step after one that brought a point no nearer


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
        """The inverse, on the same grid grown by the largest displacement at its border.

        By fixed-point iteration (Chen et al., Med Phys 35(1), 2008: x ← x + y - (x + u(x))), and by Newton's method
        where that does not settle, as in a field that shears or more than doubles lengths.

        Raises:
            UsageError: The iteration does not settle: the field folds.
        """
        tolerance_mm = min(tolerance_mm, 1e-2 * float(self.grid.spacing_mm.min()))
        grid = self.grid.padded(self._longest_at_border())
        vectors = np.empty((*grid.shape, 3), np.float32)
        missing_mm = 0.0
        for where, points in grid.slabs():
            target = torch.as_tensor(points, dtype=torch.float32).reshape(-1, 3)
            start = target if self.near_inverse is None else self.near_inverse.map_tensor(target)
            found, distance = self._found(target, start, tolerance_mm)
            vectors[where] = (found - target).reshape(points.shape).numpy()
            missing_mm = max(missing_mm, float(distance.max()))
        if missing_mm > 0.5 * float(self.grid.spacing_mm.min()):
            raise UsageError(
                f"the inverse of the displacement field does not converge ({missing_mm:.2f} mm are missing)",
                "an invertible field without folds",
            )
        return DisplacementField(grid, vectors, self)

    def sources(self, points: Points, tolerance_mm: float = 1e-3) -> Points:
        """The points that are mapped to given ones, as far as the search of `inverse` finds them.

        Args:
            points: [n, 3] LPS mm.
            tolerance_mm: Distance from the given point at which one counts as found.

        Returns:
            [n, 3] LPS mm.
        """
        target = torch.as_tensor(np.asarray(points, np.float64))
        return self._found(target, target, tolerance_mm)[0].numpy()

    def _longest_at_border(self) -> float:
        faces = [np.take(self.vectors, end, axis) for axis in self.grid.active_axes for end in (0, -1)]
        return max((float(np.linalg.norm(face, axis=-1).max()) for face in faces), default=0.0)

    def _found(self, target: Tensor, start: Tensor, tolerance_mm: float) -> tuple[Tensor, Tensor]:
        """Points [n, 3] that are mapped to a target, searched from a start, and how far from it they are mapped [n]."""
        best = start.clone()
        missing = target - self.map_tensor(best)
        distance = missing.norm(dim=-1)
        step = torch.ones_like(distance)
        for round_ in range(MOST_STEPS):
            left = (distance > tolerance_mm).nonzero()[:, 0]
            if not len(left):
                break
            if round_ == PLAIN_STEPS:
                step[left] = 1.0
            ahead = missing[left] if round_ < PLAIN_STEPS else self._newton_step(best[left], missing[left])
            tried = best[left] + step[left, None] * ahead
            lacking = target[left] - self.map_tensor(tried)
            apart = lacking.norm(dim=-1)
            nearer = apart < distance[left]
            better = left[nearer]
            best[better], missing[better], distance[better] = tried[nearer], lacking[nearer], apart[nearer]
            step[better] = (2 * step[better]).clamp(max=1.0)
            step[left[~nearer]] *= SHORTER
        return best, distance

    def _newton_step(self, points: Tensor, missing: Tensor) -> Tensor:
        """Solves J step = missing, with the derivative over one voxel."""
        half = torch.as_tensor(self.grid.affine[:3, :3] / 2).to(points)
        columns = [self.map_tensor(points + half[:, a]) - self.map_tensor(points - half[:, a]) for a in range(3)]
        jacobian = torch.stack(columns, -1) @ torch.linalg.inv(2 * half)
        step, failed = torch.linalg.solve_ex(jacobian, missing[..., None])
        return torch.where((failed == 0)[:, None], step[..., 0], missing)


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
