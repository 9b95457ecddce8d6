"""Attention of SAM's image encoder with relative positions, a part of its table at a time.

transformers makes the table of relative positions for all pairs of cells at once: 0.8 GB for ViT-B, most
of the time spent in memory. Here a part of the table becomes scores and then weights in one place; the result
is the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

TABLE_ENTRIES = 1 << 22  # at once


def attend_in_parts(model: Any) -> None:
    """Give the layers of a SAM or HQ-SAM image encoder `AttentionInParts`; other models stay as they are."""
    for layer in getattr(model.vision_encoder, "layers", ()):
        if getattr(getattr(layer, "attn", None), "use_rel_pos", False):
            layer.attn = AttentionInParts(layer.attn)


class AttentionInParts(nn.Module):
    """Self-attention with relative positions along both axes, for inference.

    Its parameters are those of the module that it stands in for, by the same names.

    Args:
        source: Attention of a layer of SAM or HQ-SAM, as transformers has it.
    """

    def __init__(self, source: Any) -> None:
        super().__init__()
        self.heads: int = source.num_attention_heads
        self.scale: float = source.scale
        self.qkv: nn.Module = source.qkv
        self.proj: nn.Module = source.proj
        self.rel_pos_h: nn.Parameter = source.rel_pos_h
        self.rel_pos_w: nn.Parameter = source.rel_pos_w

    def forward(self, hidden_states: Tensor) -> tuple[Tensor, None]:
        """Attend within windows.

        Args:
            hidden_states: Windows [b, y, x, c]; the name is that of transformers.

        Returns:
            Windows [b, y, x, c], and no table of weights.
        """
        windows, height, width, _ = hidden_states.shape
        qkv = self.qkv(hidden_states).reshape(windows, height * width, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        with torch.autocast(hidden_states.device.type, enabled=False):
            found = self._found(qkv.flatten(1, 2).float(), height, width)
        out = found.unflatten(0, (windows, self.heads)).transpose(1, 2).reshape(hidden_states.shape)
        return self.proj(out), None

    def _found(self, qkv: Tensor, height: int, width: int) -> Tensor:
        """What the queries find, [b h, y x, d], of queries, keys and values [3, b h, y x, d]."""
        query, key, value = qkv
        cells = height * width
        by_place = query.unflatten(1, (height, width))
        rows = torch.einsum("byxd,ykd->byxk", by_place, _between(self.rel_pos_h, height))
        columns = torch.einsum("byxd,xkd->byxk", by_place, _between(self.rel_pos_w, width))
        rows, columns = rows.flatten(1, 2)[..., None], columns.flatten(1, 2)[..., None, :]
        query, found = query * self.scale, torch.empty_like(query)
        memory = query.new_empty(max(TABLE_ENTRIES, cells))
        for part in _parts(len(query), cells):
            table = memory[: found[part][..., 0].numel() * cells].view(*found[part].shape[:2], cells)
            torch.add(rows[part], columns[part], out=table.view(*table.shape[:2], height, width))
            table.baddbmm_(query[part], key[part[0]].transpose(1, 2))
            torch.softmax(table, -1, out=table)
            torch.bmm(table, value[part[0]], out=found[part])
        return found


def _between(positions: Tensor, cells: int) -> Tensor:
    """Embedding [query, key, d] of the way from each cell of an axis to each, of one for each way [2 n - 1, d].

    Where the axis has more or fewer cells than the embedding was trained for, it is interpolated.
    """
    ways = interpolate(positions.T[None], size=2 * cells - 1, mode="linear", align_corners=False)[0].T
    place = torch.arange(cells, device=positions.device)
    return ways[place[:, None] - place + cells - 1]


def _parts(tables: int, cells: int) -> Iterator[tuple[slice, slice]]:
    """Which tables, and which rows of them: many whole ones, or a strip of one."""
    many = max(1, TABLE_ENTRIES // cells**2)
    strip = min(cells, max(1, TABLE_ENTRIES // cells))
    for first in range(0, tables, many):
        for start in range(0, cells, strip):
            yield slice(first, first + many), slice(start, start + strip)
