"""Images of nibabel: NIfTI in RAS mm, read by the rules of NIfTI files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from samreg.errors import UsageError
from samreg.geometry import Grid, Volume
from samreg.io.nifti import nifti_volume
from samreg.io.writing import NIFTI_SUFFIXES, nifti_image
from samreg.transforms import Transform
from samreg.transforms.files import displacement_nifti

if TYPE_CHECKING:
    import nibabel


def read(image: Any, *, stored: bool) -> Volume:
    """See `samreg.ecosystem.read_object`."""
    import nibabel

    if not isinstance(image, nibabel.Nifti1Pair):
        raise UsageError(
            f"the image is of the nibabel type {type(image).__name__}",
            "a Nifti1Image, Nifti2Image or Nifti1Pair",
            "Convert it with `nibabel.Nifti1Image.from_image`.",
        )
    # A copy whose header says what nibabel would write, as where the affine was changed in place.
    current = type(image)(image.dataobj, image.affine, image.header)
    return nifti_volume(current, _file_of(image), stored=stored)


def _file_of(image: nibabel.Nifti1Pair) -> Path | None:
    """The file that the voxels still lie in, which is then read to its last byte."""
    import nibabel

    name = image.get_filename() if nibabel.is_proxy(image.dataobj) else None
    return Path(name) if name and str(name).lower().endswith(NIFTI_SUFFIXES) else None


def make_image(volume: Volume) -> nibabel.Nifti1Image:
    """See `samreg.ecosystem.image_as`."""
    return nifti_image(np.asarray(volume.voxels), volume.grid)


def make_transform(transform: Transform, grid: Grid) -> nibabel.Nifti1Image:
    """See `samreg.ecosystem.transform_as`."""
    return displacement_nifti(transform, grid)
