"""Points and boxes as the embedded network reads them."""

from __future__ import annotations

import torch
from torch import Tensor

from samreg.embedded.network import CORNER_HIGH, CORNER_LOW, INSIDE, POSITIVE, Prompts

_INSIDE = ((0.5, 0.5), (0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75))  # shares of a box's sides


def point_prompts(places: Tensor) -> Prompts:
    """Single foreground points [b, p, 2], -1 and 1 being the image's edges."""
    kinds = torch.full((*places.shape[:2], 1), POSITIVE, device=places.device)
    return Prompts(places[:, :, None], kinds)


def box_prompts(low: Tensor, high: Tensor) -> Prompts:
    """Boxes of these corners [b, p, 2]; the network also looks at some places inside."""
    share = torch.tensor(_INSIDE, device=low.device)
    inside = low[:, :, None] + (high - low)[:, :, None] * share
    kinds = torch.tensor([CORNER_LOW, CORNER_HIGH, *[INSIDE] * len(_INSIDE)], device=low.device)
    places = torch.cat([low[:, :, None], high[:, :, None], inside], 2)
    return Prompts(places, kinds.expand(*low.shape[:2], -1))
