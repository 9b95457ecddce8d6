"""One frozen, validated configuration; its hash stands in every output."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from samreg.errors import UsageError

Method = Literal["hybrid", "samreg"]
TransformChoice = Literal["rigid", "affine", "deformable"]
Precision = Literal["auto", "float64", "float32", "bfloat16"]

# What a value must reach, and what it must not exceed, by the last part of its key; all others: from 0.
_SHARE = (0.0, 1.0)
_COUNT = (1, math.inf)
_LENGTH = (1e-3, math.inf)
_LIMITS: Mapping[str, tuple[float, float]] = {
    "max_area_fraction": _SHARE,
    "max_volume_fraction": _SHARE,
    "max_overlap": _SHARE,
    "max_rois": _COUNT,
    "points_per_side": _COUNT,
    "pred_iou": _SHARE,
    "stability": _SHARE,
    "max_box_iou": _SHARE,
    "points_per_batch": _COUNT,
    "similarity_threshold": _SHARE,
    "max_pairs": _COUNT,
    "min_confidence": _SHARE,
    "held_out_share": _SHARE,
    "finest_spacing_mm": _LENGTH,
    "rigid_samples": (100, math.inf),
    "min_dice": _SHARE,
    "threads": _COUNT,
}


_GREATEST = 2**63 - 1  # whole number; beyond, generators of random numbers break off in the middle of a run
# What reading a file of YAML raises: the library leaves to Python what stands for no number or no date, and what is
# nested deeper than Python recurses.
_NOT_YAML = (OSError, ValueError, LookupError, AttributeError, TypeError, OverflowError, RecursionError)


@dataclass(frozen=True)
class ProposalConfig:
    """Regions of one image.

    Attributes:
        proposer: Registry name: "everything", "superpixels", or "labels" (given maps, Case 1); "auto": everything
            mode with an encoder that answers prompts, else superpixels.
        per_slice: Superpixels of each slice (axis k) alone, as SAM and the paper have them. False: of the volume.
        min_area_mm2, max_area_mm2, max_area_fraction: Limits of a 2D region; the fraction is of the slice's body.
        min_area_px, max_area_px: The paper's limits of a 2D region, in pixels of the whole slice brought to
            200 x 200 (so 400 is 1 % of it). Where one is given it stands in place of those of that side above.
        min_volume_mm3, max_volume_fraction: Limits of a 3D region; the fraction is of the body.
        max_overlap: A region is dropped if more than this share of it (or it of a better one) is shared.
        overlap_of: Of two superpixels, the one the share is of: "larger" (only near copies go, parts stay beside
            wholes) or "smaller" (the paper). Of SAM's masks always the smaller.
        max_rois: At most this many regions of an image, best score first; None: what suits the proposer (superpixels
            400, everything 1000).
        points_per_side, pred_iou, stability: Everything mode: points along each side of the body's box, and the
            least predicted IoU and stability of a mask; None: what suits the model.
        max_box_iou: Of two masks whose boxes share more, everything mode keeps the one of greater predicted IoU.
        refill: What the masks within the limits leave uncovered gets points of its own, twice as dense.
        points_per_batch: Points decoded together on a GPU; halved where memory does not allow it.
    """

    proposer: str = "auto"
    per_slice: bool = False
    min_area_mm2: float = 40.0
    max_area_mm2: float | None = None
    max_area_fraction: float = 0.5
    min_area_px: float | None = None
    max_area_px: float | None = None
    min_volume_mm3: float = 300.0
    max_volume_fraction: float = 0.5
    max_overlap: float = 0.8
    overlap_of: Literal["smaller", "larger"] = "larger"
    max_rois: int | None = None
    points_per_side: int = 16
    pred_iou: float | None = None
    stability: float | None = None
    max_box_iou: float = 0.7
    refill: bool = False
    points_per_batch: int = 64


@dataclass(frozen=True)
class MatchingConfig:
    """Pairs from regions.

    Attributes:
        matcher: Registry name, or `module:Class` of your own; "auto": prototypes, or labels where label maps are given.
        similarity: Of prototypes: "normalised" (cosine brought to 0..1, SAMReg's Eq. 6) or "cosine" (raw).
        similarity_threshold: ε of SAMReg (Eq. 7), on similarities as above; None: what suits the encoder.
        max_pairs: K, at most this many pairs; None: what suits the encoder (48, embedded 200).
        max_pairs_of: What K counts: pairs of the "image", or of each "slice" of the fixed image (2D regions).
        adaptive: ε and K from this very image pair: a pair must lie above its best rival by more than wrong partners
            differ among each other. `similarity_threshold` then has no say, and `max_pairs` is an upper bound.
        assignment: "greedy" (Eq. 7: the greatest score first, each region once), "optimal" (the one-to-one pairs of
            greatest total score), "one_to_many" (a region in as many pairs as pass ε), or "hybrid" (regions whose
            segmentation is less sure than the median of their image may be in several pairs, others in one).
        mutual: Both must be each other's best; where a region may be in several pairs, one the other's best.
        position_weight: Exponent of the overlap under the rigid estimate in a pair's score; 0: pairs by
            appearance alone, wherever they lie (the paper).
        shape_weight: Exponent of the likeness of size and elongation in a pair's score; None: what suits the encoder.
        rank_by: Which pairs are the first K: those of greatest "confidence", or of greatest "score" (Eq. 7).
        slice_pairing: Of 2D regions in volumes: "physical" (position along the slice normal) or "index" (slice
            numbers, as in Algorithm 1).
        slice_range_mm: Physical: regions pair only within this distance along the slice normal.
        slice_range: Index: δs, regions pair only within so many slices.
        link: Pairs that continue each other across slices become one pair of 3D regions.
        min_confidence: Pairs below it are dropped once the rigid estimate is known.
        max_distance_mm: No pair lies farther apart under the rigid estimate; None: a tenth of the body's size, beyond
            which a pair of the embedded encoder counts less, and one of another encoder is dropped.
        held_out_share: Share of the pairs that scores the fit.
    """

    matcher: str = "auto"
    similarity: Literal["normalised", "cosine"] = "normalised"
    similarity_threshold: float | None = None
    max_pairs: int | None = None
    max_pairs_of: Literal["image", "slice"] = "image"
    adaptive: bool = False
    assignment: Literal["greedy", "optimal", "one_to_many", "hybrid"] = "greedy"
    mutual: bool = True
    position_weight: float = 1.0
    shape_weight: float | None = None
    rank_by: Literal["confidence", "score"] = "confidence"
    slice_pairing: Literal["physical", "index"] = "physical"
    slice_range_mm: float = 30.0
    slice_range: int = 11
    link: bool = True
    min_confidence: float = 0.5
    max_distance_mm: float | None = None
    held_out_share: float = 0.25


@dataclass(frozen=True)
class EstimatorsConfig:
    """The estimators that are climbed for each transform that can be asked for, in order."""

    rigid: tuple[str, ...] = ("rigid",)
    affine: tuple[str, ...] = ("rigid", "affine")
    deformable: tuple[str, ...] = ("rigid", "affine", "velocity", "velocity-finer", "velocity-stiffer")


@dataclass(frozen=True)
class EstimationConfig:
    """Transforms from pairs.

    Attributes:
        weight_by_confidence: Pairs weigh by their confidence. False: all the same (the paper).
        roi_weight: Weight of MSE + Dice of the pairs in the deformable fit.
        similarity_weight: Weight of the dense similarity (MIND-SSC) in the deformable fit.
        smoothness_weight: λ of |∇v|² or |∇u|² (dimensionless: mm per mm).
        finest_spacing_mm: Control spacing of the field on the finest level.
        iterations: On each level of the deformable fit.
        rigid_samples: Points that the dense rigid refinement reads.
    """

    weight_by_confidence: bool = True
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
        min_pairs: ROI pairs that must agree with the result, those that share a region counted once; where fewer do,
            the status is FAIL. Where fewer are found at all, the result stays at the identity. With given label maps
            one pair is enough, whatever this says.
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
class SeriesRule:
    """What a DICOM series must be to take a role; all that is given must hold.

    Attributes:
        modality, description, protocol: Regular expressions, found anywhere in Modality, SeriesDescription and
            ProtocolName, in small or capital letters.
        folder: Pattern (`*`, `?`) of its files' folder below the input.
        series_uid: SeriesInstanceUID.
        acquired: Of several that satisfy all this.
    """

    modality: str | None = None
    description: str | None = None
    protocol: str | None = None
    folder: str | None = None
    series_uid: str | None = None
    acquired: Literal["earliest", "latest"] | None = None

    def __post_init__(self) -> None:
        for name in ("modality", "description", "protocol"):
            try:
                re.compile(getattr(self, name) or "")
            except (re.error, RecursionError, OverflowError) as error:
                raise UsageError(f"'{name}' is {getattr(self, name)!r} ({error})", "a regular expression") from error


@dataclass(frozen=True)
class SeriesConfig:
    """Which series of a study is fixed and which moving, where a folder holds several.

    Attributes:
        fixed, moving: What a series must be for the role.
        several_moving: Register every series that can be the moving one, each for itself.
        within: Pattern (`*`, `?`) of a folder below the input that holds what counts; files elsewhere are not looked
            at, as if they were not there (where a platform keeps other results in the same tree).
    """

    fixed: SeriesRule = field(default_factory=SeriesRule)
    moving: SeriesRule = field(default_factory=SeriesRule)
    several_moving: bool = False
    within: str | None = None


@dataclass(frozen=True)
class Config:
    """Everything that decides a result, apart from the images.

    `method` is the name of the preset the other values are from; to choose one, use
    `samreg.configured(method="samreg")`, which reads them.

    Attributes:
        weights: Of a model: file or folder; None with the embedded encoder: the weights that come with the library.
        variant: Row of the SAM family; None: told from the weights.
        precision: Of a model's arithmetic; "auto" is bfloat16 on a GPU; on a CPU float64 for the embedded model, whose
            regions are then the same on every processor, and float32 for others.
        threads: At most so many on a CPU; None: as many as there are processors for this process.
        cache, cache_gb: Folder that keeps what a model makes of a slice, and its size in 10⁹ bytes.
        as_files: Write everything but the DICOM objects. Series whose identifiers no object could refer to are then
            registered too.

    Raises (from `load`, `with_values`):
        UsageError: An unknown key, a wrong type, or a value out of range.
    """

    method: Method = "hybrid"
    transform: TransformChoice = "deformable"
    encoder: str = "embedded"
    weights: str | None = None
    variant: str | None = None
    precision: Precision = "auto"
    device: str = "auto"
    threads: int | None = None
    cache: str | None = None
    cache_gb: float = 20.0
    as_files: bool = False
    seed: int = 0
    proposals: ProposalConfig = field(default_factory=ProposalConfig)
    matching: MatchingConfig = field(default_factory=MatchingConfig)
    estimators: EstimatorsConfig = field(default_factory=EstimatorsConfig)
    estimation: EstimationConfig = field(default_factory=EstimationConfig)
    quality: QualityConfig = field(default_factory=QualityConfig)
    series: SeriesConfig = field(default_factory=SeriesConfig)

    @property
    def hash(self) -> str:
        """Twelve hex digits of the SHA-256 of what decides the result: not device, threads, paths, files and series."""
        aside = ("device", "threads", "weights", "cache", "cache_gb", "as_files", "series")
        values = {k: v for k, v in asdict(self).items() if k not in aside}
        return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]

    def with_values(self, values: Mapping[str, Any]) -> Config:
        """A copy with nested values replaced, e.g. {"matching": {"max_pairs": 5}, "seed": 1}."""
        return _replaced(self, values, "")

    @staticmethod
    def load(path: str | Path, base: Config | None = None) -> Config:
        """A configuration from a YAML or JSON file.

        Args:
            path: The file.
            base: What the file leaves out stays as it is here; None: as in `Config()`.

        Returns:
            The configuration.

        Raises:
            UsageError: The file cannot be read, or holds an unknown key, a wrong type or a value out of range.
        """
        try:
            values = _read(Path(path))
        except _NOT_YAML as error:
            raise UsageError(f"configuration {path} cannot be read ({_why(error)})", "a YAML or JSON file") from error
        if not isinstance(values, Mapping):
            raise UsageError(f"configuration {path} holds a {type(values).__name__}", "keys and values")
        return (base or Config()).with_values(values)


def _read(path: Path) -> Any:
    """What a YAML or JSON file holds; a key that stands twice is refused, for YAML would take the last without a word.

    Raises:
        One of `_NOT_YAML`.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            twice = next((key for key in keys if keys.count(key) > 1), None)
            if twice is not None:
                raise yaml.constructor.ConstructorError(None, None, f"the key '{twice}' stands twice", node.start_mark)
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader)
    except yaml.YAMLError as error:
        raise ValueError(_why(error)) from error


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted keys ("matching.max_pairs") as nested ones; keys without a dot stay as they are.

    Args:
        values: By dotted keys.

    Returns:
        Values as `Config.with_values` takes them.

    Raises:
        UsageError: A key that is a value and a group of keys at once.
    """
    out: dict[str, Any] = {}
    for key, value in values.items():
        *path, last = key.split(".")
        part = out
        for name in path:
            part = part.setdefault(name, {})
            if not isinstance(part, dict):
                raise UsageError(f"unknown configuration key '{key}'", f"'{name}' as a value alone")
        part[last] = value
    return out


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
                raise UsageError(f"'{name}' is {_shown(value)}", "keys and values")
            changes[key] = _replaced(current, value, f"{name}.")
        else:
            changes[key] = _checked(value, hints[key], name)
    return replace(config, **changes)


def _checked(value: Any, hint: Any, name: str) -> Any:
    if get_origin(hint) is tuple:
        return tuple(value)
    allowed = get_args(hint) if get_origin(hint) is not Literal else (hint,)
    literals = [option for part in allowed if get_origin(part) is Literal for option in get_args(part)]
    if literals:
        if value not in literals and not (value is None and type(None) in allowed):
            raise UsageError(f"'{name}' is {_shown(value)}", f"one of {', '.join(map(str, literals))}")
        return value
    allowed = allowed or (hint,)
    if isinstance(value, int) and abs(value) > _GREATEST:
        raise UsageError(f"'{name}' is a whole number of {value.bit_length()} bits", "one of at most 63")
    if float in allowed and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) not in allowed:
        names = " or ".join("none" if t is type(None) else t.__name__ for t in allowed)
        raise UsageError(f"'{name}' is {_shown(value)}", names)
    if isinstance(value, int | float) and not isinstance(value, bool):
        least, most = _LIMITS.get(name.rpartition(".")[2], (0, math.inf))
        if not least <= value <= most or math.isinf(value):
            raise UsageError(f"'{name}' is {value}", _range_in_words(least, most))
    return value


def _shown(value: Any) -> str:
    """A value for messages; a list or a mapping by its kind alone, for within each other they may be endless."""
    if isinstance(value, int) and abs(value) > _GREATEST:
        return "a large number"
    return repr(value) if value is None or isinstance(value, str | int | float) else f"a {type(value).__name__}"


def _range_in_words(least: float, most: float) -> str:
    if most < math.inf:
        return f"a number from {least:g} to {most:g}"
    return f"a finite number of at least {least:g}" if least else "a finite number that is not negative"
