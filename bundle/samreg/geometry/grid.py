"""Voxel grids in patient space: index [i, j, k] ↔ LPS mm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samreg.errors import UsageError
from samreg.types import Matrix4, Points, Points_ijk

MAX_SHEAR_MM = 0.01  # a grid that leans by less counts as upright
NEGLIGIBLE_VOX = 0.01  # so much of a field of view is worth no further voxel
MAX_MOVED_VOX = 0.05  # of the finest spacing; a grid whose voxels move by less when it is set upright keeps its shape

_CUBE = np.array([(i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)])


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular, possibly oblique, anisotropic or flipped grid of voxels.

    Attributes:
        shape: Number of voxels along i, j, k. A 2D picture has shape (width, height, 1).
        affine: [4, 4] float64, LPS mm of a voxel centre from its index; columns are the
            axes times their spacing.

    Raises:
        UsageError: The affine is singular or not finite, or a dimension is below one.
    """

    shape: tuple[int, int, int]
    affine: Matrix4

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        shape = tuple(int(n) for n in self.shape)
        if len(shape) != 3 or min(shape) < 1:
            raise UsageError(f"the shape of the grid is {shape}", "three dimensions of at least one voxel")
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or _flat(affine[:3, :3]):
            raise UsageError(f"the affine of the grid is {affine.tolist()}", "an invertible 4x4 matrix")
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", shape)

    @staticmethod
    def from_axes(
        shape: Sequence[int] | np.ndarray,
        spacing_mm: Sequence[float] | np.ndarray,
        origin_lps: Sequence[float] | np.ndarray = (0.0, 0.0, 0.0),
        direction: np.ndarray | None = None,
    ) -> Grid:
        """A grid from spacing [3], LPS mm of voxel (0, 0, 0), and direction cosines [3, 3] in columns."""
        affine = np.eye(4)
        affine[:3, :3] = (np.eye(3) if direction is None else np.asarray(direction)) @ np.diag(spacing_mm)
        affine[:3, 3] = origin_lps
        return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)

    @property
    def spacing_mm(self) -> np.ndarray:
        """Distance between neighbouring voxel centres along i, j, k."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def direction(self) -> np.ndarray:
        """[3, 3] unit vectors of the i, j, k axes in columns."""
        return self.affine[:3, :3] / self.spacing_mm

    @property
    def origin_lps(self) -> np.ndarray:
        """LPS mm of the centre of voxel (0, 0, 0)."""
        return self.affine[:3, 3].copy()

    @property
    def index_from_lps(self) -> Matrix4:
        """[4, 4] inverse of the affine."""
        return np.linalg.inv(self.affine).astype(np.float64)

    @property
    def centre_lps(self) -> np.ndarray:
        """LPS mm of the middle of the field of view."""
        return self.lps((np.asarray(self.shape, float)[None] - 1) / 2)[0]

    @property
    def extent_mm(self) -> np.ndarray:
        """Size of the field of view along i, j, k, voxel edges included."""
        return self.spacing_mm * np.asarray(self.shape)

    @property
    def voxel_mm3(self) -> float:
        """Volume of one voxel."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def size(self) -> int:
        """Number of voxels."""
        return int(np.prod(self.shape))

    @property
    def is_2d(self) -> bool:
        """True for a single slice: transforms stay in its plane."""
        return self.shape[2] == 1

    @property
    def active_axes(self) -> tuple[int, ...]:
        """Axes with more than one voxel."""
        return tuple(a for a in range(3) if self.shape[a] > 1)

    @property
    def shear_mm(self) -> float:
        """How far a reader that knows perpendicular axes alone misplaces a voxel, at worst; 0 where they are that."""
        u, _, vt = np.linalg.svd(self.direction)
        reach = _CUBE * (np.asarray(self.shape) - 1) @ (self.affine[:3, :3] - u @ vt * self.spacing_mm).T
        return float(np.linalg.norm(reach, axis=1).max())

    @property
    def is_sheared(self) -> bool:
        """True where the axes are not perpendicular, by so much that it misplaces a voxel (`shear_mm`)."""
        return self.shear_mm > MAX_SHEAR_MM

    def upright(self) -> Grid:
        """The grid of perpendicular axes that covers the field of view of a sheared one.

        Axis i, the plane of i and j, and the size of a voxel are kept, so the slices of a tilted stack lie in the
        same planes, and a single slice stays one. The shape is kept too where that moves no voxel by more than
        `MAX_MOVED_VOX`, as on a grid whose axes were rounded.
        """
        direction, upper = np.linalg.qr(self.affine[:3, :3])
        sign = np.sign(np.diag(upper))
        direction, spacing = direction * sign, np.abs(np.diag(upper))
        middle = (np.asarray(self.shape) - 1) / 2
        kept = Grid.from_axes(self.shape, spacing, self.centre_lps - direction @ (spacing * middle), direction)
        corners = _CUBE * (np.asarray(self.shape) - 1)
        moved_mm = np.linalg.norm(kept.lps(corners) - self.lps(corners), axis=1).max()
        if moved_mm <= MAX_MOVED_VOX * self.spacing_mm.min():
            return kept
        edge = np.where(np.asarray(self.shape) > 1, 0.5, 0.0)
        reach = self.lps(_CUBE * (np.asarray(self.shape) - 1 + 2 * edge) - edge) @ direction
        low, high = reach.min(0) + edge * spacing, reach.max(0) - edge * spacing
        shape = np.ceil((high - low) / spacing - NEGLIGIBLE_VOX).astype(int) + 1
        return Grid.from_axes(shape, spacing, (direction @ low).tolist(), direction)

    def lps(self, points_ijk: Points_ijk | NDArray[np.integer]) -> Points:
        """LPS mm of continuous indices [..., 3]."""
        return transform_points(self.affine, points_ijk)

    def index(self, points_lps: Points) -> Points_ijk:
        """Continuous indices of LPS points [..., 3]."""
        return transform_points(self.index_from_lps, points_lps)

    def contains(self, points_lps: Points) -> np.ndarray:
        """True where a point lies in the field of view, half a voxel of border included."""
        ijk = self.index(points_lps)
        return np.all((ijk >= -0.5) & (ijk <= np.asarray(self.shape) - 0.5), axis=-1)

    def points(self) -> np.ndarray:
        """LPS mm of every voxel centre, [i, j, k, 3] float64 (large grids: use `slabs`)."""
        return self._points(0, self.shape[0])

    def slabs(self, max_voxels: int = 2_000_000) -> Iterator[tuple[slice, np.ndarray]]:
        """Slabs of whole i-planes with their voxel centres [n, j, k, 3], to bound memory."""
        depth = max(1, max_voxels // (self.shape[1] * self.shape[2]))
        for start in range(0, self.shape[0], depth):
            stop = min(start + depth, self.shape[0])
            yield slice(start, stop), self._points(start, stop)

    def _points(self, start: int, stop: int) -> np.ndarray:
        a = self.affine
        i = np.arange(start, stop, dtype=np.float64)[:, None, None, None] * a[:3, 0]
        j = np.arange(self.shape[1], dtype=np.float64)[None, :, None, None] * a[:3, 1]
        k = np.arange(self.shape[2], dtype=np.float64)[None, None, :, None] * a[:3, 2]
        return i + (j + (k + a[:3, 3]))

    def corners(self, start: Sequence[int] = (0, 0, 0), shape: Sequence[int] | None = None) -> Points:
        """LPS mm of the eight corners [8, 3] of the grid or of a box within it, voxel edges included."""
        return self.lps(np.asarray(start) + _CUBE * (self.shape if shape is None else shape) - 0.5)

    def with_spacing(self, spacing_mm: Sequence[float] | np.ndarray) -> Grid:
        """The same field of view (to within half a voxel) at another spacing, centre kept.

        Axes of one voxel are left alone.
        """
        wanted = np.asarray(spacing_mm, float)
        single = np.asarray(self.shape) == 1
        # A stack stays a stack: two voxels at the least, stretched over the field of view.
        shape = np.maximum(np.minimum(self.shape, 2), np.round(self.extent_mm / wanted)).astype(int)
        shape = np.where(single, 1, shape)
        wanted = np.where(single, self.spacing_mm, np.where(shape == 2, self.extent_mm / shape, wanted))
        return self.recentred(shape, wanted)

    def padded(self, margin_mm: float) -> Grid:
        """The grid grown by at least `margin_mm` on each side (axes of one voxel are left alone)."""
        extra = np.ceil(margin_mm / self.spacing_mm).astype(int)
        extra = np.where(np.asarray(self.shape) == 1, 0, extra)
        return self.recentred(np.asarray(self.shape) + 2 * extra, self.spacing_mm)

    def recentred(self, shape: Sequence[int] | np.ndarray, spacing_mm: Sequence[float] | np.ndarray) -> Grid:
        """A grid of another shape and spacing with the same axes and the same centre."""
        shape = np.asarray(shape)
        affine = np.eye(4)
        affine[:3, :3] = self.direction * spacing_mm
        affine[:3, 3] = self.centre_lps - affine[:3, :3] @ ((shape - 1) / 2)
        return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)

    def crop(self, start: Sequence[int] | np.ndarray, stop: Sequence[int] | np.ndarray) -> Grid:
        """The part of the grid from index `start` to before `stop`."""
        affine = self.affine.copy()
        affine[:3, 3] = self.lps(np.asarray(start, float)[None])[0]
        i, j, k = (int(b) - int(a) for a, b in zip(start, stop, strict=True))
        return Grid((i, j, k), affine)

    def same_as(self, other: Grid, tolerance_mm: float = 1e-3) -> bool:
        """True if both grids have the same shape and no voxel centre differs by more than the tolerance."""
        if self.shape != other.shape:
            return False
        corners = _CUBE * (np.asarray(self.shape) - 1)
        return bool(np.abs(self.lps(corners) - other.lps(corners)).max() <= tolerance_mm)

    def bounding_grid(self, spacing_mm: float, margin_mm: float = 0.0) -> Grid:
        """The axis-aligned (LPS) isotropic grid that covers this one."""
        corners = self.corners()
        low, high = corners.min(0) - margin_mm, corners.max(0) + margin_mm
        shape = np.maximum(1, np.ceil((high - low) / spacing_mm - 1e-6)).astype(int)
        origin = (low + high) / 2 - spacing_mm * (shape - 1) / 2
        return Grid.from_axes(shape, (spacing_mm,) * 3, origin)


