"""The image encoders of promptable models as features (Huang et al., arXiv 2405.10879)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from samreg.embedded.model import EmbeddedModel
from samreg.encoders.base import UNCALIBRATED, Calibration, Confidence, Encoder, Features, OnProgress, Reads
from samreg.errors import UsageError
from samreg.geometry import Volume
from samreg.promptable_models import PromptableModel
from samreg.promptable_models.cache import SliceCache
from samreg.promptable_models.slices import PromptableSlices

# Of weights whose file does not name it itself.
SYNTHETIC_PAIRS = "synthetic image pairs, with the embedded model"


def calibration_of(about: Mapping[str, Any]) -> Calibration:
    """The calibration in the header of the embedded model's file; where there is none, one that was not fitted to it.

    Raises:
        UsageError: It is damaged.
    """
    found = about.get("calibration")
    if found is None:
        return replace(UNCALIBRATED, shape_weight=1.0, max_pairs=200, apart=0.3)
    try:
        confidences = {name: Confidence(**found[name]) for name in ("free", "aligned")}
        return Calibration(**{"fitted_on": SYNTHETIC_PAIRS, **found, **confidences})
    except (LookupError, TypeError) as error:
        raise UsageError(f"the calibration in the weights is damaged ({error})", "the embedded model's file") from error


class ModelEncoder(Encoder):
    """The embedding of every slice on its own cells.

    Args:
        model: Encodes the slices.
        cache: Keeps embeddings and masks for the next time.

    Attributes:
        slices: The model and its embeddings; everything mode shares it, so each slice is encoded once.
    """

    def __init__(self, model: PromptableModel, cache: SliceCache | None = None) -> None:
        self.slices = PromptableSlices(model, cache)

    @property
    def reads(self) -> Reads:
        """The slices as they are."""
        return "slices"

    @property
    def weights_hash(self) -> str:
        """SHA-256 of the weights file."""
        return self.slices.model.weights_hash

    @property
    def precision(self) -> str:
        """Of the model's arithmetic, "auto" resolved."""
        return self.slices.model.precision

    def encode(self, volume: Volume, *, on_progress: OnProgress | None = None) -> Features:
        """float16 [c, x cells, y cells, slices]; the grid holds the centres of the cells."""
        encoded = self.slices.of(volume)
        return Features(encoded.grid, torch.stack(encoded.each_slice(encoded.embedding, on_progress), -1))

    def forget(self) -> None:
        """Let go of the embeddings of the last volumes."""
        self.slices.forget()


class EmbeddedEncoder(ModelEncoder):
    """The model that the library comes with: 64 channels on cells of 4 x 4 of its pixels.

    Args:
        cache: See `ModelEncoder`.
        of_model: `weights`, `device` and `precision`, see `EmbeddedModel`.

    Raises:
        UsageError: The weights cannot be used.
    """

    def __init__(self, *, cache: SliceCache | None = None, **of_model: Any) -> None:
        self.model = EmbeddedModel(**of_model)
        super().__init__(self.model, cache)
        self._calibration = calibration_of(self.model.about)

    @property
    def reads(self) -> Reads:
        """Slices with no more pixels than it can tell apart."""
        return "sampled slices"

    @property
    def rereads_aligned(self) -> bool:
        """Quick enough."""
        return True

    @property
    def calibration(self) -> Calibration:
        """As it stands in the weights' file."""
        return self._calibration


class SamEncoder(ModelEncoder):
    """The neck embedding of a SAM model, 256 channels on cells of 16 x 16 of its pixels.

    Args:
        cache: See `ModelEncoder`.
        of_model: `weights`, `device`, `variant` and `precision`, see `SamFamilyModel`.

    Raises:
        UsageError: The weights cannot be used.
    """

    def __init__(self, *, cache: SliceCache | None = None, **of_model: Any) -> None:
        from samreg.sam.model import SamFamilyModel

        self._model = SamFamilyModel(**of_model)
        super().__init__(self._model, cache)

    @property
    def variant(self) -> str:
        """Row of the SAM family."""
        return self._model.variant.name
