"""What each stage of a registration is asked for."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from samreg.config.presets import DEFAULT_METHOD, preset_values
from samreg.config.refusing import GREATEST
from samreg.config.settings import Amount, Count, Length, Settings, Share, Whole


def _tuple_of_list(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _of_the_default_method(transform: str) -> tuple[str, ...]:
    """The estimators that the preset of the default method lists."""
    return tuple(preset_values(DEFAULT_METHOD)["estimators"][transform])


Name = Annotated[str, Field(min_length=1)]
Names = Annotated[tuple[Name, ...], BeforeValidator(_tuple_of_list), Field(min_length=1)]
Cosine = Annotated[float, Field(ge=-1, le=1)]
Samples = Annotated[int, Field(ge=100, le=GREATEST)]


class ProposalConfig(Settings):
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
        points_per_side: Everything mode: points along each side of the body's box; None: 16, or fewer where they would
            lie nearer than a cell of the embedding.
        pred_iou, stability: Everything mode: the least predicted IoU and stability of a mask; None: what suits the
            model.
        max_box_iou: Of two masks whose boxes share more, everything mode keeps the one of greater predicted IoU.
        refill: What the masks within the limits leave uncovered gets points of its own, twice as dense.
        points_per_batch: Points decoded together on a GPU; halved where memory does not allow it.
    """

    section: ClassVar[str] = "proposals"

    proposer: str = "auto"
    per_slice: bool = False
    min_area_mm2: Amount = 40.0
    max_area_mm2: Amount | None = None
    max_area_fraction: Share = 0.5
    min_area_px: Amount | None = None
    max_area_px: Amount | None = None
    min_volume_mm3: Amount = 300.0
    max_volume_fraction: Share = 0.5
    max_overlap: Share = 0.8
    overlap_of: Literal["smaller", "larger"] = "larger"
    max_rois: Count | None = None
    points_per_side: Count | None = None
    pred_iou: Share | None = None
    stability: Share | None = None
    max_box_iou: Share = 0.7
    refill: bool = False
    points_per_batch: Count = 64


class MatchingConfig(Settings):
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
        held_out_share: Share of the pairs that no fit uses. The report states their overlap; of given label maps they
            also judge the candidates and the result.
    """

    section: ClassVar[str] = "matching"

    matcher: Name = "auto"
    similarity: Literal["normalised", "cosine"] = "normalised"
    similarity_threshold: Cosine | None = None
    max_pairs: Count | None = None
    max_pairs_of: Literal["image", "slice"] = "image"
    adaptive: bool = False
    assignment: Literal["greedy", "optimal", "one_to_many", "hybrid"] = "greedy"
    mutual: bool = True
    position_weight: Amount = 1.0
    shape_weight: Amount | None = None
    rank_by: Literal["confidence", "score"] = "confidence"
    slice_pairing: Literal["physical", "index"] = "physical"
    slice_range_mm: Amount = 30.0
    slice_range: Whole = 11
    link: bool = True
    min_confidence: Share = 0.5
    max_distance_mm: Amount | None = None
    held_out_share: Share = 0.25


class EstimatorsConfig(Settings):
    """The estimators that are tried, for each transform that can be asked for.

    They are tried in the order of the list. A candidate takes the place of the best transform so far where it is better
    on evidence that it was not fitted to. The lists of each method stand in its preset (`configs/presets`).

    Attributes:
        rigid, affine, deformable: Names of estimators, in the order in which they are tried; at least one.
    """

    section: ClassVar[str] = "estimators"

    rigid: Names = Field(default_factory=lambda: _of_the_default_method("rigid"))
    affine: Names = Field(default_factory=lambda: _of_the_default_method("affine"))
    deformable: Names = Field(default_factory=lambda: _of_the_default_method("deformable"))


class EstimationConfig(Settings):
    """Transforms from pairs.

    Attributes:
        weight_by_confidence: Pairs weigh by their confidence, where that is calibrated for the encoder. False: all the
            same (the paper).
        roi_weight: Weight of MSE + Dice of the pairs in the deformable fit.
        similarity_weight: Weight of the dense similarity (MIND-SSC) in the deformable fit.
        smoothness_weight: λ of |∇v|² or |∇u|² (dimensionless: mm per mm).
        finest_spacing_mm: Control spacing of the field on the finest level.
        iterations: On each level of the deformable fit.
        rigid_samples: Points that the dense rigid and affine fits read at their finest level, at most, but not fewer
            than 6000. Of a body of more than 60 000 voxels they read a third of them, up to this number. Of a smaller
            one they read 20 000, or all of its voxels where it has fewer.
    """

    section: ClassVar[str] = "estimation"

    weight_by_confidence: bool = True
    roi_weight: Amount = 1.0
    similarity_weight: Amount = 1.0
    smoothness_weight: Amount = 0.4
    finest_spacing_mm: Length = 5.0
    iterations: Whole = 60
    rigid_samples: Samples = 60_000


class QualityConfig(Settings):
    """Tolerances of the gate (AAPM TG-132 where it gives one).

    Attributes:
        min_pairs: With fewer pairs the transform stays the identity, and with fewer that agree with the result it
            fails. Of given label maps one pair is enough.
        mean_error_mm, max_error_mm: Deformable error tolerated (TG-132).
        min_dice: Of given contours.
        max_inverse_error_vox: Forward then backward.
    """

    section: ClassVar[str] = "quality"

    min_pairs: Whole = 4
    mean_error_mm: Amount = 2.0
    max_error_mm: Amount = 5.0
    min_dice: Share = 0.8
    max_inverse_error_vox: Amount = 1.0
