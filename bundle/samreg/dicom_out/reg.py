"""Spatial Registration (PS3.3 C.20.2): a rigid or affine transform."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from samreg.dicom_out.common import (
    SPATIAL_REGISTRATION,
    Stamp,
    add_references,
    code_item,
    image_items,
    matrix_item,
    new_object,
    series_reference,
)
from samreg.geometry import SourceSeries
from samreg.transforms import Affine
from samreg.types import Matrix4


def spatial_registration(
    transform: Affine,
    fixed: SourceSeries,
    moving: SourceSeries,
    stamp: Stamp,
    *,
    comment: str = "",
    segmentations: Sequence[Dataset | None] = (None, None),
    used_segments: Sequence[int] = (),
) -> Dataset:
    """The object, in the patient and study of the fixed series.

    DICOM's matrix takes source (moving) points to registered (fixed) points (PS3.17 O.1): the inverse
    of `transform`. There are two items, the fixed one with the identity, because readers multiply all
    items together; one matrix, because they disagree on the order of several.

    Args:
        transform: Fixed points to moving points, LPS mm.
        comment: What the matrix is, at most 64 characters.
        segmentations: The SEG of the fixed and of the moving side, if written.
        used_segments: Numbers of the segments that took part in the fit.
    """
    fixed_from_moving = transform.inverse().moving_from_fixed
    kind = matrix_item(fixed_from_moving).FrameOfReferenceTransformationMatrixType
    ds = new_object(SPATIAL_REGISTRATION, fixed, stamp, 9001, f"Registration, {kind.lower()} (unverified)")
    ds.ContentLabel = stamp.content_label("REG")
    identity = _item(fixed, np.eye(4), codes.DCM.FrameOfReferenceIdentity)
    aligned = _item(moving, fixed_from_moving, codes.DCM.ImageContentBasedAlignment, comment)
    ds.RegistrationSequence = [identity, aligned]
    references = [series_reference(fixed), series_reference(moving)]
    for item, seg in zip(ds.RegistrationSequence, segmentations, strict=True):
        if seg is None or not used_segments:
            continue
        item.UsedSegmentsSequence = [_segments_item(seg, used_segments)]
        references.append((seg.StudyInstanceUID, seg.SeriesInstanceUID, ((seg.SOPClassUID, seg.SOPInstanceUID),)))
    add_references(ds, references)
    return ds


def _item(source: SourceSeries, matrix: Matrix4, code: Code, comment: str = "") -> Dataset:
    """One item of RegistrationSequence: a series and the matrix that takes its points to the fixed frame."""
    registration = Dataset()
    registration.RegistrationTypeCodeSequence = [code_item(code)]
    registration.MatrixSequence = [matrix_item(matrix)]
    if comment:
        registration.FrameOfReferenceTransformationComment = comment
    item = Dataset()
    item.FrameOfReferenceUID = source.header.FrameOfReferenceUID
    item.ReferencedImageSequence = image_items(source.instances)
    item.MatrixRegistrationSequence = [registration]
    return item


def _segments_item(seg: Dataset, numbers: Sequence[int]) -> Dataset:
    (item,) = image_items([(seg.SOPClassUID, seg.SOPInstanceUID)])
    item.ReferencedSegmentNumber = list(numbers)
    return item
