"""Constraints as a caller gives them: files, arrays or images; and how they are read."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samreg.errors import UsageError

if TYPE_CHECKING:
    from samreg.constraints.model import Constraints, Landmarks
    from samreg.geometry import Volume

ACCURACY_MM = 1.0


@dataclass(frozen=True, eq=False)
class ConstraintInputs:
    """What a caller demands of a transform. Everything is optional.

    A mask is a label map whose voxels above 0 count: a path (NIfTI, NRRD, MetaImage, a picture, or a DICOM SEG), an
    array [i, j, k] on the image's own grid, a `Volume`, or an image of another package (`samreg.ecosystem.PACKAGES`).
    It may lie on any grid of its image's space. With as many voxels as the image along each axis it must lie on the
    image's own grid, in any order of its axes.

    Attributes:
        fixed_mask, moving_mask: What counts of each image. Nothing else takes part in the registration.
        landmarks: CSV file with the columns fixed_x, fixed_y, fixed_z, moving_x, moving_y, moving_z (LPS mm), and
            optionally accuracy_mm and name (or label, or id); or `samreg.constraints.model.Landmarks`.
        landmarks_accuracy_mm: Of landmarks whose row states none; default 1 mm.
        keep_volume: Mask of the moving image. Each separate region keeps its volume.
        keep_rigid: Mask of the moving image. Each separate region is only turned and shifted.

    Raises:
        UsageError: Landmarks of another type, an accuracy that is no positive number, or one that is given without a
            file of landmarks.

    Example:
        samreg.register("fixed/", "moving/", constraints=ConstraintInputs(keep_rigid="implant.nii.gz"))
    """

    fixed_mask: Any = None
    moving_mask: Any = None
    landmarks: str | Path | Landmarks | None = None
    landmarks_accuracy_mm: float | None = None
    keep_volume: Any = None
    keep_rigid: Any = None

    def __post_init__(self) -> None:
        in_memory = not (self.landmarks is None or isinstance(self.landmarks, str | Path))
        if in_memory:
            _refuse_other_types(self.landmarks)
        accuracy = self.landmarks_accuracy_mm
        if accuracy is None:
            return
        number = isinstance(accuracy, Real) and not isinstance(accuracy, bool)
        if not (number and isfinite(accuracy) and accuracy > 0):
            raise UsageError(f"the accuracy of the landmarks is {accuracy!r}", "a length in mm above 0")
        if self.landmarks is None:
            raise UsageError("an accuracy is given without landmarks", "landmarks, or no accuracy")
        if in_memory:
            raise UsageError(
                "an accuracy is given beside `Landmarks`, which state one for each", "the one or the other",
                "Leave `landmarks_accuracy_mm` out.",
            )  # fmt: skip

    @property
    def paths(self) -> list[Path]:
        """The files that are read."""
        given = (self.fixed_mask, self.moving_mask, self.landmarks, self.keep_volume, self.keep_rigid)
        return [Path(value) for value in given if isinstance(value, str | Path)]

    def __bool__(self) -> bool:
        """Whether anything is asked for."""
        return self.fixed_mask is not None or self.of_one_moving_image

    @property
    def of_one_moving_image(self) -> bool:
        """Whether something of this holds of one moving image alone."""
        given = (self.moving_mask, self.landmarks, self.keep_volume, self.keep_rigid)
        return any(value is not None for value in given)

    def read(self, fixed: Volume, moving: Volume) -> Constraints:
        """The constraints of one pair of images.

        Args:
            fixed, moving: The images.

        Raises:
            UsageError: The table of landmarks cannot be read, has an unknown column, or a row of it is malformed.
            InputRefused: `mask-outside`, `other-grid`, `too-many-regions`, `landmark-outside`,
                `landmark-contradiction`, or as `samreg.io.read_label_map`.
        """
        from samreg.constraints.landmarks import read_landmarks
        from samreg.constraints.masks import read_mask, read_regions
        from samreg.constraints.model import Constraints

        return Constraints(
            read_mask(self.fixed_mask, fixed, "fixed mask"),
            read_mask(self.moving_mask, moving, "moving mask"),
            read_landmarks(self.landmarks, self.landmarks_accuracy_mm or ACCURACY_MM, fixed, moving),
            read_regions(self.keep_volume, moving, "mask of what keeps its volume"),
            read_regions(self.keep_rigid, moving, "mask of what stays rigid"),
        )


def _refuse_other_types(landmarks: object) -> None:
    from samreg.constraints.model import Landmarks

    if not isinstance(landmarks, Landmarks):
        raise UsageError(
            f"the landmarks are of the type {type(landmarks).__name__}",
            "the path of a CSV file, or `samreg.constraints.model.Landmarks`",
            "Write Landmarks(fixed, moving, accuracy_mm, names) with points [n, 3] in LPS mm.",
        )
