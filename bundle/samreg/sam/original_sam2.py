"""SAM 2's original checkpoints (sam2[.1]_hiera_*.pt; also MedSAM2) for transformers' Sam2Model.

The modules that carry masks from frame to frame are left out: a slice is a single image.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from samreg.sam.original_sam import MASK_RENAMES, Renames, count, rename

_DECODER_HEADS = 8  # of every released checkpoint; shapes do not tell
_SHARED = ("shared_image_embedding.positional_embedding", "prompt_encoder.shared_embedding.positional_embedding")

_PREFIXES: Renames = [
    (r"^image_encoder\.trunk\.patch_embed\.proj\.", "vision_encoder.backbone.patch_embed.projection."),
    (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
    (r"^image_encoder\.neck\.convs\.(\d+)\.conv\.", r"vision_encoder.neck.convs.\1."),
    (r"^sam_mask_decoder\.", "mask_decoder."),
    (r"^sam_prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$", _SHARED[0]),
    (r"^sam_prompt_encoder\.mask_downscaling\.0\.", "prompt_encoder.mask_embed.conv1."),
    (r"^sam_prompt_encoder\.mask_downscaling\.1\.", "prompt_encoder.mask_embed.layer_norm1."),
    (r"^sam_prompt_encoder\.mask_downscaling\.3\.", "prompt_encoder.mask_embed.conv2."),
    (r"^sam_prompt_encoder\.mask_downscaling\.4\.", "prompt_encoder.mask_embed.layer_norm2."),
    (r"^sam_prompt_encoder\.mask_downscaling\.6\.", "prompt_encoder.mask_embed.conv3."),
    (r"^sam_prompt_encoder\.", "prompt_encoder."),
    (r"^no_mem_embed$", "no_memory_embedding"),
]
_PARTS: Renames = [
    (r"^(vision_encoder\.backbone\.blocks\.\d+)\.norm([12])\.", r"\1.layer_norm\2."),
    (r"^(vision_encoder\.backbone\.blocks\.\d+\.mlp)\.layers\.0\.", r"\1.proj_in."),
    (r"^(vision_encoder\.backbone\.blocks\.\d+\.mlp)\.layers\.1\.", r"\1.proj_out."),
    (r"^(mask_decoder\.transformer\.layers\.\d+\.mlp)\.layers\.0\.", r"\1.proj_in."),
    (r"^(mask_decoder\.transformer\.layers\.\d+\.mlp)\.layers\.1\.", r"\1.proj_out."),
    (r"^(mask_decoder\.transformer\..*)\.out_proj\.", r"\1.o_proj."),
    *MASK_RENAMES,
]
_MEMORY = re.compile(r"memory_|maskmem_|no_mem_pos_enc|no_obj_|mask_downsample\.|obj_ptr_")
_POINT = r"^sam_prompt_encoder\.point_embeddings\.(\d+)\.weight$"


class _Hiera(NamedTuple):
    """What the shapes of a published Hiera do not tell; `blocks` of each stage tell which it is."""

    blocks: tuple[int, ...]
    heads: int
    everywhere: tuple[int, ...]  # blocks that attend to the whole image
    windows: tuple[int, ...] = (8, 4, 14, 7)


_PUBLISHED = (
    _Hiera((1, 2, 7, 2), 1, (5, 7, 9)),
    _Hiera((1, 2, 11, 2), 1, (7, 10, 13)),
    _Hiera((2, 3, 16, 3), 2, (12, 16, 20)),
    _Hiera((2, 6, 36, 4), 2, (23, 33, 43), (8, 4, 16, 8)),
)


def recognises(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are the names of a SAM 2 checkpoint."""
    return any(name.startswith("image_encoder.trunk.") for name in tensors)


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of an original checkpoint under the names of transformers' Sam2Model."""
    points = {int(match[1]): tensors[name] for name in tensors if (match := re.match(_POINT, name))}
    image = {n: t for n, t in tensors.items() if not _MEMORY.match(n) and not re.match(_POINT, n)}
    out = rename(rename(image, _PREFIXES), _PARTS)
    if points:
        out["prompt_encoder.point_embed.weight"] = torch.cat([points[n] for n in sorted(points)])
    if _SHARED[0] in out:
        out[_SHARED[1]] = out[_SHARED[0]]
    return out


def config(tensors: Mapping[str, Tensor], image_size: int) -> Any:
    """transformers' Sam2Config, from the shapes of the renamed tensors.

    Args:
        tensors: Under the names of Sam2Model.
        image_size: Side of the input in pixels; the tensors do not tell.

    Raises:
        KeyError: A tensor is missing.
        ValueError: The encoder is not one that was published.
    """
    from transformers import Sam2Config

    backbone, widths = _backbone(tensors)
    channels = tensors["vision_encoder.neck.convs.0.weight"].shape[0]
    return Sam2Config(
        vision_config={
            "backbone_config": backbone | {"image_size": [image_size, image_size]},
            "backbone_channel_list": widths[::-1],
            "backbone_feature_sizes": [[image_size // step] * 2 for step in (4, 8, 16)],
            "fpn_hidden_size": channels,
        },
        prompt_encoder_config={
            "hidden_size": channels,
            "image_size": image_size,
            "mask_input_channels": tensors["prompt_encoder.mask_embed.conv2.weight"].shape[0],
        },
        mask_decoder_config={
            "hidden_size": channels,
            "mlp_dim": tensors["mask_decoder.transformer.layers.0.mlp.proj_in.weight"].shape[0],
            "num_hidden_layers": count(tensors, r"mask_decoder\.transformer\.layers\.(\d+)\."),
            "num_attention_heads": _DECODER_HEADS,
            "iou_head_hidden_dim": tensors["mask_decoder.iou_prediction_head.proj_in.weight"].shape[0],
        },
    )


def _backbone(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any], list[int]]:
    """The encoder's configuration, and the width of each stage: it grows where a stage begins."""
    prefix = "vision_encoder.backbone"
    each = [
        tensors[f"{prefix}.blocks.{n}.attn.proj.weight"].shape[0]
        for n in range(count(tensors, rf"{re.escape(prefix)}\.blocks\.(\d+)\."))
    ]
    widths = sorted(set(each))
    blocks = tuple(each.count(width) for width in widths)
    found = next((hiera for hiera in _PUBLISHED if hiera.blocks == blocks), None)
    if found is None:
        raise ValueError(f"a published encoder with stages of {blocks} blocks")
    values = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": widths[0],
        "num_attention_heads": found.heads,
        "window_positional_embedding_background_size": list(tensors[f"{prefix}.pos_embed"].shape[2:]),
        "blocks_per_stage": list(blocks),
        "embed_dim_per_stage": widths,
        "num_attention_heads_per_stage": [found.heads * 2**stage for stage in range(len(widths))],
        "window_size_per_stage": list(found.windows),
        "global_attention_blocks": list(found.everywhere),
    }
    return values, widths
