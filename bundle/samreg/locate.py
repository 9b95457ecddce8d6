"""The counterpart of a place: from a point of the fixed image to its region in the moving one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from samreg import pipeline
from samreg.config import Config
from samreg.errors import InputRefused
from samreg.geometry import Volume


def locate(
    fixed: Volume | str | Path, moving: Volume | str | Path, point_lps: np.ndarray, config: Config | None = None
) -> dict[str, Any]:
    """The region under a point of the fixed image, and its counterpart in the moving one.

    Args:
        point_lps: [3] LPS mm in the fixed image.

    Returns:
        The point, the mapped point, the status of the registration, and the pair as in `pairs.json`.

    Raises:
        InputRefused: The point is outside the fixed image, or no paired region lies under it.
    """
    result = pipeline.register(fixed, moving, config)
    point = np.asarray(point_lps, np.float64).reshape(1, 3)
    if not result.fixed.grid.contains(point)[0]:
        raise InputRefused(
            f"point {point[0].tolist()} lies outside the fixed image",
            "LPS millimetres within its field of view",
            "Check the coordinates (RAS values need the signs of x and y changed).",
            reason="point-outside",
        )
    voxel = np.round(result.fixed.grid.index(point)[0]).astype(int)
    voxel = np.clip(voxel, 0, np.asarray(result.fixed.grid.shape) - 1)
    under = [p for p in result.pairs if p.fixed.contains(voxel)]
    if not under:
        raise InputRefused(
            f"no paired region lies under point {point[0].tolist()}",
            "a point inside one of the paired regions (rois_fixed.nii.gz of `samreg register`)",
            "Map the point itself with `samreg apply-points`.",
            reason="no-region",
        )
    chosen = min(under, key=lambda p: p.fixed.count)
    pairs = result.pairs.as_json()["pairs"]
    return {
        "point_lps_mm": point[0].tolist(),
        "mapped_point_lps_mm": result.transform.map_points(point)[0].tolist(),
        "status": result.quality.status,
        "reasons": list(result.quality.reasons),
        "pair": next(p for p in pairs if p["id"] == chosen.id),
    }
