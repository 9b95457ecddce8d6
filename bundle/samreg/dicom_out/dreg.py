"""Deformable Spatial Registration (PS3.3 C.20.3): a transform as a grid of displacements."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from samreg.dicom_out.common import (
    DEFORMABLE_REGISTRATION,
    Stamp,
    add_references,
    code_item,
    decimal_strings,
    image_items,
    matrix_item,
    new_object,
    series_reference,
)
from samreg.geometry import Grid, SourceSeries
from samreg.transforms import DisplacementField, Transform
from samreg.types import Points

TOLERANCE_MM = 0.1
SPACINGS_MM = (5.0, 4.0, 3.0, 2.5, 2.0, 1.5, 1.0)
MAX_VECTORS = 4_000_000  # 48 MB


def deformable_registration(
    field: DisplacementField, fixed: SourceSeries, moving: SourceSeries, stamp: Stamp, *, comment: str = ""
) -> Dataset:
    """The object, in the patient and study of the fixed series.

    DICOM's grid takes registered (fixed) points to source (moving) points (PS3.17 O.1), as an ITK
    displacement field does: no inversion and no change of sign.

    Args:
        field: Fixed points to moving points on an axis-aligned LPS grid (see `sampled_field`).
        comment: What the field is, at most 64 characters.
    """
    ds = new_object(DEFORMABLE_REGISTRATION, fixed, stamp, 9002, "Deformable registration (unverified)")
    ds.ContentLabel = stamp.content_label("DREG")
    item = Dataset()
    item.SourceFrameOfReferenceUID = moving.header.FrameOfReferenceUID
    item.ReferencedImageSequence = image_items(moving.instances)
    item.RegistrationTypeCodeSequence = [code_item(codes.DCM.ImageContentBasedAlignment)]
    item.PreDeformationMatrixRegistrationSequence = [matrix_item(np.eye(4))]
    item.PostDeformationMatrixRegistrationSequence = [matrix_item(np.eye(4))]
    item.DeformableRegistrationGridSequence = [_grid_item(field)]
    if comment:
        item.FrameOfReferenceTransformationComment = comment
    ds.DeformableRegistrationSequence = [item]
    add_references(ds, [series_reference(fixed), series_reference(moving)])
    return ds


def _grid_item(field: DisplacementField) -> Dataset:
    item = Dataset()
    item.ImagePositionPatient = decimal_strings(field.grid.origin_lps)
    item.ImageOrientationPatient = decimal_strings((1, 0, 0, 0, 1, 0))  # always: readers mishandle oblique grids
    item.GridDimensions = list(field.grid.shape)
    item.GridResolution = [float(s) for s in field.grid.spacing_mm]
    item.VectorGridData = np.ascontiguousarray(field.vectors.transpose(2, 1, 0, 3), "<f4").tobytes()  # x fastest
    return item


def sampled_field(
    transform: Transform, fixed: Grid, *, tolerance_mm: float = TOLERANCE_MM
) -> tuple[DisplacementField, float]:
    """The whole transform (matrices folded in) on an axis-aligned grid whose outermost nodes enclose the image.

    The coarsest spacing (5 mm first) is taken whose interpolation error is within the tolerance; if none
    that fits into 48 MB is, the finest of them.

    Args:
        transform: Fixed points to moving points, LPS mm.
        fixed: Grid of the fixed image.

    Returns:
        The field, and its largest error (mm) at the points of `probe_points`.
    """
    points = probe_points(fixed)
    truth = transform.map_points(points)
    best: tuple[DisplacementField, float] | None = None
    for spacing in SPACINGS_MM:
        grid = _enclosing_grid(fixed, spacing)
        if best is not None and grid.size > MAX_VECTORS:
            break
        field = DisplacementField(grid, transform.displacement(grid))
        error = float(np.linalg.norm(field.map_points(points) - truth, axis=-1).max())
        if best is None or error < best[1]:
            best = field, error
        if error <= tolerance_mm:
            break
    if best is None:
        raise RuntimeError("no grid spacing was tried")
    return best


def probe_points(grid: Grid, count: int = 20_000) -> Points:
    """Points [n, 3] LPS mm spread at random over the field of view, and its eight corners."""
    rng = np.random.default_rng(0)
    inside = rng.uniform(-0.5, np.asarray(grid.shape) - 0.5, (count, 3))
    return np.concatenate([grid.lps(inside), grid.corners()])


def _enclosing_grid(fixed: Grid, spacing: float) -> Grid:
    # Half a step of margin, so that the field of view lies within the nodes, where every reader interpolates.
    grid = fixed.bounding_grid(spacing, margin_mm=spacing / 2 + 1e-3)
    origin = np.floor(grid.origin_lps * 1e4) / 1e4  # exact as a decimal string
    return Grid.from_axes(grid.shape, (spacing,) * 3, origin.tolist())
