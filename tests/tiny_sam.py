"""A SAM of the published class, small and random."""

import pytest
import torch


def tiny_sam(image_size: int = 128):
    """A transformers SamModel with two layers, the same for every call."""
    transformers = pytest.importorskip("transformers")
    size = {"image_size": image_size, "patch_size": 16}
    vision = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_dim": 64, "num_pos_feats": 8}
    decoder = {"mlp_dim": 32, "num_hidden_layers": 2, "num_attention_heads": 8, "iou_head_hidden_dim": 16}
    config = transformers.SamConfig(
        vision_config={**vision, **size, "output_channels": 16, "global_attn_indexes": [1], "window_size": 4},
        prompt_encoder_config={**size, "hidden_size": 16, "mask_input_channels": 4},
        mask_decoder_config={**decoder, "hidden_size": 16},
    )
    random = torch.Generator().manual_seed(0)
    model = transformers.SamModel(config).eval()
    for parameter in model.parameters():  # transformers starts SAM at almost zero
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=random)
    return model


def responsive(model):
    """The model with a decoder drawn anew, such that its masks depend on the prompt; those of `tiny_sam` hardly do."""
    random = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        if not name.startswith(("mask_decoder", "prompt_encoder")):
            continue
        drawn = torch.randn(parameter.shape, generator=random)
        if parameter.ndim == 1:
            drawn = 0.1 * drawn + ("norm" in name and name.endswith("weight"))
        elif "embed" not in name and "token" not in name.split(".")[-2]:
            # What a layer gives is then as large as what it takes.
            inputs = parameter.shape[0] if "upscale_conv" in name else parameter[0].numel()
            drawn = drawn / inputs**0.5
        parameter.data = drawn
    return model
