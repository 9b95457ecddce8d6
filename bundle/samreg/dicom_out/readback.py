"""Reading registration objects, and proof that what was written reproduces the transform."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from samreg.dicom_out.common import DEFORMABLE_REGISTRATION, SEGMENTATION, SPATIAL_REGISTRATION
from samreg.dicom_out.dreg import probe_points
from samreg.dicom_out.seg import frame_list, numbered
from samreg.dicom_out.validate import errors_of
from samreg.errors import InputRefused, OutputInvalid
from samreg.geometry import Grid, Volume
from samreg.rois import RoiPairs
from samreg.transforms import Affine, DisplacementField, Transform, compose
from samreg.types import Matrix4, Role

REGISTRATION_TOLERANCE_MM = 0.01


def read_registration(source: str | Path | Dataset) -> Affine:
    """The transform from fixed to moving points of a Spatial Registration object.

    The fixed frame of reference is the object's own; matrices of the other item are applied in the
    order in which they stand, and the result, which takes moving to fixed points, is inverted.

    Raises:
        InputRefused: The file is no Spatial Registration, or does not relate exactly two frames of reference.
    """
    ds = _read(source, SPATIAL_REGISTRATION, "a Spatial Registration object")
    moving = [item for item in ds.RegistrationSequence if item.get("FrameOfReferenceUID") != ds.FrameOfReferenceUID]
    if len(moving) != 1 or len(moving[0].MatrixRegistrationSequence) != 1:
        raise InputRefused(
            f"the object relates {len(moving)} frames of reference to its own",
            "exactly one, by one matrix registration",
            reason="registration-items",
        )
    fixed_from_moving = np.eye(4)
    for item in moving[0].MatrixRegistrationSequence[0].MatrixSequence:
        fixed_from_moving = _matrix(item) @ fixed_from_moving
    return Affine(fixed_from_moving).inverse()


def read_deformable(source: str | Path | Dataset) -> Transform:
    """The transform from fixed to moving points of a Deformable Spatial Registration object.

    x_moving = post · (pre · x + D(x)) (PS3.3 C.20.3.1.1). Beyond the grid D is zero.

    Raises:
        InputRefused: The file is no Deformable Spatial Registration, does not hold exactly one grid, or
            leaves displacements undefined (NaN).
    """
    ds = _read(source, DEFORMABLE_REGISTRATION, "a Deformable Spatial Registration object")
    items = [i for i in ds.DeformableRegistrationSequence if i.get("DeformableRegistrationGridSequence")]
    if len(items) != 1 or len(items[0].DeformableRegistrationGridSequence) != 1:
        raise InputRefused(
            f"the object holds {len(items)} items with a deformation grid", "exactly one", reason="registration-items"
        )
    (item,) = items
    grid, vectors = _grid(item.DeformableRegistrationGridSequence[0])
    pre, post = (_optional_matrix(item, f"{when}DeformationMatrixRegistrationSequence") for when in ("Pre", "Post"))
    if np.array_equal(pre.moving_from_fixed, np.eye(4)):
        field = DisplacementField(grid, vectors)
        return field if np.array_equal(post.moving_from_fixed, np.eye(4)) else field.then(post)
    # pre · x + D(x) is a field that stands where `pre` takes the grid.
    moved = DisplacementField(Grid(grid.shape, pre.moving_from_fixed @ grid.affine), vectors)
    return compose([pre, moved, post])


def read_segments(source: str | Path | Dataset, grid: Grid) -> Iterator[tuple[int, int, np.ndarray]]:
    """(segment number, slice index k, mask [rows, columns]) of each frame of a Segmentation, one at a time.

    Raises:
        InputRefused: The file is no Segmentation.
        OutputInvalid: A frame does not lie on the grid, or pixels are missing.
    """
    ds = _read(source, SEGMENTATION, "a Segmentation object")
    rows, columns = int(ds.Rows), int(ds.Columns)
    bits = np.frombuffer(ds.PixelData, np.uint8)
    frames = frame_list(ds, grid)
    if bits.size * 8 < len(frames) * rows * columns:
        raise OutputInvalid(f"the pixels have {bits.size} bytes", f"{len(frames)} frames of {rows} x {columns} bits")
    for index, (number, k) in enumerate(frames):
        first, last = index * rows * columns, (index + 1) * rows * columns
        run = np.unpackbits(bits[first // 8 : -(-last // 8)], bitorder="little")
        yield number, k, run[first % 8 :][: rows * columns].reshape(rows, columns).astype(bool)


def verify_registration(
    path: str | Path,
    transform: Transform,
    fixed: Volume,
    moving: Volume,
    tolerance_mm: float = REGISTRATION_TOLERANCE_MM,
) -> float:
    """Check that a written REG or DREG is sound and, read back, maps points as the transform does.

    Args:
        transform: Fixed points to moving points, LPS mm.
        tolerance_mm: The largest distance allowed at points spread over the fixed field of view.

    Returns:
        The largest distance found, mm.

    Raises:
        OutputInvalid: A rule is broken, or a point differs by more.
    """
    ds = _sound(Path(path), fixed, moving)
    read = read_registration(ds) if ds.SOPClassUID == SPATIAL_REGISTRATION else read_deformable(ds)
    points = probe_points(fixed.grid)
    error = float(np.linalg.norm(read.map_points(points) - transform.map_points(points), axis=-1).max())
    if not error <= tolerance_mm:
        raise OutputInvalid(
            f"'{Path(path).name}' read back misses the transform by {error:.3g} mm",
            f"at most {tolerance_mm:.3g} mm",
            reason="dicom-not-reproducing",
        )
    return error


def verify_segmentation(path: str | Path, pairs: RoiPairs, role: Role, fixed: Volume, moving: Volume) -> None:
    """Check that a written SEG is sound and, read back, holds exactly the regions of one image, where they lie.

    Raises:
        OutputInvalid: A rule is broken, or a mask differs, is missing or is one too many.
    """
    name = Path(path).name
    ds = _sound(Path(path), fixed, moving)
    grid = fixed.grid if role == "fixed" else moving.grid
    boxes = {}
    missing = set()
    for number, pair in numbered(pairs).items():
        roi = getattr(pair, role)
        boxes[number] = roi
        missing |= {(number, roi.start[2] + int(k)) for k in np.flatnonzero(roi.box.any((0, 1)))}
    current, box = 0, np.zeros((0, 0, 0), bool)
    for number, k, mask in read_segments(ds, grid):
        if (number, k) not in missing:
            raise _differs(name, number, k)
        missing.discard((number, k))
        roi = boxes[number]
        if number != current:
            current, box = number, roi.box
        i, j, _ = roi.where
        expected = box[:, :, k - roi.start[2]].T
        if not np.array_equal(mask[j, i], expected) or int(mask.sum()) != int(expected.sum()):
            raise _differs(name, number, k)
    if missing:
        raise _differs(name, *min(missing))


def _sound(path: Path, fixed: Volume, moving: Volume) -> Dataset:
    """The object in a file that breaks no rule."""
    ds = dcmread(path)
    broken = errors_of(ds, fixed, moving)
    if broken:
        raise OutputInvalid(f"'{path.name}' is not valid: {'; '.join(broken)}", reason="dicom-invalid")
    return ds


def _differs(name: str, number: int, k: int) -> OutputInvalid:
    return OutputInvalid(
        f"'{name}' read back differs from region {number} in slice {k}", "the same mask", reason="dicom-not-reproducing"
    )


def _read(source: str | Path | Dataset, sop_class_uid: str, what: str) -> Dataset:
    if isinstance(source, Dataset):
        ds, name = source, "the object"
    else:
        name = Path(source).name
        try:
            ds = dcmread(source)
        except (OSError, InvalidDicomError) as error:
            raise InputRefused(f"'{name}' cannot be read ({error})", what, reason="unreadable-dicom") from error
    if ds.get("SOPClassUID") != sop_class_uid:
        raise InputRefused(f"'{name}' is of SOP class {ds.get('SOPClassUID')}", what, reason="unsupported-sop-class")
    return ds


def _matrix(item: Dataset) -> Matrix4:
    return np.array([float(v) for v in item.FrameOfReferenceTransformationMatrix]).reshape(4, 4)


def _optional_matrix(item: Dataset, keyword: str) -> Affine:
    sequence = item.get(keyword)
    return Affine(_matrix(sequence[0])) if sequence else Affine.identity()


def _grid(item: Dataset) -> tuple[Grid, np.ndarray]:
    """The grid and its vectors [i, j, k, 3] of a deformation grid item."""
    shape = [int(n) for n in item.GridDimensions]
    vectors = np.frombuffer(item.VectorGridData, "<f4")
    if vectors.size != 3 * int(np.prod(shape)) or not np.isfinite(vectors).all():
        raise InputRefused(
            f"the deformation grid has {vectors.size} numbers, some of them undefined",
            f"{3 * int(np.prod(shape))} finite numbers for a grid of {shape}",
            reason="deformation-grid",
        )
    row, column = np.array([float(v) for v in item.ImageOrientationPatient]).reshape(2, 3)
    direction = np.stack([row, column, np.cross(row, column)], -1)
    origin = [float(v) for v in item.ImagePositionPatient]
    grid = Grid.from_axes(shape, [float(s) for s in item.GridResolution], origin, direction)
    return grid, vectors.reshape(shape[2], shape[1], shape[0], 3).transpose(2, 1, 0, 3)
