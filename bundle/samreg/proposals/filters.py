"""Which regions are worth keeping: by size, and by overlap with better ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np

from samreg.config import ProposalConfig
from samreg.geometry import Grid
from samreg.rois import Roi
from samreg.types import Mask

# Shares of the body at which a region is never too small, so that a body of a few millimetres has regions too.
SMALL_AREA = 5e-3
SMALL_VOLUME = 5e-4
PAPER_SIDE = 200  # pixels along each axis of the slices that SAMReg's limits are for


def size_limits(grid: Grid, body: Mask, config: ProposalConfig, *, per_slice: bool) -> tuple[float, np.ndarray]:
    """Smallest and largest number of voxels of a region.

    Args:
        grid: Of the image.
        body: [i, j, k].
        config: Limits in mm², mm³, as fractions of the body, or in pixels of a slice of 200 x 200.
        per_slice: Regions are 2D (area limits) rather than 3D (volume limits).

    Returns:
        Smallest number of voxels, and the largest of each slice [k] (2D: a fraction of the slice's
        body; 3D: the same for all). What is small in mm counts as large enough if it is a fair share
        of the body (SMALL_AREA, SMALL_VOLUME).
    """
    if per_slice:
        return _smallest_area(grid, body, config), _largest_areas(grid, body, config)
    volume = float(body.sum())
    smallest = min(config.min_volume_mm3 / grid.voxel_mm3, SMALL_VOLUME * volume)
    return smallest, np.full(grid.shape[2], config.max_volume_fraction * volume)


def _smallest_area(grid: Grid, body: Mask, config: ProposalConfig) -> float:
    if config.min_area_px is not None:
        return config.min_area_px * _pixels_of_paper(grid)
    smallest = config.min_area_mm2 / float(np.prod(grid.spacing_mm[:2]))
    return min(smallest, SMALL_AREA * float(body.sum((0, 1)).max()))


def _largest_areas(grid: Grid, body: Mask, config: ProposalConfig) -> np.ndarray:
    if config.max_area_px is not None:
        return np.full(grid.shape[2], config.max_area_px * _pixels_of_paper(grid))
    largest = config.max_area_fraction * body.sum((0, 1))
    if config.max_area_mm2 is not None:
        largest = np.minimum(largest, config.max_area_mm2 / float(np.prod(grid.spacing_mm[:2])))
    return largest


def _pixels_of_paper(grid: Grid) -> float:
    """Pixels of a slice for each pixel it would have at 200 x 200."""
    return grid.shape[0] * grid.shape[1] / PAPER_SIDE**2


def within_limits(rois: Iterable[Roi], smallest: float, largest: np.ndarray) -> list[Roi]:
    """The regions whose number of voxels lies within the limits that `size_limits` gives."""
    return [roi for roi in rois if smallest <= roi.count <= largest[roi.start[2]]]


def without_overlap(
    rois: Iterable[Roi],
    max_overlap: float,
    *,
    max_rois: int | None = None,
    relative_to: Literal["smaller", "larger"] = "smaller",
) -> list[Roi]:
    """Regions in order of score, each dropped that shares too much with a better one.

    Args:
        rois: Regions of one grid, in any order.
        max_overlap: Largest share of voxels in common, 0..1.
        max_rois: Stop after this many.
        relative_to: The share is of the smaller of the two, so a part goes when the whole is kept
            (SAMReg's filter), or of the larger, so that only near copies go and parts stay beside
            wholes.

    Returns:
        The kept regions, best score first.
    """
    ordered = sorted(rois, key=lambda roi: -roi.score)
    limit = len(ordered) if max_rois is None else max_rois
    starts = np.array([r.start for r in ordered]).reshape(-1, 3)
    stops = starts + np.array([r.shape for r in ordered]).reshape(-1, 3)
    counts = np.array([r.count for r in ordered])
    smaller_of_two = np.minimum if relative_to == "smaller" else np.maximum
    kept: list[int] = []
    for n, roi in enumerate(ordered):
        if len(kept) >= limit:
            break
        # The common part of the boxes and the smaller count both bound the overlap: few need a look at bits.
        sides = np.clip(np.minimum(stops[kept], stops[n]) - np.maximum(starts[kept], starts[n]), 0, None)
        allowed = max_overlap * smaller_of_two(counts[kept], counts[n])
        bound = np.minimum(sides.prod(1), np.minimum(counts[kept], counts[n]))
        near = np.flatnonzero(bound > allowed)
        if not any(roi.overlap(ordered[kept[m]]) > allowed[m] for m in near):
            kept.append(n)
    return [ordered[n] for n in kept]
