"""Every combination of a fixed and a moving region, with what speaks for it (SAMReg Eq. 6 and Algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from samreg.config import MatchingConfig
from samreg.encoders.base import PHANTOM_CALIBRATION, Calibration
from samreg.matching.adaptive import least_margin
from samreg.matching.agreement import centroids_apart_mm, overlap
from samreg.matching.assignment import margins
from samreg.matching.similarity import shape_similarity
from samreg.matching.slices import within_slices
from samreg.rois import RoiSet
from samreg.transforms import Transform

MIN_DICE = 0.3
DECIMALS = 9  # scores and confidences that differ by less are equal, and the order of the regions decides


@dataclass(frozen=True, eq=False)
class Combinations:
    """The combinations [n, m] of two sets of regions.

    Attributes:
        fixed, moving: The regions.
        config: What is asked of pairs, with what suits the encoder where it was left open.
        similarity: Of the prototypes, as `config.similarity` says.
        likeness: The same in 0..1, whatever the configuration calls similarity.
        dice: Overlap under the alignment; 0 without one.
        shape: Likeness of size and elongation, 0..1.
        score: What pairs are assigned by; 0 where two regions may not pair.
        margin: Of the score, above the best rival.
        placed: The place took part in the score.
        confidence: Probability that the combination is right.
    """

    fixed: RoiSet
    moving: RoiSet
    config: MatchingConfig
    similarity: np.ndarray
    likeness: np.ndarray
    dice: np.ndarray
    shape: np.ndarray
    score: np.ndarray
    margin: np.ndarray
    placed: bool
    confidence: np.ndarray


def weigh(
    fixed: RoiSet,
    moving: RoiSet,
    similarity: np.ndarray,
    config: MatchingConfig,
    *,
    calibration: Calibration = PHANTOM_CALIBRATION,
    aligned: Transform | None = None,
    max_distance_mm: float = 25.0,
) -> Combinations:
    """What speaks for each combination of two regions.

    Without an alignment the score is the similarity alone (the paper); with one, a pair must also lie together:
    centroids within `max_distance_mm`, volumes within a factor of two, masks overlapping, and the score is
    similarity times overlap (to the power of `config.position_weight`). Where the calibration lets regions lie
    apart, near centroids count as much as overlap, and what is far keeps a share of its score, unless
    `config.max_distance_mm` forbids it. With a `config.shape_weight` the likeness of shapes is a factor too.

    Args:
        fixed, moving: The regions.
        similarity: [n, m] of every fixed region with every moving one, as `config.similarity` says.
        config: What is asked of pairs.
        calibration: Of the encoder that the similarity is from.
        aligned: Rough fixed to moving transform, or None.
        max_distance_mm: Between centroids under the alignment.
    """
    config = calibrated(config, calibration)
    similarity = np.asarray(similarity, np.float64)
    likeness, threshold = similarity, config.similarity_threshold or 0.0
    if config.similarity == "cosine":
        likeness, threshold = (similarity + 1) / 2, (threshold + 1) / 2
    score, dice = likeness.copy(), np.zeros_like(likeness)
    placed = aligned is not None and config.position_weight > 0
    if aligned is not None and placed:
        apart_mm = centroids_apart_mm(fixed, moving, aligned)
        dice = overlap(fixed, moving, aligned, apart_mm <= max_distance_mm)
        share = calibration.apart
        near = (dice + np.exp(-2 * (apart_mm / max_distance_mm) ** 2)) / 2 if share else dice
        score = score * (share + (1 - share) * near) ** config.position_weight
        if not share:
            score[dice < MIN_DICE] = 0.0
        if config.max_distance_mm is not None:
            score[apart_mm > config.max_distance_mm] = 0.0
    shape = shape_similarity(fixed, moving)
    if config.shape_weight:
        score = score * shape**config.shape_weight
    score[~within_slices(fixed, moving, aligned, config)] = 0.0
    score = score.round(DECIMALS)
    if config.adaptive:
        margin = margins(score)
        score = np.where(margin > least_margin(score), score, 0.0)
    else:
        score[likeness <= threshold] = 0.0
        margin = margins(score)
    model = calibration.aligned if placed else calibration.free
    confidence = model.probability(similarity=likeness, dice=dice, shape=shape, margin=margin)
    confidence = confidence.round(DECIMALS)
    return Combinations(fixed, moving, config, similarity, likeness, dice, shape, score, margin, placed, confidence)


def calibrated(config: MatchingConfig, calibration: Calibration) -> MatchingConfig:
    """The configuration with what suits the encoder, where it leaves that open."""
    threshold, weight = config.similarity_threshold, config.shape_weight
    if threshold is None:
        threshold = calibration.similarity_threshold
        threshold = 2 * threshold - 1 if config.similarity == "cosine" else threshold
    return config.with_values(
        {
            "similarity_threshold": threshold,
            "shape_weight": calibration.shape_weight if weight is None else weight,
            "max_pairs": calibration.max_pairs if config.max_pairs is None else config.max_pairs,
        }
    )
