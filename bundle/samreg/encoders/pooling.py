"""Prototypes: one feature vector for each region."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from samreg.encoders.base import Features
from samreg.errors import UsageError
from samreg.rois import Roi, RoiSet
from samreg.types import Matrix4


def pool(features: Features, rois: RoiSet) -> np.ndarray:
    """Mean of the features inside each region, cells weighted by how much of them it fills (SAMReg, Eq. 5).

    Every voxel of a region counts for the feature cell that its centre lies in, so the two grids
    may differ in spacing, and a region smaller than a cell still gets its cell.

    Args:
        features: Of the image.
        rois: Regions of the same image, on any grid of its space.

    Returns:
        Prototypes float32 [n, c].

    Raises:
        UsageError: A region lies outside the features' grid, or features are not finite.

    Example:
        >>> pool(Handcrafted().encode(volume), rois).shape
        (len(rois), 16)
    """
    channels = features.channels.flatten(1)
    cell_from_voxel = features.grid.index_from_lps @ rois.grid.affine
    out = np.empty((len(rois), channels.shape[0]), np.float32)
    for n, roi in enumerate(rois):
        cells = _cells(roi, cell_from_voxel, features.grid.shape)
        if cells.size == 0:
            raise UsageError(f"region {n} lies outside the features' grid", "features of the image of the regions")
        first = int(cells.min())
        count = np.bincount(cells - first)
        where = np.flatnonzero(count)
        weight = torch.as_tensor(count[where] / cells.size, device=channels.device)
        inside = channels[:, torch.as_tensor(where + first, device=channels.device)].double()
        out[n] = (inside @ weight).cpu().numpy()
    if not np.isfinite(out).all():
        raise UsageError("the encoder made features that are not finite numbers", "finite features",
                         "Choose another encoder, or correct your own.")  # fmt: skip
    return out


def _cells(roi: Roi, cell_from_voxel: Matrix4, shape: Sequence[int]) -> np.ndarray:
    """[voxels] flat number of the feature cell around each voxel's centre, without those beyond the grid."""
    flat: np.ndarray = np.zeros((1, 1, 1), np.int64)
    inside: np.ndarray = np.ones((1, 1, 1), bool)
    for row, length in zip(cell_from_voxel[:3], shape, strict=True):
        position: np.ndarray = np.full((1, 1, 1), row[3])
        for axis in np.flatnonzero(np.abs(row[:3]) > 1e-9):  # parallel grids stay separable, hence quick
            index = np.arange(roi.shape[axis]) + roi.start[axis]
            position = position + row[axis] * index.reshape([-1 if a == axis else 1 for a in range(3)])
        cell = np.floor(position + 0.5 + 1e-6).astype(np.int64)
        inside = inside & (cell >= 0) & (cell < length)
        flat = flat * length + cell
    return np.broadcast_to(flat, roi.shape)[roi.box & inside]
