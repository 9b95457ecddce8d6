"""Everything mode: a SAM model prompted with a grid of points on every slice."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from samreg.config import ProposalConfig
from samreg.sam.slices import EncodedVolume, SamSlices
from samreg.geometry import Volume
from samreg.proposals.base import OnProgress
from samreg.proposals.filters import size_limits, without_overlap
from samreg.rois import Roi, RoiSet
from samreg.types import Mask

POINTS_AT_ONCE = 64
STABILITY_OFFSET = 1.0  # logits by which the threshold is moved up and down
BOX_IOU = 0.7  # boxes that share more are one mask


class SamEverything:
    """2D regions of every slice (axis k), by points spread over the slice's body.

    Args:
        slices: The model; share the one of the SAM encoder, so that each slice is encoded once.
    """

    def __init__(self, slices: SamSlices) -> None:
        self.slices = slices

    def propose(
        self, volume: Volume, body: Mask, config: ProposalConfig, *, on_progress: OnProgress | None = None
    ) -> RoiSet:
        encoded = self.slices.of(volume)
        smallest, largest = size_limits(volume.grid, body, config, per_slice=True)
        rois: list[Roi] = []
        for k in range(volume.grid.shape[2]):
            if body[:, :, k].any():
                found = _slice_rois(encoded, k, body[:, :, k], config, smallest, float(largest[k]))
                rois += without_overlap(found, config.max_overlap)
            if on_progress:
                on_progress((k + 1) / volume.grid.shape[2])
        rois.sort(key=lambda roi: -roi.score)
        return RoiSet(volume.grid, tuple(rois[: config.max_rois]))


def _slice_rois(
    encoded: EncodedVolume, k: int, body: np.ndarray, config: ProposalConfig, smallest: float, largest: float
) -> list[Roi]:
    points = _points(body, config.points_per_side)
    masks, scores = [], []
    for start in range(0, len(points), POINTS_AT_ONCE):
        logits, iou = encoded.masks(k, points[start : start + POINTS_AT_ONCE])
        logits, iou = logits.flatten(0, 1), iou.flatten()
        good = iou >= config.pred_iou
        logits, iou = logits[good], iou[good]
        stability = _stability(logits)
        good = stability >= config.stability
        # Only what passes is brought to the voxels.
        fine = (encoded.on_slice(logits[good]) > 0).cpu().numpy() & body
        area = fine.sum((1, 2))
        keep = (area >= smallest) & (area <= largest)
        masks.append(fine[keep])
        scores.append((iou * stability)[good].clamp(0, 1).cpu().numpy()[keep])
    mask, score = np.concatenate(masks), np.concatenate(scores)
    chosen = _distinct_boxes(mask, score)
    return [Roi.from_mask(mask[n][:, :, None], offset=(0, 0, k), score=float(score[n])) for n in chosen]


def _points(body: np.ndarray, per_side: int) -> np.ndarray:
    """[n, 2] indices: a grid over the bounding box of a slice's body [i, j], without what falls beside it."""
    inside = np.argwhere(body)
    low, high = inside.min(0), inside.max(0) + 1
    steps = (np.arange(per_side) + 0.5) / per_side
    i, j = (a + steps * (b - a) - 0.5 for a, b in zip(low, high, strict=True))
    grid = np.stack(np.meshgrid(i, j, indexing="ij"), -1).reshape(-1, 2)
    nearest = np.rint(grid).astype(int)
    on_body = grid[body[nearest[:, 0], nearest[:, 1]]]
    return on_body if len(on_body) else inside[len(inside) // 2][None].astype(float)


def _stability(logits: Tensor) -> Tensor:
    """[n] IoU of the masks [n, x, y] at a higher and at a lower threshold; the inner lies in the outer."""
    inner = (logits > STABILITY_OFFSET).sum((1, 2))
    outer = (logits > -STABILITY_OFFSET).sum((1, 2))
    return inner / outer.clamp_min(1)


def _distinct_boxes(masks: np.ndarray, scores: np.ndarray) -> list[int]:
    """Positions of the best masks [n, i, j] whose boxes are distinct, best score first."""
    if len(masks) == 0:
        return []
    sides = []
    for axis in (2, 1):
        line = np.asarray(masks.any(axis))
        sides += [line.argmax(1), line.shape[1] - line[:, ::-1].argmax(1)]
    i0, i1, j0, j1 = sides
    area = (i1 - i0) * (j1 - j0)
    kept: list[int] = []
    for n in np.argsort(-scores, kind="stable"):
        common_i = np.clip(np.minimum(i1[kept], i1[n]) - np.maximum(i0[kept], i0[n]), 0, None)
        common_j = np.clip(np.minimum(j1[kept], j1[n]) - np.maximum(j0[kept], j0[n]), 0, None)
        common = common_i * common_j
        if not (common > BOX_IOU * (area[kept] + area[n] - common)).any():
            kept.append(int(n))
    return kept
