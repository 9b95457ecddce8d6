"""How well two regions lie on each other under a known rough alignment."""

from __future__ import annotations

import numpy as np

from samreg.rois import Roi, RoiSet
from samreg.transforms import Transform

SAMPLES = 150


def agreement(
    fixed: RoiSet, moving: RoiSet, aligned: Transform, max_distance_mm: float, volume_ratio: float = 2.0
) -> tuple[np.ndarray, np.ndarray]:
    """Distance of centroids and overlap of every admissible combination.

    Args:
        aligned: Fixed to moving points.
        max_distance_mm: Combinations further apart are not looked at.
        volume_ratio: Nor those whose volumes differ by more than this factor.

    Returns:
        distance [n, m] mm and Dice [n, m]; infinite and 0 where not admissible. The Dice is
        estimated from up to 150 voxels of each region.
    """
    distance = np.full((len(fixed), len(moving)), np.inf)
    dice = np.zeros((len(fixed), len(moving)))
    if not len(fixed) or not len(moving):
        return distance, dice
    mapped = aligned.map_points(fixed.centroids_lps())
    apart = np.linalg.norm(mapped[:, None] - moving.centroids_lps()[None], axis=-1)
    sizes_fixed = np.array([_size(fixed, r) for r in fixed])
    sizes_moving = np.array([_size(moving, r) for r in moving])
    ratio = np.abs(np.log(sizes_fixed[:, None] / sizes_moving[None]))
    admissible = (apart <= max_distance_mm) & (ratio <= np.log(volume_ratio))
    back = aligned.inverse()
    to_moving = [moving.grid.index(aligned.map_points(_samples(fixed, r))) for r in fixed]
    to_fixed = [fixed.grid.index(back.map_points(_samples(moving, r))) for r in moving]
    boxes_fixed, boxes_moving = [r.box for r in fixed], [r.box for r in moving]
    for n, m in zip(*np.nonzero(admissible), strict=True):
        distance[n, m] = apart[n, m]
        there = _share_inside(to_moving[n], moving.rois[m], boxes_moving[m])
        back_share = _share_inside(to_fixed[m], fixed.rois[n], boxes_fixed[n])
        shared = (there * sizes_fixed[n] + back_share * sizes_moving[m]) / 2
        dice[n, m] = min(1.0, 2 * shared / (sizes_fixed[n] + sizes_moving[m]))
    return distance, dice


def _size(rois: RoiSet, roi: Roi) -> float:
    return rois.volume_mm3(roi)


def _samples(rois: RoiSet, roi: Roi) -> np.ndarray:
    """Up to SAMPLES voxel centres of a region, LPS mm, evenly spread."""
    voxels = np.argwhere(roi.box)
    chosen = np.unique(np.linspace(0, len(voxels) - 1, min(SAMPLES, len(voxels))).round().astype(int))
    return rois.grid.lps(voxels[chosen] + roi.start)


def _share_inside(ijk: np.ndarray, roi: Roi, box: np.ndarray) -> float:
    local = np.floor(ijk - roi.start + 0.5).astype(int)
    inside = ((local >= 0) & (local < roi.shape)).all(1)
    hit = box[tuple(local[inside].T)]
    return float(hit.sum()) / len(ijk)
