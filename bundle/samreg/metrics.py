"""Measures of a registration, in the units and by the definitions of the field."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from samreg.errors import InputRefused, UsageError
from samreg.geometry import Grid, Volume, finest_spacing_mm
from samreg.rois import Roi, RoiPairs
from samreg.transforms import Affine, Transform
from samreg.types import Labels, Mask, Points


def dice(a: Mask, b: Mask) -> float:
    """Overlap of two masks, 2 |a ∩ b| / (|a| + |b|).

    Args:
        a, b: bool, of one shape.

    Returns:
        0..1; NaN if both are empty.
    """
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else float("nan")


def hausdorff95_mm(a: Mask, b: Mask, grid: Grid) -> float:
    """The greater of the two 95th percentiles of surface distances.

    Args:
        a, b: bool [i, j, k] on the grid.
        grid: Of both masks.

    Returns:
        Distance in mm; NaN if either mask is empty.
    """
    if not a.any() or not b.any():
        return float("nan")
    both = np.argwhere(a | b)
    box = tuple(slice(max(0, low - 1), high + 2) for low, high in zip(both.min(0), both.max(0), strict=True))
    a, b = a[box], b[box]
    surfaces = [mask & ~ndimage.binary_erosion(mask, _cross(mask.shape), border_value=1) for mask in (a, b)]
    surfaces = [s if s.any() else m for s, m in zip(surfaces, (a, b), strict=True)]
    if grid.is_sheared:
        points = [np.argwhere(s) @ grid.affine[:3, :3].T for s in surfaces]
        distances = [cKDTree(points[1]).query(points[0])[0], cKDTree(points[0]).query(points[1])[0]]
    else:
        there, back = (ndimage.distance_transform_edt(~s, grid.spacing_mm) for s in surfaces)
        distances = [back[surfaces[0]], there[surfaces[1]]]
    return float(max(np.percentile(d, 95) for d in distances))


def normalised_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson correlation of two samples.

    Args:
        a, b: Values of one shape.

    Returns:
        -1..1; NaN where a sample is constant or has fewer than two values.
    """
    if a.size < 2 or a.std() == 0 or b.std() == 0:
        return float("nan")
    return float(np.corrcoef(a.ravel().astype(np.float64), b.ravel().astype(np.float64))[0, 1])


def jacobian_measures(determinant: np.ndarray, mask: Mask) -> dict[str, float]:
    """Least and greatest determinant, share at or below zero, and SDlogJ in a mask.

    SDlogJ is the standard deviation of log(clip(det + 3)), as in Learn2Reg (Hering et al., IEEE TMI 2022).

    Args:
        determinant: [i, j, k] of the transform's Jacobian.
        mask: bool [i, j, k]; an empty one stands for the whole grid.

    Returns:
        `jacobian_min`, `jacobian_max`, `folding_share` (0..1) and `sd_log_jacobian`.
    """
    values = determinant[mask] if mask.any() else determinant.ravel()
    return {
        "jacobian_min": float(values.min()),
        "jacobian_max": float(values.max()),
        "folding_share": float((values <= 0).mean()),
        "sd_log_jacobian": float(np.log((values + 3).clip(1e-9, 1e9)).std()),
    }


def inverse_error_mm(transform: Transform, inverse: Transform, points: Points) -> np.ndarray:
    """Distance of fixed points from where forward and then backward takes them.

    Args:
        transform: Fixed points to moving points.
        inverse: Moving points to fixed points.
        points: [n, 3] LPS mm in the fixed image.

    Returns:
        [n] mm.
    """
    return np.linalg.norm(inverse.map_points(transform.map_points(points)) - points, axis=-1)


