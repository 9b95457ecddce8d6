"""Features of an image, for matching regions and for dense similarity."""

from __future__ import annotations

from pathlib import Path

import torch

from samreg.encoders.base import Encoder, Features
from samreg.encoders.mind import mind_ssc
from samreg.encoders.pooling import pool
from samreg.errors import UsageError
from samreg.registry import ENCODERS, find, load

__all__ = ["Encoder", "Features", "create_encoder", "mind_ssc", "pool"]


def create_encoder(name: str, *, weights: str | Path | None = None, device: torch.device | str = "cpu") -> Encoder:
    """The encoder of this registry name.

    Args:
        name: "handcrafted" or "sam".
        weights: Local file or folder, for an encoder that has weights.
        device: Where it computes.

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
    encoder: Encoder = load(entry)(weights=weights, device=device)
    return encoder
