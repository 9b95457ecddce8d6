"""Bright and dark blobs at several scales: the image cut at the inflections of its intensity.

Lindeberg, Detecting Salient Blob-like Image Structures and Their Scales, IJCV 1993.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.ndimage import find_objects, label, maximum, minimum_filter

from samreg.rois import Roi
from samreg.types import Mask, Voxels


def blobs(response: Voxels, body: Mask, smallest: float, largest: float) -> Iterator[Roi]:
    """Where a band-passed image is positive (bright) or negative (dark), one region for each extremum.

    Args:
        response: float32 [i, j, k], difference of two Gaussian smoothings.
        body: [i, j, k] where blobs are looked for.
        smallest, largest: Limits in voxels.

    Yields:
        Regions; the score is how far the peak stands above the highest pass to a neighbour
        (in units of the response, not limited to 1).
    """
    from skimage.segmentation import watershed

    around = [3 if n > 1 else 1 for n in response.shape]
    for sign in (1, -1):
        depth = -sign * response
        here = (depth < 0) & body
        markers, count = label((depth == minimum_filter(depth, size=around)) & here, np.ones((3, 3, 3)))
        if count == 0:
            continue
        basins = watershed(depth, markers, mask=here)
        size = np.bincount(basins.ravel(), minlength=count + 1)[1:]
        peak = maximum(-depth, basins, np.arange(1, count + 1))
        standing = peak - _highest_pass(basins, -depth, count)
        for n, box in enumerate(find_objects(basins)):
            if box is not None and smallest <= size[n] <= largest:
                offset = [side.start for side in box]
                yield Roi.from_mask(basins[box] == n + 1, offset=offset, score=float(standing[n]))


def _highest_pass(basins: np.ndarray, height: np.ndarray, count: int) -> np.ndarray:
    """[count] height of the highest pass from each basin to another one, 0 where it touches none."""
    out = np.zeros(count + 1)
    for axis, length in enumerate(basins.shape):
        if length == 1:
            continue
        one, other = (np.take(basins, np.arange(s, s + length - 1), axis) for s in (0, 1))
        at = (one != other) & (one > 0) & (other > 0)
        lower = np.minimum(*(np.take(height, np.arange(s, s + length - 1), axis)[at] for s in (0, 1)))
        np.maximum.at(out, one[at], lower)
        np.maximum.at(out, other[at], lower)
    return out[1:]
