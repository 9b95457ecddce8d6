"""The two images of a registration, read and looked at before any work."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from samreg.errors import InputRefused, UsageError
from samreg.geometry import Volume

MIN_VOXELS = 8  # along two axes


def read_if_paths(
    fixed: Volume | str | Path, moving: Volume | str | Path, *, as_files: bool = False
) -> tuple[Volume, Volume]:
    """The two images, read if they are paths (`as_files`: see `samreg.io.read_pair`).

    Raises:
        UsageError: One is a volume and one a path.
        InputRefused: As `samreg.io.read_pair`.
    """
    if isinstance(fixed, Volume) and isinstance(moving, Volume):
        return fixed, moving
    if isinstance(fixed, Volume) or isinstance(moving, Volume):
        raise UsageError("one image as a volume and one as a path", "two volumes or two paths")
    from samreg import io

    return io.read_pair(fixed, moving, as_files=as_files)


def check_images(fixed: Volume, moving: Volume) -> None:
    """Refuse images in which there is nothing to find.

    Raises:
        InputRefused: `mixed-dimensions`, `too-small` or `constant-image`.
    """
    if fixed.grid.is_2d != moving.grid.is_2d:
        raise InputRefused("a single picture and a volume", reason="mixed-dimensions")
    for role, image in (("fixed", fixed), ("moving", moving)):
        if sum(n >= MIN_VOXELS for n in image.grid.shape) < 2:
            raise InputRefused(
                f"the {role} image has {' x '.join(map(str, image.grid.shape))} voxels",
                f"at least {MIN_VOXELS} along two axes",
                reason="too-small",
            )
        if not np.ptp(image.voxels) > 0:
            raise InputRefused(f"the {role} image has the same value everywhere", reason="constant-image")
