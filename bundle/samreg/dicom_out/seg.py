"""Segmentation (PS3.3 C.8.20): the paired regions of one image."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, islice
from typing import TYPE_CHECKING

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from samreg.dicom_out.common import (
    IDENTITY,
    MANUFACTURER,
    Stamp,
    add_equipment_and_dates,
    copy_body_part,
    copy_patient_and_study,
    new_uid,
)
from samreg.errors import OutputInvalid
from samreg.geometry import Grid, SourceSeries, Volume
from samreg.rois import Roi, RoiPair, RoiPairs
from samreg.types import Role

if TYPE_CHECKING:
    from highdicom.seg import Segmentation, SegmentDescription


MAX_SEGMENTS = 65535  # a segment number has 16 bits

# Scanners round positions to 0.1 mm; a regular grid through them may be off by some such steps.
MAX_OFFSET_MM = 0.3

# Of a source image's header: identifiers, geometry, and whether its pixels lost information.
_NEEDED = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "Modality",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "NumberOfFrames",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)


def segmentation(
    pairs: RoiPairs, role: Role, volume: Volume, source: SourceSeries, stamp: Stamp, tracking_uids: Mapping[int, str]
) -> Segmentation:
    """The regions of one image, one BINARY segment for each pair in order of the pairs' ids.

    Segments are numbered from 1 without gaps, as the standard asks: the number is the pair's id
    wherever the ids are. A region of a given label map names its label there, which may need more than the 16 bits
    of a segment number.

    highdicom builds the object from which slices each region occupies, as images of one pixel, and the
    pixels are filled in afterwards: a stack of all masks would take gigabytes.

    Args:
        role: Whose regions; those of the other image get the same numbers, colours and tracking UIDs.
        volume: The image; the pairs lie on its grid.
        source: Its series, whose patient and study the object belongs to.
        tracking_uids: UID of each pair by its id.

    Raises:
        OutputInvalid: The series' slices are not where the volume's are, or the volume's axes are not perpendicular.
    """
    import highdicom as hd

    if volume.grid.is_sheared:
        raise OutputInvalid(
            f"the axes of the grid are not perpendicular (by {volume.grid.shear_mm:.2f} mm)",
            "perpendicular axes, as every DICOM image has",
            reason="segmentation-misplaced",
        )
    rois = {n: getattr(pair, role) for n, pair in numbered(pairs).items()}
    headers = _one_pixel_headers(source)
    planes = slice_indices([p for h in headers for p in _positions(h)], volume.grid)
    occupied = np.zeros((volume.grid.shape[2], 1, 1, len(rois)), np.uint8)
    for number, roi in rois.items():
        occupied[roi.where[2], 0, 0, number - 1] = roi.box.any((0, 1))

    seg = hd.seg.Segmentation(
        source_images=headers,
        pixel_array=occupied[planes],
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=_descriptions(pairs, role, stamp, tracking_uids),
        series_instance_uid=new_uid(),
        series_number=9003 if role == "fixed" else 9004,
        sop_instance_uid=new_uid(),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MANUFACTURER,
        software_versions=stamp.version,
        device_serial_number=stamp.device_serial_number,
        content_description=stamp.content_description,
        content_label=stamp.content_label("SEG"),
        series_description=f"Paired regions, {role} image (unverified)",
    )
    copy_patient_and_study(source.header, seg)
    add_equipment_and_dates(seg, stamp)
    copy_body_part(source.header, seg)
    seg.SegmentsOverlap = "YES" if pairs.label_map(role)[1] else "NO"
    columns, rows, _ = volume.grid.shape
    seg.Rows, seg.Columns = rows, columns
    seg.PixelData = _packed(frame_list(seg, volume.grid), rois, (rows, columns))
    return seg


def numbered(pairs: RoiPairs) -> dict[int, RoiPair]:
    """Pairs by segment number, in order of their ids."""
    return dict(enumerate(sorted(pairs, key=lambda p: p.id), start=1))


def frame_list(seg: Dataset, grid: Grid) -> list[tuple[int, int]]:
    """(segment number, slice index k) of each frame, in order of the frames.

    Raises:
        OutputInvalid: A frame does not lie on a slice of the grid.
    """
    groups = seg.PerFrameFunctionalGroupsSequence
    shared = seg.SharedFunctionalGroupsSequence[0]
    numbers = [
        int(
            (g if "SegmentIdentificationSequence" in g else shared)
            .SegmentIdentificationSequence[0]
            .ReferencedSegmentNumber
        )
        for g in groups
    ]
    positions = [[float(v) for v in g.PlanePositionSequence[0].ImagePositionPatient] for g in groups]
    return list(zip(numbers, slice_indices(positions, grid), strict=True))


def slice_indices(positions_lps: Sequence[Sequence[float]], grid: Grid) -> list[int]:
    """Slice index k of images whose first pixel lies at these positions.

    Raises:
        OutputInvalid: A position is further from every voxel (0, 0, k) than scanners round.
    """
    positions = np.array(positions_lps, float)
    k = np.clip(np.round(grid.index(positions)[:, 2]), 0, grid.shape[2] - 1)
    off = np.linalg.norm(grid.lps(np.stack([0 * k, 0 * k, k], -1)) - positions, axis=-1).max()
    if off > MAX_OFFSET_MM:
        raise OutputInvalid(
            f"a slice lies {off:.3g} mm away from the slices of the image",
            "the image's slices where its series has them",
            reason="segmentation-misplaced",
        )
    return [int(n) for n in k]


def _packed(frames: Sequence[tuple[int, int]], rois: Mapping[int, Roi], shape: tuple[int, int]) -> bytes:
    """The frames as one run of bits, the first pixel in the lowest bit (PS3.5 8.1.1), padded to even length."""
    parts = []
    masks = _masks(frames, rois, shape)
    while eight := list(islice(masks, 8)):  # eight frames always end on a whole byte
        parts.append(np.packbits(np.stack(eight), bitorder="little").tobytes())
    packed = b"".join(parts)
    return packed + b"\0" * (len(packed) % 2)


def _masks(frames: Sequence[tuple[int, int]], rois: Mapping[int, Roi], shape: tuple[int, int]) -> Iterator[np.ndarray]:
    """Mask [rows, columns] of each frame."""
    for number, group in groupby(frames, key=lambda f: f[0]):
        roi = rois[number]
        box = roi.box  # unpacked once for all frames of a segment
        i, j, first = roi.where[0], roi.where[1], roi.start[2]
        for _, k in group:
            mask = np.zeros(shape, bool)
            mask[j, i] = box[:, :, k - first].T
            yield mask


def _descriptions(
    pairs: RoiPairs, role: Role, stamp: Stamp, tracking_uids: Mapping[int, str]
) -> list[SegmentDescription]:
    import highdicom as hd

    algorithm = hd.AlgorithmIdentificationSequence(
        name=MANUFACTURER,
        family=codes.DCM.ArtificialIntelligence,
        version=stamp.version,
        parameters={"configuration": stamp.configuration},
    )
    return [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=f"ROI {pair.id}" + (f", label {label}" if (label := getattr(pair, role).label) else ""),
            segmented_property_category=codes.SCT.Tissue,
            segmented_property_type=codes.SCT.Tissue,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            tracking_uid=tracking_uids[pair.id],
            tracking_id=f"{MANUFACTURER} ROI {pair.id}",
            display_color=hd.color.CIELabColor.from_rgb(*_colour(pair.id)),
        )
        for number, pair in numbered(pairs).items()
    ]


def _colour(pair_id: int) -> tuple[int, int, int]:
    """RGB 0..255; hues a golden angle apart, so that neighbours differ."""
    r, g, b = colorsys.hsv_to_rgb(pair_id * 0.618034 % 1, 0.75, 0.95)
    return round(r * 255), round(g * 255), round(b * 255)


def _one_pixel_headers(source: SourceSeries) -> list[Dataset]:
    """What highdicom needs of the series' headers, in their order, each said to be of one pixel (see `segmentation`).

    Patient and study stay empty, and no character set is named: highdicom stumbles over values that break a rule, and
    over sets of several parts. They are copied afterwards.
    """
    headers: list[Dataset] = [dcmread(p, stop_before_pixels=True, specific_tags=list(_NEEDED)) for p in source.files]
    orientation = headers[0].get("ImageOrientationPatient")
    for header in headers:
        header.pop("SpecificCharacterSet", None)
        header.Rows = header.Columns = 1
        if orientation is not None:
            header.ImageOrientationPatient = orientation  # differs in the last digit in some series
        for keyword in IDENTITY:
            if keyword not in header:
                setattr(header, keyword, "")
    return headers


def _positions(header: Dataset) -> list[list[float]]:
    """ImagePositionPatient of each frame of an image."""
    if "PerFrameFunctionalGroupsSequence" in header:
        groups = header.PerFrameFunctionalGroupsSequence
        return [[float(v) for v in g.PlanePositionSequence[0].ImagePositionPatient] for g in groups]
    return [[float(v) for v in header.ImagePositionPatient]]
