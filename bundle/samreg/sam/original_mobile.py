"""MobileSAM (mobile_sam.pt): SAM's prompts and decoder behind a TinyViT."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from samreg.sam import original_sam

if TYPE_CHECKING:
    from samreg.sam.tiny_vit import Shape

PATCH = 16  # pixels a cell of the embedding covers along each axis
_STAGES = 4
# The classifier that the encoder was distilled from, and tables made when a model is built.
_UNUSED = ("image_encoder.norm_head.", "image_encoder.head.")
_DERIVED = (".attention_bias_idxs", ".ab")


def recognises(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are the names of a MobileSAM checkpoint."""
    return "image_encoder.patch_embed.seq.0.c.weight" in tensors


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of the original checkpoint under the names of a SamModel with a `TinyViT` in it."""
    kept = {n: t for n, t in tensors.items() if not n.startswith(_UNUSED) and not n.endswith(_DERIVED)}
    return original_sam.rename(kept, [("^image_encoder\\.", "vision_encoder."), *original_sam.DECODER_RENAMES])


def config(tensors: Mapping[str, Tensor], image_size: int) -> Any:
    """transformers' SamConfig of the prompts and the decoder; its encoder is a place-holder without blocks.

    Args:
        tensors: Under the names of `renamed`.
        image_size: Side of the input in pixels; the tensors do not tell.

    Raises:
        KeyError: A tensor is missing.
    """
    from transformers import SamConfig

    values = original_sam.decoder_values(tensors, image_size, PATCH)
    vision = {
        "hidden_size": 8,
        "num_attention_heads": 1,
        "num_hidden_layers": 0,
        "global_attn_indexes": [],
        "image_size": image_size,
        "patch_size": PATCH,
        "output_channels": values["mask_decoder_config"]["hidden_size"],
    }
    return SamConfig(vision_config=vision | original_sam.shared_values(tensors), **values)


def encoder_shape(tensors: Mapping[str, Tensor]) -> Shape:
    """The sizes of the TinyViT, from the shapes of the renamed tensors.

    Raises:
        KeyError: A tensor is missing.
    """
    from samreg.sam.tiny_vit import Shape

    prefix = "vision_encoder.layers"
    first = tensors[f"{prefix}.0.blocks.0.conv1.c.weight"]
    biases = [tensors[f"{prefix}.{n}.blocks.0.attn.attention_biases"].shape for n in range(1, _STAGES)]
    widths = [tensors[f"{prefix}.{n}.blocks.0.mlp.norm.weight"].shape[0] for n in range(1, _STAGES)]
    inside = tensors[f"{prefix}.1.blocks.0.mlp.fc1.weight"].shape[0]
    return Shape(
        widths=(first.shape[1], *widths),
        depths=tuple(original_sam.count(tensors, rf"vision_encoder\.layers\.{n}\.blocks\.(\d+)\.") for n in range(4)),
        heads=(0, *(shape[0] for shape in biases)),
        windows=(0, *(math.isqrt(shape[1]) for shape in biases)),
        expansion=first.shape[0] // first.shape[1],
        mlp=inside // widths[0],
        channels=tensors["vision_encoder.neck.0.weight"].shape[0],
    )
