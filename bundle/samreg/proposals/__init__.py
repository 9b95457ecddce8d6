"""Regions of one image: without a model, from a SAM model, or from given label maps."""

from __future__ import annotations

from samreg.encoders import Encoder
from samreg.errors import UsageError
from samreg.proposals.base import Proposer
from samreg.registry import find_proposer, load
from samreg.types import Labels

__all__ = ["Proposer", "create_proposer"]


def create_proposer(name: str, *, encoder: Encoder | None = None, labels: Labels | None = None) -> Proposer:
    """The proposer of this registry name.

    Args:
        name: "superpixels", "sam" or "labels".
        encoder: For "sam": the SAM encoder, whose model and embeddings it shares.
        labels: For "labels": the given map [i, j, k].

    Raises:
        UsageError: The name is unknown, or what the proposer needs is missing.

    Example:
        >>> rois = create_proposer("superpixels").propose(volume, body, ProposalConfig())
    """
    entry = find_proposer(name, labelled=labels is not None)
    if name == "sam":
        slices = getattr(encoder, "slices", None)
        if slices is None:
            raise UsageError("proposer 'sam' without the SAM encoder", "encoder 'sam'", "Choose --encoder sam.")
        proposer: Proposer = load(entry)(slices)
    elif name == "labels":
        proposer = load(entry)(labels)
    else:
        proposer = load(entry)()
    return proposer
