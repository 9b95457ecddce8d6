"""Pairs drawn for training: what is said to correspond does, and what is said to be visible is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from samreg.training.losses import corresponding_points
from samreg.training.synthesis import (
    HELD_OUT_APPEARANCES,
    HELD_OUT_SHAPES,
    TRAINING_APPEARANCES,
    TRAINING_SHAPES,
    Draw,
    Pairs,
    Synthesis,
)
from samreg.training.synthesis.shapes import BODY, LABELS
from samreg.training.synthesis.views import draw_views, pixel_places
from samreg.training.synthesis.visibility import visible_regions

SIZE = 96
HELD_OUT = Synthesis(HELD_OUT_SHAPES, HELD_OUT_APPEARANCES)


@pytest.fixture(scope="module", params=["training", "held out"])
def pairs(request) -> Pairs:
    synthesis = Synthesis() if request.param == "training" else HELD_OUT
    return synthesis.draw(Draw(3), 12, SIZE)


def test_one_seed_gives_one_batch():
    one, same, other = (Synthesis().draw(Draw(seed), 3, 64) for seed in (5, 5, 6))
    assert torch.equal(one.images, same.images)
    assert torch.equal(one.places, same.places)
    assert not torch.equal(one.images, other.images)


def test_images_are_finite_and_in_range(pairs):
    assert pairs.images.shape == (12, 2, SIZE, SIZE)
    assert pairs.images.isfinite().all()
    assert pairs.images.min() >= 0
    assert pairs.images.max() <= 1
    assert (pairs.images.flatten(2).std(2) > 0.01).float().mean() > 0.9


def test_families_for_evaluation_are_not_those_of_training():
    assert not set(HELD_OUT_APPEARANCES) & set(TRAINING_APPEARANCES)
    assert set(HELD_OUT_SHAPES) & set(TRAINING_SHAPES) == {"bodies"}  # any scene has an outline


def label_at(labels: Tensor, places: Tensor) -> Tensor:
    """Labels [b, y, x] at places [b, n, 2]."""
    size = labels.shape[-1]
    pixel = ((places.clamp(-0.999, 0.999) + 1) / 2 * size).long()
    return labels.flatten(1).gather(1, pixel[..., 1] * size + pixel[..., 0])


def test_counterparts_have_the_same_label(pairs):
    """Where a region is the same in both views, its pixels in the second come from it in the first."""
    second = pixel_places(SIZE, torch.device("cpu")).flatten(0, 1).expand(12, -1, -1)
    first = pairs.places[:, 1].flatten(1, 2)
    label = pairs.labels[:, 1].flatten(1)
    judged = pairs.matched.gather(1, label) & (first.abs() < 0.99).all(-1)
    agree = label_at(pairs.labels[:, 0], first) == label
    assert judged.any()
    assert agree[judged].float().mean() > 0.92  # not all: another object may be missing in one of the views
    assert torch.equal(label_at(pairs.labels[:, 1], second), label)


def test_points_said_to_correspond_show_the_same(pairs):
    second, first, valid = corresponding_points(Draw(1), pairs, 200)
    same = label_at(pairs.labels[:, 0], first) == label_at(pairs.labels[:, 1], second)
    assert valid.any()
    assert same[valid].all()


def test_views_do_not_fold():
    places = draw_views(Draw(0), 40, 64)[:, 1]
    along_x, along_y = places.diff(dim=2)[:, 1:], places.diff(dim=1)[:, :, 1:]
    area = along_x[..., 0] * along_y[..., 1] - along_x[..., 1] * along_y[..., 0]
    assert (area > 0).all()


def test_the_first_view_is_the_scene_itself():
    places = draw_views(Draw(0), 2, 32)
    assert torch.equal(places[0, 0], pixel_places(32, torch.device("cpu")))


def test_wholes_contain_their_parts(pairs):
    within = pairs.within
    assert within.shape == (12, LABELS, LABELS)
    assert within[:, torch.arange(1, LABELS), torch.arange(1, LABELS)].all()
    assert not within[:, :, 0].any()  # the outside belongs to nothing
    assert not within[:, 0].any()
    assert within[:, BODY, 1:].all()
    # What is part of a part is part of the whole.
    chained = (within.float() @ within.float()) > 0
    assert torch.equal(chained, within)


def test_what_is_matched_is_visible_in_both_views(pairs):
    assert (pairs.visible.all(1) | ~pairs.matched).all()
    assert pairs.matched.sum() > 12


def test_contrast_is_shared_where_it_is_said_to_be():
    """Mean intensities of the regions: alike with one contrast, not with another."""
    for share, low, high in ((1.0, 0.6, 1.0), (0.0, -0.5, 0.4)):
        drawn = Synthesis(appearances=("mr",), same_contrast=share).draw(Draw(11), 24, SIZE)
        assert drawn.same_contrast.all() == bool(share)
        means = []
        for n in range(24):
            for name in drawn.matched[n].nonzero()[:, 0].tolist():
                inside = [drawn.within[n, name][drawn.labels[n, view]] for view in (0, 1)]
                means.append([drawn.images[n, view][inside[view]].mean() for view in (0, 1)])
        correlation = torch.corrcoef(torch.tensor(means).T)[0, 1]
        assert low < correlation <= high


def disc(contrast: float, *, pieces: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """An image of discs with label 2 in a body with label 1, with grain, and what lies in what."""
    places = pixel_places(64, torch.device("cpu"))
    labels = torch.ones(1, 64, 64, dtype=torch.int64)
    for n in range(pieces):
        labels[0, (places - torch.tensor([-0.4 + 0.8 * n, 0.0])).norm(dim=-1) < 0.3] = 2
    image = 0.4 + contrast * (labels == 2) + 0.02 * Draw(0).normal(1, 64, 64)
    within = torch.eye(3, dtype=torch.bool)[None]
    within[:, 1, 2] = True
    return image, labels, within


@pytest.mark.parametrize(
    ("scene", "visible"),
    [(disc(0.3), True), (disc(-0.3), True), (disc(0.0), False), (disc(0.02), False), (disc(0.3, pieces=2), False)],
)
def test_a_region_is_visible_by_contrast_and_in_one_piece(scene, visible):
    assert bool(visible_regions(*scene)[0, 2]) == visible


def test_what_is_tiny_or_nearly_everything_is_no_region():
    image, labels, within = disc(0.3)
    assert not visible_regions(image, labels, within)[0, 1]  # the body fills the image
    labels[labels == 2] = 1
    labels[0, 30:32, 30:32] = 2
    assert not visible_regions(0.4 + 0.3 * (labels == 2), labels, within)[0, 2]
