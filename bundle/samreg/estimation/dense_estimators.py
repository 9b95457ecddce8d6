"""Estimators of the dense engine: an affine transform by descriptors, and a symmetric deformable one."""

from __future__ import annotations

import numpy as np

from samreg.errors import UsageError
from samreg.estimation.base import Abstention, Candidate, CandidateKind, Problem, linear_part
from samreg.estimation.dense.affine import fit_by_descriptors
from samreg.estimation.dense.symmetric import fit_symmetric
from samreg.estimation.image_pair import ImagePair
from samreg.estimation.linear_estimators import settled
from samreg.estimation.rigid import centroid
from samreg.transforms import Affine, Transform, compose


class DescriptorAffine:
    """The affine transform under which self-similarity descriptors agree best.

    From the start, and from where the middles of both bodies meet.
    """

    kind: CandidateKind = "affine"

    def estimate(self, problem: Problem, start: Transform) -> Candidate:
        """See `Estimator`."""
        given, images = linear_part(start) or Affine.identity(), problem.images
        found = fit_by_descriptors(images, [given, _onto_each_other(images, given)])
        return Candidate(
            Affine(settled(found.moving_from_fixed)), "self-similarity descriptors", fitted_to=frozenset({"likeness"})
        )


class Symmetric:
    """A field on local correlation and descriptors that treats both images alike, with its inverse.

    It begins from the start, and from the affine transform by descriptors; the one that ends better stays.
    """

    kind: CandidateKind = "deformable"
    capture = False
    rests_on = "local correlation and self-similarity descriptors"

    def estimate(self, problem: Problem, start: Transform) -> Candidate | Abstention:
        """See `Estimator`."""
        given, images = linear_part(start) or Affine.identity(), problem.images
        starts = [given, fit_by_descriptors(images, [given, _onto_each_other(images, given)])]
        constraints = problem.constraints
        try:
            field, linear = fit_symmetric(
                images, starts, capture=self.capture, constraints=constraints, on_progress=problem.progress
            )
        except UsageError as error:
            return Abstention(error.got)
        transform = compose([field, Affine(settled(linear.moving_from_fixed))])
        return Candidate(transform, self.rests_on, fitted_to=frozenset({"correlation"}))


class SymmetricFromCapture(Symmetric):
    """As `Symmetric`, after a search for displacements of up to a third of the field of view."""

    capture = True
    rests_on = "local correlation and self-similarity descriptors, after a discrete search"


def _onto_each_other(images: ImagePair, linear: Affine) -> Affine:
    """A transform moved to where it lays the middles of both bodies onto each other."""
    step = np.eye(4)
    step[:3, 3] = centroid(images.moving_body) - linear.map_points(centroid(images.fixed_body))
    return Affine(step @ linear.moving_from_fixed)
