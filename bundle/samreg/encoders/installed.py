"""The encoder that a configuration asks for."""

from __future__ import annotations

from samreg.config import Config
from samreg.device import find_device
from samreg.encoders import create_encoder
from samreg.encoders.base import Encoder
from samreg.promptable.cache import SliceCache


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
