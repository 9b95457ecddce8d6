"""What speaks for a transform, with the noise of what it says, and which of two transforms is the better one.

A comparison decides only where it tells more than its noise; within the noise a stated rule decides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from samreg.geometry import Volume
from samreg.metrics import normalised_correlation, pair_dice, pair_distance_mm
from samreg.rois import RoiPairs
from samreg.transforms import Transform
from samreg.types import Mask

DECIDES = 2.0  # times its noise must a difference be to decide
INFORMATION_BINS = 48
BLOCKS = 6, 12  # along each side of the body, of volumes and of pictures: noise is drawn by blocks
MIN_COVERAGE = 0.35
COVERAGE_NOISE = 0.01
MIN_WITNESSES = 4
COMPARABLE = 0.3  # correlation above which two images have one contrast
# At least this much of a difference is noise, whatever the parts say: far more than what the last digits of processors
# change (`tools/machines.py` measures it).
LEAST_CLOSENESS = 0.001  # of the tolerance
LEAST_OVERLAP = 0.0025
LEAST_INFORMATION = 0.005  # nat
LEAST_CORRELATION = 0.0025


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
        return f"{self.value:+.3f} ± {self.noise:.3f}"


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
        noise = float(difference.std()) / difference.size**0.5
        return Gain(float(difference.mean()), max(noise, self.least_noise))


@dataclass(frozen=True, eq=False)
class Evidence:
    """What speaks for a transform.

    Witnesses and held-out pairs take no part in any fit; mutual information and correlation take none in the deformable
    one. Held-out pairs were chosen among those that lie together under an estimate, so they speak for that estimate:
    they are stated, and witnesses decide.

    Attributes:
        closeness: Of each independent witness: how far its centroids are within the tolerance [mm], 0 beyond it.
        overlap: Dice of each independent held-out pair.
        information: Mutual information of body voxels in nats, by blocks.
        correlation: Of the same voxels, by blocks.
        coverage: Share of the fixed body that the moving image covers.
    """

    closeness: Measure
    overlap: Measure
    information: Measure
    correlation: Measure
    coverage: float

    def as_metrics(self) -> dict[str, float]:
        """The numbers for the report; NaN where there are no held-out pairs."""
        return {
            "ncc": self.correlation.value,
            "mutual_information": self.information.value,
            "held_out_dice": self.overlap.value,
            "coverage": self.coverage,
        }


@dataclass(frozen=True, eq=False)
class Judge:
    """Weighs transforms of one image pair.

    Attributes:
        fixed, moving: Images at working resolution.
        body: [i, j, k] of the fixed image.
        held_out: Pairs that were not fitted, of those that lie together under the linear estimate.
        witnesses: Pairs that were not fitted, matched by appearance alone, wherever they lie; some are wrong.
        tolerance_mm: Distance of centroids from which on a pair counts as wrong.
        voxel_mm: Finest spacing of the fixed image itself, in which tolerances count.
    """

    fixed: Volume
    moving: Volume
    body: Mask
    held_out: RoiPairs
    witnesses: RoiPairs
    tolerance_mm: float
    voxel_mm: float

    def evidence(self, transform: Transform) -> Evidence:
        """Measures one transform."""
        warped = transform.warp(self.moving, self.fixed.grid, outside=np.nan)
        seen = self.body & np.isfinite(warped)
        fixed, moving = (values[seen].astype(np.float64) for values in (self.fixed.voxels, warped))
        block, count = blocks_of(self.body)
        block = block[seen]
        apart = pair_distance_mm(self.witnesses, transform)
        closeness = self.tolerance_mm - np.minimum(apart, self.tolerance_mm)
        return Evidence(
            Measure(_of_independent(closeness, self.witnesses), LEAST_CLOSENESS * self.tolerance_mm),
            Measure(_of_independent(pair_dice(self.held_out, transform), self.held_out), LEAST_OVERLAP),
            Measure(_by_block(*information_parts(fixed, moving), block, count), LEAST_INFORMATION),
            Measure(_by_block(*correlation_parts(fixed, moving), block, count), LEAST_CORRELATION),
            float(seen.sum() / max(1, self.body.sum())),
        )


@dataclass(frozen=True)
class Decision:
    """Which of two transforms is the better one.

    Attributes:
        finer: The finer one.
        reason: What was measured, and the rule that decided; a clause.
    """

    finer: bool
    reason: str


def decide(finer: Evidence, coarser: Evidence, *, refines: bool, saw_information: bool) -> Decision:
    """Whether the finer transform is better on evidence.

    1. It must cover the body, and mutual information may not fall beyond its noise; nor, between images of one
       contrast, may correlation.
    2. Witnesses decide, where they come closer or move apart by more than the noise.
    3. Within that noise, or with too few witnesses, mutual information decides where it rises beyond its own noise
       and the candidate was not fitted to it. Else the simpler transform stays.

    Args:
        refines: The finer transform starts from the coarser one and sees the same part of the body, so coverage and
            correlation may not fall.
        saw_information: The finer transform was fitted to mutual information with so many degrees of freedom that a
            rise says nothing.
    """
    least = coarser.coverage - 0.1 if refines else MIN_COVERAGE
    if finer.coverage < least - COVERAGE_NOISE:
        return Decision(
            False, f"the moving image would cover {finer.coverage:.0%} of the body, before {coarser.coverage:.0%}"
        )
    information = finer.information.gain_over(coarser.information)
    if information.falls:
        return Decision(False, f"mutual information falls ({information} nat)")
    correlation = finer.correlation.gain_over(coarser.correlation)
    if refines and coarser.correlation.value > COMPARABLE and correlation.falls:
        return Decision(False, f"correlation falls ({correlation})")
    closeness = finer.closeness.gain_over(coarser.closeness)
    enough = finer.closeness.parts.size >= MIN_WITNESSES
    if enough and (closeness.rises or closeness.falls):
        return Decision(closeness.rises, f"pairs that no fit used come closer by {closeness} mm")
    told = f"pairs that no fit used do not tell (closer by {closeness} mm)" if enough else "too few pairs tell"
    if saw_information:
        return Decision(False, f"{told}, so the simpler transform stays")
    if information.rises:
        return Decision(True, f"{told}; mutual information rises ({information} nat)")
    return Decision(False, f"{told}, nor does mutual information ({information} nat), so the simpler transform stays")


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
    """Mutual information of two samples in nats from a smoothed joint histogram; 0 for fewer than 100 values."""
    return information_parts(a, b)[0]


def information_parts(a: np.ndarray, b: np.ndarray) -> tuple[float, np.ndarray]:
    """Mutual information of two samples in nats, and what each pair of values adds to its being more or less [n]."""
    if a.size < 100:
        return 0.0, np.zeros(a.size)
    where = [np.minimum((_ranked(v) * INFORMATION_BINS).astype(int), INFORMATION_BINS - 1) for v in (a, b)]
    cells = where[0] * INFORMATION_BINS + where[1]
    joint = np.bincount(cells, minlength=INFORMATION_BINS**2).reshape(INFORMATION_BINS, -1).astype(float)
    joint = ndimage.gaussian_filter(joint, 0.8, mode="constant")
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
