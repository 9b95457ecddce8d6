"""From a region of one image to its counterpart in another, by prompts in both (after Huang et al., arXiv 2508.01697).

No everything mode and no registration: the prototype of the region says where in the other image to set
points, the masks there are candidates, and of each the same step leads back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from samreg.config import Config
from samreg.counterparts.follow import follow
from samreg.counterparts.located import Located
from samreg.counterparts.prompted_image import PromptedImage, Region
from samreg.counterparts.prompts import GivenRoi, Point, Prompt
from samreg.encoders.base import PHANTOM_CALIBRATION, Calibration
from samreg.errors import InputRefused
from samreg.geometry import Volume
from samreg.matching import calibrated
from samreg.matching.linking import union
from samreg.promptable_models.slices import PromptableSlices
from samreg.rois import Roi

OnProgress = Callable[[float], None]  # called with the share done, 0..1

MAX_AREA_RATIO = 3.0  # of two regions that may be the same anatomy
CHECKED = 5  # candidates that are led back
CLEAR_MARGIN = 0.1  # of scores; a runner-up this far behind leaves no doubt
TILTED_DEG = 20.0  # between slices; beyond it their outlines differ


@dataclass(frozen=True, eq=False)
class Candidate:
    """A region that may be the counterpart.

    Attributes:
        similarity: Of its prototype with that of the region sought, 0..1.
        likeness: Similarity with size and segmentation (`Region.likeness`).
        cycle_iou: Overlap of the region sought with the one that the way back arrives at.
    """

    region: Region
    similarity: float
    likeness: float
    cycle_iou: float = 0.0

    @property
    def score(self) -> float:
        """Likeness, halved where the way back arrives elsewhere; 0..1."""
        return self.likeness * (1 + self.cycle_iou) / 2


def counterpart(
    fixed: Volume,
    moving: Volume,
    prompt: Prompt,
    slices: PromptableSlices,
    config: Config,
    *,
    calibration: Calibration = PHANTOM_CALIBRATION,
    on_progress: OnProgress | None = None,
) -> Located:
    """The region that a prompt means in the fixed image, and its counterpart in the moving one.

    1. The fixed region: at a point or in a box the mask of greatest predicted IoU times stability; a given
       region is taken as it is, in its slice of greatest area.
    2. Its prototype is compared with every cell of the body in those moving slices that can hold it. Local
       maxima become point prompts; of the masks there, those of like prototype and size are candidates.
    3. From each of the best the same step leads back to the fixed slice (cycle consistency).
    4. The best score wins; a given region of several slices is then followed to the neighbouring slices.

    One fixed slice is encoded, and the moving slices within `matching.slice_range_mm`. Positions are those of
    the scanner where both images have one frame of reference, else relative to the middles of the fields of view.

    Args:
        fixed, moving: The images.
        prompt: In the fixed image.
        slices: The model.
        config: `matching.similarity_threshold` (ε), `matching.slice_range_mm` and `proposals.max_area_fraction`.
        calibration: Of the encoder, for what the configuration leaves open.
        on_progress: Called with the share done, 0..1.

    Returns:
        The answer; its confidence is that of `confidence`.

    Raises:
        InputRefused: `nothing-at-prompt`, `no-slice-in-range`, `no-counterpart`, or a prompt outside the image.
    """
    settings = calibrated(config.matching, calibration)
    threshold = settings.similarity_threshold or 0.0
    here = PromptedImage(slices, fixed, config.proposals.max_area_fraction)
    whole, sought = _region_at(here, prompt)
    there = PromptedImage(slices, moving, config.proposals.max_area_fraction)
    shift, paired_by = _shift(fixed, moving)
    searched = _reachable(moving, fixed.grid.lps(sought.roi.centroid_ijk[None])[0] + shift, settings.slice_range_mm)
    found: list[Candidate] = []
    for n, k in enumerate(searched):
        found += candidates(there, k, sought, threshold)
        if on_progress:
            on_progress((n + 1) / len(searched))
    best, runner_up = _chosen(here, there, sought, found, threshold)
    followed = follow(there, best.region, *_reach_mm(whole, sought, fixed, moving), threshold)
    weakest = min((region.similarity(best.region) for region in followed), default=1.0)
    return Located(
        prompt=prompt,
        fixed=whole,
        moving=union([region.roi for region in (best.region, *followed)]),
        fixed_grid=fixed.grid,
        moving_grid=moving.grid,
        runner_up=runner_up.region.roi if runner_up else None,
        similarity=best.similarity,
        confidence=confidence(best, runner_up, threshold, weakest_slice=weakest),
        by="prompts",
        details={
            "segmentation_score": round(sought.roi.score, 6),
            "weakest_slice_similarity": round(weakest, 6),
            "cycle_iou": round(best.cycle_iou, 6),
            "score": round(best.score, 6),
            "runner_up_score": round(runner_up.score, 6) if runner_up else None,
            "slices": {
                "paired_by": paired_by,
                "fixed_encoded": sorted(here.used),
                "moving_encoded": sorted(there.used),
            },
        },
        notes=_notes(fixed, moving),
    )


def candidates(image: PromptedImage, k: int, sought: Region, threshold: float) -> list[Candidate]:
    """Regions of slice k that may be the one sought: similar above the threshold, and of like area."""
    points = image.points_like(k, sought, threshold)
    if not len(points):
        return []
    found = []
    for region in image.at_points(k, points):
        alike = sought.similarity(region)
        if alike > threshold and sought.size_ratio(region) * MAX_AREA_RATIO >= 1:
            found.append(Candidate(region, alike, sought.likeness(region)))
    return found


def confidence(best: Candidate, runner_up: Candidate | None, threshold: float, *, weakest_slice: float = 1.0) -> float:
    """How far to trust the best candidate, 0..1: the product of four doubts, each 0..1.

    Appearance: (similarity - ε) / (1 - ε). Cycle: the IoU of the way back. Rivalry: from 1/2, where the
    runner-up scores the same, to 1, where it lies `CLEAR_MARGIN` behind or there is none. Drift: as appearance,
    of the slice least like the one that the region was followed from (`weakest_slice`, a similarity).

    It orders answers; it is not a probability. Nothing in it was fitted to images of known correspondence,
    since what similarities and masks are worth differs from model to model.
    """
    appearance, drift = (
        float(np.clip((alike - threshold) / max(1 - threshold, 1e-6), 0, 1))
        for alike in (best.similarity, weakest_slice)
    )
    margin = (best.score - runner_up.score) / CLEAR_MARGIN if runner_up else 1.0
    return float(appearance * drift * best.cycle_iou * (1 + np.clip(margin, 0, 1)) / 2)


def _region_at(image: PromptedImage, prompt: Prompt) -> tuple[Roi, Region]:
    """The region that a prompt means, and its slice of greatest area."""
    grid = image.volume.grid
    if isinstance(prompt, GivenRoi):
        whole = prompt.roi(grid)
        k = int(whole.box.sum((0, 1)).argmax())
        part = Roi.from_mask(whole.box[:, :, k : k + 1], offset=(*whole.start[:2], whole.start[2] + k))
        return whole, image.given([part])[0]
    if isinstance(prompt, Point):
        voxel, at = prompt.voxel(grid), prompt.ijk(grid)[:2]
        if not image.in_body(prompt.lps_mm):
            raise _nothing(f"the point {prompt.lps_mm.tolist()} lies on the background", "a point inside the body")
        found = [r for r in image.at_points(int(voxel[2]), at[None]) if r.roi.contains(voxel)]
    else:
        low, high = prompt.ijk(grid)
        k = int(np.clip(np.round((low[2] + high[2]) / 2), 0, grid.shape[2] - 1))
        found = [r for r in image.in_box(k, low, high) if _mostly_within(r.roi, prompt.roi(grid))]
    if not found:
        raise _nothing(
            "no region is segmented at the prompt", "a prompt on a structure that is smaller than half of the body"
        )
    best = max(found, key=lambda region: region.roi.score)
    return best.roi, best


def _mostly_within(roi: Roi, box: Roi) -> bool:
    """True if at least half of a region lies in a box, whatever the slices."""
    return 2 * roi.overlap(replace(box, start=(*box.start[:2], roi.start[2]))) >= roi.count


def _nothing(got: str, expected: str) -> InputRefused:
    return InputRefused(got, expected, reason="nothing-at-prompt")


def _shift(fixed: Volume, moving: Volume) -> tuple[np.ndarray, str]:
    """What brings a fixed point roughly to the moving image [3] mm, and how that is known."""
    frames = {fixed.frame_of_reference_uid, moving.frame_of_reference_uid}
    if len(frames) == 1 and None not in frames:
        return np.zeros(3), "scanner coordinates (one frame of reference)"
    return moving.grid.centre_lps - fixed.grid.centre_lps, "distance from the middle of the field of view"


def _reachable(moving: Volume, point_lps: np.ndarray, range_mm: float) -> list[int]:
    """Slices within so many mm of a point, along their normal; of a picture, its only one.

    Raises:
        InputRefused: There is none.
    """
    grid = moving.grid
    if grid.is_2d:
        return [0]
    apart_mm = np.abs(np.arange(grid.shape[2]) - grid.index(point_lps[None])[0, 2]) * grid.spacing_mm[2]
    near = np.flatnonzero(apart_mm <= range_mm)
    if not near.size:
        raise InputRefused(
            f"the nearest slice of the moving image lies {apart_mm.min():.0f} mm from the region's place",
            f"a slice within {range_mm:g} mm (matching.slice_range_mm)",
            reason="no-slice-in-range",
        )
    return [int(k) for k in near]


def _chosen(
    here: PromptedImage, there: PromptedImage, sought: Region, found: Sequence[Candidate], threshold: float
) -> tuple[Candidate, Candidate | None]:
    """The best of the candidates once they were led back, and the best that is another structure.

    Raises:
        InputRefused: There is no candidate.
    """
    distinct: list[Candidate] = []
    remaining = sorted(found, key=lambda c: -c.likeness)
    while remaining and len(distinct) < CHECKED:
        distinct.append(remaining[0])
        remaining = _of_other_structures(remaining[0].region, remaining[1:], there.slice_mm)
    if not distinct:
        raise InputRefused(
            "no region of the moving image looks like the one at the prompt",
            f"a similarity above {threshold:g} (matching.similarity_threshold) and an area "
            f"within a factor of {MAX_AREA_RATIO:g}",
            reason="no-counterpart",
        )
    led_back = [replace(c, cycle_iou=_cycle_iou(here, sought, c.region, threshold)) for c in distinct]
    ranked = sorted(led_back, key=lambda c: -c.score)
    return ranked[0], ranked[1] if len(ranked) > 1 else None


def _of_other_structures(best: Region, others: Sequence[Candidate], slice_mm: float) -> list[Candidate]:
    """Those that neither go on from the best through neighbouring slices nor are a part or whole of it."""
    chain, left = [best], list(others)
    for member in chain:  # which grows meanwhile
        chain += [c.region for c in left if c.region.continues(member)]
        left = [c for c in left if not c.region.continues(member)]
    return [c for c in left if not c.region.same_structure(best, slice_mm)]


def _cycle_iou(here: PromptedImage, sought: Region, candidate: Region, threshold: float) -> float:
    """Overlap of the region sought with where the step from a candidate back to its slice arrives; 0 if nowhere."""
    back = candidates(here, sought.k, candidate, threshold)
    return max(back, key=lambda c: c.likeness).region.iou_along_normal(sought) if back else 0.0


def _reach_mm(whole: Roi, sought: Region, fixed: Volume, moving: Volume) -> tuple[float, float]:
    """How far the fixed region goes on from its greatest slice, towards lower and higher slices of the moving image."""
    below = (sought.k - whole.start[2]) * float(fixed.grid.spacing_mm[2])
    above = (whole.shape[2] - 1) * float(fixed.grid.spacing_mm[2]) - below
    same_way = fixed.grid.direction[:, 2] @ moving.grid.direction[:, 2] >= 0
    return (below, above) if same_way else (above, below)


def _notes(fixed: Volume, moving: Volume) -> tuple[str, ...]:
    cosine = abs(float(fixed.grid.direction[:, 2] @ moving.grid.direction[:, 2]))
    tilt = np.degrees(np.arccos(min(1.0, cosine)))
    if tilt <= TILTED_DEG:
        return ()
    return (f"The slices of the two images lie {tilt:.0f}° apart; outlines of the same structure differ.",)
