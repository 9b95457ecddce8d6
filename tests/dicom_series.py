"""Small DICOM series for tests, sound ones and damaged ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid

from samreg.geometry import Grid, Volume
from samreg.phantoms import write_dicom_series

ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"


def rotation(degrees: float = 20.0) -> np.ndarray:
    """[3, 3] about two axes."""
    a = np.radians(degrees)
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    return about_z @ about_x


def small_volume(shape=(12, 10, 8), spacing=(1.5, 1.5, 4.0), direction=None, modality="MR", seed=0) -> Volume:
    """Random whole numbers from 0 to 1000."""
    voxels = np.random.default_rng(seed).integers(0, 1000, shape).astype(np.float32)
    return Volume(voxels, Grid.from_axes(shape, spacing, (-10.0, 5.0, 30.0), direction), modality=modality)


def write_small(folder: Path, *, seed: int = 0, **options) -> list[Path]:
    """A sound series of eight slices, in order of the slice normal."""
    return write_dicom_series(small_volume(seed=seed), folder, **options)


def edit(files: Path | list[Path], change: Callable[[Dataset], None] | None = None, **values) -> None:
    """Change files in place; a value of None deletes the attribute."""
    for path in [files] if isinstance(files, Path) else files:
        dataset = dcmread(path)
        for keyword, value in values.items():
            if value is None:
                del dataset[keyword]
            else:
                setattr(dataset, keyword, value)
        if change:
            change(dataset)
        dataset.save_as(path)


def copy_of(source: Path, target: Path, **values) -> None:
    """A copy with another SOP instance UID."""
    dataset = dcmread(source)
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.save_as(target)


def write_enhanced(volume: Volume, file: Path, *, order=None, slopes=None, times: int = 1) -> None:
    """One enhanced MR object; frames in the given order, each with its own rescale slope."""
    folder = file.parent / f"{file.stem}_classic"
    files = write_dicom_series(volume, folder, modality="MR")
    order = list(range(len(files))) if order is None else list(order)
    slices = [dcmread(f) for f in files]
    for f in files:
        f.unlink()
    folder.rmdir()
    out = slices[0]
    out.SOPClassUID = out.file_meta.MediaStorageSOPClassUID = ENHANCED_MR
    shared, frames = Dataset(), []
    shared.PlaneOrientationSequence = Sequence([_item(ImageOrientationPatient=out.ImageOrientationPatient)])
    shared.PixelMeasuresSequence = Sequence(
        [
            _item(
                PixelSpacing=out.PixelSpacing,
                SliceThickness=out.SliceThickness,
                SpacingBetweenSlices=out.SliceThickness,
            )
        ]
    )
    pixels = b""
    for time in range(times):
        for k in order:
            frame = Dataset()
            frame.FrameContentSequence = Sequence([_item(TemporalPositionIndex=time + 1, StackID="1")])
            frame.PlanePositionSequence = Sequence([_item(ImagePositionPatient=slices[k].ImagePositionPatient)])
            slope = 1.0 if slopes is None else float(slopes[k])
            frame.PixelValueTransformationSequence = Sequence(
                [_item(RescaleSlope=slope, RescaleIntercept=0.0, RescaleType="US")]
            )
            frames.append(frame)
            pixels += slices[k].PixelData
    out.SharedFunctionalGroupsSequence = Sequence([shared])
    out.PerFrameFunctionalGroupsSequence = Sequence(frames)
    out.NumberOfFrames = len(frames)
    out.PixelData = pixels
    organization = generate_uid()
    out.DimensionOrganizationSequence = Sequence([_item(DimensionOrganizationUID=organization)])
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "EchoTime"):
        if keyword in out:
            del out[keyword]
    out.save_as(file)


def _item(**values) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset
