"""Prompts for training: points on regions and beside them, boxes, and clicks that correct a mask."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, one_hot

from samreg.embedded.network import MASK_STRIDE, NEGATIVE, NO_PROMPT, POSITIVE, Prompts
from samreg.embedded.prompts import box_prompts
from samreg.training.synthesis.draw import Draw
from samreg.training.synthesis.generator import Pairs

LEVELS = 3  # of nested regions under a point
BOXES, BACKGROUND = 0.35, 0.12  # shares of the prompts; the others are points on regions
_BOX_JITTER = 0.08  # of the box's sides


@dataclass(frozen=True, eq=False)
class Tasks:
    """Prompts with what they ask for; the two views of a pair stand in a row.

    Attributes:
        prompts: [2b, p, t].
        targets: bool [2b, p, LEVELS, y / 2, x / 2]: the region asked for, then others that the point lies in.
        wanted: bool [2b, p, LEVELS]: which of these there are; none for a point on the background.
        is_box: bool [2b, p].
    """

    prompts: Prompts
    targets: Tensor
    wanted: Tensor
    is_box: Tensor


def draw_tasks(draw: Draw, pairs: Pairs, count: int, *, full_size: bool = False) -> Tasks:
    """`count` prompts for each of the images; `full_size`: targets of all pixels, not of every other one."""
    labels, within, visible = _per_image(pairs)
    images, size = len(labels), labels.shape[-1]
    box = draw.chance(BOXES, images, count)
    background = ~box & draw.chance(BACKGROUND / (1 - BOXES), images, count)

    chances = visible.float()
    nothing = chances.sum(1) == 0
    chances[nothing] = 1.0
    region = torch.multinomial(chances, count, replacement=True, generator=draw.generator)  # [n, p]
    region_masks = masks_of(labels, within, region)
    background = (background | nothing[:, None]) & ~(box & ~nothing[:, None])
    box = box & ~nothing[:, None]
    in_a_region = (within & visible[:, :, None]).any(1).gather(1, labels.flatten(1)).view_as(labels)
    has_background = (~in_a_region).flatten(1).any(1)[:, None]
    where = torch.where((background & has_background)[..., None, None], ~in_a_region[:, None], region_masks)
    pixel = _pixel_of(draw, where)
    under = labels.flatten(1).gather(1, pixel)  # [n, p] label at the point

    chain = within.transpose(1, 2).gather(1, under[..., None].expand(-1, -1, within.shape[1])) & visible[:, None]
    asked = one_hot(region, within.shape[1]).bool() & visible[:, None]
    rank = asked.float() + chain.float() + 0.01 * draw.uniform(0, 1, *chain.shape)
    rank = torch.where(box[..., None], asked.float(), rank)
    score, levels = rank.topk(LEVELS, -1)
    wanted = score >= 0.99
    wanted &= ~(background & has_background)[..., None]
    targets = masks_of(labels, within, levels.flatten(1)).view(images, count, LEVELS, size, size)

    places, kinds = _tokens(draw, pixel, region_masks, box, size)
    if full_size:
        return Tasks(Prompts(places, kinds), targets, wanted, box)
    small = avg_pool2d(targets.flatten(1, 2).float(), MASK_STRIDE) >= 0.5
    return Tasks(Prompts(places, kinds), small.view(images, count, LEVELS, *small.shape[2:]), wanted, box)


def corrected(draw: Draw, tasks: Tasks, predicted: Tensor) -> Tasks:
    """The prompts with one more click each, where a mask [2b, p, y / 2, x / 2] misses the region asked for."""
    target = tasks.targets[:, :, 0]
    wrong = predicted != target
    none = ~wrong.flatten(2).any(2)
    pixel = _pixel_of(draw, wrong | none[..., None, None])
    height, width = target.shape[2:]
    places = torch.stack([pixel % width, pixel // width], -1)
    places = (places + 0.5) * (2 / torch.tensor([width, height], device=pixel.device)) - 1
    kinds = torch.where(target.flatten(2).gather(2, pixel[..., None])[..., 0], POSITIVE, NEGATIVE)
    kinds = torch.where(none | ~tasks.wanted[..., 0], NO_PROMPT, kinds)
    prompts = Prompts(
        torch.cat([tasks.prompts.places, places[:, :, None]], 2), torch.cat([tasks.prompts.kinds, kinds[..., None]], 2)
    )
    only_asked = tasks.wanted.clone()
    only_asked[..., 1:] = False
    return Tasks(prompts, tasks.targets, only_asked, tasks.is_box)


def masks_of(labels: Tensor, within: Tensor, regions: Tensor) -> Tensor:
    """bool [n, p, y, x] of regions [n, p] in label maps [n, y, x]."""
    part = within.gather(1, regions[..., None].expand(-1, -1, within.shape[2]))  # [n, p, l]
    index = labels.flatten(1)[:, None].expand(-1, regions.shape[1], -1)
    return part.gather(2, index).view(*regions.shape, *labels.shape[1:])


def boxes_of(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Corners [n, p, 2] of masks [n, p, y, x], as places of -1..1; of the whole image where a mask is empty."""
    height, width = masks.shape[2:]
    low, high = [], []
    for axis, length in ((2, width), (3, height)):
        line = masks.any(axis)
        first = line.float().argmax(2)
        last = length - line.flip(2).float().argmax(2)
        low.append(first * (2 / length) - 1)
        high.append(last * (2 / length) - 1)
    return torch.stack(low, -1), torch.stack(high, -1)


def _per_image(pairs: Pairs) -> tuple[Tensor, Tensor, Tensor]:
    """Labels [2b, y, x], within [2b, r, l] and visible [2b, r]."""
    return pairs.labels.flatten(0, 1), pairs.within.repeat_interleave(2, 0), pairs.visible.flatten(0, 1)


def _pixel_of(draw: Draw, where: Tensor) -> Tensor:
    """[n, p] flat index of any pixel where [n, p, y, x] is true (it must be somewhere)."""
    flat = where.flatten(2)
    tries = draw.uniform(0, 1, *flat.shape[:2])
    order = flat.cumsum(2, dtype=torch.int32)
    wanted = (tries * order[..., -1]).floor().to(torch.int32) + 1
    return torch.searchsorted(order, wanted[..., None])[..., 0].clamp_max(flat.shape[2] - 1)


def _tokens(draw: Draw, pixel: Tensor, masks: Tensor, box: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Places and kinds of the points; a single point is padded to the length of a box."""
    point = (torch.stack([pixel % size, pixel // size], -1) + draw.uniform(0, 1, *pixel.shape, 2)) * (2 / size) - 1
    low, high = boxes_of(masks)
    sides = high - low
    low = (low + sides * draw.uniform(-_BOX_JITTER, _BOX_JITTER, *low.shape)).clamp(-1, 1)
    high = (high + sides * draw.uniform(-_BOX_JITTER, _BOX_JITTER, *low.shape)).clamp(-1, 1)
    of_box = box_prompts(low, high)
    places = torch.where(box[..., None, None], of_box.places, point[:, :, None])
    single = torch.full_like(of_box.kinds, NO_PROMPT)
    single[..., 0] = POSITIVE
    return places, torch.where(box[..., None], of_box.kinds, single)
