"""Features on their own grid, and the protocol of what makes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from samreg.errors import UsageError
from samreg.geometry import Grid, Volume

OnProgress = Callable[[float], None]  # called with the share done, 0..1


@dataclass(frozen=True, eq=False)
class Features:
    """Channels of an encoder.

    Attributes:
        grid: Where the channels lie: LPS mm of the centres of the encoder's cells.
        channels: [c, i, j, k] floating point; float16 where a model's embedding is large.

    Raises:
        UsageError: The channels do not have the grid's shape.
    """

    grid: Grid
    channels: Tensor

    def __post_init__(self) -> None:
        if self.channels.ndim != 4 or tuple(self.channels.shape[1:]) != self.grid.shape:
            raise UsageError(f"features of shape {tuple(self.channels.shape)}", f"[c, *{self.grid.shape}]")


class Encoder(Protocol):
    """Turns an image into features."""

    @property
    def weights_hash(self) -> str | None:
        """SHA-256 of the weights, for provenance; None for an encoder without weights."""
        ...

    @property
    def variant(self) -> str | None:
        """Row of the SAM family; None for an encoder that is not of it."""
        ...

    @property
    def precision(self) -> str:
        """Of its arithmetic, as it is carried out: "float32" or "bfloat16"."""
        ...

    def encode(self, volume: Volume, *, on_progress: OnProgress | None = None) -> Features:
        """Features of an image.

        Args:
            volume: The image.
            on_progress: Called with the share done, 0..1.
        """
        ...
