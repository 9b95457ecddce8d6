"""Features of an image, for matching regions and for dense similarity."""

from __future__ import annotations

from collections.abc import Container, Hashable
from inspect import signature
from pathlib import Path

import torch

from samreg.config import Config
from samreg.device import find_device
from samreg.encoders.base import Encoder, Features
from samreg.encoders.mind import mind_ssc
from samreg.encoders.pooling import pool
from samreg.errors import UsageError
from samreg.promptable_models.cache import SliceCache
from samreg.registry import build, find_encoder, is_own, load
from samreg.shipped import weights_file

__all__ = ["Encoder", "EncoderStore", "Features", "create_encoder", "encoder_of", "mind_ssc", "pool"]


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
        name: Of the registry, or `module:Class` of your own, which is given `device` and of the options below those
            that it takes.
        weights: Local file or folder, for an encoder that has weights.
        variant: Row of the SAM family; None: told from the weights.
        precision: Of its arithmetic: "float32", "bfloat16", or "auto" for the one that suits the device.
        device: Where it computes.
        cache: Keeps what a model makes of a slice for the next time.

    Returns:
        The encoder, its weights loaded.

    Raises:
        UsageError: The name is unknown, weights are missing or superfluous, or cannot be read.

    Example:
        >>> features = create_encoder("handcrafted").encode(volume)
    """
    entry = find_encoder(name, weights)
    offered = {"weights": weights, "variant": variant, "precision": precision, "cache": cache}
    taken: Container[str] = signature(load(entry)).parameters if is_own(name) else entry.options
    encoder = build(entry, device=device, **{key: value for key, value in offered.items() if key in taken})
    if not isinstance(encoder, Encoder):
        raise UsageError(f"'{name}' is no encoder", "a class that builds on samreg.encoders.Encoder",
                         "CONTRIBUTING.md shows one.", reason="no-such-class")  # fmt: skip
    return encoder


def encoder_of(config: Config) -> Encoder:
    """The encoder that a configuration asks for.

    Args:
        config: Names the encoder, its weights, precision and device.

    Returns:
        The encoder, its weights loaded.

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


class EncoderStore:
    """Encoders that are loaded once and shared by all configurations that ask for the same."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Hashable, ...], Encoder] = {}

    def of(self, config: Config) -> Encoder:
        """The encoder that a configuration asks for.

        Raises:
            UsageError: See `create_encoder` and `find_device`.
        """
        key = (
            config.encoder,
            *_identity(weights_file() if config.weights is None else Path(config.weights)),
            config.variant,
            config.precision,
            find_device(config.device),
            config.cache,
            config.cache_gb,
        )
        if key not in self._kept:
            self._kept[key] = encoder_of(config)
        return self._kept[key]


def _identity(path: Path) -> tuple[Hashable, ...]:
    """What tells one file or folder of weights from another that stands in its place later."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path] if path.exists() else []
    return (path.resolve(), *((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files))
