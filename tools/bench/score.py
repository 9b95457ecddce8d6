"""One score for all methods, by samreg's own measures."""

from __future__ import annotations

import numpy as np

from samreg.metrics import (
    evaluate_labels,
    evaluate_landmarks,
    inverse_error_mm,
    jacobian_measures,
    normalised_correlation,
)
from samreg.preprocess import body_mask
from samreg.transforms import Transform
from tools.bench.sets import Pair

POINTS = 20_000


def score(pair: Pair, transform: Transform, backward: Transform | None) -> dict[str, float]:
    """What a transform is worth on a pair.

    Args:
        pair: Images and what is known about them.
        transform: Fixed points to moving points.
        backward: Of the registration with the images swapped: moving points to fixed points.

    Returns:
        As far as the pair knows them: `dice` (mean of the labels), `dice_N` of each label, `hd95_mm`, `tre_mm`,
        `tre_px`, `error_mm` (mean in the body, where the moving image shows the true counterpart); always
        `folding_percent` and `sd_log_jacobian` (in the body), `correlation` (in the body) and, with `backward`,
        `inverse_mm` (mean in the body).
    """
    grid, body = pair.fixed.grid, body_mask(pair.fixed)
    scores: dict[str, float] = {}
    if pair.fixed_labels is not None and pair.moving_labels is not None:
        found = evaluate_labels(transform, pair.fixed_labels, grid, pair.moving_labels, pair.moving.grid)
        scores |= {"dice": found["mean"]["dice"], "hd95_mm": found["mean"]["hd95_mm"]}
        scores |= {f"dice_{label}": values["dice"] for label, values in found["labels"].items()}
    if pair.fixed_landmarks is not None and pair.moving_landmarks is not None and len(pair.fixed_landmarks):
        errors = evaluate_landmarks(
            transform, pair.fixed_landmarks, pair.moving_landmarks, moving_grid=pair.moving.grid
        )
        scores |= {"tre_mm": errors["tre_mm"]["mean"], "tre_px": errors["tre_px"]["mean"]}
    indices = np.argwhere(body)
    points = grid.lps(indices[:: max(1, len(indices) // POINTS)].astype(float))
    if pair.truth is not None:
        true = pair.truth.map_points(points)
        seen = pair.moving.grid.contains(true)
        scores["error_mm"] = float(np.linalg.norm(transform.map_points(points[seen]) - true[seen], axis=1).mean())
    jacobian = jacobian_measures(transform.jacobian_determinant(grid), body)
    scores["folding_percent"] = 100 * jacobian["folding_share"]
    scores["sd_log_jacobian"] = jacobian["sd_log_jacobian"]
    warped = transform.warp(pair.moving, grid, outside=float("nan"))
    known = body & np.isfinite(warped)
    scores["correlation"] = normalised_correlation(pair.fixed.voxels[known], warped[known])
    if backward is not None:
        scores["inverse_mm"] = float(inverse_error_mm(transform, backward, points).mean())
    return {key: value for key, value in scores.items() if np.isfinite(value)}
