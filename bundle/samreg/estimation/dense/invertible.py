"""Fields whose inverse is a field of the same grid, too."""

from __future__ import annotations

import numpy as np
import torch

from samreg.errors import UsageError
from samreg.estimation.dense.fields import softened
from samreg.geometry import finest_spacing_mm
from samreg.transforms import DisplacementField

MISSED_VOX = 0.8  # that there and back may end apart, of the finest spacing
MOST_ROUNDS = 20
INVERSE_VOX = 0.01  # that an inverse may be off, likewise: less than its interpolation between voxels


def invertible(field: DisplacementField) -> DisplacementField:
    """The field smoothed where there and back end apart, until they do not; it knows its inverse.

    Where a field nearly folds, or shears from slice to slice, its inverse exists, but no vectors of its grid hold it.

    Raises:
        UsageError: The field folds, or this does not end.
    """
    grid, limit_mm = field.grid, MISSED_VOX * finest_spacing_mm(field.grid)
    points = grid.points().reshape(-1, 3)
    inverse = nearly_inverse(field)
    for _ in range(MOST_ROUNDS):
        back = inverse.map_points(field.map_points(points))
        missed_mm = np.linalg.norm(back - points, axis=-1).reshape(grid.shape)
        if missed_mm.max() <= limit_mm:
            return DisplacementField(grid, field.vectors, inverse)
        where = torch.as_tensor(missed_mm > limit_mm)[None]
        softer = softened(torch.as_tensor(field.vectors)[None], where, grid)[0]
        field = DisplacementField(grid, softer.numpy(), inverse)
        inverse = nearly_inverse(field)
    raise UsageError(
        f"there and back end up to {missed_mm.max():.1f} mm apart", f"a field whose inverse misses by {limit_mm:.1f} mm"
    )


def nearly_inverse(field: DisplacementField) -> DisplacementField:
    """The inverse, as exact as its grid can hold it.

    Raises:
        UsageError: The field folds.
    """
    return field.inverse(INVERSE_VOX * finest_spacing_mm(field.grid))
