"""Selection of pairs (SAMReg Eq. 7), or of regions that carry the same label (Case 1 of the paper)."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np

from samreg.errors import InputRefused
from samreg.matching.assignment import assign
from samreg.matching.combinations import Combinations
from samreg.matching.groups import groups_of
from samreg.rois import Roi, RoiPair, RoiPairs, RoiSet

MAX_REPEAT = 0.8  # share in common on both sides above which a pair repeats a better one


def match(combinations: Combinations) -> RoiPairs:
    """Pairs among the combinations, as their configuration asks; by default one to one, greatest score first.

    Returns:
        At most `max_pairs` pairs above `similarity_threshold`, and where the place took part of at least
        `min_confidence`; those of greatest `rank_by` first. Pairs that share a region have the same `group`.

    Example:
        >>> pairs = match(weigh(fixed, moving, similarity(of_fixed, of_moving), MatchingConfig()))
    """
    fixed, moving, config = combinations.fixed, combinations.moving, combinations.config
    sure = (_sure(fixed), _sure(moving)) if config.assignment == "hybrid" else None
    found = []
    for n, m in assign(combinations.score, config.assignment, mutual=config.mutual, sure=sure):
        confidence = float(combinations.confidence[n, m])
        if not combinations.placed or confidence >= config.min_confidence:
            pair = RoiPair(0, fixed.rois[n], moving.rois[m], float(combinations.similarity[n, m]), confidence)
            found.append((pair, n, m))
    if config.rank_by == "confidence":
        found.sort(key=lambda entry: -entry[0].confidence)
    limit = math.inf if config.max_pairs is None else config.max_pairs
    chosen = _selected(found, limit, config.max_pairs_of == "slice")
    groups = groups_of([(("fixed", n), ("moving", m)) for _, n, m in chosen])
    pairs = (replace(p, id=i, group=g) for i, ((p, _, _), g) in enumerate(zip(chosen, groups, strict=True), 1))
    return RoiPairs(fixed.grid, moving.grid, tuple(pairs))


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
            reason="no-common-label",
        )
    pairs = tuple(RoiPair(i + 1, roi, by_label[roi.label], 1.0, 1.0) for i, roi in enumerate(common))
    return RoiPairs(fixed.grid, moving.grid, pairs)


def _sure(rois: RoiSet) -> np.ndarray:
    """[n] whether a region's segmentation is at least as sure as the median of its image."""
    scores = np.array([roi.score for roi in rois])
    return scores >= np.median(scores) if scores.size else np.ones(0, bool)


def _selected(found: list[tuple[RoiPair, int, int]], limit: float, per_slice: bool) -> list[tuple[RoiPair, int, int]]:
    """The first `limit` pairs (of each fixed slice), without those that mostly repeat a better one on both sides."""
    kept: list[tuple[RoiPair, int, int]] = []
    counts: Counter[int] = Counter()
    for entry in found:
        pair = entry[0]
        place = pair.fixed.start[2] if per_slice else 0
        if not per_slice and counts[place] == limit:
            break
        if counts[place] < limit and not any(_repeats(pair, other) for other, _, _ in kept):
            kept.append(entry)
            counts[place] += 1
    return kept


def _repeats(a: RoiPair, b: RoiPair) -> bool:
    def same(one: Roi, two: Roi) -> bool:
        return one.overlap(two) > MAX_REPEAT * max(one.count, two.count)

    return same(a.fixed, b.fixed) and same(a.moving, b.moving)
