"""One frozen, validated configuration; its hash stands in every output."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from samreg.errors import UsageError

Method = Literal["hybrid", "samreg"]
TransformChoice = Literal["rigid", "affine", "deformable"]


@dataclass(frozen=True)
class ProposalConfig:
    """Regions of one image.

    Attributes:
        proposer: Registry name: "superpixels", "sam" (everything mode), or "labels" (given maps, Case 1).
        min_area_mm2, max_area_fraction: Limits of a 2D region; the fraction is of the slice's body.
        min_volume_mm3, max_volume_fraction: Limits of a 3D region; the fraction is of the body.
        max_overlap: A region is dropped if more than this share of it (or it of a better one) is shared.
        max_rois: At most this many regions of an image, best score first.
        points_per_side, pred_iou, stability: SAM everything mode: points along each side of the body's
            box, and the least predicted IoU and stability of a mask.
        max_box_iou: Of two masks whose boxes share more, everything mode keeps the one of greater predicted IoU.
        refill: What the masks leave uncovered gets points of its own, twice as dense.
        points_per_batch: Points decoded together on a GPU; halved where memory does not allow it.
    """

    proposer: str = "superpixels"
    min_area_mm2: float = 40.0
    max_area_fraction: float = 0.5
    min_volume_mm3: float = 300.0
    max_volume_fraction: float = 0.5
    max_overlap: float = 0.8
    max_rois: int = 400
    points_per_side: int = 16
    pred_iou: float = 0.88
    stability: float = 0.90
    max_box_iou: float = 0.7
    refill: bool = False
    points_per_batch: int = 64


@dataclass(frozen=True)
class MatchingConfig:
    """Pairs from regions.

    Attributes:
        similarity_threshold: ε of SAMReg (Eq. 7) on similarities in [0, 1].
        max_pairs: K, at most this many pairs.
        slice_range_mm: 2D regions pair only within this distance along the slice normal.
        mutual: Both must be each other's best.
        min_confidence: Pairs below it are dropped once the rigid estimate is known.
        max_distance_mm: Positional check after the rigid estimate; None: a tenth of the body's size.
        held_out_share: Share of the pairs that scores the fit.
    """

    similarity_threshold: float = 0.65
    max_pairs: int = 48
    slice_range_mm: float = 30.0
    mutual: bool = True
    min_confidence: float = 0.5
    max_distance_mm: float | None = None
    held_out_share: float = 0.25


@dataclass(frozen=True)
class EstimationConfig:
    """Transforms from pairs.

    Attributes:
        dense: Use dense image similarity beside the pairs. False: pairs alone (the paper).
        roi_weight: Weight of MSE + Dice of the pairs in the deformable fit.
        similarity_weight: Weight of the dense similarity (MIND-SSC) in the deformable fit.
        smoothness_weight: λ of |∇v|² (dimensionless: mm per mm).
        finest_spacing_mm: Control spacing of the velocity field on the finest level.
        iterations: On each level of the deformable fit.
        rigid_samples: Points that the dense rigid refinement reads.
    """

    dense: bool = True
    roi_weight: float = 1.0
    similarity_weight: float = 1.0
    smoothness_weight: float = 0.3
    finest_spacing_mm: float = 5.0
    iterations: int = 60
    rigid_samples: int = 60_000


@dataclass(frozen=True)
class QualityConfig:
    """Tolerances of the gate (AAPM TG-132 where it gives one).

    Attributes:
        min_pairs: Fewer pairs cannot judge the result: REVIEW.
        mean_error_mm, max_error_mm: Deformable error tolerated (TG-132).
        min_dice: Of given contours.
        max_inverse_error_vox: Forward then backward.
    """

    min_pairs: int = 4
    mean_error_mm: float = 2.0
    max_error_mm: float = 5.0
    min_dice: float = 0.8
    max_inverse_error_vox: float = 1.0


@dataclass(frozen=True)
class Config:
    """Everything that decides a result, apart from the images.

    `method` is the name of the preset the other values are from; to choose one, use
    `samreg.configured(method="samreg")`, which reads them.

    Raises (from `load`, `with_values`):
        UsageError: An unknown key, a wrong type, or a value out of range.
    """

    method: Method = "hybrid"
    transform: TransformChoice = "deformable"
    encoder: str = "handcrafted"
    weights: str | None = None
    variant: str | None = None
    device: str = "auto"
    seed: int = 0
    proposals: ProposalConfig = field(default_factory=ProposalConfig)
    matching: MatchingConfig = field(default_factory=MatchingConfig)
    estimation: EstimationConfig = field(default_factory=EstimationConfig)
    quality: QualityConfig = field(default_factory=QualityConfig)

    @property
    def hash(self) -> str:
        """Twelve hex digits of the SHA-256 of the configuration (device and weights' path left out)."""
        values = {k: v for k, v in asdict(self).items() if k not in ("device", "weights")}
        return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]

    def with_values(self, values: Mapping[str, Any]) -> Config:
        """A copy with nested values replaced, e.g. {"matching": {"max_pairs": 5}, "seed": 1}."""
        return _replaced(self, values, "")

    @staticmethod
    def load(path: str | Path, base: Config | None = None) -> Config:
        """A configuration from a YAML or JSON file; what it leaves out stays as in `base`."""
        import yaml

        try:
            values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UsageError(f"configuration {path} cannot be read ({_why(error)})", "a YAML or JSON file") from error
        if not isinstance(values, Mapping):
            raise UsageError(f"configuration {path} holds a {type(values).__name__}", "keys and values")
        return (base or Config()).with_values(values)


def _why(error: Exception) -> str:
    """What is wrong, and in which line, without the parser's excerpt of the file."""
    text = getattr(error, "strerror", None) or getattr(error, "problem", None) or str(error)
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return where + " ".join(str(text).split())


def _replaced(config: Any, values: Mapping[str, Any], prefix: str) -> Any:
    hints = get_type_hints(type(config))
    known = {f.name for f in fields(config)}
    changes: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if key not in known:
            raise UsageError(f"unknown configuration key '{name}'", f"one of {', '.join(sorted(known))}")
        current = getattr(config, key)
        if is_dataclass(current):
            if not isinstance(value, Mapping):
                raise UsageError(f"'{name}' is {value!r}", "keys and values")
            changes[key] = _replaced(current, value, f"{name}.")
        else:
            changes[key] = _checked(value, hints[key], name)
    return replace(config, **changes)


def _checked(value: Any, hint: Any, name: str) -> Any:
    options = get_args(hint)
    if getattr(hint, "__origin__", None) is Literal:
        if value not in options:
            raise UsageError(f"'{name}' is {value!r}", f"one of {', '.join(map(str, options))}")
        return value
    allowed = options or (hint,)
    if float in allowed and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) not in allowed:
        names = " or ".join("none" if t is type(None) else t.__name__ for t in allowed)
        raise UsageError(f"'{name}' is {value!r}", names)
    if isinstance(value, int | float) and not isinstance(value, bool) and not 0 <= value < math.inf:
        raise UsageError(f"'{name}' is {value}", "a finite number that is not negative")
    return value
