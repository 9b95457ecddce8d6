"""Regions, sets of them and pairs: round trips, overlaps, and how little memory they take."""

import json
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.spatial.transform import Rotation

from samreg.errors import UsageError
from samreg.geometry import Grid
from samreg.matching import match_labels
from samreg.rois import Roi, RoiPair, RoiPairs, RoiSet

few = settings(max_examples=30, deadline=None, derandomize=True)
masks = arrays(bool, array_shapes(min_dims=3, max_dims=3, max_side=7)).filter(np.any)
OBLIQUE = Rotation.from_euler("xyz", (10, 20, 30), degrees=True).as_matrix()


@few
@given(masks, st.tuples(*[st.integers(0, 4)] * 3))
def test_a_mask_comes_back_whole(mask: np.ndarray, offset: tuple[int, int, int]):
    roi = Roi.from_mask(mask, offset=offset, score=0.5, label=3)
    shape = tuple(np.add(mask.shape, offset) + 1)
    whole = np.zeros(shape, bool)
    whole[tuple(slice(o, o + n) for o, n in zip(offset, mask.shape, strict=True))] = mask
    assert np.array_equal(roi.mask(shape), whole)
    assert roi.count == mask.sum()
    assert np.allclose(roi.centroid_ijk, np.argwhere(whole).mean(0))
    for axis in range(3):  # the box fits tightly
        others = tuple(a for a in range(3) if a != axis)
        line = roi.box.any(axis=others)
        assert line[0]
        assert line[-1]


@few
@given(masks, masks, st.tuples(*[st.integers(0, 5)] * 3))
def test_overlap_is_the_number_of_shared_voxels(a: np.ndarray, b: np.ndarray, offset: tuple[int, int, int]):
    first, second = Roi.from_mask(a), Roi.from_mask(b, offset=offset)
    shape = (14, 14, 14)
    shared = int((first.mask(shape) & second.mask(shape)).sum())
    assert first.overlap(second) == second.overlap(first) == shared


def test_an_empty_region_is_refused():
    with pytest.raises(UsageError, match="region is empty"):
        Roi.from_mask(np.zeros((3, 3, 3), bool))


def test_a_label_map_comes_back_from_its_regions():
    labels = np.random.default_rng(0).choice([0, 0, 2, 7, 300], (6, 5, 4)).astype(np.uint16)
    grid = Grid.from_axes(labels.shape, (1, 2, 3), direction=OBLIQUE)
    rois = RoiSet.from_labels(labels, grid)
    again = np.zeros_like(labels)
    for roi in rois:
        again[roi.where][roi.box] = roi.label
    assert np.array_equal(again, labels)
    assert [roi.label for roi in rois] == [2, 7, 300]
    with pytest.raises(UsageError):
        RoiSet.from_labels(labels[1:], grid)


def test_labels_of_64_bits_keep_their_numbers_through_regions_and_pairs():
    numbers = (2**24, 2**24 + 1, 3_000_000_000, 2**53 + 1, 2**63 + 1)
    labels = np.zeros(GRID.shape, np.uint64)
    for n, number in enumerate(numbers):
        labels[6 * n : 6 * n + 5, 8:16, 8:16] = number
    rois = RoiSet.from_labels(labels, GRID)
    assert [roi.label for roi in rois] == list(numbers)
    pairs = match_labels(rois, RoiSet.from_labels(labels[::-1].copy(), GRID))
    told = json.loads(json.dumps(pairs.as_json()))["pairs"]
    assert [(p["fixed"]["label"], p["moving"]["label"]) for p in told] == [(n, n) for n in numbers]
    drawn, _ = pairs.label_map("fixed")
    for pair in pairs:
        np.testing.assert_array_equal(drawn == pair.id, labels == pair.fixed.label)


def test_the_label_map_of_very_many_pairs_keeps_their_ids():
    cubes = {n: Roi.from_mask(np.ones((2, 2, 2), bool), offset=(x, 0, 0)) for n, x in ((65535, 0), (70001, 9))}
    pairs = RoiPairs(GRID, GRID, tuple(RoiPair(n, cube, cube, 1.0, 1.0) for n, cube in cubes.items()))
    labels, _ = pairs.label_map("fixed")
    assert set(np.unique(labels).tolist()) == {0, 65535, 70001}


def test_the_area_of_a_region_in_slices_whose_axes_are_not_perpendicular():
    affine = np.eye(4)
    affine[:3, 1] = (2.0, 3.0, 0.0)
    assert RoiSet(Grid((4, 4, 4), affine), ()).area_mm2(Roi.from_mask(np.ones((2, 2, 1), bool))) == pytest.approx(12.0)


