"""Results of registrations that never ran: real DICOM series, invented regions, a known transform."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from samreg import phantoms
from samreg.config import Config
from samreg.geometry import Grid, Volume
from samreg.io import read_image
from samreg.result import Quality, RegistrationResult
from samreg.rois import Roi, RoiPair, RoiPairs
from samreg.transforms import Affine, Rigid, Transform, VelocityField, about_centre


def as_series(volume: Volume, folder: Path, **options: object) -> Volume:
    """A volume written as a DICOM series and read again."""
    phantoms.write_dicom_series(volume, folder, **options)
    return read_image(folder)


def blobs(volume: Volume, count: int, seed: int = 0) -> list[Roi]:
    """Overlapping ellipsoids within the image."""
    rng = np.random.default_rng(seed)
    shape = np.array(volume.grid.shape)
    rois = []
    for _ in range(count):
        radius = np.maximum(1, rng.uniform(0.05, 0.15, 3) * shape).astype(int)
        start = rng.integers(0, np.maximum(1, shape - 2 * radius))
        size = np.minimum(2 * radius, shape - start)
        axes = [((np.arange(n) - (n - 1) / 2) / (n / 2)) ** 2 for n in size]
        mask = axes[0][:, None, None] + axes[1][:, None] + axes[2] <= 1
        rois.append(Roi.from_mask(mask, offset=start.tolist()))
    return rois


def invented_pairs(fixed: Volume, moving: Volume, count: int = 5) -> RoiPairs:
    """Pairs of blobs that have nothing to do with each other; every third is held out."""
    sides = zip(blobs(fixed, count, 1), blobs(moving, count, 2), strict=True)
    pairs = tuple(RoiPair(n, f, m, 0.9, 0.9 - n / 100, n % 3 == 0) for n, (f, m) in enumerate(sides, 1))
    return RoiPairs(fixed.grid, moving.grid, pairs)


def result_of(
    fixed: Volume,
    moving: Volume,
    transform: Transform,
    *,
    kind: str,
    stages: dict[str, Transform] | None = None,
    pairs: RoiPairs | None = None,
    status: str = "REVIEW",
) -> RegistrationResult:
    """A result with this transform."""
    pairs = invented_pairs(fixed, moving) if pairs is None else pairs
    return RegistrationResult(
        fixed=fixed,
        moving=moving,
        transform=transform,
        inverse=transform.inverse(),
        kind=kind,
        asked=kind,
        stages=stages or {kind: transform},
        fallbacks=(),
        fixed_rois=pairs.fixed,
        moving_rois=pairs.moving,
        pairs=pairs,
        quality=Quality(status, (), (), {}, {}),
        config=Config(),
    )


def rigid(volume: Volume, shift_mm: tuple[float, float, float] = (12.0, -7.5, 4.25)) -> Rigid:
    """A rotation of 17 degrees about an oblique axis through the image's centre, and a shift."""
    from scipy.spatial.transform import Rotation

    axis = np.array([1, -2, 3]) / np.sqrt(14)
    rotation = Rotation.from_rotvec(np.deg2rad(17) * axis).as_matrix()
    return Rigid(about_centre(rotation, np.array(shift_mm), volume.grid.centre_lps))


def affine(volume: Volume) -> Affine:
    """A sheared and scaled `rigid`."""
    stretch = np.array([[1.05, 0.04, 0], [0, 0.96, 0.03], [0.02, 0, 1.02]])
    matrix = rigid(volume).moving_from_fixed.copy()
    return Affine(about_centre(matrix[:3, :3] @ stretch, np.array([3.0, 5, -2]), volume.grid.centre_lps))


def deformable(volume: Volume, peak_mm: float = 8.0) -> tuple[Transform, Rigid]:
    """A smooth flow followed by `rigid`, and that rigid stage."""
    grid = volume.grid.bounding_grid(8.0, 16.0)
    points = (grid.points() - grid.centre_lps) / grid.extent_mm.max()
    bump = np.prod([np.cos(np.clip(points[..., a] * np.pi, -np.pi / 2, np.pi / 2)) for a in range(3)], axis=0)
    waves = np.stack([np.sin(5 * points[..., 1]), np.cos(4 * points[..., 2]), np.sin(6 * points[..., 0])], -1)
    velocity = (peak_mm * bump[..., None] * waves).astype(np.float32)
    stage = rigid(volume)
    return VelocityField(grid, velocity).then(stage), stage


def small_series(
    folder: Path, seed: int = 0, *, shape: tuple[int, int, int] = (13, 11, 6), **options: object
) -> Volume:
    """A series of noise on an oblique grid, whose frames do not end on whole bytes."""
    from scipy.spatial.transform import Rotation

    tilt = Rotation.from_euler("xyz", (20 + seed, -10, 30), degrees=True).as_matrix()
    grid = Grid.from_axes(shape, (5.0, 4.5, 9.0), (-31.25, 17.5, 40.0 + seed), tilt)
    voxels = np.random.default_rng(seed).integers(0, 1000, shape).astype(np.float32)
    return as_series(Volume(voxels, grid, modality="MR"), folder, **options)
