from dataclasses import replace

import numpy as np
import pytest

from samreg.config import MatchingConfig
from samreg.encoders.base import PHANTOM_CALIBRATION
from samreg.errors import InputRefused
from samreg.geometry import Grid
from samreg.matching import link_slices, match, match_labels, overlap, similarity, weigh, with_held_out
from samreg.matching.agreement import centroids_apart_mm
from samreg.rois import Roi, RoiPair, RoiPairs, RoiSet
from samreg.transforms import Rigid

GRID = Grid.from_axes((60, 60, 12), (2.0, 2.0, 4.0), (-60, -60, -24))
SHIFT = np.array([6.0, -4.0, 4.0])


def cube(centre, half=4, depth=2, **kw) -> Roi:
    mask = np.zeros(GRID.shape, bool)
    i, j, k = centre
    mask[i - half : i + half, j - half : j + half, k : k + depth] = True
    return Roi.from_mask(mask, **kw)


def moved() -> Rigid:
    matrix = np.eye(4)
    matrix[:3, 3] = SHIFT
    return Rigid(matrix)


CENTRES = [(15, 15, 3), (40, 15, 3), (15, 40, 6), (40, 40, 6), (28, 28, 4)]


@pytest.fixture
def sets() -> tuple[RoiSet, RoiSet]:
    """Five cubes, and the same moved by SHIFT (3, -2, 1 voxels) in another order."""
    fixed = RoiSet(GRID, tuple(cube(c) for c in CENTRES))
    moving = RoiSet(GRID, tuple(cube((i + 3, j - 2, k + 1)) for i, j, k in CENTRES[::-1]))
    return fixed, moving


def test_similarity_is_the_cosine_brought_to_zero_and_one():
    found = similarity(np.array([[1.0, 0], [0, 2]]), np.array([[3.0, 0], [-1, 0]]))
    np.testing.assert_allclose(found, [[1, 0], [0.5, 0.5]], atol=1e-12)


def test_overlap_is_seen_only_where_the_alignment_puts_it(sets):
    apart_mm, dice = centroids_apart_mm(*sets, moved()), overlap(*sets, moved())
    np.testing.assert_allclose(np.diag(np.fliplr(dice)), 1, atol=0.02)
    np.testing.assert_allclose(np.diag(np.fliplr(apart_mm)), 0, atol=1e-9)
    assert apart_mm[0, 0] > 10
    assert dice[0, 0] == 0
    assert not overlap(*sets, moved(), apart_mm > 10).any()


def test_appearance_pairs_one_to_one_above_the_threshold(sets):
    alike = np.fliplr(np.diag([0.99, 0.97, 0.95, 0.93, 0.5]))
    alike[0, 3] = 0.98  # a rival that is better off elsewhere
    pairs = match(weigh(*sets, alike, MatchingConfig(similarity_threshold=0.8, mutual=False)))
    assert len(pairs) == 4
    for pair in pairs:
        shift = np.subtract(pair.moving.start, pair.fixed.start)
        np.testing.assert_array_equal(shift, (3, -2, 1))


def test_at_most_k_pairs_best_first(sets):
    alike = np.fliplr(np.diag([0.99, 0.97, 0.95, 0.93, 0.91]))
    pairs = match(weigh(*sets, alike, MatchingConfig(max_pairs=2)))
    assert [p.similarity for p in pairs] == pytest.approx([0.99, 0.97])
    assert [p.id for p in pairs] == [1, 2]


def test_position_rejects_what_appearance_confuses(sets):
    confused = np.full((5, 5), 0.95)
    confused[0, 0] = 0.99  # looks most alike, but lies elsewhere
    pairs = match(weigh(*sets, confused, MatchingConfig(), aligned=moved(), max_distance_mm=15))
    assert len(pairs) == 5
    for pair in pairs:
        np.testing.assert_array_equal(np.subtract(pair.moving.start, pair.fixed.start), (3, -2, 1))
    assert min(p.confidence for p in pairs) > 0.9


