"""Pairs of regions: similarity, selection, positional checks, linking, confidence."""

from samreg.matching.agreement import agreement
from samreg.matching.linking import link_slices
from samreg.matching.matcher import match, match_labels, with_held_out
from samreg.matching.similarity import similarity

__all__ = ["agreement", "link_slices", "match", "match_labels", "similarity", "with_held_out"]
