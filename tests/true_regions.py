"""A SAM that knows the answer: a random model encodes, the labels of the phantom decide what it says."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from scipy import ndimage

from samreg.promptable_models import Masks
from samreg.promptable_models.slices import EncodedVolume

CODES = np.random.default_rng(5).normal(size=(64, 16))  # of each label; what an embedding holds inside a region


class TrueSlice:
    """Answers each prompt with the true region, a part of it, and nearly the whole slice (which is no region)."""

    def __init__(self, labels: np.ndarray) -> None:
        self.labels = labels

    def at_points(self, points_ij, *, min_iou=float("-inf")) -> Masks:
        masks, iou, prompt = [], [], []
        for n, point in enumerate(np.asarray(points_ij)):
            i, j = np.clip(np.round(point).astype(int), 0, np.array(self.labels.shape) - 1)
            region = self._region(i, j)
            part = np.zeros_like(region)
            part[max(0, i - 1) : i + 2, max(0, j - 1) : j + 2] = True
            masks += [part & region, region, np.ones_like(region)]
            iou += [0.8, 0.95, 0.99]
            prompt += [n] * 3
        return _masks(masks, iou, prompt)

    def in_boxes(self, boxes_ij, *, min_iou=float("-inf")) -> Masks:
        masks = []
        for i0, j0, i1, j1 in np.asarray(boxes_ij):
            box = np.zeros(self.labels.shape, bool)
            box[int(np.ceil(i0)) : int(i1) + 1, int(np.ceil(j0)) : int(j1) + 1] = True
            middle = self._region(int((i0 + i1) / 2), int((j0 + j1) / 2))
            masks.append(middle & box)
        return _masks(masks, [0.9] * len(masks), range(len(masks)))

    def on_voxels(self, logits: torch.Tensor) -> torch.Tensor:
        return logits

    def _region(self, i: int, j: int) -> np.ndarray:
        parts, _ = ndimage.label(self.labels == self.labels[i, j])
        return parts == parts[i, j]


def _masks(masks, iou, prompt) -> Masks:
    logits = torch.as_tensor(np.array(masks)).float() * 20 - 10
    return Masks(logits, torch.tensor(list(iou)), torch.tensor(list(prompt)))


@contextmanager
def true_regions(labels_of: dict[str, np.ndarray]) -> Iterator[None]:
    """Within the block, images (by their content hash) are segmented and embedded as these label maps say.

    Each slice is still encoded by the model, when and as often as it would be.
    """
    prompted, embedding = EncodedVolume.prompted, EncodedVolume.embedding

    def of(encoded: EncodedVolume) -> np.ndarray:
        return labels_of[encoded._volume.content_hash]

    def true_slice(self: EncodedVolume, k: int) -> TrueSlice:
        prompted(self, k)
        return TrueSlice(of(self)[:, :, k])

    def true_embedding(self: EncodedVolume, k: int) -> torch.Tensor:
        embedding(self, k)
        cells = self.grid
        share = np.zeros((*cells.shape[:2], len(CODES)))
        voxels = np.argwhere(np.ones(of(self).shape[:2], bool))
        lps = self._volume.grid.lps(np.c_[voxels, np.full(len(voxels), k)].astype(float))
        x, y = np.clip(np.round(cells.index(lps))[:, :2].astype(int), 0, np.array(cells.shape[:2]) - 1).T
        np.add.at(share, (x, y, of(self)[:, :, k].ravel()), 1)
        return torch.as_tensor((share @ CODES).transpose(2, 0, 1) / max(share.sum(2).max(), 1)).half()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EncodedVolume, "prompted", true_slice)
        patch.setattr(EncodedVolume, "embedding", true_embedding)
        yield
