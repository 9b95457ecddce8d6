"""Selection of pairs (SAMReg Eq. 7 and Algorithm 1), with positional checks once a rough alignment is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from samreg.config import MatchingConfig
from samreg.errors import InputRefused
from samreg.matching.agreement import agreement
from samreg.rois import RoiPair, RoiPairs, RoiSet
from samreg.transforms import Transform

# Logistic regression of "centroids agree within 5 mm" on phantoms; see docs/concepts.md.
CONFIDENCE_ALIGNED = {"bias": -7.7, "similarity": 0.0, "dice": 11.9, "margin": 1.7}
CONFIDENCE_FREE = {"bias": -11.1, "similarity": 12.0, "dice": 0.0, "margin": 10.4}
MIN_DICE = 0.3


def match(
    fixed: RoiSet,
    moving: RoiSet,
    similarity: np.ndarray,
    config: MatchingConfig,
    *,
    aligned: Transform | None = None,
    max_distance_mm: float = 25.0,
) -> RoiPairs:
    """Regions paired one to one, greatest score first.

    Without an alignment the score is the similarity alone (the paper); with one, a pair must also
    lie together: centroids within `max_distance_mm`, volumes within a factor of two, masks overlapping,
    and the score is similarity times overlap.

    Args:
        similarity: [n, m] in [0, 1], of every fixed region with every moving one.
        aligned: Rough fixed to moving transform, or None.

    Returns:
        At most `config.max_pairs` pairs above `config.similarity_threshold`, most confident first.
    """
    score = np.array(similarity, np.float64)
    dice = np.zeros_like(score)
    if aligned is not None:
        _, dice = agreement(fixed, moving, aligned, max_distance_mm)
        score = np.where(dice >= MIN_DICE, score * dice, 0.0)
    score[similarity <= config.similarity_threshold] = 0.0
    score[~_within_slice_range(fixed, moving, aligned, config.slice_range_mm)] = 0.0
    margin = _margin(score)
    weights = CONFIDENCE_FREE if aligned is None else CONFIDENCE_ALIGNED
    found = []
    for n, m in _one_to_one(score, config.mutual):
        evidence = {"similarity": similarity[n, m], "dice": dice[n, m], "margin": margin[n, m]}
        confidence = _logistic(weights["bias"] + sum(weights[k] * float(v) for k, v in evidence.items()))
        if aligned is not None and confidence < config.min_confidence:
            continue
        found.append(RoiPair(0, fixed.rois[n], moving.rois[m], float(similarity[n, m]), confidence))
    found.sort(key=lambda pair: -pair.confidence)
    pairs = _without_redundant(found, config.max_pairs)
    return RoiPairs(fixed.grid, moving.grid, tuple(replace(p, id=i + 1) for i, p in enumerate(pairs)))


def match_labels(fixed: RoiSet, moving: RoiSet) -> RoiPairs:
    """Regions of the same label number paired (Case 1 of the paper), all with confidence 1.

    Raises:
        InputRefused: No label number is in both maps.
    """
    by_label = {roi.label: roi for roi in moving}
    common = [roi for roi in fixed if roi.label in by_label]
    if not common:
        raise InputRefused(
            f"the label maps share no label (fixed: {sorted(r.label for r in fixed)}, moving: {sorted(by_label)})",
            "the same number for the same structure in both",
            "Renumber one of the label maps.",
            reason="no-common-label",
        )
    pairs = tuple(RoiPair(i + 1, roi, by_label[roi.label], 1.0, 1.0) for i, roi in enumerate(common))
    return RoiPairs(fixed.grid, moving.grid, pairs)


def with_held_out(pairs: RoiPairs, share: float, seed: int) -> RoiPairs:
    """The pairs with about `share` of them marked as held out, drawn evenly over the confidences.

    At least one is held out from four pairs on; with fewer, none (all are needed).
    """
    count = round(share * len(pairs)) if len(pairs) >= 4 else 0
    if share > 0 and len(pairs) >= 4:
        count = max(1, count)
    rng = np.random.default_rng(seed)
    chosen = {int(rng.choice(part)) for part in np.array_split(np.arange(len(pairs)), count)} if count else set()
    return replace(pairs, pairs=tuple(replace(p, held_out=i in chosen) for i, p in enumerate(pairs)))


def _one_to_one(score: np.ndarray, mutual: bool) -> list[tuple[int, int]]:
    """Greedy maxima of a score matrix, each row and column once; zero scores never pair."""
    if score.size == 0:
        return []
    if mutual:
        best = (score >= score.max(1, keepdims=True)) & (score >= score.max(0, keepdims=True))
        score = np.where(best, score, 0.0)
    rows, columns = np.nonzero(score > 0)
    order = np.argsort(-score[rows, columns], kind="stable")
    taken_rows, taken_columns = set(), set()
    out = []
    for n, m in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if n not in taken_rows and m not in taken_columns:
            taken_rows.add(n)
            taken_columns.add(m)
            out.append((n, m))
    return out


def _margin(score: np.ndarray) -> np.ndarray:
    """How far each score lies above the best rival in its row and column (negative if it loses)."""

    def rival(values: np.ndarray) -> np.ndarray:
        if values.shape[1] < 2:
            return np.zeros_like(values)
        top = np.partition(values, -2, axis=1)
        first, second = top[:, -1:], top[:, -2:-1]
        return np.where(values >= first, second, first)

    return score - np.maximum(rival(score), rival(score.T).T) if score.size else score


def _within_slice_range(fixed: RoiSet, moving: RoiSet, aligned: Transform | None, slice_range_mm: float) -> np.ndarray:
    """[n, m] true where two single-slice regions lie within δs along the fixed slice normal (Algorithm 1).

    Regions of several slices, and single pictures, are not restricted.
    """
    allowed = np.ones((len(fixed), len(moving)), bool)
    if fixed.grid.is_2d or moving.grid.is_2d or not allowed.size:
        return allowed
    flat_fixed, flat_moving = (np.array([r.is_2d for r in rois]) for rois in (fixed, moving))
    centroids = fixed.centroids_lps()
    mapped = centroids if aligned is None else aligned.map_points(centroids)
    normal = moving.grid.direction[:, 2]
    offset = np.abs((mapped @ normal)[:, None] - (moving.centroids_lps() @ normal)[None])
    return allowed & ((offset <= slice_range_mm) | ~(flat_fixed[:, None] & flat_moving[None]))


def _without_redundant(pairs: list[RoiPair], limit: int, max_overlap: float = 0.8) -> list[RoiPair]:
    """The first `limit` pairs, leaving out those that mostly repeat a better one on both sides."""
    kept: list[RoiPair] = []
    for pair in pairs:
        if len(kept) == limit:
            break
        if not any(_repeats(pair, other, max_overlap) for other in kept):
            kept.append(pair)
    return kept


def _repeats(a: RoiPair, b: RoiPair, max_overlap: float) -> bool:
    return all(
        one.overlap(two) > max_overlap * max(one.count, two.count)
        for one, two in ((a.fixed, b.fixed), (a.moving, b.moving))
    )


def _logistic(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))
