"""MIND-SSC: self-similarity features that do not depend on the contrast.

Heinrich et al., Towards Realtime Multimodal Fusion for Image-Guided Interventions Using
Self-similarities, MICCAI 2013.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product

import torch
from torch import Tensor
from torch.nn.functional import pad

from samreg.errors import UsageError
from samreg.geometry import Grid, finest_spacing_mm

REACH = 2.0  # of the finest spacing, so that pictures of any scale and thin stacks are served alike


def mind_ssc(image: Tensor, *, radius: int = 1, dilation: int | Sequence[int] = 2) -> Tensor:
    """Self-similarity context: how alike the neighbourhoods around a voxel are to each other.

    The six neighbourhoods of a voxel are the corners of an octahedron; each channel compares the
    two at the ends of an edge: exp(-(D - min D) / V), where D is the mean squared difference of
    the two patches, and V the mean of D - min D over the channels. Unchanged by affine changes of
    intensity and by inversion of the contrast. Beyond the border the image repeats.

    Args:
        image: [1, i, j, k] floating point, any unit, any device.
        radius: Of a patch in voxels; flat on an axis of one voxel.
        dilation: Distance from the voxel to its neighbourhoods in voxels, one number or one for
            each axis. An axis with 0, or of one voxel, takes no part.

    Returns:
        float32 [c, i, j, k] in (0, 1]: 12 channels where three axes take part, 4 where two do
        (a 2D image; a thin stack with a dilation of 0 along k). A constant image gives ones.

    Raises:
        UsageError: The image is not [1, i, j, k], a parameter is negative, or fewer than two axes take part.

    Example:
        >>> mind_ssc(torch.rand(1, 20, 20, 10), dilation=(2, 2, 1)).shape
        torch.Size([12, 20, 20, 10])
    """
    shape = _checked_shape(image)
    steps = _steps(shape, dilation)
    radii = [radius if n > 1 else 0 for n in shape]
    if radius < 0 or min(steps) < 0:
        raise UsageError(
            f"MIND-SSC has the radius {radius} and the dilation {dilation}", "numbers that are not negative"
        )
    active = [axis for axis in range(3) if steps[axis]]
    if len(active) < 2:
        raise UsageError(f"the image for MIND-SSC has the shape {tuple(shape)}", "two axes of more than one voxel")

    margins = [step + r for step, r in zip(steps, radii, strict=True)]
    padded = pad(_standardised(image)[None], [m for m in reversed(margins) for _ in range(2)], mode="replicate")[0, 0]
    edges = [
        ((a, sa * steps[a]), (b, sb * steps[b]))
        for a, b in combinations(active, 2)
        for sa, sb in product((1, -1), (1, -1))
    ]
    distances = padded.new_empty((len(edges), *shape))
    for channel, (one, other) in enumerate(edges):
        difference = _shifted(padded, *one, steps) - _shifted(padded, *other, steps)
        distances[channel] = _box_mean(difference.square_(), radii)
    return _normalised(distances)


def even_dilation(grid: Grid) -> list[int]:
    """The same distance in mm along all axes, at least one voxel, so that all stacks give the same channels."""
    distance_mm = REACH * finest_spacing_mm(grid)
    return [max(1, round(distance_mm / float(s))) for s in grid.spacing_mm]


def _checked_shape(image: Tensor) -> tuple[int, int, int]:
    if image.ndim != 4 or image.shape[0] != 1 or not image.is_floating_point():
        raise UsageError(
            f"the image has the shape {tuple(image.shape)} and the type {image.dtype}", "floating point [1, i, j, k]"
        )
    _, i, j, k = image.shape
    return i, j, k


def _steps(shape: Sequence[int], dilation: int | Sequence[int]) -> list[int]:
    steps = [dilation] * 3 if isinstance(dilation, int) else [int(d) for d in dilation]
    if len(steps) != 3:
        raise UsageError(f"the dilation is {dilation}", "one number, or one for each of three axes")
    return [step if n > 1 else 0 for step, n in zip(steps, shape, strict=True)]


def _standardised(image: Tensor) -> Tensor:
    """Zero mean and unit deviation, so that large offsets (CT, 16-bit MR) cost no precision."""
    exact = image.double()  # sums in single precision depend on the processor
    scale = exact.std(correction=0).clamp_min(torch.finfo(torch.float32).tiny)
    return ((exact - exact.mean()) / scale).float()


def _shifted(padded: Tensor, axis: int, shift: int, steps: Sequence[int]) -> Tensor:
    """The padded image moved along one axis; the margin of the steps is used up, that of the patch stays."""
    starts = [step + (shift if a == axis else 0) for a, step in enumerate(steps)]
    i, j, k = (slice(start, n - 2 * step + start) for start, n, step in zip(starts, padded.shape, steps, strict=True))
    return padded[i, j, k]


def _box_mean(values: Tensor, radii: Sequence[int]) -> Tensor:
    """Mean over the patch [i, j, k]; uses up the margin of the patch."""
    for axis, r in enumerate(radii):
        if r:
            length = values.shape[axis] - 2 * r
            total = values.narrow(axis, 0, length).clone()
            for start in range(1, 2 * r + 1):
                total += values.narrow(axis, start, length)
            values = total.div_(2 * r + 1)
    return values


def _normalised(distances: Tensor) -> Tensor:
    """Patch distances [c, i, j, k] to exp(-(D - min D) / V), in place."""
    distances -= distances.amin(0)
    variance = distances.mean(0, dtype=torch.float64)
    # As published: V stays within a factor of 1000 of its mean, so that flat regions are not all noise.
    mean = variance.mean().clamp_min(1e-12)
    variance = torch.maximum(torch.minimum(variance, mean * 1e3), mean * 1e-3)
    for channel in distances:
        channel.copy_((channel / variance).neg_().exp_())
    return distances
