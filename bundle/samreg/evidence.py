"""The evidence for a transform with its noise, and the rules that compare two transforms.

A comparison decides only where it tells more than its noise; within the noise a stated rule decides.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy import ndimage

from samreg.encoders.mind import even_dilation, mind_ssc
from samreg.geometry import Volume, sample
from samreg.metrics import normalised_correlation, pair_dice, pair_distance_mm
from samreg.rois import RoiPairs
from samreg.transforms import Transform
from samreg.types import Mask, TransformKind

SecondMeasure = Literal["information", "likeness"]

DECIDES = 2.0  # times its noise must a difference be to decide
INFORMATION_BINS = 48
BLOCKS = 6, 12  # along each side of the body, of volumes and of pictures: noise is drawn by blocks
MIN_COVERAGE = 0.35  # of the fixed body, by the moving image
MOST_COVERAGE_LOST = 0.1  # to a finer transform
LEAST_VALUES = 100  # for mutual information
JOINT_SMOOTHING = 0.8  # bins
KNOWN = 0.99  # share of a sample's neighbourhood that must have values
COVERAGE_NOISE = 0.002
MIN_WITNESSES = 4  # of pairs that were found; given contours are right, so two of them tell
MIN_CONTOURS = 2
COMPARABLE = 0.3  # correlation above which two images have one contrast
# At least this much of a difference is noise, whatever the parts say: far more than what the last digits of processors
# change (`tools/machines.py` measures it).
LEAST_CLOSENESS = 0.001  # of the tolerance
LEAST_OVERLAP = 0.0025
LEAST_INFORMATION = 0.005  # nat
LEAST_CORRELATION = 0.0025
LEAST_LIKENESS = 0.005  # of the descriptors' distance
# A second measure must rise by at least this share of what it was: between images that are aligned already, fitting
# noise gained up to 2.5 % of mutual information and 2 % of the descriptors' distance.
WORTH: Mapping[SecondMeasure, float] = {"information": 0.03, "likeness": 0.04}
# Fields fitted to noise, white or smooth, brought descriptors to 0.83 of the distance by chance or no nearer; between
# hippocampi of different people to 0.36 to 0.62, between phases of a heart to 0.2.
NEARER_THAN_CHANCE = 0.75


@dataclass(frozen=True)
class Gain:
    """A difference between two transforms.

    Attributes:
        value: Of the finer minus that of the coarser one.
        noise: Its standard error, or what the last digits of processors may change if that is more.
    """

    value: float
    noise: float

    @property
    def rises(self) -> bool:
        """By so much more than the noise that it decides."""
        return self.value > DECIDES * self.noise

    @property
    def falls(self) -> bool:
        """By so much more than the noise that it decides."""
        return self.value < -DECIDES * self.noise

    def __str__(self) -> str:
        return f"{self.value:+.3g} ± {self.noise:.2g}"


@dataclass(frozen=True, eq=False)
class Measure:
    """A number as the mean of parts that stand for what else might have been seen: pairs, or blocks of the image.

    Attributes:
        parts: [n], the same n of every transform that is compared; empty where nothing could be measured.
        least_noise: Of a difference, whatever the parts say.
    """

    parts: np.ndarray
    least_noise: float

    @property
    def value(self) -> float:
        """NaN where nothing could be measured."""
        return float(self.parts.mean()) if self.parts.size else float("nan")

    def gain_over(self, other: Measure) -> Gain:
        """The difference, with its bootstrap standard error over the parts.

        Of a mean that is known in closed form: the standard deviation over √n (Efron, Ann Statist 7(1), 1979).
        """
        difference = self.parts - other.parts
        if not difference.size:
            return Gain(0.0, self.least_noise)
        if difference.size == 1:
            return Gain(float(difference[0]), np.inf)  # one part does not tell how parts vary
        noise = float(difference.std(ddof=1)) / difference.size**0.5
        return Gain(float(difference.mean()), max(noise, self.least_noise))


@dataclass(frozen=True, eq=False)
class Evidence:
    """What speaks for a transform.

    Witnesses take no part in any fit; mutual information and correlation take none in the deformable one.

    Attributes:
        closeness: Of each independent witness: how far its centroids are within the tolerance [mm], 0 beyond it.
        information: Mutual information of body voxels in nats, by blocks.
        correlation: Of the same voxels, by blocks.
        likeness: Minus the mean squared distance of self-similarity descriptors, by blocks; those of the moving image
            are made once, as the coarser of two transforms shows it, and travel with the finer one, so that squeezing
            the image does not make them alike. Empty where nothing was compared through.
        coverage: Share of the fixed body that the moving image covers.
        by_chance: Mean squared distance of the descriptors of any place from any other; NaN where there is no likeness.
    """

    closeness: Measure
    information: Measure
    correlation: Measure
    likeness: Measure
    coverage: float
    by_chance: float = float("nan")

    def as_metrics(self) -> dict[str, float]:
        """The numbers for the report."""
        return {
            "ncc": self.correlation.value,
            "mutual_information": self.information.value,
            "coverage": self.coverage,
        }


@dataclass(frozen=True, eq=False)
class Examination:
    """Measures what speaks for transforms of one image pair.

    Attributes:
        fixed, moving: Images at working resolution.
        body: [i, j, k] of the fixed image.
        witnesses: Pairs that were not fitted, matched by appearance alone, wherever they lie, so some are wrong; or
            given contours.
        tolerance_mm: Distance of centroids from which on a pair counts as wrong.
    """

    fixed: Volume
    moving: Volume
    body: Mask
    witnesses: RoiPairs
    tolerance_mm: float

    def evidence(self, transform: Transform, through: Transform | None = None) -> Evidence:
        """Measures one transform.

        Args:
            transform: Fixed to moving points.
            through: The coarser transform of a comparison, for `likeness`.
        """
        warped = transform.warp(self.moving, self.fixed.grid, outside=np.nan)
        seen = self.body & np.isfinite(warped)
        fixed, moving = (values[seen].astype(np.float64) for values in (self.fixed.voxels, warped))
        block, count = blocks_of(self.body)
        block = block[seen]
        apart = pair_distance_mm(self.witnesses, transform)
        closeness = self.tolerance_mm - np.minimum(apart, self.tolerance_mm)
        likeness, by_chance = Measure(np.zeros(0), 0.0), float("nan")
        if through is not None:
            likeness, by_chance = self._likeness(transform, through)
        return Evidence(
            Measure(_of_independent(closeness, self.witnesses), LEAST_CLOSENESS * self.tolerance_mm),
            Measure(_by_block(*information_parts(fixed, moving), block, count), LEAST_INFORMATION),
            Measure(_by_block(*correlation_parts(fixed, moving), block, count), LEAST_CORRELATION),
            likeness,
            float(seen.sum() / max(1, self.body.sum())),
            by_chance,
        )

    def _likeness(self, transform: Transform, through: Transform) -> tuple[Measure, float]:
        """Likeness, and the distance by chance."""
        grid = self.fixed.grid
        dilation = even_dilation(grid)
        shown = through.warp(self.moving, grid, outside=np.nan)
        known = np.isfinite(shown)
        shown[~known] = np.nanmin(self.moving.voxels)
        ours, theirs = (mind_ssc(torch.as_tensor(v)[None], dilation=dilation) for v in (self.fixed.voxels, shown))
        points = grid.lps(np.argwhere(self.body))
        places = torch.as_tensor(grid.index(through.inverse().map_points(transform.map_points(points))))
        seen = sample(torch.as_tensor(known).float()[None], places)[0] > KNOWN
        there = sample(theirs, places)[:, seen].double().numpy()
        here = ours[:, torch.as_tensor(self.body)][:, seen].double().numpy()
        each = -np.square(there - here).mean(0)
        block, count = blocks_of(self.body)
        value = float(each.mean()) if each.size else 0.0
        parts = _by_block(value, each - value, block[self.body][seen.numpy()], count)
        return Measure(parts, LEAST_LIKENESS * abs(value)), _distance_by_chance(there, here)


def _distance_by_chance(a: np.ndarray, b: np.ndarray) -> float:
    """Mean squared distance of descriptors [c, n] of two images, of any place from any other."""
    if not a.size:
        return float("nan")
    return float((a.var(1) + b.var(1) + np.square(a.mean(1) - b.mean(1))).mean())


def overlap(pairs: RoiPairs, transform: Transform) -> Measure:
    """Dice of each independent pair, of those held out from every fit.

    Held-out pairs were chosen among those that lie together under an estimate, so they speak for that estimate: their
    overlap is stated, and decides nothing.
    """
    held_out = pairs.held_out
    return Measure(_of_independent(pair_dice(held_out, transform), held_out), LEAST_OVERLAP)


@dataclass(frozen=True)
class Terms:
    """What a candidate is judged by.

    Attributes:
        second: The measure that decides where witnesses do not tell; the candidate was not fitted to it.
        pairs_tell: Found regions are fine enough to tell it from the coarser transform; given contours always are.
    """

    second: SecondMeasure
    pairs_tell: bool = True

    @staticmethod
    def of(fitted_to: Collection[str], kind: TransformKind, *, pictures: bool) -> Terms:
        """Those of a candidate.

        Args:
            fitted_to: As of `Candidate`.
            kind: Of the candidate.
            pictures: The images are single slices.
        """
        if "correlation" in fitted_to:
            # Centroids of regions are coarser than what it sees, and descriptors travel with the tissue.
            return Terms("likeness", pairs_tell=False)
        # Mutual information is no judge of what was fitted to it, though six degrees of freedom cannot imitate anatomy.
        # Of photographs, whose vessels are a small part of them, it is too noisy to judge even a rigid transform.
        informed = "information" in fitted_to and (kind != "rigid" or pictures)
        return Terms("likeness" if informed else "information")


@dataclass(frozen=True)
class Decision:
    """Which of two transforms is the better one.

    Attributes:
        finer: The finer one.
        reason: What was measured, and the rule that decided; a clause.
        within_noise: Neither is better by more than the noise.
    """

    finer: bool
    reason: str
    within_noise: bool = False


def decide(
    finer: Evidence,
    coarser: Evidence,
    terms: Terms,
    *,
    refines: bool,
    labelled: bool = False,
) -> Decision:
    """Whether the finer transform is better on evidence that it was not fitted to.

    1. It must cover the body, and mutual information may not fall beyond its noise; nor, between images of one
       contrast, may correlation.
    2. Witnesses decide, where they come closer or move apart by more than the noise, and are fine enough to tell.
    3. Within that noise, or with too few witnesses, the second measure decides where it rises beyond its own noise and
       by its WORTH; likeness that has no witnesses beside it must end nearer than chance. Else the simpler transform
       stays.

    Args:
        finer, coarser: What speaks for each.
        terms: What the finer one is judged by.
        refines: The finer transform starts from the coarser one and sees the same part of the body, so coverage and
            correlation may not fall.
        labelled: The witnesses are given contours.
    """
    least = coarser.coverage - MOST_COVERAGE_LOST if refines else MIN_COVERAGE
    if finer.coverage < least - COVERAGE_NOISE:
        return Decision(
            False,
            f"the moving image would cover {finer.coverage:.0%} of the body, and covered {coarser.coverage:.0%} before",
        )
    information = finer.information.gain_over(coarser.information)
    if not np.isfinite(information.value):
        return Decision(False, "mutual information cannot be measured")
    if information.falls:
        return Decision(False, f"mutual information falls ({information} nat)")
    correlation = finer.correlation.gain_over(coarser.correlation)
    lost = correlation.falls or not np.isfinite(correlation.value)
    if refines and coarser.correlation.value > COMPARABLE and lost:
        return Decision(False, f"correlation falls ({correlation})")
    closeness = finer.closeness.gain_over(coarser.closeness)
    coarse, second = not (terms.pairs_tell or labelled), terms.second
    enough = not coarse and finer.closeness.parts.size >= (MIN_CONTOURS if labelled else MIN_WITNESSES)
    if enough and closeness.rises:
        return Decision(True, f"pairs that were not fitted come closer ({closeness} mm)")
    if enough and closeness.falls:
        return Decision(False, f"pairs that were not fitted move apart ({closeness} mm)")
    if coarse:
        told = "regions are too coarse to tell"
    elif enough:
        told = f"pairs that were not fitted do not decide ({closeness} mm)"
    else:
        told = "too few pairs are left to decide"
    name = {"information": "mutual information", "likeness": "the likeness of descriptors"}[second]
    before: Measure = getattr(coarser, second)
    after: Measure = getattr(finer, second)
    gain = after.gain_over(before)
    if coarse and second == "likeness" and not -after.value < NEARER_THAN_CHANCE * finer.by_chance:
        apart = (
            f"{-after.value / finer.by_chance:.0%} of their distance by chance, where {NEARER_THAN_CHANCE:.0%} is asked"
        )
        return Decision(False, f"{told}, and the descriptors are still {apart}")
    worth = WORTH[second] * abs(before.value)
    if gain.rises and gain.value > worth:
        return Decision(True, f"{told}, and {name} rises ({gain})")
    asked = f"by more than {max(worth, DECIDES * gain.noise):.3g}"
    reason = f"{told}, and {name} does not rise {asked} ({gain}), so the simpler transform stays"
    return Decision(False, reason, within_noise=not gain.falls)


def blocks_of(body: Mask) -> tuple[np.ndarray, int]:
    """Blocks of about equal sides that the body's box is divided into.

    Returns:
        [i, j, k] number of each voxel's block, and how many blocks there are.
    """
    where = np.argwhere(body)
    low = where.min(0) if len(where) else np.zeros(3, int)
    size = where.max(0) + 1 - low if len(where) else np.array(body.shape)
    sides = np.minimum(size, BLOCKS[1] if body.shape[2] == 1 else BLOCKS[0])
    i, j, k = (
        ((np.arange(n) - start) * side // length).clip(0, side - 1)
        for n, start, side, length in zip(body.shape, low, sides, size, strict=True)
    )
    number = (i[:, None, None] * sides[1] + j[:, None]) * sides[2] + k
    used, renumbered = np.unique(number[body], return_inverse=True)
    out = np.zeros(body.shape, int)
    out[body] = renumbered
    return out, max(1, len(used))


def mutual_information(a: np.ndarray, b: np.ndarray) -> float:
    """Mutual information of two samples in nats from a smoothed joint histogram; 0 for fewer than LEAST_VALUES."""
    return information_parts(a, b)[0]


def information_parts(a: np.ndarray, b: np.ndarray) -> tuple[float, np.ndarray]:
    """Mutual information of two samples in nats, and what each pair of values adds to its being more or less [n]."""
    if a.size < LEAST_VALUES:
        return 0.0, np.zeros(a.size)
    where = [np.minimum((_ranked(v) * INFORMATION_BINS).astype(int), INFORMATION_BINS - 1) for v in (a, b)]
    cells = where[0] * INFORMATION_BINS + where[1]
    joint = np.bincount(cells, minlength=INFORMATION_BINS**2).reshape(INFORMATION_BINS, -1).astype(float)
    joint = ndimage.gaussian_filter(joint, JOINT_SMOOTHING, mode="constant")
    joint /= joint.sum()
    expected = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    ratio = np.zeros_like(joint)
    known = joint > 0
    ratio[known] = np.log(joint[known] / expected[known])
    each = ratio.ravel()[cells]
    return float((joint * ratio).sum()), each - each.mean()


def correlation_parts(a: np.ndarray, b: np.ndarray) -> tuple[float, np.ndarray]:
    """Pearson correlation of two samples, and what each pair of values adds to its being more or less [n].

    NaN, and zeros, for a constant sample.
    """
    value = normalised_correlation(a, b)
    if not np.isfinite(value):
        return value, np.zeros(a.size)
    x, y = ((v - v.mean()) / v.std() for v in (a, b))
    return value, x * y - value * (x**2 + y**2) / 2


def _by_block(value: float, each: np.ndarray, block: np.ndarray, count: int) -> np.ndarray:
    """Parts [count] of a value whose mean it is, and whose spread is that of what the blocks add to it."""
    added = np.bincount(block, each, count) * count / max(1, each.size)
    return np.asarray(value + added - added.mean())


def _of_independent(values: np.ndarray, pairs: RoiPairs) -> np.ndarray:
    """The values of pairs; of those that share a region, which count as one, the mean."""
    unit = np.array([pair.group or -n for n, pair in enumerate(pairs, 1)], int)
    _, number = np.unique(unit, return_inverse=True)
    return np.bincount(number, values) / np.bincount(number) if len(values) else np.zeros(0)


def _ranked(values: np.ndarray) -> np.ndarray:
    low, high = np.percentile(values, (0.5, 99.5))
    return np.asarray(((values - low) / max(high - low, float(np.finfo(np.float32).tiny))).clip(0, 1))
