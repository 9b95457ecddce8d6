"""An affine transform by descriptors that travel with the tissue; it holds between patients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from samreg.estimation.dense.fields import voxel_indices
from samreg.estimation.dense.filters import gradient
from samreg.estimation.dense.forces import SelfSimilarity
from samreg.estimation.dense.levels import DenseLevel, dense_levels
from samreg.estimation.image_pair import ImagePair
from samreg.geometry import inside, sample
from samreg.transforms import Affine, about_centre
from samreg.types import Matrix4

# Chosen on hippocampi of different people (docs/performance.md).
MOST_VOXELS = 250_000  # of a level that is fitted
MANY_VOXELS = 30_000  # of more, every second one along each axis tells enough
STEPS = 20  # at most, on each level
TRIES = 6  # of a step, each shorter
SETTLED = 1e-6  # share that a step gains, below which there is no other
LEAST_DETERMINANT = 0.2  # images of which little counts can be crushed into what is alike everywhere
FIRST_DAMPING, LEAST_DAMPING = 1e-3, 1e-5
DAMPED_MORE, DAMPED_LESS = 4.0, 1 / 3


def fit_by_descriptors(pair: ImagePair, starts: list[Affine]) -> Affine:
    """The affine transform with the least mean squared difference of MIND-SSC descriptors, of several starts.

    The descriptors of the moving image are made once, as each start shows it, and travel with the transform.
    Levenberg-Marquardt on twelve parameters (of pictures on six, within their plane).

    Args:
        pair: The images and their bodies.
        starts: Fixed to moving points, at least one.
    """
    fits = [_fitted(pair, start) for start in starts]
    return min(fits, key=lambda fit: fit[1])[0]


def _fitted(pair: ImagePair, start: Affine) -> tuple[Affine, float]:
    levels = dense_levels(pair, start)
    chosen = [level for level in levels if level.grid.size <= MOST_VOXELS] or levels[:1]
    matrix, distance = np.eye(4), np.inf  # in mm along the axes of the grid, about its centre
    for level in chosen:
        matrix, distance = _Fit.of(level).minimised(matrix)
    grid = levels[-1].grid
    turn = np.eye(4)
    turn[:3, :3] = grid.direction
    along = turn @ matrix @ turn.T
    return Affine(start.moving_from_fixed @ about_centre(along[:3, :3], along[:3, 3], grid.centre_lps)), distance


@dataclass(frozen=True, eq=False)
class _Seen:
    """What one matrix shows.

    Attributes:
        distance: Mean squared difference of the descriptors.
        difference: [c, n], 0 where the moving image has no values.
        slopes: [c, n, 3] of the moving descriptors per mm.
    """

    distance: float
    difference: Tensor
    slopes: Tensor


@dataclass(frozen=True, eq=False)
class _Fit:
    """One level.

    Attributes:
        descriptors: [c, n] of the fixed image at the points.
        counts: bool [n], where the fixed image has values that count.
        moving: [4 c, i, j, k] of the moving image: descriptors and their slopes per mm.
        points: [n, 3] mm along the axes, about the centre of the grid.
    """

    level: DenseLevel
    descriptors: Tensor
    counts: Tensor
    moving: Tensor
    points: Tensor

    @staticmethod
    def of(level: DenseLevel) -> _Fit:
        grid = level.grid
        fixed, moving = SelfSimilarity.of(level.images, grid).descriptors
        spacing = torch.as_tensor(grid.spacing_mm).to(moving)
        slopes = (gradient(moving) / spacing).movedim(-1, 1).flatten(0, 1)
        middle = (torch.tensor(grid.shape).to(moving) - 1) / 2
        every = 2 if grid.size > MANY_VOXELS else 1
        chosen = tuple(slice(n // 2 % every, None, every) for n in grid.shape)
        points = ((voxel_indices(grid, moving.device)[0] - middle) * spacing)[chosen].reshape(-1, 3)
        counts = level.known[0][chosen].flatten() > 0.5
        return _Fit(level, fixed[:, *chosen].flatten(1), counts, torch.cat([moving, slopes]), points.double())

    def minimised(self, matrix: Matrix4) -> tuple[Matrix4, float]:
        seen, damping = self.seen(matrix), FIRST_DAMPING
        for _ in range(STEPS):
            hessian, slope = self._normal_equations(seen)
            before = seen.distance
            for _ in range(TRIES):
                step = np.zeros(12)
                free = np.flatnonzero(np.diag(hessian) > 0)
                damped = hessian[np.ix_(free, free)] + damping * np.diag(np.diag(hessian)[free])
                step[free] = -np.linalg.solve(damped, slope[free])
                tried = matrix.copy()
                tried[:3] += step.reshape(3, 4) @ np.diag([1 / self.reach] * 3 + [1.0])
                there = self.seen(tried)
                if there.distance < before and np.linalg.det(tried[:3, :3]) > LEAST_DETERMINANT:
                    matrix, seen, damping = tried, there, max(damping * DAMPED_LESS, LEAST_DAMPING)
                    break
                damping *= DAMPED_MORE
            if before - seen.distance <= SETTLED * before:
                break
        return matrix, seen.distance

    @property
    def reach(self) -> float:
        """Of the points in mm, so that all parameters are of one size."""
        return float(self.points.abs().max())

    def seen(self, matrix: Matrix4) -> _Seen:
        grid, count = self.level.grid, len(self.descriptors)
        exact = torch.as_tensor(matrix).to(self.points)
        mapped = self.points @ exact[:3, :3].T + exact[:3, 3]
        ijk = (mapped / torch.as_tensor(grid.spacing_mm).to(mapped)) + (torch.tensor(grid.shape).to(mapped) - 1) / 2
        ijk = ijk.float()
        valid = inside(ijk, grid.shape) & (sample(self.level.known[1:], ijk)[0] > 0.5) & self.counts
        values = sample(self.moving, ijk) * valid
        difference = values[:count] - self.descriptors * valid
        total = float(difference.square().sum(dtype=torch.float64)) / count / max(1, int(valid.sum()))
        return _Seen(total, difference, values[count:].reshape(count, 3, -1).movedim(1, -1))

    def _normal_equations(self, seen: _Seen) -> tuple[np.ndarray, np.ndarray]:
        """Hessian [12, 12] and slope [12] by the rows of the matrix, its first three columns times the reach."""
        at = torch.cat([self.points / self.reach, torch.ones_like(self.points[:, :1])], 1)
        slopes, difference = seen.slopes.double(), seen.difference.double()
        products = torch.einsum("cna,cnb->abn", slopes, slopes)
        hessian = torch.einsum("abn,np,nq->apbq", products, at, at).reshape(12, 12)
        slope = torch.einsum("cna,cn,np->ap", slopes, difference, at).reshape(12)
        active = np.zeros((3, 4), bool)
        axes = list(self.level.grid.active_axes)
        active[np.ix_(axes, [*axes, 3])] = True
        free = active.ravel()
        return hessian.cpu().numpy() * np.outer(free, free), slope.cpu().numpy() * free
