"""SAM's original checkpoints (segment-anything; also MedSAM and SAM-Med2D) for transformers' SamModel."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

Renames = Sequence[tuple[str, str]]

SHARED = "shared_image_embedding.positional_embedding"
_DECODER_HEADS = 8  # of every released checkpoint; shapes do not tell
_MLP = r"(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head|pred_obj_score_head))"

# Names in the original checkpoints, and in transformers' SamModel. The first that fits is taken.
MASK_RENAMES: Renames = [  # of the mask decoder, which SAM 2 has too
    (r"^mask_decoder\.transformer\.layers\.(\d+)\.norm([1-4])\.", r"mask_decoder.transformer.layers.\1.layer_norm\2."),
    (r"^mask_decoder\.transformer\.norm_final_attn\.", "mask_decoder.transformer.layer_norm_final_attn."),
    (r"^mask_decoder\.output_upscaling\.0\.", "mask_decoder.upscale_conv1."),
    (r"^mask_decoder\.output_upscaling\.1\.", "mask_decoder.upscale_layer_norm."),
    (r"^mask_decoder\.output_upscaling\.3\.", "mask_decoder.upscale_conv2."),
    (rf"^{_MLP}\.layers\.0\.", r"\1.proj_in."),
    (rf"^{_MLP}\.layers\.1\.", r"\1.layers.0."),
    (rf"^{_MLP}\.layers\.2\.", r"\1.proj_out."),
]
DECODER_RENAMES: Renames = [
    (r"^prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$", SHARED),
    (r"^prompt_encoder\.point_embeddings\.", "prompt_encoder.point_embed."),
    (r"^prompt_encoder\.mask_downscaling\.0\.", "prompt_encoder.mask_embed.conv1."),
    (r"^prompt_encoder\.mask_downscaling\.1\.", "prompt_encoder.mask_embed.layer_norm1."),
    (r"^prompt_encoder\.mask_downscaling\.3\.", "prompt_encoder.mask_embed.conv2."),
    (r"^prompt_encoder\.mask_downscaling\.4\.", "prompt_encoder.mask_embed.layer_norm2."),
    (r"^prompt_encoder\.mask_downscaling\.6\.", "prompt_encoder.mask_embed.conv3."),
    *MASK_RENAMES,
]
ENCODER_RENAMES: Renames = [
    (r"^image_encoder\.patch_embed\.proj\.", "vision_encoder.patch_embed.projection."),
    (r"^image_encoder\.blocks\.(\d+)\.norm([12])\.", r"vision_encoder.layers.\1.layer_norm\2."),
    (r"^image_encoder\.blocks\.", "vision_encoder.layers."),
    (r"^image_encoder\.neck\.0\.", "vision_encoder.neck.conv1."),
    (r"^image_encoder\.neck\.1\.", "vision_encoder.neck.layer_norm1."),
    (r"^image_encoder\.neck\.2\.", "vision_encoder.neck.conv2."),
    (r"^image_encoder\.neck\.3\.", "vision_encoder.neck.layer_norm2."),
    (r"^image_encoder\.", "vision_encoder."),
]


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of an original checkpoint under the names of transformers' SamModel.

    SAM-Med2D's adapters are left out: on unseen data its authors report better results without.
    """
    kept = {name: tensor for name, tensor in tensors.items() if ".Adapter." not in name}
    return rename(kept, [*ENCODER_RENAMES, *DECODER_RENAMES])


def rename(tensors: Mapping[str, Tensor], table: Renames) -> dict[str, Tensor]:
    """The tensors with each name rewritten by the first pattern of the table that fits it."""
    out = {}
    for name, tensor in tensors.items():
        for pattern, replacement in table:
            name, changed = re.subn(pattern, replacement, name)
            if changed:
                break
        out[name] = tensor
    return out


def config(tensors: Mapping[str, Tensor]) -> Any:
    """transformers' SamConfig, from the shapes of the renamed tensors.

    Raises:
        KeyError: A tensor is missing.
    """
    from transformers import SamConfig

    return SamConfig(**config_values(tensors))


def config_values(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The three parts of a SamConfig, from the shapes of the renamed tensors."""
    _, side, _, hidden = tensors["vision_encoder.pos_embed"].shape
    patch = tensors["vision_encoder.patch_embed.projection.weight"].shape[-1]
    layers = count(tensors, r"vision_encoder\.layers\.(\d+)\.")
    relative = [tensors[f"vision_encoder.layers.{n}.attn.rel_pos_h"].shape for n in range(layers)]
    windows = [(length + 1) // 2 for length, _ in relative]
    vision = {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // relative[0][1],
        "mlp_dim": tensors["vision_encoder.layers.0.mlp.lin1.weight"].shape[0],
        "output_channels": tensors["vision_encoder.neck.conv1.weight"].shape[0],
        "window_size": min(windows),
        "global_attn_indexes": [n for n, w in enumerate(windows) if w == side],
        "image_size": side * patch,
        "patch_size": patch,
    }
    return {"vision_config": vision | shared_values(tensors), **decoder_values(tensors, side * patch, patch)}


def shared_values(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the encoder's part of a SamConfig says of the positional embedding."""
    return {"num_pos_feats": tensors[SHARED].shape[1]}


def decoder_values(tensors: Mapping[str, Tensor], image_size: int, patch_size: int) -> dict[str, Any]:
    """The prompts' and the decoder's part of a SamConfig, from the shapes of the renamed tensors."""
    channels = tensors["prompt_encoder.no_mask_embed.weight"].shape[1]
    return {
        "prompt_encoder_config": {
            "hidden_size": channels,
            "mask_input_channels": tensors["prompt_encoder.mask_embed.conv2.weight"].shape[0],
            "image_size": image_size,
            "patch_size": patch_size,
        },
        "mask_decoder_config": {
            "hidden_size": channels,
            "mlp_dim": tensors["mask_decoder.transformer.layers.0.mlp.lin1.weight"].shape[0],
            "num_hidden_layers": count(tensors, r"mask_decoder\.transformer\.layers\.(\d+)\."),
            "num_attention_heads": _DECODER_HEADS,
            "iou_head_hidden_dim": tensors["mask_decoder.iou_prediction_head.proj_in.weight"].shape[0],
        },
    }


def count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    """One more than the greatest number that the pattern captures in the names."""
    found = [int(match[1]) for name in tensors if (match := re.match(pattern, name))]
    return max(found, default=-1) + 1
