"""Features on their own grid, and the protocol of what makes them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.special import expit
from torch import Tensor

from samreg.errors import UsageError
from samreg.geometry import Grid, Volume

OnProgress = Callable[[float], None]  # called with the share done, 0..1
# What an encoder reads of an image: the working image, the slices as they are, or the slices of both images sampled
# with pixels of one size.
Reads = Literal["working image", "slices", "sampled slices"]


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
            raise UsageError(f"the features have the shape {tuple(self.channels.shape)}", f"[c, *{self.grid.shape}]")


@dataclass(frozen=True)
class Confidence:
    """Logarithm of the odds that a pair is right, as a weighted sum (logistic regression).

    Attributes:
        bias: Constant.
        similarity: Of the similarity of the prototypes, 0..1.
        dice: Of the overlap under the alignment.
        shape: Of the likeness of size and elongation, 0..1.
        margin: Of the score's distance from the best rival.
    """

    bias: float
    similarity: float = 0.0
    dice: float = 0.0
    shape: float = 0.0
    margin: float = 0.0

    def probability(
        self, *, similarity: np.ndarray, dice: np.ndarray, shape: np.ndarray, margin: np.ndarray
    ) -> np.ndarray:
        """That pairs with these values, arrays of one shape, are right."""
        logit = self.bias + self.similarity * similarity + self.dice * dice + self.shape * shape + self.margin * margin
        return np.asarray(expit(logit))


@dataclass(frozen=True)
class Calibration:
    """What the similarity of an encoder's prototypes is worth.

    Attributes:
        similarity_threshold: ε, of similarities in 0..1, where the configuration names none.
        shape_weight: Exponent of the likeness of shapes in the score, where the configuration names none.
        max_pairs: K, where the configuration names none.
        apart: Share of its score that a pair keeps whose regions lie apart under the alignment; 0: they must overlap.
        free, aligned: Confidence of pairs by appearance alone, and of those that lie together.
        fitted_on: The images and the encoder that the confidences were fitted on; None: they are not calibrated for
            this encoder, so they rank its pairs, and are no probabilities.
    """

    similarity_threshold: float
    shape_weight: float
    max_pairs: int
    apart: float
    free: Confidence
    aligned: Confidence
    fitted_on: str | None


# Fitted to "centroids agree within 5 mm" on phantoms with the handcrafted encoder; see docs/concepts.md.
PHANTOM_CALIBRATION = Calibration(
    similarity_threshold=0.65,
    shape_weight=0.0,
    max_pairs=48,
    apart=0.0,
    free=Confidence(bias=-11.1, similarity=12.0, margin=10.4),
    aligned=Confidence(bias=-7.7, dice=11.9, margin=1.7),
    fitted_on="phantoms, with the handcrafted encoder",
)


UNCALIBRATED = replace(PHANTOM_CALIBRATION, fitted_on=None)


class Encoder(ABC):
    """Turns an image into features. A new one is a class with `encode`, and a row of `registry.ENCODERS`.

    It is made with the keyword `device`, and with those of `weights`, `variant`, `precision` and `cache` that its row
    (or, of a class of the user's own, its signature) names.
    """

    @property
    def calibration(self) -> Calibration:
        """Of the similarity of its prototypes."""
        return UNCALIBRATED

    @property
    def reads(self) -> Reads:
        """What of an image it is given."""
        return "working image"

    @property
    def rereads_aligned(self) -> bool:
        """Quick enough to read the moving image again, once it is known how it lies."""
        return False

    @property
    def one_contrast(self) -> bool:
        """Its features tell regions apart only between images of one contrast that lie alike."""
        return False

    @property
    def weights_hash(self) -> str | None:
        """SHA-256 of the weights, for provenance; None for an encoder without weights."""
        return None

    @property
    def variant(self) -> str | None:
        """Row of the SAM family; None for an encoder that is not of it."""
        return None

    @property
    def precision(self) -> str:
        """Of its arithmetic, as it is carried out: "float32" or "bfloat16"."""
        return "float32"

    @abstractmethod
    def encode(self, volume: Volume, *, on_progress: OnProgress | None = None) -> Features:
        """Features of an image.

        Args:
            volume: The image.
            on_progress: Called with the share done, 0..1.
        """

    def forget(self) -> None:  # noqa: B027 - most keep nothing
        """Let go of what it has kept of images; its weights stay."""
