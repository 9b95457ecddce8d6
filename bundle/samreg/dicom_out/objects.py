"""The DICOM objects of one result."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

import samreg
from samreg.dicom_out.common import Stamp, new_uid, save
from samreg.dicom_out.dreg import TOLERANCE_MM, deformable_registration, sampled_field
from samreg.dicom_out.readback import REGISTRATION_TOLERANCE_MM, verify_registration, verify_segmentation
from samreg.dicom_out.reg import spatial_registration
from samreg.dicom_out.seg import MAX_SEGMENTS, Side, numbered, segmentation
from samreg.errors import UsageError
from samreg.geometry import SourceSeries, Volume
from samreg.io.dicom_headers import quiet
from samreg.result import RegistrationResult
from samreg.transforms import Affine, Transform

log = logging.getLogger(__name__)

# A grid that misses the transform by more than this (half of what TG-132 tolerates on average) is not written.
MAX_GRID_ERROR_MM = 1.0


@dataclass(frozen=True)
class DicomObjects:
    """What was written, each object read back and found to reproduce the result.

    Attributes:
        files: By name: "reg", "dreg", "seg_fixed", "seg_moving"; only those that were written.
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


def write_objects(result: RegistrationResult, folder: Path, *, registration: bool = True) -> DicomObjects:
    """Write `reg.dcm`, `dreg.dcm`, `seg_fixed.dcm` and `seg_moving.dcm` into an existing folder and verify them.

    Each is written as `NAME.dcm.part`, and gets its name once it was read back and verified.

    REG carries the rigid or affine transform (of a deformable result: its best linear stage), DREG a
    deformable one. Neither is written for a result that failed its gate. No REG is written between series
    that share a frame of reference: DREG then carries the transform, whatever its kind. An identity that
    passed its gate is a finding like any other, and is written. Without pairs there is no SEG. `notes` says
    which and why.

    Args:
        result: Of two DICOM series; its pairs lie on the grids of the two images.
        folder: Temporary folder of the caller, renamed once everything is whole.
        registration: False leaves REG and DREG out. A failed gate always does.

    Raises:
        UsageError: An image does not come from a DICOM series.
        OutputInvalid: A written object breaks a rule or does not reproduce the result.
    """
    writer = _Writer(result, _source(result.fixed, "fixed"), _source(result.moving, "moving"), folder)
    with quiet():
        writer.write_segmentations()
        if result.quality.status == "FAIL":
            writer.notes.append("No REG and no DREG: the registration failed its quality gate.")
        elif not registration:
            writer.notes.append("No REG and no DREG: the caller asked for none.")
        elif result.kind == "identity" and writer.same_frame:
            writer.notes.append("No REG and no DREG: the images lie on each other in their common frame of reference.")
        else:
            writer.write_registration()
            writer.write_deformable()
    for note in writer.notes:
        log.info("%s", note)
    return DicomObjects(writer.files, writer.errors_mm, tuple(writer.notes))


class _Writer:
    """The objects written so far, so that later ones can refer to them."""

    def __init__(self, result: RegistrationResult, fixed: SourceSeries, moving: SourceSeries, folder: Path) -> None:
        self.result = result
        self.fixed = fixed
        self.moving = moving
        self.folder = folder
        self.stamp = Stamp(samreg.__version__, result.config.hash, result.quality.status, datetime.now())
        self.same_frame = fixed.header.FrameOfReferenceUID == moving.header.FrameOfReferenceUID
        self.segmentations: dict[str, Dataset] = {}
        self.files: dict[str, Path] = {}
        self.errors_mm: dict[str, float] = {}
        self.notes: list[str] = []

    def write_segmentations(self) -> None:
        """The paired regions of both images."""
        pairs = self.result.pairs
        if len(pairs) == 0:
            self.notes.append("No SEG: no regions were paired.")
            return
        if len(pairs) > MAX_SEGMENTS:
            self.notes.append(f"No SEG: {len(pairs)} regions were paired, and a SEG numbers {MAX_SEGMENTS} at most.")
            return
        tracking_uids = {pair.id: str(new_uid()) for pair in pairs}
        sides: tuple[tuple[Side, Volume, SourceSeries], ...] = (
            ("fixed", self.result.fixed, self.fixed),
            ("moving", self.result.moving, self.moving),
        )
        for side, volume, source in sides:
            seg = segmentation(pairs, side, volume, source, self.stamp, tracking_uids)
            with self._saved(f"seg_{side}", seg) as path:
                verify_segmentation(path, pairs, side, self.result.fixed, self.result.moving)
            # Only the identifiers are needed from here on.
            self.segmentations[side] = _identifiers(seg)

    def write_registration(self) -> None:
        """The rigid or affine transform, unless both series share a frame of reference."""
        if self.same_frame:
            self.notes.append(
                "No REG: both series have the same frame of reference, which a REG cannot relate to itself."
            )
            return
        linear = linear_stage(self.result)
        partial = self.result.kind == "deformable"
        used = [n for n, pair in numbered(self.result.pairs).items() if not pair.held_out]
        ds = spatial_registration(
            linear,
            self.fixed,
            self.moving,
            self.stamp,
            comment="Linear stage of a deformable registration" if partial else "",
            segmentations=(self.segmentations.get("fixed"), self.segmentations.get("moving")),
            used_segments=used,
        )
        if partial:
            self.notes.append("REG holds the linear stage of the registration; DREG holds all of it.")
        self._save_registration("reg", ds, linear, REGISTRATION_TOLERANCE_MM)

    def write_deformable(self) -> None:
        """The transform as a grid: of a deformable result, or for want of a REG."""
        if self.result.kind != "deformable" and not self.same_frame:
            return
        transform = self.result.transform
        sampled, error = sampled_field(transform, self.result.fixed.grid)
        spacing = float(sampled.grid.spacing_mm[0])
        if error > MAX_GRID_ERROR_MM:
            self.notes.append(f"No DREG: a grid of {spacing:g} mm misses the transform by {error:.2f} mm.")
            return
        if self.result.kind != "deformable":
            self.notes.append(f"DREG holds the {self.result.kind} transform, in place of a REG.")
        if error > TOLERANCE_MM:  # the grid is as fine as fits
            self.notes.append(f"DREG misses the transform by up to {error:.2f} mm on its {spacing:g} mm grid.")
        comment = f"{spacing:g} mm grid, interpolation error {error:.3f} mm at most"
        ds = deformable_registration(sampled, self.fixed, self.moving, self.stamp, comment=comment)
        self._save_registration("dreg", ds, transform, max(TOLERANCE_MM, 1.01 * error))

    def _save_registration(self, name: str, ds: Dataset, transform: Transform, tolerance_mm: float) -> None:
        images = self.result.fixed, self.result.moving
        with self._saved(name, ds) as path:
            self.errors_mm[name] = verify_registration(path, transform, *images, tolerance_mm)

    @contextmanager
    def _saved(self, name: str, ds: Dataset) -> Iterator[Path]:
        """The object in a file, to be verified in the block; without an error it then gets its name, `NAME.dcm`.

        Some platforms export every `*.dcm` they find, whatever became of the run.
        """
        path = self.folder / f"{name}.dcm"
        part = self.folder / f"{path.name}.part"
        try:
            save(ds, part)
            yield part
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        self.files[name] = path


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


def _source(volume: Volume, side: str) -> SourceSeries:
    if volume.source is None:
        raise UsageError(f"the {side} image does not come from a DICOM series", reason="no-dicom-source")
    return volume.source
