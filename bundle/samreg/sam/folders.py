"""Hugging Face folders: config.json says the architecture, the tensors are read by us.

Nothing is downloaded and no code of the folder is run: classes are taken from transformers alone.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from samreg.errors import UsageError
from samreg.sam import original_mobile
from samreg.sam.building import Plan
from samreg.sam.checkpoints import read_json, refused
from samreg.sam.family import Architecture
from samreg.sam.original_sam import Renames, rename

# Kinds of model in a config.json. Video models hold an image model and modules for time beside it.
_ARCHITECTURES: Mapping[str, Architecture] = {
    "sam": "sam",
    "sam_hq": "sam_hq",
    "sam2": "sam2",
    "sam2_video": "sam2",
    "edgetam": "edgetam",
    "edgetam_video": "edgetam",
    "sam3_tracker": "sam3_tracker",
    "sam3_tracker_video": "sam3_tracker",
    "sam3_video": "sam3_tracker",
    "mobile_sam": "mobile_sam",  # written by `samreg weights convert`
}
_CONFIGS: Mapping[Architecture, str] = {
    "sam": "SamConfig",
    "sam_hq": "SamHQConfig",
    "sam2": "Sam2Config",
    "edgetam": "EdgeTamConfig",
    "sam3_tracker": "Sam3TrackerConfig",
}
# Where the whole SAM 3 keeps the parts of its tracker; alone it is saved with both prefixes.
_SAM3_TRACKER: Renames = [(r"^tracker_model\.", "")]
_SAM3_ENCODER: Renames = [
    (r"^detector_model\.vision_encoder\.backbone\.", "vision_encoder.backbone."),
    (r"^tracker_neck\.", "vision_encoder.neck."),
]
# Other parts could fetch something when they are built.
_PARTS = re.compile(r"(sam|sam_hq|sam2|sam3|edgetam)(_\w+)?|timm_wrapper")
_TIMM_ARGUMENTS = {"in_chans", "features_only", "out_indices"}


def plan_of_folder(folder: Path, tensors: dict[str, Tensor]) -> Plan:
    """What the model of a Hugging Face folder is built from.

    Args:
        folder: With a config.json.
        tensors: Of its weights.

    Raises:
        UsageError: Another kind of model, a configuration that does not hold, or timm is needed and not there.
    """
    values = read_json(folder / "config.json")
    kind = values.pop("model_type", None)
    if not isinstance(kind, str) or kind not in _ARCHITECTURES:
        raise refused(folder, f"holds a model of type {kind!r}")
    architecture = _ARCHITECTURES[kind]
    if architecture == "mobile_sam":
        return _mobile(folder, values, tensors)
    if kind == "sam3_video":
        values = values.get("tracker_config") or {}
        values.pop("model_type", None)
    if architecture == "sam3_tracker":
        tensors = rename(rename(tensors, _SAM3_TRACKER), _SAM3_ENCODER)
    _check_parts(folder, values)
    if architecture == "edgetam":
        _check_timm(folder)
    return Plan(architecture, _config(folder, _CONFIGS[architecture], values), tensors)


def _mobile(folder: Path, values: Mapping[str, Any], tensors: dict[str, Tensor]) -> Plan:
    size = values.get("image_size")
    if not isinstance(size, int) or size < original_mobile.PATCH:
        raise refused(folder, f"has a config.json with image_size {size!r}")
    try:
        return Plan("mobile_sam", original_mobile.config(tensors, size), tensors)
    except (KeyError, IndexError) as error:
        raise refused(folder, f"is not MobileSAM ({error} not found)") from error


def _config(folder: Path, name: str, values: Mapping[str, Any]) -> Any:
    import transformers
    from huggingface_hub.errors import StrictDataclassError

    try:
        return getattr(transformers, name).from_dict(dict(values))
    except (StrictDataclassError, TypeError, ValueError, KeyError, AttributeError, ZeroDivisionError) as error:
        raise refused(folder, f"has a config.json that does not hold ({type(error).__name__})") from error


def _check_parts(folder: Path, values: Any) -> None:
    if isinstance(values, list):
        for value in values:
            _check_parts(folder, value)
    if not isinstance(values, Mapping):
        return
    kind = values.get("model_type")
    if kind is not None and not (isinstance(kind, str) and _PARTS.fullmatch(kind)):
        raise refused(folder, f"holds a part of type {kind!r}")
    if kind == "timm_wrapper":
        strange = set(values.get("model_args") or ()) - _TIMM_ARGUMENTS
        if strange or ":" in str(values.get("architecture", "")):
            raise refused(folder, "asks timm for something from elsewhere")
    for value in values.values():
        _check_parts(folder, value)


def _check_timm(folder: Path) -> None:
    if importlib.util.find_spec("timm") is None:
        raise UsageError(
            f"the weights '{folder.name}' need the package timm, which is not installed", reason="timm-missing"
        )
