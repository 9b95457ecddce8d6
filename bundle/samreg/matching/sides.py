"""Two images with what was found in them, and the pairs between the two."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from samreg.config import Config
from samreg.encoders.base import Encoder
from samreg.encoders.pooling import pool
from samreg.geometry import Volume
from samreg.matching.matcher import match, match_labels
from samreg.matching.similarity import similarity
from samreg.preprocess import contrast_matched, turned_like
from samreg.rois import RoiPairs, RoiSet
from samreg.transforms import Affine
from samreg.types import Mask

WITNESSES = 150


@dataclass(frozen=True, eq=False)
class Side:
    """One image with what was found in it.

    Attributes:
        working: The image at the resolution of the regions.
        body: [i, j, k] on the working grid.
        prototypes: [n, c] of the regions; None for given labels.
    """

    image: Volume
    working: Volume
    body: Mask
    rois: RoiSet
    prototypes: np.ndarray | None

    @property
    def body_size_mm(self) -> float:
        """Edge of the cube (square) with the body's volume (area)."""
        axes = list(self.working.grid.active_axes)
        return float((self.body.sum() * np.prod(self.working.grid.spacing_mm[axes])) ** (1 / len(axes)))


def pair_up(
    fixed: Side,
    moving: Side,
    encoder: Encoder,
    config: Config,
    aligned: Affine | None = None,
    *,
    witnesses: bool = False,
) -> RoiPairs:
    """Pairs of regions, by label where both images have given ones.

    Args:
        aligned: Rough fixed to moving transform. Makes the contrasts comparable, and restricts where pairs may lie.
        witnesses: Pairs by appearance alone, not restricted in spite of an alignment, and many: for the rigid
            estimate, and to tell a right result from a wrong one.

    Returns:
        At most K pairs as `config.matching` counts them; witnesses up to WITNESSES or K, whichever is more.
    """
    if fixed.prototypes is None or moving.prototypes is None:
        return match_labels(fixed.rois, moving.rois)
    prototypes = moving.prototypes
    settings = config.matching
    if witnesses:
        settings = replace(settings, max_pairs=max(WITNESSES, settings.max_pairs), max_pairs_of="image")
    if aligned is not None and config.encoder == "handcrafted":
        # Intensity statistics compare only once both images have one contrast.
        image = contrast_matched(moving.working, fixed.working, aligned, fixed.body)
        image = turned_like(image, fixed.working.grid, aligned)
        prototypes = pool(encoder.encode(image), moving.rois)
    alike = similarity(fixed.prototypes, prototypes, settings.similarity)
    reach = settings.max_distance_mm or 0.1 * fixed.body_size_mm
    where = None if witnesses else aligned
    return match(fixed.rois, moving.rois, alike, settings, aligned=where, max_distance_mm=reach)
