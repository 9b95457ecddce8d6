"""Image files: voxels on a grid → NIfTI, NRRD or MetaImage."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from samreg.errors import UsageError
from samreg.geometry import Grid

WRITTEN_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha")


def check_image_name(path: Path) -> None:
    """Refuse a file name whose format cannot be written.

    Raises:
        UsageError: The suffix is not one of `WRITTEN_SUFFIXES`.
    """
    if not path.name.lower().endswith(WRITTEN_SUFFIXES):
        raise UsageError(f"output image '{path.name}'", f"a name ending in one of {', '.join(WRITTEN_SUFFIXES)}")


def write_image(voxels: np.ndarray, grid: Grid, path: Path) -> None:
    """Write [i, j, k] voxels on their grid; the dtype is kept.

    Raises:
        UsageError: The suffix is not one of `WRITTEN_SUFFIXES`.
    """
    check_image_name(path)
    if path.name.lower().endswith((".nii", ".nii.gz")):
        _write_nifti(voxels, grid, path)
    else:
        _write_itk(voxels, grid, path)


def _write_nifti(voxels: np.ndarray, grid: Grid, path: Path) -> None:
    import nibabel

    ras_from_lps = np.diag([-1.0, -1.0, 1.0, 1.0])
    image = nibabel.Nifti1Image(voxels, ras_from_lps @ grid.affine)
    image.set_qform(image.affine, code=1)
    image.set_sform(image.affine, code=1)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def _write_itk(voxels: np.ndarray, grid: Grid, path: Path) -> None:
    import SimpleITK as sitk  # noqa: N813 (its own documentation's name)

    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels.transpose(2, 1, 0)))
    image.SetSpacing([float(s) for s in grid.spacing_mm])
    image.SetOrigin([float(o) for o in grid.origin_lps])
    image.SetDirection([float(d) for d in grid.direction.ravel()])
    sitk.WriteImage(image, str(path), useCompression=True)
