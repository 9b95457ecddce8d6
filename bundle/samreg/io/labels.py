"""Label maps: whole numbers that are never computed with, on the image's own grid, or refused."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from samreg.errors import InputRefused
from samreg.geometry import Grid, Volume
from samreg.io.arrays import not_greyscale
from samreg.io.dicom_headers import DAMAGE, quiet, read_header, text
from samreg.io.formats import image_format, read_image, read_stored
from samreg.io.limits import refuse_if_not_finite
from samreg.types import Labels

if TYPE_CHECKING:
    import highdicom as hd

logger = logging.getLogger(__name__)

# Headers in float32 move a corner by a few hundredths of a voxel at most.
TOLERANCE_VOXELS = 0.05
SEGMENTATION_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")


def read_labels(path: Path | str, reference: Volume | Grid, label: int | None = None) -> Labels:
    """A label map on the grid of an image.

    The map may store its axes in another order or direction than the image (as NIfTI and DICOM
    do); voxels are then reordered, never resampled. In a DICOM SEG the label is the segment
    number; where segments overlap the higher number wins, and a warning is logged.

    Args:
        path: NIfTI, NRRD, MetaImage or picture with whole numbers, or a DICOM SEG.
        reference: The image that was segmented.
        label: The only one that is wanted, where that is known. A segment of this number is read alone,
            whole also where others lie over it. Other formats, and a SEG without it, are read as ever.

    Returns:
        Whole numbers [i, j, k] on the reference grid, 0 is background: int32 where they fit, else int64 or uint64.

    Raises:
        InputRefused: `other-grid`, `not-labels` (fractions, negative numbers), `label-limit` (numbers that a
            floating-point file cannot tell apart), `no-labels` (all zero), `other-frame-of-reference`,
            `unsupported-sop-class`, or as `read_image`.

    Example:
        labels = read_labels("t1_organs.nii.gz", volume)
    """
    path = Path(path)
    grid = reference.grid if isinstance(reference, Volume) else reference
    kind = image_format(path)
    if kind == "DICOM":
        frame_of_reference = reference.frame_of_reference_uid if isinstance(reference, Volume) else None
        labels = _read_seg(path, grid, frame_of_reference, label)
    else:
        # A picture has no place of its own: it takes the spacing of the picture that was segmented.
        spacing = grid.spacing_mm[:2].tolist() if kind == "picture" else None
        own = _label_volume(path, spacing)
        labels = on_grid(own.voxels, own.grid, grid)
    return _some(labels)


def labels_on_grid(labels: Volume, grid: Grid) -> Labels:
    """A label map in memory on the grid of its image; voxels are reordered, never resampled.

    Args:
        labels: Whole numbers of any type, with the same voxels as `grid`.
        grid: Of the image.

    Returns:
        Whole numbers [i, j, k] as from `read_labels`.

    Raises:
        InputRefused: `other-grid`, `not-labels`, `label-limit`, `no-labels`.
    """
    return _some(on_grid(_whole_numbers(labels.voxels), labels.grid, grid))


def labels_of_array(values: np.ndarray, grid: Grid) -> Labels:
    """A label map that is given as an array on the grid of its image, by the rules of files.

    Args:
        values: [i, j, k] whole numbers of any type, 0 is background.
        grid: Of the image.

    Returns:
        Whole numbers [i, j, k] as from `read_labels`; the array itself where it has their type.

    Raises:
        InputRefused: `other-grid` (another shape), `not-greyscale` (no numbers), `non-finite-voxels`, `not-labels`,
            `label-limit`, `no-labels`.
    """
    if values.shape != grid.shape:
        raise InputRefused(
            f"the label map has the shape {values.shape}", f"the image's shape {grid.shape}", reason="other-grid"
        )
    if values.dtype.kind not in "biuf":
        raise not_greyscale("complex" if values.dtype.kind == "c" else f"of type {values.dtype}")
    refuse_if_not_finite(values)
    return _some(_whole_numbers(values))


def read_label_map(path: Path | str) -> Volume:
    """A label map on the grid that its file states, as where nothing but labels is compared.

    Args:
        path: NIfTI, NRRD, MetaImage, or a picture that states its spacing.

    Returns:
        Whole numbers [i, j, k] as from `read_labels`.

    Raises:
        InputRefused: As `read_labels`.
    """
    path = Path(path)
    if image_format(path) == "DICOM":  # a SEG needs the series that it belongs to
        grid = read_image(path).grid
        return Volume(read_labels(path, grid), grid)
    own = _label_volume(path)
    return replace(own, voxels=_some(own.voxels))


def read_for_nearest(
    path: Path | str, *, pixel_spacing_mm: Sequence[float] | None = None, as_files: bool = False
) -> Volume:
    """An image whose voxels are only ever picked, never mixed: whole numbers stay what they are.

    Args:
        path, pixel_spacing_mm, as_files: As for `read_image`.

    Returns:
        Integers in the type of the file; whole numbers that a file stores or scales as floating point in the
        smallest integer type that holds them all, or float32 where that type cannot tell them apart; any other image
        float32.

    Raises:
        UsageError, InputRefused: As `read_image`; `label-limit` for numbers that were rounded before they could be
            read: beyond float32 in DICOM, beyond float64 where a NIfTI header scales integers.
    """
    if image_format(path) == "DICOM":
        volume = read_image(path, pixel_spacing_mm=pixel_spacing_mm, as_files=as_files)
    else:
        volume = read_stored(path, pixel_spacing_mm=pixel_spacing_mm)
    values = volume.voxels
    if values.dtype.kind == "f":
        if not np.array_equal(values, np.round(values)):
            values = values.astype(np.float32, copy=False)
        elif np.abs(values).max() < _distinct(values.dtype):
            low, high = (np.min_scalar_type(int(v)) for v in (values.min(), values.max()))
            values = values.astype(np.promote_types(low, high))
        elif image_format(path) == "DICOM" or values.dtype != np.float32:
            raise _beyond(values)
    return replace(volume, voxels=values)


def _label_volume(path: Path, pixel_spacing_mm: Sequence[float] | None = None) -> Volume:
    volume = read_stored(path, pixel_spacing_mm=pixel_spacing_mm)
    if "colour" in volume.notes:
        raise _no_labels("the label picture is in colour")
    return replace(volume, voxels=_whole_numbers(volume.voxels))


def _some(labels: Labels) -> Labels:
    """The labels, if there is one."""
    if not labels.any():
        raise InputRefused("the label map is empty", reason="no-labels")
    return labels


def on_grid(labels: Labels, source: Grid, target: Grid) -> Labels:
    """Labels [i, j, k] reordered from one grid to another with the same voxels.

    Raises:
        InputRefused: `other-grid` if the two grids do not have the same voxels.
    """
    source_from_target = source.index_from_lps @ target.affine
    turn = np.round(source_from_target[:3, :3])
    if not np.array_equal(np.abs(turn).sum(0), np.ones(3)) or not np.array_equal(np.abs(turn).sum(1), np.ones(3)):
        raise _other_grid(source, target)
    # Column a of `turn` says along which axis of the source the target's axis a runs, and which way.
    axes = [int(np.argmax(np.abs(turn[:, a]))) for a in range(3)]
    flips = tuple(a for a in range(3) if turn[axes[a], a] < 0)
    shape = tuple(source.shape[a] for a in axes)
    start = np.zeros(3)
    for a in flips:
        start[axes[a]] = source.shape[axes[a]] - 1
    affine = source.affine.copy()
    affine[:3, :3] = source.affine[:3, :3] @ turn
    affine[:3, 3] = source.lps(start[None])[0]
    reordered = Grid((shape[0], shape[1], shape[2]), affine)
    if not reordered.same_as(target, TOLERANCE_VOXELS * float(target.spacing_mm.min())):
        raise _other_grid(source, target)
    return np.ascontiguousarray(np.flip(labels.transpose(axes), flips))


def _other_grid(source: Grid, target: Grid) -> InputRefused:
    def words(grid: Grid) -> str:
        size, spacing = "x".join(map(str, grid.shape)), " x ".join(f"{s:.4g}" for s in grid.spacing_mm)
        return f"{size} voxels of {spacing} mm at {np.round(grid.centre_lps, 1).tolist()}"

    return InputRefused(
        f"the label map lies on another grid than its image ({words(source)})",
        f"the image's grid ({words(target)})",
        reason="other-grid",
    )


def _whole_numbers(values: np.ndarray) -> Labels:
    """Values of any type as labels: int32 where they fit, else int64 or uint64."""
    low, high = values.min(), values.max()
    if low < 0 or (values.dtype.kind == "f" and not np.array_equal(values, np.round(values))):
        raise _no_labels(f"the label map holds values from {low:g} to {high:g} that are no labels")
    if values.dtype.kind == "f" and high >= _distinct(values.dtype):
        raise _beyond(values)
    fitting = (t for t in (np.int32, np.int64, np.uint64) if int(high) <= np.iinfo(t).max)
    return values.astype(next(fitting), copy=False)


def _distinct(dtype: np.dtype) -> int:
    """From here on a floating-point type rounds some whole numbers to others."""
    return int(2 ** (np.finfo(dtype).nmant + 1))


def _beyond(values: np.ndarray) -> InputRefused:
    limit = _distinct(values.dtype)
    return InputRefused(
        f"the label map holds {np.abs(values).max():.0f} as {values.dtype}, which cannot tell such numbers apart",
        f"numbers below {limit} in this type, or an integer type",
        reason="label-limit",
    )


def _no_labels(got: str) -> InputRefused:
    return InputRefused(got, reason="not-labels")


def _read_seg(path: Path, grid: Grid, frame_of_reference: str | None, label: int | None) -> Labels:
    import highdicom as hd

    file = _only_file(path)
    try:
        with quiet():
            if text(read_header(file), "SOPClassUID") not in SEGMENTATION_CLASSES:
                raise InputRefused(
                    "the DICOM label map is not a segmentation object",
                    "a DICOM SEG",
                    "Give a SEG (an RTSTRUCT can be converted with 3D Slicer).",
                    reason="unsupported-sop-class",
                )
            seg = hd.seg.segread(file)
            own = text(seg, "FrameOfReferenceUID")
    except DAMAGE as error:
        raise _damaged() from error
    if frame_of_reference is None or own != frame_of_reference:
        raise InputRefused(
            "the segmentation is in another frame of reference than the image"
            if frame_of_reference
            else "a DICOM SEG is given for an image without a frame of reference",
            reason="other-frame-of-reference",
        )
    numbers = [number for number in seg.segment_numbers if number != 0]  # 0: the background of a LABELMAP
    return _merged(seg, [label] if label in numbers else numbers, grid, own)


def _merged(seg: hd.seg.Segmentation, numbers: Sequence[int], grid: Grid, frame_of_reference: str) -> Labels:
    """Segments of these numbers drawn one after another."""
    import highdicom as hd

    geometry = hd.VolumeGeometry(
        grid.affine, grid.shape, coordinate_system="PATIENT", frame_of_reference_uid=frame_of_reference
    )
    out = np.zeros(grid.shape, np.int32)
    overlap = 0
    for number in numbers:
        try:
            with quiet():
                volume = seg.get_volume(segment_numbers=[number], combine_segments=False, rescale_fractional=True)
        except DAMAGE as error:
            raise _damaged() from error
        try:
            array = volume.match_geometry(geometry, tol=TOLERANCE_VOXELS * float(grid.spacing_mm.min())).array
        except (RuntimeError, ValueError) as error:
            found = Grid(volume.spatial_shape, volume.affine)
            raise _other_grid(found, grid) from error
        mask = _whole_numbers(np.asarray(array).reshape(grid.shape)) > 0
        overlap += int((mask & (out > 0)).sum())
        out[mask] = number
    if overlap:
        logger.warning("Segments overlap in %d voxels of the DICOM SEG; the higher segment number wins.", overlap)
    return out


def _only_file(path: Path) -> Path:
    if path.is_file():
        return path
    files = [p for p in sorted(path.iterdir()) if p.is_file() and not p.is_symlink()]
    if len(files) != 1:
        raise InputRefused(f"the folder of the label map holds {len(files)} files", reason="several-files")
    return files[0]


def _damaged() -> InputRefused:
    return InputRefused(
        "the DICOM SEG cannot be read", next_step="Export the segmentation again.", reason="unreadable-file"
    )
