"""The symmetric fit: both images are moved towards each other until they agree in the middle.

Source: Avants et al., Med Image Anal 12(1), 2008 (symmetric normalisation), with greedy composition of small steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from samreg.constraints.measuring import why_constraints_break
from samreg.constraints.model import Constraints
from samreg.errors import UsageError
from samreg.estimation.base import ignored
from samreg.estimation.dense.descents import Descent
from samreg.estimation.dense.forces import SelfSimilarity
from samreg.estimation.dense.invertible import invertible
from samreg.estimation.dense.levels import KNOWN, DenseLevel
from samreg.estimation.image_pair import ImagePair
from samreg.geometry import inside, sample
from samreg.transforms import Affine, DisplacementField, Transform, compose

UNCONSTRAINED = Constraints()
# Times the distance of descriptors before. Between images of like contrast noise added up to 0.02; between phantoms
# whose organs have other values in each image 0.1 to 1.4, at errors of centimetres.
MOST_APART = 1.05
REPAIRS = 5  # of the inverse, each of which may disturb what constraints hold a little


def fit_symmetric(
    pair: ImagePair,
    starts: Sequence[Affine],
    *,
    capture: bool = False,
    constraints: Constraints = UNCONSTRAINED,
    on_progress: Callable[[float], None] = ignored,
) -> tuple[DisplacementField, Affine]:
    """The field u of x_moving = start(x_fixed + u(x_fixed)), with its inverse, and the start that it stands before.

    All starts are followed to the finest level but one. There the one under which the descriptors agree best goes on.

    Args:
        pair: The images and their bodies.
        starts: Linear transforms to begin with, fixed to moving points; at least one.
        capture: Whether displacements of up to a third of the field are searched first (`captured`).
        constraints: Landmarks and regions of the moving image that the whole transform, start included, respects. What
            counts of the images is told by the masks of `pair`.
        on_progress: Called with the share done, 0..1.

    Returns:
        A field around the bodies that vanishes at the border of its grid, and knows its inverse; and the start.

    Raises:
        UsageError: Local correlation misreads the images: it drives their descriptors apart. Or the field folds where
            it is made to respect the constraints, or has no inverse.
    """
    descents = [Descent.of(pair, start, capture, constraints) for start in starts]
    last = max(descent.work(slice(-1, None)) for descent in descents)
    total, done = last + sum(descent.work(slice(-1)) for descent in descents), 0

    def step_done(voxels: int) -> None:
        nonlocal done
        done += voxels
        on_progress(min(1.0, done / total))

    for descent in descents:
        descent.follow(slice(-1), step_done)
    best = _likeliest(descents)
    best.follow(slice(-1, None), step_done)
    return _with_inverse(best, constraints), best.start


def _likeliest(descents: Sequence[Descent]) -> Descent:
    """The descent under which the descriptors agree best."""

    shown = [_Shown.by(descent) for descent in descents]

    def apart(transform: Transform) -> float:
        # Read as each of the starts shows them: none gains by it.
        return sum(one.distance(transform) for one in shown)

    ended, folds = [], None
    for descent in descents:
        try:
            ended.append(apart(compose([descent.field(), descent.start])))
        except UsageError as error:
            ended.append(np.inf)
            folds = error
    if folds is not None and not np.isfinite(min(ended)):
        raise folds
    before, after = min(apart(descent.start) for descent in descents), min(ended)
    if after > MOST_APART * before:
        raise UsageError(
            f"local correlation drives the descriptors apart, from {before:.3g} to {after:.3g}",
            "images of like contrast",
        )
    return descents[int(np.argmin(ended))]


def _with_inverse(descent: Descent, constraints: Constraints) -> DisplacementField:
    """The field of a descent, repaired where its inverse misses, and constrained anew where the repair broke that."""
    field = invertible(descent.constrained_field())
    for _ in range(REPAIRS):
        if not why_constraints_break(compose([field, descent.start]), constraints):
            break
        field = invertible(descent.constrained_anew(field))
    return field


@dataclass(frozen=True, eq=False)
class _Shown:
    """Descriptors of both images as the start of a descent shows them, on the level that it has reached.

    Those of the moving image are made once and travel with the tissue: a transform that squeezes the image does not
    make them alike.
    """

    start: Affine
    level: DenseLevel
    descriptors: Tensor

    @staticmethod
    def by(descent: Descent) -> _Shown:
        level = next(level for level in descent.levels if level.grid is descent.grid)
        return _Shown(descent.start, level, SelfSimilarity.of(level.images, level.grid).descriptors)

    def distance(self, transform: Transform) -> float:
        """Mean squared distance of the descriptors under a transform."""
        fixed, moving = self.descriptors
        grid, known = self.level.grid, self.level.known
        there = self.start.inverse().map_points(transform.map_points(grid.points().reshape(-1, 3)))
        ijk = torch.as_tensor(grid.index(there)).to(moving)
        apart = (sample(moving, ijk) - fixed.flatten(1)).square().mean(0)
        seen = inside(ijk, grid.shape) & (sample(known[1:], ijk)[0] > KNOWN) & (known[0].flatten() > KNOWN)
        return float(apart[seen].double().mean()) if seen.any() else float("inf")
