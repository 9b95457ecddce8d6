"""The options of the paper's tables, and those beyond it, do what their keys say."""

from dataclasses import replace

import numpy as np
import pytest

from samreg.config import MatchingConfig
from samreg.geometry import Grid
from samreg.matching import link_slices, match, shape_similarity, similarity, weigh, with_held_out
from samreg.matching.adaptive import least_margin
from samreg.matching.assignment import assign
from samreg.matching.groups import groups_of
from samreg.rois import Roi, RoiPair, RoiPairs, RoiSet

GRID = Grid.from_axes((60, 60, 12), (2.0, 2.0, 4.0), (-60, -60, -24))
PAPER = MatchingConfig(mutual=False, rank_by="score", position_weight=0.0, max_pairs=99)


def box(i: int, j: int, k: int, size: tuple[int, int, int] = (6, 6, 2), grid: Grid = GRID, **kw) -> Roi:
    mask = np.zeros(grid.shape, bool)
    mask[i : i + size[0], j : j + size[1], k : k + size[2]] = True
    return Roi.from_mask(mask, **kw)


def row_of(count: int, grid: Grid = GRID, **kw) -> RoiSet:
    return RoiSet(grid, tuple(box(2 + 9 * n, 10, 4, grid=grid, **kw) for n in range(count)))


def indices(pairs: RoiPairs, fixed: RoiSet, moving: RoiSet) -> list[tuple[int, int]]:
    return [(fixed.rois.index(p.fixed), moving.rois.index(p.moving)) for p in pairs]


# Greedy takes 0.95 and is left with 0.7; the other way round gives 0.9 + 0.9.
TRAP = np.array([[0.95, 0.9], [0.9, 0.7]])


def test_greedy_takes_the_greatest_first_and_optimal_the_greatest_total():
    assert assign(TRAP, "greedy", mutual=False) == [(0, 0), (1, 1)]
    assert set(assign(TRAP, "optimal", mutual=False)) == {(0, 1), (1, 0)}


def test_entries_that_may_not_pair_never_do():
    score = np.array([[0.9, 0.0, 0.0], [0.8, 0.0, 0.0]])
    for kind in ("greedy", "optimal", "one_to_many"):
        assert all(score[n, m] > 0 for n, m in assign(score, kind, mutual=False))
    assert assign(np.zeros((0, 3)), "optimal", mutual=False) == []


def test_one_to_many_keeps_every_entry_or_the_best_of_either_side():
    assert assign(TRAP, "one_to_many", mutual=False) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert assign(TRAP, "one_to_many", mutual=True) == [(0, 0), (0, 1), (1, 0)]


def test_hybrid_lets_doubtful_regions_alone_be_in_several_pairs():
    score = np.array([[0.9, 0.8, 0.7], [0.6, 0.85, 0.8]])
    sure = np.array([True, False]), np.array([True, True, True])
    assert assign(score, "hybrid", mutual=False, sure=sure) == [(0, 0), (1, 1), (1, 2)]


def test_raw_cosine_and_normalised_similarity_pair_alike_at_equivalent_thresholds():
    rng = np.random.default_rng(0)
    prototypes = rng.normal(size=(6, 4)), rng.normal(size=(6, 4))
    fixed, moving = row_of(6), row_of(6)
    for threshold in (0.6, 0.8, 0.9):
        normalised = PAPER.with_values({"similarity_threshold": threshold})
        raw = PAPER.with_values({"similarity": "cosine", "similarity_threshold": 2 * threshold - 1})
        found = [match(weigh(fixed, moving, similarity(*prototypes, c.similarity), c)) for c in (normalised, raw)]
        assert indices(found[0], fixed, moving) == indices(found[1], fixed, moving)
        np.testing.assert_allclose(found[0].confidences, found[1].confidences)
        assert len(found[0]) < 6


def test_the_paper_ranks_by_similarity_and_we_by_confidence():
    alike = np.array([[0.95, 0.94, 0], [0, 0.93, 0], [0, 0, 0.9]])
    fixed, moving = row_of(3), row_of(3)
    by_score = match(weigh(fixed, moving, alike, PAPER.with_values({"max_pairs": 1})))
    assert indices(by_score, fixed, moving) == [(0, 0)]
    by_confidence = match(weigh(fixed, moving, alike, PAPER.with_values({"max_pairs": 1, "rank_by": "confidence"})))
    assert indices(by_confidence, fixed, moving) == [(2, 2)]


def test_what_shares_a_key_is_one_group_also_by_way_of_others():
    assert groups_of(["a", "", "b", "c", "d", "ab", "ce"]) == [1, 0, 1, 2, 0, 1, 2]
    assert groups_of([]) == []


def test_pairs_of_a_shared_region_are_one_group():
    fixed, moving = row_of(4), row_of(4)
    alike = np.diag([0.99, 0.98, 0.97, 0.96])
    alike[0, 1] = 0.95
    pairs = match(weigh(fixed, moving, alike, PAPER.with_values({"assignment": "one_to_many"})))
    groups = dict(zip(indices(pairs, fixed, moving), [p.group for p in pairs], strict=True))
    assert groups == {(0, 0): 1, (1, 1): 1, (0, 1): 1, (2, 2): 0, (3, 3): 0}
    assert pairs.independent == 3
    assert all(p.group == 0 for p in match(weigh(fixed, moving, alike, PAPER)))


