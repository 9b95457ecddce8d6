"""One model of the family: pixels in, embeddings and masks out."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import gelu, pad

from samreg.errors import UsageError
from samreg.promptable_models import EncodedSlice, Masks
from samreg.sam.attention import attend_in_parts
from samreg.sam.decoder import Decoder, PreparedSlice
from samreg.sam.loading import load_sam
from samreg.types import Fit

_NORMALISATION = {  # mean and standard deviation of intensities in 0..1
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5,) * 3, (0.5,) * 3),
    "unit": ((0.0,) * 3, (1.0,) * 3),
}
LEAST_QUALITY = 0.88, 0.90  # predicted IoU and stability of a mask


class SamFamilyModel:
    """A loaded model on its device.

    Args:
        weights: See `samreg.sam.loading.load_sam`.
        device: Where the model runs.
        variant: Row of the family; None: told from the files.
        precision: Of the arithmetic: "float32", "bfloat16", or "auto": bfloat16 on a GPU, float32 on a CPU.

    Raises:
        UsageError: The weights cannot be used.
    """

    def __init__(
        self,
        weights: str | Path,
        device: torch.device | str = "cpu",
        variant: str | None = None,
        precision: str = "auto",
    ) -> None:
        if precision == "float64":
            raise UsageError("the precision of the encoder 'sam' is 'float64'", "auto, float32 or bfloat16")
        loaded = load_sam(weights, variant)
        self.variant, self.weights_hash = loaded.variant, loaded.weights_hash
        self.device = torch.device(device)
        self.model: Any = loaded.model.to(self.device)
        by_device = "bfloat16" if self.device.type == "cuda" else "float32"
        self.precision = by_device if precision == "auto" else precision
        if self.device.type == "cpu":
            attend_in_parts(self.model)
        self.decoder = Decoder(self.model)

    @property
    def name(self) -> str:
        """Row of the family."""
        return self.variant.name

    @property
    def fit(self) -> Fit:
        """See `Variant`."""
        return self.variant.fit

    @property
    def side_by_side(self) -> bool:
        """See `PromptableModel`."""
        return False

    @property
    def settings_key(self) -> str:
        """Weights, architecture, preprocessing and precision."""
        variant = self.variant
        return f"{self.weights_hash} {variant.architecture} {variant.preprocessing} {self.precision}"

    @property
    def image_size(self) -> int:
        """Side of the square input in pixels."""
        return int(self.model.prompt_encoder.input_image_size)

    def side_for(self, pixels: int) -> int:
        """Always `image_size`."""
        return self.image_size

    @property
    def cell_size(self) -> int:
        """Side in pixels of what a cell of the embedding covers."""
        return self.image_size // int(self.model.prompt_encoder.image_embedding_size[0])

    @property
    def mask_size(self) -> float:
        """Side in pixels of what a value of a mask covers."""
        return self.cell_size / 4

    @property
    def least_quality(self) -> tuple[float, float]:
        """See `PromptableModel`."""
        return LEAST_QUALITY

    @torch.no_grad()
    def encode(self, grey: Tensor) -> list[EncodedSlice]:
        """Embeddings of slices.

        Args:
            grey: float32 [b, 1, y, x], 0..1, at most of the model's size; padded below and to the right.
        """
        return self.encode_pixels(self._pixels(grey.to(self.device)))

    @torch.no_grad()
    def encode_pixels(self, pixels: Tensor) -> list[EncodedSlice]:
        """Embeddings of slices as the model reads them.

        Args:
            pixels: [b, 3, y, x] normalised, of the model's size.
        """
        with self._arithmetic():
            out = self.model.get_image_embeddings(pixels.to(self.device))
            if isinstance(out, Tensor):  # SAM
                return [EncodedSlice(embedding) for embedding in out]
            if isinstance(out, list):  # SAM 2 and its kin: fine to coarse
                fine, half, embedding = out
                return [EncodedSlice(e, (h, f)) for e, h, f in zip(embedding, half, fine, strict=True)]
            embedding, early = out  # HQ-SAM
            fine = self._hq_features(embedding, early[0])
            return [EncodedSlice(e, (f,)) for e, f in zip(embedding, fine, strict=True)]

    @torch.no_grad()
    def prepare(self, encoded: EncodedSlice) -> PreparedSlice:
        """What all prompts of a slice share, to be given to `masks`."""
        with self._arithmetic():
            return self.decoder.prepare(encoded)

    @torch.no_grad()
    def masks_at_points(self, image: PreparedSlice, points: Tensor, *, min_iou: float = float("-inf")) -> Masks:
        """Masks of single foreground points.

        Args:
            points: [p, 2] x and y in pixels of the model's input, from its edge.
            min_iou: A mask of which less is predicted is not made.
        """
        points = points.to(self.device, torch.float32)[None, :, None]
        labels = torch.ones(points.shape[:3], dtype=torch.int, device=self.device)
        return self._masks(image, (points, labels, None, None), min_iou)

    @torch.no_grad()
    def masks_in_boxes(self, image: PreparedSlice, boxes: Tensor, *, min_iou: float = float("-inf")) -> Masks:
        """Masks of boxes.

        Args:
            boxes: [p, 4] x0, y0, x1, y1 in pixels of the model's input, from its edge.
            min_iou: A mask of which less is predicted is not made.
        """
        return self._masks(image, (None, None, boxes.to(self.device, torch.float32)[None], None), min_iou)

    def _pixels(self, grey: Tensor) -> Tensor:
        """[b, 3, y, x] as the model reads it."""
        mean, deviation = (
            torch.tensor(v, device=grey.device)[:, None, None] for v in _NORMALISATION[self.variant.normalisation]
        )
        (height, width), size = grey.shape[2:], self.image_size
        return pad((grey - mean) / deviation, (0, size - width, 0, size - height))

    def _masks(self, image: PreparedSlice, prompt: tuple[Tensor | None, ...], min_iou: float) -> Masks:
        with self._arithmetic():
            sparse, _ = self.model.prompt_encoder(*prompt)
            return self.decoder.masks(image, sparse[0], min_iou=min_iou)

    def _hq_features(self, embedding: Tensor, early: Tensor) -> Tensor:
        """[b, c / 8, 4y, 4x] details from the embedding and from the first global layer."""
        parts = self.model.mask_decoder
        coarse = parts.encoder_conv2(gelu(parts.encoder_norm(parts.encoder_conv1(embedding))))
        details = parts.compress_vit_conv1(early.permute(0, 3, 1, 2).contiguous())
        return coarse + parts.compress_vit_conv2(gelu(parts.compress_vit_norm(details)))

    def _arithmetic(self) -> AbstractContextManager[Any]:
        reduced = self.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16) if reduced else nullcontext()
