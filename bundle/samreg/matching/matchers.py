"""The matchers of the registry."""

from __future__ import annotations

from samreg.encoders.pooling import pool
from samreg.errors import UsageError
from samreg.matching.base import MatchRequest
from samreg.matching.combinations import calibrated, weigh
from samreg.matching.selection import match, match_labels
from samreg.matching.similarity import similarity
from samreg.preprocess import contrast_matched, turned_like
from samreg.rois import RoiPairs

MOST_BY_APPEARANCE = 150
REACH = 0.1  # of the body's size: how far apart the regions of a pair may lie under an estimate


class Prototypes:
    """Pairs by the similarity of their prototypes, and by where they lie (SAMReg, Eq. 5-7)."""

    def match(self, request: MatchRequest) -> RoiPairs:
        """At most K pairs as `config` counts them; by appearance up to 150 or K, whichever is more."""
        fixed, moving, encoder, aligned = request.fixed, request.moving, request.encoder, request.aligned
        if fixed.prototypes is None or moving.prototypes is None:
            raise UsageError("the regions have no prototypes", "regions that an encoder has described")
        prototypes = moving.prototypes
        config = calibrated(request.config, encoder.calibration)
        if request.by_appearance:
            prototypes = moving.prototypes if moving.displaced is None else moving.displaced
            config = config.with_values(
                {"max_pairs": max(MOST_BY_APPEARANCE, config.max_pairs or 0), "max_pairs_of": "image"}
            )
        if aligned is not None and encoder.one_contrast:
            # Intensity statistics compare only once both images have one contrast.
            image = contrast_matched(moving.working, fixed.working, aligned, fixed.body)
            image = turned_like(image, fixed.working.grid, aligned)
            prototypes = pool(encoder.encode(image), moving.rois)
        alike = similarity(fixed.prototypes, prototypes, config.similarity)
        return match(
            weigh(
                fixed.rois,
                moving.rois,
                alike,
                config,
                calibration=encoder.calibration,
                aligned=None if request.by_appearance else aligned,
                max_distance_mm=config.max_distance_mm or REACH * fixed.body_size_mm,
            )
        )


class GivenLabels:
    """Pairs of the regions that carry the same number in given label maps (Case 1)."""

    def match(self, request: MatchRequest) -> RoiPairs:
        """See `match_labels`."""
        return match_labels(request.fixed.rois, request.moving.rois)
