"""The embedded model as a promptable model."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from samreg.embedded import network as net
from samreg.embedded.files import load_network
from samreg.embedded.prompts import box_prompts, point_prompts
from samreg.promptable_models import EncodedSlice, Masks
from samreg.shipped import weights_file
from samreg.types import Fit

SIDES = (96, 256)  # least and greatest of the input
_STEP = 32
AT_ONCE = 16  # masks; what belongs to them then stays in the processor's cache
LEAST_QUALITY = 0.4, 0.4  # predicted IoU and stability of a mask


class EmbeddedModel:
    """The model that the library comes with.

    Args:
        weights: Its file; None: the one that is shipped.
        device: Where it runs.
        precision: Of the arithmetic: "float64", "float32", "bfloat16", or "auto": bfloat16 on a GPU; float64 on a CPU,
            where sums in single precision depend on the processor, and with them which regions are found.

    Raises:
        UsageError: The file is not there, or is not one of it.
    """

    name = "embedded"
    fit: Fit = "pad"
    cell_size = net.EMBEDDING_STRIDE
    mask_size = net.MASK_STRIDE

    def __init__(
        self, weights: str | Path | None = None, device: torch.device | str = "cpu", precision: str = "auto"
    ) -> None:
        network, self.about, self.weights_hash = load_network(weights or weights_file())
        self.device = torch.device(device)
        by_device = "bfloat16" if self.device.type == "cuda" else "float64"
        self.precision = by_device if precision == "auto" else precision
        self._dtype = torch.float64 if self.precision == "float64" else torch.float32
        self.network = network.to(self.device, self._dtype)

    @property
    def side_by_side(self) -> bool:
        """See `PromptableModel`."""
        return self.device.type == "cpu"

    @property
    def settings_key(self) -> str:
        """Weights and precision."""
        return f"{self.name} {self.weights_hash} {self.precision}"

    @property
    def least_quality(self) -> tuple[float, float]:
        """See `PromptableModel`."""
        return LEAST_QUALITY

    def side_for(self, pixels: int) -> int:
        """The next multiple of 32, from 96 to 256."""
        least, greatest = SIDES
        return min(greatest, max(least, -(-pixels // _STEP) * _STEP))

    @torch.no_grad()
    def encode(self, grey: Tensor) -> list[EncodedSlice]:
        """See `PromptableModel`."""
        height, width = grey.shape[2:]
        side = self.side_for(max(height, width))
        image = pad(grey.to(self.device, self._dtype), (0, side - width, 0, side - height))
        with self._arithmetic():
            out = self.network.encode(image)
        return [
            EncodedSlice(embedding, (features, context, pixels))
            for embedding, features, context, pixels in zip(*out, strict=True)
        ]

    def prepare(self, encoded: EncodedSlice) -> net.FeatureMaps:
        """See `PromptableModel`."""
        features, context, pixels = encoded.fine
        return net.FeatureMaps(encoded.embedding[None], features[None], context[None], pixels[None])

    def masks_at_points(self, image: net.FeatureMaps, points: Tensor, *, min_iou: float = float("-inf")) -> Masks:
        """See `PromptableModel`."""
        return self._masks(image, point_prompts(self._places(points, image)), min_iou)

    def masks_in_boxes(self, image: net.FeatureMaps, boxes: Tensor, *, min_iou: float = float("-inf")) -> Masks:
        """See `PromptableModel`."""
        low, high = self._places(boxes, image).view(1, -1, 2, 2).unbind(2)
        return self._masks(image, box_prompts(torch.minimum(low, high), torch.maximum(low, high)), min_iou)

    @torch.no_grad()
    def _masks(self, image: net.FeatureMaps, prompts: net.Prompts, min_iou: float) -> Masks:
        with self._arithmetic():
            queries = self.network.decode(image, prompts)
            prompt, mask = (queries.iou[0] >= min_iou).nonzero(as_tuple=True)
            chosen = [values[0, prompt, mask][None, :, None] for values in queries]
            parts = zip(*(values.split(AT_ONCE, 1) for values in chosen), strict=True)
            logits = torch.cat([net.mask_logits(image.pixels, net.Queries(*part))[0, :, 0] for part in parts])
        return Masks(logits, queries.iou[0, prompt, mask], prompt)

    def _places(self, pixels: Tensor, image: net.FeatureMaps) -> Tensor:
        """[1, ...] pixels from the input's edge as places of -1..1."""
        side = image.pixels.shape[-1] * net.MASK_STRIDE
        return pixels.to(self.device, self._dtype)[None] * (2 / side) - 1

    def _arithmetic(self) -> AbstractContextManager[Any]:
        reduced = self.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16) if reduced else nullcontext()
