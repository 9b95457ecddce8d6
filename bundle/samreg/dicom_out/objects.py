"""The DICOM objects of one result: a writer and a verifier of each."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

import samreg
from samreg import artefacts
from samreg.dicom_out.common import Stamp, new_uid, save
from samreg.dicom_out.dreg import TOLERANCE_MM, deformable_registration, sampled_field
from samreg.dicom_out.readback import REGISTRATION_TOLERANCE_MM, verify_registration, verify_segmentation
from samreg.dicom_out.reg import spatial_registration
from samreg.dicom_out.seg import MAX_SEGMENTS, numbered, segmentation
from samreg.errors import UsageError
from samreg.geometry import SourceSeries, Volume
from samreg.io.dicom_headers import quiet
from samreg.result import RegistrationResult
from samreg.transforms import Affine, DisplacementField
from samreg.types import Role

log = logging.getLogger(__name__)

# A grid that misses the transform by more than this (half of what TG-132 tolerates on average) is not written.
MAX_GRID_ERROR_MM = 1.0


@dataclass(frozen=True)
class DicomObjects:
    """What was written, each object read back and found to reproduce the result.

    Attributes:
        files: By the key of their row in `samreg.artefacts`; only those that were written.
        errors_mm: Largest distance between the object's and the result's mapped points, by name.
        notes: One sentence for each object that was left out, and for what an object stands for.
    """

    files: Mapping[str, Path]
    errors_mm: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """As it stands in `report.json`: file names without their folder."""
        return {
            "files": {name: path.name for name, path in self.files.items()},
            "errors_mm": {name: round(error, 6) for name, error in self.errors_mm.items()},
            "notes": list(self.notes),
        }


def write_objects(result: RegistrationResult, folder: Path) -> DicomObjects:
    """Write the DICOM objects that this result has into an existing folder, and read each back.

    `samreg.artefacts` lists them, and says when each is written. REG carries the rigid or affine transform (of a
    deformable result: its best linear stage), DREG a deformable one. Between series that share a frame of reference
    DREG carries the transform, whatever its kind. `notes` says what was left out, and why.

    Args:
        result: Of two DICOM series; its pairs lie on the grids of the two images.
        folder: Temporary folder of the caller, renamed once everything is whole.

    Raises:
        UsageError: An image does not come from a DICOM series.
        OutputInvalid: A written object breaks a rule or does not reproduce the result.
    """
    objects = Objects(result, _source(result.fixed, "fixed"), _source(result.moving, "moving"))
    with quiet():
        for row in artefacts.of_step("dicom"):
            if unmet := row.unmet(result):
                objects.note(unmet.otherwise)
                continue
            try:
                row.write(objects, folder / row.name)
            except _LeftOut as reason:
                objects.note(str(reason))
            else:
                objects.files[row.key] = folder / row.name
    for note in objects.notes:
        log.info("%s", note)
    return DicomObjects(objects.files, objects.errors_mm, tuple(objects.notes))


class _LeftOut(Exception):  # noqa: N818
    """The result does not fit into this object; the sentence says why."""


@dataclass(frozen=True, eq=False)
class Objects:
    """What the writers of the objects of one result share.

    Attributes:
        fixed, moving: The series that the objects refer to.
        files: Written so far, by the key of their row.
        errors_mm: Largest distance between the object's and the result's mapped points, by key.
        notes: Sentences for the reader, each once.
        identifiers: Of the segmentations written so far, by the role of their image.
    """

    result: RegistrationResult
    fixed: SourceSeries
    moving: SourceSeries
    files: dict[str, Path] = field(default_factory=dict)
    errors_mm: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    identifiers: dict[Role, Dataset] = field(default_factory=dict)

    @cached_property
    def stamp(self) -> Stamp:
        """The same in all objects of a result."""
        return Stamp(samreg.__version__, self.result.config.hash, self.result.quality.status, datetime.now())

    @cached_property
    def tracking_uids(self) -> dict[int, str]:
        """By pair; the same for its two regions."""
        return {pair.id: str(new_uid()) for pair in self.result.pairs}

    @cached_property
    def sampled(self) -> tuple[DisplacementField, float]:
        """The transform on a grid, and how far it misses there, in mm."""
        return sampled_field(self.result.transform, self.result.fixed.grid)

    @property
    def images(self) -> tuple[Volume, Volume]:
        """The fixed and the moving image."""
        return self.result.fixed, self.result.moving

    def note(self, sentence: str) -> None:
        """Say something to the reader, unless it is said already."""
        if sentence and sentence not in self.notes:
            self.notes.append(sentence)


def write_fixed_segmentation(objects: Objects, path: Path) -> None:
    """The paired regions of the fixed image."""
    _write_segmentation(objects, "fixed", objects.result.fixed, objects.fixed, path)


def write_moving_segmentation(objects: Objects, path: Path) -> None:
    """The paired regions of the moving image."""
    _write_segmentation(objects, "moving", objects.result.moving, objects.moving, path)


def _write_segmentation(objects: Objects, role: Role, volume: Volume, source: SourceSeries, path: Path) -> None:
    pairs = objects.result.pairs
    if len(pairs) > MAX_SEGMENTS:
        raise _LeftOut(
            f"No SEG is written, because {len(pairs)} regions were paired and a SEG numbers {MAX_SEGMENTS} at most."
        )
    ds = segmentation(pairs, role, volume, source, objects.stamp, objects.tracking_uids)
    save(ds, path)
    objects.identifiers[role] = _identifiers(ds)


def verify_fixed_segmentation(objects: Objects, path: Path) -> None:
    """Its masks are those of the pairs.

    Raises:
        OutputInvalid: They are not.
    """
    verify_segmentation(path, objects.result.pairs, "fixed", *objects.images)


def verify_moving_segmentation(objects: Objects, path: Path) -> None:
    """Its masks are those of the pairs.

    Raises:
        OutputInvalid: They are not.
    """
    verify_segmentation(path, objects.result.pairs, "moving", *objects.images)


def write_linear(objects: Objects, path: Path) -> None:
    """The rigid or affine transform, or the linear stage of a deformable one; refers to the segmentations."""
    result = objects.result
    partial = result.kind == "deformable"
    ds = spatial_registration(
        linear_stage(result),
        objects.fixed,
        objects.moving,
        objects.stamp,
        comment="Linear stage of a deformable registration" if partial else "",
        segmentations=(objects.identifiers.get("fixed"), objects.identifiers.get("moving")),
        used_segments=[n for n, pair in numbered(result.pairs).items() if not pair.held_out],
    )
    if partial:
        objects.note("REG holds the linear stage of the registration; DREG holds all of it.")
    save(ds, path)


def verify_linear(objects: Objects, path: Path) -> None:
    """It maps points as the linear stage does.

    Raises:
        OutputInvalid: It does not.
    """
    linear = linear_stage(objects.result)
    objects.errors_mm["reg"] = verify_registration(path, linear, *objects.images, REGISTRATION_TOLERANCE_MM)


def write_deformable(objects: Objects, path: Path) -> None:
    """The transform as a grid: of a deformable result, or for want of a REG."""
    result = objects.result
    sampled, error = objects.sampled
    spacing = float(sampled.grid.spacing_mm[0])
    if error > MAX_GRID_ERROR_MM:
        raise _LeftOut(f"No DREG is written, because a grid of {spacing:g} mm misses the transform by {error:.2f} mm.")
    if result.kind != "deformable":
        objects.note(f"DREG holds the {result.kind} transform, in place of a REG.")
    if error > TOLERANCE_MM:  # the grid is as fine as fits
        objects.note(f"DREG misses the transform by up to {error:.2f} mm on its {spacing:g} mm grid.")
    comment = f"{spacing:g} mm grid, interpolation error {error:.3f} mm at most"
    save(deformable_registration(sampled, objects.fixed, objects.moving, objects.stamp, comment=comment), path)


def verify_deformable(objects: Objects, path: Path) -> None:
    """It maps points as the transform does.

    Raises:
        OutputInvalid: It does not.
    """
    _, error = objects.sampled
    tolerance_mm = max(TOLERANCE_MM, 1.01 * error)
    found = verify_registration(path, objects.result.transform, *objects.images, tolerance_mm)
    objects.errors_mm["dreg"] = found


def linear_stage(result: RegistrationResult) -> Affine:
    """What a REG can carry: the result itself, its best linear stage, or the identity the result was built on."""
    if isinstance(result.transform, Affine):
        return result.transform
    for kind in ("affine", "rigid"):
        stage = result.stages.get(kind)
        if isinstance(stage, Affine):
            return stage
    return Affine.identity()


def _identifiers(ds: Dataset) -> Dataset:
    keywords = ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID")
    out = Dataset()
    for keyword in keywords:
        setattr(out, keyword, ds[keyword].value)
    return out


def _source(volume: Volume, role: str) -> SourceSeries:
    if volume.source is None:
        raise UsageError(f"the {role} image does not come from a DICOM series", reason="no-dicom-source")
    return volume.source
