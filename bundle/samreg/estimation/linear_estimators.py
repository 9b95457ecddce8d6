"""Rigid and affine estimators: from dense similarity, and from pairs alone."""

from __future__ import annotations

import logging
from typing import Literal

from samreg.estimation.base import Abstention, Candidate, CandidateKind, Problem, linear_part
from samreg.estimation.rigid import (
    ALIKE,
    Start,
    edge_starts,
    fit_affine,
    fit_rigid,
    in_plane,
    mirror_ratio,
    plain_starts,
)
from samreg.estimation.robust import irls, ransac_rigid
from samreg.rois import RoiPairs
from samreg.transforms import Affine, Rigid, Transform
from samreg.types import Matrix4

logger = logging.getLogger(__name__)

PAIR_ROUNDS = 3
LEAST_PAIRS = 4  # that a linear transform is fitted to


class DenseRigid:
    """Mutual information from many starts: a global search on edges, the scanner's coordinates, and the pairs.

    The start it is given is not used: what is near it is among its own.
    """

    kind: CandidateKind = "rigid"

    def estimate(self, problem: Problem, start: Transform) -> Candidate:
        """See `Estimator`."""
        images = problem.images
        starts = edge_starts(images) + plain_starts(images)
        if (found := _consensus(problem, problem.pairs_under(None).fitted)) is not None:
            starts.insert(0, Start("pairs", found))
        fit = fit_rigid(images, starts, on_progress=lambda share: problem.progress(0.9 * share))
        alike = fit.rivals is not None and fit.rivals >= 1 - ALIKE
        return Candidate(
            _rigid(fit.moving_from_fixed),
            f"mutual information, from {fit.origin}",
            fitted_to=frozenset({"information"}),
            rivals=fit.rivals,
            mirrored=None if images.fixed.grid.is_2d else mirror_ratio(images, fit.moving_from_fixed),
            notes=("Two alignments have the same score. The one that moves the body less is taken.",) * alike,
        )


class RigidFromPairs:
    """The rigid transform that most pairs by appearance agree on, then fitted to the pairs that lie together.

    Source: Fischler and Bolles, CACM 24(6), 1981.
    """

    kind: CandidateKind = "rigid"

    def estimate(self, problem: Problem, start: Transform) -> Candidate | Abstention:
        """See `Estimator`."""
        free = problem.pairs_under(None)
        matrix, count = _consensus(problem, free.fitted), len(free.fitted)
        if matrix is None:
            return Abstention(f"too few of {count} pairs agree on one rigid transform")
        for _ in range(PAIR_ROUNDS):
            pairs = problem.weighed(problem.pairs_under(_rigid(matrix)).fitted.apart_from(free.held_out))
            if len(pairs) >= LEAST_PAIRS:
                matrix, count = _fitted(problem, matrix, pairs, "rigid"), len(pairs)
        return Candidate(
            _rigid(in_plane(matrix, problem.images.fixed, problem.images.moving)),
            f"{count} pairs",
        )


class DenseAffine:
    """Mutual information, from the start."""

    kind: CandidateKind = "affine"

    def estimate(self, problem: Problem, start: Transform) -> Candidate | Abstention:
        """See `Estimator`."""
        linear = linear_part(start) or Affine.identity()
        fit = fit_affine(problem.images, linear.moving_from_fixed)
        return Candidate(
            Affine(settled(fit.moving_from_fixed)), "mutual information", fitted_to=frozenset({"information"})
        )


class AffineFromPairs:
    """A robust fit to the pairs that lie together under the start, drawn towards it."""

    kind: CandidateKind = "affine"

    def estimate(self, problem: Problem, start: Transform) -> Candidate | Abstention:
        """See `Estimator`."""
        pairs = problem.weighed(problem.pairs_under(start).fitted)
        if len(pairs) < LEAST_PAIRS:
            return Abstention(f"there are {len(pairs)} pairs to fit to, and at least {LEAST_PAIRS} are needed")
        linear = linear_part(start) or Affine.identity()
        matrix = _fitted(problem, linear.moving_from_fixed, pairs, "affine")
        return Candidate(Affine(settled(matrix)), f"{len(pairs)} pairs", fitted=pairs)


def settled(matrix: Matrix4) -> Matrix4:
    """A matrix to a millionth of a millimetre in the body, so that what begins with it begins with the same digits.

    A field that is fitted to loose outlines makes millimetres of a difference in the last one.
    """
    return matrix.round(9)


def _rigid(matrix: Matrix4) -> Rigid:
    return Rigid(settled(Rigid.nearest(matrix).moving_from_fixed))


def _consensus(problem: Problem, pairs: RoiPairs) -> Matrix4 | None:
    """The rigid transform that most of the pairs agree on, within the plane of pictures; None where too few do."""
    pairs = problem.weighed(pairs)
    points = pairs.fixed.centroids_lps(), pairs.moving.centroids_lps()
    found = ransac_rigid(*points, pairs.confidences, problem.tolerance_mm, seed=problem.seed)
    if found is None:
        return None
    logger.info("%d of %d pairs matched by appearance agree on one rigid transform.", int(found[1].sum()), len(pairs))
    return in_plane(found[0], problem.images.fixed, problem.images.moving)


def _fitted(problem: Problem, start: Matrix4, pairs: RoiPairs, kind: Literal["rigid", "affine"]) -> Matrix4:
    points = pairs.fixed.centroids_lps(), pairs.moving.centroids_lps()
    width = problem.tolerance_mm / 2 if kind == "rigid" else problem.tolerance_mm
    return irls(start, *points, pairs.confidences, width, kind=kind)
