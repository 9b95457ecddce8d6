"""Two images with what was found in them, and the pairs between the two."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from samreg.config import MatchingConfig
from samreg.encoders.base import Encoder
from samreg.encoders.pooling import pool
from samreg.geometry import Volume
from samreg.matching.combinations import calibrated, weigh
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
        witness: [n, c] the same read in another field of view, for `witnesses` of an alignment: features that know
            where in the picture something lies would make any alignment look right. None: as `prototypes`.
    """

    image: Volume
    working: Volume
    body: Mask
    rois: RoiSet
    prototypes: np.ndarray | None
    witness: np.ndarray | None = None

    @property
    def body_size_mm(self) -> float:
        """Edge of the cube (square) with the body's volume (area)."""
        axes = list(self.working.grid.active_axes)
        return float((self.body.sum() * np.prod(self.working.grid.spacing_mm[axes])) ** (1 / len(axes)))


def pair_up(
    fixed: Side,
    moving: Side,
    encoder: Encoder,
    config: MatchingConfig,
    aligned: Affine | None = None,
    *,
    witnesses: bool = False,
) -> RoiPairs:
    """Pairs of regions, by label where both images have given ones.

    Args:
        fixed, moving: The images.
        encoder: That the prototypes are from.
        config: What is asked of pairs.
        aligned: Rough fixed to moving transform. Makes the contrasts comparable where the encoder
            needs that, and restricts where pairs may lie.
        witnesses: Pairs by appearance alone, not restricted in spite of an alignment, and many: for the rigid
            estimate, and to tell a right result from a wrong one.

    Returns:
        At most K pairs as `config` counts them; witnesses up to WITNESSES or K, whichever is more.
    """
    if fixed.prototypes is None or moving.prototypes is None:
        return match_labels(fixed.rois, moving.rois)
    prototypes = moving.prototypes
    config = calibrated(config, encoder.calibration)
    if witnesses:
        prototypes = moving.prototypes if moving.witness is None else moving.witness
        config = config.with_values({"max_pairs": max(WITNESSES, config.max_pairs or 0), "max_pairs_of": "image"})
    if aligned is not None and encoder.one_contrast:
        # Intensity statistics compare only once both images have one contrast.
        image = contrast_matched(moving.working, fixed.working, aligned, fixed.body)
        image = turned_like(image, fixed.working.grid, aligned)
        prototypes = pool(encoder.encode(image), moving.rois)
    alike = similarity(fixed.prototypes, prototypes, config.similarity)
    reach = config.max_distance_mm or 0.1 * fixed.body_size_mm
    where = None if witnesses else aligned
    return match(
        weigh(
            fixed.rois,
            moving.rois,
            alike,
            config,
            calibration=encoder.calibration,
            aligned=where,
            max_distance_mm=reach,
        )
    )
