"""The pairs' masks as small stacks of signed distances, for losses and scores at points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from samreg.geometry import Grid, sample_each
from samreg.rois import Roi, RoiPairs

PATCH = 24  # voxels along each axis of a patch


@dataclass(frozen=True, eq=False)
class RoiPatches:
    """Signed distance (mm, positive inside) of each pair's two masks, on its own small grid.

    Attributes:
        fixed, moving: [n, 1, PATCH, PATCH, PATCH or 1].
        fixed_index, moving_index: float64 [n, 4, 4] patch index from LPS mm.
        fixed_lps: float64 [n, 4, 4] LPS mm from the index of the fixed patch.
        weights: float64 [n] confidence of each pair.
    """

    fixed: Tensor
    moving: Tensor
    fixed_index: Tensor
    moving_index: Tensor
    fixed_lps: Tensor
    weights: Tensor

    @staticmethod
    def of(pairs: RoiPairs, margin_mm: float, device: str = "cpu") -> RoiPatches:
        """Patches of all pairs, each box grown by a margin."""
        sides = {}
        for side, rois in (("fixed", pairs.fixed), ("moving", pairs.moving)):
            made = [_patch(r, rois.grid, margin_mm) for r in rois]
            sides[side] = (
                torch.as_tensor(np.array([m[0] for m in made]), device=device)[:, None],
                np.array([m[1].affine for m in made]),
            )
        fixed, fixed_affine = sides["fixed"]
        moving, moving_affine = sides["moving"]

        def tensor(matrices: np.ndarray) -> Tensor:
            return torch.as_tensor(matrices, dtype=torch.float64, device=device)

        return RoiPatches(
            fixed,
            moving,
            tensor(np.linalg.inv(fixed_affine)),
            tensor(np.linalg.inv(moving_affine)),
            tensor(fixed_affine),
            tensor(pairs.confidences),
        )

    def __len__(self) -> int:
        return self.fixed.shape[0]

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Random LPS points [n, count, 3] in each fixed patch."""
        shape = torch.tensor(self.fixed.shape[2:], dtype=torch.float32)
        unit = torch.rand(len(self), count, 3, generator=generator)
        return _apply(self.fixed_lps, ((unit * shape - 0.5) * (shape > 1)).to(self.fixed_lps))

    def distances(self, points: Tensor, mapped: Tensor) -> tuple[Tensor, Tensor]:
        """Signed distances [n, m] mm to the fixed regions at `points` and to the moving ones at `mapped`."""
        fixed = sample_each(self.fixed, _apply(self.fixed_index, points))[:, 0]
        moving = sample_each(self.moving, _apply(self.moving_index, mapped))[:, 0]
        return fixed.double(), moving.double()


def roi_loss(fixed: Tensor, moving: Tensor, softness_mm: float) -> Tensor:
    """MSE + Dice loss [n] of soft masks given as signed distances [n, m].

    Source: SAMReg (Huang et al., arXiv 2405.10879), Eq. 10, with masks softened over `softness_mm`
    so that regions which do not touch yet still attract each other.
    """
    a, b = torch.sigmoid(fixed / softness_mm), torch.sigmoid(moving / softness_mm)
    # Squares below, so that equal soft masks have Dice 1 and none is drawn to grow.
    dice = 2 * (a * b).sum(1) / (a.square() + b.square()).sum(1).clamp_min(1e-3)
    return ((a - b) ** 2).mean(1) + 1 - dice


def _patch(roi: Roi, grid: Grid, margin_mm: float) -> tuple[np.ndarray, Grid]:
    """Signed distance on PATCH points per axis over the region's box and margin."""
    pad = np.ceil(margin_mm / grid.spacing_mm).astype(int)
    pad[np.asarray(grid.shape) == 1] = 0
    start, stop = np.asarray(roi.start) - pad, np.add(roi.start, roi.shape) + pad
    box = np.pad(roi.box, [(p, p) for p in pad])
    spacing = grid.spacing_mm
    distance = ndimage.distance_transform_edt(box, spacing) - ndimage.distance_transform_edt(~box, spacing)
    source = grid.crop(start, stop)
    shape = np.where(np.asarray(grid.shape) == 1, 1, PATCH)
    target = source.with_spacing(source.extent_mm / shape)
    ijk = source.index(target.points())
    values = ndimage.map_coordinates(distance, np.moveaxis(ijk, -1, 0), order=1, mode="nearest")
    return values.astype(np.float32), target


def _apply(matrices: Tensor, points: Tensor) -> Tensor:
    """[n, 4, 4] on points [n, m, 3]."""
    return points @ matrices[:, :3, :3].transpose(1, 2) + matrices[:, None, :3, 3]
