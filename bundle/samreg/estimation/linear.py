"""Rigid and affine transforms by dense similarity, from given starts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from scipy import ndimage

from samreg.estimation.descent import minimised
from samreg.estimation.mutual_information import MIN_OVERLAP, PointSamples
from samreg.geometry import Grid, Volume
from samreg.preprocess import flattened, mask_on, working_volume
from samreg.threads import in_parallel
from samreg.transforms import nearest_rotation
from samreg.types import Mask, Matrix4

# Change of mutual information, relative to it, at which a fit has ended. A looser one ends a micrometre or two away,
# in a direction that the last digits choose.
CONVERGED = 1e-10
MAX_STEPS = 100
FIRST_STEP, LONGEST_STEP = 1 / 40, 1 / 12  # of the body's radius
DECIMALS = 9  # of the parameters, which are about millimetres

# Neighbouring voxels are much alike: of a body of many a third of them tells as much.
SAMPLED, ENOUGH_SAMPLES, LEAST_SAMPLES = 1 / 3, 20_000, 6_000  # share of the voxels, points of the finest, of any level

LinearKind = Literal["rigid", "affine"]


@dataclass(frozen=True, eq=False)
class Level:
    """One resolution of an image pair.

    Attributes:
        spacing_mm: Of the working images.
        fixed_mask, moving_mask: Body with a rim, so that its outline counts.
    """

    spacing_mm: float
    fixed: Volume
    moving: Volume
    fixed_mask: Mask
    moving_mask: Mask

    def flattened(self, scale: float) -> Level:
        """The same of pictures without their background, and masks without their rim; see `preprocess.flattened`."""
        fixed, fixed_mask = flattened(self.fixed, self.fixed_mask, scale)
        moving, moving_mask = flattened(self.moving, self.moving_mask, scale)
        return replace(self, fixed=fixed, moving=moving, fixed_mask=fixed_mask, moving_mask=moving_mask)

    def within(self, fixed: Volume | None, moving: Volume | None) -> Level:
        """The same with masks that lie within what counts of each image (0 and 1 on any grid of it; None: all)."""

        def cut(mask: Mask, image: Volume, counted: Volume | None) -> Mask:
            return mask if counted is None else mask & mask_on(counted.voxels > 0, counted.grid, image.grid)

        return replace(
            self,
            fixed_mask=cut(self.fixed_mask, self.fixed, fixed),
            moving_mask=cut(self.moving_mask, self.moving, moving),
        )

    def samples(self, most: int, share: float, *, seed: int, device: str) -> PointSamples:
        """Sample points for mutual information.

        Args:
            most: Points at the finest level of a large body; of a smaller one a third of its voxels or ENOUGH_SAMPLES,
                whichever is more.
            share: Of them that this level needs; LEAST_SAMPLES at the least, and never more than voxels.
            seed: Of their choice.
            device: Where tensors live.
        """
        enough = min(most, max(ENOUGH_SAMPLES, SAMPLED * np.count_nonzero(self.fixed_mask)))
        count = max(LEAST_SAMPLES, round(share * enough))
        return PointSamples.draw(
            self.fixed, self.moving, self.fixed_mask, self.moving_mask, count, seed=seed, device=device
        )


def make_level(
    fixed: Volume,
    moving: Volume,
    fixed_body: Volume,
    moving_body: Volume,
    spacing_mm: float,
    rim_mm: float,
    max_voxels: int,
) -> Level:
    """Both images and their body masks (given on any grid, here with a rim) at one resolution."""

    def prepared(side: tuple[Volume, Volume]) -> tuple[Volume, Mask]:
        volume, body = side
        image = working_volume(volume, spacing_mm, max_voxels=max_voxels)
        return image, _with_rim(body, image.grid, rim_mm)

    (one, one_mask), (other, other_mask) = in_parallel(prepared, ((fixed, fixed_body), (moving, moving_body)))
    return Level(spacing_mm, one, other, one_mask, other_mask)


def _with_rim(body: Volume, grid: Grid, rim_mm: float) -> Mask:
    distance = ndimage.distance_transform_edt(body.voxels == 0, sampling=body.grid.spacing_mm)
    return mask_on(distance <= rim_mm, body.grid, grid)


def generators(kind: LinearKind, grid: Grid, radius_mm: float) -> np.ndarray:
    """[p, 4, 4] directions of motion, each about one millimetre at `radius_mm` from the centre.

    For a single slice only motions within its plane are generated.
    """
    axes = grid.direction
    active = (0, 1) if grid.is_2d else (0, 1, 2)
    out = []
    for a in active:
        out.append(_generator(np.zeros((3, 3)), axes[:, a]))
    for n, a in enumerate(active):
        for b in active[n + 1 :]:
            turn = np.outer(axes[:, a], axes[:, b])
            out.append(_generator((turn - turn.T) / radius_mm, np.zeros(3)))
            if kind == "affine":
                out.append(_generator((turn + turn.T) / radius_mm, np.zeros(3)))
        if kind == "affine":
            out.append(_generator(np.outer(axes[:, a], axes[:, a]) / radius_mm, np.zeros(3)))
    return np.array(out)


def _generator(linear: np.ndarray, shift: np.ndarray) -> np.ndarray:
    out = np.zeros((4, 4))
    out[:3, :3], out[:3, 3] = linear, shift
    return out


def refine(
    start: Matrix4, samples: PointSamples, kind: LinearKind, grid: Grid, steps: int = MAX_STEPS
) -> tuple[Matrix4, float]:
    """The nearby matrix of greatest mutual information (BFGS on the group's exponential).

    Args:
        start: [4, 4] moving from fixed, LPS mm.
        steps: At most; with few of them the matrix is only on its way.

    Returns:
        Matrix and score (mutual information times overlap penalty; greater is better).
    """
    centre = samples.points.mean(0).cpu().numpy()
    radius = float(np.sqrt(samples.points.var(0).sum().item()))
    basis = torch.as_tensor(generators(kind, grid, radius))
    shift = np.eye(4)
    shift[:3, 3] = centre
    to_centre, from_centre = torch.as_tensor(np.linalg.inv(shift)), torch.as_tensor(shift)
    base = torch.tensor(start)

    def matrix_of(theta: torch.Tensor) -> torch.Tensor:
        motion = torch.matrix_exp((theta[:, None, None] * basis).sum(0))
        return base @ from_centre @ motion @ to_centre

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        # Each step starts from the same digits again, so that rounding errors of the libraries cannot add up.
        theta = torch.tensor(values.round(DECIMALS), requires_grad=True)
        cost = -_score(samples, matrix_of(theta))
        (slope,) = torch.autograd.grad(cost, theta)
        return cost.item(), slope.double().numpy()

    theta, cost = minimised(
        loss, len(basis), first=FIRST_STEP * radius, longest=LONGEST_STEP * radius, converged=CONVERGED, steps=steps
    )
    with torch.no_grad():
        matrix = matrix_of(torch.as_tensor(theta.round(DECIMALS))).numpy()
    matrix[3] = (0, 0, 0, 1)
    if kind == "rigid":
        matrix[:3, :3] = nearest_rotation(matrix[:3, :3])
    return matrix, -cost


def _score(samples: PointSamples, matrix: torch.Tensor) -> torch.Tensor:
    information, overlap = samples.mutual_information(matrix.to(samples.points))
    if samples.readable is not None:
        # Pictures may share any part of their bodies: what all of it tells is a point's information times its share.
        return information * overlap
    # A sliver of overlap can look well aligned; below MIN_OVERLAP the score falls to nothing.
    return information * (overlap / MIN_OVERLAP).clamp(max=1.0)
