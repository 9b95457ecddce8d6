"""Features of an image, for matching regions and for dense similarity."""

from __future__ import annotations

from pathlib import Path

import torch

from samreg.config import Config
from samreg.device import find_device
from samreg.encoders.base import Encoder, Features
from samreg.encoders.mind import mind_ssc
from samreg.encoders.pooling import pool
from samreg.promptable.cache import SliceCache
from samreg.registry import find_encoder, load

__all__ = ["Encoder", "Features", "create_encoder", "encoder_of", "mind_ssc", "pool"]


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
        name: "embedded", "handcrafted" or "sam".
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
    entry = find_encoder(name, weights)
    offered = {"weights": weights, "variant": variant, "precision": precision, "cache": cache}
    encoder: Encoder = load(entry)(device=device, **{option: offered[option] for option in entry.options})
    return encoder


def encoder_of(config: Config) -> Encoder:
    """The encoder that a configuration asks for.

    Raises:
        UsageError: See `create_encoder` and `find_device`.
    """
    return create_encoder(
        config.encoder,
        weights=config.weights,
        variant=config.variant,
        precision=config.precision,
        device=find_device(config.device),
        cache=SliceCache(config.cache, config.cache_gb) if config.cache is not None else None,
    )
