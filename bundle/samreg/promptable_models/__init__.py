"""Models that segment what a prompt points at: their protocol, a volume as their slices, and the cache of these."""

from samreg.promptable_models.base import EncodedSlice, Masks, PromptableModel

__all__ = ["EncodedSlice", "Masks", "PromptableModel"]
