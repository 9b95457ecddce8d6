"""A fixed and a moving image that may be registered with each other."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from samreg.errors import InputRefused, UsageError, reading
from samreg.geometry import Volume
from samreg.io.dicom_folder import Series
from samreg.io.dicom_headers import quiet, text
from samreg.io.formats import Source, describe, find_source, image_format, read_image
from samreg.io.identifiers import invalid, repeated
from samreg.io.patient import patient_objection
from samreg.refusals.series import AS_FILES

logger = logging.getLogger(__name__)

ROLES = ("fixed", "moving")

_BY_CHANCE = f"; if only their identifiers are the same, anonymise again with new UIDs, {AS_FILES}"


def read_pair(
    fixed: Source,
    moving: Source,
    *,
    fixed_series: str | None = None,
    moving_series: str | None = None,
    allow_different_patients: bool = False,
    pixel_spacing_mm: Sequence[float] | None = None,
    as_files: bool = False,
) -> tuple[Volume, Volume]:
    """The two images of a registration, after checking that they belong together.

    Args:
        fixed, moving: Paths, or series from `find_pair`; see `read_image`.
        fixed_series, moving_series: SeriesInstanceUIDs, where a folder holds several series.
        allow_different_patients: Register although the patients differ or have no ID. This is
            logged as a warning and noted in both volumes, without any value.
        pixel_spacing_mm: (along x, along y) of the pictures among the two.
        as_files: No DICOM object will refer to the images, so that nothing is asked of their identifiers; series
            that share some are then the same if they hold the same voxels. So too where one is not DICOM.

    Returns:
        The fixed and the moving volume. `notes` holds `patient_check` where it was overridden or
        was not possible (one image is not DICOM), and `identical` where the voxels are the same.

    Raises:
        UsageError: An option that does not fit the formats.
        InputRefused: `same-series`, `different-patients`, `no-patient-id`, `mixed-dimensions`, or as
            `read_image`.

    Example:
        fixed, moving = read_pair("study/2020/t1", "study/2024/t1")
    """
    as_files = as_files or _one_is_a_file(fixed, moving)
    a, b = _found((fixed, fixed_series), (moving, moving_series), as_files=as_files)
    alike = _refuse_same(a, b, as_files)
    note = _patient_note(a, b, allow_different_patients)
    pictures = [image_format(s) == "picture" for s in (a, b)]
    if pixel_spacing_mm is not None and not any(pictures):
        raise UsageError(
            "a pixel spacing is given and neither image is a picture", "a picture among the two images", "Leave it out."
        )
    volumes = []
    for role, s, is_picture in zip(ROLES, (a, b), pictures, strict=True):
        with reading(role):
            volumes.append(read_image(s, pixel_spacing_mm=pixel_spacing_mm if is_picture else None, as_files=as_files))
    if volumes[0].grid.is_2d != volumes[1].grid.is_2d:
        raise _mixed_dimensions(*(("2D" if v.grid.is_2d else "3D") for v in volumes))
    if np.array_equal(volumes[0].voxels, volumes[1].voxels):
        if alike:
            raise same_series("as fixed and as moving image, or a copy of it")
        note = note | {"identical": "Both images hold the same voxels: is one a copy of the other?"}
    first, second = (replace(v, notes={**v.notes, **note}) for v in volumes)
    return first, second


def describe_pair(
    fixed: Source,
    moving: Source,
    *,
    fixed_series: str | None = None,
    moving_series: str | None = None,
    allow_different_patients: bool = False,
    pixel_spacing_mm: Sequence[float] | None = None,
    as_files: bool = False,
) -> dict[str, Any]:
    """Both images from their headers alone, for a dry run. Holds no patient data.

    Args:
        fixed, moving, fixed_series, moving_series: As for `read_pair`.
        allow_different_patients, pixel_spacing_mm, as_files: As for `read_pair`.

    Returns:
        `fixed` and `moving` as from `describe`, and `refused`: None, or the first reason why the
        pair would be refused, with the `role` of the image where it is one of them.
    """
    as_files = as_files or _one_is_a_file(fixed, moving)
    sides = (fixed, fixed_series), (moving, moving_series)
    out: dict[str, Any] = {"refused": None}
    for role, (source, uid) in zip(ROLES, sides, strict=True):
        out[role] = describe(source, series_uid=uid, pixel_spacing_mm=pixel_spacing_mm, as_files=as_files)
        if out[role]["refused"] and not out["refused"]:
            out["refused"] = out[role]["refused"] | {"role": role}
    if out["refused"] is None:
        try:
            a, b = _found(*sides, as_files=as_files)
            _refuse_same(a, b, as_files)
            _patient_note(a, b, allow_different_patients)
            dimensions = ["2D" if out[name]["slices"] == 1 else "3D" for name in ROLES]
            if dimensions[0] != dimensions[1]:
                raise _mixed_dimensions(*dimensions)
        except InputRefused as refusal:
            out["refused"] = refusal.as_dict()
    return out


def _found(
    fixed: tuple[Source, str | None], moving: tuple[Source, str | None], *, as_files: bool
) -> list[Path | Series]:
    """Both images by their source and series UID."""
    found = []
    for role, (source, uid) in zip(ROLES, (fixed, moving), strict=True):
        with reading(role):
            found.append(find_source(source, uid, as_files=as_files))
    return found


def _one_is_a_file(*sources: Source) -> bool:
    """Whether an image is not DICOM, so that no DICOM object can come of the pair."""
    try:
        return any(image_format(source) != "DICOM" for source in sources)
    except InputRefused:
        return False  # told when it is read


def _refuse_same(fixed: Path | Series, moving: Path | Series, as_files: bool) -> bool:
    """Refuse one image in both roles; whether two series share identifiers that prove nothing (`as_files`)."""
    if isinstance(fixed, Series) and isinstance(moving, Series):
        with quiet():
            ours, theirs = ({text(h, "SOPInstanceUID") for h in s.headers} - {""} for s in (fixed, moving))
        alike = bool((fixed.series_uid and fixed.series_uid == moving.series_uid) or ours & theirs)
        files = {file.resolve() for file in fixed.files}
        if (alike and not as_files) or any(file.resolve() in files for file in moving.files):
            for series in () if as_files else (fixed, moving):
                if unsound := invalid(series.headers) or repeated(series.headers):
                    raise unsound  # what two series share by chance does not make them one
            raise same_series("as fixed and as moving image, or a copy of it", _BY_CHANCE if alike else "")
        return alike
    if isinstance(fixed, Path) and isinstance(moving, Path) and fixed.samefile(moving):
        raise same_series("as fixed and as moving image")
    return False


def same_series(how: str, otherwise: str = "") -> InputRefused:
    """One image in both roles; `otherwise` adds another way out."""
    return InputRefused(
        f"the same image is given twice ({how})",
        next_step=f"Give the other image as fixed or moving{otherwise}.",
        reason="same-series",
    )


def _mixed_dimensions(fixed: str, moving: str) -> InputRefused:
    return InputRefused(f"the fixed image is {fixed} and the moving image is {moving}", reason="mixed-dimensions")


def _patient_note(fixed: Path | Series, moving: Path | Series, allow_different: bool) -> dict[str, str]:
    """Refuse different patients; what the volumes must say about the check."""
    if not (isinstance(fixed, Series) and isinstance(moving, Series)):
        if isinstance(fixed, Series) or isinstance(moving, Series):
            return {"patient_check": "not possible: only one of the images is DICOM"}
        return {}
    with quiet():
        objection = patient_objection(fixed.headers[0], moving.headers[0])
    if objection is None:
        return {}
    if not allow_different:
        raise objection
    logger.warning("Patient check overridden: %s.", objection.got)
    return {"patient_check": f"overridden by the user: {objection.got}"}
