"""What the report says about the two images: when and in which series they were acquired, and their notes."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydicom.dataset import Dataset

from samreg.io.dicom_headers import number, quiet, text
from samreg.io.roles import TIMES

if TYPE_CHECKING:
    from samreg.geometry import Volume

# Notes that are one about both images, and notes that name their thing only by their key.
OF_BOTH = {"patient_check": "Patient check {}", "identical": "{}"}
THINGS = {
    "pixel_spacing": "pixel spacing {}",
    "exif_orientation": "EXIF orientation {}",
    "colour": "colour {}",
    "units": "unit of length: {}",
}


def image_json(volume: Volume) -> dict[str, Any]:
    """An image as it stands in `report.json`. No patient data."""
    header = volume.source.header if volume.source else Dataset()
    with quiet():
        series_number, time = number(header, "SeriesNumber"), acquired(header)
    return {
        "name": volume.name,
        "modality": volume.modality,
        "shape": volume.grid.shape,
        "spacing_mm": [round(float(s), 6) for s in volume.grid.spacing_mm],
        "acquired": time,
        "frame_of_reference_uid": volume.frame_of_reference_uid,
        "series_number": None if series_number is None else int(series_number),
        "series_uid": volume.source.series_uid if volume.source else None,
        "notes": dict(volume.notes),
    }


def acquired(header: Dataset) -> str | None:
    """Date and time of an image ("2024-03-12 10:15:00"); where only the series or study has a time, that is said."""
    for name, read in TIMES.items():
        if (time := read(header)) is not None:
            return time.isoformat(" ", "seconds") + _whose(name)
    for name in ("AcquisitionDate", "SeriesDate", "StudyDate"):
        try:
            return datetime.strptime(text(header, name), "%Y%m%d").date().isoformat() + _whose(name)
        except ValueError:
            continue
    return None


def _whose(name: str) -> str:
    return next((f" ({kind.lower()})" for kind in ("Series", "Study") if name.startswith(kind)), "")


def with_notes(warnings: Iterable[str], fixed: Volume, moving: Volume) -> list[str]:
    """Warnings, then the notes of both images, each once and with the image that it is about."""
    sentences = list(warnings)
    for role, volume in (("Fixed", fixed), ("Moving", moving)):
        for key, note in volume.notes.items():
            whole = OF_BOTH[key] if key in OF_BOTH else f"{role}: {THINGS.get(key, '{}')}"
            sentences.append(whole.replace("{}", note))
    return list(dict.fromkeys(sentences))