def why_not_invertible(transform: Transform, grid: Grid) -> str:
    """What keeps a transform from being invertible on a grid.

    Close to a fold the inverse exists, but no field of vectors holds it: there and back must end within a voxel.

    Args:
        transform: Fixed points to moving points.
        grid: In the fixed image's space.

    Returns:
        The reason in words ("it folds"); empty if the transform is invertible.
    """
    if not float(transform.jacobian_determinant(grid).min()) > 0:
        return "it folds"
    try:
        inverse = transform.inverse()
    except UsageError:
        return "its inverse does not settle"
    worst_mm = float(inverse_error_mm(transform, inverse, grid.points().reshape(-1, 3)).max())
    return f"its inverse misses by up to {worst_mm:.1f} mm" if worst_mm > finest_spacing_mm(grid) else ""


def target_registration_error_mm(transform: Transform, fixed: Points, moving: Points) -> np.ndarray:
    """Distance of mapped fixed landmarks from their moving counterparts.

    Args:
        transform: Fixed points to moving points.
        fixed, moving: [n, 3] LPS mm; the same row is the same place.

    Returns:
        [n] mm.

    Raises:
        InputRefused: The lists differ in length.
    """
    if len(fixed) != len(moving):
        raise InputRefused(
            f"the files hold {len(fixed)} fixed and {len(moving)} moving landmarks", reason="landmark-count"
        )
    return np.linalg.norm(transform.map_points(fixed) - moving, axis=-1)


def pair_dice(pairs: RoiPairs, transform: Transform) -> np.ndarray:
    """Overlap (Dice) of each pair's fixed region with its moving region pulled through the transform.

    Args:
        pairs: n paired regions.
        transform: Fixed points to moving points.

    Returns:
        [n] 0..1 in order of the pairs.
    """
    out = np.zeros(len(pairs))
    apart = pair_distance_mm(pairs, transform)
    for n, pair in enumerate(pairs):
        box = pairs.moving_grid.crop(pair.moving.start, np.add(pair.moving.start, pair.moving.shape))
        moving = Volume(pair.moving.box.astype(np.uint8), box)
        low, high = np.asarray(pair.fixed.start), np.add(pair.fixed.start, pair.fixed.shape)
        inside = transform.warp(moving, pairs.fixed_grid.crop(low, high), interpolation="nearest") > 0
        if not (inside & pair.fixed.box).any():
            continue
        # A window that holds both: the moving region lies around the fixed centroid, as far as the two are apart and
        # as it reaches, and by half more where the transform shrinks.
        reaches = np.linalg.norm(pairs.moving_grid.spacing_mm * _reach_of(pair.moving))
        margin = np.ceil(1.5 * (apart[n] + reaches) / pairs.fixed_grid.spacing_mm).astype(int) + 1
        centre = np.rint(pair.fixed.centroid_ijk).astype(int)
        start = np.maximum(0, np.minimum(low, centre - margin))
        stop = np.minimum(pairs.fixed_grid.shape, np.maximum(high, centre + margin + 1))
        grid = pairs.fixed_grid.crop(start, stop)
        fixed = np.zeros(grid.shape, bool)
        fixed[tuple(slice(a, b) for a, b in zip(low - start, high - start, strict=True))] = pair.fixed.box
        out[n] = dice(fixed, transform.warp(moving, grid, interpolation="nearest") > 0)
    return out


def _reach_of(roi: Roi) -> np.ndarray:
    """Voxels along each axis from the centroid to the farther end of the box."""
    before = roi.centroid_ijk - roi.start
    return np.maximum(before, np.asarray(roi.shape) - 1 - before) + 0.5


def pair_distance_mm(pairs: RoiPairs, transform: Transform) -> np.ndarray:
    """Distance of each pair's mapped fixed centroid from its moving centroid.

    Args:
        pairs: n paired regions.
        transform: Fixed points to moving points.

    Returns:
        [n] mm in order of the pairs.
    """
    return target_registration_error_mm(transform, pairs.fixed.centroids_lps(), pairs.moving.centroids_lps())


