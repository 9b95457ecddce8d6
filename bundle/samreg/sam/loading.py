"""SAM weights from local files: transformers folders, and the original checkpoints."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from samreg.errors import UsageError

# Names in the original checkpoints, and in transformers' SamModel.
_RENAME = [
    (r"^image_encoder\.patch_embed\.proj\.", "vision_encoder.patch_embed.projection."),
    (r"^image_encoder\.blocks\.(\d+)\.norm([12])\.", r"vision_encoder.layers.\1.layer_norm\2."),
    (r"^image_encoder\.blocks\.", "vision_encoder.layers."),
    (r"^image_encoder\.neck\.0\.", "vision_encoder.neck.conv1."),
    (r"^image_encoder\.neck\.1\.", "vision_encoder.neck.layer_norm1."),
    (r"^image_encoder\.neck\.2\.", "vision_encoder.neck.conv2."),
    (r"^image_encoder\.neck\.3\.", "vision_encoder.neck.layer_norm2."),
    (r"^image_encoder\.", "vision_encoder."),
    (r"^prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$", "shared_image_embedding.positional_embedding"),
    (r"^prompt_encoder\.point_embeddings\.", "prompt_encoder.point_embed."),
    (r"^prompt_encoder\.mask_downscaling\.0\.", "prompt_encoder.mask_embed.conv1."),
    (r"^prompt_encoder\.mask_downscaling\.1\.", "prompt_encoder.mask_embed.layer_norm1."),
    (r"^prompt_encoder\.mask_downscaling\.3\.", "prompt_encoder.mask_embed.conv2."),
    (r"^prompt_encoder\.mask_downscaling\.4\.", "prompt_encoder.mask_embed.layer_norm2."),
    (r"^prompt_encoder\.mask_downscaling\.6\.", "prompt_encoder.mask_embed.conv3."),
    (r"^mask_decoder\.transformer\.layers\.(\d+)\.norm([1-4])\.", r"mask_decoder.transformer.layers.\1.layer_norm\2."),
    (r"^mask_decoder\.transformer\.norm_final_attn\.", "mask_decoder.transformer.layer_norm_final_attn."),
    (r"^mask_decoder\.output_upscaling\.0\.", "mask_decoder.upscale_conv1."),
    (r"^mask_decoder\.output_upscaling\.1\.", "mask_decoder.upscale_layer_norm."),
    (r"^mask_decoder\.output_upscaling\.3\.", "mask_decoder.upscale_conv2."),
    (r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head))\.layers\.0\.", r"\1.proj_in."),
    (r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head))\.layers\.1\.", r"\1.layers.0."),
    (r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head))\.layers\.2\.", r"\1.proj_out."),
]
_SHARED = "shared_image_embedding.positional_embedding"
_TIED = "prompt_encoder.shared_embedding.positional_embedding"
_DECODER_HEADS = 8  # of every released checkpoint; shapes do not tell


def load_sam(weights: str | Path) -> tuple[Any, str]:
    """A SAM model from local files; nothing is downloaded and no code in the files is run.

    Args:
        weights: A transformers folder (config.json, and model.safetensors or pytorch_model.bin), or an
            original checkpoint (.pth, .pt, .safetensors).

    Returns:
        transformers' SamModel in eval mode, float32, on the CPU; and the SHA-256 of the weights file.

    Raises:
        UsageError: The path does not exist, is damaged, is a pickled model, or holds another kind of model.
    """
    path = Path(weights)
    if not path.exists():
        raise _refused(path, "does not exist")
    file = _weights_file(path) if path.is_dir() else path
    tensors = _read(file)
    if path.is_dir():
        config = _folder_config(path)
    else:
        tensors = renamed(tensors)
        config = _config_from_shapes(file, tensors)
    return _built(file, config, tensors), _file_hash(file)


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of an original checkpoint under the names of transformers' SamModel."""
    out = {}
    for name, tensor in tensors.items():
        for pattern, replacement in _RENAME:
            name, changed = re.subn(pattern, replacement, name)
            if changed:
                break
        out[name] = tensor
    return out


def _weights_file(folder: Path) -> Path:
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return folder / name
    raise _refused(folder, "holds neither model.safetensors nor pytorch_model.bin")


