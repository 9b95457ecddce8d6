"""Attention of SAM's image encoder with relative positions, a strip of the image at a time.

transformers makes the table of relative positions for all pairs of cells at once: 0.8 GB for ViT-B, most
of the time spent in memory. A strip's part of it stays in the processor's cache; the result is the same.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

TABLE_ENTRIES = 1 << 18  # of one head in one strip


def attend_in_strips(model: Any) -> None:
    """Let the layers of a SAM or HQ-SAM image encoder attend strip by strip; other models stay as they are."""
    for layer in getattr(model.vision_encoder, "layers", ()):
        if getattr(getattr(layer, "attn", None), "use_rel_pos", False):
            layer.attn.forward = partial(_attended, layer.attn)


def _attended(module: Any, hidden_states: Tensor, output_attentions: bool = False) -> tuple[Tensor, None]:
    """Windows [b, y, x, c] after self-attention; in the place of the module's own `forward`."""
    windows, height, width, _ = hidden_states.shape
    heads, cells = module.num_attention_heads, height * width
    qkv = module.qkv(hidden_states).reshape(windows, cells, 3, heads, -1)
    query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    by_place = query.unflatten(2, (height, width))  # [b, h, y, x, d]
    rows = torch.einsum("bhyxd,ykd->bhyxk", by_place, module.get_rel_pos(height, height, module.rel_pos_h))
    columns = torch.einsum("bhyxd,xkd->bhyxk", by_place, module.get_rel_pos(width, width, module.rel_pos_w))
    rows, columns = rows.flatten(2, 3)[..., None], columns.flatten(2, 3)[..., None, :]
    step = max(1, TABLE_ENTRIES // cells)
    strips = [slice(start, start + step) for start in range(0, cells, step)]
    found = [
        scaled_dot_product_attention(
            query[:, :, s], key, value, attn_mask=(rows[:, :, s] + columns[:, :, s]).flatten(3)
        )
        for s in strips
    ]
    out = torch.cat(found, 2).unflatten(2, (height, width)).permute(0, 2, 3, 1, 4).flatten(3)
    return module.proj(out), None
