"""One entry for every image format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from samreg.errors import InputRefused, UsageError
from samreg.geometry import Volume
from samreg.io.dicom_check import check_series
from samreg.io.dicom_folder import Series, choose_series, find_series
from samreg.io.dicom_headers import MODALITIES, is_dicom
from samreg.io.dicom_read import read_series
from samreg.io.itk_files import describe_itk, read_itk
from samreg.io.nifti import describe_nifti, read_nifti
from samreg.io.pictures import describe_picture, read_picture

Format = Literal["DICOM", "NIfTI", "ITK", "picture"]
Source = Path | str | Series

_SUFFIXES: dict[str, Format] = {
    ".dcm": "DICOM",
    ".ima": "DICOM",
    ".nii": "NIfTI",
    ".nii.gz": "NIfTI",
    ".nrrd": "ITK",
    ".nhdr": "ITK",
    ".mha": "ITK",
    ".mhd": "ITK",
    ".png": "picture",
    ".jpg": "picture",
    ".jpeg": "picture",
    ".tif": "picture",
    ".tiff": "picture",
}


def image_format(source: Source) -> Format:
    """Which reader an image needs.

    Raises:
        InputRefused: `no-such-path`, `unknown-format`.
    """
    if isinstance(source, Series):
        return "DICOM"
    path = Path(source)
    if not path.exists():
        raise InputRefused(f"'{path.name}' does not exist", reason="no-such-path")
    if path.is_dir():
        return "DICOM"
    name = path.name.lower()
    for suffix, kind in _SUFFIXES.items():
        if name.endswith(suffix):
            return kind
    if path.is_file() and is_dicom(path):
        return "DICOM"
    raise InputRefused(
        f"'{path.name}' is of no known format",
        f"a DICOM folder or file, or one of {' '.join(_SUFFIXES)}",
        reason="unknown-format",
    )


def find_source(source: Source, series_uid: str | None = None, *, as_files: bool = False) -> Path | Series:
    """The DICOM series that a path means, or the path itself for other formats; from headers alone.

    Raises:
        UsageError: A series was chosen for a format without series.
        InputRefused: As `image_format`, `find_series` and `choose_series`.
    """
    if image_format(source) == "DICOM":
        return (
            source if isinstance(source, Series) else choose_series(find_series(source, as_files=as_files), series_uid)
        )
    if series_uid:
        raise UsageError(
            "a series UID is given for an image that is not DICOM", "a DICOM folder", "Leave the series UID out."
        )
    return Path(source)  # type: ignore[arg-type]


def read_image(
    path: Source,
    *,
    series_uid: str | None = None,
    pixel_spacing_mm: Sequence[float] | None = None,
    as_files: bool = False,
) -> Volume:
    """An image of any supported format as a volume in LPS mm.

    Args:
        path: DICOM folder or file, NIfTI (.nii, .nii.gz), NRRD (.nrrd, .nhdr), MetaImage (.mha, .mhd),
            picture (.png, .jpg, .tif), or a series from `find_series` or `find_pair`.
        series_uid: Which series of a DICOM folder; needed where there are several.
        pixel_spacing_mm: Of a picture, (along x, along y); needed unless a PNG or TIFF states it.
        as_files: No DICOM object will refer to the image, so that nothing is asked of a series' identifiers.

    Returns:
        Voxels float32 [i, j, k]; `notes` says what was skipped or converted.

    Raises:
        UsageError: An option that does not fit the format.
        InputRefused: The image is not safe to register; `reason` says why.

    Example:
        volume = read_image("study/t1")
    """
    source = find_source(path, series_uid, as_files=as_files)
    kind = image_format(source)
    _check_spacing(pixel_spacing_mm, kind)
    if isinstance(source, Series):
        return read_series(source, as_files=as_files)
    if kind == "NIfTI":
        return read_nifti(source)
    if kind == "ITK":
        return read_itk(source)
    return read_picture(source, pixel_spacing_mm)


def read_stored(path: Path | str, *, pixel_spacing_mm: Sequence[float] | None = None) -> Volume:
    """An image file with its values in the type that it stores them in, as label numbers need them.

    Args:
        path: NIfTI, NRRD, MetaImage or picture.
        pixel_spacing_mm: As for `read_image`.

    Returns:
        Voxels [i, j, k] of the file's own type; float64 where a NIfTI header scales them, float32 where a
        picture is in colour.

    Raises:
        UsageError: A DICOM source, or an option that does not fit the format.
        InputRefused: As `read_image`.
    """
    kind = image_format(path)
    if kind == "DICOM":
        raise UsageError("the image is DICOM", "an image file", "Read it with `read_image`.")
    _check_spacing(pixel_spacing_mm, kind)
    if kind == "picture":
        return read_picture(Path(path), pixel_spacing_mm, stored=True)
    return read_nifti(Path(path), stored=True) if kind == "NIfTI" else read_itk(Path(path), stored=True)


def _check_spacing(pixel_spacing_mm: Sequence[float] | None, kind: Format) -> None:
    """Refuse a spacing given for a format that states its own.

    Raises:
        UsageError: It is given, and the image is no picture.
    """
    if pixel_spacing_mm is not None and kind != "picture":
        raise UsageError(
            f"a pixel spacing is given for an image of format {kind}",
            "a picture (PNG, JPEG, TIFF)",
            "Leave it out, since this format states its own.",
        )


def describe(
    path: Source,
    *,
    series_uid: str | None = None,
    pixel_spacing_mm: Sequence[float] | None = None,
    as_files: bool = False,
) -> dict[str, Any]:
    """What an image is, from its headers alone, for a dry run. Holds no patient data.

    Args:
        path, series_uid, pixel_spacing_mm, as_files: As for `read_image`.

    Returns:
        `format`, `size` [3], `spacing_mm` [3], `slices`, `modality`, `notes` (None or empty where unknown), and
        `refused`: None, or why it would be refused (`reason`, `got`, `expected`, `next_step`). Damaged
        pixels show only when they are read.

    Raises:
        UsageError: An option that does not fit the format.
    """
    out: dict[str, Any] = {"format": None, "size": None, "spacing_mm": None, "slices": None, "modality": None}
    out |= {"notes": {}, "refused": None}
    try:
        kind = image_format(path)
        out["format"] = kind
        source = find_source(path, series_uid, as_files=as_files)
        if isinstance(source, Series):
            modality = source.modality if source.modality in MODALITIES else None
            out |= {"modality": modality, "notes": dict(source.notes)}
            grid = check_series(source, as_files=as_files).grid
            out |= {"size": list(grid.shape), "spacing_mm": grid.spacing_mm}
        elif kind == "NIfTI":
            out |= describe_nifti(source)
        elif kind == "ITK":
            out |= describe_itk(source)
        else:
            out |= describe_picture(source, pixel_spacing_mm)
    except InputRefused as refusal:
        out["refused"] = refusal.as_dict()
        return out
    out["slices"] = out["size"][2]
    out["spacing_mm"] = [round(float(s), 6) for s in out["spacing_mm"]]
    return out
