"""NRRD and MetaImage files: geometry through SimpleITK, whose space is LPS; voxels read to their last byte."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from samreg.errors import InputRefused
from samreg.geometry import Volume
from samreg.io.arrays import not_greyscale, several_volumes, unreadable, volume_from_array
from samreg.io.itk_headers import BYTE_ORDER, TextHeader, read_stored_voxels, read_text_header
from samreg.io.limits import refuse_if_too_large
from samreg.io.units import mm_per_unit
from samreg.refusals.files import NO_ORIENTATION
from samreg.types import Matrix4
from samreg.whole_data import DAMAGE, DamagedDataError, itk_name

if TYPE_CHECKING:
    from SimpleITK import ImageFileReader

DTYPES = {
    **{f"{8 * n}-bit signed integer": np.dtype(f"i{n}") for n in (1, 2, 4, 8)},
    **{f"{8 * n}-bit unsigned integer": np.dtype(f"u{n}") for n in (1, 2, 4, 8)},
    **{f"{8 * n}-bit float": np.dtype(f"f{n}") for n in (4, 8)},
}
# What ITK calls a space that it has turned into LPS; it leaves all others as they are, without a word.
LPS = "left-posterior-superior"
BODY = (LPS, "right-anterior-superior", "left-anterior-superior", "lps", "ras", "las")
UNKNOWN_UNITS = ("", "?", "??", "???", "unknown")


def read_itk(path: Path, *, stored: bool = False) -> Volume:
    """A NRRD or MetaImage file (.nrrd, .nhdr, .mha, .mhd) of two or three dimensions.

    Lengths are in the unit that the file states, else in mm.

    Args:
        stored: Keep the type of the values (float64 where the file scales them), instead of float32.

    Raises:
        InputRefused: `unreadable-file` (also where voxels are cut, too many, or fail their checksum),
            `no-orientation`, `no-spacing`, `unknown-unit`, `4d`, `not-greyscale`, `outside-folder`,
            `size-limit`, `non-finite-voxels`.
    """
    reader, header = _open(path)
    affine, notes = _affine(reader, header)
    try:
        values = read_stored_voxels(header, three_sizes(reader.GetSize()), _dtype(reader))
        slope, offset = _intensity_function(header)
    except DAMAGE as error:
        raise unreadable(path.name, header.kind, error) from error
    if (slope, offset) != (1.0, 0.0):
        values = values * slope + offset
        notes["intensities"] = f"stored numbers x {slope:g} + {offset:g} (ElementToIntensityFunction)"
    if header.kind == "MetaImage" and _dtype(reader).itemsize > 1 and not header.value(*BYTE_ORDER):
        notes["byte_order"] = "the file states no order of bytes; the low byte was taken first"
    values = values if stored else values.astype(np.float32, copy=False)
    return volume_from_array(values, affine, name=f"{header.kind} image", notes=notes, stored=stored)


def describe_itk(path: Path) -> dict[str, Any]:
    """Size and spacing from the header alone.

    Raises:
        InputRefused: As `read_itk`, except for the voxels.
    """
    reader, header = _open(path)
    affine, _ = _affine(reader, header)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    return {"format": header.kind, "size": list(three_sizes(reader.GetSize())), "spacing_mm": spacing}


def _open(path: Path) -> tuple[ImageFileReader, TextHeader]:
    import SimpleITK

    header = read_text_header(path)
    _refuse_what_itk_fills_in(header)
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("NrrdImageIO" if header.kind == "NRRD" else "MetaImageIO")
    try:
        reader.SetFileName(itk_name(path))
        reader.ReadImageInformation()
    except (RuntimeError, DamagedDataError) as error:
        raise unreadable(path.name, header.kind, error) from error
    refuse_if_too_large(three_sizes(reader.GetSize()))
    if reader.GetNumberOfComponents() != 1:
        raise not_greyscale(f"vectors of {reader.GetNumberOfComponents()} values")
    _dtype(reader)
    return reader, header


def _dtype(reader: ImageFileReader) -> np.dtype:
    import SimpleITK

    name = SimpleITK.GetPixelIDValueAsString(reader.GetPixelID()).removeprefix("vector of ")
    if name not in DTYPES:
        raise not_greyscale(name)
    return DTYPES[name]


def _intensity_function(header: TextHeader) -> tuple[float, float]:
    """Slope and offset from stored numbers to intensities, which MetaImage alone can state, and ITK leaves out."""
    slope = float(header.value("ElementToIntensityFunctionSlope") or 1)
    offset = float(header.value("ElementToIntensityFunctionOffset") or 0)
    if not np.isfinite([slope, offset]).all() or slope == 0:
        raise DamagedDataError(f"its intensities are its numbers x {slope:g} + {offset:g}")
    return slope, offset


def _refuse_what_itk_fills_in(header: TextHeader) -> None:
    """A missing space, direction or spacing, which ITK makes up by itself."""
    if header.kind == "NRRD":
        if not header.value("space"):
            raise InputRefused(
                "the NRRD file states no space", "'space' and 'space directions' in its header", reason="no-orientation"
            )
        if header.value("space").lower() not in BODY:
            raise _other_space(header)
        if "(" not in header.value("space directions"):
            raise InputRefused(
                "the NRRD file states no spacing ('space directions')",
                "'space directions' in its header",
                NO_ORIENTATION,
                reason="no-spacing",
            )
        units = len(_units(header))
        if header.value("space units") and units != 3:
            why = f"its header states {units} units in quotation marks ('space units') for the 3 axes of its space"
            raise unreadable(header.path.name, header.kind, DamagedDataError(why))
        return
    if not header.value("ElementSpacing", "ElementSize"):
        raise InputRefused(
            "the MetaImage file states no spacing", "'ElementSpacing' in its header", NO_ORIENTATION,
            reason="no-spacing",
        )  # fmt: skip
    orientation = header.value("AnatomicalOrientation")
    stated = header.value("TransformMatrix", "Rotation", "Orientation")
    if not stated and not set(orientation) <= {"?"} and orientation[:3] != "RAI":
        raise InputRefused(
            f"the MetaImage file states the orientation {orientation} without the matrix that readers go by",
            "'TransformMatrix' in its header",
            reason="no-orientation",
        )


def _affine(reader: ImageFileReader, header: TextHeader) -> tuple[Matrix4, dict[str, str]]:
    """[4, 4] LPS mm of an image of two dimensions (in the plane z = 0) or more, and notes."""
    _refuse_other_spaces(reader, header)
    spacing = reader.GetSpacing()
    if not (np.array(spacing[:3]) > 0).all():
        raise InputRefused(
            f"the {header.kind} file states the spacing {' x '.join(f'{s:g}' for s in spacing)}",
            "a length above 0 along each axis",
            NO_ORIENTATION,
            reason="no-spacing",
        )
    affine = itk_affine(reader.GetOrigin(), spacing, reader.GetDirection())
    notes: dict[str, str] = {}
    names = ("space origin",) if header.kind == "NRRD" else ("Offset", "Position", "Origin")
    if not header.value(*names):
        notes["origin"] = "the file states no origin; its first voxel was placed at 0 0 0"
    if header.kind == "MetaImage" and not header.value("TransformMatrix", "Rotation", "Orientation"):
        notes["orientation"] = "the file states no TransformMatrix; its axes were taken as left, posterior, superior"
    orientation = header.value("AnatomicalOrientation")[:3]
    if set(orientation) <= set("RLAPIS") and "orientation" not in notes:
        letters = _orientation(affine[:3, :3])
        if letters and orientation not in ("", letters):
            notes["orientation"] = f"AnatomicalOrientation {orientation} contradicts the TransformMatrix ({letters})"
    for axis, unit in enumerate(_units(header)[: reader.GetDimension()]):
        scale = 1.0 if unit.strip().lower() in UNKNOWN_UNITS else mm_per_unit(unit, f"the {header.kind} file")
        affine[axis] *= scale
        if scale != 1.0:
            notes["units"] = f"{unit} converted to mm"
    return affine, notes


def _orientation(axes: np.ndarray) -> str:
    """From which sides of the body the axes (columns, LPS) run, as MetaImage names it; empty where oblique."""
    directions = axes / np.linalg.norm(axes, axis=0)
    main = np.abs(directions).argmax(axis=0)
    if sorted(main) != [0, 1, 2] or np.abs(directions).max(axis=0).min() < 0.9:
        return ""
    return "".join(("RL", "AP", "IS")[main[a]][int(directions[main[a], a] < 0)] for a in range(3))


def _refuse_other_spaces(reader: ImageFileReader, header: TextHeader) -> None:
    if header.kind == "NRRD" and not (reader.HasMetaDataKey("NRRD_space") and reader.GetMetaData("NRRD_space") == LPS):
        raise _other_space(header)


def _other_space(header: TextHeader) -> InputRefused:
    return InputRefused(
        f"the space of the NRRD file is '{header.value('space')}', which does not say where the patient's "
        "left, back and head are",
        "left-posterior-superior, right-anterior-superior or left-anterior-superior",
        "Convert the image again from its original; or, if the directions are known, state them as 'space' in "
        "the header.",
        reason="no-orientation",
    )


def _units(header: TextHeader) -> list[str]:
    """The unit along each axis of space, as stated; none where the file states none."""
    if header.kind == "MetaImage":
        return [header.value("DistanceUnits")] * 3
    return re.findall(r'"([^"]*)"', header.value("space units"))


def itk_affine(origin: Sequence[float], spacing_mm: Sequence[float], direction: Sequence[float]) -> Matrix4:
    """[4, 4] LPS mm of an image of two dimensions (in the plane z = 0) or more, as ITK states it.

    Args:
        origin: LPS mm of the first voxel, [n].
        spacing_mm: [n].
        direction: Cosines [n * n], row by row.
    """
    n = min(len(origin), 3)
    affine = np.eye(4)
    affine[:n, :n] = np.reshape(direction, (len(origin), -1))[:n, :n] * np.array(spacing_mm[:n])
    affine[:n, 3] = origin[:n]
    return affine


def three_sizes(shape: Sequence[int]) -> tuple[int, int, int]:
    """The size of an image as [3]: a picture has one slice.

    Raises:
        InputRefused: `4d`.
    """
    if any(n != 1 for n in shape[3:]):
        raise several_volumes(tuple(shape))
    i, j, k = (*shape, 1)[:3]
    return int(i), int(j), int(k)
