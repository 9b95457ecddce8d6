"""The counterpart of a place by a registration of both images."""

from __future__ import annotations

from typing import Any

import numpy as np

from samreg.counterparts.located import Located
from samreg.counterparts.prompts import Box, GivenRoi, Point, Prompt
from samreg.errors import InputRefused
from samreg.geometry import Volume
from samreg.matching import overlap
from samreg.result import RegistrationResult
from samreg.rois import Roi, RoiSet

MIN_DICE = 0.3  # of a mapped region with one of the moving image that shows the same


def counterpart(result: RegistrationResult, prompt: Prompt) -> Located:
    """The counterpart of a place by the pairs of a registration (a point), or by its transform (a region).

    Args:
        result: The registration.
        prompt: In the fixed image.

    Raises:
        InputRefused: `no-region`: no paired region lies under the point, or the moving image does not show the region.
    """
    if isinstance(prompt, Point):
        return _of_point(result, prompt)
    return _of_region(result, prompt)


def _of_point(result: RegistrationResult, prompt: Point) -> Located:
    """The smallest paired region under the point; the runner-up is the next larger one."""
    under = sorted(
        (p for p in result.pairs if p.fixed.contains(prompt.voxel(result.fixed.grid))), key=lambda p: p.fixed.count
    )
    if not under:
        raise InputRefused(
            f"no paired region lies under the point {prompt.lps_mm.tolist()}",
            "a point inside one of the paired regions (rois_fixed.nii.gz of `samreg register`)",
            "Map the point itself with `samreg apply-points`.",
            reason="no-region",
        )
    chosen = under[0]
    pairs = result.pairs.as_json()["pairs"]
    return Located(
        prompt=prompt,
        fixed=chosen.fixed,
        moving=chosen.moving,
        fixed_grid=result.fixed.grid,
        moving_grid=result.moving.grid,
        runner_up=under[1].moving if len(under) > 1 else None,
        similarity=chosen.similarity,
        confidence=_unless_failed(result, chosen.confidence),
        by="registration",
        details={
            "mapped_point_lps_mm": result.transform.map_points(prompt.lps_mm[None])[0].tolist(),
            **_of_registration(result),
            "pair": next(p for p in pairs if p["id"] == chosen.id),
        },
        notes=_warnings(result),
    )


def _of_region(result: RegistrationResult, prompt: Box | GivenRoi) -> Located:
    """Where the transform takes a region; the runner-up is what was found in the moving image there."""
    fixed_grid, moving_grid = result.fixed.grid, result.moving.grid
    roi = prompt.roi(fixed_grid)
    mapped = _mapped(result, roi)
    dice = overlap(RoiSet(fixed_grid, (roi,)), result.moving_rois, result.transform)
    best = float(dice.max(initial=0.0))
    found = None
    if best >= MIN_DICE:
        found = result.moving_rois.rois[int(dice.argmax())].on_grid(result.moving_rois.grid, moving_grid)
    note = (
        f"No region found in the moving image confirms the mapped one (the best Dice is {best:.2f}, at least "
        f"{MIN_DICE:g} is asked)."
    )
    return Located(
        prompt=prompt,
        fixed=roi,
        moving=mapped,
        fixed_grid=fixed_grid,
        moving_grid=moving_grid,
        runner_up=found,
        similarity=None,
        confidence=_unless_failed(result, best if found else 0.0),
        by="registration",
        details={"overlap_dice": round(best, 6) if found else None, **_of_registration(result)},
        notes=(*(() if found else (note,)), *_warnings(result)),
    )


def _of_registration(result: RegistrationResult) -> dict[str, Any]:
    """What the registration behind an answer says of itself, as in `report.json`."""
    return {
        "status": result.quality.status,
        "reasons": list(result.quality.reasons),
        "kind": result.kind,
        "fallbacks": list(result.fallbacks),
    }


def _warnings(result: RegistrationResult) -> tuple[str, ...]:
    if result.quality.status != "FAIL":
        return ()
    return ("The registration behind this answer failed its quality gate: the answer must not be used.",)


def _mapped(result: RegistrationResult, roi: Roi) -> Roi:
    """A fixed region where the transform takes it, on the grid of the moving image.

    Raises:
        InputRefused: The moving image does not show the place.
    """
    mask = Volume(roi.mask(result.fixed.grid.shape).astype(np.uint8), result.fixed.grid)
    mapped = result.inverse.warp(mask, result.moving.grid, interpolation="nearest") > 0
    if not mapped.any():
        raise InputRefused(
            "the region is mapped to no voxel of the moving image", "a region that the moving image shows",
            "Give a moving image that covers this place.", reason="no-region",
        )  # fmt: skip
    return Roi.from_mask(mapped)


def _unless_failed(result: RegistrationResult, confidence: float) -> float:
    return 0.0 if result.quality.status == "FAIL" else confidence
