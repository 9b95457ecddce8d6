"""Pairs of regions: similarity, combinations, selection, linking."""

from samreg.matching.agreement import overlap
from samreg.matching.base import Matched, Matcher, MatchRequest, SegmentedImage
from samreg.matching.combinations import Combinations, calibrated, weigh
from samreg.matching.holding_out import with_held_out
from samreg.matching.linking import link_slices
from samreg.matching.selection import match, match_labels
from samreg.matching.similarity import shape_similarity, similarity

__all__ = [
    "Combinations",
    "MatchRequest",
    "Matched",
    "Matcher",
    "SegmentedImage",
    "calibrated",
    "link_slices",
    "match",
    "match_labels",
    "overlap",
    "shape_similarity",
    "similarity",
    "weigh",
    "with_held_out",
]
