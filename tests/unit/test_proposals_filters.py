"""Size limits, the overlap filter and given label maps."""

from __future__ import annotations

import numpy as np
import pytest

from samreg.config import ProposalConfig
from samreg.errors import UsageError
from samreg.geometry import Grid, Volume
from samreg.proposals import create_proposer
from samreg.proposals.filters import size_limits, within_limits, without_overlap
from samreg.rois import Roi

SHAPE = (20, 20, 4)


def box(i: slice, j: slice, k: slice = slice(0, 1), score: float = 1.0) -> Roi:
    mask = np.zeros(SHAPE, bool)
    mask[i, j, k] = True
    return Roi.from_mask(mask, score=score)


def test_limits_are_in_mm_and_in_shares_of_the_body():
    grid = Grid.from_axes(SHAPE, (12, 12, 30))
    body = np.zeros(SHAPE, bool)
    body[:10] = True
    body[:5, :, 3] = False
    config = ProposalConfig(min_area_mm2=144, max_area_fraction=0.5, min_volume_mm3=1296, max_volume_fraction=0.25)
    smallest, largest = size_limits(grid, body, config, per_slice=True)
    assert smallest == pytest.approx(1)
    assert largest.tolist() == [100, 100, 100, 50]
    smallest, largest = size_limits(grid, body, config, per_slice=False)
    assert smallest == pytest.approx(0.3)
    assert largest.tolist() == [175] * 4


def test_a_small_body_has_small_regions():
    """Shares of the body stand in for millimetres where the body is a few millimetres in size."""
    body = np.ones(SHAPE, bool)
    smallest, _ = size_limits(Grid.from_axes(SHAPE, (0.01, 0.01, 0.01)), body, ProposalConfig(), per_slice=True)
    assert smallest == pytest.approx(2)
    smallest, _ = size_limits(Grid.from_axes(SHAPE, (0.01, 0.01, 0.01)), body, ProposalConfig(), per_slice=False)
    assert smallest == pytest.approx(0.8)


def test_regions_within_limits():
    rois = [box(slice(0, 2), slice(0, 2)), box(slice(0, 5), slice(0, 5)), box(slice(0, 5), slice(0, 5), slice(3, 4))]
    assert within_limits(rois, 5, np.array([30, 30, 30, 20])) == [rois[1]]


def test_a_part_goes_or_stays_beside_its_whole():
    whole = box(slice(0, 10), slice(0, 10), score=0.9)
    part = box(slice(0, 5), slice(0, 5), score=0.8)
    assert without_overlap([part, whole], 0.8) == [whole]
    assert without_overlap([part, whole], 0.8, relative_to="larger") == [whole, part]


def test_near_copies_go_and_the_better_stays():
    better = box(slice(0, 10), slice(0, 10), score=0.9)
    copy = box(slice(0, 10), slice(0, 9), score=0.8)
    beside = box(slice(0, 10), slice(10, 20), score=0.1)
    for relative_to in ("smaller", "larger"):
        assert without_overlap([beside, copy, better], 0.8, relative_to=relative_to) == [better, beside]


def test_no_two_kept_regions_share_more_than_allowed():
    rng = np.random.default_rng(0)
    rois = []
    for _ in range(120):
        a, b = rng.integers(0, 12, 2)
        n, m = rng.integers(2, 9, 2)
        rois.append(box(slice(a, a + n), slice(b, b + m), slice(0, 2), score=float(rng.random())))
    kept = without_overlap(rois, 0.5)
    assert 5 < len(kept) < 120
    assert [r.score for r in kept] == sorted((r.score for r in kept), reverse=True)
    for n, one in enumerate(kept):
        assert all(one.overlap(other) <= 0.5 * min(one.count, other.count) for other in kept[:n])
    for dropped in set(rois) - set(kept):  # nothing is dropped without a reason
        better = [r for r in kept if r.score >= dropped.score]
        assert any(dropped.overlap(r) > 0.5 * min(r.count, dropped.count) for r in better)


def test_at_most_so_many():
    rois = [box(slice(n, n + 1), slice(0, 20), score=n / 20) for n in range(20)]
    kept = without_overlap(rois, 0.8, max_rois=3)
    assert [r.score for r in kept] == [19 / 20, 18 / 20, 17 / 20]
    assert without_overlap([], 0.8) == []


def labelled() -> tuple[Volume, np.ndarray]:
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:5, 2:5, 1:3] = 7
    labels[10:18, 4:9] = 3
    return Volume(np.zeros(SHAPE, np.float32), Grid.from_axes(SHAPE, (1, 1, 3))), labels


def test_given_labels_become_regions_whatever_their_size():
    volume, labels = labelled()
    proposer = create_proposer("labels", labels=labels)
    rois = proposer.propose(volume, np.zeros(SHAPE, bool), ProposalConfig(min_volume_mm3=1e6))
    assert [r.label for r in rois] == [3, 7]
    for roi in rois:
        np.testing.assert_array_equal(roi.mask(SHAPE), labels == roi.label)


def test_label_maps_that_cannot_serve_are_refused():
    volume, labels = labelled()
    body = np.ones(SHAPE, bool)
    with pytest.raises(UsageError, match="holds no labels"):
        create_proposer("labels", labels=np.zeros_like(labels)).propose(volume, body, ProposalConfig())
    with pytest.raises(UsageError, match="shape"):
        create_proposer("labels", labels=labels[:-1]).propose(volume, body, ProposalConfig())


def test_proposers_say_what_they_lack():
    with pytest.raises(UsageError, match="is used without label maps"):
        create_proposer("labels")
    with pytest.raises(UsageError, match="promptable encoder"):
        create_proposer("everything")
    with pytest.raises(UsageError, match="The proposer 'no-such' is unknown"):
        create_proposer("no-such")


@pytest.mark.parametrize("size", [100, 200, 512])
def test_the_papers_limits_are_shares_of_the_slice_at_any_resolution(size):
    """200 to 7000 pixels of 200 x 200: 0.5 to 17.5 % of the whole slice, however small the body."""
    grid = Grid.from_axes((size, size, 3), (1, 1, 4))
    body = np.zeros(grid.shape, bool)
    body[: size // 4] = True
    config = ProposalConfig(min_area_px=200, max_area_px=7000)
    smallest, largest = size_limits(grid, body, config, per_slice=True)
    assert smallest / size**2 == pytest.approx(0.005)
    assert largest / size**2 == pytest.approx([0.175] * 3)


def test_each_limit_of_the_paper_stands_in_place_of_those_of_its_side():
    grid = Grid.from_axes((100, 100, 1), (2, 2, 1))
    body = np.ones(grid.shape, bool)
    config = ProposalConfig(min_area_mm2=40, max_area_fraction=0.5, max_area_px=4000)
    smallest, largest = size_limits(grid, body, config, per_slice=True)
    assert smallest == pytest.approx(10)
    assert largest == pytest.approx(1000)
    _, largest = size_limits(grid, body, ProposalConfig(max_area_mm2=800), per_slice=True)
    assert largest == pytest.approx(200)
    solid = size_limits(grid, body, config, per_slice=False)
    assert solid[1] == pytest.approx(ProposalConfig().max_volume_fraction * body.sum())
