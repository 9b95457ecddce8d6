"""Images and transforms of SimpleITK: LPS mm, indexed (i, j, k), with arrays in the order (k, j, i)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from samreg.errors import UsageError
from samreg.geometry import Grid, Volume
from samreg.io.arrays import array_volume, not_greyscale
from samreg.io.itk_files import itk_affine, three_sizes
from samreg.io.writing import itk_image
from samreg.transforms import Transform
from samreg.transforms.files import itk_composite

if TYPE_CHECKING:
    import SimpleITK


def read(image: Any, *, stored: bool) -> Volume:
    """See `samreg.ecosystem.read_object`."""
    import SimpleITK

    if not isinstance(image, SimpleITK.Image):
        raise UsageError(f"the image is of the SimpleITK type {type(image).__name__}", "an Image")
    shape = three_sizes(image.GetSize())
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise not_greyscale(f"vectors of {image.GetNumberOfComponentsPerPixel()} values")
    affine = itk_affine(image.GetOrigin(), image.GetSpacing(), image.GetDirection())
    values = SimpleITK.GetArrayViewFromImage(image)
    return array_volume(values.T.reshape(shape), affine, name="SimpleITK image", stored=stored)


def make_image(volume: Volume) -> SimpleITK.Image:
    """See `samreg.ecosystem.image_as`."""
    return itk_image(np.asarray(volume.voxels), volume.grid)


def make_transform(transform: Transform, grid: Grid) -> SimpleITK.CompositeTransform:
    """See `samreg.ecosystem.transform_as`; exact, so that no grid is needed."""
    return itk_composite(transform)
