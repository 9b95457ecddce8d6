"""The lines of the quality table that say how far a transform respects its constraints."""

from __future__ import annotations

from collections.abc import Iterator

from samreg.constraints.measuring import RIGID_TOLERANCE_MM, VOLUME_TOLERANCE, ConstraintReport, Keeps, KeptRegion
from samreg.result import Criterion, Verdict

OWN = "You asked for this."


def constraint_checks(report: ConstraintReport | None) -> Iterator[Criterion]:
    """A line for the landmarks, the regions that keep their volume and those that keep their shape.

    Args:
        report: How far the transform respects what was asked of it; None: nothing was.
    """
    if report is None:
        return
    if marks := report.landmarks:
        met = sum(mark.met for mark in marks)
        worst = max(marks, key=lambda mark: mark.residual_mm / mark.accuracy_mm)
        yield Criterion(
            "landmarks", "Landmarks that are met within their accuracy", f"all {len(marks)}", float(met), "landmarks",
            "met" if met == len(marks) else "not met",
            f"The worst one, {worst.name}, is {worst.residual_mm:.2f} mm away, its accuracy {worst.accuracy_mm:g} mm.",
        )  # fmt: skip
    if kept := _of(report, "keep-volume"):
        ratio = max((region.volume_ratio for region in kept), key=lambda value: abs(value - 1))
        yield Criterion(
            "keep-volume", "Volume of regions that keep it, after to before, worst ratio",
            f"{1 - VOLUME_TOLERANCE:g} to {1 + VOLUME_TOLERANCE:g}", ratio, "", _all_met(kept), OWN,
        )  # fmt: skip
    if kept := _of(report, "keep-rigid"):
        most = max(region.most_mm for region in kept)
        yield Criterion(
            "keep-rigid", "Distance from the best rigid motion in regions that stay rigid, maximum",
            f"at most {RIGID_TOLERANCE_MM:g} mm", most, "mm", _all_met(kept), OWN,
        )  # fmt: skip


def _of(report: ConstraintReport, keeps: Keeps) -> list[KeptRegion]:
    return [region for region in report.regions if region.keeps == keeps]


def _all_met(regions: list[KeptRegion]) -> Verdict:
    return "met" if all(region.met for region in regions) else "not met"
