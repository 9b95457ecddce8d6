"""The answer to a prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from samreg.counterparts.prompts import Prompt
from samreg.geometry import Grid
from samreg.rois import Roi, RoiSet

COUNTERPART, RUNNER_UP = 1, 2  # labels in the map of the moving image


@dataclass(frozen=True, eq=False)
class Located:
    """A region of the fixed image and its counterpart in the moving one.

    Attributes:
        prompt: What was asked.
        fixed, moving: The region, and its counterpart.
        fixed_grid, moving_grid: Where they lie: the grids of the two images.
        runner_up: The best region of the moving image beside the counterpart, or None.
        similarity: Of the two regions' prototypes, 0..1; None where no prototypes were compared.
        confidence: 0..1; what it is made of depends on the way taken (see `samreg.counterparts.by_prompts` and
            `samreg.counterparts.by_registration`).
        by: The way taken: prompts in both images, or a registration of them.
        details: What that way knows besides, for `locate.json`.
        notes: Sentences for the reader.
        provenance: Version, and hashes of configuration, weights and images.
    """

    prompt: Prompt
    fixed: Roi
    moving: Roi
    fixed_grid: Grid
    moving_grid: Grid
    runner_up: Roi | None
    similarity: float | None
    confidence: float
    by: Literal["prompts", "registration"]
    details: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """What `samreg locate` prints: plain JSON values."""
        fixed, moving = RoiSet(self.fixed_grid, ()), RoiSet(self.moving_grid, ())
        flat = self.fixed.is_2d and self.moving.is_2d
        return {
            **self.prompt.as_dict(),
            "by": self.by,
            "confidence": round(self.confidence, 6),
            "similarity": None if self.similarity is None else round(self.similarity, 6),
            "fixed": fixed.described(self.fixed, flat=flat),
            "moving": moving.described(self.moving, flat=flat),
            "runner_up": None if self.runner_up is None else moving.described(self.runner_up, flat=flat),
            **self.details,
            "notes": list(self.notes),
            **self.provenance,
        }

    def label_maps(self) -> tuple[np.ndarray, np.ndarray]:
        """The region on the fixed grid; its counterpart (1) and the runner-up (2) on the moving one; uint8."""
        fixed = np.where(self.fixed.mask(self.fixed_grid.shape), COUNTERPART, 0).astype(np.uint8)
        moving = np.zeros(self.moving_grid.shape, np.uint8)
        for label, roi in ((RUNNER_UP, self.runner_up), (COUNTERPART, self.moving)):
            if roi is not None:
                moving[roi.where][roi.box] = label
        return fixed, moving
