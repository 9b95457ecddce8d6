"""Attention part by part is that of the model, in windows and over the whole image."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from samreg.sam import attention
from samreg.sam.attention import attend_in_parts
from tests.tiny_family import tiny_hq
from tests.tiny_sam import tiny_sam

# At once: one row, rows that do not divide the image or the window evenly, a few windows, everything.
ENTRIES = [1, 100, 320, 600, 1 << 18]


@pytest.fixture(scope="module", params=[tiny_sam, tiny_hq], ids=["sam", "sam_hq"])
def encoders(request):
    """The image encoder as transformers has it, and one that attends part by part."""
    model = request.param()
    ours = copy.deepcopy(model)
    attend_in_parts(ours)
    return model.vision_encoder, ours.vision_encoder


@pytest.fixture(params=ENTRIES)
def entries(request, monkeypatch) -> int:
    monkeypatch.setattr(attention, "TABLE_ENTRIES", request.param)
    return request.param


@pytest.mark.parametrize(("layer", "side"), [(0, 4), (1, 8)], ids=["windows", "global"])
def test_a_layer_attends_as_transformers_has_it(encoders, entries: int, layer: int, side: int):
    theirs, ours = (encoder.layers[layer].attn for encoder in encoders)
    assert theirs.rel_pos_h.shape[0] == 2 * side - 1
    cells = torch.randn(3, side, side, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs(cells)[0]
        torch.testing.assert_close(ours(cells)[0], expected, atol=1e-5, rtol=1e-5)
        # Without the relative positions along each axis it would not be the same.
        for name in ("rel_pos_h", "rel_pos_w"):
            without = copy.deepcopy(theirs)
            getattr(without, name).zero_()
            assert (without(cells)[0] - expected).abs().max() > 1e-2


def test_the_encoder_gives_the_same_embedding(encoders, entries: int):
    theirs, ours = encoders
    pixels = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(pixels)[0], theirs(pixels)[0], atol=1e-5, rtol=1e-5)


class Largest(TorchDispatchMode):
    """Numbers of the largest tensor that is made within the block."""

    numbers = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        out = function(*arguments, **(options or {}))
        self.numbers = max([self.numbers, *(t.numel() for t in tree_leaves(out) if isinstance(t, torch.Tensor))])
        return out


@pytest.mark.parametrize("entries", [100, 1 << 18])
def test_the_table_of_positions_is_never_made_whole(encoders, entries: int, monkeypatch):
    """Of an image of 24 x 24 cells the table of all pairs of cells is the largest thing by far."""
    monkeypatch.setattr(attention, "TABLE_ENTRIES", entries)
    theirs, ours = (encoder.layers[1].attn for encoder in encoders)
    cells = torch.randn(1, 24, 24, 32)
    whole = 2 * (24 * 24) ** 2  # of two heads
    with torch.no_grad():
        with Largest() as largest:
            found = ours(cells)[0]
        assert largest.numbers <= max(entries, whole // 5)
        with Largest() as largest:
            torch.testing.assert_close(found, theirs(cells)[0], atol=1e-5, rtol=1e-5)
        assert largest.numbers >= whole
