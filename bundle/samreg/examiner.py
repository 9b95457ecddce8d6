"""The evidence for and against the candidates of one registration."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from samreg.constraints.measuring import why_constraints_break
from samreg.estimation.base import Candidate, Problem, linear_part
from samreg.evidence import Evidence, Examination, SecondMeasure, Terms
from samreg.geometry import Volume
from samreg.metrics import why_not_invertible
from samreg.quality import scale_is_plausible, stands_out
from samreg.rois import RoiPairs
from samreg.transforms import Affine, Transform
from samreg.types import Mask, TransformKind


@dataclass(frozen=True, eq=False)
class PairExaminer:
    """Examines candidates by pairs that they were not fitted to, and by both images.

    Attributes:
        problem: That the candidates answer.
        min_pairs: Fewer pairs support nothing.
    """

    problem: Problem
    min_pairs: int

    def support(self, candidate: Candidate) -> str:
        """See `ladder.Examiner`."""
        count = self.problem.pairs_under(candidate.transform).independent
        alone = stands_out(candidate, self.problem.images.fixed.grid)
        if self.problem.labelled or alone or count >= self.min_pairs:
            return ""
        return f"{count} pairs of regions agree with it, which are too few"

    def terms(self, candidate: Candidate, kind: TransformKind) -> Terms:
        """See `ladder.Examiner`."""
        return Terms.of(candidate.fitted_to, kind, pictures=self.problem.images.fixed.grid.is_2d)

    def evidence(self, candidate: Candidate, coarser: Transform, second: SecondMeasure) -> tuple[Evidence, Evidence]:
        """See `ladder.Examiner`."""
        examination = self.examination(self._witnesses(candidate, coarser))
        through = coarser if second == "likeness" else None
        finer, before = (examination.evidence(t, through) for t in (candidate.transform, coarser))
        return finer, before

    def flaw(self, candidate: Candidate, kind: TransformKind) -> str:
        """See `ladder.Examiner`."""
        linear = candidate.transform if isinstance(candidate.transform, Affine) else None
        if (kind == "rigid" and not (linear and linear.is_rigid)) or (kind == "affine" and not linear):
            return f"its transform is not {kind}"
        if not scale_is_plausible(candidate.transform):
            return "it stretches the body more than anatomy allows"
        deforms = kind == "deformable"
        if deforms and (why := why_not_invertible(candidate.transform, self.problem.fixed.working.grid)):
            return why
        return why_constraints_break(candidate.transform, self.problem.constraints, landmarks=deforms)

    def examination(self, witnesses: RoiPairs) -> Examination:
        """Of the two images at working resolution, pictures as `ImagePair.pictures` has them, with these witnesses."""
        return Examination(*self._compared, witnesses, self.problem.tolerance_mm)

    @cached_property
    def _compared(self) -> tuple[Volume, Volume, Mask]:
        """Both images, and where in the fixed one they are compared; pictures are NaN outside the body.

        The light within a camera's field of view, and the edge of the field, do not move with the tissue: between
        pictures as they are the identity would always be the best.
        """
        fixed, moving = self.problem.fixed, self.problem.moving
        if not fixed.working.grid.is_2d:
            return fixed.working, moving.working, fixed.body
        level = self.problem.images.pictures
        seen = np.where(level.moving_mask, level.moving.voxels, np.float32(np.nan))
        return level.fixed, replace(level.moving, voxels=seen), level.fixed_mask

    def _witnesses(self, candidate: Candidate, coarser: Transform) -> RoiPairs:
        """Pairs by appearance alone that the candidate was not fitted to.

        They do not depend on it: the images are read as the coarser transform lays them, and at the beginning, before
        there is one, as they are.
        """
        linear = linear_part(coarser)
        unknown = linear is None or np.array_equal(linear.moving_from_fixed, np.eye(4))
        free = self.problem.matched(None if unknown else linear).free
        if candidate.fitted is not None:
            return free.apart_from(candidate.fitted)
        return free.held_out if unknown else free
