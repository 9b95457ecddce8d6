"""One descent: from a start, two fields lead from a middle to both images until these agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from samreg.constraints.model import Constraints
from samreg.errors import UsageError
from samreg.estimation.dense.capture import captured
from samreg.estimation.dense.constrained import Constrained
from samreg.estimation.dense.fields import (
    along_axes,
    composed,
    determinants,
    in_lps,
    on_level,
    sigmas_vox,
    unfolded,
    vanishing,
)
from samreg.estimation.dense.filters import smoothed
from samreg.estimation.dense.forces import Force, LocalCorrelation, SelfSimilarity
from samreg.estimation.dense.invertible import nearly_inverse
from samreg.estimation.dense.levels import DenseLevel, dense_levels
from samreg.estimation.image_pair import ImagePair
from samreg.geometry import Grid, finest_spacing_mm
from samreg.transforms import Affine, DisplacementField, compose
from samreg.types import Points

# Chosen on hippocampi of different people and on phantoms (docs/performance.md).
STEPS = {4: 100, 2: 60, 1: 15}  # by the spacing of the level, in finest spacings
STEP_VOX = 0.25  # that a point moves in a step at most, of the level's finest spacing: where the force is strong
SATURATION = 3.0  # times the usual force (root mean square), at which a step is half of that
FORCE_VOX = 3.0  # smoothing of the forces, of the level's finest spacing
FIELD_VOX = {4: 0.5, 2: 0.5, 1: 0.35}  # smoothing of the fields after each step, likewise, by level as the steps
FIELD_SLICES = 0.35  # of the fields at least, by so much of the spacing along each axis: noise moves thick slices
SELF_SIMILARITY = 10.0  # weight of descriptors beside local correlation,
BY_DESCRIPTORS = 0.5  # in the first part of the steps on the coarsest level: they capture more, and settle worse
MOST_CAPTURED = 1_500_000  # voxels of the images that large displacements are searched on
VOLUME_ROUNDS = 4  # of corrections of volumes at the end
KEEP_EVERY = 5  # steps, after which regions that keep their shape or volume are corrected


@dataclass(eq=False)
class Descent:
    """From one start.

    Attributes:
        levels: Coarse to fine.
        fields: [2, i, j, k, 3] from the middle to both images, in mm along the axes of the grid.
        grid: Of the fields.
        constrained: Corrects the fields.
    """

    start: Affine
    levels: Sequence[DenseLevel]
    fields: Tensor
    grid: Grid
    constrained: Constrained

    @staticmethod
    def of(pair: ImagePair, start: Affine, capture: bool, constraints: Constraints) -> Descent:
        levels = dense_levels(pair, start, _held_points(constraints, start))
        constrained = Constrained.by(constraints, start)
        if capture:
            sharpest = next((level for level in reversed(levels) if level.grid.size <= MOST_CAPTURED), levels[0])
            return Descent(start, levels, captured(sharpest), sharpest.grid, constrained)
        grid = levels[0].grid
        fields = torch.zeros((2, *grid.shape, 3), device=pair.device)
        return Descent(start, levels, fields, grid, constrained)

    def work(self, which: slice) -> int:
        """Voxels that the steps on some levels read."""
        return sum(STEPS[level.factor] * level.grid.size for level in self.levels[which])

    def follow(self, which: slice, step_done: Callable[[int], None]) -> None:
        """Take the steps on some levels."""
        for level in self.levels[which]:
            fields = on_level(self.fields, self.grid, level.grid)
            correlation: tuple[float, Force] = (1.0, LocalCorrelation(level.images, level.grid, level.noise))
            first, steps = [correlation], STEPS[level.factor]
            if level is self.levels[0]:
                first.append((SELF_SIMILARITY, SelfSimilarity.of(level.images, level.grid)))
            fields = self.constrained.settled(fields, level.grid)
            for n in range(steps):
                fields = _stepped(fields, level, first if n < BY_DESCRIPTORS * steps else [correlation])
                if n % KEEP_EVERY == KEEP_EVERY - 1:
                    fields = self.constrained.kept(fields, level.grid)
                step_done(level.grid.size)
            fields = self.constrained.settled(unfolded(fields, level.grid), level.grid)
            self.fields, self.grid = fields, level.grid

    def field(self) -> DisplacementField:
        """From the fixed to the moving image as the start shows it.

        Raises:
            UsageError: It folds, or has no inverse.
        """
        if float(determinants(self.fields, self.grid).min()) <= 0:
            raise UsageError("it folds where it is made to respect the constraints", "constraints that agree")
        return _between_images(self.fields, self.grid)

    def constrained_field(self) -> DisplacementField:
        """`field`, corrected until volumes that are to be kept are those measured on it.

        Raises:
            UsageError: It folds, or has no inverse.
        """
        field = self.field()
        for _ in range(VOLUME_ROUNDS if self.constrained.keepers else 0):
            aimed = self.constrained.aimed(compose([field, self.start]).inverse())
            if aimed is None:
                break
            self.constrained = aimed
            self.fields = aimed.settled(self.fields, self.grid)
            field = self.field()
        return field

    def constrained_anew(self, field: DisplacementField) -> DisplacementField:
        """A field from the fixed to the moving image as the start shows it, corrected until all constraints hold.

        Raises:
            UsageError: It folds, or has no inverse.
        """
        forward = along_axes(field.vectors, field.grid, self.fields)
        return _between_images(
            self.constrained.settled(torch.stack([torch.zeros_like(forward), forward]), field.grid), field.grid
        )


def _held_points(constraints: Constraints, start: Affine) -> Points:
    """[n, 3] LPS mm in the fixed space, of all that is constrained."""
    moving, fixed = [constraints.kept_points()], []
    if (marks := constraints.landmarks) is not None:
        moving.append(marks.moving)
        fixed.append(marks.fixed)
    return np.concatenate([start.inverse().map_points(np.concatenate(moving)), *fixed])


def _stepped(fields: Tensor, level: DenseLevel, terms: Sequence[tuple[float, Force]]) -> Tensor:
    """The fields [2, i, j, k, 3] of both images after one step along the smoothed force."""
    grid = level.grid
    force = torch.stack([weight * term.force(fields) for weight, term in terms]).sum(0)
    # Motion across thick slices is seen less well by as much as they are thicker.
    seen = torch.as_tensor(finest_spacing_mm(grid) / grid.spacing_mm).to(force)
    force = smoothed(force * seen * level.seen(fields)[..., None], sigmas_vox(grid, FORCE_VOX), first=-4)
    # In proportion to the largest force of all, most points would hardly move: few lie at an edge as sharp.
    strength = force.square().sum(-1, keepdim=True)
    usual = strength.mean(dtype=torch.float64).sqrt().to(force).clamp_min(torch.finfo(torch.float32).tiny)
    step = force * (STEP_VOX * finest_spacing_mm(grid)) / (strength.sqrt() + SATURATION * usual)
    widths = [max(FIELD_SLICES, width) for width in sigmas_vox(grid, FIELD_VOX[level.factor])]
    return smoothed(composed(fields, step, grid), widths, first=-4)


def _between_images(fields: Tensor, grid: Grid) -> DisplacementField:
    """From the middle to each image becomes from the fixed to the moving image."""
    fields, grid = vanishing(fields, grid)
    to_fixed, to_moving = (DisplacementField(grid, vectors) for vectors in in_lps(fields, grid))
    return DisplacementField(grid, compose([nearly_inverse(to_fixed), to_moving]).displacement(grid))
