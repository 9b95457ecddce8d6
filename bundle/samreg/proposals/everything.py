"""Everything mode: a promptable model prompted with a grid of points on every slice."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from samreg.config import ProposalConfig
from samreg.device import out_of_memory
from samreg.errors import UsageError
from samreg.geometry import Volume
from samreg.promptable_models.cache import key_of
from samreg.promptable_models.slices import EncodedVolume, PromptableSlices, PromptedSlice
from samreg.proposals.base import OnProgress
from samreg.proposals.filters import size_limits, within_limits, without_overlap
from samreg.rois import Roi, RoiSet
from samreg.types import Mask

logger = logging.getLogger(__name__)

POINTS_PER_SIDE, CELLS_APART = 16, 1.0  # at most, and cells of the embedding: nearer points are answered alike
MAX_ROIS = 1000  # of an image: of 40 slices, 25 each
STABILITY_OFFSET = 1.0  # logits by which the threshold is moved up and down
STABILITY_MARGIN = 0.2  # by which the stability at the decoder's resolution may differ


@dataclass(frozen=True, eq=False)
class Candidates:
    """Masks of one slice.

    Attributes:
        masks: bool [n, i, j] on the voxels.
        iou, stability: [n] predicted, and of the mask when its threshold moves.
    """

    masks: Tensor
    iou: Tensor
    stability: Tensor

    def __len__(self) -> int:
        return len(self.iou)

    @property
    def scores(self) -> np.ndarray:
        """[n] predicted IoU times stability, 0..1."""
        return (self.iou * self.stability).clamp(0, 1).cpu().numpy()

    def select(self, chosen: Tensor) -> Candidates:
        """Those at these positions, or where this is true."""
        return Candidates(self.masks[chosen], self.iou[chosen], self.stability[chosen])

    def as_tensors(self) -> dict[str, Tensor]:
        """By name, to be kept; eight voxels of a mask in a byte."""
        bits = np.packbits(self.masks.flatten(1).cpu().numpy(), axis=1)
        return {"bits": torch.from_numpy(bits), "iou": self.iou, "stability": self.stability}

    @staticmethod
    def from_tensors(tensors: Mapping[str, Tensor], shape: tuple[int, ...]) -> Candidates:
        """What `as_tensors` gave, of a slice of this shape."""
        count = int(np.prod(shape))
        masks = np.unpackbits(tensors["bits"].numpy(), axis=1, count=count).astype(bool).reshape(-1, *shape)
        return Candidates(torch.from_numpy(masks), tensors["iou"], tensors["stability"])

    @staticmethod
    def on_voxels(image: PromptedSlice, logits: Tensor, iou: Tensor) -> Candidates:
        """Masks at the decoder's resolution (`Masks.logits`, `Masks.iou`), brought to the voxels of their slice."""
        fine = image.on_voxels(logits)
        return Candidates(fine > 0, iou, _stability(fine))

    @staticmethod
    def joined(parts: Sequence[Candidates]) -> Candidates:
        """All candidates of one slice."""
        fields = ((p.masks, p.iou, p.stability) for p in parts)
        return Candidates(*(torch.cat(field) for field in zip(*fields, strict=True)))


