"""Which regions of an image can be seen: of fair size, in one piece, and with an edge that stands out of the grain."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

SMALLEST_AREA = 24 / 128**2  # of the image
LARGEST_AREA = 0.55
IN_ONE_PIECE = 0.8  # least share of a region's own label that hangs together
EDGE_CONTRAST = 0.05  # across the edge, beyond what the grain gives; images have 0..1
_ACROSS = 3 / 128  # of the image's side: between the two pixels that an edge is measured by
_SPREADS = 12  # doublings, so pieces of any usual shape are told apart


def visible_regions(images: Tensor, labels: Tensor, within: Tensor) -> Tensor:
    """bool [n, r] of the regions that can be seen.

    Args:
        images: [n, y, x], 0..1.
        labels: int64 [n, y, x].
        within: bool [n, r, l]: label l is part of region r.
    """
    parts = within.float()
    areas = (parts @ _counts(labels, within.shape[1])[..., None])[..., 0] / labels[0].numel()
    fair = (areas >= SMALLEST_AREA) & (areas <= LARGEST_AREA)
    return fair & (edge_contrast(images, labels, parts) >= EDGE_CONTRAST) & (pieces(labels, within) >= IN_ONE_PIECE)


def edge_contrast(images: Tensor, labels: Tensor, parts: Tensor) -> Tensor:
    """[n, r] mean difference across each region's edge, less that of neighbours within one label."""
    count = parts.shape[1]
    smooth = avg_pool2d(images[:, None], 3, 1, 1, count_include_pad=False)[:, 0]
    apart = max(2, round(_ACROSS * labels.shape[-1]))
    sums = smooth.new_zeros(len(labels), count * count)
    numbers = torch.zeros_like(sums)
    for axis in (1, 2):
        length = labels.shape[axis] - apart
        one, other = (labels.narrow(axis, start, length).flatten(1) for start in (0, apart))
        step = (smooth.narrow(axis, 0, length) - smooth.narrow(axis, apart, length)).abs().flatten(1)
        sums.scatter_add_(1, one * count + other, step)
        numbers.scatter_add_(1, one * count + other, torch.ones_like(step))
    sums, numbers = (_both_ways(v.view(-1, count, count)) for v in (sums, numbers))
    inside = torch.arange(1, count, device=labels.device)
    grain = sums[:, inside, inside].sum(1) / numbers[:, inside, inside].sum(1).clamp_min(1)
    edge, pixels = (((parts @ v) * (1 - parts)).sum(2) for v in (sums, numbers))
    return edge / pixels.clamp_min(1) - grain[:, None]


def pieces(labels: Tensor, within: Tensor) -> Tensor:
    """[n, r] share of a region's own label that its largest piece holds, seen at every other pixel."""
    coarse = labels[:, ::2, ::2]
    shape = coarse.shape
    own = torch.arange(shape[1] * shape[2], device=labels.device).expand(len(coarse), -1)
    number = own.view(shape)
    for _ in range(_SPREADS):
        for axis in (1, 2):
            for direction in (1, -1):
                moved, same = number.roll(direction, axis), coarse.roll(direction, axis) == coarse
                edge = 0 if direction == 1 else shape[axis] - 1
                same.select(axis, edge).fill_(False)
                number = torch.where(same, torch.maximum(number, moved), number)
        number = number.flatten(1).gather(1, number.flatten(1)).view(shape)  # jump to where the number's own pixel is
    sizes = torch.zeros(own.shape, device=labels.device)
    sizes.scatter_add_(1, number.flatten(1), torch.ones_like(sizes))
    largest = torch.zeros(len(labels), within.shape[1], device=labels.device)
    at = sizes.gather(1, number.flatten(1))
    largest.scatter_reduce_(1, coarse.flatten(1), at, "amax")
    counts = _counts(coarse, within.shape[1])
    # A region without pixels of its own, all covered by its parts, is left to the other tests.
    return torch.where(counts > 0, largest / counts.clamp_min(1), torch.ones_like(counts))


def _both_ways(pairs: Tensor) -> Tensor:
    return pairs + pairs.transpose(1, 2)


def _counts(labels: Tensor, count: int) -> Tensor:
    """float32 [n, count] pixels of each label."""
    flat = labels.flatten(1)
    return torch.zeros(len(flat), count, device=labels.device).scatter_add_(
        1, flat, torch.ones(flat.shape, device=labels.device)
    )
