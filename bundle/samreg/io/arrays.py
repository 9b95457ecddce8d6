"""A volume from an array and its affine, as every reader but DICOM's makes it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from samreg.errors import InputRefused
from samreg.geometry import Grid, Volume
from samreg.io.limits import refuse_if_not_finite, refuse_if_too_large
from samreg.types import Matrix4
from samreg.whole_data import DamagedDataError

# Voxels smaller than a picometre, or axes that almost fall together.
MIN_SPACING_MM = 1e-9
MIN_INDEPENDENCE = 1e-3
SHEAR_NOTED = 1e-3


def checked_grid(shape: tuple[int, ...], affine: Matrix4) -> Grid:
    """A grid from a file's size [3] and affine [4, 4] (LPS mm).

    Raises:
        InputRefused: `no-orientation` if the affine is not finite or degenerate.
    """
    affine = np.asarray(affine, np.float64)
    linear = affine[:3, :3]
    spacing = np.linalg.norm(linear, axis=0)
    ok = np.isfinite(affine).all() and (spacing > MIN_SPACING_MM).all()
    if not ok or abs(np.linalg.det(linear / spacing)) < MIN_INDEPENDENCE:
        raise InputRefused(
            f"the image's affine is degenerate (voxel axes {np.round(linear, 6).tolist()})",
            "three independent voxel axes in mm",
            "Write the file again from its original with a tool that keeps orientation and spacing.",
            reason="no-orientation",
        )
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def volume_from_array(
    values: np.ndarray, affine: Matrix4, *, name: str, notes: Mapping[str, str], stored: bool = False
) -> Volume:
    """A volume from values [i, j, k] or [i, j] and an affine (LPS mm).

    A single slice that lies along i or j is turned, so that k runs along the slices.

    Args:
        stored: Keep the values' own type, instead of float32.

    Raises:
        InputRefused: `no-orientation`, `non-finite-voxels`.
    """
    array = values[..., None] if values.ndim == 2 else values
    notes = dict(notes)
    if array.shape[2] > 1 and 1 in array.shape[:2]:
        axis = array.shape.index(1)
        order = [a for a in range(3) if a != axis] + [axis]
        array = array.transpose(order)
        affine = np.asarray(affine)[:, [*order, 3]]
        notes["axes"] = "the axis with one voxel was made the slice axis"
    grid = checked_grid(array.shape, affine)
    shear = np.abs(grid.direction.T @ grid.direction - np.eye(3)).max()
    if shear > SHEAR_NOTED:
        notes["shear"] = f"the voxel axes are not perpendicular (cosine {shear:.3f})"
    # Their own type, in the byte order of this machine.
    voxels = np.require(array, array.dtype.newbyteorder("=") if stored else np.float32, ("C", "W"))
    refuse_if_not_finite(voxels)
    return Volume(voxels, grid, name=name, notes=notes)


def array_volume(values: np.ndarray, affine: Matrix4, *, name: str, stored: bool) -> Volume:
    """A volume from an array [i, j, k] or [i, j] in memory and an affine (LPS mm), by the rules of files.

    The voxels are a copy: what the caller does to the array later does not reach them.

    Raises:
        InputRefused: `not-greyscale`, `size-limit`, or as `volume_from_array`.
    """
    if values.dtype.kind not in "biuf":
        raise not_greyscale("complex" if values.dtype.kind == "c" else f"of type {values.dtype}")
    refuse_if_too_large(values.shape)
    values = values.astype(values.dtype if stored else np.float32, order="C")
    return volume_from_array(values, affine, name=name, notes={}, stored=stored)


def several_volumes(shape: tuple[int, ...]) -> InputRefused:
    """A file with more than one volume."""
    return InputRefused(
        f"the file holds several volumes (size {' x '.join(str(n) for n in shape)})",
        next_step="Write one of them to its own file.",
        reason="4d",
    )


def not_greyscale(what: str) -> InputRefused:
    """Colour, vector or complex voxels."""
    return InputRefused(f"the voxels are {what}", reason="not-greyscale")


def unreadable(name: str, kind: str, error: Exception | None = None) -> InputRefused:
    """A damaged file; says how it is damaged where the error is a `DamagedDataError`."""
    why = f": {error}" if isinstance(error, DamagedDataError) else ""
    return InputRefused(f"'{name}' cannot be read as {kind}{why}", reason="unreadable-file")
