"""A SAM model on the slices of a volume: each slice is encoded once, for features and prompts alike.

The only place that knows SAM's pixels: x runs along index i, y along j, both from the image's edge.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from samreg.sam.loading import load_sam
from samreg.geometry import Grid, Volume, sample

_MEAN = (123.675, 116.28, 103.53)  # ImageNet, of intensities 0..255, as SAM was trained
_DEVIATION = (58.395, 57.12, 57.375)
_WINDOW = (0.5, 99.5)  # percentiles of the volume that become 0 and 255
_VOLUMES_KEPT = 2


class SamSlices:
    """One loaded model and the embeddings of the last volumes.

    Args:
        weights: See `samreg.sam.loading.load_sam`.
        device: Where the model runs; bfloat16 on a GPU, else float32.
        variant: Row of the family; None: told from the files.

    Raises:
        UsageError: The weights cannot be used.
    """

    def __init__(self, weights: str | Path, device: torch.device | str = "cpu", variant: str | None = None) -> None:
        loaded = load_sam(weights, variant)
        self.variant, self.weights_hash = loaded.variant, loaded.weights_hash
        self.device = torch.device(device)
        self.model = loaded.model.to(self.device)
        self._volumes: OrderedDict[str, EncodedVolume] = OrderedDict()

    def of(self, volume: Volume) -> EncodedVolume:
        """The slices of a volume; embeddings already made are kept for the last two volumes."""
        key = volume.content_hash
        encoded = self._volumes.pop(key, None) or EncodedVolume(self, volume)
        self._volumes[key] = encoded
        while len(self._volumes) > _VOLUMES_KEPT:
            self._volumes.popitem(last=False)
        return encoded

    def precision(self) -> AbstractContextManager[Any]:
        if self.device.type == "cuda":
            return torch.autocast("cuda", torch.bfloat16)
        return nullcontext()

    @property
    def image_size(self) -> int:
        return int(self.model.config.vision_config.image_size)

    @property
    def patch_size(self) -> int:
        return int(self.model.config.vision_config.patch_size)


class EncodedVolume:
    """The slices (axis k) of one volume as SAM sees them."""

    def __init__(self, sam: SamSlices, volume: Volume) -> None:
        self._sam = sam
        self._volume = volume
        self._low, high = (float(p) for p in np.percentile(volume.voxels, _WINDOW))
        self._range = max(high - self._low, 1e-12)
        # The long side in mm fills the model's image, so that the model sees square pixels.
        width_mm, height_mm = volume.grid.extent_mm[:2]
        scale = sam.image_size / max(width_mm, height_mm)
        self.size_xy = max(1, round(width_mm * scale)), max(1, round(height_mm * scale))
        self._embeddings: dict[int, Tensor] = {}

    @property
    def pixels_per_voxel(self) -> np.ndarray:
        """[2] SAM pixels per voxel along i and j."""
        return np.array(self.size_xy) / np.array(self._volume.grid.shape[:2])

    @property
    def cells_xy(self) -> tuple[int, int]:
        """Cells of the embedding that hold a part of the image."""
        x, y = (-(-length // self._sam.patch_size) for length in self.size_xy)
        return x, y

    @property
    def grid(self) -> Grid:
        """Centres of the embedding's cells; cells of padding alone are left out."""
        grid = self._volume.grid
        step = np.append(self._sam.patch_size / self.pixels_per_voxel, 1.0)
        affine = grid.affine.copy()
        affine[:3, :3] = grid.affine[:3, :3] * step
        affine[:3, 3] = grid.lps(((step - 1) / 2)[None])[0]
        return Grid((*self.cells_xy, grid.shape[2]), affine)

    @torch.no_grad()
    def embedding(self, k: int) -> Tensor:
        """float16 [c, y, x] of slice k, padding included, on the model's device."""
        if k not in self._embeddings:
            with self._sam.precision():
                made = self._sam.model.get_image_embeddings(self._pixels(k)[None])[0]
            self._embeddings[k] = made.half()
        return self._embeddings[k]

    @torch.no_grad()
    def masks(self, k: int, points_ij: np.ndarray) -> tuple[Tensor, Tensor]:
        """Three masks for each prompted point.

        Args:
            k: The slice.
            points_ij: [n, 2] continuous voxel indices.

        Returns:
            Logits float32 [n, 3, x, y] at the model's low resolution, padding included, and the
            model's own estimate of their IoU, float32 [n, 3].
        """
        points = torch.as_tensor((points_ij + 0.5) * self.pixels_per_voxel, dtype=torch.float32)
        with self._sam.precision():
            out = self._sam.model(
                image_embeddings=self.embedding(k)[None].float(),
                input_points=points.to(self._sam.device)[None, :, None],
                multimask_output=True,
            )
        return out.pred_masks[0].float().transpose(-1, -2), out.iou_scores[0].float()

    def on_slice(self, logits: Tensor) -> Tensor:
        """Low-resolution logits [n, x, y] at the voxels of a slice [n, i, j]."""
        width, height = self._volume.grid.shape[:2]
        low_per_voxel = self.pixels_per_voxel * logits.shape[-1] / self._sam.image_size
        x, y = (
            (torch.arange(n, device=logits.device, dtype=torch.float32) + 0.5) * float(step) - 0.5
            for n, step in zip((width, height), low_per_voxel, strict=True)
        )
        points = torch.stack([*torch.meshgrid(x, y, indexing="ij"), torch.zeros(width, height, device=x.device)], -1)
        return sample(logits[..., None], points)

    def _pixels(self, k: int) -> Tensor:
        """What the model reads: float32 [3, y, x], padded below and to the right."""
        values = (self._volume.voxels[:, :, k].T - self._low) / self._range * 255
        image = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).clamp(0, 255).to(self._sam.device)
        width, height = self.size_xy
        image = interpolate(image[None, None], size=(height, width), mode="bilinear", antialias=True)[0]
        mean, deviation = (torch.tensor(v, device=image.device)[:, None, None] for v in (_MEAN, _DEVIATION))
        size = self._sam.image_size
        return pad((image - mean) / deviation, (0, size - width, 0, size - height))