def _read(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if file.suffix == ".safetensors":
            tensors: Any = load_file(file)
        else:
            tensors = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refused(file, "is damaged, or a pickled model, which could run code") from error
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, SafetensorError) as error:
        raise _refused(file, f"cannot be read ({type(error).__name__})") from error
    if isinstance(tensors, Mapping) and isinstance(tensors.get("model"), Mapping):
        tensors = tensors["model"]
    if not isinstance(tensors, Mapping) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise _refused(file, "does not hold a table of tensors")
    return dict(tensors)


def _folder_config(folder: Path) -> Any:
    from transformers import SamConfig

    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _refused(folder, "has no readable config.json") from error
    if not isinstance(values, dict) or values.get("model_type") != "sam":
        kind = values.get("model_type") if isinstance(values, dict) else None
        raise _refused(folder, f"holds a model of type {kind!r}")
    return SamConfig.from_dict(values)


def _config_from_shapes(file: Path, tensors: Mapping[str, Tensor]) -> Any:
    """The architecture, read from the shapes of the (renamed) tensors."""
    from transformers import SamConfig

    try:
        _, side, _, hidden = tensors["vision_encoder.pos_embed"].shape
        patch = tensors["vision_encoder.patch_embed.projection.weight"].shape[-1]
        layers = _count(tensors, r"vision_encoder\.layers\.(\d+)\.")
        relative = [tensors[f"vision_encoder.layers.{n}.attn.rel_pos_h"].shape for n in range(layers)]
        windows = [(length + 1) // 2 for length, _ in relative]
        channels = tensors["vision_encoder.neck.conv1.weight"].shape[0]
        size = {"image_size": side * patch, "patch_size": patch}
        return SamConfig(
            vision_config=dict(
                hidden_size=hidden,
                num_hidden_layers=layers,
                num_attention_heads=hidden // relative[0][1],
                mlp_dim=tensors["vision_encoder.layers.0.mlp.lin1.weight"].shape[0],
                output_channels=channels,
                window_size=min(windows),
                global_attn_indexes=[n for n, w in enumerate(windows) if w == side],
                num_pos_feats=tensors[_SHARED].shape[1],
                **size,
            ),
            prompt_encoder_config=dict(
                hidden_size=channels,
                mask_input_channels=tensors["prompt_encoder.mask_embed.conv2.weight"].shape[0],
                **size,
            ),
            mask_decoder_config={
                "hidden_size": channels,
                "mlp_dim": tensors["mask_decoder.transformer.layers.0.mlp.lin1.weight"].shape[0],
                "num_hidden_layers": _count(tensors, r"mask_decoder\.transformer\.layers\.(\d+)\."),
                "num_attention_heads": _DECODER_HEADS,
                "iou_head_hidden_dim": tensors["mask_decoder.iou_prediction_head.proj_in.weight"].shape[0],
            },
        )
    except (KeyError, IndexError, ValueError) as error:
        raise _refused(file, f"is not an original SAM checkpoint ({error} not found)") from error


def _count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    found = [int(match[1]) for name in tensors if (match := re.match(pattern, name))]
    return max(found, default=-1) + 1


def _built(file: Path, config: Any, tensors: dict[str, Tensor]) -> Any:
    from transformers import SamModel

    if _SHARED in tensors:
        tensors.setdefault(_TIED, tensors[_SHARED])
    model = SamModel(config)
    try:
        missing, unexpected = model.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise _refused(file, "has tensors of other shapes than its architecture") from error
    # Adapters of SAM-Med2D are left out: on unseen data its authors report better results without.
    unexpected = [name for name in unexpected if ".Adapter." not in name]
    if missing or unexpected:
        names = ", ".join([*missing, *unexpected][:3])
        raise _refused(file, f"lacks {len(missing)} tensors and has {len(unexpected)} unknown ones ({names} …)")
    return model.float().eval().requires_grad_(False)


def _file_hash(file: Path) -> str:
    digest = sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def _refused(path: Path, what: str) -> UsageError:
    return UsageError(
        f"weights '{path.name}' {what}",
        "a SAM ViT-B, L or H: a transformers folder (config.json, model.safetensors) or an original .pth",
        "Fetch the file again, or give another one with --weights.",
        reason="weights-unreadable",
    )
