"""Regions of one image: without a model, from a SAM model, or from given label maps."""

from __future__ import annotations

from samreg.encoders import Encoder
from samreg.errors import UsageError
from samreg.proposals.base import Proposer
from samreg.registry import PROPOSERS, build, find
from samreg.types import Labels

__all__ = ["Proposer", "create_proposer"]


def create_proposer(name: str, encoder: Encoder | None = None, *, labels: Labels | None = None) -> Proposer:
    """The proposer of this registry name.

    Args:
        name: "everything", "superpixels" or "labels".
        encoder: For "everything": the encoder whose model and embeddings it shares.
        labels: For "labels": the given map [i, j, k].

    Raises:
        UsageError: The name is unknown, or what the proposer needs is missing.

    Example:
        >>> rois = create_proposer("superpixels").propose(volume, body, ProposalConfig())
    """
    entry = find(PROPOSERS, name, "proposer")
    if name == "labels":
        if labels is None:
            raise UsageError("the proposer 'labels' is used without label maps", "a label map for each image")
        proposer: Proposer = build(entry, labels)
    elif entry.promptable:
        slices = getattr(encoder, "slices", None)
        if slices is None:
            raise UsageError(
                f"the proposer '{name}' is used without a promptable encoder", "the encoder 'embedded' or 'sam'"
            )
        proposer = build(entry, slices)
    else:
        proposer = build(entry)
    return proposer