def test_sizes_and_centroids_are_in_millimetres():
    grid = Grid.from_axes((10, 10, 10), (0.5, 2, 3), (5, 6, 7), OBLIQUE)
    mask = np.zeros(grid.shape, bool)
    mask[2:6, 3:5, 4:6] = True
    roi = Roi.from_mask(mask)
    rois = RoiSet(grid, (roi,))
    assert rois.volume_mm3(roi) == pytest.approx(16 * 3.0)
    assert rois.area_mm2(roi) == pytest.approx(8 * 1.0)
    assert np.allclose(rois.centroids_lps(), grid.lps(np.array([[3.5, 3.5, 4.5]])))
    assert not roi.is_2d
    assert RoiSet(grid, ()).centroids_lps().shape == (0, 3)


def ball(shape: tuple[int, int, int], centre: tuple[int, int, int], radius: int) -> Roi:
    box = np.indices((2 * radius + 1,) * 3) - radius
    offset = tuple(c - radius for c in centre)
    roi = Roi.from_mask((box**2).sum(0) <= radius**2, offset=offset)
    assert all(s >= 0 and s + n <= top for s, n, top in zip(roi.start, roi.shape, shape, strict=True))
    return roi


def pairs_of(*rois: tuple[Roi, float], grid: Grid, held_out: tuple[int, ...] = ()) -> RoiPairs:
    pairs = (RoiPair(n, roi, roi, 0.9, c, n in held_out) for n, (roi, c) in enumerate(rois, 1))
    return RoiPairs(grid, grid, tuple(pairs))


def test_thousand_regions_of_a_large_ct_take_less_than_50_mb():
    shape = (512, 512, 150)
    rng = np.random.default_rng(0)
    rois = [ball(shape, tuple(rng.integers(r, np.array(shape) - r)), r) for r in rng.integers(6, 24, 1000)]
    assert sum(roi.count for roi in rois) > 10_000_000
    held = sum(sys.getsizeof(roi.bits) + sys.getsizeof(roi) + sys.getsizeof(vars(roi)) for roi in rois)
    assert held < 50e6


GRID = Grid.from_axes((30, 30, 30), (1, 1, 2))


def test_the_more_confident_pair_wins_where_regions_overlap():
    sure, unsure = ball(GRID.shape, (12, 12, 12), 6), ball(GRID.shape, (16, 12, 12), 6)
    labels, overlaps = pairs_of((unsure, 0.4), (sure, 0.9), grid=GRID).label_map("fixed")
    assert (labels[sure.where][sure.box] == 2).all()
    assert (labels == 1).sum() == unsure.count - sure.overlap(unsure)
    assert overlaps == [(2, 1)]


def test_a_small_region_inside_a_large_one_of_equal_confidence_stays_visible():
    small, large = ball(GRID.shape, (12, 12, 12), 3), ball(GRID.shape, (12, 12, 12), 8)
    for order in ((small, large), (large, small)):
        labels, _ = pairs_of(*((roi, 0.8) for roi in order), grid=GRID).label_map("moving")
        assert (labels == order.index(small) + 1).sum() == small.count


def test_held_out_pairs_are_apart_from_the_fitted_ones():
    rois = [(ball(GRID.shape, (6 + 5 * n, 12, 12), 2), 0.5 + 0.1 * n) for n in range(4)]
    pairs = pairs_of(*rois, grid=GRID, held_out=(2, 3))
    assert [p.id for p in pairs.fitted] == [1, 4]
    assert [p.id for p in pairs.held_out] == [2, 3]
    assert np.allclose(pairs.confidences, [0.5, 0.6, 0.7, 0.8])
    assert np.allclose(pairs.fixed.centroids_lps(), pairs.moving.centroids_lps())


def test_json_of_pairs_follows_the_contract():
    flat = np.zeros(GRID.shape, bool)
    flat[3:7, 4:9, 5] = True
    pairs = pairs_of(
        (Roi.from_mask(flat, label=4), 0.7), (ball(GRID.shape, (5, 6, 6), 3), 0.6), grid=GRID, held_out=(2,)
    )
    out = json.loads(json.dumps(pairs.as_json()))
    first, second = out["pairs"]
    assert first["fixed"] == {"centroid_lps_mm": [4.5, 6.0, 10.0], "area_mm2": 20.0, "slices": [5], "label": 4}
    assert second["held_out"] is True
    assert second["moving"]["slices"] == [3, 4, 5, 6, 7, 8, 9]
    assert second["moving"]["volume_mm3"] > 0
    assert "area_mm2" not in second["moving"]
    assert out["overlaps"]["fixed"] == [[1, 2]]
