"""Classic CT and MR image series of a volume: one file for each slice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from samreg.errors import UsageError
from samreg.geometry import Grid, Volume

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from samreg.phantoms.pairs import Phantom


@dataclass(frozen=True)
class Patient:
    """Who lies in the scanner (an invented person).

    Attributes:
        name: DICOM person name.
        birth_date: YYYYMMDD.
    """

    id: str = "PHANTOM-1"
    name: str = "Phantom^Torso"
    birth_date: str = "19700101"
    sex: str = "O"


def write_dicom_series(
    volume: Volume,
    folder: str | Path,
    *,
    patient: Patient | None = None,
    modality: str | None = None,
    frame_of_reference_uid: str | None = None,
    study_uid: str | None = None,
    series_uid: str | None = None,
    description: str = "Phantom",
    acquired: datetime | None = None,
    series_number: int = 1,
    overrides: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write a volume as classic CT or MR Image Storage instances.

    Args:
        volume: Its grid must have perpendicular axes; k runs along the slices, in either direction.
        folder: Made if absent.
        patient: Default the invented patient PHANTOM-1.
        modality: "CT" or "MR"; default that of the volume, else MR.
        frame_of_reference_uid: Default that of the volume, else a new one.
        study_uid, series_uid: Default new ones.
        description: Series description.
        acquired: Default a fixed day, so that only the UIDs change between calls.
        series_number: Series number.
        overrides: DICOM keyword → value, set in every instance at the end; None deletes the attribute.

    Example:
        write_dicom_series(phantom.fixed, "fixed", overrides={"PatientID": "somebody else"})

    Returns:
        The files in order of index k.

    Raises:
        UsageError: The grid is sheared, or the modality unknown.
    """
    from pydicom.uid import generate_uid

    _check_perpendicular(volume.grid)
    kind = modality or volume.modality or "MR"
    if kind not in ("CT", "MR"):
        raise UsageError(f"the modality is '{kind}'", "CT or MR")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    base = _series_header(kind, patient or Patient(), acquired or datetime(2024, 3, 5, 9, 30), volume.grid)
    base.StudyInstanceUID = study_uid or generate_uid()
    base.SeriesInstanceUID = series_uid or generate_uid()
    base.FrameOfReferenceUID = frame_of_reference_uid or volume.frame_of_reference_uid or generate_uid()
    base.SeriesDescription = description
    base.SeriesNumber = series_number
    stored, slope, intercept = _stored_values(volume.voxels, kind)
    if kind == "CT" or (slope, intercept) != (1.0, 0.0):
        base.RescaleSlope, base.RescaleIntercept = slope, intercept
        base.RescaleType = "HU" if kind == "CT" else "US"
    files = []
    for k in range(volume.grid.shape[2]):
        instance = _instance(base, volume.grid, stored, k)
        for keyword, value in (overrides or {}).items():
            if value is not None:
                setattr(instance, keyword, value)
            elif keyword in instance:
                delattr(instance, keyword)
        files.append(folder / f"{k + 1:04d}.dcm")
        instance.save_as(files[-1], enforce_file_format=True)
    return files


def write_dicom_study(phantom: Phantom, folder: str | Path, *, patient: Patient | None = None) -> tuple[Path, Path]:
    """Write both images of a phantom as series of two studies of one patient, a week apart.

    Args:
        phantom: Its grids must have perpendicular axes.
        folder: Made if absent.
        patient: Default the invented patient PHANTOM-1.

    Returns:
        The folders `fixed` (the later study) and `moving`.
    """
    fixed, moving = Path(folder) / "fixed", Path(folder) / "moving"
    later, earlier = datetime(2024, 3, 12, 10, 15), datetime(2024, 3, 5, 9, 30)
    write_dicom_series(phantom.fixed, fixed, patient=patient, description="Phantom fixed", acquired=later)
    write_dicom_series(phantom.moving, moving, patient=patient, description="Phantom moving", acquired=earlier)
    return fixed, moving


