"""The decoder gives what the forward of transformers gives, for one prompt and for many, and filters as it says."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from samreg.promptable_models import Masks
from samreg.sam import decoder
from samreg.sam.model import SamFamilyModel
from tests.tiny_family import tiny_sam2, tiny_sam3
from tests.tiny_sam import responsive, tiny_sam

MODELS = {"sam": tiny_sam, "sam2": tiny_sam2, "sam3": tiny_sam3}  # SamHQModel's own forward is not to be trusted


def published_eps(model: Any) -> Any:
    """The model with the layer norms of its decoder as they were trained; transformers has 1e-6 for some."""
    for layer in model.mask_decoder.transformer.layers:
        for norm in (layer.layer_norm1, layer.layer_norm2, layer.layer_norm3, layer.layer_norm4):
            norm.eps = 1e-5
    return model


@pytest.fixture(scope="module", params=MODELS)
def models(request, tmp_path_factory) -> SimpleNamespace:
    """Ours from files, theirs apart from it, and one image as ours has encoded it."""
    theirs = published_eps(responsive(MODELS[request.param]()))
    folder = tmp_path_factory.mktemp("weights")
    theirs.save_pretrained(folder)
    ours = SamFamilyModel(folder)
    size = ours.image_size
    pixels = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    return SimpleNamespace(theirs=theirs, ours=ours, pixels=pixels, image=ours.prepare(ours.encode_pixels(pixels)[0]))


def some_points(count: int, size: int) -> Tensor:
    return torch.rand(count, 2, generator=torch.Generator().manual_seed(1)) * size


def some_boxes(count: int, size: int) -> Tensor:
    ends = torch.rand(count, 2, 2, generator=torch.Generator().manual_seed(2)) * size
    return torch.cat([ends.amin(1), ends.amax(1)], 1)


@pytest.fixture(params=[2, 100], ids=["few_at_once", "all_at_once"])
def at_once(request, monkeypatch) -> None:
    """As on a CPU, and as on a GPU."""
    monkeypatch.setattr(decoder, "AT_ONCE_ON_CPU", request.param)


@pytest.mark.parametrize("count", [1, 7])
@pytest.mark.parametrize("kind", ["points", "boxes"])
def test_masks_and_their_iou_are_those_of_transformers(models, at_once, kind: str, count: int):
    size = models.ours.image_size
    if kind == "points":
        points = some_points(count, size)
        ours = models.ours.masks_at_points(models.image, points)
        prompts = {"input_points": points[None, :, None], "input_labels": torch.ones(1, count, 1, dtype=torch.int)}
    else:
        boxes = some_boxes(count, size)
        ours = models.ours.masks_in_boxes(models.image, boxes)
        prompts = {"input_boxes": boxes[None]}
    with torch.no_grad():
        theirs = models.theirs(pixel_values=models.pixels, multimask_output=True, **prompts)
    expected = theirs.pred_masks[0].flatten(0, 1)
    torch.testing.assert_close(ours.logits, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.iou, theirs.iou_scores[0].flatten(), atol=1e-5, rtol=1e-5)
    assert ours.prompt.tolist() == [number for number in range(count) for _ in range(3)]
    # The answers differ by far more than the tolerance, so none can stand in the place of another.
    for one, other in itertools.combinations(expected, 2):
        assert (one - other).abs().max() > 1e-3


def same(one: Masks, other: Masks) -> None:
    torch.testing.assert_close(one.logits, other.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(one.iou, other.iou, atol=1e-6, rtol=1e-5)
    assert one.prompt.tolist() == other.prompt.tolist()


def test_only_masks_of_less_predicted_iou_are_left_out(models, at_once):
    points = some_points(7, models.ours.image_size)
    whole = models.ours.masks_at_points(models.image, points)
    for quantile in (0.3, 0.9):  # some masks of most prompts, one mask of some prompts
        # Halfway between two masks, so that rounding moves none of them over it.
        ordered = whole.iou.sort().values
        n = int(quantile * len(ordered))
        limit = float(ordered[n : n + 2].mean())
        good = whole.iou >= limit
        expected = Masks(whole.logits[good], whole.iou[good], whole.prompt[good])
        assert 0 < len(expected.iou) < len(whole.iou)
        same(models.ours.masks_at_points(models.image, points, min_iou=limit), expected)


def test_where_no_mask_is_good_there_is_none(models, at_once):
    points = some_points(3, models.ours.image_size)
    side = 4 * models.image.shape[0]
    found = models.ours.masks_at_points(models.image, points, min_iou=1e6)
    assert found.logits.shape == (0, side, side)
    assert len(found.iou) == len(found.prompt) == 0
