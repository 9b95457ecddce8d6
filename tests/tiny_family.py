"""A tiny random checkpoint of every row of the SAM family, in the format of a Hugging Face folder.

python tiny_family.py NAME FOLDER    # writes one, loads it, and asks it for masks
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from samreg.sam.family import FAMILY
from samreg.sam.identify import MARKER
from samreg.sam.model import SamFamilyModel
from tests.tiny_sam import tiny_sam

SIZE = 128  # pixels of the input, 8 x 8 cells; SAM 3 has 112 pixels in cells of 14
CHANNELS = 32
DECODER = {"hidden_size": CHANNELS, "mlp_dim": 32, "iou_head_hidden_dim": 16}


def tiny(name: str, folder: Path) -> Path:
    """Writes a checkpoint of this row that encodes images and answers prompts, and returns its folder.

    EdgeTAM needs timm, so a process of its own (see tests/oracle.py); without it the test is skipped.
    """
    row = FAMILY[name]
    model = {
        "sam": tiny_sam,
        "sam_hq": tiny_hq,
        "sam2": tiny_sam2,
        "edgetam": tiny_edgetam,
        "sam3_tracker": tiny_sam3,
        "mobile_sam": tiny_mobile,
    }[row.architecture]()
    folder.mkdir(parents=True, exist_ok=True)
    if row.architecture == "mobile_sam":
        save_mobile(model, folder)
    else:
        model.save_pretrained(folder)
    (folder / MARKER).write_text(json.dumps({"variant": name}))
    return folder


def randomised(model: Any, scale: float = 0.2) -> Any:
    """The model with every parameter drawn anew, the same for every call."""
    random = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data = scale * torch.randn(parameter.shape, generator=random)
    return model.eval()


def publish(monkeypatch: pytest.MonkeyPatch, name: str, **facts: str) -> None:
    """From now on the row says this, wherever it is read."""
    for key, value in facts.items():
        monkeypatch.setitem(vars(FAMILY[name]), key, value)


def tiny_hq(image_size: int = SIZE) -> Any:
    from transformers import SamHQConfig, SamHQModel

    size = {"image_size": image_size, "patch_size": 16}
    vision = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_dim": 64, "num_pos_feats": 16}
    more = {"output_channels": CHANNELS, "global_attn_indexes": [1], "window_size": 4}
    config = SamHQConfig(
        vision_config={**vision, **size, **more},
        prompt_encoder_config={**size, "hidden_size": CHANNELS, "mask_input_channels": 4},
        mask_decoder_config={**DECODER, "vit_dim": 32},
    )
    return randomised(SamHQModel(config))


def tiny_sam2(image_size: int = SIZE) -> Any:
    from transformers import Sam2Config, Sam2Model

    widths = [8, 16, 32, 64]
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 8,
        "image_size": [image_size, image_size],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": widths,
        "num_attention_heads_per_stage": [1, 2, 4, 8],
        "window_size_per_stage": [8, 4, 4, 2],
        "global_attention_blocks": [3],
    }
    return randomised(Sam2Model(Sam2Config(**pyramid(backbone, widths, image_size))))


def pyramid(backbone: dict, widths: list[int], image_size: int) -> dict[str, dict]:
    """The parts of a configuration of SAM 2 or EdgeTAM."""
    return {
        "vision_config": {
            "backbone_config": backbone,
            "backbone_channel_list": widths[::-1],
            "backbone_feature_sizes": [[image_size // step] * 2 for step in (4, 8, 16)],
            "fpn_hidden_size": CHANNELS,
        },
        "prompt_encoder_config": {"hidden_size": CHANNELS, "image_size": image_size, "mask_input_channels": 4},
        "mask_decoder_config": DECODER,
    }


def tiny_edgetam(image_size: int = SIZE) -> Any:
    """With the published encoder: timm has no smaller one."""
    pytest.importorskip("timm", reason="timm is not installed", exc_type=ImportError)
    from transformers import EdgeTamConfig, EdgeTamModel

    arguments = {"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]}
    backbone = {
        "model_type": "timm_wrapper",
        "architecture": "repvit_m1.dist_in1k",
        "model_args": arguments,
        "num_classes": 1,
        "label_names": ["none"],
    }
    return randomised(EdgeTamModel(EdgeTamConfig(**pyramid(backbone, [48, 96, 192, 384], image_size))))


def tiny_sam3() -> Any:
    from transformers import Sam3TrackerConfig, Sam3TrackerModel

    size = {"image_size": 112, "patch_size": 14}
    backbone = {"model_type": "sam3_vit_model", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    more = {"num_attention_heads": 2, "window_size": 4, "global_attn_indexes": [1], "pretrain_image_size": 56}
    config = Sam3TrackerConfig(
        vision_config={
            "backbone_config": {**backbone, **size, **more},
            "fpn_hidden_size": CHANNELS,
            "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
        },
        prompt_encoder_config={**size, "hidden_size": CHANNELS, "mask_input_channels": 4},
        mask_decoder_config=DECODER,
    )
    return randomised(Sam3TrackerModel(config))


def tiny_mobile(image_size: int = SIZE) -> Any:
    from transformers import SamConfig, SamModel

    from samreg.sam.tiny_vit import Shape, TinyViT

    size = {"image_size": image_size, "patch_size": 16}
    vision = {"hidden_size": 8, "num_hidden_layers": 0, "num_attention_heads": 1, "num_pos_feats": 16}
    config = SamConfig(
        vision_config={**vision, **size, "global_attn_indexes": [], "output_channels": CHANNELS},
        prompt_encoder_config={**size, "hidden_size": CHANNELS, "mask_input_channels": 4},
        mask_decoder_config=DECODER,
    )
    model = SamModel(config)
    shape = Shape((8, 16, 20, 40), (1, 1, 2, 1), (0, 2, 2, 4), (0, 7, 14, 7), channels=CHANNELS)
    model.vision_encoder = TinyViT(shape)
    return randomised(model)


def save_mobile(model: Any, folder: Path) -> None:
    from safetensors.torch import save_file

    tensors = {name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors")
    size = model.config.prompt_encoder_config.image_size
    (folder / "config.json").write_text(json.dumps({"model_type": "mobile_sam", "image_size": size}))


def main(name: str, folder: str | Path) -> None:
    """What must hold for every row."""
    ours = SamFamilyModel(tiny(name, Path(folder)))
    size, cells = ours.image_size, 8
    assert ours.variant == dataclasses.replace(FAMILY[name], image_size=size)
    assert size == cells * ours.cell_size
    assert not ours.model.training
    assert {p.dtype for p in ours.model.parameters()} == {torch.float32}
    assert not any(p.requires_grad for p in ours.model.parameters())
    encoded = ours.encode(torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0)))[0]
    assert encoded.embedding.shape[-2:] == (cells, cells)
    masks = ours.masks_at_points(ours.prepare(encoded), torch.tensor([[30.0, 40.0]]))
    assert masks.logits.shape == (1 if name.startswith("sam-hq") else 3, 4 * cells, 4 * cells)
    assert masks.logits.isfinite().all()
    assert masks.logits.std() > 0


if __name__ == "__main__":
    main(*sys.argv[1:])
