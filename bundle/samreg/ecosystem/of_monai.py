"""MetaTensors of MONAI: a leading channel, and an affine in RAS mm unless its `space` says LPS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from samreg.ecosystem.tensors import ras_affine, tensor_values, tensor_volume
from samreg.errors import InputRefused, UsageError
from samreg.geometry import Grid, Volume
from samreg.io.nifti import LPS_FROM_RAS
from samreg.transforms import Transform

if TYPE_CHECKING:
    from monai.data import MetaTensor

LPS_FROM = {"RAS": LPS_FROM_RAS, "LPS": np.eye(4)}


def read(image: Any, *, stored: bool) -> Volume:
    """See `samreg.ecosystem.read_object`."""
    from monai.data import MetaTensor

    if not isinstance(image, MetaTensor):
        raise UsageError(f"the image is of the monai type {type(image).__name__}", "a MetaTensor")
    if image.is_batch:
        raise UsageError("the MetaTensor is a batch", "one image [1, i, j, k]", "Take one image of the batch.")
    space = str(image.meta.get("space", "RAS"))
    if space not in LPS_FROM:
        raise InputRefused(
            f"the MetaTensor states its affine in the space '{space}'",
            f"one of {', '.join(LPS_FROM)}",
            "Set `meta['space']` to the space that the affine is in.",
            reason="no-orientation",
        )
    affine = np.eye(4)
    own = np.asarray(image.affine.detach().cpu(), np.float64)
    n = len(own) - 1  # of a picture it may be [3, 3]
    affine[:n, :n], affine[:n, 3] = own[:n, :n], own[:n, n]
    return tensor_volume(tensor_values(image.as_tensor()), LPS_FROM[space] @ affine, "MetaTensor", stored=stored)


def make_image(volume: Volume) -> MetaTensor:
    """See `samreg.ecosystem.image_as`."""
    from monai.data import MetaTensor

    return MetaTensor(np.array(volume.voxels)[None], affine=ras_affine(volume.grid))


def make_transform(transform: Transform, grid: Grid) -> MetaTensor:
    """See `samreg.ecosystem.transform_as`.

    The moving image must lie on the grid too before `Warp` takes it (`ResampleToMatch`).
    """
    from monai.data import MetaTensor

    displacement = transform.displacement(grid) @ grid.index_from_lps[:3, :3].T
    return MetaTensor(np.moveaxis(displacement, -1, 0).astype(np.float32), affine=ras_affine(grid))
