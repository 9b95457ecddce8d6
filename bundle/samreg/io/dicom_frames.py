"""One record for each slice, from classic and from enhanced headers alike."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from samreg.errors import InputRefused
from samreg.io.dicom_folder import MULTIFRAME, Series
from samreg.io.dicom_headers import item, item_count, number, numbers, text, texts

# Attributes that tell the volumes of a 4D series apart, with the name a user knows.
VARIANTS = {
    "TemporalPositionIdentifier": "time",
    "TemporalPositionIndex": "time",
    "TriggerTime": "trigger time",
    "NominalCardiacTriggerDelayTime": "cardiac phase",
    "NominalPercentageOfCardiacPhase": "cardiac phase",
    "FrameReferenceTime": "time",
    "DiffusionBValue": "b-value",
    "DiffusionGradientOrientation": "diffusion direction",
    "EchoTime": "echo time",
    "EffectiveEchoTime": "echo time",
    "EchoNumbers": "echo",
    "InversionTime": "inversion time",
    "ImageType": "image type",
    "FrameType": "image type",
    "ComplexImageComponent": "complex component",
    "AcquisitionNumber": "acquisition",
    "AcquisitionTime": "acquisition time",
    "FrameAcquisitionDateTime": "acquisition time",
    "ContentTime": "time",
}


@dataclass(frozen=True, eq=False)
class Frame:
    """One slice as its header describes it; None where the header does not say.

    Attributes:
        position: [3] LPS mm, ImagePositionPatient.
        orientation: [6] ImageOrientationPatient, unit vectors along a row and along a column.
        spacing: [2] mm, PixelSpacing: distance between rows, distance between columns.
        slope, intercept: Of the modality rescale, 1 and 0 where there is none, NaN where it is damaged or half.
        rescaled: Whether there is a modality rescale.
        units: What the rescaled values are, as far as the header says (RescaleType, Units of PET).
        variants: What may tell it from another slice at the same place, by name.
        file: Where its pixels are.
        index: Frame in the file, from 0.
        header: The data set of the file.
    """

    position: np.ndarray | None
    orientation: np.ndarray | None
    spacing: np.ndarray | None
    slope: float
    intercept: float
    rescaled: bool
    units: str
    variants: dict[str, str]
    file: Path
    index: int
    header: Dataset

    @property
    def uid(self) -> str:
        """SOP instance UID and frame number."""
        return f"{text(self.header, 'SOPInstanceUID')}#{self.index}"


def frames_of(series: Series) -> list[Frame]:
    """The slices of a series, in no order.

    Raises:
        InputRefused: `ambiguous-frames`, where a functional group says several things of a frame.
    """
    out: list[Frame] = []
    for header, file in zip(series.headers, series.files, strict=True):
        if text(header, "SOPClassUID") in MULTIFRAME:
            out += _multiframe(header, file)
        else:
            out.append(_classic(header, file))
    return out


def _classic(header: Dataset, file: Path) -> Frame:
    slope, intercept, rescaled = _rescale(header)
    return Frame(
        position=numbers(header, "ImagePositionPatient", 3),
        orientation=numbers(header, "ImageOrientationPatient", 6),
        spacing=numbers(header, "PixelSpacing", 2),
        slope=slope,
        intercept=intercept,
        rescaled=rescaled,
        units=_units(header, header),
        variants=_variants(header),
        file=file,
        index=0,
        header=header,
    )


def _multiframe(header: Dataset, file: Path) -> list[Frame]:
    """Functional groups: what a frame does not say itself, the shared group says for all."""
    _refuse_several_items(header, "SharedFunctionalGroupsSequence")
    shared = item(header, "SharedFunctionalGroupsSequence")
    frames = []
    for index, own in enumerate(header.get("PerFrameFunctionalGroupsSequence") or []):

        def group(keyword: str, own: Dataset = own) -> Dataset:
            source = own if keyword in own else shared
            _refuse_several_items(source, keyword)
            return item(source, keyword)

        transformation = group("PixelValueTransformationSequence")
        # Where no group has it, one at the top of the object has no place there; it must change nothing.
        slope, intercept, rescaled = _rescale(transformation)
        if not rescaled and _rescale(header)[:2] != (1.0, 0.0):
            slope = intercept = np.nan
        variants: dict[str, str] = {}
        for keyword in (
            "FrameContentSequence",
            "MRImageFrameTypeSequence",
            "CTImageFrameTypeSequence",
            "PETFrameTypeSequence",
            "MREchoSequence",
            "MRDiffusionSequence",
            "CardiacSynchronizationSequence",
        ):
            variants |= _variants(group(keyword))
        diffusion = item(group("MRDiffusionSequence"), "DiffusionGradientDirectionSequence")
        frames.append(
            Frame(
                position=numbers(group("PlanePositionSequence"), "ImagePositionPatient", 3),
                orientation=numbers(group("PlaneOrientationSequence"), "ImageOrientationPatient", 6),
                spacing=numbers(group("PixelMeasuresSequence"), "PixelSpacing", 2),
                slope=slope,
                intercept=intercept,
                rescaled=rescaled,
                units=_units(transformation, header),
                variants=variants | _variants(diffusion),
                file=file,
                index=index,
                header=header,
            )
        )
    return frames


def _refuse_several_items(header: Dataset, keyword: str) -> None:
    """Each functional group says one thing of a frame; of two items nobody knows which holds."""
    if item_count(header, keyword) > 1:
        raise InputRefused(f"{keyword} of a multi-frame object has several items", reason="ambiguous-frames")


def _rescale(header: Dataset) -> tuple[float, float, bool]:
    """Slope, intercept, and whether the header has both. One without the other is a rescale that nobody knows."""
    values, stated = [], []
    for keyword, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0)):
        value = number(header, keyword)
        given = text(header, keyword) != "" or (keyword in header and header.get_item(keyword).value)
        values.append(value if value is not None else np.nan if given else default)
        stated.append(bool(given))
    if stated[0] != stated[1]:
        values = [np.nan, np.nan]
    return values[0], values[1], all(stated)


def _units(transformation: Dataset, header: Dataset) -> str:
    known = (text(transformation, "RescaleType").upper(), text(header, "Units").upper())
    return " ".join(filter(None, known))


def _variants(header: Dataset) -> dict[str, str]:
    out = {}
    for keyword in VARIANTS:
        if keyword in header:
            out[keyword] = "\\".join(texts(header, keyword)) if keyword.endswith("Type") else text(header, keyword)
    return out
