"""What points at a region of the fixed image: a point in it, a box around it, or the region itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from samreg.errors import InputRefused, UsageError
from samreg.geometry import Grid
from samreg.rois import Roi
from samreg.types import Labels, Mask


@dataclass(frozen=True, eq=False)
class Point:
    """A place inside the region.

    Attributes:
        lps_mm: [3] in the fixed image.

    Raises:
        UsageError: Not three numbers.
    """

    lps_mm: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "lps_mm", _numbers(self.lps_mm, (3,), "a point"))

    def ijk(self, grid: Grid) -> np.ndarray:
        """Continuous index [3] on the grid.

        Raises:
            InputRefused: The point is outside (`point-outside`).
        """
        if not grid.contains(self.lps_mm[None])[0]:
            raise InputRefused(f"the point {self.lps_mm.tolist()} lies outside the fixed image", reason="point-outside")
        return grid.index(self.lps_mm[None])[0]

    def voxel(self, grid: Grid) -> np.ndarray:
        """Index [3] of the voxel that holds the point.

        Raises:
            InputRefused: The point is outside (`point-outside`).
        """
        return np.clip(np.round(self.ijk(grid)).astype(int), 0, np.asarray(grid.shape) - 1)

    def as_dict(self) -> dict[str, Any]:
        """The point as it stands in `locate.json`."""
        return {"point_lps_mm": self.lps_mm.tolist()}


@dataclass(frozen=True, eq=False)
class Box:
    """A box around the region, its sides along the axes of the fixed image.

    Attributes:
        corners_lps_mm: [2, 3] two opposite corners; both may lie in one slice.

    Raises:
        UsageError: Not two corners of three numbers.
    """

    corners_lps_mm: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "corners_lps_mm", _numbers(self.corners_lps_mm, (2, 3), "a box"))

    def ijk(self, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
        """Continuous indices [3] of the lowest and the highest corner, cut to the field of view.

        Raises:
            InputRefused: The box lies outside (`box-outside`), or is flat within the slices (`box-flat`).
        """
        corners = grid.index(self.corners_lps_mm)
        low, high = corners.min(0), corners.max(0)
        last = np.asarray(grid.shape) - 0.5
        if not ((high >= -0.5) & (low <= last)).all():
            raise InputRefused(
                f"the box {self.corners_lps_mm.tolist()} lies outside the fixed image", reason="box-outside"
            )
        if (high - low)[:2].min() < 1:
            raise InputRefused(f"the box {self.corners_lps_mm.tolist()} is thinner than a voxel", reason="box-flat")
        return np.maximum(low, -0.5), np.minimum(high, last)

    def roi(self, grid: Grid) -> Roi:
        """The voxels in the box, at least one along each axis.

        Raises:
            InputRefused: As `ijk`.
        """
        low, high = self.ijk(grid)
        first = np.clip(np.round(low), 0, np.asarray(grid.shape) - 1).astype(int)
        last = np.clip(np.round(high), first, np.asarray(grid.shape) - 1).astype(int)
        return Roi.from_mask(np.ones(last - first + 1, bool), offset=first.tolist())

    def as_dict(self) -> dict[str, Any]:
        """The box as it stands in `locate.json`."""
        return {"box_lps_mm": self.corners_lps_mm.ravel().tolist()}


@dataclass(frozen=True, eq=False)
class GivenRoi:
    """The region itself.

    Attributes:
        mask: [i, j, k] on the grid of the fixed image.
        label: Its number in the label map that it is from, or 0.

    Raises:
        UsageError: An empty mask.
    """

    mask: Mask
    label: int = 0

    def __post_init__(self) -> None:
        if not np.any(self.mask):
            raise UsageError("the region is empty", "a mask with at least one voxel")

    @staticmethod
    def from_labels(labels: Labels, label: int | None = None) -> GivenRoi:
        """One label of a map [i, j, k]; None: the only one that it holds.

        Raises:
            UsageError: The label is not there, or there are several to choose from.
        """
        known = [int(n) for n in np.unique(labels) if n != 0]
        held = f"labels {', '.join(map(str, known))}" if len(known) > 1 else f"label {', '.join(map(str, known))}"
        if label is None and len(known) != 1:
            raise UsageError(f"the label map holds {held}", reason="label")
        if label is not None and label not in known:
            raise UsageError(f"the label map does not hold label {label}", held, "Choose one of these.", reason="label")
        chosen = known[0] if label is None else label
        return GivenRoi(labels == chosen, chosen)

    def roi(self, grid: Grid) -> Roi:
        """The region on the grid of the fixed image.

        Raises:
            UsageError: The mask does not have the grid's shape.
        """
        if self.mask.shape != grid.shape:
            raise UsageError(f"the region has the shape {self.mask.shape}", f"the fixed image's shape {grid.shape}")
        return Roi.from_mask(self.mask, label=self.label)

    def as_dict(self) -> dict[str, Any]:
        """The region as it stands in `locate.json`."""
        return {"label": self.label}


Prompt = Point | Box | GivenRoi


def _numbers(values: np.ndarray, shape: tuple[int, ...], what: str) -> np.ndarray:
    out = np.asarray(values, np.float64)
    if out.size != np.prod(shape):
        raise UsageError(f"{what} has {out.size} numbers", f"{int(np.prod(shape))} numbers, LPS mm")
    return out.reshape(shape)