def evaluate_labels(
    transform: Transform, fixed_labels: Labels, fixed_grid: Grid, moving_labels: Labels, moving_grid: Grid
) -> dict[str, Any]:
    """Dice, HD95 and centroid distance of each label, moving labels warped to the fixed grid (nearest).

    Args:
        transform: Fixed points to moving points.
        fixed_labels: [i, j, k] integers on the fixed grid; 0 is background.
        fixed_grid: Of the fixed labels.
        moving_labels: [i, j, k] integers on the moving grid, equal numbers for equal structures.
        moving_grid: Of the moving labels.

    Returns:
        `labels`: `dice`, `hd95_mm` and `centroid_distance_mm` by number; `mean`: their means. A label absent from
        either map has NaN and does not count in the means.
    """
    warped = transform.warp(Volume(moving_labels, moving_grid), fixed_grid, interpolation="nearest")
    numbers = sorted(set(np.unique(fixed_labels).tolist()) | set(np.unique(moving_labels).tolist()))
    labels = {}
    for number in (n for n in numbers if n != 0):
        fixed, moved = fixed_labels == number, warped == number
        source = np.argwhere(moving_labels == number)
        known = fixed.any() and len(source) > 0
        distance = float("nan")
        if known:
            centre = fixed_grid.lps(np.argwhere(fixed).mean(0)[None])
            distance = float(np.linalg.norm(transform.map_points(centre) - moving_grid.lps(source.mean(0)[None])))
        labels[str(number)] = {
            "dice": dice(fixed, moved) if known else float("nan"),
            "hd95_mm": hausdorff95_mm(fixed, moved, fixed_grid) if known else float("nan"),
            "centroid_distance_mm": distance,
        }
    means = {
        key: _mean([entry[key] for entry in labels.values()]) for key in ("dice", "hd95_mm", "centroid_distance_mm")
    }
    return {"labels": labels, "mean": means}


def evaluate_landmarks(
    transform: Transform, fixed: Points, moving: Points, *, moving_grid: Grid | None = None
) -> dict[str, Any]:
    """Target registration error: mean, median, maximum, and each landmark; beside it that of the identity.

    Args:
        transform: Fixed points to moving points.
        fixed, moving: [n, 3] LPS mm; the same row is the same place.
        moving_grid: Of the image that the moving landmarks were set on in pixels; then errors are given in
            its pixels too, and relative to its diagonal (rTRE of Borovec et al., IEEE TMI 39(10), 2020).

    Returns:
        `tre_mm` and `landmarks_mm` (with a grid also `tre_px`, `relative_tre`, `landmarks_px`) of the
        transform; the same under `before` of the identity.
    """

    def scores(mapped: Transform) -> dict[str, Any]:
        errors = target_registration_error_mm(mapped, fixed, moving)
        out: dict[str, Any] = {"tre_mm": _spread_of(errors), "landmarks_mm": errors.tolist()}
        if moving_grid is not None:
            axes = list(moving_grid.active_axes)
            apart = (moving_grid.index(mapped.map_points(fixed)) - moving_grid.index(moving))[:, axes]
            pixels = np.linalg.norm(apart, axis=-1)
            diagonal = np.linalg.norm(np.asarray(moving_grid.shape)[axes])
            out |= {"tre_px": _spread_of(pixels), "relative_tre": _spread_of(pixels / diagonal)}
            out["landmarks_px"] = pixels.tolist()
        return out

    return scores(transform) | {"count": len(fixed), "before": scores(Affine.identity())}


def _spread_of(errors: np.ndarray) -> dict[str, float]:
    return {"mean": float(errors.mean()), "median": float(np.median(errors)), "max": float(errors.max())}


def _mean(values: list[float]) -> float:
    known = [v for v in values if not np.isnan(v)]
    return float(np.mean(known)) if known else float("nan")


def _cross(shape: tuple[int, ...]) -> np.ndarray:
    """Six-neighbourhood, without the axes of one voxel (their border is no surface)."""
    full = ndimage.generate_binary_structure(3, 1)
    return full[tuple(slice(None) if n > 1 else slice(1, 2) for n in shape)]
