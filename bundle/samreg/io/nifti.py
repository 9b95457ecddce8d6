"""NIfTI files. The only place of the reader that knows RAS."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from samreg.errors import InputRefused
from samreg.geometry import Volume
from samreg.io.arrays import not_greyscale, several_volumes, unreadable, volume_from_array
from samreg.io.limits import refuse_if_too_large
from samreg.io.units import mm_per_unit
from samreg.types import Matrix4
from samreg.whole_data import DAMAGE, lacking_spacing, open_nifti, read_nifti_voxels, stated_spacings

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Pair

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
SAME_SPACING = 0.01  # share by which an sform and pixdim may differ
UNKNOWN_UNIT, SPATIAL_UNITS = 0, {1: "metre", 2: "mm", 3: "micron"}  # the lower three bits of xyzt_units


def read_nifti(path: Path, *, stored: bool = False) -> Volume:
    """A NIfTI image (.nii, .nii.gz) of two or three dimensions.

    The sform is used, else the qform; a file with neither is refused. Of a lone sform whose voxels all have sides of
    1 mm, beside another stated spacing (pixdim), the directions and the origin are used, and that spacing, as ITK
    does. A file that states no unit is in mm.

    Args:
        stored: Keep the type of the values (float64 where the file scales them), instead of float32.

    Raises:
        InputRefused: `unreadable-file` (also where voxels are cut, too many, or fail their checksum),
            `no-orientation`, `no-spacing`, `unknown-unit`, `4d`, `not-greyscale`, `size-limit`, `non-finite-voxels`.
    """
    return nifti_volume(_open(path), path, stored=stored)


def nifti_volume(image: Nifti1Pair, path: Path | None, *, stored: bool = False) -> Volume:
    """A NIfTI image of nibabel, its voxels in memory or still in a file.

    Args:
        image: As nibabel opened or made it.
        path: The file that its voxels are read from, to the last byte; None for voxels in memory.
        stored: As for `read_nifti`.

    Raises:
        InputRefused: As `read_nifti`.
    """
    _check_header(image)
    affine, notes = _affine_lps(image, path)
    if path is None:
        values = np.array(image.dataobj)  # a copy, which does not change when the caller's array does
    else:
        try:
            values = read_nifti_voxels(image, path)
        except DAMAGE as error:
            raise unreadable(path.name, "NIfTI", error) from error
    values = (values if stored else values.astype(np.float32, copy=False)).reshape(nifti_shape(image))
    return volume_from_array(values, affine, name="NIfTI image", notes=notes, stored=stored)


def describe_nifti(path: Path) -> dict[str, Any]:
    """Size and spacing from the header alone.

    Raises:
        InputRefused: As `read_nifti`, except for the voxels.
    """
    image = _open(path)
    _check_header(image)
    affine, _ = _affine_lps(image, path)
    return {"format": "NIfTI", "size": list(nifti_shape(image)), "spacing_mm": np.linalg.norm(affine[:3, :3], axis=0)}


def nifti_shape(image: Nifti1Pair) -> tuple[int, ...]:
    """Size [3]; a picture has one slice."""
    shape = (*(int(n) for n in image.shape), 1, 1)[: max(3, len(image.shape))]
    if any(n != 1 for n in shape[3:]):
        raise several_volumes(shape)
    return shape[:3]


def _open(path: Path) -> Nifti1Pair:
    import nibabel

    try:
        image = open_nifti(path)
    except DAMAGE as error:
        raise unreadable(path.name, "NIfTI", error) from error
    if not isinstance(image, nibabel.Nifti1Pair):
        raise unreadable(path.name, "NIfTI")
    return image


def _check_header(image: Nifti1Pair) -> None:
    """Refuse voxels that are no numbers, and more of them than can be registered."""
    dtype = image.get_data_dtype()
    if dtype.fields is not None or dtype.kind == "c":
        raise not_greyscale("colour" if dtype.fields is not None else "complex")
    refuse_if_too_large(nifti_shape(image))


def _with_stated_spacing(affine: Matrix4, pixdim: np.ndarray, shape: tuple[int, ...]) -> Matrix4 | None:
    """An sform that tells directions alone, with the spacing that the file states beside it; None for any other."""
    spacings = np.asarray(pixdim, np.float64)
    if lacking_spacing(spacings, shape) or not np.allclose(np.linalg.norm(affine[:3, :3], axis=0), 1.0, atol=1e-6):
        return None
    if np.allclose(spacings, 1.0, rtol=SAME_SPACING):
        return None
    return affine @ np.diag([*spacings, 1.0])


def _affine_lps(image: Nifti1Pair, path: Path | None) -> tuple[Matrix4, dict[str, str]]:
    header = image.header
    notes: dict[str, str] = {}
    sform, qform = int(header["sform_code"]), int(header["qform_code"])
    if sform == 0 and qform == 0:
        raise InputRefused(
            "the NIfTI header states no orientation (sform and qform code 0)",
            "an sform or a qform",
            "Write the file again with a tool that keeps orientation and spacing (dcm2niix, 3D Slicer, ITK-SNAP).",
            reason="no-orientation",
        )
    if not sform:
        spacings = np.asarray(image.header["pixdim"][1:4], float) if path is None else stated_spacings(image, path)
        if lacking_spacing(spacings, image.shape):
            raise InputRefused(
                f"the NIfTI header states the spacing {' x '.join(f'{s:g}' for s in spacings)} (pixdim), by which its "
                "qform places voxels",
                "a length above 0 along each axis",
                reason="no-spacing",
            )
    try:
        affine = np.asarray(header.get_sform() if sform else header.get_qform(), np.float64)
    except (ValueError, np.linalg.LinAlgError) as error:
        raise unreadable("the NIfTI header", "an orientation") from error
    if sform and not qform and (sized := _with_stated_spacing(affine, header["pixdim"][1:4], image.shape)) is not None:
        affine = sized
        notes["spacing"] = "the sform gives all voxels sides of 1 mm; the stated spacing (pixdim) was used, as ITK does"
    if sform and qform:
        corner = np.asarray([*image.shape[:3], 1, 1, 1][:3] + [1.0])
        corner[:3] -= 1
        try:
            with np.errstate(invalid="ignore"):
                difference = float(np.abs((affine - header.get_qform()) @ corner)[:3].max())
            how = f"sform and qform differ by up to {difference:.3g} mm"
        except ValueError:
            difference, how = np.inf, "the qform is no rotation"
        if not difference <= 0.1:
            notes["orientation"] = f"{how}; the sform was used"
    code = int(header["xyzt_units"]) % 8
    if code != UNKNOWN_UNIT:
        scale = mm_per_unit(SPATIAL_UNITS.get(code, f"code {code}"), "the NIfTI header")
        if scale != 1.0:
            affine[:3] *= scale
            notes["units"] = f"{SPATIAL_UNITS[code]} converted to mm"
    return LPS_FROM_RAS @ affine, notes
