"""Masks and regions of one image, as they are read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from samreg import io
from samreg.constraints.model import Regions, numbered
from samreg.ecosystem import read_object
from samreg.errors import InputRefused, UsageError
from samreg.geometry import Volume
from samreg.io.formats import image_format
from samreg.preprocess import mask_on

MOST_REGIONS = 100  # of a mask: more are noise, and each is moved by itself
MOST_OUTSIDE = 0.05  # of a mask's voxels, that may lie outside of its image: more tell of another image


def read_mask(given: Any, image: Volume, what: str) -> Volume | None:
    """What counts of an image.

    Args:
        given: As `ConstraintInputs` says of a mask; None: nothing is given.
        image: Whose mask it is.
        what: The mask in messages, such as "fixed mask".

    Returns:
        uint8 0 and 1 on a grid of the image's space, or None.

    Raises:
        UsageError: An object that is no mask.
        InputRefused: `mask-outside`, `other-grid` (as many voxels as the image along each axis, elsewhere), or as
            `samreg.io.read_label_map`.
    """
    labels = _labels(given, image, what)
    return None if labels is None else replace(labels, voxels=(labels.voxels > 0).astype(np.uint8))


def read_regions(given: Any, moving: Volume, what: str) -> Regions | None:
    """The separate regions of a mask of the moving image (see `numbered`), or None.

    Args:
        given, moving, what: As for `read_mask`.

    Raises:
        UsageError, InputRefused: As `read_mask`; `too-many-regions`.
    """
    labels = _labels(given, moving, what)
    if labels is None:
        return None
    regions = numbered(labels)
    count = len(regions.labels)
    if count > MOST_REGIONS:
        raise InputRefused(
            f"the {what} falls into {count} separate regions", f"at most {MOST_REGIONS}", reason="too-many-regions"
        )
    return regions


def _labels(given: Any, image: Volume, what: str) -> Volume | None:
    """A label map in the space of its image; None where none is given."""
    if given is None:
        return None
    try:
        labels = _read(given, image)
        own = labels.grid.shape == image.grid.shape
        if own and labels.grid is not image.grid:
            # As many voxels as the image has mean its grid. Where a header says otherwise, one of the two is wrong.
            labels = replace(labels, voxels=io.labels_on_grid(labels, image.grid), grid=image.grid)
    except (UsageError, InputRefused) as error:
        got = f"the {what} cannot be used: {error.got}"
        raise type(error)(got, error.expected, error.next_step, reason=error.reason) from error
    if not own:
        _refuse_outside(labels, image, what)
    return labels


def _read(given: Any, image: Volume) -> Volume:
    """A label map on its own grid, under the name of its file."""
    if isinstance(given, np.ndarray):
        return Volume(io.labels_of_array(given, image.grid), image.grid)
    if isinstance(given, str | Path):
        name = Path(given).name
        # A DICOM SEG needs the series that it belongs to, and a picture the place and spacing of its image.
        if image_format(given) in ("DICOM", "picture"):
            return Volume(io.read_labels(given, image), image.grid, name)
        return replace(io.read_label_map(given), name=name)
    found = given if isinstance(given, Volume) else read_object(given, stored=True)
    return Volume(io.labels_of_array(found.voxels, found.grid), found.grid)


def _refuse_outside(labels: Volume, image: Volume, what: str) -> None:
    """Refuse a mask on a grid of its own that does not lie in its image."""
    outside = 1 - float(image.grid.contains(labels.grid.lps(np.argwhere(labels.voxels > 0))).mean())
    if outside == 1 or not mask_on(labels.voxels > 0, labels.grid, image.grid).any():
        raise InputRefused(f"no voxel of the {what} lies within its image", reason="mask-outside")
    if outside > MOST_OUTSIDE:
        raise InputRefused(f"{outside:.0%} of the {what} lies outside of its image", reason="mask-outside")
