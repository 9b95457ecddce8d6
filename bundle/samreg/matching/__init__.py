"""Pairs of regions: similarity, selection, positional checks, linking, confidence."""

from samreg.matching.agreement import agreement
from samreg.matching.holding_out import with_held_out
from samreg.matching.linking import link_slices
from samreg.matching.matcher import match, match_labels
from samreg.matching.sides import Side, pair_up
from samreg.matching.similarity import shape_similarity, similarity

__all__ = [
    "Side",
    "agreement",
    "link_slices",
    "match",
    "match_labels",
    "pair_up",
    "shape_similarity",
    "similarity",
    "with_held_out",
]
