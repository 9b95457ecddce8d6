"""Pairs of images of one anatomy, with the transform between them known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from samreg.errors import UsageError
from samreg.geometry import Grid, Volume
from samreg.phantoms.anatomy import Anatomy, Contrast
from samreg.transforms import Affine, Rigid, Transform, VelocityField, about_centre, compose
from samreg.types import Labels, Mask

PhantomKind = Literal["identity", "rigid", "affine", "deformable"]
GridName = Literal["axial", "isotropic", "anisotropic", "oblique", "flipped", "sagittal", "thin", "picture", "ct"]


@dataclass(frozen=True, eq=False)
class Phantom:
    """Two images of one anatomy.

    Attributes:
        truth: Fixed points to moving points, LPS mm.
        fixed_labels, moving_labels: Organs, [i, j, k] uint8 on the grid of their image; the same number is
            the same organ, 0 is none.
        body: [i, j, k] on the fixed grid.
        names: Name of the organ with label n at position n - 1.
    """

    fixed: Volume
    moving: Volume
    truth: Transform
    fixed_labels: Labels
    moving_labels: Labels
    body: Mask
    names: tuple[str, ...]

    def errors_mm(self, transform: Transform, *, seen_only: bool = False, count: int = 20_000) -> np.ndarray:
        """Distance [n] between where a transform and the truth take voxels of the fixed body, in mm.

        Args:
            transform: Fixed points to moving points.
            seen_only: Only where the moving image covers the true counterpart.
            count: At most this many voxels, evenly spread.
        """
        indices = np.argwhere(self.body)
        indices = indices[:: max(1, len(indices) // count)]
        points = self.fixed.grid.lps(indices.astype(np.float64))
        true = self.truth.map_points(points)
        if seen_only:
            seen = self.moving.grid.contains(true)
            points, true = points[seen], true[seen]
        return np.linalg.norm(transform.map_points(points) - true, axis=-1)


def grid(name: GridName, size: int = 96) -> Grid:
    """A typical field of view of about 256 mm.

    Args:
        name: "isotropic"; "axial" (slices of 4 mm or more); "anisotropic" (pixels not square); "oblique" (rotated about
            all axes); "flipped" (i and k run backwards); "sagittal"; "thin" (10 slices of 9 mm);
            "picture" (one slice); "ct" (512 x 512 x 150 whatever the size).
        size: Voxels along i.

    Returns:
        Its centre lies a little off the scanner's origin.

    Raises:
        UsageError: An unknown name.
    """
    pixel = 256.0 / size
    slices = max(24, size // 2)
    thick = 200.0 / slices
    match name:
        case "isotropic":
            return _centred((size, size, size * 3 // 4), (pixel,) * 3)
        case "axial":
            return _centred((size, size, slices), (pixel, pixel, thick))
        case "anisotropic":
            return _centred((size, size * 3 // 4, slices), (pixel, pixel * 1.25, thick))
        case "oblique":
            tilt = Rotation.from_euler("xyz", (14, -9, 21), degrees=True).as_matrix()
            return _centred((size, size, slices), (pixel, pixel, thick), tilt)
        case "flipped":
            return _centred((size, size, slices), (pixel, pixel, thick), np.diag([-1.0, 1.0, -1.0]))
        case "sagittal":
            axes = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
            return _centred((size, size, slices), (pixel, pixel, thick), axes)
        case "thin":
            return _centred((size, size, 10), (pixel, pixel, 9.0))
        case "picture":
            return _centred((size, size * 7 // 8, 1), (pixel, pixel, 1.0))
        case "ct":
            return _centred((512, 512, 150), (0.78, 0.78, 2.0))
    raise UsageError(f"no grid has the name '{name}'", "the name of a grid", "See `samreg.phantoms.grid`.")


def pair(
    kind: PhantomKind = "rigid",
    *,
    seed: int = 0,
    fixed_grid: Grid | None = None,
    moving_grid: Grid | None = None,
    modality: Literal["CT", "MR"] = "MR",
    contrast: Contrast = "same",
    noise: float = 0.01,
    rotation_deg: float | None = None,
    translation_mm: float | Sequence[float] | None = None,
    scale: float = 0.08,
    peak_mm: float = 10.0,
    outside: float = 0.0,
) -> Phantom:
    """Two images of one anatomy: moving(y) = anatomy(truth⁻¹(y)), each sampled from the formula itself.

    Args:
        kind: Of the true transform. "deformable" is a velocity field followed by a rigid transform.
        seed: Same seed, same voxels.
        fixed_grid: Default `grid("axial")`.
        moving_grid: Default the fixed grid: the body moves within the same scanner.
        modality: "CT" gives Hounsfield units, "MR" 0 to about 1000.
        contrast: Of the moving image: the same values, inverted ones (air stays air), or each organ another value.
        noise: Standard deviation as a share of the tissue's range of values.
        rotation_deg: About a random axis (the slice normal in 2D); default 10, for "deformable" 3.
        translation_mm: [3] LPS, or a length in a random direction (within the slice in 2D); default 12,
            for "deformable" 5.
        scale: Largest stretch and shear of "affine".
        peak_mm: Largest displacement of the velocity field of "deformable".
        outside: Share of its field of view by which the moving image is shifted along i, so that this much
            of the body's surroundings, then of the body, is not seen.

    Returns:
        Both images with their organs, and the true transform.

    Example:
        phantom = pair("rigid", fixed_grid=grid("oblique"), moving_grid=grid("thin"), rotation_deg=25)

    Raises:
        UsageError: An unknown kind.
    """
    fixed_grid = grid("axial") if fixed_grid is None else fixed_grid
    moving_grid = fixed_grid if moving_grid is None else moving_grid
    if outside:
        shift = moving_grid.affine.copy()
        shift[:3, 3] += outside * moving_grid.shape[0] * shift[:3, 0]
        moving_grid = Grid(moving_grid.shape, shift)
    in_plane = max(float(np.sort(g.spacing_mm)[1]) for g in (fixed_grid, moving_grid))
    anatomy = Anatomy(fixed_grid, seed, in_plane)
    rng = np.random.default_rng((seed, 1))
    truth = _truth(kind, fixed_grid, rng, rotation_deg, translation_mm, scale, peak_mm)
    back = _inverse_map(truth)
    fixed, fixed_labels = _scan(
        anatomy, fixed_grid, Rigid(np.eye(4)).map_tensor, modality, "same", noise, rng, "phantom fixed"
    )
    moving, moving_labels = _scan(anatomy, moving_grid, back, modality, contrast, noise, rng, "phantom moving")
    body = np.zeros(fixed_grid.shape, bool)
    for where, points in fixed_grid.slabs():
        body[where] = anatomy.inside(torch.as_tensor(points).reshape(-1, 3)).reshape(points.shape[:3]).numpy()
    return Phantom(fixed, moving, truth, fixed_labels, moving_labels, body, anatomy.names)


def _scan(
    anatomy: Anatomy,
    grid: Grid,
    to_anatomy: Callable[[Tensor], Tensor],
    modality: str,
    contrast: Contrast,
    noise: float,
    rng: np.random.Generator,
    name: str,
) -> tuple[Volume, Labels]:
    """The anatomy as a scanner sees it: values averaged over thick slices, noise; and its labels."""
    noise *= float(np.ptp(anatomy.values_of(modality, contrast)))
    voxels = np.empty(grid.shape, np.float32)
    labels = np.empty(grid.shape, np.uint8)
    # A slice much thicker than its pixels is averaged over its profile, as a scanner does.
    thickness = grid.spacing_mm[2] / grid.spacing_mm[:2].min()
    samples = 1 if thickness <= 3 or grid.is_2d else 3 if thickness <= 4 else 5
    offsets = ((np.arange(samples) + 0.5) / samples - 0.5)[:, None] * grid.affine[:3, 2]
    for where, points in grid.slabs(max_voxels=1_000_000):
        shape = points.shape[:3]
        total = np.zeros(shape, np.float32)
        for number, offset in enumerate(offsets):
            at = to_anatomy(torch.as_tensor(points + offset).reshape(-1, 3))
            image, organs = anatomy.render(at, modality, contrast)
            total += image.reshape(shape).numpy()
            if number == samples // 2:
                labels[where] = organs.reshape(shape).numpy()
        voxels[where] = total / samples + noise * rng.standard_normal(shape, np.float32)
    if modality == "MR":
        voxels = np.abs(voxels)  # magnitude images have no negative value
    return Volume(voxels, grid, name=name, modality=modality), labels


def _inverse_map(truth: Transform) -> Callable[[Tensor], Tensor]:
    """The inverse of the truth; exp(-v) is so but for interpolation, which one step of correction takes out."""
    inverse = truth.inverse()
    if isinstance(truth, Affine):
        return inverse.map_tensor

    def back(points: Tensor) -> Tensor:
        guess = inverse.map_tensor(points)
        return 2 * guess - inverse.map_tensor(truth.map_tensor(guess))

    return back


def _truth(
    kind: PhantomKind,
    grid: Grid,
    rng: np.random.Generator,
    rotation_deg: float | None,
    translation_mm: float | Sequence[float] | None,
    scale: float,
    peak_mm: float,
) -> Transform:
    if kind not in ("identity", "rigid", "affine", "deformable"):
        raise UsageError(f"the kind of the phantom is '{kind}'", "identity, rigid, affine or deformable")
    if kind == "identity":
        return Rigid(np.eye(4))
    gentle = kind == "deformable"
    angle = (3.0 if gentle else 10.0) if rotation_deg is None else rotation_deg
    shift = (5.0 if gentle else 12.0) if translation_mm is None else translation_mm
    normal = grid.direction[:, 2]
    axis = normal if grid.is_2d else _unit(rng.normal(size=3))
    rotation = Rotation.from_rotvec(np.deg2rad(angle) * axis).as_matrix()
    if np.ndim(shift) == 0:
        way = rng.normal(size=3)
        way -= (way @ normal) * normal if grid.is_2d else 0
        translation = _unit(way) * float(shift)  # type: ignore[arg-type]
    else:
        translation = np.asarray(shift, float)
    if kind == "affine":
        change = rng.uniform(-scale, scale, (3, 3))
        stretch = np.eye(3) + np.triu(change)
        if grid.is_2d:  # only within the slice
            plane = np.diag([1.0, 1.0, 0.0])
            stretch = grid.direction @ (np.eye(3) + plane @ np.triu(change) @ plane) @ grid.direction.T
        return Affine(about_centre(rotation @ stretch, translation, grid.centre_lps))
    rigid = Rigid(about_centre(rotation, translation, grid.centre_lps))
    return compose([_velocity(grid, rng, peak_mm), rigid]) if gentle else rigid


def _velocity(grid: Grid, rng: np.random.Generator, peak_mm: float) -> VelocityField:
    """A sum of smooth bumps that vanishes at the border, scaled to a largest displacement of `peak_mm`."""
    spacing = np.maximum(grid.extent_mm / 56, 3.0)
    margin = 0.1 * float(grid.extent_mm[:2].max())
    control = grid.with_spacing(tuple(np.minimum(spacing, grid.extent_mm / 12))).padded(margin)
    axes = [np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in control.shape]
    bumps = 12 if not grid.is_2d else 8
    along = np.zeros((*control.shape, 3))
    for _ in range(bumps):
        centre, width = rng.uniform(-0.6, 0.6, 3), rng.uniform(0.3, 0.5, 3)
        i, j, k = (
            np.exp(-0.5 * ((a - (c if len(a) > 1 else 0)) / w) ** 2)
            for a, c, w in zip(axes, centre, width, strict=True)
        )
        along += (i[:, None, None] * j[:, None] * k)[..., None] * rng.normal(size=3)
    i, j, k = (1 - a**4 for a in axes)
    along *= (i[:, None, None] * j[:, None] * k)[..., None] ** 2
    # Thin directions move less; a picture moves within its plane.
    share = np.minimum(1.0, grid.extent_mm / grid.extent_mm.max() * 1.5)
    if grid.is_2d:
        share[2] = 0.0
    velocity = (along * share) @ grid.direction.T
    velocity *= peak_mm / np.linalg.norm(velocity, axis=-1).max()
    # The flow's largest displacement is close to the largest velocity; one correction makes it equal.
    field = VelocityField(control, velocity.astype(np.float32))
    reached = float(np.linalg.norm(field.field.vectors, axis=-1).max())
    return VelocityField(control, (velocity * peak_mm / reached).astype(np.float32))


def _centred(shape: tuple[int, int, int], spacing: Sequence[float], direction: np.ndarray | None = None) -> Grid:
    """A grid whose centre is a little off the scanner's origin."""
    at_zero = Grid.from_axes(shape, spacing, direction=direction)
    return replace(at_zero, affine=_moved(at_zero.affine, np.array([7.0, -12.0, 30.0]) - at_zero.centre_lps))


def _moved(affine: np.ndarray, by: np.ndarray) -> np.ndarray:
    out = affine.copy()
    out[:3, 3] += by
    return out


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)
