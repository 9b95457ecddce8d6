"""Attention of SAM's image encoder with relative positions, a part of its table at a time.

transformers makes the table of relative positions for all pairs of cells at once: 0.8 GB for ViT-B, most
of the time spent in memory. Here a part of the table becomes scores and then weights in one place; the result
is the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

TABLE_ENTRIES = 1 << 22  # at once


def attend_in_parts(model: Any) -> None:
    """Let the layers of a SAM or HQ-SAM image encoder attend part by part; other models stay as they are."""
    for layer in getattr(model.vision_encoder, "layers", ()):
        if getattr(getattr(layer, "attn", None), "use_rel_pos", False):
            layer.attn.forward = partial(_attended, layer.attn)


def _attended(module: Any, hidden_states: Tensor, output_attentions: bool = False) -> tuple[Tensor, None]:
    """Windows [b, y, x, c] after self-attention; in the place of the module's own `forward`."""
    windows, height, width, _ = hidden_states.shape
    heads, cells = module.num_attention_heads, height * width
    qkv = module.qkv(hidden_states).reshape(windows, cells, 3, heads, -1).permute(2, 0, 3, 1, 4)
    with torch.autocast(hidden_states.device.type, enabled=False):
        found = _found(module, qkv.flatten(1, 2).float(), height, width)
    out = found.unflatten(0, (windows, heads)).transpose(1, 2).reshape(hidden_states.shape)
    return module.proj(out), None


def _found(module: Any, qkv: Tensor, height: int, width: int) -> Tensor:
    """What the queries find, [b h, y x, d], of queries, keys and values [3, b h, y x, d]."""
    query, key, value = qkv
    cells = height * width
    by_place = query.unflatten(1, (height, width))
    rows = torch.einsum("byxd,ykd->byxk", by_place, module.get_rel_pos(height, height, module.rel_pos_h))
    columns = torch.einsum("byxd,xkd->byxk", by_place, module.get_rel_pos(width, width, module.rel_pos_w))
    rows, columns = rows.flatten(1, 2)[..., None], columns.flatten(1, 2)[..., None, :]
    query, found = query * module.scale, torch.empty_like(query)
    memory = query.new_empty(max(TABLE_ENTRIES, cells))
    for part in _parts(len(query), cells):
        table = memory[: found[part][..., 0].numel() * cells].view(*found[part].shape[:2], cells)
        torch.add(rows[part], columns[part], out=table.view(*table.shape[:2], height, width))
        table.baddbmm_(query[part], key[part[0]].transpose(1, 2))
        torch.softmax(table, -1, out=table)
        torch.bmm(table, value[part[0]], out=found[part])
    return found


def _parts(tables: int, cells: int) -> Iterator[tuple[slice, slice]]:
    """Which tables, and which rows of them: many whole ones, or a strip of one."""
    many = max(1, TABLE_ENTRIES // cells**2)
    strip = min(cells, max(1, TABLE_ENTRIES // cells))
    for first in range(0, tables, many):
        for start in range(0, cells, strip):
            yield slice(first, first + many), slice(start, start + strip)
