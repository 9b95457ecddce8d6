"""How sure a pair is, fitted to pairs whose truth is known, and judged on others.

The whole chain of two images runs: everything mode, pairs by appearance, the alignment that they give, pairs that
lie together. A pair is right if its two centroids show the same place to 5 mm, of a field of view of 256 mm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize

from samreg.config import MatchingConfig, ProposalConfig
from samreg.encoders.base import Calibration, Confidence
from samreg.encoders.models import EmbeddedEncoder
from samreg.encoders.pooling import pool
from samreg.geometry import Volume
from samreg.matching import Combinations, match, similarity, weigh
from samreg.proposals.everything import Everything
from samreg.rois import Roi, RoiPairs, RoiSet
from samreg.training.gates import REACH_MM, alignment, grid_of
from samreg.training.synthesis import Draw, Pairs, Synthesis
from samreg.transforms import Affine

RIGHT_MM = 5.0
BINS = 10
_TERMS = ("similarity", "dice", "shape", "margin")
_RIDGE = 1e-3


@dataclass(frozen=True, eq=False)
class Found:
    """Pairs with what speaks for them.

    Attributes:
        terms: [n, 4] similarity, dice, shape and margin.
        right: bool [n].
        possible: Number of regions that had a right partner among the regions of the other image.
    """

    terms: np.ndarray
    right: np.ndarray
    possible: int = 0

    def __add__(self, other: Found) -> Found:
        return Found(
            np.concatenate([self.terms, other.terms]),
            np.concatenate([self.right, other.right]),
            self.possible + other.possible,
        )

    def confidences(self, model: Confidence) -> np.ndarray:
        """[n] what a model says of them."""
        return model.probability(**dict(zip(_TERMS, self.terms.T, strict=True)))


NOTHING = Found(np.zeros((0, len(_TERMS))), np.zeros(0, bool))


def collect(
    encoder: EmbeddedEncoder, calibration: Calibration, synthesis: Synthesis, *, seed: int, pairs: int, size: int
) -> tuple[Found, Found]:
    """Pairs by appearance alone, and those that lie together, of image pairs drawn from a synthesis."""
    free, placed = NOTHING, NOTHING
    for n in range(pairs):
        drawn = synthesis.draw(Draw.numbered(seed, n), 1, size)
        more_free, more_placed = _of_pair(encoder, calibration, drawn)
        free, placed = free + more_free, placed + more_placed
    return free, placed


def fitted(found: Found) -> Confidence:
    """The model of greatest likelihood, no term of which speaks against a pair."""
    signs = np.where(found.right, 1.0, -1.0)

    def loss(weights: np.ndarray) -> float:
        logit = found.terms @ weights[:-1] + weights[-1]
        return float(np.logaddexp(0, -signs * logit).mean() + _RIDGE * (weights[:-1] ** 2).mean())

    bounds = [(0.0, None)] * len(_TERMS) + [(None, None)]
    best = minimize(loss, np.append(np.ones(len(_TERMS)), -3.0), bounds=bounds)
    return Confidence(**dict(zip((*_TERMS, "bias"), map(float, best.x), strict=True)))


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error: mean difference of confidence and precision over ten equal steps of confidence,
    weighted by the number of pairs (Guo et al., ICML 2017)."""
    step = np.minimum((confidence * BINS).astype(int), BINS - 1)
    counts = np.bincount(step, minlength=BINS)
    gaps = np.abs(np.bincount(step, confidence, BINS) - np.bincount(step, right, BINS))
    return float(gaps.sum() / max(counts.sum(), 1))


def reliability(confidence: np.ndarray, right: np.ndarray) -> list[tuple[float, float, int]]:
    """Mean confidence, precision and number of pairs of each step that has any."""
    step = np.minimum((confidence * BINS).astype(int), BINS - 1)
    chosen = [step == n for n in range(BINS)]
    return [(float(confidence[c].mean()), float(right[c].mean()), int(c.sum())) for c in chosen if c.any()]


def _of_pair(encoder: EmbeddedEncoder, calibration: Calibration, pair: Pairs) -> tuple[Found, Found]:
    """Of a batch of one pair."""
    first, second = (_volume(image) for image in pair.images[0])
    fixed, moving = _regions(encoder, first), _regions(encoder, second)
    if len(fixed) < 2 or len(moving) < 2:
        return NOTHING, NOTHING
    matching = MatchingConfig(max_pairs=400, min_confidence=0.0)
    alike = similarity(pool(encoder.encode(first), fixed), pool(encoder.encode(second), moving), matching.similarity)
    true_mm = _true_distances(pair, fixed, moving)

    def found(aligned: Affine | None) -> Found:
        combinations = weigh(
            fixed, moving, alike, matching, calibration=calibration, aligned=aligned, max_distance_mm=REACH_MM
        )
        return _found(match(combinations), combinations, true_mm)

    aligned = alignment(fixed, moving, alike, MatchingConfig(), calibration)
    return found(None), NOTHING if aligned is None else found(aligned)


def _found(pairs: RoiPairs, combinations: Combinations, true_mm: np.ndarray) -> Found:
    rows = {id(roi): n for n, roi in enumerate(combinations.fixed)}
    columns = {id(roi): m for m, roi in enumerate(combinations.moving)}
    at = [(rows[id(p.fixed)], columns[id(p.moving)]) for p in pairs]
    values = (combinations.likeness, combinations.dice, combinations.shape, combinations.margin)
    terms = [[term[n, m] for term in values] for n, m in at]
    right = [true_mm[n, m] <= RIGHT_MM for n, m in at]
    possible = int((true_mm.min(1) <= RIGHT_MM).sum())
    return Found(np.array(terms).reshape(-1, len(_TERMS)), np.array(right, bool), possible)


def _volume(image: torch.Tensor) -> Volume:
    return Volume(np.ascontiguousarray(image.numpy().T)[:, :, None], grid_of(image.shape[-1]))


def _regions(encoder: EmbeddedEncoder, volume: Volume) -> RoiSet:
    body = np.ones(volume.grid.shape, bool)
    return Everything(encoder.slices).propose(volume, body, ProposalConfig())


def _true_distances(pair: Pairs, fixed: RoiSet, moving: RoiSet) -> np.ndarray:
    """[n, m] mm between the centroid of a fixed region and where the first view shows the moving one's."""
    size = pair.images.shape[-1]
    field = pair.places[0, 1].numpy()
    half_mm = grid_of(size).spacing_mm[0] * size / 2
    there = []
    for roi in moving:
        i, j = _voxels(roi)
        there.append((field[j, i].mean(0) + 1) * half_mm)
    here = fixed.centroids_lps()[:, :2]
    return np.asarray(np.linalg.norm(here[:, None] - np.array(there)[None], axis=-1))


def _voxels(roi: Roi) -> tuple[np.ndarray, np.ndarray]:
    found = np.argwhere(roi.box) + roi.start
    return found[:, 0], found[:, 1]
