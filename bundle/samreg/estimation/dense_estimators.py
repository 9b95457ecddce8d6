"""Estimators of the dense engine: an affine transform by descriptors, and a symmetric deformable one."""

from __future__ import annotations

import numpy as np

from samreg.estimation.base import Candidate, CandidateKind, Problem, linear_part
from samreg.estimation.dense.affine import fit_by_descriptors
from samreg.estimation.dense.symmetric import fit_symmetric
from samreg.estimation.linear_estimators import settled
from samreg.geometry import Volume
from samreg.transforms import Affine, Transform, compose


class DescriptorAffine:
    """The affine transform under which self-similarity descriptors agree best.

    From the start, and from where the middles of both bodies meet.
    """

    kind: CandidateKind = "affine"

    def estimate(self, problem: Problem, start: Transform) -> Candidate:
        """See `Estimator`."""
        given = linear_part(start) or Affine.identity()
        images = problem.images
        step = np.eye(4)
        step[:3, 3] = _middle(images.moving_body) - given.map_points(_middle(images.fixed_body))
        starts = [given, Affine(step @ given.moving_from_fixed)]
        found = fit_by_descriptors(images, starts)
        return Candidate(
            Affine(settled(found.moving_from_fixed)), "self-similarity descriptors", fitted_to=frozenset({"likeness"})
        )


class Symmetric:
    """A field on local correlation and descriptors that treats both images alike, with its inverse."""

    kind: CandidateKind = "deformable"
    capture = False
    likeness = "local correlation and self-similarity descriptors"

    def estimate(self, problem: Problem, start: Transform) -> Candidate:
        """See `Estimator`."""
        linear = linear_part(start) or Affine.identity()
        field = fit_symmetric(problem.images, linear, capture=self.capture, on_progress=problem.progress)
        return Candidate(compose([field, linear]), self.likeness, fitted_to=frozenset({"correlation"}))


class SymmetricFromCapture(Symmetric):
    """As `Symmetric`, after a search for displacements of up to a third of the field of view."""

    capture = True
    likeness = "local correlation and self-similarity descriptors, after a discrete search"


def _middle(body: Volume) -> np.ndarray:
    return body.grid.lps(np.argwhere(body.voxels > 0).mean(0))
