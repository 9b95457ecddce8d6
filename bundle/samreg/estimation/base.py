"""What an estimator is given, and what it answers: a candidate, or why there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import isnan
from numbers import Real
from typing import Any, Literal, Protocol, get_args

from samreg.config import EstimationConfig
from samreg.constraints.model import Constraints
from samreg.encoders.base import Features
from samreg.errors import UsageError
from samreg.estimation.image_pair import ImagePair
from samreg.geometry import Volume
from samreg.matching import Matched, SegmentedImage
from samreg.rois import RoiPairs
from samreg.transforms import Affine, Transform
from samreg.transforms.files import leaves

CandidateKind = Literal["rigid", "affine", "deformable"]
# What a transform can be fitted to, and is then no evidence for it: mutual information of the intensities, the likeness
# of self-similarity descriptors (MIND-SSC), and local correlation.
FittedTo = Literal["information", "likeness", "correlation"]

TRANSFORMS = "a matrix, a field or a composite of samreg.transforms"
PAIR_TOLERANCE_MM = 10.0  # of a field of view of 256 mm, and scales with it


def ignored(share: float) -> None:
    """Progress that nobody asked for.

    Args:
        share: That is done, 0..1.
    """


@dataclass(frozen=True, eq=False)
class Problem:
    """A registration as its estimators see it; nothing in it changes.

    Attributes:
        images: Both images with their bodies, at the resolutions of a fit.
        fixed, moving: The same at working resolution, with the regions found in them.
        settings: Of the configuration.
        matched: The pairs under a linear estimate, or (None) by appearance alone; see `pairs_under`.
        encoded: Dense features of an image, by the encoder of the configuration; see `features`.
        labelled: The pairs are given contours (Case 1).
        calibrated: The confidences of the pairs are probabilities.
        progress: Called with the share done, 0..1.
        constraints: What the transform is asked to respect. What does not count of an image is painted over already.
    """

    images: ImagePair
    fixed: SegmentedImage
    moving: SegmentedImage
    settings: EstimationConfig
    matched: Callable[[Affine | None], Matched]
    encoded: Callable[[Volume], Features]
    labelled: bool = False
    calibrated: bool = True
    progress: Callable[[float], None] = field(default=ignored)
    constraints: Constraints = field(default_factory=Constraints)

    @property
    def seed(self) -> int:
        """Of all random choices."""
        return self.images.seed

    @property
    def device(self) -> str:
        """Where tensors live."""
        return self.images.device

    @property
    def tolerance_mm(self) -> float:
        """Distance of two centroids from which on a pair counts as wrong."""
        return PAIR_TOLERANCE_MM * self.images.scale

    def pairs_under(self, transform: Transform | None) -> RoiPairs:
        """The pairs of regions that lie together under an estimate; some are marked as held out from every fit.

        A function of the transform alone, and cached. Where the moving image lies otherwise than the fixed one, its
        regions are those of the image cut along the fixed slices, as the first estimate of the run lays them.

        Args:
            transform: Fixed to moving points. A linear one is used whole, of any other its linear start. None: pairs
                by appearance alone, wherever they lie.
        """
        return self.matched(linear_part(transform)).pairs

    def weighed(self, pairs: RoiPairs) -> RoiPairs:
        """The pairs with the confidences that a fit shall weigh them by."""
        return pairs if self.calibrated and self.settings.weight_by_confidence else pairs.with_equal_confidence()

    def features(self, volume: Volume) -> Features:
        """Dense features of an image, on their own grid."""
        return self.encoded(volume)

    def reporting(self, progress: Callable[[float], None]) -> Problem:
        """The same problem with other progress."""
        return replace(self, progress=progress)


@dataclass(frozen=True, eq=False)
class Candidate:
    """A transform that an estimator proposes.

    Attributes:
        transform: Fixed to moving points.
        rests_on: What it was estimated from, a clause for the report ("81 of 112 pairs").
        fitted: The pairs that the fit used. They are no evidence for the candidate. None: the fit used no pairs, or
            only those of `pairs_under(None).fitted`.
        fitted_to: The image similarities that the fit used: "information" is the mutual information of intensities,
            "likeness" that of self-similarity descriptors (MIND-SSC), "correlation" the local correlation of
            intensities. The ladder compares an affine or deformable candidate that names "information" with its start
            by "likeness", and any other by "information", where pairs do not decide. One that names "correlation" it
            compares by "likeness" alone: regions are too coarse to tell.
        rivals: Score of the best estimate that ended elsewhere, relative to this one; 0 if none did, None where
            estimates were not compared.
        mirrored: Score of the moving image mirrored left to right, relative to this one; None where not compared.
        notes: Sentences on choices that were made within the estimate.

    Raises:
        UsageError: A value of another type, NaN in place of a number, or a transform that cannot be written.
    """

    transform: Transform
    rests_on: str
    fitted: RoiPairs | None = None
    fitted_to: frozenset[FittedTo] = frozenset()
    rivals: float | None = None
    mirrored: float | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.transform, Transform):
            raise _wrong("transform", self.transform, TRANSFORMS)
        try:
            leaves(self.transform)
        except UsageError as error:
            raise UsageError(f"of the candidate, {error.got} that no file can hold", TRANSFORMS) from error
        if not isinstance(self.rests_on, str) or not self.rests_on:
            raise _wrong("rests_on", self.rests_on, "a text that is not empty")
        if not isinstance(self.fitted, RoiPairs | None):
            raise _wrong("fitted", self.fitted, "pairs of `problem.pairs_under`, or None")
        if not isinstance(self.fitted_to, frozenset) or not self.fitted_to <= set(get_args(FittedTo)):
            raise _wrong(
                "fitted_to", self.fitted_to, f"a frozenset of {' and '.join(get_args(FittedTo))}, or of neither"
            )
        for name, value in (("rivals", self.rivals), ("mirrored", self.mirrored)):
            if value is not None and (not isinstance(value, Real) or isnan(value)):
                raise _wrong(name, value, "a number or None")
        if not isinstance(self.notes, tuple) or not all(isinstance(note, str) for note in self.notes):
            raise _wrong("notes", self.notes, "a tuple of sentences")


@dataclass(frozen=True)
class Abstention:
    """No candidate.

    Attributes:
        reason: A clause ("3 pairs to fit, at least 4 are needed").
        by_design: The estimator is not meant for such images, so nothing was lost.

    Raises:
        UsageError: A reason that is no text.
    """

    reason: str
    by_design: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.reason, str) or not self.reason:
            raise UsageError(f"the reason of the abstention is {_shown(self.reason)}", "a text that is not empty")


class Estimator(Protocol):
    """Proposes a transform. A new one is a class with these two members, and a row of `registry.ESTIMATORS`.

    `kind` is an attribute of the class, so that it is known before one is made.
    """

    @property
    def kind(self) -> CandidateKind:
        """Of its candidates."""
        ...

    def estimate(self, problem: Problem, start: Transform) -> Candidate | Abstention:
        """A candidate that is finer than the start, or an abstention.

        Args:
            problem: What is known.
            start: The best transform so far, fixed to moving points; the identity at the beginning.
        """
        ...


def linear_part(transform: Transform | None) -> Affine | None:
    """What of a transform is linear.

    Args:
        transform: Fixed to moving points; None: no estimate.

    Returns:
        The transform itself if it is linear; of a composite its last linear part; else the identity. None for None.
    """
    if transform is None or isinstance(transform, Affine):
        return transform
    linear = [part for part in getattr(transform, "parts", ()) if isinstance(part, Affine)]
    return linear[-1] if linear else Affine.identity()


def _wrong(name: str, value: Any, expected: str) -> UsageError:
    return UsageError(f"'{name}' of the candidate is {_shown(value)}", expected, "CONTRIBUTING.md shows a candidate.")


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, str | float | None) else f"a {type(value).__name__}"
