"""The image encoder of a SAM model as features (Huang et al., arXiv 2405.10879)."""

from __future__ import annotations

from pathlib import Path

import torch

from samreg.encoders.base import Features, OnProgress
from samreg.errors import UsageError
from samreg.geometry import Volume
from samreg.sam.cache import SliceCache
from samreg.sam.model import PromptableModel
from samreg.sam.slices import SamSlices


class SamEncoder:
    """The neck embedding of every slice, 256 channels on cells of 16 x 16 of the model's pixels.

    Args:
        weights: A transformers folder or an original checkpoint.
        device: Where the model runs.
        variant: Row of the SAM family; None: told from the files.
        precision: See `PromptableModel`.
        cache: Keeps embeddings and masks for the next time.

    Attributes:
        slices: The model and its embeddings; everything mode shares it, so each slice is encoded once.

    Raises:
        UsageError: There are no weights, or they cannot be used.
    """

    def __init__(
        self,
        *,
        weights: str | Path | None = None,
        device: torch.device | str = "cpu",
        variant: str | None = None,
        precision: str = "auto",
        cache: SliceCache | None = None,
    ) -> None:
        if weights is None:
            raise UsageError("encoder 'sam' without weights", "a file or folder", "Give it with --weights.")
        self.slices = SamSlices(PromptableModel(weights, device, variant, precision), cache)

    @property
    def weights_hash(self) -> str:
        """SHA-256 of the weights file."""
        return self.slices.model.weights_hash

    @property
    def variant(self) -> str:
        """Row of the SAM family."""
        return self.slices.model.variant.name

    @property
    def precision(self) -> str:
        """Of the model's arithmetic, "auto" resolved."""
        return self.slices.model.precision

    def encode(self, volume: Volume, *, on_progress: OnProgress | None = None) -> Features:
        """float16 [c, x cells, y cells, slices]; the grid holds the centres of the cells."""
        encoded = self.slices.of(volume)
        count = volume.grid.shape[2]
        channels = []
        for k in range(count):
            channels.append(encoded.embedding(k))
            if on_progress:
                on_progress((k + 1) / count)
        return Features(encoded.grid, torch.stack(channels, -1))