def finest_spacing_mm(grid: Grid) -> float:
    """The smallest spacing along the axes of more than one voxel.

    Args:
        grid: Of one voxel along every axis: all axes count.

    Returns:
        Spacing in mm.
    """
    return float(grid.spacing_mm[list(grid.active_axes) or [0, 1, 2]].min())


def _flat(matrix: np.ndarray) -> bool:
    """True for axes that are zero or lie in one plane, whatever their length."""
    lengths = np.linalg.norm(matrix, axis=0)
    return bool((lengths == 0).any() or abs(np.linalg.det(matrix / np.where(lengths == 0, 1, lengths))) < 1e-6)


def transform_points(matrix: Matrix4, points: np.ndarray) -> np.ndarray:
    """A homogeneous matrix applied to points.

    Args:
        matrix: [4, 4] float64.
        points: [..., 3] in the space that the matrix maps from.

    Returns:
        [..., 3] float64 in the space that it maps to.
    """
    return np.asarray(points, np.float64) @ matrix[:3, :3].T + matrix[:3, 3]


def field_scale(fixed: Grid, moving: Grid) -> float:
    """How large the smaller of two fields of view is, so that smaller ones take smaller steps.

    Args:
        fixed, moving: Of the two images.

    Returns:
        1 for 256 mm; the second longest side counts.
    """
    sides = [np.sort(grid.extent_mm[list(grid.active_axes)]) for grid in (fixed, moving)]
    return min(float(side[-2:][0]) for side in sides) / 256.0
