"""The protocol of models that answer prompts, and what they give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from samreg.types import Fit


@dataclass(frozen=True, eq=False)
class EncodedSlice:
    """One slice as the encoder leaves it.

    Attributes:
        embedding: [c, y, x], what regions are matched by.
        fine: What else prompts need: [c / 4, 2y, 2x] and [c / 8, 4y, 4x] in SAM 2 and its kin, the latter alone in
            HQ-SAM; features, context and pixels in the embedded model; else nothing.
    """

    embedding: Tensor
    fine: tuple[Tensor, ...] = ()

    def as_tensors(self) -> dict[str, Tensor]:
        """By name, to be kept."""
        return {"embedding": self.embedding, **{f"fine{n}": tensor for n, tensor in enumerate(self.fine)}}

    @staticmethod
    def from_tensors(tensors: Mapping[str, Tensor], device: torch.device) -> EncodedSlice:
        """What `as_tensors` gave, on a device."""
        fine = [tensors[f"fine{n}"].to(device) for n in range(len(tensors) - 1)]
        return EncodedSlice(tensors["embedding"].to(device), tuple(fine))


@dataclass(frozen=True, eq=False)
class Masks:
    """Masks of prompts.

    Attributes:
        logits: [n, y, x] at the decoder's resolution, padding included.
        iou: [n] predicted IoU.
        prompt: [n] number of the prompt that each mask answers.
    """

    logits: Tensor
    iou: Tensor
    prompt: Tensor


class PromptableModel(Protocol):
    """Encodes slices once and answers any number of prompts on them."""

    device: torch.device
    weights_hash: str
    precision: str

    @property
    def name(self) -> str:
        """Of the model, for provenance."""
        ...

    @property
    def fit(self) -> Fit:
        """ "pad": a slice's long side fills the input, the rest is padding; "stretch": it fills all of it."""
        ...

    @property
    def side_by_side(self) -> bool:
        """So small that several slices are worked on at once, each by one thread."""
        ...

    @property
    def settings_key(self) -> str:
        """Everything beside the slice that decides what the model makes of it, as a key."""
        ...

    def side_for(self, pixels: int) -> int:
        """Side in pixels of the square input for slices whose longer side has so many."""
        ...

    @property
    def cell_size(self) -> int:
        """Side in pixels of what a cell of the embedding covers."""
        ...

    @property
    def mask_size(self) -> float:
        """Side in pixels of what a value of a mask covers; 3.5 with SAM 3."""
        ...

    @property
    def least_quality(self) -> tuple[float, float]:
        """Predicted IoU and stability that a mask of everything mode should reach."""
        ...

    def encode(self, grey: Tensor) -> list[EncodedSlice]:
        """Slices made embeddings.

        Args:
            grey: float32 [b, 1, y, x], 0..1, the longer side as `side_for` says; the model pads the other.
        """
        ...

    def prepare(self, encoded: EncodedSlice) -> Any:
        """What all prompts of a slice share, to be given to the methods below."""
        ...

    def masks_at_points(self, image: Any, points: Tensor, *, min_iou: float = float("-inf")) -> Masks:
        """Masks of single foreground points.

        Args:
            image: Of `prepare`.
            points: float64 [p, 2] x and y in pixels of the model's input, from its edge.
            min_iou: A mask of which less is predicted is not made.
        """
        ...

    def masks_in_boxes(self, image: Any, boxes: Tensor, *, min_iou: float = float("-inf")) -> Masks:
        """Masks of boxes.

        Args:
            image: Of `prepare`.
            boxes: float64 [p, 4] x0, y0, x1, y1 in pixels of the model's input, from its edge.
            min_iou: A mask of which less is predicted is not made.
        """
        ...
