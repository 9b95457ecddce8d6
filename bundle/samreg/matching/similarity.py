"""How alike two regions look, and how alike they are in shape."""

from __future__ import annotations

from typing import Literal

import numpy as np

from samreg.rois import Roi, RoiSet


def similarity(
    fixed: np.ndarray, moving: np.ndarray, kind: Literal["normalised", "cosine"] = "normalised"
) -> np.ndarray:
    """Cosine of prototypes.

    Args:
        fixed: [n, c] prototypes of the fixed regions.
        moving: [m, c] prototypes of the moving regions.
        kind: "normalised" brings it to [0, 1] (SAMReg, Eq. 6), "cosine" leaves it in [-1, 1].

    Returns:
        [n, m] float64.
    """
    cosine = _unit(fixed) @ _unit(moving).T
    return cosine if kind == "cosine" else (cosine + 1) / 2


def shape_similarity(fixed: RoiSet, moving: RoiSet) -> np.ndarray:
    """Likeness of size and elongation, whatever the position and orientation.

    exp of minus the mean absolute logarithm of the ratios of the three principal lengths, so 1 for equal
    ones, and about 0.8 where one region is a quarter longer along all axes.

    Returns:
        [n, m] float64 in (0, 1].
    """
    lengths = [np.array([_log_lengths(rois, roi) for roi in rois]).reshape(-1, 3) for rois in (fixed, moving)]
    return np.exp(-np.abs(lengths[0][:, None] - lengths[1][None]).mean(-1))


def _log_lengths(rois: RoiSet, roi: Roi) -> np.ndarray:
    """Logarithms [3] of the standard deviations (mm) along a region's principal axes, greatest first."""
    points = np.argwhere(roi.box) * rois.grid.spacing_mm
    # Each voxel is a box, not a point, so a flat region has a thickness.
    spread = np.cov(points.T, bias=True) + np.diag(rois.grid.spacing_mm**2 / 12)
    return 0.5 * np.log(np.linalg.eigvalsh(spread)[::-1])


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