def test_no_pair_lies_farther_apart_than_a_limit_that_was_given(sets):
    """An encoder that may pair regions that lie apart does so within the limit alone."""
    loose = replace(PHANTOM_CALIBRATION, apart=0.3)
    alike = np.full((5, 5), 0.95) * np.eye(5)  # each with another, but for the one in the middle
    for limit, expected in ((None, 5), (10.0, 1)):
        config = MatchingConfig(min_confidence=0.0, similarity_threshold=0.6, max_distance_mm=limit)
        assert len(match(weigh(*sets, alike, config, calibration=loose, aligned=moved()))) == expected


def test_single_slices_pair_only_within_the_slice_range():
    fixed = RoiSet(GRID, (cube((30, 30, 2), depth=1),))
    near, far = cube((30, 30, 4), depth=1), cube((30, 30, 10), depth=1)
    for roi, expected in ((near, 1), (far, 0)):
        config = MatchingConfig(slice_range_mm=10)
        assert len(match(weigh(fixed, RoiSet(GRID, (roi,)), np.array([[0.95]]), config))) == expected


def test_the_slice_range_holds_between_examinations_with_other_origins():
    """The scanners' coordinates of two examinations need not agree; under an alignment they must."""
    affine = GRID.affine.copy()
    affine[:3, 3] += (0, 0, 500)
    elsewhere = Grid(GRID.shape, affine)
    fixed = RoiSet(GRID, (cube((30, 30, 2), depth=1),))
    rois = cube((30, 30, 4), depth=1), cube((30, 30, 10), depth=1)
    config, alike = MatchingConfig(slice_range_mm=10), np.array([[0.9, 0.95]])
    (pair,) = match(weigh(fixed, RoiSet(elsewhere, rois), alike, config))
    assert pair.moving == rois[0]
    assert len(match(weigh(fixed, RoiSet(elsewhere, rois), alike, config, aligned=moved(), max_distance_mm=1000))) == 0


def test_slices_of_one_region_are_linked_to_one_pair():
    def pair(n, centre, k, confidence):
        roi = cube((*centre, k), depth=1)
        return RoiPair(n, roi, cube((centre[0] + 2, centre[1], k + 1), depth=1), 0.9, confidence)

    pairs = RoiPairs(GRID, GRID, (pair(1, (20, 20), 3, 0.9), pair(2, (20, 20), 4, 0.7), pair(3, (45, 45), 4, 0.6)))
    linked = link_slices(pairs)
    assert [p.fixed.shape[2] for p in linked] == [2, 1]
    assert linked.pairs[0].confidence == pytest.approx(0.8)
    assert linked.pairs[0].fixed.count == 2 * 64
    assert [p.id for p in linked] == [1, 2]


def test_labels_pair_by_number_and_refuse_when_none_is_shared():
    fixed = RoiSet(GRID, (cube((15, 15, 3), label=4), cube((40, 40, 3), label=9)))
    moving = RoiSet(GRID, (cube((42, 40, 3), label=9), cube((20, 40, 3), label=5)))
    pairs = match_labels(fixed, moving)
    assert [(p.fixed.label, p.moving.label, p.confidence) for p in pairs] == [(9, 9, 1.0)]
    with pytest.raises(InputRefused, match="share no label") as error:
        match_labels(fixed, RoiSet(GRID, (cube((20, 40, 3), label=5),)))
    assert error.value.reason == "no-common-label"


def test_held_out_pairs_are_a_share_spread_over_the_confidences(sets):
    roi = sets[0].rois[0]
    pairs = RoiPairs(GRID, GRID, tuple(RoiPair(n + 1, roi, roi, 0.9, 1 - n / 40) for n in range(40)))
    marked = with_held_out(pairs, 0.25, seed=0)
    assert len(marked.held_out) == 10
    assert len(marked.fitted) == 30
    ids = [p.id for p in marked.held_out]
    assert all(4 * n < i <= 4 * n + 4 for n, i in enumerate(ids))
    assert [p.id for p in with_held_out(pairs, 0.25, seed=0).held_out] == ids
    assert len(with_held_out(replace(pairs, pairs=pairs.pairs[:3]), 0.25, seed=0).held_out) == 0
