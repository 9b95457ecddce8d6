"""What the network is trained to do: answer prompts, and embed the same place of two images alike.

All in float32, whatever the network's precision; so not to be called under autocast.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, grid_sample, normalize, softplus

from samreg.embedded.network import EMBEDDING_STRIDE
from samreg.training.prompting import Tasks
from samreg.training.synthesis.draw import Draw
from samreg.training.synthesis.generator import Pairs

FOCAL_WEIGHT = 20.0  # beside Dice, as SAM has it (Kirillov et al., ICCV 2023)
TEMPERATURE = 0.07
POINTS = 256  # of the dense term, of each pair
TOO_NEAR = 0.05  # of half the image's side: points closer to the right one are not wrong


def segmentation(logits: Tensor, iou: Tensor, tasks: Tasks) -> tuple[Tensor, Tensor, Tensor]:
    """Each region under a prompt shall be one of its masks, and the expected IoU shall be right.

    Args:
        logits: [n, p, masks, y, x].
        iou: [n, p, masks] expected.
        tasks: What was asked.

    Returns:
        Focal and Dice loss of the best mask, mean over the regions asked for; mean squared error of the IoU; and
        the IoU [n, p, masks] that each mask has with the region that suits it best (0 where there is none).
    """
    flat = logits.flatten(3).float()
    target = tasks.targets.flatten(3).float().transpose(2, 3)  # [n, p, pixels, levels]
    probability = flat.sigmoid()
    inside = softplus(-flat) * (1 - probability).square() * 0.75
    outside = softplus(flat) * probability.square() * 0.25
    pixels = flat.shape[-1]
    focal = ((inside - outside) @ target + outside.sum(-1, keepdim=True)) / pixels
    area = target.sum(2)[:, :, None]
    common = probability @ target
    dice = 1 - (2 * common + 1) / (probability.sum(-1, keepdim=True) + area + 1)
    best = (FOCAL_WEIGHT * focal + dice).amin(2)  # [n, p, levels]
    mask_loss = (best * tasks.wanted).sum() / tasks.wanted.sum().clamp_min(1)

    with torch.no_grad():
        hard = (flat > 0).float()
        hit = hard @ target
        overlap = hit / (hard.sum(-1, keepdim=True) + area - hit).clamp_min(1)
        reached = (overlap * tasks.wanted[:, :, None]).amax(3)
    return mask_loss, (iou.float() - reached).square().mean(), reached


def matching(draw: Draw, embedding: Tensor, pairs: Pairs) -> dict[str, Tensor]:
    """Contrastive terms (InfoNCE) over the two views of each pair.

    Args:
        draw: Picks the points.
        embedding: [2b, c, y / 4, x / 4] of unit length, the two views in a row.
        pairs: What the images show.

    Returns:
        "prototype": a region's mean embedding finds its counterpart among all regions of the other view (what is
        done with them at last); "region": a point finds its region's; "dense": a point finds its counterpart
        among other points.
    """
    batch = len(pairs.images)
    views = embedding.float().view(batch, 2, *embedding.shape[1:])
    prototypes, there = prototypes_of(views, pairs)
    matched = pairs.matched & there.all(1)
    similarity = prototypes[:, 0] @ prototypes[:, 1].transpose(1, 2) / TEMPERATURE
    seen = pairs.visible & there
    forward = similarity.masked_fill(~seen[:, 1, None], float("-inf"))
    backward = similarity.transpose(1, 2).masked_fill(~seen[:, 0, None], float("-inf"))
    b, r = matched.nonzero(as_tuple=True)
    prototype = (
        (cross_entropy(forward[b, r], r) + cross_entropy(backward[b, r], r)) / 2 if len(b) else similarity.sum() * 0
    )
    return {
        "prototype": prototype,
        "region": _region_term(draw, views, prototypes, seen, matched, pairs),
        "dense": _dense_term(draw, views, pairs),
    }


def prototypes_of(views: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Mean embedding of all regions, of unit length: [b, 2, r, c], and bool [b, 2, r] whether there is any pixel."""
    fine = views.flatten(0, 1)
    step = EMBEDDING_STRIDE // 2
    labels = pairs.labels.flatten(0, 1)[:, step // 2 :: 2, step // 2 :: 2]  # every other pixel
    fine = fine.repeat_interleave(step, 2).repeat_interleave(step, 3)
    count = pairs.within.shape[1]
    index = labels.flatten(1)
    sums = fine.new_zeros(len(fine), count, fine.shape[1])
    sums = sums.scatter_add(1, index[..., None].expand(-1, -1, fine.shape[1]), fine.flatten(2).transpose(1, 2))
    sizes = fine.new_zeros(len(fine), count).scatter_add(1, index, torch.ones_like(index, dtype=fine.dtype))
    parts = pairs.within.repeat_interleave(2, 0).to(fine.dtype)
    pooled, sizes = parts @ sums, (parts @ sizes[..., None])[..., 0]
    shape = (len(views), 2, count)
    return normalize(pooled, dim=-1).view(*shape, -1), (sizes > 0).view(shape)


def _region_term(draw: Draw, views: Tensor, prototypes: Tensor, seen: Tensor, matched: Tensor, pairs: Pairs) -> Tensor:
    """Points of the first view among the prototypes of the second."""
    batch, _, _, height, width = views.shape
    cell = draw.integers(0, height * width, batch, POINTS // 2)
    y, x = cell // width, cell % width
    scale = EMBEDDING_STRIDE
    label = pairs.labels[:, 0].flatten(1).gather(1, (y * scale + scale // 2) * (width * scale) + x * scale + scale // 2)
    points = views[:, 0].flatten(2).gather(2, cell[:, None].expand(-1, views.shape[2], -1)).transpose(1, 2)
    logits = points @ prototypes[:, 1].transpose(1, 2) / TEMPERATURE
    # Wholes that the point's part lies in are not wrong either.
    containing = pairs.within.transpose(1, 2).gather(1, label[..., None].expand(-1, -1, logits.shape[2]))
    own = torch.nn.functional.one_hot(label, logits.shape[2]).bool()
    logits = logits.masked_fill(~seen[:, 1, None] | (containing & ~own), float("-inf"))
    b, p = matched.gather(1, label).nonzero(as_tuple=True)
    return cross_entropy(logits[b, p], label[b, p]) if len(b) else logits.sum() * 0


def _dense_term(draw: Draw, views: Tensor, pairs: Pairs) -> Tensor:
    """Points of the second view among their counterparts in the first."""
    second, first, valid = corresponding_points(draw, pairs, POINTS)
    of_second, of_first = embeddings_at(views[:, 1], second), embeddings_at(views[:, 0], first)
    logits = of_second @ of_first.transpose(1, 2) / TEMPERATURE
    apart = torch.cdist(first, first)
    itself = torch.eye(POINTS, dtype=torch.bool, device=first.device)
    logits = logits.masked_fill(((apart < TOO_NEAR) & ~itself) | ~valid[:, None], float("-inf"))
    wanted = torch.arange(POINTS, device=first.device).expand(len(first), -1)
    back = logits.transpose(1, 2).masked_fill(~valid[:, None], float("-inf"))
    if not valid.any():
        return of_second.sum() * 0
    return (cross_entropy(logits[valid], wanted[valid]) + cross_entropy(back[valid], wanted[valid])) / 2


def corresponding_points(
    draw: Draw, pairs: Pairs, count: int, in_regions: float = 0.5
) -> tuple[Tensor, Tensor, Tensor]:
    """Random points of the second view and their counterparts in the first.

    Args:
        draw: Picks them.
        pairs: The images.
        count: How many of each pair.
        in_regions: Share drawn from the regions that both views show; the others from anywhere.

    Returns:
        Places [b, count, 2] each, -1 and 1 the image's edges, and bool [b, count] whether both views show the same
        there.
    """
    batch, _, height, width = pairs.labels.shape
    pixel = draw.integers(0, height * width, batch, count)
    common = pairs.matched.gather(1, pairs.labels[:, 1].flatten(1))  # [b, pixels] of regions that both views show
    in_common = torch.multinomial(common + 1e-6, count, replacement=True, generator=draw.generator)
    share = torch.arange(count, device=pixel.device) < count * in_regions
    pixel = torch.where(share, in_common, pixel)
    second = torch.stack([(pixel % width + 0.5) * 2 / width, (pixel // width + 0.5) * 2 / height], -1) - 1
    first = pairs.places[:, 1].flatten(1, 2).gather(1, pixel[..., None].expand(-1, -1, 2))
    inside = (first.abs() < 1).all(-1)
    at = ((first.clamp(-0.999, 0.999) + 1) / 2 * torch.tensor([width, height], device=first.device)).long()
    label_first = pairs.labels[:, 0].flatten(1).gather(1, at[..., 1] * width + at[..., 0])
    label_second = pairs.labels[:, 1].flatten(1).gather(1, pixel)
    return second, first, inside & (label_first == label_second) & (label_second > 0)


def embeddings_at(embedding: Tensor, places: Tensor) -> Tensor:
    """Unit vectors [b, p, c] of embeddings [b, c, y, x] at places [b, p, 2]."""
    read = grid_sample(
        embedding.float(), places[:, :, None], mode="bilinear", padding_mode="border", align_corners=False
    )
    return normalize(read[..., 0].transpose(1, 2), dim=-1)
