"""Semantic checks of registration and segmentation objects: what dciodvfy does not see.

dciodvfy checks the presence and form of attributes. It says nothing about a RIGID matrix that is none,
missing references, a deformation grid of the wrong length or none at all, or a frame of reference that
is not the series'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset

from samreg.dicom_out.common import DEFORMABLE_REGISTRATION, SEGMENTATION, SPATIAL_REGISTRATION, matrix_type
from samreg.dicom_out.completeness import missing_attributes
from samreg.geometry import Grid, Volume
from samreg.io.identifiers import is_uid

# The types of matrix that a matrix of each true type may be called: every rotation is also affine.
_TYPES_ALLOWED = {
    "RIGID": {"RIGID", "RIGID_SCALE", "AFFINE"},
    "RIGID_SCALE": {"RIGID_SCALE", "AFFINE"},
    "AFFINE": {"AFFINE"},
}


@dataclass(frozen=True)
class Finding:
    """One broken rule.

    Attributes:
        severity: "error": readers go wrong or refuse; "warning": some readers may.
        rule: Stable identifier ("matrix-type").
        message: What is wrong, without patient data.
    """

    severity: Literal["error", "warning"]
    rule: str
    message: str


def validate(source: str | Path | Dataset, fixed: Volume | None = None, moving: Volume | None = None) -> list[Finding]:
    """The broken rules of a REG, DREG or SEG object.

    Args:
        source: File or dataset.
        fixed, moving: The images the object is about. If given, its references, frames of reference and
            extent are compared with theirs.

    Returns:
        Empty for a sound object. Direction cannot be seen in an object: `verify_registration` checks it.
    """
    ds = source if isinstance(source, Dataset) else dcmread(source)
    rules: dict[str, Callable[[Dataset, Volume | None, Volume | None], Iterator[Finding]]] = {
        SPATIAL_REGISTRATION: _registration,
        DEFORMABLE_REGISTRATION: _deformable,
        SEGMENTATION: _segmentation,
    }
    rule = rules.get(ds.get("SOPClassUID", ""))
    if rule is None:
        return [_error("sop-class", f"SOP class {ds.get('SOPClassUID')} is no registration or segmentation")]
    findings = [_error("attribute-missing", text) for text in missing_attributes(ds)]
    if findings:
        # What follows reads these attributes.
        return findings
    return [*rule(ds, fixed, moving), *_references(ds, fixed, moving)]


def errors_of(source: str | Path | Dataset, fixed: Volume | None = None, moving: Volume | None = None) -> list[str]:
    """The errors among the findings, as "rule: message"."""
    return [f"{f.rule}: {f.message}" for f in validate(source, fixed, moving) if f.severity == "error"]


def _registration(ds: Dataset, fixed: Volume | None, moving: Volume | None) -> Iterator[Finding]:
    items = ds.RegistrationSequence
    if len(items) != 2:
        yield _error("two-items", f"{len(items)} items of RegistrationSequence; one fixed and one moving are expected")
    own = [i for i in items if i.get("FrameOfReferenceUID") == ds.FrameOfReferenceUID]
    if len(own) != 1 or len(items) - len(own) != 1:
        yield _error("frames", f"{len(own)} of {len(items)} items are in the object's own frame of reference, not one")
    for item in items:
        matrices = [m for r in item.MatrixRegistrationSequence for m in r.MatrixSequence]
        if len(matrices) != 1:
            yield _error("one-matrix", f"{len(matrices)} matrices in an item; readers disagree on their order")
        for matrix in matrices:
            yield from _matrix(matrix)
        if item in own and any(not np.allclose(_values(m), np.eye(4).ravel(), atol=1e-9) for m in matrices):
            yield _error("fixed-identity", "the item of the fixed frame of reference is not the identity")
    yield from _frame(ds, fixed, "FrameOfReferenceUID", "fixed")
    for item in items:
        if item not in own:
            yield from _frame(item, moving, "FrameOfReferenceUID", "moving")


def _deformable(ds: Dataset, fixed: Volume | None, moving: Volume | None) -> Iterator[Finding]:
    items = ds.DeformableRegistrationSequence
    if len(items) != 1:
        yield _error("one-item", f"{len(items)} items of DeformableRegistrationSequence; one moving series is expected")
    for item in items:
        yield from _frame(item, moving, "SourceFrameOfReferenceUID", "moving")
        for keyword in ("PreDeformationMatrixRegistrationSequence", "PostDeformationMatrixRegistrationSequence"):
            for matrix in item.get(keyword) or ():
                yield from _matrix(matrix)
        grids = item.get("DeformableRegistrationGridSequence") or ()
        if len(grids) != 1:
            yield _error("no-grid", f"{len(grids)} deformation grids; one is expected")
        for grid in grids:
            yield from _deformation_grid(grid, fixed)
    yield from _frame(ds, fixed, "FrameOfReferenceUID", "fixed")


def _deformation_grid(item: Dataset, fixed: Volume | None) -> Iterator[Finding]:
    shape = [int(n) for n in item.GridDimensions]
    spacing = np.array([float(s) for s in item.GridResolution])
    orientation = np.array([float(v) for v in item.ImageOrientationPatient])
    if len(shape) != 3 or min(shape) < 1 or spacing.shape != (3,) or not (spacing > 0).all():
        yield _error("grid-geometry", f"dimensions {shape}, resolution {spacing.tolist()}")
        return
    expected = 12 * int(np.prod(shape))
    if len(item.VectorGridData) != expected:
        yield _error("grid-length", f"{len(item.VectorGridData)} bytes of VectorGridData; {expected} are expected")
        return
    vectors = np.frombuffer(item.VectorGridData, "<f4").reshape(*shape[::-1], 3)
    if not np.isfinite(vectors).all():
        yield _error("not-finite", "undefined displacements in VectorGridData")
        return
    if not np.allclose(orientation, (1, 0, 0, 0, 1, 0)):
        yield Finding("warning", "oblique-grid", "some readers ignore the orientation of a deformation grid")
        return
    if _folds(vectors, spacing):
        yield Finding("warning", "folding", "the deformation folds somewhere in its grid")
    grid = Grid.from_axes(shape, spacing.tolist(), [float(v) for v in item.ImagePositionPatient])
    if fixed is not None and not _encloses(grid, fixed.grid):
        yield _error("grid-extent", "the deformation grid does not enclose the fixed image")


def _folds(vectors: np.ndarray, spacing: np.ndarray) -> bool:
    """True if the determinant of the derivative of x + D(x), [k, j, i, 3], is not positive everywhere."""
    columns = []
    for axis, step in zip((2, 1, 0), spacing, strict=True):
        slope = np.gradient(vectors, step, axis=axis) if vectors.shape[axis] > 1 else np.zeros_like(vectors)
        slope[..., 2 - axis] += 1
        columns.append(slope)
    a, b, c = columns
    return bool((np.einsum("...i,...i", a, np.cross(b, c)) <= 0).any())


def _encloses(grid: Grid, fixed: Grid) -> bool:
    ijk = grid.index(fixed.corners())
    return bool((ijk >= -1e-6).all() and (ijk <= np.asarray(grid.shape) - 1 + 1e-6).all())


def _segmentation(ds: Dataset, fixed: Volume | None, moving: Volume | None) -> Iterator[Finding]:
    numbers = [int(s.SegmentNumber) for s in ds.SegmentSequence]
    if numbers != list(range(1, len(numbers) + 1)):
        yield _error("segment-numbers", f"segments are numbered {numbers}; 1, 2, 3, … is expected")
    shared = ds.SharedFunctionalGroupsSequence[0]
    used = set()
    for group in ds.PerFrameFunctionalGroupsSequence:
        identification = group if "SegmentIdentificationSequence" in group else shared
        used.add(int(identification.SegmentIdentificationSequence[0].ReferencedSegmentNumber))
    if used != set(numbers):
        yield _error("segment-frames", f"frames belong to segments {sorted(used)}; {numbers} are described")
    frames = int(ds.NumberOfFrames)
    if len(ds.PerFrameFunctionalGroupsSequence) != frames:
        yield _error(
            "frame-count", f"{len(ds.PerFrameFunctionalGroupsSequence)} frame descriptions for {frames} frames"
        )
    expected = -(-frames * int(ds.Rows) * int(ds.Columns) // 8)
    expected += expected % 2
    if (
        int(ds.BitsAllocated) == 1
        and not ds.file_meta.TransferSyntaxUID.is_compressed
        and len(ds.PixelData) != expected
    ):
        yield _error("pixel-length", f"{len(ds.PixelData)} bytes of pixels; {expected} are expected")
    frame_uid = ds.get("FrameOfReferenceUID")
    known = [v.frame_of_reference_uid for v in (fixed, moving) if v is not None]
    if known and frame_uid not in known:
        yield _error("frames", "the segmentation is in the frame of reference of neither image")


def _matrix(item: Dataset) -> Iterator[Finding]:
    values = _values(item)
    if values.size != 16 or not np.isfinite(values).all():
        yield _error("matrix-values", f"{values.size} values; 16 finite ones are expected")
        return
    matrix = values.reshape(4, 4)
    if not np.array_equal(matrix[3], (0, 0, 0, 1)):
        yield _error("matrix-values", f"last row {matrix[3].tolist()}; 0 0 0 1 is expected")
    if np.linalg.det(matrix[:3, :3]) <= 0:
        yield _error(
            "determinant", f"determinant {np.linalg.det(matrix[:3, :3]):.3g}: the matrix mirrors or collapses space"
        )
    stated, true = item.FrameOfReferenceTransformationMatrixType, matrix_type(matrix)
    if stated not in _TYPES_ALLOWED[true]:
        yield _error("matrix-type", f"a matrix called {stated} that is only {true}")


def _values(item: Dataset) -> np.ndarray:
    values = item.FrameOfReferenceTransformationMatrix
    return np.array(
        [float(v) for v in (values if isinstance(values, list) or hasattr(values, "__iter__") else [values])]
    )


def _frame(item: Dataset, volume: Volume | None, keyword: str, role: str) -> Iterator[Finding]:
    if not item.get(keyword):
        yield _error("frames", f"{keyword} is missing")
    elif volume is not None and item.get(keyword) != volume.frame_of_reference_uid:
        yield _error("frames", f"{keyword} is not that of the {role} image")
    elif not is_uid(str(item.get(keyword))):
        yield _error("bad-uid", f"{keyword} is no UID")


def _references(ds: Dataset, fixed: Volume | None, moving: Volume | None) -> Iterator[Finding]:
    """Rules of the Common Instance Reference module."""
    listed: dict[str, tuple[str, str]] = {}  # instance: (study, series)
    for study_uid, series in _listed_series(ds):
        for instance in series.ReferencedInstanceSequence:
            listed[instance.ReferencedSOPInstanceUID] = (study_uid, series.SeriesInstanceUID)
    named = {ds.StudyInstanceUID, *listed, *(uid for home in listed.values() for uid in home)}
    wrong_uids = sum(not is_uid(str(uid)) for uid in named)
    if wrong_uids:
        yield _error("bad-uid", f"{wrong_uids} of the studies, series and instances are named by no UID")
    if not listed:
        yield _error("no-references", "the Common Instance Reference module is missing")
    for study in ds.get("StudiesContainingOtherReferencedInstancesSequence") or ():
        if study.StudyInstanceUID == ds.StudyInstanceUID:
            yield _error("other-study", "the object's own study stands among the other studies")
    pointed = set(
        _instances(ds, skip=("ReferencedSeriesSequence", "StudiesContainingOtherReferencedInstancesSequence"))
    )
    absent = pointed - listed.keys()
    if absent:
        yield _error(
            "no-references", f"{len(absent)} of {len(pointed)} instances pointed to are not listed by study and series"
        )
    if ds.SOPClassUID == SEGMENTATION:
        sources = [{uid for _, uid in v.source.instances} for v in (fixed, moving) if v is not None and v.source]
        if sources and not any(pointed <= instances for instances in sources):
            yield _error("no-references", "instances pointed to are not all of one of the two series")
        return
    for volume, role in ((fixed, "fixed"), (moving, "moving")):
        if volume is None or volume.source is None:
            continue
        home = (volume.source.study_uid, volume.source.series_uid)
        wrong = sum(listed.get(uid) != home for _, uid in dict.fromkeys(volume.source.instances))
        if wrong:
            yield _error(
                "no-references", f"{wrong} instances of the {role} series are not listed under its study and series"
            )


def _listed_series(ds: Dataset) -> Iterator[tuple[str, Dataset]]:
    for series in ds.get("ReferencedSeriesSequence") or ():
        yield ds.StudyInstanceUID, series
    for study in ds.get("StudiesContainingOtherReferencedInstancesSequence") or ():
        for series in study.get("ReferencedSeriesSequence") or ():
            yield study.StudyInstanceUID, series


def _instances(ds: Dataset, skip: tuple[str, ...] = ()) -> Iterator[str]:
    """Every ReferencedSOPInstanceUID below a dataset."""
    for element in ds:
        if element.keyword == "ReferencedSOPInstanceUID":
            yield str(element.value)
        elif element.VR == "SQ" and element.keyword not in skip:
            for item in element.value:
                yield from _instances(item)


def _error(rule: str, message: str) -> Finding:
    return Finding("error", rule, message)
