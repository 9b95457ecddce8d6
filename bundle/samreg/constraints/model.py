"""The constraints of one registration, as they were read."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy import ndimage

from samreg.errors import UsageError
from samreg.geometry import Grid, Volume
from samreg.preprocess import mask_on
from samreg.types import Mask, Points


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Places that a reader found in both images.

    Attributes:
        fixed, moving: [n, 3] LPS mm; the same row is the same place.
        accuracy_mm: [n] float64, how far a mapped fixed landmark may end from its moving one.
        names: One for each.

    Raises:
        UsageError: Lists of different length or another shape, numbers that are not finite, or an accuracy of 0.
    """

    fixed: Points
    moving: Points
    accuracy_mm: np.ndarray
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        count = len(self.names)
        for name, shape in (("fixed", (count, 3)), ("moving", (count, 3)), ("accuracy_mm", (count,))):
            values = np.array(getattr(self, name), np.float64)
            if not count or values.shape != shape:
                raise UsageError(
                    f"'{name}' of {count} landmarks has the shape {values.shape}", f"{shape}, and at least one landmark"
                )
            if not np.isfinite(values).all() or (name == "accuracy_mm" and values.min() <= 0):
                raise UsageError(f"'{name}' of the landmarks holds {values.tolist()}", "finite mm; accuracies above 0")
            object.__setattr__(self, name, values)


@dataclass(frozen=True)
class Region:
    """One separate region of a mask of the moving image, so that a reader finds it again.

    Attributes:
        number: 1, 2, … among the regions of its mask.
        label: Its value in the mask.
        mask: Name of the file of the mask; empty for one that was given in memory.
        volume_mm3: Of a picture its area times the thickness that stands for the slice.
        centre_lps_mm: Mean of its voxel centres in the moving image.
    """

    number: int
    label: int
    mask: str
    volume_mm3: float
    centre_lps_mm: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Regions(Volume):
    """The separate regions of a mask: int32 numbers 1, 2, … on a grid around them, and 0 elsewhere.

    Attributes:
        labels: The value of region 1, 2, … in the mask; the `name` is that of its file.
    """

    labels: tuple[int, ...] = ()

    @property
    def each(self) -> tuple[Region, ...]:
        """The regions, in order of their numbers."""
        return tuple(self._region(number, label) for number, label in enumerate(self.labels, 1))

    def _region(self, number: int, label: int) -> Region:
        points = self.grid.lps(np.argwhere(self.voxels == number))
        x, y, z = (float(value) for value in points.mean(0))
        return Region(number, label, self.name, float(len(points) * self.grid.voxel_mm3), (x, y, z))


@dataclass(frozen=True, eq=False)
class Constraints:
    """What the transform of one pair of images is asked to respect.

    Attributes:
        fixed_mask, moving_mask: Volumes of 0 and 1, on any grid of their image: what counts of it. None: all of it.
        landmarks: Places in both images.
        keep_volume: Regions of the moving image, each of which has the same volume before and after.
        keep_rigid: The same of regions that are only turned and shifted.
    """

    fixed_mask: Volume | None = None
    moving_mask: Volume | None = None
    landmarks: Landmarks | None = None
    keep_volume: Regions | None = None
    keep_rigid: Regions | None = None

    def __bool__(self) -> bool:
        """Whether anything is asked for."""
        return bool(self.kept) or any(x is not None for x in (self.fixed_mask, self.moving_mask, self.landmarks))

    @property
    def kept(self) -> tuple[Regions, ...]:
        """The numbered regions of `keep_volume` and `keep_rigid`, as far as there are any."""
        return tuple(regions for regions in (self.keep_volume, self.keep_rigid) if regions is not None)

    @property
    def masked(self) -> tuple[str, ...]:
        """The images ("fixed", "moving") of which a mask is given."""
        masks = {"fixed": self.fixed_mask, "moving": self.moving_mask}
        return tuple(role for role, mask in masks.items() if mask is not None)

    def kept_points(self) -> Points:
        """[n, 3] LPS mm of the moving image, the voxels of all regions that are kept."""
        points = [regions.grid.lps(np.argwhere(regions.voxels > 0)) for regions in self.kept]
        return np.concatenate([np.zeros((0, 3)), *points])

    def as_dict(self) -> dict[str, Any]:
        """What is asked for, in plain values for JSON.

        Returns:
            `masks` (of which images), `landmarks` (`name`, `accuracy_mm`), and `keep_volume` and `keep_rigid` (the
            attributes of each `Region`).
        """
        marks = self.landmarks
        named = [] if marks is None else zip(marks.names, marks.accuracy_mm.tolist(), strict=True)
        kept = {"keep_volume": self.keep_volume, "keep_rigid": self.keep_rigid}
        return {
            "masks": list(self.masked),
            "landmarks": [{"name": name, "accuracy_mm": accuracy} for name, accuracy in named],
            **{key: [asdict(one) for one in regions.each] if regions else [] for key, regions in kept.items()},
        }

    def counted(self, fixed: Volume, moving: Volume) -> tuple[Volume, Volume]:
        """Both images, painted over outside of their masks (`painted`)."""
        sides = (fixed, self.fixed_mask), (moving, self.moving_mask)
        one, other = (image if mask is None else painted(image, mask) for image, mask in sides)
        return one, other


def painted(image: Volume, mask: Volume) -> Volume:
    """An image whose voxels outside of a mask have the value of the nearest voxel inside.

    Whatever reads a neighbourhood then sees nothing of what does not count, and no edge where the mask ends.

    Args:
        image: To be painted.
        mask: 0 and 1 on any grid of the image's space; a voxel of the image at least lies in it.

    Returns:
        The image with other voxels, float32 [i, j, k].
    """
    inside = mask_on(mask.voxels > 0, mask.grid, image.grid)
    _, nearest = ndimage.distance_transform_edt(~inside, sampling=image.grid.spacing_mm, return_indices=True)
    return replace(image, voxels=image.voxels[tuple(nearest)])


def counted_body(body: Mask, grid: Grid, mask: Volume | None) -> Mask:
    """What of a body counts.

    Args:
        body: bool [i, j, k].
        grid: Of the body.
        mask: 0 and 1 on any grid of the same space; None: all counts.

    Returns:
        bool [i, j, k]; of a mask that holds nothing of the body the mask alone, and of one too small for the grid the
        body.
    """
    if mask is None:
        return body
    counted = mask_on(mask.voxels > 0, mask.grid, grid)
    return next((part for part in (body & counted, counted) if part.any()), body)


def numbered(labels: Volume) -> Regions:
    """The separate regions of a label map: voxels of one label that touch each other, by a face, an edge or a corner.

    Args:
        labels: Whole numbers, 0 is background; not empty.

    Returns:
        The regions on the part of the grid that holds them, under the name of the label map.
    """
    found = np.argwhere(labels.voxels > 0)
    low, high = found.min(0), found.max(0) + 1
    box = labels.voxels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    out = np.zeros(box.shape, np.int32)
    values: list[int] = []
    for label in np.unique(box[box > 0]):
        parts, here = ndimage.label(box == label, np.ones((3, 3, 3)))
        out += np.where(parts > 0, parts + len(values), 0).astype(np.int32)
        values += [int(label)] * here
    return Regions(out, labels.grid.crop(low, high), labels.name, labels=tuple(values))