def test_pairs_that_share_a_region_are_held_out_together():
    roi = box(5, 5, 5)
    groups = [1, 0, 2, 1, 0, 2, 2, 0, 3, 3]
    pairs = RoiPairs(GRID, GRID, tuple(RoiPair(n + 1, roi, roi, 0.9, 0.9, group=g) for n, g in enumerate(groups)))
    seen = set()
    for seed in range(20):
        marked = with_held_out(pairs, 0.4, seed)
        by_group = {g: {p.held_out for p in marked if p.group == g} for g in (1, 2, 3)}
        assert all(len(states) == 1 for states in by_group.values())
        assert len({(p.group or -p.id) for p in marked.held_out}) == round(0.4 * 6)
        seen |= {g for g, states in by_group.items() if True in states}
    assert seen == {1, 2, 3}


def test_a_shared_region_stands_in_the_label_map_once_and_in_the_file_by_name():
    one, two, three = box(5, 5, 5), box(20, 5, 5), box(35, 5, 5)
    pairs = RoiPairs(
        GRID, GRID, tuple(RoiPair(n, one, other, 0.9, c, group=1) for n, other, c in ((1, one, 0.9), (2, two, 0.8)))
    )  # fmt: skip
    pairs = replace(pairs, pairs=(*pairs.pairs, RoiPair(3, one, three, 0.9, 0.8, group=1)))
    labels, overlaps = pairs.label_map("fixed")
    assert set(np.unique(labels)) == {0, 1}
    assert overlaps == [(1, 2), (1, 3), (2, 3)]
    assert set(np.unique(pairs.label_map("moving")[0])) == {0, 1, 2, 3}
    written = pairs.as_json()["pairs"]
    assert [p["shares_region_with"] for p in written] == [[2, 3], [1, 3], [1, 2]]


def stack(spacing: float, slices: int, at_mm: list[float]) -> RoiSet:
    """A square of one slice at each of these positions."""
    grid = Grid.from_axes((40, 40, slices), (2.0, 2.0, spacing))
    return RoiSet(grid, tuple(box(10, 10, round(z / spacing), (8, 8, 1), grid) for z in at_mm))


def test_slices_pair_by_position_or_by_number():
    """A region at 40 mm: slice 10 of one stack (4 mm), slice 5 of the other (8 mm)."""
    fixed, moving = stack(4.0, 20, [40.0]), stack(8.0, 10, [40.0, 72.0])
    alike = np.array([[0.9, 0.95]])
    near = PAPER.with_values({"slice_range_mm": 10.0, "slice_range": 2})
    assert indices(match(weigh(fixed, moving, alike, near)), fixed, moving) == [(0, 0)]
    by_number = near.with_values({"slice_pairing": "index"})
    assert indices(match(weigh(fixed, moving, alike, by_number)), fixed, moving) == [(0, 1)]
    assert len(match(weigh(fixed, moving, alike, by_number.with_values({"slice_range": 0})))) == 0


def test_k_counts_pairs_of_the_image_or_of_each_slice():
    rois = tuple(box(2 + 9 * n, 10, k, (6, 6, 1)) for k in (2, 8) for n in range(3))
    both = RoiSet(GRID, rois)
    alike = np.diag(np.linspace(0.99, 0.9, 6))
    assert len(match(weigh(both, both, alike, PAPER.with_values({"max_pairs": 2})))) == 2
    per_slice = match(weigh(both, both, alike, PAPER.with_values({"max_pairs": 2, "max_pairs_of": "slice"})))
    assert sorted(p.fixed.start[2] for p in per_slice) == [2, 2, 8, 8]


def test_adaptive_keeps_what_is_clear_and_drops_what_is_not():
    rng = np.random.default_rng(0)
    noise = rng.uniform(0.5, 0.7, (12, 12))
    clear = noise.copy()
    np.fill_diagonal(clear, 0.95)
    fixed, moving = row_of(6), row_of(6)
    adaptive = PAPER.with_values({"adaptive": True, "similarity_threshold": 0.99})
    pairs = match(weigh(fixed, moving, clear[:6, :6], adaptive))
    assert sorted(indices(pairs, fixed, moving)) == [(n, n) for n in range(6)]
    assert len(match(weigh(fixed, moving, noise[:6, :6], adaptive))) <= 1
    assert least_margin(clear) < 0.25
    assert least_margin(np.array([[0.9, 0.8]])) == 0.0


def test_the_shape_term_tells_a_disc_from_a_bar():
    bar, disc = box(5, 5, 5, (18, 4, 2)), box(5, 25, 5, (8, 8, 2))
    fixed, moving = RoiSet(GRID, (bar,)), RoiSet(GRID, (disc, box(30, 5, 2, (4, 18, 2))))
    shape = shape_similarity(fixed, moving)
    assert shape[0, 1] == pytest.approx(1)  # turned by a right angle, the same shape
    assert shape[0, 0] < 0.65
    alike = np.array([[0.95, 0.9]])
    assert indices(match(weigh(fixed, moving, alike, PAPER)), fixed, moving) == [(0, 0)]
    by_shape = match(weigh(fixed, moving, alike, PAPER.with_values({"shape_weight": 1.0})))
    assert indices(by_shape, fixed, moving) == [(0, 1)]


def test_a_slice_paired_with_two_is_not_a_region_that_goes_on():
    def pair(number: int, fixed_k: int, moving_k: int, group: int = 0) -> RoiPair:
        at = (box(10, 10, k, (8, 8, 1)) for k in (fixed_k, moving_k))
        return RoiPair(number, *at, 0.9, 0.9, group=group)

    shared = RoiPairs(GRID, GRID, (pair(1, 4, 5, 1), pair(2, 4, 6, 1)))
    assert len(link_slices(shared)) == 2
    chain = replace(shared, pairs=(*shared.pairs, pair(3, 3, 3)))
    linked = link_slices(chain)
    assert sorted(p.fixed.shape[2] for p in linked) == [1, 2]
    assert linked.independent == 1
