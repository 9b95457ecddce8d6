"""Landmarks: a smooth correction of the field that brings each of them within its accuracy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from samreg.constraints.model import Landmarks
from samreg.estimation.dense.fields import along_axes, determinants, in_lps
from samreg.geometry import Grid, finest_spacing_mm
from samreg.transforms import Affine, DisplacementField
from samreg.types import Points

PASSES = 20
ENOUGH = 0.7  # of the accuracy, that each landmark is brought to
WIDTH = 6.0  # of the correction, beside the longest residual: it then changes by less than 0.4 mm per mm
LEAST_WIDTH_VOX = 6.0  # of the finest spacing
RIDGE = 0.05  # of the interpolation, so that landmarks that lie close together do not pull apart what lies between
SHORTER, TRIES = 0.5, 5  # of a correction that nearly folds
LEAST_DETERMINANT = 0.15


@dataclass(frozen=True, eq=False)
class LandmarkPull:
    """Pulls the half field towards the moving image, so that landmarks meet.

    Attributes:
        marks: Of both images.
        start: The linear transform behind the fields.
    """

    marks: Landmarks
    start: Affine

    def missing(self, fields: Tensor, grid: Grid) -> tuple[Points, Points]:
        """Where the fixed landmarks arrive in the moving image as the start shows it, and what they miss there.

        Args:
            fields: [2, i, j, k, 3] mm along the axes of the grid, from the middle to both images.
            grid: Of the fields.

        Returns:
            [n, 3] LPS mm of where they arrive, and [n, 3] mm to where they should.
        """
        to_fixed, to_moving = (DisplacementField(grid, vectors) for vectors in in_lps(fields, grid))
        arrived = to_moving.map_points(to_fixed.sources(self.marks.fixed))
        return arrived, self.start.inverse().map_points(self.marks.moving) - arrived

    def met(self, missing: Points) -> bool:
        """Whether each landmark is brought near enough.

        Args:
            missing: [n, 3] mm, in the moving image as the start shows it.
        """
        apart = np.linalg.norm(missing @ self.start.moving_from_fixed[:3, :3].T, axis=1)
        return bool((apart <= ENOUGH * self.marks.accuracy_mm).all())

    def pulled(self, fields: Tensor, grid: Grid) -> Tensor:
        """The fields with the landmarks brought to each other, as far as nothing nearly folds.

        Args:
            fields: [2, i, j, k, 3] mm along the axes of the grid, from the middle to both images.
            grid: Of the fields.

        Returns:
            [2, i, j, k, 3].
        """
        for _ in range(PASSES):
            arrived, missing = self.missing(fields, grid)
            if self.met(missing):
                break
            tried = _bent(fields, grid, arrived, missing)
            if tried is None:
                break
            fields = tried
        return fields


def _bent(fields: Tensor, grid: Grid, arrived: Points, missing: Points) -> Tensor | None:
    """The fields after one correction; None where even a short one nearly folds."""
    longest = float(np.linalg.norm(missing, axis=1).max())
    width = max(WIDTH * longest, LEAST_WIDTH_VOX * finest_spacing_mm(grid))
    apart = np.linalg.norm(arrived[:, None] - arrived, axis=-1)
    weights = np.linalg.solve(_bump(torch.as_tensor(apart / width)).numpy() + RIDGE * np.eye(len(arrived)), missing)
    along, inner = along_axes(weights, grid, fields), along_axes(arrived - grid.origin_lps, grid, fields)
    corner = [torch.arange(n).to(fields) * float(s) for n, s in zip(grid.shape, grid.spacing_mm, strict=True)]
    mapped = torch.stack(torch.meshgrid(*corner, indexing="ij"), -1) + fields[1]
    correction = torch.zeros_like(mapped)
    for centre, weight in zip(inner, along, strict=True):
        correction += _bump((mapped - centre).norm(dim=-1) / width)[..., None] * weight
    if grid.is_2d:
        correction[..., 2] = 0
    least = min(LEAST_DETERMINANT, 0.9 * float(determinants(fields[1:], grid).min()))
    for n in range(TRIES):
        tried = fields[1] + SHORTER**n * correction
        if float(determinants(tried[None], grid).min()) > least:
            return torch.stack([fields[0], tried])
    return None


def _bump(distance: Tensor) -> Tensor:
    """1 at distance 0, smooth, 0 from distance 1 on. Source: Wendland, Adv Comput Math 4, 1995 (C2 in space)."""
    return (1 - distance).clamp_min(0) ** 4 * (4 * distance + 1)
