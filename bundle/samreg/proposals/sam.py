"""Everything mode: a SAM model prompted with a grid of points on every slice."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from samreg.config import ProposalConfig
from samreg.errors import UsageError
from samreg.geometry import Volume
from samreg.proposals.base import OnProgress
from samreg.proposals.filters import size_limits, without_overlap
from samreg.rois import Roi, RoiSet
from samreg.sam.slices import PromptedSlice, SamSlices
from samreg.types import Mask

logger = logging.getLogger(__name__)

STABILITY_OFFSET = 1.0  # logits by which the threshold is moved up and down
BOX_IOU = 0.7  # boxes that share more are one mask


@dataclass(frozen=True, eq=False)
class Candidates:
    """Masks of one slice at the decoder's resolution.

    Attributes:
        logits: [n, y, x].
        iou, stability: [n] predicted, and of the mask when its threshold moves.
    """

    logits: Tensor
    iou: Tensor
    stability: Tensor

    def __len__(self) -> int:
        return len(self.iou)

    def select(self, chosen: Tensor) -> Candidates:
        """Those at these positions, or where this is true."""
        return Candidates(self.logits[chosen], self.iou[chosen], self.stability[chosen])

    def and_more(self, more: Candidates) -> Candidates:
        """These and others of the same slice."""
        pairs = ((self.logits, more.logits), (self.iou, more.iou), (self.stability, more.stability))
        return Candidates(*(torch.cat(pair) for pair in pairs))


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
        decoding = Decoding(config)
        rois: list[Roi] = []
        for k in range(volume.grid.shape[2]):
            if body[:, :, k].any():
                image = encoded.prompted(k)
                masks, scores = _on_voxels(image, everything(image, body[:, :, k], config, decoding))
                masks &= body[:, :, k]
                area = masks.sum((1, 2))
                keep = np.flatnonzero((area >= smallest) & (area <= largest[k]))
                found = [Roi.from_mask(masks[n][:, :, None], offset=(0, 0, k), score=float(scores[n])) for n in keep]
                rois += without_overlap(found, config.max_overlap)
            if on_progress:
                on_progress((k + 1) / volume.grid.shape[2])
        rois.sort(key=lambda roi: -roi.score)
        return RoiSet(volume.grid, tuple(rois[: config.max_rois]), notes=tuple(decoding.notes))


class Decoding:
    """Points in batches; a batch that does not fit in memory is halved, for good and not in silence.

    Args:
        config: How many at once, and what they must reach.

    Attributes:
        notes: What had to be changed.
    """

    def __init__(self, config: ProposalConfig) -> None:
        self._config = config
        self._at_once = config.points_per_batch
        self.notes: list[str] = []

    def __call__(self, image: PromptedSlice, points_ij: np.ndarray) -> Candidates:
        """Masks of points [p, 2] that reach the predicted IoU and the stability asked for."""
        parts: list[Candidates] = []
        done = 0
        while done < len(points_ij) or not parts:
            batch = points_ij[done : done + self._at_once]
            try:
                parts.append(self._good(image, batch))
            except torch.OutOfMemoryError as error:
                self._halve(len(batch), error)
                continue
            done += len(batch)
        return Candidates(
            *(torch.cat(field) for field in zip(*((p.logits, p.iou, p.stability) for p in parts), strict=True))
        )

    def _good(self, image: PromptedSlice, points_ij: np.ndarray) -> Candidates:
        masks = image.at_points(points_ij, min_iou=self._config.pred_iou)
        found = Candidates(masks.logits, masks.iou, _stability(masks.logits))
        return found.select(found.stability >= self._config.stability)

    def _halve(self, tried: int, error: torch.OutOfMemoryError) -> None:
        if tried <= 1:
            raise UsageError(
                "the device's memory does not hold the model and one prompt", "a device with more free memory",
                "Close other programs on it, choose a smaller model, or give --device cpu.", reason="out-of-memory",
            ) from error  # fmt: skip
        self._at_once = tried // 2
        torch.cuda.empty_cache()
        note = f"everything mode: {tried} points at once did not fit in memory, went on with {self._at_once}"
        logger.warning(note)
        self.notes.append(note)


def everything(image: PromptedSlice, body: np.ndarray, config: ProposalConfig, decoding: Decoding) -> Candidates:
    """The distinct masks of one slice, greatest predicted IoU first.

    Args:
        image: The slice.
        body: [i, j] where points are set.
        config: Points along each side of the body's box, and whether what they leave uncovered gets its own.
    """
    found = _distinct(decoding(image, _points(body, config.points_per_side)))
    if config.refill:
        covered, _ = _on_voxels(image, found)
        left = body & ~covered.any(0)
        if left.any():
            points = _points(body, 2 * config.points_per_side)
            i, j = np.rint(points).astype(int).T
            found = _distinct(found.and_more(decoding(image, points[left[i, j]])))
    return found


def _on_voxels(image: PromptedSlice, found: Candidates) -> tuple[np.ndarray, np.ndarray]:
    """Masks [n, i, j], and their scores [n]."""
    scores = (found.iou * found.stability).clamp(0, 1).cpu().numpy()
    return (image.on_voxels(found.logits) > 0).cpu().numpy(), scores


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
    """[n] IoU of the masks [n, y, x] at a higher and at a lower threshold; the inner lies in the outer."""
    inner = (logits > STABILITY_OFFSET).sum((1, 2))
    outer = (logits > -STABILITY_OFFSET).sum((1, 2))
    return inner / outer.clamp_min(1)


def _distinct(found: Candidates) -> Candidates:
    """The best candidates whose boxes are distinct (non-maximum suppression), greatest predicted IoU first."""
    boxes = _boxes(found.logits > 0).cpu().numpy()
    iou = found.iou.cpu().numpy()
    low, high = boxes[:, :2], boxes[:, 2:]
    area = (high - low).prod(1)
    kept: list[int] = []
    for n in np.argsort(-iou, kind="stable"):
        if area[n] == 0:
            continue
        common = np.clip(np.minimum(high[kept], high[n]) - np.maximum(low[kept], low[n]), 0, None).prod(1)
        if not (common > BOX_IOU * (area[kept] + area[n] - common)).any():
            kept.append(int(n))
    return found.select(torch.tensor(kept, dtype=torch.long, device=found.iou.device))


def _boxes(masks: Tensor) -> Tensor:
    """[n, 4] first row, first column, and those after the last, of masks [n, y, x]; zeros if empty."""
    out = []
    for axis in (2, 1):
        line = masks.any(axis).byte()
        some = line.any(1)
        out.append(line.argmax(1) * some)
        out.append((line.shape[1] - line.flip(1).argmax(1)) * some)
    y0, y1, x0, x1 = out
    return torch.stack([y0, x0, y1, x1], 1)