def _series_header(kind: str, patient: Patient, acquired: datetime, grid: Grid) -> Dataset:
    """What all instances of the series share, apart from UIDs."""
    from pydicom.dataset import Dataset
    from pydicom.uid import CTImageStorage, MRImageStorage

    day, time = acquired.strftime("%Y%m%d"), acquired.strftime("%H%M%S")
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = CTImageStorage if kind == "CT" else MRImageStorage
    ds.Modality = kind
    ds.PatientID, ds.PatientName = patient.id, patient.name
    ds.PatientBirthDate, ds.PatientSex = patient.birth_date, patient.sex
    for stem in ("Study", "Series", "Acquisition", "Content"):
        setattr(ds, f"{stem}Date", day)
        setattr(ds, f"{stem}Time", time)
    ds.StudyID, ds.AccessionNumber, ds.ReferringPhysicianName = "1", "", ""
    ds.StudyDescription = "Phantom"
    ds.Manufacturer, ds.ManufacturerModelName = "samreg", "phantom"
    ds.PositionReferenceIndicator = ""
    ds.BodyPartExamined, ds.PatientPosition = "CHEST", "HFS"
    ds.AcquisitionNumber = 1
    ds.PixelSpacing = [_ds(grid.spacing_mm[1]), _ds(grid.spacing_mm[0])]
    ds.SliceThickness = _ds(grid.spacing_mm[2])
    ds.ImageOrientationPatient = [_ds(c) for c in (*grid.direction[:, 0], *grid.direction[:, 1])]
    ds.Columns, ds.Rows = grid.shape[0], grid.shape[1]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    if kind == "CT":
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.KVP = 120
        ds.WindowCenter, ds.WindowWidth = 40, 400
    else:
        ds.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
        ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions = "GR", "NONE", ""
        ds.MRAcquisitionType = "2D"
        ds.RepetitionTime, ds.EchoTime, ds.EchoTrainLength = 500, 10, 1
        ds.WindowCenter, ds.WindowWidth = 500, 1000
    return ds


def _instance(base: Dataset, grid: Grid, stored: np.ndarray, k: int) -> Dataset:
    from copy import deepcopy

    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    ds = deepcopy(base)
    ds.SOPInstanceUID = generate_uid()
    ds.InstanceNumber = k + 1
    position = grid.lps(np.array([[0.0, 0.0, k]]))[0]
    ds.ImagePositionPatient = [_ds(c) for c in position]
    ds.SliceLocation = _ds(float(position @ np.cross(grid.direction[:, 0], grid.direction[:, 1])))
    ds.PixelData = np.ascontiguousarray(stored[:, :, k].T).astype("<i2").tobytes()
    ds["PixelData"].VR = "OW"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def _stored_values(voxels: np.ndarray, kind: str) -> tuple[np.ndarray, float, float]:
    """int16 [i, j, k] with the slope and intercept that give the voxels back."""
    low, high = float(voxels.min()), float(voxels.max())
    if kind == "CT" and low >= -31_000 and high <= 31_000:
        slope, intercept = 1.0, -1024.0
    elif low >= -32_000 and high <= 32_000 and high - low >= 200:
        slope, intercept = 1.0, 0.0
    else:
        slope, intercept = float(_ds(max((high - low) / 30_000, 1e-6))), float(_ds(low))
    return np.round((voxels - intercept) / slope).astype(np.int16), slope, intercept


def _check_perpendicular(grid: Grid) -> None:
    if np.abs(grid.direction.T @ grid.direction - np.eye(3)).max() > 1e-4:
        raise UsageError("the axes of the grid are not perpendicular", "slices stacked along their normal")


def _ds(value: float) -> str:
    """A decimal string of at most 16 characters."""
    from pydicom.valuerep import format_number_as_ds

    return format_number_as_ds(float(value))
