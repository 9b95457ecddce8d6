"""Rigid and affine transforms from paired points, in the presence of wrong pairs."""

from __future__ import annotations

import numpy as np

from samreg.geometry import transform_points
from samreg.transforms import rigid_from_points
from samreg.types import Matrix4, Points

TRIALS = 2000


def affine_from_points(
    fixed: Points, moving: Points, weights: np.ndarray, ridge_mm: float = 10.0, prior: Matrix4 | None = None
) -> Matrix4:
    """Weighted least-squares affine, drawn towards `prior` (default rigid) where points are few or flat.

    Args:
        ridge_mm: Spread of points at which prior and data have equal say.
    """
    prior = rigid_from_points(fixed, moving, weights) if prior is None else prior
    share = weights / weights.sum()
    centre_fixed = share @ fixed
    x = fixed - centre_fixed
    residual = moving - transform_points(prior, fixed)
    shift = share @ residual
    scatter = (x * share[:, None]).T @ x
    change = np.linalg.solve(scatter + ridge_mm**2 * np.eye(3), (x * share[:, None]).T @ (residual - shift)).T
    out = np.eye(4)
    out[:3, :3] = prior[:3, :3] + change
    out[:3, 3] = prior[:3, 3] + shift - change @ centre_fixed
    return out


def ransac_rigid(
    fixed: Points, moving: Points, weights: np.ndarray, tolerance_mm: float, *, seed: int = 0
) -> tuple[Matrix4, np.ndarray] | None:
    """The rigid transform that most of the (weighted) pairs agree with, and which pairs those are.

    Triples whose sides differ in length are discarded at once; the best is refined on its inliers
    with Tukey weights.

    Source: Fischler and Bolles, CACM 24(6), 1981; Kabsch, Acta Cryst. A32, 1976.

    Returns:
        [4, 4] moving from fixed and inliers [n] bool; None if fewer than four pairs agree.
    """
    count = len(fixed)
    if count < 4:
        return None
    rng = np.random.default_rng(seed)
    chance = weights / weights.sum()
    best, best_weight = None, 0.0
    for _ in range(TRIALS):
        triple = rng.choice(count, 3, replace=False, p=chance) if (chance > 0).sum() >= 3 else np.arange(3)
        if not _congruent(fixed[triple], moving[triple], tolerance_mm):
            continue
        matrix = rigid_from_points(fixed[triple], moving[triple], np.ones(3))
        agree = weights[_residuals(matrix, fixed, moving) < tolerance_mm].sum()
        if agree > best_weight:
            best, best_weight = matrix, float(agree)
    if best is None:
        return None
    matrix = irls(best, fixed, moving, weights, tolerance_mm)
    inliers = _residuals(matrix, fixed, moving) < tolerance_mm
    return (matrix, inliers) if inliers.sum() >= 4 else None


def irls(
    start: Matrix4,
    fixed: Points,
    moving: Points,
    weights: np.ndarray,
    tolerance_mm: float,
    *,
    kind: str = "rigid",
    iterations: int = 20,
) -> Matrix4:
    """Iteratively reweighted least squares with Tukey's biweight of width 2 × `tolerance_mm`.

    Args:
        kind: "rigid" or "affine" (then drawn towards `start`).
    """
    matrix = start
    for _ in range(iterations):
        ratio = _residuals(matrix, fixed, moving) / (2 * tolerance_mm)
        tukey = np.where(ratio < 1, (1 - ratio**2) ** 2, 0.0) * weights
        if (tukey > 0).sum() < 3:
            return matrix
        if kind == "rigid":
            matrix = rigid_from_points(fixed, moving, tukey)
        else:
            matrix = affine_from_points(fixed, moving, tukey, prior=start)
    return matrix


def _congruent(a: Points, b: Points, tolerance_mm: float) -> bool:
    sides_a = np.linalg.norm(a - np.roll(a, 1, 0), axis=1)
    sides_b = np.linalg.norm(b - np.roll(b, 1, 0), axis=1)
    return bool((np.abs(sides_a - sides_b) < 2 * tolerance_mm).all() and sides_a.min() > 2 * tolerance_mm)


def _residuals(matrix: Matrix4, fixed: Points, moving: Points) -> np.ndarray:
    return np.linalg.norm(transform_points(matrix, fixed) - moving, axis=1)
