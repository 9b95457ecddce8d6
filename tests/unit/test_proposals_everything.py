"""Everything mode: batches that do not fit in memory, the second pass on what is uncovered, distinct boxes."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch

from samreg.config import ProposalConfig
from samreg.encoders import create_encoder
from samreg.errors import UsageError
from samreg.geometry import Grid, Volume
from samreg.promptable_models import Masks
from samreg.promptable_models.cache import SliceCache
from samreg.promptable_models.slices import EncodedVolume, PromptedSlice
from samreg.proposals import create_proposer
from samreg.proposals.everything import Candidates, Decoding, everything
from samreg.rois import RoiSet
from samreg.sam.model import SamFamilyModel
from tests.tiny_sam import responsive, tiny_sam

SIDE = 40

# A random model is sure of nothing and says much the same everywhere; none of its masks may be dropped for that.
SURE = {"pred_iou": 0.88, "stability": 0.9}
ALL = ProposalConfig(
    proposer="everything", points_per_side=3, pred_iou=0.0, stability=0.0, max_area_fraction=1.0, max_box_iou=1.0,
    max_overlap=1.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    model = responsive(tiny_sam())
    for mlp in model.mask_decoder.output_hypernetworks_mlps:
        mlp.proj_out.weight.data *= 30  # logits far enough from 0 for a stability
    model.save_pretrained(folder)
    return create_encoder("sam", weights=folder)


@pytest.fixture(scope="module")
def volume() -> Volume:
    grid = Grid.from_axes((SIDE, 32, 2), (3.0, 3.0, 5.0))
    return Volume(np.random.default_rng(0).normal(100, 20, grid.shape).astype(np.float32), grid)


def proposed(encoder, volume: Volume, config: ProposalConfig) -> RoiSet:
    return create_proposer("everything", encoder=encoder).propose(volume, np.ones(volume.grid.shape, bool), config)


def assert_same(found: RoiSet, expected: RoiSet) -> None:
    """The same regions in the same order; a voxel on an edge may go over it by rounding."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.overlap(other) >= 0.995 * max(one.count, other.count)
        assert one.score == pytest.approx(other.score, abs=1e-3)


@pytest.mark.parametrize("unmet", [{"pred_iou": 1.0}, {"stability": 1.0}])
@pytest.mark.parametrize("refill", [False, True])
def test_a_slice_without_masks_that_pass_has_no_regions(encoder, volume, monkeypatch, tmp_path, unmet, refill):
    config = ALL.with_values({"refill": refill, **unmet})
    assert len(proposed(encoder, volume, config)) == 0
    monkeypatch.setattr(encoder.slices, "cache", SliceCache(tmp_path))
    assert [len(proposed(encoder, volume, config)) for _ in range(2)] == [0, 0]


@pytest.fixture
def limited(monkeypatch) -> Callable[[int], list[int]]:
    """Sets how many points fit in memory; returns the sizes of the batches tried from then on."""
    inner = SamFamilyModel.masks_at_points

    def limit(fitting: int) -> list[int]:
        tried: list[int] = []

        def masks_at_points(self, image, points, **options):
            tried.append(len(points))
            if len(points) > fitting:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return inner(self, image, points, **options)

        monkeypatch.setattr(SamFamilyModel, "masks_at_points", masks_at_points)
        return tried

    return limit


# Memory


def test_batches_that_do_not_fit_are_halved_and_the_regions_stay_the_same(encoder, volume, limited):
    expected = proposed(encoder, volume, ALL)
    assert len(expected) > 30
    assert expected.notes == ()
    tried = limited(2)
    found = proposed(encoder, volume, ALL)
    assert_same(found, expected)
    # For good: what did not fit on the first slice is not tried again, neither there nor on the next.
    failed = [count for count in tried if count > 2]
    assert failed == tried[: len(failed)] == sorted(set(failed), reverse=True)
    points = ALL.points_per_side**2
    assert sum(count for count in tried if count <= 2) == points * volume.grid.shape[2]
    # A note for each, which says what was tried and not the 64 points asked for.
    assert [int(re.search(r"\d+", note)[0]) for note in found.notes] == failed
    assert failed[0] == points < ALL.points_per_batch


