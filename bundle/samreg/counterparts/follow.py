"""A region of one slice, followed into the neighbouring slices."""

from __future__ import annotations

import numpy as np

from samreg.counterparts.prompted_image import PromptedImage, Region

MAX_GROWTH = 2.0  # largest ratio of their areas


def follow(image: PromptedImage, start: Region, below_mm: float, above_mm: float, threshold: float) -> list[Region]:
    """What continues a region in the slices around it.

    The box of the mask before is the prompt in the next slice; the mask most like the one before is taken,
    as long as it overlaps it, has about its size, and its prototype stays similar to that of the start.

    Args:
        start: The region to begin with.
        below_mm, above_mm: How far to go towards lower and higher slices at most.
        threshold: Similarity with the start that must be exceeded.

    Returns:
        Regions of other slices, without gaps.
    """
    found: list[Region] = []
    for step, reach_mm in ((-1, below_mm), (1, above_mm)):
        steps = int(reach_mm / image.slice_mm + 1e-6)
        before = start
        for k in range(start.k + step, start.k + step * (steps + 1), step):
            after = _next(image, k, before, start, threshold) if 0 <= k < image.volume.grid.shape[2] else None
            if after is None:
                break
            found.append(after)
            before = after
    return found


def _next(image: PromptedImage, k: int, before: Region, start: Region, threshold: float) -> Region | None:
    low = np.subtract(before.roi.start, 0.5)
    continuing = [
        region
        for region in image.in_box(k, low, low + before.roi.shape)
        if region.similarity(start) > threshold
        and region.size_ratio(before) * MAX_GROWTH >= 1
        and region.continues(before)
    ]
    return max(continuing, key=before.likeness, default=None)
