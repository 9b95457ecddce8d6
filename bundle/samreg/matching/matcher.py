"""Selection of pairs (SAMReg Eq. 7 and Algorithm 1), with positional checks once a rough alignment is known."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from samreg.config import MatchingConfig
from samreg.errors import InputRefused
from samreg.matching.adaptive import least_margin
from samreg.matching.agreement import agreement
from samreg.matching.assignment import assign, margins
from samreg.matching.groups import groups_of
from samreg.matching.similarity import shape_similarity
from samreg.matching.slices import within_slices
from samreg.rois import Roi, RoiPair, RoiPairs, RoiSet
from samreg.transforms import Transform

# Logistic regression of "centroids agree within 5 mm" on phantoms, with the default scores; see docs/concepts.md.
CONFIDENCE_ALIGNED = {"bias": -7.7, "similarity": 0.0, "dice": 11.9, "margin": 1.7}
CONFIDENCE_FREE = {"bias": -11.1, "similarity": 12.0, "dice": 0.0, "margin": 10.4}
MIN_DICE = 0.3
MAX_REPEAT = 0.8  # share in common on both sides above which a pair repeats a better one


def match(
    fixed: RoiSet,
    moving: RoiSet,
    similarity: np.ndarray,
    config: MatchingConfig,
    *,
    aligned: Transform | None = None,
    max_distance_mm: float = 25.0,
) -> RoiPairs:
    """Regions paired by score, as `config` asks; by default one to one, greatest first.

    Without an alignment the score is the similarity alone (the paper); with one, a pair must also
    lie together: centroids within `max_distance_mm`, volumes within a factor of two, masks overlapping,
    and the score is similarity times overlap (to the power of `config.position_weight`). With a
    `config.shape_weight` the likeness of shapes is a factor too.

    Args:
        similarity: [n, m] of every fixed region with every moving one, as `config.similarity` says.
        aligned: Rough fixed to moving transform, or None.

    Returns:
        At most `config.max_pairs` pairs above `config.similarity_threshold`, those of greatest
        `config.rank_by` first. Pairs that share a region have the same `group`.
    """
    evidence = _Evidence.of(fixed, moving, np.asarray(similarity, np.float64), config, aligned, max_distance_mm)
    sure = (_sure(fixed), _sure(moving)) if config.assignment == "hybrid" else None
    found = []
    for n, m in assign(evidence.score, config.assignment, mutual=config.mutual, sure=sure):
        confidence = evidence.confidence(n, m)
        if not evidence.placed or confidence >= config.min_confidence:
            found.append((RoiPair(0, fixed.rois[n], moving.rois[m], float(similarity[n, m]), confidence), n, m))
    if config.rank_by == "confidence":
        found.sort(key=lambda entry: -entry[0].confidence)
    chosen = _selected(found, config.max_pairs, config.max_pairs_of == "slice")
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
            "the same number for the same structure in both",
            "Renumber one of the label maps.",
            reason="no-common-label",
        )
    pairs = tuple(RoiPair(i + 1, roi, by_label[roi.label], 1.0, 1.0) for i, roi in enumerate(common))
    return RoiPairs(fixed.grid, moving.grid, pairs)


@dataclass(frozen=True, eq=False)
class _Evidence:
    """What speaks for each combination [n, m].

    Attributes:
        similarity: In [0, 1], whatever the configuration calls it.
        dice: Overlap under the alignment; 0 without one.
        score: What pairs are assigned by; 0 where two regions may not pair.
        margin: Of the score, above the best rival.
        placed: The place took part in the score.
    """

    similarity: np.ndarray
    dice: np.ndarray
    score: np.ndarray
    margin: np.ndarray
    placed: bool

    @staticmethod
    def of(
        fixed: RoiSet,
        moving: RoiSet,
        similarity: np.ndarray,
        config: MatchingConfig,
        aligned: Transform | None,
        max_distance_mm: float,
    ) -> _Evidence:
        threshold = config.similarity_threshold
        if config.similarity == "cosine":
            similarity, threshold = (similarity + 1) / 2, (threshold + 1) / 2
        score, dice = similarity.copy(), np.zeros_like(similarity)
        placed = aligned is not None and config.position_weight > 0
        if aligned is not None and placed:
            _, dice = agreement(fixed, moving, aligned, max_distance_mm)
            score = np.where(dice >= MIN_DICE, score * dice**config.position_weight, 0.0)
        if config.shape_weight:
            score = score * shape_similarity(fixed, moving) ** config.shape_weight
        score[~within_slices(fixed, moving, aligned, config)] = 0.0
        if config.adaptive:
            margin = margins(score)
            score = np.where(margin > least_margin(score), score, 0.0)
        else:
            score[similarity <= threshold] = 0.0
            margin = margins(score)
        return _Evidence(similarity, dice, score, margin, placed)

    def confidence(self, n: int, m: int) -> float:
        """Probability that the combination is right."""
        weights = CONFIDENCE_ALIGNED if self.placed else CONFIDENCE_FREE
        found = {"similarity": self.similarity[n, m], "dice": self.dice[n, m], "margin": self.margin[n, m]}
        logit = weights["bias"] + sum(weights[k] * float(v) for k, v in found.items())
        return float(1 / (1 + np.exp(-logit)))


def _sure(rois: RoiSet) -> np.ndarray:
    """[n] whether a region's segmentation is at least as sure as the median of its image."""
    scores = np.array([roi.score for roi in rois])
    return scores >= np.median(scores) if scores.size else np.ones(0, bool)


def _selected(found: list[tuple[RoiPair, int, int]], limit: int, per_slice: bool) -> list[tuple[RoiPair, int, int]]:
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
