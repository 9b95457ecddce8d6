"""A plausible registration result, made without registering anything: for tests and for looking at reports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter, label
from scipy.spatial.transform import Rotation

from samreg.config import Config
from samreg.geometry import Grid, Volume
from samreg.result import Criterion, Quality, RegistrationResult
from samreg.rois import Roi, RoiPair, RoiPairs, RoiSet
from samreg.transforms import Affine, Rigid, Transform, VelocityField, about_centre, compose

CRITERIA = (
    Criterion("rigid-error", "Error of the rigid part on a phantom", "at most 0.5 voxel", None, "voxel", "not judged",
              "No known transform for this input (AAPM TG-132)"),
    Criterion("held-out-mean", "Held-out pairs, mean error", "at most 2 mm", 1.4, "mm", "met", "AAPM TG-132"),
    Criterion("held-out-max", "Held-out pairs, largest error", "at most 5 mm", 6.3, "mm", "not met", "AAPM TG-132"),
    Criterion("folding", "Smallest Jacobian determinant", "above 0", 0.71, "", "met", "AAPM TG-132"),
    Criterion("inverse", "Forward then backward, 95th percentile", "at most 1 voxel", 0.12, "voxel", "met",
              "AAPM TG-132"),
)  # fmt: skip


def head_phantom(
    shape: Sequence[int] = (48, 56, 40),
    spacing_mm: Sequence[float] = (4.0, 4.0, 4.5),
    direction: np.ndarray | None = None,
) -> Volume:
    """An ellipsoid with a bright spot towards the patient's LEFT, a dark one in front, and a bright top.

    The spots let a test tell left from right, front from back, and top from bottom.
    """
    grid = Grid.from_axes(shape, spacing_mm, direction=direction)
    points = grid.points() - grid.centre_lps
    radius = 0.42 * np.array([min(grid.extent_mm)] * 3)
    radius = np.maximum(radius, 0.42 * np.abs(grid.direction) @ grid.extent_mm * 0.9)
    unit = points / radius
    body = (unit**2).sum(-1) < 1
    image = 100.0 * body
    image[body & (((unit - [0.5, 0, 0]) ** 2).sum(-1) < 0.06)] = 220
    image[body & (((unit - [0, -0.55, 0]) ** 2).sum(-1) < 0.05)] = 30
    image[body & (unit[..., 2] > 0.6)] = 160
    rng = np.random.default_rng(3)
    image += gaussian_filter(rng.normal(size=grid.shape), 1.0) * 14 * body
    return Volume(image.astype(np.float32), grid, name="head phantom", modality="MR")


def read_dicom(folder: Path) -> Volume:
    """A DICOM series, k along the slices."""
    import highdicom as hd
    import pydicom

    series = [pydicom.dcmread(f) for f in sorted(folder.glob("*.dcm"))]
    volume = hd.get_volume_from_series(series, apply_presentation_lut=False)
    voxels = np.ascontiguousarray(volume.array.transpose(2, 1, 0)).astype(np.float32)
    affine = volume.affine[:, [2, 1, 0, 3]]
    return Volume(voxels, Grid(voxels.shape, affine), name=folder.name, modality=str(series[0].Modality))


def wave(grid: Grid, largest_mm: float = 9.0) -> VelocityField:
    """A smooth velocity field that swells one side and shifts the other."""
    coarse = grid.bounding_grid(max(12.0, float(grid.extent_mm.max()) / 24), 20.0)
    if grid.is_2d:
        coarse = grid.with_spacing([grid.extent_mm[0] / 20, grid.extent_mm[1] / 20, grid.spacing_mm[2]])
    unit = (coarse.points() - grid.centre_lps) / (grid.extent_mm.max() / 2)
    inside = np.exp(-2 * (unit**2).sum(-1, keepdims=True))
    shift = np.stack([np.sin(3 * unit[..., 1]), 0.7 * np.cos(4 * unit[..., 0]), 0.5 * np.sin(3 * unit[..., 2])], -1)
    if grid.is_2d:
        shift[..., 2] = 0
    return VelocityField(coarse, (largest_mm * inside * shift).astype(np.float32))


def true_transforms(fixed: Volume, degrees: float, shift_mm: Sequence[float]) -> tuple[Rigid, Affine, Transform]:
    """Rigid, affine and deformable transforms from fixed to moving points."""
    turn = Rotation.from_rotvec(np.radians(degrees) * np.array([0, 0, 1.0])).as_matrix()
    if not fixed.grid.is_2d:
        turn = Rotation.from_rotvec(np.radians(6) * np.array([1.0, 0, 0])).as_matrix() @ turn
    rigid = Rigid(about_centre(turn, np.asarray(shift_mm, float), fixed.grid.centre_lps))
    scale = np.diag([1.02, 0.98, 1.0 if fixed.grid.is_2d else 1.01])
    affine = Affine(rigid.moving_from_fixed @ about_centre(scale, np.zeros(3), fixed.grid.centre_lps))
    return rigid, affine, compose([wave(fixed.grid), rigid])


def invented_rois(volume: Volume, count: int) -> list[np.ndarray]:
    """Masks [i, j, k] of blobs of similar brightness within the body."""
    rng = np.random.default_rng(11)
    smooth = gaussian_filter(volume.voxels, [min(4.0, 6.0 / s) if n > 1 else 0 for s, n in zip(
        volume.grid.spacing_mm, volume.grid.shape, strict=True)])  # fmt: skip
    body = smooth > np.percentile(smooth, 65)
    seeds = np.argwhere(body)[rng.choice(int(body.sum()), 40 * count, replace=False)]
    masks: list[np.ndarray] = []
    taken = np.zeros(volume.grid.shape, bool)
    indices = np.stack(np.meshgrid(*[np.arange(n) for n in volume.grid.shape], indexing="ij"), -1)
    span = float(smooth[body].max() - smooth[body].min())
    radius = 0.11 * float(np.median(volume.grid.extent_mm))
    for seed in seeds:
        if taken[tuple(seed)] or len(masks) == count:
            continue
        near = (((indices - seed) * volume.grid.spacing_mm) ** 2).sum(-1) < radius**2
        alike = near & ~taken & (np.abs(smooth - smooth[tuple(seed)]) < 0.1 * span)
        parts, _ = label(alike)
        mask = parts == parts[tuple(seed)]
        if mask.sum() > 0.25 * near.sum():
            masks.append(mask)
            taken |= mask
    return masks


def plausible_result(
    fixed: Volume,
    *,
    kind: str = "deformable",
    status: str = "REVIEW",
    degrees: float = 25.0,
    shift_mm: Sequence[float] = (12.0, -8.0, 5.0),
    rois: int = 14,
    moving: Volume | None = None,
) -> tuple[RegistrationResult, np.ndarray]:
    """A result whose transform is known to be right, and the warped image.

    Args:
        moving: None: a turned (and for "deformable" bent) copy of the fixed image on its grid.
    """
    rigid, affine, bent = true_transforms(fixed, degrees, shift_mm)
    transform: Transform = {"identity": Affine.identity(), "rigid": rigid, "affine": affine, "deformable": bent}[kind]
    inverse = transform.inverse()
    if moving is None:
        voxels = inverse.warp(fixed, fixed.grid)
        moving = Volume(voxels, fixed.grid, name=f"{fixed.name}, turned", modality=fixed.modality)
    pairs = []
    for n, mask in enumerate(invented_rois(fixed, rois), 1):
        there = inverse.warp(Volume(mask.astype(np.float32), fixed.grid), moving.grid) > 0.5
        if not there.any():
            continue
        confidence = 0.97 - 0.03 * n
        pairs.append(
            RoiPair(n, Roi.from_mask(mask), Roi.from_mask(there), 0.98 - 0.01 * n, max(0.1, confidence), n % 4 == 0)
        )
    all_pairs = RoiPairs(fixed.grid, moving.grid, tuple(pairs))
    reasons = (
        () if status == "PASS" else ("A held-out pair lies 6.3 mm from where it should be; at most 5 mm is asked.",)
    )
    result = RegistrationResult(
        fixed=fixed,
        moving=moving,
        transform=transform,
        inverse=inverse,
        kind=kind,
        asked="deformable",
        stages={"rigid": rigid, "affine": affine} if kind != "identity" else {},
        fallbacks=() if kind == "deformable" else (f"deformable → {kind}: no better on the held-out pairs.",),
        fixed_rois=RoiSet(fixed.grid, tuple(p.fixed for p in pairs)),
        moving_rois=RoiSet(moving.grid, tuple(p.moving for p in pairs)),
        pairs=all_pairs,
        quality=Quality(
            status,
            reasons,
            CRITERIA,
            {"ncc": 0.312, "mutual_information": 0.41, "held_out_dice": float("nan")},
            {"ncc": 0.887, "mutual_information": 1.02, "held_out_dice": 0.84},
        ),
        config=Config(),
        timings_s={"read": 1.2, "preprocess": 2.8, "encode": 9.1, "propose": 6.4, "match": 1.1, "estimate": 21.7},
        peak_memory_mb=1480.2,
        device="cpu",
        provenance={
            "versions": {"torch": "2.13.0", "numpy": "2.4.6"},
            "hashes": {"config": Config().hash, "weights": None},
            "seed": 0,
        },
    )
    return result, transform.warp(moving, fixed.grid)