def test_memory_that_is_full_when_masks_are_brought_to_the_voxels_is_the_same(encoder, volume, monkeypatch):
    expected = proposed(encoder, volume, ALL)
    inner = PromptedSlice.on_voxels

    def on_voxels(self, logits):
        if len(logits) > 15:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return inner(self, logits)

    monkeypatch.setattr(PromptedSlice, "on_voxels", on_voxels)
    found = proposed(encoder, volume, ALL)
    assert found.notes
    assert_same(found, expected)


def test_one_point_that_does_not_fit_is_refused_with_the_next_step(encoder, volume, limited):
    tried = limited(0)
    with pytest.raises(UsageError, match="does not hold the model and one prompt") as error:
        proposed(encoder, volume, ALL.with_values({"points_per_batch": 4}))
    assert error.value.reason == "out-of-memory"
    assert "--device cpu" in error.value.next_step
    assert (tried[0], tried[-1]) == (4, 1)
    assert tried == sorted(set(tried), reverse=True)


def test_another_failure_is_not_taken_for_full_memory(encoder, volume, monkeypatch):
    def broken(self, image, points, **options):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(SamFamilyModel, "masks_at_points", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        proposed(encoder, volume, ALL)


def test_slices_that_do_not_fit_together_are_encoded_apart(encoder, volume, monkeypatch):
    """On a GPU slices are encoded ahead, four at once."""
    model = encoder.slices.model
    six = Volume(np.concatenate([volume.voxels] * 3, 2), Grid.from_axes((SIDE, 32, 6), (3.0, 3.0, 5.0)))
    expected = [EncodedVolume(model, six).embedding(k) for k in range(6)]
    tried: list[int] = []
    inner = SamFamilyModel.encode

    def encode(self, pixels):
        tried.append(len(pixels))
        if len(pixels) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return inner(self, pixels)

    monkeypatch.setattr(SamFamilyModel, "encode", encode)
    encoded = EncodedVolume(model, six)
    encoded._ahead = 4
    for k in range(6):
        torch.testing.assert_close(encoded.embedding(k), expected[k], atol=1e-3, rtol=1e-3)
    assert tried[0] == 4
    assert sum(count for count in tried if count <= 2) == 6
    assert sum(count > 2 for count in tried) == 1


@pytest.mark.parametrize("points_per_batch", [1, 3, 7])
def test_the_regions_do_not_depend_on_the_points_of_a_batch(encoder, volume, points_per_batch: int):
    once = proposed(encoder, volume, ALL)
    refilled = proposed(encoder, volume, ALL.with_values({"refill": True}))
    assert 30 < len(once) < len(refilled)
    for expected, refill in ((once, False), (refilled, True)):
        found = proposed(encoder, volume, ALL.with_values({"refill": refill, "points_per_batch": points_per_batch}))
        assert found.notes == ()
        assert_same(found, expected)


# A slice whose masks are known


class Drawn:
    """A slice that answers a point with the masks that hold it.

    Args:
        masks: Each with the IoU that is predicted of it.
    """

    cell_vox = np.ones(2)

    def __init__(self, *masks: tuple[np.ndarray, float]) -> None:
        self.masks = masks
        self.asked: list[np.ndarray] = []

    def at_points(self, points_ij, *, min_iou=float("-inf")) -> Masks:
        self.asked.append(points_ij)
        hits = [
            (mask, iou, n)
            for n, (i, j) in enumerate(np.rint(points_ij).astype(int))
            for mask, iou in self.masks
            if mask[i, j] and iou >= min_iou
        ]
        masks = np.array([mask for mask, _, _ in hits]).reshape(-1, SIDE, SIDE)
        numbers = torch.tensor([n for _, _, n in hits], dtype=torch.long)
        return Masks(torch.as_tensor(masks).float() * 20 - 10, torch.tensor([iou for _, iou, _ in hits]), numbers)

    def on_voxels(self, logits: torch.Tensor) -> torch.Tensor:
        return logits


def box(i: slice, j: slice) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[i, j] = True
    return mask


WHOLE = box(slice(None), slice(None))


def found_on(image: Drawn, config: ProposalConfig, body: np.ndarray = WHOLE, **options) -> Candidates:
    return everything(image, body, config, Decoding(config), **options)


def drawn_of(found: Candidates, image: Drawn) -> list[int]:
    """Numbers of the masks found, in their order."""
    return [n for mask in found.masks.numpy() for n, (own, _) in enumerate(image.masks) if np.array_equal(mask, own)]


# Refill

UPPER = box(slice(0, 20), slice(None))
SPOT = box(slice(22, 27), slice(22, 27))  # between the points of the first pass


def test_refill_finds_what_lies_between_the_points_of_the_first_pass():
    image = Drawn((UPPER, 0.95), (SPOT, 0.9))
    config = ProposalConfig(**SURE, points_per_side=2)
    without = found_on(image, config)
    assert drawn_of(without, image) == [0]
    image.asked.clear()
    refilled = found_on(image, config.with_values({"refill": True}))
    assert drawn_of(refilled, image) == [0, 1]
    covered = without.masks.any(0).numpy()
    assert not (refilled.masks[1].numpy() & covered).any()
    # Twice as dense, and not where there is a mask already.
    asked = np.concatenate(image.asked)
    assert len(asked) == 4 + 8
    i, j = np.rint(asked[4:]).astype(int).T
    assert not covered[i, j].any()


@pytest.mark.parametrize(("cell_vox", "per_side"), [(1.0, (16, 16)), (4.0, (10, 10)), ([4.0, 10.0], (10, 4))])
def test_points_lie_no_nearer_than_a_cell_of_the_embedding(cell_vox, per_side):
    image = Drawn((UPPER, 0.95))
    image.cell_vox = np.ones(2) * cell_vox
    found_on(image, ProposalConfig(**SURE))
    points = np.concatenate(image.asked)
    assert tuple(len(np.unique(points[:, axis])) for axis in (0, 1)) == per_side
    assert len(points) == np.prod(per_side)


def test_refill_is_off_unless_asked_for():
    image = Drawn((UPPER, 0.95), (SPOT, 0.9))
    config = ProposalConfig(**SURE, points_per_side=2)
    assert drawn_of(found_on(image, config), image) == [0]
    assert sum(len(points) for points in image.asked) == 4


def test_refill_stays_in_the_body():
    body = WHOLE.copy()
    body[30:] = False
    image = Drawn((UPPER, 0.95))
    found_on(image, ProposalConfig(**SURE, points_per_side=4, refill=True), body)
    i, j = np.rint(np.concatenate(image.asked)).astype(int).T
    assert len(i) > 16
    assert body[i, j].all()


def test_a_mask_too_large_for_a_region_covers_nothing():
    """One of the whole body, say: it is dropped for its size, and must not keep others out."""
    image = Drawn((WHOLE, 0.99), (UPPER, 0.95), (SPOT, 0.9))
    config = ProposalConfig(**SURE, points_per_side=2, refill=True)
    assert drawn_of(found_on(image, config, largest=0.5 * WHOLE.sum()), image) == [0, 1, 2]


def test_refill_reaches_area_that_no_region_covered(encoder, volume, tmp_path, monkeypatch):
    """Through the proposer and its cache, with the limits of size that it knows."""
    square = Volume(np.resize(volume.voxels, (SIDE, SIDE, 1)), Grid.from_axes((SIDE, SIDE, 1), (3, 3, 5)))
    image = Drawn((WHOLE, 0.99), (UPPER, 0.95), (SPOT, 0.9))
    monkeypatch.setattr(EncodedVolume, "prompted", lambda self, k: image)
    monkeypatch.setattr(encoder.slices, "cache", SliceCache(tmp_path))
    config = ProposalConfig(**SURE, proposer="everything", points_per_side=2, max_area_fraction=0.5, max_overlap=1.0)
    refill = config.with_values({"refill": True})

    def masks(config: ProposalConfig) -> list[int]:
        """Numbers of the masks that became regions."""
        rois = [roi.mask(square.grid.shape)[..., 0] for roi in proposed(encoder, square, config)]
        return [n for roi in rois for n, mask in enumerate((WHOLE, UPPER, SPOT)) if np.array_equal(roi, mask)]

    assert masks(config) == [1]
    assert masks(refill) == [1, 2]
    # Where the whole may be a region it leaves nothing uncovered; what was kept for another limit is no answer.
    assert masks(refill.with_values({"max_area_fraction": 1.0})) == [0, 1]
    image.masks = ()
    assert masks(refill) == [1, 2]  # kept


def test_refill_with_no_point_in_what_is_left_changes_nothing(encoder, volume, monkeypatch):
    """Every point of the second pass lies on a mask already, but a corner of the body does not."""
    prompted = encoder.slices.of(volume).prompted(0)
    inner, calls = PromptedSlice.at_points, []

    def at_points(self, points_ij, **options):
        calls.append(len(points_ij))
        if len(calls) > 1:
            return inner(self, points_ij, **options)
        # One mask of all but the first pixel.
        logits = torch.full_like(inner(self, points_ij[:1]).logits[:1], 10.0)
        logits[:, :2, :2] = -10.0
        return Masks(logits, torch.tensor([0.95]), torch.tensor([0]))

    monkeypatch.setattr(PromptedSlice, "at_points", at_points)
    config = ALL.with_values({"refill": True})
    body = np.ones(volume.grid.shape[:2], bool)
    found = everything(prompted, body, config, Decoding(config))
    assert len(found) == 1
    assert 0 < (body & ~found.masks[0].numpy()).sum() < 20
    assert sum(calls) == 9
    assert all(calls)


# Distinct boxes


def boxes_along_j() -> Drawn:
    """Three boxes, the last the best; neighbours share 3/5 of their union, the outer two 1/3."""
    rows = slice(5, 25)
    return Drawn((box(rows, slice(0, 20)), 0.90), (box(rows, slice(5, 25)), 0.93), (box(rows, slice(10, 30)), 0.96))


@pytest.mark.parametrize(
    ("max_box_iou", "expected"),
    [(0.61, [2, 1, 0]), (0.6, [2, 1, 0]), (0.59, [2, 0]), (0.34, [2, 0]), (0.33, [2])],
)
def test_of_boxes_that_share_more_the_mask_of_greater_predicted_iou_is_kept(max_box_iou: float, expected: list[int]):
    """A mask that is dropped drops no other: at 0.59 the first stays, as the second has gone."""
    image = boxes_along_j()
    config = ProposalConfig(**SURE, points_per_side=8, max_box_iou=max_box_iou)
    assert drawn_of(found_on(image, config), image) == expected


def test_boxes_are_compared_and_not_masks():
    square = box(slice(0, 20), slice(0, 20))
    diagonal = np.eye(SIDE, dtype=bool) & square
    image = Drawn((square, 0.9), (diagonal, 0.95))
    points = ProposalConfig(**SURE, points_per_side=20, max_box_iou=0.99)  # some lie on the diagonal
    assert drawn_of(found_on(image, points), image) == [1]


def test_copies_are_kept_only_where_boxes_may_be_the_same():
    image = Drawn((UPPER, 0.95))
    assert len(found_on(image, ProposalConfig(**SURE, points_per_side=4))) == 1
    assert len(found_on(image, ProposalConfig(**SURE, points_per_side=4, max_box_iou=1.0))) == 8  # one of each point


def test_masks_that_share_no_more_than_said_are_all_kept():
    corners = [box(slice(i, i + 12), slice(j, j + 12)) for i, j in itertools.product((0, 20), repeat=2)]
    image = Drawn(*((corner, 0.9 + 0.01 * n) for n, corner in enumerate(corners)))
    assert drawn_of(found_on(image, ProposalConfig(**SURE, points_per_side=8, max_box_iou=0.0)), image) == [3, 2, 1, 0]
