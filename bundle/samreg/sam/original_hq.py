"""HQ-SAM's original checkpoints (sam_hq_vit_*.pth) for transformers' SamHQModel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from samreg.sam import original_sam

_RENAMES: original_sam.Renames = [
    (r"^mask_decoder\.hf_token\.", "mask_decoder.hq_token."),
    (r"^mask_decoder\.hf_mlp\.layers\.0\.", "mask_decoder.hq_mask_mlp.proj_in."),
    (r"^mask_decoder\.hf_mlp\.layers\.1\.", "mask_decoder.hq_mask_mlp.layers.0."),
    (r"^mask_decoder\.hf_mlp\.layers\.2\.", "mask_decoder.hq_mask_mlp.proj_out."),
    (r"^mask_decoder\.compress_vit_feat\.0\.", "mask_decoder.compress_vit_conv1."),
    (r"^mask_decoder\.compress_vit_feat\.1\.", "mask_decoder.compress_vit_norm."),
    (r"^mask_decoder\.compress_vit_feat\.3\.", "mask_decoder.compress_vit_conv2."),
    (r"^mask_decoder\.embedding_encoder\.0\.", "mask_decoder.encoder_conv1."),
    (r"^mask_decoder\.embedding_encoder\.1\.", "mask_decoder.encoder_norm."),
    (r"^mask_decoder\.embedding_encoder\.3\.", "mask_decoder.encoder_conv2."),
    (r"^mask_decoder\.embedding_maskfeature\.0\.", "mask_decoder.mask_conv1."),
    (r"^mask_decoder\.embedding_maskfeature\.1\.", "mask_decoder.mask_norm."),
    (r"^mask_decoder\.embedding_maskfeature\.3\.", "mask_decoder.mask_conv2."),
]


def recognises(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are the names of an HQ-SAM checkpoint."""
    return "mask_decoder.hf_token.weight" in tensors


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of an original checkpoint under the names of transformers' SamHQModel."""
    return original_sam.rename(original_sam.renamed(tensors), _RENAMES)


def config(tensors: Mapping[str, Tensor]) -> Any:
    """transformers' SamHQConfig, from the shapes of the renamed tensors.

    Raises:
        KeyError: A tensor is missing.
    """
    from transformers import SamHQConfig

    values = original_sam.config_values(tensors)
    values["mask_decoder_config"]["vit_dim"] = tensors["mask_decoder.compress_vit_conv1.weight"].shape[0]
    return SamHQConfig(**values)
