"""Models that answer prompts on slices: what they have in common, and volumes as they see them."""

from samreg.promptable.base import Encoded, Masks, PromptableModel

__all__ = ["Encoded", "Masks", "PromptableModel"]
