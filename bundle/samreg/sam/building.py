"""Models of each architecture from a configuration and tensors; nothing is left at a random value.

Their encoders, prompts and modules are used, not their `forward`: in transformers 5.23 that of SamHQModel
upscales the image embedding as it was before the two-way transformer, rows and columns exchanged, and so
gives other masks than the authors' code. `samreg.sam.decoder` agrees with the authors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from samreg.sam.checkpoints import refused
from samreg.sam.family import Architecture

_CLASSES: Mapping[Architecture, str] = {
    "sam": "SamModel",
    "sam_hq": "SamHQModel",
    "sam2": "Sam2Model",
    "edgetam": "EdgeTamModel",
    "sam3_tracker": "Sam3TrackerModel",
    "mobile_sam": "SamModel",
}


class Plan(NamedTuple):
    """What a model is built from.

    Attributes:
        architecture: Which class.
        config: Its configuration, of transformers.
        tensors: By the names of the class.
    """

    architecture: Architecture
    config: Any
    tensors: dict[str, Tensor]


def build(plan: Plan, path: Path) -> Any:
    """The model, in eval mode, float32, on the CPU, without gradients.

    Args:
        plan: What it is built from.
        path: Where that came from, for messages.

    Raises:
        UsageError: Tensors are missing, unknown, of other shapes than the configuration says, or not finite; or
            the configuration has an encoder of another size than its prompts.
    """
    model = _empty(plan, path)
    tensors = dict(plan.tensors)
    for tied, source in (getattr(model, "_tied_weights_keys", None) or {}).items():
        if source in tensors:
            tensors.setdefault(tied, tensors[source])
    try:
        missing, unexpected = model.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise refused(path, "has tensors of other shapes than its architecture") from error
    # What the class itself says it can do without, e.g. the memory of the video models.
    ignored = getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ()
    unexpected = [name for name in unexpected if not any(re.search(pattern, name) for pattern in ignored)]
    if missing or unexpected:
        names = ", ".join([*missing, *unexpected][:3])
        raise refused(path, f"lacks {len(missing)} tensors and has {len(unexpected)} unknown ones ({names} …)")
    if not all(parameter.isfinite().all() for parameter in model.parameters()):
        raise refused(path, "has tensors with values that are not finite numbers")
    if len(_cells(model)) > 1:
        raise refused(path, "has a config.json whose encoder and prompts are for images of different sizes")
    return model.float().eval().requires_grad_(False)


def encoder_size(architecture: Architecture, model: Any) -> tuple[int, int]:
    """Width and number of blocks of a model's image encoder, as in the family's rows."""
    if architecture == "mobile_sam":
        shape = model.vision_encoder.shape
        return shape.widths[0], sum(shape.depths)
    if architecture == "edgetam":
        return 0, 0
    vision = model.config.vision_config
    if architecture == "sam2":
        return vision.backbone_config.embed_dim_per_stage[0], sum(vision.backbone_config.blocks_per_stage)
    encoder = vision.backbone_config if architecture == "sam3_tracker" else vision
    return encoder.hidden_size, encoder.num_hidden_layers


def _cells(model: Any) -> set[int]:
    """Cells of the embedding along a side, as the parts of a configuration have them; the same in all of them."""
    vision, prompts = model.config.vision_config, model.config.prompt_encoder_config
    if hasattr(vision, "backbone_feature_sizes"):  # SAM 2 and its kin: fine to coarse
        encoder = vision.backbone_feature_sizes[-1][0]
    else:
        encoder = vision.image_size // vision.patch_size
    return {encoder, prompts.image_size // prompts.patch_size, int(model.prompt_encoder.image_embedding_size[0])}


def _empty(plan: Plan, path: Path) -> Any:
    import transformers

    try:
        model = getattr(transformers, _CLASSES[plan.architecture])(plan.config)
        if plan.architecture == "mobile_sam":
            from samreg.sam import original_mobile
            from samreg.sam.tiny_vit import TinyViT

            model.vision_encoder = TinyViT(original_mobile.encoder_shape(plan.tensors))
    except (RuntimeError, ValueError, TypeError, AttributeError, KeyError, ZeroDivisionError) as error:
        raise refused(path, f"has a configuration that no model can have ({type(error).__name__})") from error
    return model