class Everything:
    """2D regions of every slice (axis k), by points spread over the slice's body.

    Args:
        slices: The model; share the one of the SAM encoder, so that each slice is encoded once.
    """

    def __init__(self, slices: PromptableSlices) -> None:
        self.slices = slices

    def propose(
        self, volume: Volume, body: Mask, config: ProposalConfig, *, on_progress: OnProgress | None = None
    ) -> RoiSet:
        config = self._resolved(config)
        encoded = self.slices.of(volume)
        smallest, largest = size_limits(volume.grid, body, config, per_slice=True)
        decoding = Decoding(config)

        def of_slice(k: int) -> list[Roi]:
            if not body[:, :, k].any():
                return []
            candidates = self._candidates(encoded, k, body[:, :, k], config, decoding, float(largest[k]))
            masks, scores = candidates.masks.cpu().numpy() & body[:, :, k], candidates.scores
            found = [
                Roi.from_mask(mask[:, :, None], offset=(0, 0, k), score=float(score))
                for mask, score in zip(masks, scores, strict=True)
                if mask.any()
            ]
            return without_overlap(within_limits(found, smallest, largest), config.max_overlap)

        rois = list(chain.from_iterable(encoded.each_slice(of_slice, on_progress)))
        rois.sort(key=lambda roi: -roi.score)
        return RoiSet(volume.grid, tuple(rois[: config.max_rois]), notes=tuple(decoding.notes))

    def _resolved(self, config: ProposalConfig) -> ProposalConfig:
        """With what suits the model and this proposer, where the configuration leaves that open."""
        pred_iou, stability = self.slices.model.least_quality
        return config.with_values(
            {
                "pred_iou": pred_iou if config.pred_iou is None else config.pred_iou,
                "stability": stability if config.stability is None else config.stability,
                "max_rois": MAX_ROIS if config.max_rois is None else config.max_rois,
            }
        )

    def _candidates(
        self,
        encoded: EncodedVolume,
        k: int,
        body: np.ndarray,
        config: ProposalConfig,
        decoding: Decoding,
        largest: float,
    ) -> Candidates:
        """`everything` of slice k, or what is kept of it."""
        cache = self.slices.cache
        if cache is None:
            return everything(encoded.prompted(k), body, config, decoding, largest)
        refill = config.refill and largest  # has no say without
        settings = (config.points_per_side, config.pred_iou, config.stability, config.max_box_iou, refill)
        key = key_of(encoded.key(k), body, repr(settings))
        kept = cache.load(key)
        if kept is not None:
            return Candidates.from_tensors(kept, body.shape)
        found = everything(encoded.prompted(k), body, config, decoding, largest)
        cache.store(key, found.as_tensors())
        return found


class Decoding:
    """Points in batches; a batch that does not fit in memory is halved, for good and not in silence.

    Args:
        config: How many at once, and the IoU and stability they must reach.

    Attributes:
        notes: What had to be changed.
    """

    def __init__(self, config: ProposalConfig) -> None:
        if config.pred_iou is None or config.stability is None:
            raise UsageError(
                "the thresholds of everything mode are not set",
                "a threshold for the predicted IoU and one for the stability",
            )
        self._pred_iou, self._least_stability = config.pred_iou, config.stability
        self._at_once = config.points_per_batch
        self.notes: list[str] = []

    def __call__(self, image: PromptedSlice, points_ij: np.ndarray) -> Candidates:
        """Masks of points [p, 2] that reach the predicted IoU and the stability asked for.

        Raises:
            UsageError: Not even one point fits in memory.
        """
        parts: list[Candidates] = []
        done = 0
        while done < len(points_ij):
            batch = points_ij[done : done + self._at_once]
            try:
                parts.append(self._good(image, batch))
            except torch.OutOfMemoryError as error:
                self._halve(len(batch), error)
                continue
            done += len(batch)
        return Candidates.joined(parts)

    def _good(self, image: PromptedSlice, points_ij: np.ndarray) -> Candidates:
        found = image.at_points(points_ij, min_iou=self._pred_iou)
        # What is clearly unstable at the decoder's resolution is not brought to the voxels.
        chosen = _stability(found.logits) >= self._least_stability - STABILITY_MARGIN
        candidates = Candidates.on_voxels(image, found.logits[chosen], found.iou[chosen])
        return candidates.select(candidates.stability >= self._least_stability)

    def _halve(self, tried: int, error: torch.OutOfMemoryError) -> None:
        if tried <= 1:
            raise out_of_memory("the model and one prompt") from error
        self._at_once = tried // 2
        torch.cuda.empty_cache()
        note = f"everything mode: {tried} points at once did not fit in memory, went on with {self._at_once}"
        logger.warning(note)
        self.notes.append(note)


