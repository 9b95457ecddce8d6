"""Images of TorchIO: a leading channel, and an affine in RAS mm. It has no class for a transform that was found."""

from __future__ import annotations

from typing import Any

import numpy as np

from samreg.ecosystem.tensors import ras_affine, tensor_values, tensor_volume
from samreg.errors import UsageError
from samreg.geometry import Volume
from samreg.io.nifti import LPS_FROM_RAS


def read(image: Any, *, stored: bool) -> Volume:
    """See `samreg.ecosystem.read_object`."""
    import torchio

    if not isinstance(image, torchio.Image):
        raise UsageError(
            f"the image is of the torchio type {type(image).__name__}",
            "a ScalarImage or a LabelMap",
            "Take the image out of its Subject.",
        )
    affine = LPS_FROM_RAS @ np.asarray(image.affine, np.float64)
    return tensor_volume(tensor_values(image.data), affine, "TorchIO image", stored=stored)


def make_image(volume: Volume) -> Any:
    """See `samreg.ecosystem.image_as`."""
    import torchio

    return torchio.ScalarImage(tensor=np.array(volume.voxels)[None], affine=ras_affine(volume.grid))
