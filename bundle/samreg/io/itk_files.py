"""NRRD and MetaImage files, through SimpleITK, whose space is LPS mm."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

import numpy as np

from samreg.errors import InputRefused
from samreg.geometry import Volume
from samreg.io.arrays import not_greyscale, several_volumes, unreadable, volume_from_array
from samreg.io.limits import refuse_if_too_large
from samreg.types import Matrix4

if TYPE_CHECKING:
    from SimpleITK import ImageFileReader

MAX_HEADER_BYTES = 65536


def read_itk(path: Path, *, stored: bool = False) -> Volume:
    """A NRRD or MetaImage file (.nrrd, .nhdr, .mha, .mhd) of two or three dimensions.

    Args:
        stored: Keep the type of the values, instead of float32.

    Raises:
        InputRefused: `unreadable-file`, `no-orientation`, `no-spacing`, `4d`, `not-greyscale`,
            `outside-folder`, `size-limit`, `non-finite-voxels`.
    """
    import SimpleITK

    reader = _open(path)
    shape = reader.GetSize()
    try:
        values = SimpleITK.GetArrayFromImage(reader.Execute())
    except RuntimeError as error:
        raise unreadable(path.name, _kind(path)) from error
    # ITK's array is [k, j, i].
    values = np.asarray(values, None if stored else np.float32).T.reshape(_three(shape))
    return volume_from_array(values, _affine(reader), name=f"{_kind(path)} image", notes={}, stored=stored)


def describe_itk(path: Path) -> dict[str, Any]:
    """Size and spacing from the header alone.

    Raises:
        InputRefused: As `read_itk`, except for the voxels.
    """
    reader = _open(path)
    spacing = np.linalg.norm(_affine(reader)[:3, :3], axis=0)
    return {"format": _kind(path), "size": list(_three(reader.GetSize())), "spacing_mm": spacing}


def _open(path: Path) -> ImageFileReader:
    import SimpleITK

    _check_header(path)
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("NrrdImageIO" if _kind(path) == "NRRD" else "MetaImageIO")
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise unreadable(path.name, _kind(path)) from error
    refuse_if_too_large(_three(reader.GetSize()))
    if reader.GetNumberOfComponents() != 1:
        raise not_greyscale(f"vectors of {reader.GetNumberOfComponents()} values")
    if "complex" in SimpleITK.GetPixelIDValueAsString(reader.GetPixelID()):
        raise not_greyscale("complex")
    return reader


def _check_header(path: Path) -> None:
    """Refuse what ITK would fill in by itself: a missing space or spacing; and data outside the folder."""
    try:
        with path.open("rb") as file:
            lines = file.read(MAX_HEADER_BYTES).decode("latin-1").splitlines()
    except OSError as error:
        raise unreadable(path.name, _kind(path)) from error
    fields: dict[str, str] = {}
    nrrd = _kind(path) == "NRRD"
    for line in lines:
        if nrrd and not line.strip():
            break
        key, _, value = line.partition(":" if nrrd else "=")
        fields.setdefault(key.strip().lower(), value.strip())
        if key.strip().lower() == "elementdatafile":
            break
    if nrrd and not fields.get("space"):
        raise InputRefused(
            "the NRRD file states no space",
            "'space' and 'space directions' in its header",
            "Write the file again with a tool that keeps orientation and spacing (3D Slicer, SimpleITK).",
            reason="no-orientation",
        )
    if not nrrd and not (fields.get("elementspacing") or fields.get("elementsize")):
        raise InputRefused(
            "the MetaImage file states no spacing",
            "'ElementSpacing' in its header",
            "Write the file again with a tool that keeps orientation and spacing (3D Slicer, SimpleITK).",
            reason="no-spacing",
        )
    data = fields.get("data file" if nrrd else "elementdatafile") or fields.get("datafile", "")
    # A list or a pattern of files follows the name on later lines; those go through ITK's own checks.
    names = [data.split()[0]] if data else []
    if data.lower().split(" ")[0] == "list":
        names += lines[lines.index(next(x for x in lines if "list" in x.lower())) + 1 :]
    if any(_leaves_folder(name) for name in names):
        raise InputRefused(
            "the header points at a data file outside its folder",
            "the data beside the header",
            "Put both files into one folder and name the data without a path.",
            reason="outside-folder",
        )


def _leaves_folder(name: str) -> bool:
    name = name.strip()
    pure = (PurePosixPath(name), PureWindowsPath(name))
    return any(p.is_absolute() or ".." in p.parts for p in pure)


def _affine(reader: ImageFileReader) -> Matrix4:
    """[4, 4] LPS mm of an image of two dimensions (in the plane z = 0) or more."""
    n = min(reader.GetDimension(), 3)
    direction = np.array(reader.GetDirection()).reshape(reader.GetDimension(), -1)
    affine = np.eye(4)
    affine[:n, :n] = direction[:n, :n] * np.array(reader.GetSpacing()[:n])
    affine[:n, 3] = reader.GetOrigin()[:n]
    return affine


def _three(shape: tuple[int, ...]) -> tuple[int, int, int]:
    if any(n != 1 for n in shape[3:]):
        raise several_volumes(shape)
    i, j, k = (*shape, 1)[:3]
    return int(i), int(j), int(k)


def _kind(path: Path) -> str:
    return "NRRD" if path.suffix.lower() in (".nrrd", ".nhdr") else "MetaImage"
