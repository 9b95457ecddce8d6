"""Image files: voxels on a grid → NIfTI, NRRD or MetaImage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from samreg.errors import InputRefused, OutputInvalid, UsageError
from samreg.geometry import Grid, resample
from samreg.io.itk_headers import read_stored_voxels, read_text_header
from samreg.io.nifti import LPS_FROM_RAS
from samreg.whole_data import DAMAGE, itk_name

if TYPE_CHECKING:
    import nibabel
    import SimpleITK

NIFTI_SUFFIXES = (".nii", ".nii.gz")
WRITTEN_SUFFIXES = (*NIFTI_SUFFIXES, ".nrrd", ".mha")


def check_image_name(path: Path) -> None:
    """Refuse a file name whose format cannot be written.

    Raises:
        UsageError: The suffix is not one of `WRITTEN_SUFFIXES`.
    """
    if not path.name.lower().endswith(WRITTEN_SUFFIXES):
        raise UsageError(
            f"the name of the output image is '{path.name}'", f"a name ending in one of {', '.join(WRITTEN_SUFFIXES)}"
        )


def writable_grid(grid: Grid, path: Path) -> Grid:
    """The grid that an image on `grid` must be put on for a file of this name, so that every reader places it right.

    That is the grid itself, unless its axes are not perpendicular and the file is NIfTI: there an sform alone can say
    so, and programs built on ITK refuse it or put right angles in its place without a word. NRRD and MetaImage keep
    such axes.

    Returns:
        The same grid, or the upright one that covers its field of view (`Grid.upright`).
    """
    return grid.upright() if _is_nifti(path) and grid.is_sheared else grid


def write_image(voxels: np.ndarray, grid: Grid, path: Path) -> None:
    """Write [i, j, k] voxels on their grid; the dtype is kept, integers of 64 bits too.

    Raises:
        UsageError: The suffix is not one of `WRITTEN_SUFFIXES`, or the format cannot say where the voxels
            lie (see `writable_grid`).
        OSError, OutputInvalid: It cannot be written, or not as a whole.
    """
    check_image_name(path)
    if writable_grid(grid, path) is not grid:
        raise UsageError(
            f"the axes of '{path.name}' are not perpendicular (voxels would be misplaced by up to "
            f"{grid.shear_mm:.2f} mm)",
            "perpendicular axes in a NIfTI file",
            "Resample the image to `writable_grid`, or write NRRD or MetaImage.",
        )
    if _is_nifti(path):
        _write_nifti(voxels, grid, path)
    else:
        _write_itk(voxels, grid, path)


def write_labels(labels: np.ndarray, grid: Grid, path: Path) -> None:
    """Write a label map [i, j, k], on the upright grid (nearest neighbour) where its own cannot be written.

    Raises:
        UsageError: The suffix is not one of `WRITTEN_SUFFIXES`.
    """
    target = writable_grid(grid, path)
    write_image(labels if target is grid else resample(labels, grid, target, mode="nearest"), target, path)


def _is_nifti(path: Path) -> bool:
    return path.name.lower().endswith(NIFTI_SUFFIXES)


def nifti_image(voxels: np.ndarray, grid: Grid) -> nibabel.Nifti1Image:
    """[i, j, k] voxels on a grid as an image of nibabel, RAS mm; the dtype is kept.

    The axes of the grid are perpendicular, or the qform cannot say where it lies (see `writable_grid`).
    """
    import nibabel

    # nibabel asks for the dtype by name where it has 64 bits.
    image = nibabel.Nifti1Image(voxels, LPS_FROM_RAS @ grid.affine, dtype=voxels.dtype)
    image.set_qform(image.affine, code=1)
    image.set_sform(image.affine, code=1)
    image.header.set_xyzt_units("mm")
    return image


def itk_image(voxels: np.ndarray, grid: Grid) -> SimpleITK.Image:
    """[i, j, k] voxels on a grid as an image of SimpleITK, LPS mm; the dtype is kept."""
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(voxels.transpose(2, 1, 0)))
    image.SetSpacing([float(s) for s in grid.spacing_mm])
    image.SetOrigin([float(o) for o in grid.origin_lps])
    image.SetDirection([float(d) for d in grid.direction.ravel()])
    return image


def _write_nifti(voxels: np.ndarray, grid: Grid, path: Path) -> None:
    import nibabel

    nibabel.save(nifti_image(voxels, grid), path)


def _write_itk(voxels: np.ndarray, grid: Grid, path: Path) -> None:
    import SimpleITK

    try:
        SimpleITK.WriteImage(itk_image(voxels, grid), itk_name(path), useCompression=True)
        read_stored_voxels(read_text_header(path), voxels.shape, voxels.dtype)  # ITK hardly speaks of a full disk
    except (RuntimeError, InputRefused, *DAMAGE) as error:
        raise OutputInvalid(
            f"'{path.name}' cannot be written as a whole",
            "a folder that can be written, and space on its disk",
            "Make space, or write elsewhere.",
            reason="not-whole",
        ) from error
