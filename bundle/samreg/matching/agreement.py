"""How well two regions lie on each other under a known rough alignment."""

from __future__ import annotations

import numpy as np

from samreg.rois import Roi, RoiSet
from samreg.transforms import Transform

SAMPLES = 150


def centroids_apart_mm(fixed: RoiSet, moving: RoiSet, aligned: Transform) -> np.ndarray:
    """Distances [n, m] of the centroids, the fixed ones mapped by `aligned` (fixed to moving points)."""
    mapped = aligned.map_points(fixed.centroids_lps())
    return np.asarray(np.linalg.norm(mapped[:, None] - moving.centroids_lps()[None], axis=-1))


def overlap(
    fixed: RoiSet, moving: RoiSet, aligned: Transform, where: np.ndarray | None = None, volume_ratio: float = 2.0
) -> np.ndarray:
    """Dice [n, m] of the combinations, estimated from up to 150 voxels of each region.

    Args:
        fixed, moving: The regions.
        aligned: Fixed to moving points.
        where: bool [n, m], the combinations to look at; the others have 0. None: all.
        volume_ratio: Those whose volumes differ by more than this factor have 0 too.
    """
    dice = np.zeros((len(fixed), len(moving)))
    if not len(fixed) or not len(moving):
        return dice
    sizes_fixed = np.array([fixed.volume_mm3(r) for r in fixed])
    sizes_moving = np.array([moving.volume_mm3(r) for r in moving])
    admissible = np.abs(np.log(sizes_fixed[:, None] / sizes_moving[None])) <= np.log(volume_ratio)
    if where is not None:
        admissible &= where
    back = aligned.inverse()
    to_moving = [moving.grid.index(aligned.map_points(_samples(fixed, r))) for r in fixed]
    to_fixed = [fixed.grid.index(back.map_points(_samples(moving, r))) for r in moving]
    boxes_fixed, boxes_moving = [r.box for r in fixed], [r.box for r in moving]
    for n, m in zip(*np.nonzero(admissible), strict=True):
        there = _share_inside(to_moving[n], moving.rois[m], boxes_moving[m])
        back_share = _share_inside(to_fixed[m], fixed.rois[n], boxes_fixed[n])
        shared = (there * sizes_fixed[n] + back_share * sizes_moving[m]) / 2
        dice[n, m] = min(1.0, 2 * shared / (sizes_fixed[n] + sizes_moving[m]))
    return dice


def _samples(rois: RoiSet, roi: Roi) -> np.ndarray:
    """Up to SAMPLES voxel centres of a region, LPS mm, evenly spread."""
    voxels = np.argwhere(roi.box)
    chosen = np.unique(np.linspace(0, len(voxels) - 1, min(SAMPLES, len(voxels))).round().astype(int))
    return rois.grid.lps(voxels[chosen] + roi.start)


def _share_inside(ijk: np.ndarray, roi: Roi, box: np.ndarray) -> float:
    # A place half way between two voxels belongs to the same one whatever the last digit says.
    local = np.floor(np.round(ijk - roi.start, 6) + 0.5).astype(int)
    inside = ((local >= 0) & (local < roi.shape)).all(1)
    hit = box[tuple(local[inside].T)]
    return float(hit.sum()) / len(ijk)
