"""Transforms as files of the ITK world: composite .h5 and .tfm, and NIfTI displacement fields.

All of them are fixed → moving in LPS mm, as everywhere here, so nothing is turned round on the way;
an ITK composite applies the transform added last first, which is the only reversal.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from samreg.errors import InputRefused, UsageError
from samreg.geometry import Grid
from samreg.transforms.base import Transform
from samreg.transforms.composite import Composite
from samreg.transforms.field import DisplacementField, VelocityField
from samreg.transforms.itk_files import ITK_SUFFIXES, read_itk
from samreg.transforms.linear import Affine
from samreg.whole_data import DAMAGE, DamagedDataError, lacking_spacing, open_nifti, read_nifti_voxels, stated_spacings
from samreg.whole_files import whole_file

if TYPE_CHECKING:
    import nibabel
    import SimpleITK

NIFTI_SUFFIXES = (".nii", ".nii.gz")
RAS_INTENT, LPS_INTENT = 1006, 1007  # NIFTI_INTENT_DISPVECT as ITK ≥ 5.3 reads it; …_VECTOR, as ANTs writes it
LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def write_transform(transform: Transform, path: str | Path, *, grid: Grid | None = None) -> None:
    """Write a transform that ITK tools and 3D Slicer read.

    Args:
        transform: Fixed points to moving points.
        path: .h5 or .tfm for an ITK composite, .nii or .nii.gz for a displacement field.
        grid: For NIfTI: where the field is sampled. For ITK files: None writes every part as it is
            (matrices exactly, fields on their own grids); a grid folds all into one field on it,
            which is zero beyond the grid.

    Example:
        write_transform(result.transform, "transform.h5")

    Raises:
        UsageError: Another suffix, NIfTI without a grid, or a transform of unknown make.
    """
    path = Path(path)
    if _suffix(path) in NIFTI_SUFFIXES:
        if grid is None:
            raise UsageError(f"no grid is given for '{path.name}'", "the grid on which the displacement is sampled")
        write_displacement_nifti(transform, grid, path)
        return
    if _suffix(path) not in (".h5", ".tfm"):
        raise UsageError(
            f"the name of the transform file is '{path.name}'", "a name that ends in .h5, .tfm, .nii or .nii.gz"
        )
    import SimpleITK

    if grid is not None:
        transform = DisplacementField(grid, transform.displacement(grid))
    composite = itk_composite(transform)
    with _renamed_when_whole(path) as temporary:
        SimpleITK.WriteTransform(composite, str(temporary))


def write_displacement_nifti(transform: Transform, grid: Grid, path: str | Path) -> None:
    """Write the displacement on a grid as a NIfTI vector image, as ANTs does.

    The header's affine is RAS as NIfTI asks, the vectors are LPS mm (5D, intent 1007, float32).

    Args:
        transform: Fixed points to moving points.
        grid: Where the displacement is taken, in the fixed image's space.
        path: File name that ends in .nii or .nii.gz.

    Raises:
        UsageError: The grid's axes are not perpendicular (ITK would not read the file), or the suffix
            is not .nii or .nii.gz.
    """
    path = Path(path)
    if _suffix(path) not in NIFTI_SUFFIXES:
        raise UsageError(f"the name of the displacement file is '{path.name}'", "a name that ends in .nii or .nii.gz")
    import nibabel

    image = displacement_nifti(transform, grid)
    with _renamed_when_whole(path) as temporary:
        nibabel.save(image, temporary)


def displacement_nifti(transform: Transform, grid: Grid) -> nibabel.Nifti1Image:
    """The displacement on a grid as a vector image of nibabel, as ANTs writes it.

    Returns:
        [i, j, k, 1, 3] float32 LPS mm with intent 1007; the affine is RAS, as NIfTI asks.

    Raises:
        UsageError: The grid's axes are not perpendicular.
    """
    import nibabel

    if grid.is_sheared or np.abs(grid.direction.T @ grid.direction - np.eye(3)).max() > 1e-4:
        raise UsageError(
            "the axes of the grid are not perpendicular", "perpendicular axes for a NIfTI displacement field"
        )
    image = nibabel.Nifti1Image(transform.displacement(grid)[:, :, :, None], LPS_FROM_RAS @ grid.affine)
    image.set_qform(image.affine, code=1)
    image.set_sform(image.affine, code=1)
    image.header.set_xyzt_units("mm")
    image.header.set_intent(LPS_INTENT)
    return image


def read_transform(path: str | Path) -> Transform:
    """Read an ITK transform or a NIfTI displacement field (fixed → moving).

    Args:
        path: .h5, .tfm, .txt or .mat as written by ITK, ANTs, 3D Slicer or SimpleITK: linear transforms,
            displacement fields and composites of them; .nii or .nii.gz: a displacement field.

    Example:
        points_in_moving = read_transform("transform.h5").map_points(points_in_fixed)

    Returns:
        Rigid where a matrix is orthonormal to 1e-6, else Affine; DisplacementField; or a Composite.

    Raises:
        InputRefused: The file is absent, cut, damaged or unreadable, 2D, a list of several transforms, a B-spline or
            another kind without a counterpart here, mirrors space, or holds no displacement field.
    """
    path = Path(path)
    suffix = _suffix(path)
    if suffix not in ITK_SUFFIXES + NIFTI_SUFFIXES:
        raise InputRefused(
            f"transform file '{path.name}'",
            f"one that ends in {', '.join(ITK_SUFFIXES + NIFTI_SUFFIXES)}",
            reason="transform-unsupported",
        )
    if not path.is_file():
        raise InputRefused(f"the transform file '{path}' does not exist", reason="transform-missing")
    try:
        return _read_nifti(path) if suffix in NIFTI_SUFFIXES else read_itk(path)
    except UsageError as error:  # e.g. a matrix that mirrors, a vector that is not finite
        raise InputRefused(
            f"'{path.name}' cannot be applied: {error.got}",
            error.expected,
            error.next_step,
            reason="transform-unsupported",
        ) from error


def _read_nifti(path: Path) -> DisplacementField:
    # nibabel, because ITK takes undefined vectors (NaN) for zero without a word.
    try:
        image = open_nifti(path)
        header = image.header
        shape, intent, units = image.shape, int(header["intent_code"]), header.get_xyzt_units()[0]
        name = header.get_intent()[2]
        codes = int(header["sform_code"]), int(header["qform_code"])
    except DAMAGE as error:
        raise _damaged(path, error) from error
    if len(shape) != 5 or shape[3:] != (1, 3) or intent not in (LPS_INTENT, RAS_INTENT):
        raise InputRefused(
            f"'{path.name}' holds an array of shape {tuple(shape)} with intent {intent}",
            f"a displacement field: shape (i, j, k, 1, 3) with intent {RAS_INTENT} or {LPS_INTENT}",
            "The warps of FSL need conversion to an ITK displacement field.",
            reason="transform-unsupported",
        )
    if name.startswith("NREG"):
        raise InputRefused(
            f"'{path.name}' is a deformation field of NiftyReg (absolute RAS positions)",
            "displacements in LPS mm",
            "Convert it with `reg_transform -disp`, and mind its RAS axes.",
            reason="transform-unsupported",
        )
    if units not in ("mm", "unknown"):
        raise InputRefused(
            f"'{path.name}' is in {units}",
            "millimetres",
            "Write the field again in mm.",
            reason="transform-unsupported",
        )
    if codes == (0, 0):
        raise InputRefused(
            f"'{path.name}' states no orientation (sform and qform code 0)",
            "an sform or a qform",
            "Write the field again with the tool that made it (ITK, ANTs).",
            reason="transform-unsupported",
        )
    if not codes[0] and lacking_spacing(stated_spacings(image, path), shape[:3]):
        raise InputRefused(
            f"'{path.name}' states no spacing (pixdim), by which its qform places vectors",
            "a length above 0 along each axis",
            "Write the field again with the tool that made it (ITK, ANTs).",
            reason="transform-unsupported",
        )
    try:
        vectors = read_nifti_voxels(image, path)[:, :, :, 0].astype(np.float32)
    except DAMAGE as error:
        raise _damaged(path, error) from error
    if intent == RAS_INTENT:
        vectors = vectors * np.array([-1, -1, 1], np.float32)
    return DisplacementField(Grid(shape[:3], LPS_FROM_RAS @ image.affine), vectors)


def _damaged(path: Path, error: Exception) -> InputRefused:
    why = f": {error}" if isinstance(error, DamagedDataError) else ""
    return InputRefused(
        f"'{path.name}' cannot be read{why}", "a whole NIfTI displacement field", reason="transform-unreadable"
    )


def itk_composite(transform: Transform) -> SimpleITK.CompositeTransform:
    """A transform as SimpleITK applies it to points (LPS mm): matrices exactly, fields on their own grids.

    Raises:
        UsageError: A transform of unknown make.
    """
    import SimpleITK

    return SimpleITK.CompositeTransform([_to_itk(part) for part in reversed(leaves(transform))])


def leaves(transform: Transform) -> tuple[Affine | DisplacementField, ...]:
    """The matrices and fields of a transform, in order of application.

    Raises:
        UsageError: A transform of unknown make.
    """
    parts = transform.parts if isinstance(transform, Composite) else (transform,)
    found = [part.field if isinstance(part, VelocityField) else part for part in parts]
    for part in found:
        if not isinstance(part, Affine | DisplacementField):
            raise UsageError(
                f"the transform is a {type(part).__name__}", "matrices, fields and composites of them", "Give a grid."
            )
    return tuple(found)  # type: ignore[arg-type]


def _to_itk(part: Affine | DisplacementField) -> SimpleITK.Transform:
    import SimpleITK

    if isinstance(part, DisplacementField):
        return SimpleITK.DisplacementFieldTransform(_vector_image(part.grid, part.vectors.astype(np.float64)))
    # An affine for rotations too: its matrix is kept to the last bit, where versors and angles
    # lose digits near half a turn (prone against supine).
    affine = SimpleITK.AffineTransform(3)
    affine.SetMatrix(part.moving_from_fixed[:3, :3].ravel().tolist())
    affine.SetTranslation(part.moving_from_fixed[:3, 3].tolist())
    return affine


def _vector_image(grid: Grid, vectors: np.ndarray) -> SimpleITK.Image:
    """[i, j, k, 3] LPS mm as an ITK vector image (k, j, i)."""
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(vectors.transpose(2, 1, 0, 3)), isVector=True)
    image.SetOrigin(grid.origin_lps.tolist())
    image.SetSpacing(grid.spacing_mm.tolist())
    image.SetDirection(grid.direction.ravel().tolist())
    return image


def _suffix(path: Path) -> str:
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()


@contextmanager
def _renamed_when_whole(path: Path) -> Iterator[Path]:
    """A temporary file of the same name, which is read back and takes its place at the end, or is removed.

    Raises:
        UsageError: The folder is absent or cannot be written, or its disk is full.
    """
    if not path.parent.is_dir():
        raise UsageError(f"the folder '{path.parent}' does not exist", "an existing folder to write into")
    try:
        with whole_file(path) as part:
            yield part
            if _suffix(part) != ".h5":
                read_transform(part)  # of a disk that is full, ITK says nothing but for HDF5
    except (OSError, RuntimeError, InputRefused) as error:
        raise UsageError(
            f"'{path}' cannot be written ({error})", "a folder that can be written, and space on its disk"
        ) from error
