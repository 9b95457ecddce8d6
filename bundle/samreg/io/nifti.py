"""NIfTI files. The only place of the reader that knows RAS."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from samreg.errors import InputRefused
from samreg.geometry import Volume
from samreg.io.arrays import not_greyscale, several_volumes, unreadable, volume_from_array
from samreg.io.limits import refuse_if_too_large
from samreg.types import Matrix4

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Pair

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
MM_PER_UNIT = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}


def read_nifti(path: Path, *, stored: bool = False) -> Volume:
    """A NIfTI image (.nii, .nii.gz) of two or three dimensions.

    The sform is used, else the qform; a file with neither is refused.

    Args:
        stored: Keep the type of the values (float64 where the file scales them), instead of float32.

    Raises:
        InputRefused: `unreadable-file`, `no-orientation`, `4d`, `not-greyscale`, `size-limit`,
            `non-finite-voxels`.
    """
    image = _open(path)
    affine, notes = _affine_lps(image)
    try:
        values = np.asarray(image.dataobj, dtype=None if stored else np.float32)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise unreadable(path.name, "NIfTI") from error
    shape = nifti_shape(image)
    return volume_from_array(values.reshape(shape), affine, name="NIfTI image", notes=notes, stored=stored)


def describe_nifti(path: Path) -> dict[str, Any]:
    """Size and spacing from the header alone.

    Raises:
        InputRefused: As `read_nifti`, except for the voxels.
    """
    image = _open(path)
    affine, _ = _affine_lps(image)
    return {"format": "NIfTI", "size": list(nifti_shape(image)), "spacing_mm": np.linalg.norm(affine[:3, :3], axis=0)}


def nifti_shape(image: Nifti1Pair) -> tuple[int, ...]:
    """Size [3]; a picture has one slice."""
    shape = (*(int(n) for n in image.shape), 1, 1)[: max(3, len(image.shape))]
    if any(n != 1 for n in shape[3:]):
        raise several_volumes(shape)
    return shape[:3]


def _open(path: Path) -> Nifti1Pair:
    import nibabel
    from nibabel.imageglobals import LoggingOutputSuppressor

    try:
        with LoggingOutputSuppressor():  # it prints what it raises as well
            image = nibabel.load(path)
    except (nibabel.filebasedimages.ImageFileError, OSError, EOFError, ValueError, KeyError, zlib.error) as error:
        raise unreadable(path.name, "NIfTI") from error
    if not isinstance(image, nibabel.Nifti1Pair):
        raise unreadable(path.name, "NIfTI")
    dtype = image.get_data_dtype()
    if dtype.fields is not None or dtype.kind == "c":
        raise not_greyscale("colour" if dtype.fields is not None else "complex")
    refuse_if_too_large(nifti_shape(image))
    return image


def _affine_lps(image: Nifti1Pair) -> tuple[Matrix4, dict[str, str]]:
    header = image.header
    notes: dict[str, str] = {}
    sform, qform = int(header["sform_code"]), int(header["qform_code"])
    if sform == 0 and qform == 0:
        raise InputRefused(
            "the NIfTI file states no orientation (sform and qform code 0)",
            "an sform or a qform",
            "Write the file again with a tool that keeps orientation and spacing (dcm2niix, 3D Slicer, ITK-SNAP).",
            reason="no-orientation",
        )
    try:
        affine = np.asarray(header.get_sform() if sform else header.get_qform(), np.float64)
    except (ValueError, np.linalg.LinAlgError) as error:
        raise unreadable("the NIfTI header", "an orientation") from error
    if sform and qform:
        corner = np.asarray([*image.shape[:3], 1, 1, 1][:3] + [1.0])
        corner[:3] -= 1
        difference = float(np.abs((affine - header.get_qform()) @ corner)[:3].max())
        if not difference <= 0.1:
            notes["orientation"] = f"sform and qform differ by up to {difference:.3g} mm; the sform was used"
    unit = header.get_xyzt_units()[0]
    scale = MM_PER_UNIT.get(unit, 1.0)
    if scale != 1.0:
        affine[:3] *= scale
        notes["units"] = f"{unit} converted to mm"
    return LPS_FROM_RAS @ affine, notes
