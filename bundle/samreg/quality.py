"""The gate: evidence a transform was not fitted to, the TG-132 table, PASS / REVIEW / FAIL."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from samreg.config import QualityConfig
from samreg.geometry import Volume
from samreg.metrics import (
    inverse_error_mm,
    jacobian_measures,
    normalised_correlation,
    pair_dice,
    pair_distance_mm,
)
from samreg.result import Criterion, Quality, Verdict
from samreg.rois import RoiPairs
from samreg.transforms import Affine, Transform
from samreg.types import Mask, Status

TG132 = "AAPM TG-132"
INFORMATION_BINS = 48
MIN_COVERAGE = 0.35
SCALE_LIMITS = (0.75, 1.33)
AMBIGUOUS = 0.97
UNMIRRORED = 0.9  # real heads reach 0.78, phantoms 0.79
MIRRORED = 1.05
SLACK = 0.01
COMPARABLE = 0.3  # correlation above which two images have one contrast
MIN_INDEPENDENT = 8
INDEPENDENT_SHARE = 0.15  # unrelated phantoms of similar build reached 0.11 to 0.13
CHANCE_SHARE = 0.05


@dataclass(frozen=True, eq=False)
class Evidence:
    """What speaks for a transform.

    Held-out pairs take no part in any fit; mutual information and correlation take none in the deformable fit.

    Attributes:
        held_out_dice: Overlap [n] of each held-out pair.
        mutual_information: Of body voxels, in nats, on a regular grid of points.
        ncc: Correlation of the same voxels.
        coverage: Share of the fixed body that the moving image covers.
    """

    held_out_dice: np.ndarray
    mutual_information: float
    ncc: float
    coverage: float

    def as_metrics(self) -> dict[str, float]:
        """The numbers for the report; NaN where there are no held-out pairs."""
        mean = float(self.held_out_dice.mean()) if self.held_out_dice.size else float("nan")
        return {
            "ncc": self.ncc,
            "mutual_information": self.mutual_information,
            "held_out_dice": mean,
            "coverage": self.coverage,
        }


@dataclass(frozen=True, eq=False)
class Judge:
    """Weighs transforms of one image pair.

    Attributes:
        fixed, moving: Images at working resolution.
        body: [i, j, k] of the fixed image.
        held_out: Pairs that were not fitted.
        voxel_mm: Finest spacing of the fixed image itself, in which tolerances count.
    """

    fixed: Volume
    moving: Volume
    body: Mask
    held_out: RoiPairs
    voxel_mm: float

    def evidence(self, transform: Transform) -> Evidence:
        """Measures one transform."""
        warped = transform.warp(self.moving, self.fixed.grid, outside=np.nan)
        seen = self.body & np.isfinite(warped)
        fixed, moving = self.fixed.voxels[seen], warped[seen]
        return Evidence(
            pair_dice(self.held_out, transform),
            mutual_information(fixed, moving),
            normalised_correlation(fixed, moving),
            float(seen.sum() / max(1, self.body.sum())),
        )


def better(finer: Evidence, coarser: Evidence, *, refines: bool) -> tuple[bool, str]:
    """Whether the finer transform is better on evidence, and the reason in words.

    Held-out pairs must agree better on average (with fewer than two of them, or a tie between a rigid
    transform and the identity, mutual information must rise), and mutual information may not fall.

    Args:
        refines: The finer transform starts from the coarser one and sees the same part of the body, so
            coverage and, between images of one contrast, correlation may not fall either.
    """
    if finer.coverage < (coarser.coverage - 0.1 if refines else MIN_COVERAGE):
        return False, f"the moving image would cover {finer.coverage:.0%} of the body, before {coarser.coverage:.0%}"
    if finer.mutual_information < coarser.mutual_information * (1 - SLACK):
        return False, (
            f"mutual information falls from {coarser.mutual_information:.3f} to {finer.mutual_information:.3f}"
        )
    if refines and coarser.ncc > COMPARABLE and finer.ncc < coarser.ncc * (1 - SLACK):
        return False, f"correlation falls from {coarser.ncc:.3f} to {finer.ncc:.3f}"
    rises = finer.mutual_information > coarser.mutual_information * (1 + SLACK)
    if finer.held_out_dice.size < 2:
        return rises, f"mutual information does not rise ({finer.mutual_information:.3f}) and no pair is held out"
    gain = float((finer.held_out_dice - coarser.held_out_dice).mean())
    # Six degrees of freedom cannot imitate anatomy: for a rigid transform a rise of similarity settles a tie.
    tie = not refines and rises and gain > -2 * SLACK
    return gain > 0 or tie, (
        f"held-out pairs overlap no better ({finer.held_out_dice.mean():.3f} after {coarser.held_out_dice.mean():.3f})"
    )


def mutual_information(a: np.ndarray, b: np.ndarray) -> float:
    """Mutual information of two samples in nats from a smoothed joint histogram; 0 for fewer than 100 values."""
    if a.size < 100:
        return 0.0
    joint, _, _ = np.histogram2d(_ranked(a), _ranked(b), INFORMATION_BINS, ((0, 1), (0, 1)))
    joint = ndimage.gaussian_filter(joint, 0.8, mode="constant")
    joint /= joint.sum()
    expected = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    known = joint > 0
    return float((joint[known] * np.log(joint[known] / expected[known])).sum())


def _ranked(values: np.ndarray) -> np.ndarray:
    low, high = np.percentile(values, (0.5, 99.5))
    return ((values - low) / max(high - low, float(np.finfo(np.float32).tiny))).clip(0, 1)


@dataclass(frozen=True, eq=False)
class Judged:
    """A result before its gate.

    Attributes:
        labelled: The pairs are given contours (Case 1), so overlaps and distances are errors.
        rivals: Score of the best start that ended elsewhere, relative to the winner's; None without dense similarity.
        mirrored: Score of the moving image mirrored left to right, relative to this one; None where not compared.
        unaligned: Of the pairs matched by appearance alone, how many agree with the result, and how many there were.
        tolerance_mm: Distance of centroids at which a pair agrees.
    """

    transform: Transform
    inverse: Transform
    pairs: RoiPairs
    labelled: bool
    rivals: float | None
    mirrored: float | None
    unaligned: tuple[int, int]
    tolerance_mm: float
    before: Evidence
    after: Evidence


def gate(judged: Judged, judge: Judge, config: QualityConfig) -> Quality:
    """The quality table and the status that follows from it."""
    points = judge.fixed.grid.lps(_spread(judge.body))
    inside = points[judge.moving.grid.contains(judged.transform.map_points(points))]
    criteria = [
        _pairs_found(judged, config),
        *_independent_pairs(judged),
        _coverage(judged),
        _similarity(judged),
        _held_out(judged),
        *_contours(judged, config),
        _inverse(judged, judge, inside, config),
        *_jacobian(judged, judge),
        _scale(judged),
        _ambiguity(judged),
        *_mirror(judged),
        Criterion(
            "rigid-phantom", "Rigid error against a known truth", "at most half a voxel", None, "voxel", "not judged",
            f"Needs a phantom: the truth of this input is not known ({TG132}).",
        ),
        Criterion(
            "transitivity", "Agreement around a circle of three images", "within a voxel", None, "voxel", "not judged",
            f"Needs a third image ({TG132}).",
        ),
    ]  # fmt: skip
    status, reasons = _status(criteria)
    return Quality(status, reasons, tuple(criteria), judged.before.as_metrics(), judged.after.as_metrics())


# What a criterion that is not met means for the whole.
FATAL = {"pairs", "above-chance", "mirrored-input", "coverage", "similarity", "folding", "finite", "scale"}


def _stated(criterion: Criterion) -> str:
    if criterion.measured is None:
        return "not measurable"
    return f"{criterion.measured:.3g} {criterion.unit}".strip()


def _status(criteria: list[Criterion]) -> tuple[Status, tuple[str, ...]]:
    missed = [c for c in criteria if c.verdict == "not met"]
    reasons = tuple(f"{c.measure}: {_stated(c)}, asked {c.asked}." for c in missed)
    if any(c.name in FATAL for c in missed):
        return "FAIL", reasons
    return ("REVIEW" if missed else "PASS"), reasons


def _verdict(met: bool) -> Verdict:
    return "met" if met else "not met"


def _pairs_found(judged: Judged, config: QualityConfig) -> Criterion:
    agree = judged.pairs
    if not judged.labelled:
        agree = agree.select(pair_distance_mm(agree, judged.transform) <= judged.tolerance_mm)
    count = agree.independent
    least = 1 if judged.labelled else config.min_pairs
    return Criterion(
        "pairs", "ROI pairs that agree with the result", f"at least {least}", float(count), "pairs",
        _verdict(count >= least), "Fewer pairs cannot tell a right transform from a wrong one.",
    )  # fmt: skip


def _independent_pairs(judged: Judged) -> list[Criterion]:
    """Pairs that knew nothing of the alignment: few are a reason to look, as few as chance gives are fatal."""
    measure = "Pairs matched by appearance alone, wherever they lie, that the result confirms"
    agree, count = judged.unaligned
    least, chance = max(MIN_INDEPENDENT, round(INDEPENDENT_SHARE * count)), round(CHANCE_SHARE * count)
    asked = f"at least {least}"
    if judged.labelled:
        note = "Given contours are paired by label."
        return [Criterion("independent-pairs", measure, asked, None, "pairs", "not judged", note)]
    enough = count >= 2 * MIN_INDEPENDENT
    note = f"Of {count}." if enough else f"Of {count}: too few to tell a right transform from a wrong one."
    found = Criterion(
        "independent-pairs", measure, asked, float(agree), "pairs", _verdict(enough and agree >= least), note
    )
    if not enough:
        return [found]
    above = Criterion(
        "above-chance", "The same, against what unrelated images give", f"more than {chance}", float(agree), "pairs",
        _verdict(agree > chance),
    )  # fmt: skip
    return [found, above]


def _coverage(judged: Judged) -> Criterion:
    return Criterion(
        "coverage", "Share of the fixed body that the moving image covers", f"at least {MIN_COVERAGE:.0%}",
        judged.after.coverage, "", _verdict(judged.after.coverage >= MIN_COVERAGE),
    )  # fmt: skip


def _similarity(judged: Judged) -> Criterion:
    before, after = judged.before.mutual_information, judged.after.mutual_information
    return Criterion(
        "similarity", "Mutual information in the body, after", f"at least {before:.3f}, as before", after, "nat",
        _verdict(np.isfinite(after) and after >= before * (1 - SLACK)),
    )  # fmt: skip


def _held_out(judged: Judged) -> Criterion:
    measure, asked = "Overlap (Dice) of held-out ROI pairs", "no lower than before"
    after, before = judged.after.held_out_dice, judged.before.held_out_dice
    if after.size < 2:
        note = "Fewer than two pairs are held out."
        return Criterion("held-out-pairs", measure, asked, None, "", "not judged", note)
    return Criterion(
        "held-out-pairs", measure, f"at least {before.mean():.3f}, as before", float(after.mean()), "",
        _verdict(float(after.mean()) >= float(before.mean()) - SLACK), "These pairs took no part in the fit.",
    )  # fmt: skip


def _contours(judged: Judged, config: QualityConfig) -> list[Criterion]:
    """TG-132 on contours and landmarks: judged on given label maps, stated for found regions."""
    if not len(judged.pairs):
        return []
    held = judged.pairs.held_out if len(judged.pairs.held_out) else judged.pairs
    distances, overlaps = pair_distance_mm(held, judged.transform), pair_dice(held, judged.transform)
    judgeable = judged.labelled and len(judged.pairs.held_out) > 0
    note = f"{TG132}; on contours that took no part in the fit."
    if not judged.labelled:
        note = f"Regions found by the software are no landmarks or contours: give label maps to judge ({TG132})."
    elif not judgeable:
        note = f"Too few contours to hold one out: these took part in the fit ({TG132})."

    def criterion(name: str, measure: str, asked: str, value: float, unit: str, met: bool) -> Criterion:
        return Criterion(name, measure, asked, value, unit, _verdict(met) if judgeable else "not judged", note)

    mean, worst, overlap = float(distances.mean()), float(distances.max()), float(overlaps.mean())
    return [
        criterion(
            "target-error-mean", "Centroid distance of pairs, mean", f"at most {config.mean_error_mm:g} mm",
            mean, "mm", mean <= config.mean_error_mm,
        ),
        criterion(
            "target-error-max", "Centroid distance of pairs, maximum", f"at most {config.max_error_mm:g} mm",
            worst, "mm", worst <= config.max_error_mm,
        ),
        criterion(
            "contour-dice", "Overlap (Dice) of contours", f"at least {config.min_dice:g}",
            overlap, "", overlap >= config.min_dice,
        ),
    ]  # fmt: skip


def _inverse(judged: Judged, judge: Judge, points: np.ndarray, config: QualityConfig) -> Criterion:
    measure, asked = (
        "Forward then backward, 99th percentile in the body",
        f"at most {config.max_inverse_error_vox:g} voxel",
    )
    if not len(points):
        note = "The moving image covers none of the body."
        return Criterion("inverse-consistency", measure, asked, None, "voxel", "not judged", note)
    voxel = judge.voxel_mm
    worst = float(np.percentile(inverse_error_mm(judged.transform, judged.inverse, points), 99)) / voxel
    return Criterion(
        "inverse-consistency", measure, asked, worst, "voxel",
        _verdict(worst <= config.max_inverse_error_vox), f"{TG132}; voxels of {voxel:.2f} mm.",
    )  # fmt: skip


def _jacobian(judged: Judged, judge: Judge) -> list[Criterion]:
    measures = jacobian_measures(judged.transform.jacobian_determinant(judge.fixed.grid), judge.body)
    finite = all(np.isfinite(v) for v in measures.values())
    return [
        Criterion(
            "finite", "Displacements are finite numbers", "all", None, "", _verdict(finite),
        ),
        Criterion(
            "folding", "Least Jacobian determinant in the body", "above 0", measures["jacobian_min"], "",
            _verdict(measures["jacobian_min"] > 0), f"{TG132}: no negative value.",
        ),
        Criterion(
            "sd-log-jacobian", "SDlogJ (unevenness of volume change)", "below 0.2", measures["sd_log_jacobian"], "",
            _verdict(measures["sd_log_jacobian"] < 0.2), "As in Learn2Reg.",
        ),
    ]  # fmt: skip


def _scale(judged: Judged) -> Criterion:
    measure, asked = "Least and greatest stretch of the linear part", f"{SCALE_LIMITS[0]:g} to {SCALE_LIMITS[1]:g}"
    stretch = linear_stretch(judged.transform)
    extreme = max(stretch, key=lambda s: abs(np.log(s)))
    return Criterion("scale", measure, asked, extreme, "", _verdict(scale_is_plausible(judged.transform)))


def _ambiguity(judged: Judged) -> Criterion:
    measure, asked = "Score of the best rival alignment, relative to this one", f"below {AMBIGUOUS:g}"
    if judged.rivals is None:
        note = "Only dense similarity compares several starts."
        return Criterion("ambiguity", measure, asked, None, "", "not judged", note)
    note = "A rival ends elsewhere yet looks nearly as good."
    return Criterion("ambiguity", measure, asked, judged.rivals, "", _verdict(judged.rivals < AMBIGUOUS), note)


def _mirror(judged: Judged) -> list[Criterion]:
    """A mirrored body is nearly the same body: as good a fit is a reason to look, a better one is fatal."""
    measure, asked = "Score of the moving image mirrored left to right, relative to this one", f"below {UNMIRRORED:g}"
    if judged.mirrored is None:
        return [
            Criterion("mirror", measure, asked, None, "", "not judged", "Compared for dense rigid fits of volumes.")
        ]
    return [
        Criterion("mirror", measure, asked, judged.mirrored, "", _verdict(judged.mirrored < UNMIRRORED)),
        Criterion(
            "mirrored-input", "The same, against an image that was mirrored before it was stored",
            f"below {MIRRORED:g}", judged.mirrored, "", _verdict(judged.mirrored < MIRRORED),
        ),
    ]  # fmt: skip


def linear_stretch(transform: Transform) -> np.ndarray:
    """Singular values [3] of the linear part (ones for a transform without one)."""
    parts = getattr(transform, "parts", (transform,))
    matrices = [p.moving_from_fixed[:3, :3] for p in parts if isinstance(p, Affine)]
    return np.linalg.svd(matrices[-1], compute_uv=False) if matrices else np.ones(3)


def scale_is_plausible(transform: Transform) -> bool:
    """True if the linear part stretches no direction beyond SCALE_LIMITS."""
    stretch = linear_stretch(transform)
    return bool(stretch.min() >= SCALE_LIMITS[0] and stretch.max() <= SCALE_LIMITS[1])


def _spread(mask: Mask, count: int = 20_000) -> np.ndarray:
    """Indices of at most `count` voxels of a mask, evenly spread."""
    indices = np.argwhere(mask)
    return indices[:: max(1, -(-len(indices) // count))]
