"""How far a transform respects its constraints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from samreg.constraints.model import Constraints, Region, Regions
from samreg.errors import UsageError
from samreg.geometry import Volume, transform_points
from samreg.transforms import Transform, rigid_from_points

VOLUME_TOLERANCE = 0.02  # of the volume of a region, that it may gain or lose
RIGID_TOLERANCE_MM = 0.2  # that a point of a rigid region may lie from where its best rigid motion takes it
MOST_POINTS = 20_000  # of a region, that its rigidity is measured at

Keeps = Literal["keep-volume", "keep-rigid"]


@dataclass(frozen=True)
class KeptRegion(Region):
    """What a transform does to one region of the moving image, seen from there to the fixed image.

    Attributes:
        keeps: What was asked for.
        volume_ratio: Volume after, relative to before.
        least_volume_ratio, greatest_volume_ratio: Of a voxel within the region.
        rms_mm, most_mm: How far its points lie from where its best rigid motion takes them.
    """

    keeps: Keeps
    volume_ratio: float
    least_volume_ratio: float
    greatest_volume_ratio: float
    rms_mm: float
    most_mm: float

    @property
    def met(self) -> bool:
        """Within VOLUME_TOLERANCE, or RIGID_TOLERANCE_MM."""
        if self.keeps == "keep-rigid":
            return self.most_mm <= RIGID_TOLERANCE_MM
        return abs(self.volume_ratio - 1) <= VOLUME_TOLERANCE


@dataclass(frozen=True)
class LandmarkResidual:
    """How far a mapped fixed landmark ends from its moving one.

    Attributes:
        before_mm: The same without a transform.
    """

    name: str
    before_mm: float
    residual_mm: float
    accuracy_mm: float

    @property
    def met(self) -> bool:
        """Within its accuracy."""
        return self.residual_mm <= self.accuracy_mm


@dataclass(frozen=True)
class ConstraintReport:
    """What was asked for, and how far a transform respects it.

    Attributes:
        masks: The images ("fixed", "moving") of which a mask was given.
        regions: Those whose volume, and those whose shape is to be kept.
    """

    masks: tuple[str, ...] = ()
    landmarks: tuple[LandmarkResidual, ...] = ()
    regions: tuple[KeptRegion, ...] = ()


def measured(transform: Transform, inverse: Transform, constraints: Constraints) -> ConstraintReport:
    """How far a transform respects its constraints.

    Args:
        transform: Fixed points to moving points.
        inverse: Moving points to fixed points.
        constraints: What was asked for.

    Returns:
        Residuals in mm, and ratios.
    """
    return ConstraintReport(
        constraints.masked,
        tuple(_residuals(transform, constraints)),
        tuple(_regions(inverse, constraints)),
    )


def why_constraints_break(transform: Transform, constraints: Constraints, *, landmarks: bool = True) -> str:
    """Why a transform breaks its constraints, a clause; empty if it respects them.

    Args:
        transform: Fixed points to moving points.
        constraints: What was asked for.
        landmarks: Whether landmarks must be met. A rigid or an affine transform cannot meet all of them, and states
            its residuals.

    Returns:
        "it bends region 1 of those to keep rigid by up to 0.7 mm".
    """
    if landmarks:
        missed = [mark for mark in _residuals(transform, constraints) if not mark.met]
        if missed:
            worst = max(missed, key=lambda mark: mark.residual_mm / mark.accuracy_mm)
            return (
                f"{len(missed)} of the landmarks are not met, at worst '{worst.name}' ({worst.residual_mm:.2g} mm "
                f"away, accuracy {worst.accuracy_mm:g} mm)"
            )
    if not constraints.kept:
        return ""
    try:
        inverse = transform.inverse()
    except UsageError as error:
        return f"it has no inverse ({error.got})"
    for region in _regions(inverse, constraints):
        if region.met:
            continue
        if region.keeps == "keep-rigid":
            return f"it bends region {region.number} of those to keep rigid by up to {region.most_mm:.2g} mm"
        return (
            f"it changes the volume of region {region.number} of those to keep to {region.volume_ratio:.1%} of what "
            "it was"
        )
    return ""


def volume_ratios(inverse: Transform, regions: Volume) -> np.ndarray:
    """Volume of each region after to before.

    Args:
        inverse: Moving points to fixed points.
        regions: Numbers 1, 2, … of regions of the moving image.

    Returns:
        float64 [n], in order of the numbers.
    """
    return _ratios(inverse.jacobian_determinant(regions.grid), regions)


def _ratios(determinant: np.ndarray, regions: Volume) -> np.ndarray:
    """The mean of a determinant on the grid of the regions, within each of them."""
    numbers = regions.voxels.ravel()
    return np.asarray(np.bincount(numbers, determinant.ravel())[1:] / np.bincount(numbers)[1:])


def _residuals(transform: Transform, constraints: Constraints) -> Iterator[LandmarkResidual]:
    marks = constraints.landmarks
    if marks is None:
        return
    before = np.linalg.norm(marks.fixed - marks.moving, axis=1)
    after = np.linalg.norm(transform.map_points(marks.fixed) - marks.moving, axis=1)
    for name, was, now, accuracy in zip(marks.names, before, after, marks.accuracy_mm, strict=True):
        yield LandmarkResidual(name, float(was), float(now), float(accuracy))


def _regions(inverse: Transform, constraints: Constraints) -> Iterator[KeptRegion]:
    asked: tuple[tuple[Keeps, Regions | None], ...] = (
        ("keep-volume", constraints.keep_volume),
        ("keep-rigid", constraints.keep_rigid),
    )
    for keeps, regions in asked:
        if regions is None:
            continue
        determinant = inverse.jacobian_determinant(regions.grid)
        for region, ratio in zip(regions.each, _ratios(determinant, regions), strict=True):
            inside = regions.voxels == region.number
            local = determinant[inside]
            points = regions.grid.lps(np.argwhere(inside))
            points = points[:: -(-len(points) // MOST_POINTS)]
            moved = inverse.map_points(points)
            stiff = rigid_from_points(points, moved, np.ones(len(points)))
            apart = np.linalg.norm(transform_points(stiff, points) - moved, axis=1)
            yield KeptRegion(
                **asdict(region),
                keeps=keeps,
                volume_ratio=float(ratio),
                least_volume_ratio=float(local.min()),
                greatest_volume_ratio=float(local.max()),
                rms_mm=float(np.sqrt((apart**2).mean())),
                most_mm=float(apart.max()),
            )
