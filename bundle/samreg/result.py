"""The result of a registration, for the report and for the writers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from samreg.config import Config
from samreg.constraints.measuring import ConstraintReport
from samreg.ecosystem import grid_for, image_as, transform_as
from samreg.geometry import Grid, Volume
from samreg.rois import RoiPairs, RoiSet
from samreg.transforms import Transform
from samreg.types import Status, TransformKind

Verdict = Literal["met", "within noise", "not met", "not judged"]


@dataclass(frozen=True)
class Criterion:
    """One line of the quality table.

    Attributes:
        name: Stable identifier ("inverse-consistency").
        measure: What is measured, for a reader ("Forward then backward, 99th percentile").
        asked: The tolerance, for a reader ("at most 1 voxel").
        measured: The number, or None if it could not be measured.
        unit: Of the number ("mm", "voxel", "").
        verdict: Whether it was met; "within noise": the number lies so near its limit that another processor might see
            it on the other side; or that it could not be judged on this input.
        note: Why it could not be judged, or where the tolerance is from ("AAPM TG-132").
    """

    name: str
    measure: str
    asked: str
    measured: float | None
    unit: str
    verdict: Verdict
    note: str = ""


@dataclass(frozen=True)
class Quality:
    """The stated quality of a result.

    Attributes:
        status: PASS, REVIEW or FAIL.
        reasons: Why not PASS, one sentence each; empty for PASS.
        criteria: The quality table.
        before, after: Similarity and agreement at the identity and with the transform,
            e.g. {"ncc": 0.31, "mutual_information": 0.4, "held_out_dice": 0.2}; NaN where unmeasured.
    """

    status: Status
    reasons: tuple[str, ...]
    criteria: tuple[Criterion, ...]
    before: Mapping[str, float]
    after: Mapping[str, float]


Outcome = Literal["taken", "refused", "abstained", "not needed"]


@dataclass(frozen=True)
class Step:
    """What became of one estimator of the method.

    Attributes:
        estimator: Its name.
        kind: Of its candidates.
        outcome: "not needed" where a transform of its kind was reached already, or the estimator is not meant for such
            images; "not reached" where the climb had ended before.
        reason: Why; a clause.
        rests_on: What the candidate was estimated from, a clause; empty without a candidate.
        seconds: That it took.
    """

    estimator: str
    kind: TransformKind
    outcome: Outcome
    reason: str
    rests_on: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class RegistrationResult:
    """Everything one registration found.

    Attributes:
        transform: Fixed points to moving points, LPS mm.
        inverse: Moving points to fixed points.
        kind: What `transform` is, after any fall-back.
        asked: What was asked for.
        stages: The best transform of each kind reached on the way ("rigid", "affine", "deformable").
        steps: What became of each estimator of the method, in order.
        decisions: How each candidate was judged against the transform before it, one sentence each, in order.
        fallbacks: One sentence for each fall-back taken ("deformable → affine: …"), in order.
        fixed_rois, moving_rois: All proposed regions.
        pairs: The paired regions.
        timings_s: Seconds by stage, in order.
        threads: How many were used on the CPU.
        provenance: Versions, device, hashes of configuration, weights and input, roles of the series.
        roles: How the fixed and the moving image were chosen, one sentence ("as given").
        series: Why each series of a study was taken or left, where there was a choice.
        constraints: What the transform was asked to respect, and how far it does; None: nothing was asked.
    """

    fixed: Volume
    moving: Volume
    transform: Transform
    inverse: Transform
    kind: TransformKind
    asked: TransformKind
    stages: Mapping[str, Transform]
    fallbacks: tuple[str, ...]
    fixed_rois: RoiSet
    moving_rois: RoiSet
    pairs: RoiPairs
    quality: Quality
    config: Config
    timings_s: Mapping[str, float] = field(default_factory=dict)
    peak_memory_mb: float = 0.0
    device: str = "cpu"
    threads: int = 1
    provenance: Mapping[str, Any] = field(default_factory=dict)
    roles: str = "as given"
    series: tuple[str, ...] = ()
    decisions: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    constraints: ConstraintReport | None = None

    def warped(self, grid: Grid | None = None) -> Volume:
        """The moving image on the fixed grid, or on another grid of the fixed image's space.

        Beyond its field of view stands air: the least value of CT, zero of other modalities.

        Returns:
            Voxels float32 [i, j, k].
        """
        reference = self.fixed.grid if grid is None else grid
        outside = min(0.0, float(self.moving.voxels.min()))
        voxels = self.transform.warp(self.moving, reference, outside=outside)
        return Volume(voxels, reference, name="warped image", modality=self.moving.modality)

    def warped_as(self, package: str) -> Any:
        """The moving image on the fixed grid as an image of another package.

        Args:
            package: "nibabel", "SimpleITK", "itk", "monai" or "torchio" (see `samreg.ecosystem`).

        Raises:
            UsageError: An unknown package, or one that is not installed.

        Example:
            result.warped_as("nibabel").to_filename("warped.nii.gz")
        """
        return image_as(self.warped(grid_for(package, self.fixed.grid)), package)

    def transform_as(self, package: str) -> Any:
        """`transform` as an object of another package.

        Args:
            package: "nibabel", "SimpleITK", "itk" or "monai" (see `samreg.ecosystem.transform_as`). TorchIO has no
                class for it.

        Raises:
            UsageError: An unknown package, one that is not installed, or one without transforms.

        Example:
            result.transform_as("SimpleITK").TransformPoint((0.0, 10.0, -20.0))
        """
        return transform_as(self.transform, package, grid_for(package, self.fixed.grid))

    def inverse_as(self, package: str) -> Any:
        """`inverse` as an object of another package, as `transform_as`; fields lie on the grid of the moving image."""
        return transform_as(self.inverse, package, grid_for(package, self.moving.grid))
