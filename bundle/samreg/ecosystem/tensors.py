"""What images of torch tensors have in common: a leading channel [c, i, j, k], and an affine in RAS mm."""

from __future__ import annotations

import numpy as np
import torch

from samreg.errors import InputRefused
from samreg.geometry import Grid, Volume
from samreg.io.arrays import array_volume, not_greyscale
from samreg.io.nifti import LPS_FROM_RAS
from samreg.types import Matrix4


def tensor_values(tensor: torch.Tensor) -> np.ndarray:
    """The values of a tensor on any device; floating types that numpy lacks become float32."""
    if tensor.is_floating_point() and tensor.dtype != torch.float64:
        tensor = tensor.float()
    return tensor.detach().cpu().numpy()


def tensor_volume(values: np.ndarray, affine: Matrix4, name: str, *, stored: bool) -> Volume:
    """A volume from values [1, i, j, k] or [1, i, j] and an affine (LPS mm).

    Raises:
        InputRefused: `4d` without the leading channel; `not-greyscale` for several channels; as `array_volume`.
    """
    if values.ndim not in (3, 4):
        raise InputRefused(
            f"the {name} has the shape {' x '.join(map(str, values.shape))}", "one volume [1, i, j, k]", reason="4d"
        )
    if len(values) != 1:
        raise not_greyscale(f"vectors of {len(values)} values, along the first axis of the {name}")
    return array_volume(values[0], affine, name=name, stored=stored)


def ras_affine(grid: Grid) -> Matrix4:
    """[4, 4] RAS mm of a voxel centre from its index."""
    return LPS_FROM_RAS @ grid.affine
