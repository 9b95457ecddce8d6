"""Constraints as a caller gives them: files, arrays or images; and how they are read."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samreg.errors import InputRefused, UsageError

if TYPE_CHECKING:
    from samreg.constraints.model import Constraints, Landmarks
    from samreg.geometry import Volume

ACCURACY_MM = 1.0
AXES = tuple(f"{role}_{axis}" for role in ("fixed", "moving") for axis in "xyz")
ACCURACY = "accuracy_mm"
MOST_REGIONS = 100  # of a mask: more are noise, and each is moved by itself


@dataclass(frozen=True, eq=False)
class ConstraintInputs:
    """What a caller demands of a transform. Everything is optional.

    A mask is a label map whose voxels above 0 count: a path (NIfTI, NRRD, MetaImage, a picture, or a DICOM SEG) on any
    grid of its image's space, an array [i, j, k] on the image's own grid, a `Volume`, or an image of another package
    (`samreg.ecosystem.PACKAGES`).

    Attributes:
        fixed_mask, moving_mask: What counts of each image. Nothing else takes part in the registration.
        landmarks: CSV file with the columns fixed_x, fixed_y, fixed_z, moving_x, moving_y, moving_z (LPS mm), and
            optionally accuracy_mm and name; or `samreg.constraints.model.Landmarks`.
        landmarks_accuracy_mm: Of landmarks whose row states none.
        keep_volume: Mask of the moving image. Each separate region keeps its volume.
        keep_rigid: Mask of the moving image. Each separate region is only turned and shifted.

    Raises:
        UsageError: An accuracy that is no positive number, or that is given without landmarks.

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
        accuracy = self.landmarks_accuracy_mm
        if accuracy is None:
            return
        if not (isinstance(accuracy, int | float) and isfinite(accuracy) and accuracy > 0):
            raise UsageError(f"the accuracy of the landmarks is {accuracy!r}", "a length in mm above 0")
        if self.landmarks is None:
            raise UsageError("an accuracy is given without landmarks", "landmarks, or no accuracy")

    @property
    def paths(self) -> list[Path]:
        """The files that are read."""
        given = (self.fixed_mask, self.moving_mask, self.landmarks, self.keep_volume, self.keep_rigid)
        return [Path(value) for value in given if isinstance(value, str | Path)]

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
            UsageError: The table of landmarks cannot be read, or a row of it is malformed.
            InputRefused: `mask-outside`, `too-many-regions`, `landmark-outside`, or as `samreg.io.read_label_map`.
        """
        from samreg.constraints.model import Constraints

        return Constraints(
            _mask(self.fixed_mask, fixed, "fixed mask"),
            _mask(self.moving_mask, moving, "moving mask"),
            None if self.landmarks is None else self._marks(fixed, moving),
            _regions(self.keep_volume, moving, "mask of what keeps its volume"),
            _regions(self.keep_rigid, moving, "mask of what stays rigid"),
        )

    def _marks(self, fixed: Volume, moving: Volume) -> Landmarks:
        from samreg.constraints.model import Landmarks

        marks = self.landmarks
        if not isinstance(marks, Landmarks):
            marks = _landmarks_of(Path(marks or ""), self.landmarks_accuracy_mm or ACCURACY_MM)
        for role, points, image in (("fixed", marks.fixed, fixed), ("moving", marks.moving, moving)):
            outside = ~image.grid.contains(points)
            if outside.any():
                n = int(outside.argmax())
                place = ", ".join(f"{value:g}" for value in points[n])
                raise InputRefused(
                    f"the {role} point ({place}) of the landmark '{marks.names[n]}' lies outside the {role} image",
                    "LPS mm within both images",
                    "Correct the point. 3D Slicer shows RAS, whose x and y have the other sign.",
                    reason="landmark-outside",
                )
        return marks


def _landmarks_of(path: Path, accuracy_mm: float) -> Landmarks:
    import numpy as np

    from samreg.constraints.model import Landmarks
    from samreg.tables import PointTable

    table = PointTable.read(path, AXES)
    if table.header is None:
        raise UsageError(
            f"the landmarks '{path}' have no header", f"a first row that names the columns {', '.join(AXES)}"
        )
    names = next(iter(table.names.values()), tuple(str(n) for n in range(1, len(table.rows) + 1)))
    accuracy = np.full(len(table.rows), accuracy_mm)
    header = [name.lower() for name in table.header]
    if ACCURACY in header:
        column = header.index(ACCURACY)
        for n, row in enumerate(table.rows):
            if cell := row[column] if column < len(row) else "":
                accuracy[n] = _accuracy(cell, n + 2, path)
    return Landmarks(table.points[:, :3], table.points[:, 3:], accuracy, names)


def _accuracy(cell: str, row: int, path: Path) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = float("nan")
    if not (isfinite(value) and value > 0):
        raise UsageError(
            f"row {row} of '{path}' has the accuracy '{cell}'", "a length in mm above 0, or an empty field"
        )
    return value


def _regions(given: Any, moving: Volume, what: str) -> Volume | None:
    from samreg.constraints.model import numbered

    mask = _labels(given, moving, what)
    if mask is None:
        return None
    regions = numbered(mask)
    count = int(regions.voxels.max())
    if count > MOST_REGIONS:
        raise InputRefused(
            f"the {what} falls into {count} separate regions", f"at most {MOST_REGIONS}", reason="too-many-regions"
        )
    return regions


def _mask(given: Any, image: Volume, what: str) -> Volume | None:
    from dataclasses import replace

    import numpy as np

    labels = _labels(given, image, what)
    return None if labels is None else replace(labels, voxels=(labels.voxels > 0).astype(np.uint8))


def _labels(given: Any, image: Volume, what: str) -> Volume | None:
    """A label map on its own grid, with a label within the image; None where none is given."""
    if given is None:
        return None
    import numpy as np

    from samreg import io
    from samreg.ecosystem import read_object
    from samreg.geometry import Volume
    from samreg.io.formats import image_format

    try:
        if isinstance(given, np.ndarray):
            labels = Volume(io.labels_of_array(given, image.grid), image.grid)
        elif isinstance(given, str | Path):
            # A DICOM SEG needs the series that it belongs to, and a picture the place and spacing of its image.
            own = image_format(given) in ("DICOM", "picture")
            labels = Volume(io.read_labels(given, image), image.grid) if own else io.read_label_map(given)
        else:
            found = given if isinstance(given, Volume) else read_object(given, stored=True)
            labels = Volume(io.labels_of_array(found.voxels, found.grid), found.grid)
    except InputRefused as error:
        got = f"the {what} cannot be used: {error.got}"
        raise InputRefused(got, error.expected, error.next_step, reason=error.reason) from error
    if not _covers(labels, image):
        raise InputRefused(f"no voxel of the {what} lies within its image", reason="mask-outside")
    return labels


def _covers(labels: Volume, image: Volume) -> bool:
    """Whether a voxel of the image lies in a mask, and one of the mask in the image."""
    import numpy as np

    from samreg.preprocess import mask_on

    inside = image.grid.contains(labels.grid.lps(np.argwhere(labels.voxels > 0)))
    return bool(inside.any() and mask_on(labels.voxels > 0, labels.grid, image.grid).any())
