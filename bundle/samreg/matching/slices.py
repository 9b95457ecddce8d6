"""Which slices of two volumes may hold regions of one pair (SAMReg, Algorithm 1)."""

from __future__ import annotations

import numpy as np

from samreg.config import MatchingConfig
from samreg.rois import RoiSet
from samreg.transforms import Transform


def within_slices(fixed: RoiSet, moving: RoiSet, aligned: Transform | None, config: MatchingConfig) -> np.ndarray:
    """[n, m] true where two single-slice regions may pair.

    Physical: their centroids lie within `slice_range_mm` along the moving slice normal, through the alignment if
    there is one; else as the images state their places, or from the middles of the two fields of view, since
    coordinates of two examinations need not have anything in common. Index: the numbers of their slices differ
    by at most `slice_range`, whatever the slices' spacing and place. Regions of several slices, and single
    pictures, are not restricted.
    """
    allowed = np.ones((len(fixed), len(moving)), bool)
    if fixed.grid.is_2d or moving.grid.is_2d or not allowed.size:
        return allowed
    flat_fixed, flat_moving = (np.array([r.is_2d for r in rois]) for rois in (fixed, moving))
    apart = _numbers_apart(fixed, moving) if config.slice_pairing == "index" else _mm_apart(fixed, moving, aligned)
    limit = config.slice_range if config.slice_pairing == "index" else config.slice_range_mm
    return (apart <= limit) | ~(flat_fixed[:, None] & flat_moving[None])


def _numbers_apart(fixed: RoiSet, moving: RoiSet) -> np.ndarray:
    first, second = (np.array([r.start[2] for r in rois]) for rois in (fixed, moving))
    return np.abs(first[:, None] - second[None])


def _mm_apart(fixed: RoiSet, moving: RoiSet, aligned: Transform | None) -> np.ndarray:
    centroids = fixed.centroids_lps()
    normal = moving.grid.direction[:, 2]
    mapped = (centroids if aligned is None else aligned.map_points(centroids)) @ normal
    apart = mapped[:, None] - (moving.centroids_lps() @ normal)[None]
    if aligned is not None:
        return np.abs(apart)
    between_middles = float((moving.grid.centre_lps - fixed.grid.centre_lps) @ normal)
    return np.minimum(np.abs(apart), np.abs(apart + between_middles))
