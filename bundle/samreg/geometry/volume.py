"""An image in patient space, with where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from samreg.errors import UsageError
from samreg.geometry.grid import Grid

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


@dataclass(frozen=True, eq=False)
class SourceSeries:
    """The DICOM series behind a volume.

    Attributes:
        header: The first instance without its pixels (patient, study, series attributes).
        instances: (SOP class UID, SOP instance UID) of each slice, in order of index k; one entry
            for a multi-frame object.
        files: The file of each instance, in the same order.
        frames: Frame number (from 1) of each slice in order of index k where the series is one
            multi-frame object; empty for one object per slice.
    """

    header: Dataset
    instances: tuple[tuple[str, str], ...]
    files: tuple[Path, ...]
    frames: tuple[int, ...] = ()

    @property
    def study_uid(self) -> str:
        """StudyInstanceUID of the images."""
        return str(self.header.StudyInstanceUID)

    @property
    def series_uid(self) -> str:
        """SeriesInstanceUID of the images."""
        return str(self.header.SeriesInstanceUID)


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels on a grid.

    Attributes:
        voxels: [i, j, k] float32 intensities (Hounsfield units for CT, rescaled values otherwise).
            Index k runs along the slices.
        grid: Where they lie (LPS mm).
        name: For messages and the report; never patient data.
        modality: DICOM modality, or None.
        frame_of_reference_uid: DICOM frame of reference, or None.
        source: The DICOM series; None for other formats, and for a series that no DICOM object can refer to.
        notes: What the reader did or skipped, for the report ("skipped": "3 non-DICOM files").
        content_hash: SHA-256 of voxels and grid, for provenance.
    """

    voxels: np.ndarray
    grid: Grid
    name: str = ""
    modality: str | None = None
    frame_of_reference_uid: str | None = None
    source: SourceSeries | None = None
    notes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.voxels.shape != self.grid.shape:
            raise UsageError(f"the voxels have the shape {self.voxels.shape}", f"the grid's shape {self.grid.shape}")

    @property
    def content_hash(self) -> str:
        """SHA-256, in hex digits, of the voxels and the affine."""
        from hashlib import sha256

        digest = sha256(np.ascontiguousarray(self.voxels).data)
        digest.update(self.grid.affine.tobytes())
        return digest.hexdigest()
