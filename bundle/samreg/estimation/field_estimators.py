"""Deformable estimators: a velocity field on dense features and pairs, or on pairs alone, and SAMReg's displacement.

Where one of them is refused, the next in a method's list tries finer detail (of pictures: stained sections agree in
their outlines, not at a distance) or a stiffer field.
"""

from __future__ import annotations

from samreg.estimation.base import Abstention, Candidate, CandidateKind, FittedTo, Problem
from samreg.estimation.deformable import Parametrisation, fit_field, margin_mm
from samreg.estimation.patches import RoiPatches
from samreg.transforms import Transform, compose

FINER, STIFFER = 4.0, 4.0


class _Field:
    """A field in front of the start.

    Attributes:
        parametrisation: What is moved.
        dense: Whether dense similarity takes part.
        detail: Divides the spacing of the images that are compared, as `fit_field` says.
        stiffness: Times the smoothness weight of the configuration.
    """

    kind: CandidateKind = "deformable"
    parametrisation: Parametrisation = "velocity"
    dense: bool = False
    detail: float = 1.0
    stiffness: float = 1.0

    def estimate(self, problem: Problem, start: Transform) -> Candidate | Abstention:
        """See `Estimator`."""
        images = problem.images
        if self.detail != 1.0 and not images.fixed.grid.is_2d:
            return Abstention("it is only for single pictures", by_design=True)
        if problem.constraints.kept or problem.constraints.landmarks is not None:
            return Abstention("it knows no regions to keep and no landmarks", by_design=True)
        pairs = problem.weighed(problem.pairs_under(start).fitted)
        if not self.dense and not len(pairs):
            return Abstention("there is no pair to fit to")
        asked = problem.settings
        settings = asked.with_values(
            {
                "finest_spacing_mm": asked.finest_spacing_mm * min(1.0, images.scale),
                "similarity_weight": asked.similarity_weight if self.dense else 0.0,
                "smoothness_weight": asked.smoothness_weight * self.stiffness,
            }
        )
        field = fit_field(
            start,
            images.fixed,
            images.moving,
            images.fixed_body,
            RoiPatches.of(pairs, margin_mm(settings), problem.device) if len(pairs) else None,
            settings,
            parametrisation=self.parametrisation,
            detail=self.detail,
            seed=problem.seed,
            device=problem.device,
            on_progress=problem.progress,
        )
        similarity: frozenset[FittedTo] = frozenset({"likeness"}) if self.dense else frozenset()
        found = f"{len(pairs)} pairs" + (" and self-similarity descriptors" if self.dense else "")
        return Candidate(compose([field, start]), found, fitted=pairs, fitted_to=similarity)


class Velocity(_Field):
    """A stationary velocity field on MIND-SSC and the pairs; its flow does not fold."""

    dense = True


class FinerVelocity(Velocity):
    """The same, of pictures at four times the detail."""

    detail = FINER


class StifferVelocity(Velocity):
    """The same, four times as smooth."""

    stiffness = STIFFER


class VelocityFromPairs(_Field):
    """A stationary velocity field on the pairs alone."""


class FinerVelocityFromPairs(VelocityFromPairs):
    """The same, of pictures at four times the detail."""

    detail = FINER


class StifferVelocityFromPairs(VelocityFromPairs):
    """The same, four times as smooth."""

    stiffness = STIFFER


class Displacement(_Field):
    """The displacement itself on the pairs alone (SAMReg, Eq. 10)."""

    parametrisation = "displacement"


class StifferDisplacement(Displacement):
    """The same, four times as smooth."""

    stiffness = STIFFER
