"""Features of an image, for matching regions and for dense similarity."""

from __future__ import annotations

from pathlib import Path

import torch

from samreg.encoders.base import Encoder, Features
from samreg.encoders.mind import mind_ssc
from samreg.encoders.pooling import pool
from samreg.errors import UsageError
from samreg.registry import ENCODERS, find, load
from samreg.sam.cache import SliceCache

__all__ = ["Encoder", "Features", "create_encoder", "mind_ssc", "pool"]


def create_encoder(
    name: str,
    *,
    weights: str | Path | None = None,
    variant: str | None = None,
    precision: str = "auto",
    device: torch.device | str = "cpu",
    cache: SliceCache | None = None,
) -> Encoder:
    """The encoder of this registry name.

    Args:
        name: "handcrafted" or "sam".
        weights: Local file or folder, for an encoder that has weights.
        variant: Row of the SAM family; None: told from the weights.
        precision: Of its arithmetic: "float32", "bfloat16", or "auto" for the one that suits the device.
        device: Where it computes.
        cache: Keeps what a model makes of a slice for the next time.

    Raises:
        UsageError: The name is unknown, weights are missing or superfluous, or cannot be read.

    Example:
        >>> features = create_encoder("handcrafted").encode(volume)
    """
    entry = find(ENCODERS, name, "encoder")
    if entry.needs_weights and weights is None:
        raise UsageError(
            f"encoder '{name}' without weights", "a file or folder", "Give it with --weights.", reason="weights-missing"
        )
    of_model = {"variant": variant, "precision": precision, "cache": cache} if entry.needs_weights else {}
    encoder: Encoder = load(entry)(weights=weights, device=device, **of_model)
    return encoder
