"""The images and label maps that a caller gives, as volumes, and their first checks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from samreg.errors import InputRefused, UsageError, reading
from samreg.geometry import Volume
from samreg.sources import Sources
from samreg.types import Labels

# A Volume, a path, or an image of `samreg.ecosystem.PACKAGES`, whose classes are not imported here.
Image = Volume | str | Path | Any

MIN_VOXELS = 8  # along two axes


def as_sources(fixed: Image, moving: Image) -> Sources | None:
    """Two images that are both given as paths, so that they are read together as a run reads them; else None."""
    if isinstance(fixed, str | Path) and isinstance(moving, str | Path):
        return Sources(Path(fixed), Path(moving))
    return None


def as_volumes(fixed: Image, moving: Image) -> tuple[Volume, Volume]:
    """Two images that are not both paths, as volumes.

    Images in memory are of the caller's own making; a path beside one is read alone. A DICOM series is not: whether it
    is of the same patient is told from both paths.

    Args:
        fixed, moving: Volumes, paths, or images of `samreg.ecosystem.PACKAGES`.

    Raises:
        UsageError: One is a DICOM series given as a path and the other one is in memory; or an object of another kind.
        InputRefused: As `samreg.io.read_image` and `samreg.ecosystem.read_object`.
    """
    volumes = []
    for role, image in (("fixed", fixed), ("moving", moving)):
        with reading(role):
            volumes.append(_read_file(image) if isinstance(image, str | Path) else _from_memory(image))
    return volumes[0], volumes[1]


def as_labels(labels: Image | np.ndarray | None, image: Volume) -> Labels | None:
    """A label map on the grid of its image, whatever it is given as.

    Args:
        labels: Whole numbers [i, j, k] on the image's grid; a Volume, a path, or an image of
            `samreg.ecosystem.PACKAGES` with the same voxels as the image, in any order of its axes; or None.
        image: What was segmented.

    Raises:
        UsageError: An object of another kind.
        InputRefused: As `samreg.io.read_labels` and `samreg.io.labels_of_array`.
    """
    from samreg import io

    if labels is None:
        return None
    if isinstance(labels, np.ndarray):
        return io.labels_of_array(labels, image.grid)
    if isinstance(labels, str | Path):
        return io.read_labels(labels, image)
    return io.labels_on_grid(_from_memory(labels, stored=True), image.grid)


def _read_file(path: str | Path) -> Volume:
    from samreg import io
    from samreg.io.formats import image_format

    if image_format(path) == "DICOM":
        raise UsageError(
            "one image is the path of a DICOM series and the other one is in memory, so that its patient is not known",
            "both as paths, so that the patients can be compared, or both in memory",
            "Read the series with `samreg.io.read_image` if you know that both are of one patient.",
        )
    return io.read_image(path)


def _from_memory(image: Image, *, stored: bool = False) -> Volume:
    if isinstance(image, Volume):
        return image
    from samreg.ecosystem import read_object

    return read_object(image, stored=stored)


def check_images(fixed: Volume, moving: Volume) -> None:
    """Refuse images in which there is nothing to find.

    Raises:
        InputRefused: `mixed-dimensions`, `too-small` or `constant-image`.
    """
    if fixed.grid.is_2d != moving.grid.is_2d:
        raise InputRefused("one image is a single picture and the other one is a volume", reason="mixed-dimensions")
    for role, image in (("fixed", fixed), ("moving", moving)):
        if sum(n >= MIN_VOXELS for n in image.grid.shape) < 2:
            raise InputRefused(
                f"the {role} image has {' x '.join(map(str, image.grid.shape))} voxels",
                f"at least {MIN_VOXELS} along two axes",
                reason="too-small",
            )
        if not np.ptp(image.voxels) > 0:
            raise InputRefused(f"the {role} image has the same value everywhere", reason="constant-image")
