"""Planes to look at: cuts through a volume in radiological convention, with their orientation letters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from samreg.geometry import Grid, Volume, resample
from samreg.transforms import Transform, nearest_rotation

PIXELS = 512  # along the longer side of a picture
THICK = 2.5  # slices this much thicker than wide are looked at as they were acquired
OBLIQUE_DEGREES = 2.0


@dataclass(frozen=True, eq=False)
class View:
    """One plane.

    Attributes:
        name: "Axial", "Coronal", "Sagittal", or "Image" for a 2D picture.
        grid: Shape (w, h, 1); index i runs to the right of the screen, j downwards, k into the patient.
        letters: Patient directions at the left, right, top and bottom edge; empty strings where unknown.
        tilt_degrees: Angle between the plane and the anatomical plane it is named after.
    """

    name: str
    grid: Grid
    letters: tuple[str, str, str, str]
    tilt_degrees: float = 0.0

    @property
    def title(self) -> str:
        """The name, with the tilt where there is one."""
        return f"{self.name}, tilted {self.tilt_degrees:.0f}°" if self.tilt_degrees >= OBLIQUE_DEGREES else self.name

    @property
    def pixel_mm(self) -> float:
        """Size of a pixel."""
        return float(self.grid.spacing_mm[0])

    def pixels(self, points_lps: np.ndarray) -> np.ndarray:
        """Pixel coordinates [n, 2] (right, down) of points [n, 3] projected along the normal."""
        return self.grid.index(points_lps)[..., :2]

    def through(self, point_lps: np.ndarray) -> View:
        """The parallel plane through a point."""
        affine = self.grid.affine.copy()
        normal = self.grid.direction[:, 2]
        affine[:3, 3] += normal * float((point_lps - affine[:3, 3]) @ normal)
        return View(self.name, Grid(self.grid.shape, affine), self.letters, self.tilt_degrees)

    def around(self, point_lps: np.ndarray, side_mm: float, pixels: int) -> View:
        """A square part of the plane through a point."""
        step = side_mm / pixels
        affine = np.eye(4)
        affine[:3, :3] = self.grid.direction * step
        affine[:3, 3] = point_lps - affine[:3, :2].sum(1) * (pixels - 1) / 2
        return View(self.name, Grid((pixels, pixels, 1), affine), self.letters, self.tilt_degrees)

    def coarse(self, pixels: int) -> View:
        """The same field of view with `pixels` along the longer side."""
        scale = max(self.grid.shape) / pixels
        shape = [max(2, round(n / scale)) for n in self.grid.shape[:2]]
        steps = [n * self.pixel_mm / m for n, m in zip(self.grid.shape, shape, strict=False)]
        affine = self.grid.affine.copy()
        affine[:3, :3] = self.grid.direction * [*steps, self.pixel_mm * scale]
        affine[:3, 3] = self.grid.lps(np.array([0.5 * s / self.pixel_mm - 0.5 for s in steps] + [0.0])[None])[0]
        return View(self.name, Grid((shape[0], shape[1], 1), affine), self.letters, self.tilt_degrees)


def views_of(volume: Volume, middle_lps: np.ndarray) -> list[View]:
    """Axial, coronal and sagittal planes through a point; one view of a 2D image.

    They lie along the patient's axes. Only oblique stacks of thick slices are looked at along
    their own axes: elsewhere each acquired slice would be smeared over several cuts.
    """
    grid = volume.grid
    if grid.is_2d:
        known = volume.source is not None
        axes = grid.direction.copy()
        axes[:, 2] = np.cross(axes[:, 0], axes[:, 1])
        return [_view("Image", grid, middle_lps, axes, lettered=known)]
    right, back, up = frame_of(grid).T
    # Radiological: the patient's right is on the left of the screen, as if seen from the feet or the front.
    planes = {"Axial": (right, back), "Coronal": (right, -up), "Sagittal": (back, -up)}
    return [_view(name, grid, middle_lps, np.stack([a, b, np.cross(a, b)], 1)) for name, (a, b) in planes.items()]


def frame_of(grid: Grid) -> np.ndarray:
    """[3, 3] columns: the viewing axes nearest to left, posterior and head."""
    from scipy.optimize import linear_sum_assignment

    if grid.spacing_mm.max() < THICK * grid.spacing_mm.min():
        return np.eye(3)
    direction = nearest_rotation(grid.direction) if np.linalg.det(grid.direction) > 0 else grid.direction
    _, axis = linear_sum_assignment(-np.abs(direction))
    frame = direction[:, axis]
    return frame * np.sign(np.diag(frame))


def corresponding(view: View, transform: Transform) -> View:
    """The plane of the moving image that the transform's best rigid part maps the view to.

    It cuts the moving image where its counterparts lie, without warping it.
    """
    # The middle of the view counts: towards its edges a displacement field may end.
    lattice = view.coarse(9).grid.points().reshape(-1, 3)
    lattice = lattice.mean(0) + 0.6 * (lattice - lattice.mean(0))
    normal = view.grid.direction[:, 2] * (0.1 if view.name == "Image" else 10.0)
    points = np.concatenate([lattice - normal, lattice + normal])
    mapped = transform.map_points(points)
    linear = np.linalg.lstsq(points - points.mean(0), mapped - mapped.mean(0), rcond=None)[0].T
    rotation = nearest_rotation(linear)
    affine = view.grid.affine.copy()
    affine[:3, :3] = rotation @ affine[:3, :3]
    affine[:3, 3] = rotation @ (affine[:3, 3] - points.mean(0)) + mapped.mean(0)
    grid = Grid(view.grid.shape, affine)
    letters = edge_letters(grid.direction) if any(view.letters) else ("", "", "", "")
    name = view.name if view.name == "Image" else f"Corresponding to {view.name.lower()}"
    return View(name, grid, letters)


def cut(voxels: np.ndarray, grid: Grid, plane: Grid) -> np.ndarray:
    """The values of a volume on a plane, [w, h] float32, NaN beyond the volume.

    Only the slab of the volume around the plane is read.
    """
    w, h, _ = plane.shape
    corners = grid.index(plane.lps(np.array([(i, j, 0.0) for i in (-0.5, w - 0.5) for j in (-0.5, h - 0.5)])))
    margin = 3 + np.ceil(1.5 * plane.spacing_mm[0] / grid.spacing_mm)
    low = np.clip(np.floor(corners.min(0) - margin), 0, np.array(grid.shape) - 1).astype(int)
    high = np.clip(np.ceil(corners.max(0) + margin) + 1, low + 1, grid.shape).astype(int)
    slab = voxels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    # The plane has no thickness: smoothing against aliasing stays within it.
    affine = plane.affine.copy()
    affine[:3, 2] *= 1e-3 / plane.spacing_mm[2]
    coarser = plane.spacing_mm[0] > 2 * grid.spacing_mm.min()  # below that aliasing is not seen
    target = Grid(plane.shape, affine)
    return resample(slab, grid.crop(low, high), target, outside=np.nan, antialias=bool(coarser))[:, :, 0]


def body_middle(volume: Volume) -> np.ndarray:
    """LPS mm of the voxel in the middle of the body (bright enough voxels; whole image if there are none)."""
    from skimage.filters import threshold_otsu

    steps = [max(1, n // 96) for n in volume.grid.shape]
    thumb = volume.voxels[:: steps[0], :: steps[1], :: steps[2]]
    flat = thumb[np.isfinite(thumb)]
    if flat.size == 0 or flat.min() == flat.max():
        return volume.grid.centre_lps
    # Otsu separates bright from dark tissue as readily as body from air: a third of it keeps the body.
    low = float(np.percentile(flat, 1))
    level = -300.0 if volume.modality == "CT" else low + (float(threshold_otsu(flat)) - low) / 3
    where = np.argwhere(thumb > level)
    if where.size == 0:
        return volume.grid.centre_lps
    middle = np.percentile(where, (3, 97), axis=0).mean(0) * steps
    return volume.grid.lps(np.round(middle)[None])[0]


def edge_letters(direction: np.ndarray) -> tuple[str, str, str, str]:
    """Letters at the left, right, top and bottom edge for the axes (right, down) in columns 0 and 1."""
    right, down = direction[:, 0], direction[:, 1]
    return letters(-right), letters(right), letters(-down), letters(down)


def letters(direction: np.ndarray) -> str:
    """Patient directions along a unit vector, the nearest one first ("H", "LA"), as DICOM writes them.

    A second letter stands where the vector leans at least 20° towards it (sin 20° = 0.34).
    """
    names = (("R", "L"), ("A", "P"), ("F", "H"))
    order = np.argsort(-np.abs(direction), kind="stable")
    found = [names[a][int(direction[a] > 0)] for a in order if abs(direction[a]) >= 0.34]
    return "".join(found[:2])


def _view(name: str, grid: Grid, middle: np.ndarray, axes: np.ndarray, *, lettered: bool = True) -> View:
    """The plane through `middle` along `axes` (right, down, normal in columns) that covers the grid."""
    corners = grid.corners() @ axes
    low, high = corners.min(0), corners.max(0)
    step = float((high - low)[:2].max()) / PIXELS
    shape = np.maximum(2, np.round((high - low)[:2] / step)).astype(int)
    start = (low + high)[:2] / 2 - step * (shape - 1) / 2
    affine = np.eye(4)
    affine[:3, :3] = axes * step
    affine[:3, 3] = axes @ np.array([*start, float(middle @ axes[:, 2])])
    anatomical = float(np.abs(axes[:, 2]).max())
    tilt = float(np.degrees(np.arccos(min(1.0, anatomical)))) if lettered else 0.0
    marks = edge_letters(axes) if lettered else ("", "", "", "")
    return View(name, Grid((int(shape[0]), int(shape[1]), 1), affine), marks, tilt)
