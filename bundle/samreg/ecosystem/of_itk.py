"""Images and transforms of the itk package: as SimpleITK's, in classes of a fixed pixel type and dimension."""

from __future__ import annotations

from typing import Any

import numpy as np

from samreg.errors import UsageError
from samreg.geometry import Grid, Volume
from samreg.io.arrays import array_volume, not_greyscale
from samreg.io.itk_files import itk_affine, three_sizes
from samreg.transforms import Affine, DisplacementField, Transform
from samreg.transforms.files import leaves


def read(image: Any, *, stored: bool) -> Volume:
    """See `samreg.ecosystem.read_object`."""
    import itk

    if not (isinstance(image, itk.DataObject) and hasattr(image, "GetLargestPossibleRegion")):
        raise UsageError(f"the image is of the itk type {type(image).__name__}", "an itk.Image")
    image.Update()  # of the filter that it may be the output of
    region = image.GetLargestPossibleRegion()
    shape = three_sizes([int(n) for n in region.GetSize()])
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise not_greyscale(f"vectors of {image.GetNumberOfComponentsPerPixel()} values")
    # The origin is where index 0 lies, which is not the first voxel of a region that was cut out.
    first = list(image.TransformIndexToPhysicalPoint(region.GetIndex()))
    direction = itk.array_from_matrix(image.GetDirection()).ravel().tolist()
    affine = itk_affine(first, list(image.GetSpacing()), direction)
    values = itk.array_view_from_image(image)
    return array_volume(values.T.reshape(shape), affine, name="ITK image", stored=stored)


def make_image(volume: Volume) -> Any:
    """See `samreg.ecosystem.image_as`."""
    import itk

    made = itk.image_from_array(np.ascontiguousarray(volume.voxels.transpose(2, 1, 0)))
    _place(made, volume.grid)
    return made


def make_transform(transform: Transform, grid: Grid) -> Any:
    """See `samreg.ecosystem.transform_as`; exact, so that no grid is needed."""
    import itk

    composite = itk.CompositeTransform[itk.D, 3].New()
    for part in reversed(leaves(transform)):  # ITK applies the one added last first
        composite.AddTransform(_matrix(part) if isinstance(part, Affine) else _field(part))
    return composite


def _matrix(part: Affine) -> Any:
    import itk

    made = itk.AffineTransform[itk.D, 3].New()
    made.SetMatrix(itk.matrix_from_array(np.ascontiguousarray(part.moving_from_fixed[:3, :3])))
    made.SetTranslation(part.moving_from_fixed[:3, 3].tolist())
    return made


def _field(part: DisplacementField) -> Any:
    import itk

    vectors = itk.Image[itk.Vector[itk.D, 3], 3].New()
    vectors.SetRegions([int(n) for n in part.grid.shape])
    vectors.Allocate()
    itk.array_view_from_image(vectors)[:] = part.vectors.transpose(2, 1, 0, 3)
    _place(vectors, part.grid)
    made = itk.DisplacementFieldTransform[itk.D, 3].New()
    made.SetDisplacementField(vectors)
    return made


def _place(image: Any, grid: Grid) -> None:
    import itk

    image.SetOrigin(grid.origin_lps.tolist())
    image.SetSpacing(grid.spacing_mm.tolist())
    image.SetDirection(itk.matrix_from_array(np.ascontiguousarray(grid.direction)))
