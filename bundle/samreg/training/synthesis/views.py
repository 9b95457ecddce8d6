"""Two views of one scene: an affine map and a flow between them, known at every pixel."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from samreg.training.synthesis.draw import Draw

ROTATION = math.radians(20)  # 95 of 100 views turn by less
ANY_ROTATION = 0.08  # share of the views that turn by any angle
ZOOM = (0.8, 1.25)
SHEAR = 0.1
SHIFT = 0.2  # of half the image's side
FLOW = 0.13  # greatest displacement of the flow, of half the image's side: 8 pixels of 128
_FLOW_CELLS = (3, 6)
_FLOW_STEPS = 5


def pixel_places(size: int, device: torch.device) -> Tensor:
    """[size, size, 2] x and y of the pixels' centres, -1 and 1 being the image's edges."""
    line = (torch.arange(size, device=device) + 0.5) * (2 / size) - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x, y], -1)


def draw_views(draw: Draw, batch: int, size: int) -> Tensor:
    """Where the pixels of both views lie in the scene.

    Returns:
        [b, 2, y, x, 2]: x and y in the scene. The first view is the scene itself; the second is moved by an
        affine map and a flow, so its pixels' places are also where their counterparts lie in the first view.
    """
    first = pixel_places(size, draw.device).expand(batch, -1, -1, -1)
    flowed = first + _flow(draw, batch, size)
    second = torch.einsum("bcd,byxd->byxc", _linear(draw, batch), flowed)
    second = second + draw.uniform(-SHIFT, SHIFT, batch, 1, 1, 2)
    return torch.stack([first, second], 1)


def _linear(draw: Draw, batch: int) -> Tensor:
    """[b, 2, 2] rotation, shear and zoom."""
    turn = (draw.normal(batch) * (ROTATION / 2)).clamp(-2 * ROTATION, 2 * ROTATION)
    anywhere = draw.chance(ANY_ROTATION, batch)
    turn = torch.where(anywhere, draw.uniform(-math.pi, math.pi, batch), turn)
    cos, sin = turn.cos(), turn.sin()
    rotation = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], 1)
    stretch = torch.diag_embed(draw.log_uniform(*ZOOM, batch, 1) * draw.log_uniform(0.93, 1.07, batch, 2))
    stretch[:, 0, 1] = draw.uniform(-SHEAR, SHEAR, batch)
    return rotation @ stretch


def _flow(draw: Draw, batch: int, size: int) -> Tensor:
    """[b, y, x, 2] displacement of a stationary velocity field, by scaling and squaring (Arsigny et al., 2006)."""
    coarse = max(16, size // 4)
    velocity = torch.zeros(batch, 2, coarse, coarse, device=draw.device)
    for cells in _FLOW_CELLS:
        velocity += interpolate(draw.normal(batch, 2, cells, cells), size=coarse, mode="bicubic") / cells
    strength = draw.uniform(0, FLOW, batch, 1, 1, 1)
    velocity = velocity / velocity.abs().amax((1, 2, 3), keepdim=True) * strength
    displacement = velocity / 2**_FLOW_STEPS
    here = pixel_places(coarse, draw.device)
    for _ in range(_FLOW_STEPS):
        there = here + displacement.movedim(1, -1)
        displacement = displacement + grid_sample(
            displacement, there, mode="bilinear", padding_mode="border", align_corners=False
        )
    return interpolate(displacement, size=size, mode="bilinear", align_corners=False).movedim(1, -1)
