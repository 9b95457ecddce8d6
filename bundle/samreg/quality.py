"""The quality gate: the TG-132 table, and the status PASS, REVIEW or FAIL.

A measure within the noise of its limit neither meets nor misses it: it asks for review.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from samreg.config import QualityConfig
from samreg.constraint_checks import constraint_checks
from samreg.constraints.measuring import ConstraintReport
from samreg.estimation.base import Candidate
from samreg.evidence import COVERAGE_NOISE, DECIDES, MIN_COVERAGE, Evidence, Examination, Gain, Measure
from samreg.geometry import Grid
from samreg.metrics import inverse_error_mm, jacobian_measures, pair_dice, pair_distance_mm
from samreg.result import Criterion, Quality, Verdict
from samreg.rois import RoiPairs
from samreg.transforms import Affine, Transform
from samreg.types import Mask, Status

TG132 = "AAPM TG-132"
SCALE_LIMITS = (0.75, 1.33)
AMBIGUOUS = 0.97
# Pictures that share half of their field have few regions in common. An alignment stands out where no other has half of
# its score: rivals had 0 to 0.13 of that of photographs a third of a field apart, 0.88 to 0.99 of unrelated ones.
UNRIVALLED = 0.5
UNMIRRORED = 0.9  # real heads reach 0.78, phantoms 0.79
MIRRORED = 1.05
MAX_SD_LOG_JACOBIAN = 0.2
MIN_INDEPENDENT = 8
INDEPENDENT_SHARE = 0.15  # unrelated phantoms of similar build reached 0.11 to 0.13
CHANCE_SHARE = 0.05
# How far a measure may lie from its limit and be on either side of it on another processor or a GPU.
RATIO_NOISE = 0.002  # share of the limit
FOLDING_NOISE = 1e-6
NOTHING_HELD = "Nothing that was tried held, so the images stand as their headers place them."
SLACK = 0.01  # a fall of more asks for review even where it is noise,
ALMOST = 0.75  # and so does this share of a fall that decides


@dataclass(frozen=True, eq=False)
class Findings:
    """What the gate looks at.

    Attributes:
        labelled: The pairs are given contours (Case 1), so overlaps and distances are errors.
        rivals: Score of the best start that ended elsewhere, relative to the winner's; None without dense similarity.
        mirrored: Score of the moving image mirrored left to right, relative to this one; None where not compared.
        unaligned: Pairs matched by appearance alone.
        tolerance_mm: Distance of centroids at which a pair agrees.
        voxel_mm: Finest spacing of the fixed image itself, in which tolerances count.
        before, after: What speaks for the identity, and for this transform.
        overlaps: Of held-out pairs, before and after.
        stands_out: Pictures show the alignment without pairs of regions; see `stands_out`.
        nothing_held: No estimate was taken, and none was as good as the identity, which is therefore only what is left.
        constraints: How far the transform respects what was asked of it; None: nothing was.
    """

    transform: Transform
    inverse: Transform
    pairs: RoiPairs
    labelled: bool
    rivals: float | None
    mirrored: float | None
    unaligned: RoiPairs
    tolerance_mm: float
    voxel_mm: float
    before: Evidence
    after: Evidence
    overlaps: tuple[Measure, Measure]
    stands_out: bool = False
    nothing_held: bool = False
    constraints: ConstraintReport | None = None


def gate(findings: Findings, examination: Examination, config: QualityConfig) -> Quality:
    """The quality table and the status that follows from it."""
    points = examination.fixed.grid.lps(_spread(examination.body))
    inside = points[examination.moving.grid.contains(findings.transform.map_points(points))]
    criteria = [
        _pairs_found(findings, config),
        *_independent_pairs(findings),
        _coverage(findings),
        _similarity(findings),
        _held_out(*findings.overlaps),
        *_contours(findings, config),
        _inverse(findings, examination, inside, config),
        *_jacobian(findings, examination),
        _scale(findings),
        _ambiguity(findings),
        *_mirror(findings),
        *_identity(findings),
        *constraint_checks(findings.constraints),
        Criterion(
            "rigid-phantom", "Rigid error against a known transform", "at most half a voxel",
            None, "voxel", "not judged",
            f"This check needs a phantom with a known transform ({TG132}).",
        ),
        Criterion(
            "transitivity", "Consistency of the transforms around three images", "within a voxel",
            None, "voxel", "not judged",
            f"This check needs a third image ({TG132}).",
        ),
    ]  # fmt: skip
    status, reasons = _status(criteria, FATAL - OF_PAIRS if findings.stands_out else FATAL)
    before, after = (
        {**evidence.as_metrics(), "held_out_dice": overlap.value}
        for evidence, overlap in zip((findings.before, findings.after), findings.overlaps, strict=True)
    )
    return Quality(status, reasons, tuple(criteria), before, after)


# What a criterion that is not met means for the whole.
FATAL = {"pairs", "above-chance", "mirrored-input", "coverage", "similarity", "folding", "finite", "scale"}
OF_PAIRS = {"pairs", "above-chance"}


def _stated(criterion: Criterion) -> str:
    if criterion.measured is None:
        return "not measurable"
    return f"measured {criterion.measured:.3g} {criterion.unit}".strip()


def _status(criteria: list[Criterion], fatal: set[str]) -> tuple[Status, tuple[str, ...]]:
    missed = [c for c in criteria if c.verdict in ("not met", "within noise")]
    reasons = tuple(
        NOTHING_HELD
        if c.name == "identity"
        else f"{c.measure}: {_stated(c)}, required {c.asked}"
        f"{' (the difference is within the noise)' if c.verdict == 'within noise' else ''}."
        for c in missed
    )
    if any(c.name in fatal and c.verdict == "not met" for c in missed):
        return "FAIL", reasons
    return ("REVIEW" if missed else "PASS"), reasons


def _verdict(met: bool) -> Verdict:
    return "met" if met else "not met"


def _at_least(value: float, limit: float, noise: float | None = None) -> Verdict:
    """Whether a value reaches a limit, or lies within the noise of it (default RATIO_NOISE of the limit)."""
    if not np.isfinite(value):
        return "not met"
    noise = RATIO_NOISE * abs(limit) if noise is None else noise
    return "within noise" if abs(value - limit) < noise else _verdict(value >= limit)


def _at_most(value: float, limit: float) -> Verdict:
    return _at_least(-value, -limit)


def _no_fall(gain: Gain, before: float) -> Verdict:
    """Whether a measure stayed as it was."""
    if gain.falls or not np.isfinite(gain.value):
        return "not met"
    almost = min(SLACK * abs(before), ALMOST * DECIDES * gain.noise)
    return "within noise" if gain.value < -almost else "met"


@dataclass(frozen=True)
class _Count:
    """Pairs that agree with a transform.

    Attributes:
        least, most: Of independent pairs, those within the noise of the tolerance counted against it and for it.
        of: How many there were.
    """

    least: int
    most: int
    of: int

    @staticmethod
    def within(pairs: RoiPairs, transform: Transform, tolerance_mm: float) -> _Count:
        apart = pair_distance_mm(pairs, transform)
        least, most = (
            pairs.select(apart <= tolerance_mm * share).independent for share in (1 - RATIO_NOISE, 1 + RATIO_NOISE)
        )
        return _Count(least, most, pairs.independent)

    def reach(self, limit: float) -> Verdict:
        """Whether there are at least so many."""
        if (self.least >= limit) != (self.most >= limit):
            return "within noise"
        return _verdict(self.least >= limit)


def _pairs_found(findings: Findings, config: QualityConfig) -> Criterion:
    tolerance = np.inf if findings.labelled else findings.tolerance_mm
    agree = _Count.within(findings.pairs, findings.transform, tolerance)
    least = 1 if findings.labelled else config.min_pairs
    return Criterion(
        "pairs", "ROI pairs that agree with the result", f"at least {least}", float(agree.least), "pairs",
        agree.reach(least), "Fewer pairs cannot distinguish a right transform from a wrong one.",
    )  # fmt: skip


def _independent_pairs(findings: Findings) -> list[Criterion]:
    """Pairs that knew nothing of the alignment: few are a reason to look, as few as chance gives are fatal."""
    measure = "Pairs matched by appearance alone that agree with the result"
    agree = _Count.within(findings.unaligned, findings.transform, findings.tolerance_mm)
    count = agree.of
    least, chance = max(MIN_INDEPENDENT, round(INDEPENDENT_SHARE * count)), round(CHANCE_SHARE * count)
    asked = f"at least {least}"
    if findings.labelled:
        note = "Given label maps are paired by their numbers."
        return [Criterion("independent-pairs", measure, asked, None, "pairs", "not judged", note)]
    enough = count >= 2 * MIN_INDEPENDENT
    note = (
        f"There are {count} such pairs."
        if enough
        else (f"There are {count} such pairs, too few to distinguish a right transform from a wrong one.")
    )
    verdict = agree.reach(least) if enough else "not met"
    found = Criterion("independent-pairs", measure, asked, float(agree.least), "pairs", verdict, note)
    if not enough:
        return [found]
    above = Criterion(
        "above-chance", "The same, compared with what unrelated images reach", f"more than {chance}",
        float(agree.least), "pairs", agree.reach(chance + 1),
    )  # fmt: skip
    return [found, above]


def _coverage(findings: Findings) -> Criterion:
    return Criterion(
        "coverage", "Share of the fixed body that the moving image covers", f"at least {MIN_COVERAGE:g}",
        findings.after.coverage, "", _at_least(findings.after.coverage, MIN_COVERAGE, COVERAGE_NOISE),
    )  # fmt: skip


def _similarity(findings: Findings) -> Criterion:
    before, after = findings.before.information, findings.after.information
    gain = after.gain_over(before)
    return Criterion(
        "similarity", "Mutual information in the body after registration",
        f"at least {before.value:.3f} within its noise",
        after.value, "nat", _no_fall(gain, before.value), f"It changed by {gain}.",
    )  # fmt: skip


def _held_out(before: Measure, after: Measure) -> Criterion:
    measure, asked = "Overlap (Dice) of held-out ROI pairs", "no lower than before"
    if after.parts.size < 2:
        note = "Fewer than two pairs are held out."
        return Criterion("held-out-pairs", measure, asked, None, "", "not judged", note)
    gain = after.gain_over(before)
    return Criterion(
        "held-out-pairs", measure, f"at least {before.value:.3f} within its noise", after.value, "",
        _no_fall(gain, before.value), f"These pairs took no part in the fit. The overlap changed by {gain}.",
    )  # fmt: skip


def _contours(findings: Findings, config: QualityConfig) -> list[Criterion]:
    """TG-132 on contours and landmarks: judged on given label maps, stated for found regions."""
    if not len(findings.pairs):
        return []
    held = findings.pairs.held_out if len(findings.pairs.held_out) else findings.pairs
    distances, overlaps = pair_distance_mm(held, findings.transform), pair_dice(held, findings.transform)
    judgeable = findings.labelled and len(findings.pairs.held_out) > 0
    note = f"Measured on contours that took no part in the fit ({TG132})."
    if not findings.labelled:
        note = (
            f"Regions that the software segments are not landmarks or contours. This check needs label maps ({TG132})."
        )
    elif not judgeable:
        note = f"There are too few contours to hold one out. These took part in the fit ({TG132})."

    def criterion(name: str, measure: str, asked: str, value: float, unit: str, verdict: Verdict) -> Criterion:
        return Criterion(name, measure, asked, value, unit, verdict if judgeable else "not judged", note)

    mean, worst, overlap = float(distances.mean()), float(distances.max()), float(overlaps.mean())
    return [
        criterion(
            "target-error-mean", "Centroid distance of pairs, mean", f"at most {config.mean_error_mm:g} mm",
            mean, "mm", _at_most(mean, config.mean_error_mm),
        ),
        criterion(
            "target-error-max", "Centroid distance of pairs, maximum", f"at most {config.max_error_mm:g} mm",
            worst, "mm", _at_most(worst, config.max_error_mm),
        ),
        criterion(
            "contour-dice", "Overlap (Dice) of contours", f"at least {config.min_dice:g}",
            overlap, "", _at_least(overlap, config.min_dice),
        ),
    ]  # fmt: skip


def _inverse(findings: Findings, examination: Examination, points: np.ndarray, config: QualityConfig) -> Criterion:
    measure, asked = (
        "Inverse consistency error, 99th percentile in the body",
        f"at most {config.max_inverse_error_vox:g} voxel",
    )
    if not len(points):
        note = "The moving image covers none of the body."
        return Criterion("inverse-consistency", measure, asked, None, "voxel", "not judged", note)
    voxel = findings.voxel_mm
    worst = float(np.percentile(inverse_error_mm(findings.transform, findings.inverse, points), 99)) / voxel
    return Criterion(
        "inverse-consistency", measure, asked, worst, "voxel",
        _at_most(worst, config.max_inverse_error_vox), f"A voxel is {voxel:.2f} mm ({TG132}).",
    )  # fmt: skip


def _jacobian(findings: Findings, examination: Examination) -> list[Criterion]:
    measures = jacobian_measures(findings.transform.jacobian_determinant(examination.fixed.grid), examination.body)
    finite = all(np.isfinite(v) for v in measures.values())
    return [
        Criterion(
            "finite", "Displacements are finite numbers", "all", None, "", _verdict(finite),
        ),
        Criterion(
            "folding", "Least Jacobian determinant in the body", "above 0", measures["jacobian_min"], "",
            _at_least(measures["jacobian_min"], 0.0, FOLDING_NOISE), f"No value may be negative ({TG132}).",
        ),
        Criterion(
            "sd-log-jacobian", "SDlogJ (standard deviation of the logarithm of the Jacobian determinant)",
            f"below {MAX_SD_LOG_JACOBIAN:g}",
            measures["sd_log_jacobian"], "", _at_most(measures["sd_log_jacobian"], MAX_SD_LOG_JACOBIAN),
            "Measured as in Learn2Reg.",
        ),
    ]  # fmt: skip


def _scale(findings: Findings) -> Criterion:
    measure, asked = "Least and greatest stretch of the linear part", f"{SCALE_LIMITS[0]:g} to {SCALE_LIMITS[1]:g}"
    stretch = linear_stretch(findings.transform)
    extreme = max(stretch, key=lambda s: abs(np.log(s)))
    low, high = SCALE_LIMITS
    verdicts = [_at_least(float(stretch.min()), low), _at_most(float(stretch.max()), high)]
    worst: Verdict = max(verdicts, key=("met", "within noise", "not met").index)
    return Criterion("scale", measure, asked, extreme, "", worst)


def _ambiguity(findings: Findings) -> Criterion:
    measure, asked = "Score of the second best alignment, relative to this one", f"below {AMBIGUOUS:g}"
    if findings.rivals is None:
        note = "This check needs dense similarity, which compares several starts."
        return Criterion("ambiguity", measure, asked, None, "", "not judged", note)
    note = "A high value means that another alignment looks nearly as good."
    if findings.rivals == 0:
        note = "No start ended at another alignment."
    return Criterion("ambiguity", measure, asked, findings.rivals, "", _at_most(findings.rivals, AMBIGUOUS), note)


def _mirror(findings: Findings) -> list[Criterion]:
    """A mirrored body is nearly the same body: as good a fit is a reason to look, a better one is fatal."""
    measure, asked = "Score of the moving image mirrored left to right, relative to this one", f"below {UNMIRRORED:g}"
    if findings.mirrored is None:
        return [
            Criterion(
                "mirror", measure, asked, None, "", "not judged", "This check needs a dense rigid fit of two volumes."
            )
        ]
    return [
        Criterion("mirror", measure, asked, findings.mirrored, "", _at_most(findings.mirrored, UNMIRRORED)),
        Criterion(
            "mirrored-input", "The same, to detect an image that was mirrored before it was stored",
            f"below {MIRRORED:g}", findings.mirrored, "",
            _at_most(findings.mirrored, MIRRORED),
        ),
    ]  # fmt: skip


def _identity(findings: Findings) -> list[Criterion]:
    """Where nothing that was tried held, the identity is no finding: a reason to look."""
    if not findings.nothing_held:
        return []
    measure, asked = "The identity, as an estimate", "a fitted transform that is as good, within its noise"
    return [Criterion("identity", measure, asked, None, "", "not met", NOTHING_HELD)]


def stands_out(rigid: Candidate | None, grid: Grid) -> bool:
    """Whether no other alignment of two pictures has half of the score of this one."""
    return grid.is_2d and rigid is not None and rigid.rivals is not None and rigid.rivals < UNRIVALLED


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