def everything(
    image: PromptedSlice, body: np.ndarray, config: ProposalConfig, decoding: Decoding, largest: float = math.inf
) -> Candidates:
    """The distinct masks of one slice, greatest predicted IoU first.

    Args:
        image: The slice.
        body: [i, j] where points are set.
        config: Points along each side of the body's box, and whether what they leave uncovered gets its own.
        largest: Voxels of a region; a mask of more (of the whole body, say) covers nothing.
    """
    per_side = _per_side(image, body, config.points_per_side)
    found = _distinct(decoding(image, _points(body, per_side)), config.max_box_iou)
    if config.refill:
        masks = found.masks.cpu().numpy() & body
        covered = masks[masks.sum((1, 2)) <= largest].any(0)
        points = _points(body, 2 * per_side)
        i, j = np.rint(points).astype(int).T
        points = points[~covered[i, j]]
        if len(points):  # what is left may lie between them
            more = decoding(image, points)
            found = _distinct(Candidates.joined([found, more]), config.max_box_iou)
    return found


def _per_side(image: PromptedSlice, body: np.ndarray, asked: int | None) -> np.ndarray:
    """[2] points along i and j of the box of a slice's body [i, j]: so many as are asked for, or as suit it."""
    if asked is not None:
        return np.array([asked, asked])
    extent = np.ptp(np.argwhere(body), axis=0) + 1
    return np.clip(np.ceil(extent / (CELLS_APART * image.cell_vox)), 1, POINTS_PER_SIDE).astype(int)


def _points(body: np.ndarray, per_side: np.ndarray) -> np.ndarray:
    """[n, 2] indices: a grid over the bounding box of a slice's body [i, j], without what falls beside it."""
    inside = np.argwhere(body)
    low, high = inside.min(0), inside.max(0) + 1
    i, j = (a + (np.arange(n) + 0.5) / n * (b - a) - 0.5 for a, b, n in zip(low, high, per_side, strict=True))
    grid = np.stack(np.meshgrid(i, j, indexing="ij"), -1).reshape(-1, 2)
    nearest = np.rint(grid).astype(int)
    on_body = grid[body[nearest[:, 0], nearest[:, 1]]]
    return on_body if len(on_body) else inside[len(inside) // 2][None].astype(float)


def _stability(logits: Tensor) -> Tensor:
    """[n] IoU of the masks [n, ...] at a higher and at a lower threshold; the inner lies in the outer."""
    inner, outer = (_area(logits > threshold) for threshold in (STABILITY_OFFSET, -STABILITY_OFFSET))
    return inner / outer.clamp_min(1)


def _area(masks: Tensor) -> Tensor:
    """[n] true values of masks [n, ...]."""
    if masks.device.type != "cpu":
        return masks.flatten(1).sum(1)
    # torch counts booleans on a CPU twenty times slower than numpy.
    return torch.tensor([np.count_nonzero(mask) for mask in masks.numpy()])


def _distinct(found: Candidates, max_box_iou: float) -> Candidates:
    """The best candidates whose boxes are distinct (non-maximum suppression), greatest predicted IoU first."""
    low, high = (corner.cpu().numpy() for corner in _boxes(found.masks))
    area = (high - low).prod(1)
    kept: list[int] = []
    for n in np.argsort(-found.iou.cpu().numpy(), kind="stable"):
        common = np.clip(np.minimum(high[kept], high[n]) - np.maximum(low[kept], low[n]), 0, None).prod(1)
        if area[n] and not (common > max_box_iou * (area[kept] + area[n] - common)).any():
            kept.append(int(n))
    return found.select(torch.tensor(kept, dtype=torch.long, device=found.iou.device))


def _boxes(masks: Tensor) -> tuple[Tensor, Tensor]:
    """First index, and that after the last, of masks [n, i, j]: [n, 2] each; equal for an empty mask."""
    low, high = [], []
    for other in (2, 1):
        line = masks.any(other).byte()
        filled = line.any(1)
        low.append(line.argmax(1) * filled)
        high.append((line.shape[1] - line.flip(1).argmax(1)) * filled)
    return torch.stack(low, 1), torch.stack(high, 1)
