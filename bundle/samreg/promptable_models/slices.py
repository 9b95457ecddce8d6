"""A volume as the slices that a promptable model reads: pixels, embeddings, and masks back on voxels.

A model's x runs along index i and its y along j, both from the image's edge; nothing outside this room
knows its pixels.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from samreg.geometry import Grid, Volume
from samreg.promptable_models.base import EncodedSlice, Masks, PromptableModel
from samreg.promptable_models.cache import SliceCache, key_of
from samreg.threads import OnProgress, in_parallel

Result = TypeVar("Result")
logger = logging.getLogger(__name__)

_WINDOW = (0.5, 99.5)  # percentiles of the volume that become 0 and 1
_VOLUMES_KEPT = 2
_AHEAD_ON_GPU = 4  # slices encoded together
_WHOLE_KEPT = 8  # slices ready for prompts; of the others the embedding alone, as float16


class PromptableSlices:
    """One model and the embeddings of the last volumes.

    Args:
        model: The model.
        cache: Keeps what was made of a slice beyond this process.
    """

    def __init__(self, model: PromptableModel, cache: SliceCache | None = None) -> None:
        self.model = model
        self.cache = cache
        self._volumes: OrderedDict[str, EncodedVolume] = OrderedDict()

    def of(self, volume: Volume) -> EncodedVolume:
        """The slices of a volume; embeddings already made are kept for the last two volumes."""
        key = volume.content_hash
        encoded = self._volumes.pop(key, None) or EncodedVolume(self.model, volume, self.cache)
        self._volumes[key] = encoded
        while len(self._volumes) > _VOLUMES_KEPT:
            self._volumes.popitem(last=False)
        return encoded

    def forget(self) -> None:
        """Let go of all embeddings."""
        self._volumes.clear()


class EncodedVolume:
    """The slices (axis k) of one volume as a model sees them."""

    def __init__(self, model: PromptableModel, volume: Volume, cache: SliceCache | None = None) -> None:
        self._model = model
        self._cache = cache
        self._volume = volume
        self._low, high = (float(p) for p in np.percentile(volume.voxels, _WINDOW))
        self._range = max(high - self._low, 1e-12)
        size = model.side_for(round(float(volume.grid.extent_mm[:2].max() / volume.grid.spacing_mm[:2].min())))
        if model.fit == "stretch":
            self.size_xy = size, size
        else:
            # The long side in mm fills the model's input, so that the model sees square pixels.
            width_mm, height_mm = volume.grid.extent_mm[:2]
            scale = size / max(width_mm, height_mm)
            self.size_xy = max(1, round(width_mm * scale)), max(1, round(height_mm * scale))
        self._ahead = _AHEAD_ON_GPU if model.device.type == "cuda" else 1
        self._embeddings: dict[int, Tensor] = {}
        self._whole: OrderedDict[int, EncodedSlice] = OrderedDict()

    @property
    def pixels_per_voxel(self) -> np.ndarray:
        """[2] pixels of the model per voxel along i and j."""
        return np.array(self.size_xy) / np.array(self._volume.grid.shape[:2])

    @property
    def grid(self) -> Grid:
        """Centres of the embedding's cells; cells of padding alone are left out."""
        grid = self._volume.grid
        step = np.append(self._model.cell_size / self.pixels_per_voxel, 1.0)
        affine = grid.affine.copy()
        affine[:3, :3] = grid.affine[:3, :3] * step
        affine[:3, 3] = grid.lps(((step - 1) / 2)[None])[0]
        x, y = (-(-length // self._model.cell_size) for length in self.size_xy)
        return Grid((x, y, grid.shape[2]), affine)

    def embedding(self, k: int) -> Tensor:
        """float16 [c, x cells, y cells] of slice k on `grid`, on the model's device."""
        if k not in self._embeddings:
            self._encode_from(k)
        x, y, _ = self.grid.shape
        return self._embeddings[k][:, :y, :x].transpose(1, 2)

    def each_slice(self, work: Callable[[int], Result], on_progress: OnProgress | None = None) -> list[Result]:
        """What `work` makes of each slice number, in their order; side by side where the model allows it."""
        count = self._volume.grid.shape[2]
        if self._model.side_by_side:
            return in_parallel(work, range(count), on_progress)
        results = []
        for k in range(count):
            results.append(work(k))
            if on_progress:
                on_progress((k + 1) / count)
        return results

    def prompted(self, k: int) -> PromptedSlice:
        """Slice k, ready for prompts."""
        encoded = self._whole.get(k) or self._encode_from(k)
        return PromptedSlice(self._model, self._model.prepare(encoded), self._volume.grid, self.size_xy)

    def key(self, k: int) -> str:
        """Hash of all that decides what the model makes of slice k."""
        return key_of(self._model.settings_key, self._grey(k).cpu().numpy())

    def _encode_from(self, k: int) -> EncodedSlice:
        """Slice k from the cache, or encoded, and on a GPU the next ones with it."""
        if self._cache is not None and (kept := self._cache.load(self.key(k))) is not None:
            return self._keep(k, EncodedSlice.from_tensors(kept, self._model.device))
        wanted = [n for n in range(k, self._volume.grid.shape[2]) if n == k or n not in self._embeddings]
        first, *others = self._first_of(wanted)
        for n, encoded in zip(wanted, (first, *others), strict=False):
            self._keep(n, encoded)
            if self._cache is not None:
                self._cache.store(self.key(n), encoded.as_tensors())
        return first

    def _first_of(self, wanted: list[int]) -> list[EncodedSlice]:
        """The first of these slices, as many as are encoded together; fewer from now on if memory is full."""
        while True:
            grey = torch.stack([self._grey(n) for n in wanted[: self._ahead]])
            try:
                return self._model.encode(grey)
            except torch.OutOfMemoryError:
                if len(grey) == 1:
                    raise
            self._ahead = len(grey) // 2
            logger.warning(
                "%d slices at once do not fit into memory. The run continues with %d.", len(grey), self._ahead
            )

    def _keep(self, k: int, encoded: EncodedSlice) -> EncodedSlice:
        self._embeddings[k] = encoded.embedding.half()
        self._whole[k] = encoded
        while len(self._whole) > _WHOLE_KEPT:
            self._whole.popitem(last=False)
        return encoded

    def _grey(self, k: int) -> Tensor:
        """Slice k, 0..1, as large as the model sees it: float32 [1, y, x]."""
        values = (self._volume.voxels[:, :, k].T.astype(np.float64) - self._low) / self._range
        image = torch.from_numpy(np.ascontiguousarray(values)).clamp(0, 1).to(self._model.device)
        width, height = self.size_xy
        return interpolate(image[None, None], size=(height, width), mode="bilinear", antialias=True)[0].float()


class PromptedSlice:
    """One slice to which prompts are given in voxel indices.

    Args:
        model, image: The model, and the slice as its decoder needs it.
        grid: Of the volume.
        size_xy: Pixels of the model's input that the slice fills.
    """

    def __init__(self, model: PromptableModel, image: Any, grid: Grid, size_xy: tuple[int, int]) -> None:
        self._model = model
        self._image = image
        self._shape = grid.shape[:2]
        self._size_xy = size_xy
        self._low_per_pixel = 1 / model.mask_size

    @property
    def cell_vox(self) -> np.ndarray:
        """[2] voxels along i and j that a cell of the embedding covers."""
        return self._model.cell_size * np.array(self._shape) / np.array(self._size_xy)

    def at_points(self, points_ij: np.ndarray, *, min_iou: float = float("-inf")) -> Masks:
        """Up to three masks for each foreground point.

        Args:
            points_ij: [p, 2] continuous voxel indices.
            min_iou: A mask of which less is predicted is not made.

        Returns:
            Logits on the part of the decoder's grid that the slice fills; `on_voxels` takes them.
        """
        return self._within(self._model.masks_at_points(self._image, self._pixels(points_ij), min_iou=min_iou))

    def in_boxes(self, boxes_ij: np.ndarray, *, min_iou: float = float("-inf")) -> Masks:
        """Up to three masks for each box.

        Args:
            boxes_ij: [p, 4] i0, j0, i1, j1: continuous voxel indices of opposite corners.
            min_iou: A mask of which less is predicted is not made.
        """
        corners = self._pixels(np.asarray(boxes_ij).reshape(-1, 2)).reshape(-1, 4)
        return self._within(self._model.masks_in_boxes(self._image, corners, min_iou=min_iou))

    def on_voxels(self, logits: Tensor) -> Tensor:
        """Logits [n, y, x] of `at_points` or `in_boxes`, interpolated at the voxels of the slice: [n, i, j]."""
        width, height = self._shape
        if not len(logits):  # which torch does not interpolate
            return logits.new_zeros(0, width, height)
        x, y = (
            count / (pixels * self._low_per_pixel) for count, pixels in zip(self._shape, self._size_xy, strict=True)
        )
        fine = interpolate(logits[None], scale_factor=(y, x), mode="bilinear", recompute_scale_factor=False)
        return fine[0, :, :height, :width].transpose(1, 2)

    def _pixels(self, points_ij: np.ndarray) -> Tensor:
        scale = np.array(self._size_xy) / np.array(self._shape)
        return torch.as_tensor((np.asarray(points_ij) + 0.5) * scale)

    def _within(self, masks: Masks) -> Masks:
        width, height = (math.ceil(pixels * self._low_per_pixel + 0.5) for pixels in self._size_xy)
        return replace(masks, logits=masks.logits[:, :height, :width])
