"""Evidence knows its noise, and within it a stated rule decides."""

from dataclasses import replace

import numpy as np
import pytest

from samreg import phantoms
from samreg.evidence import (
    Evidence,
    Examination,
    Measure,
    Terms,
    blocks_of,
    correlation_parts,
    decide,
    information_parts,
    mutual_information,
    overlap,
)
from samreg.geometry import Grid, Volume
from samreg.rois import Roi, RoiPair, RoiPairs
from samreg.transforms import Affine, Rigid, about_centre

RNG = np.random.default_rng(0)


def measure(value: float, noise: float = 0.0, count: int = 40, least: float = 1e-6) -> Measure:
    """Parts whose mean is `value`; beside `measure(…)` without noise the gain has this noise."""
    spread = np.resize([-1.0, 1.0], count) * noise * count**0.5
    return Measure(value + spread, least)


def evidence(
    closeness=5.0, information=1.0, correlation=0.8, likeness=-0.05, coverage=0.9, noise=0.0, count=40
) -> Evidence:
    return Evidence(
        measure(closeness, noise, count),
        measure(information, noise),
        measure(correlation, noise),
        measure(likeness),
        coverage,
    )


def test_noise_is_the_standard_error_of_the_paired_difference():
    shared = RNG.normal(size=400)  # of both transforms, so no part of the noise
    apart = RNG.normal(0, 0.2, 400)
    gain = Measure(shared + apart + 0.1, 0.0).gain_over(Measure(shared, 0.0))
    assert gain.value == pytest.approx(0.1 + apart.mean())
    draws = [np.mean(RNG.choice(apart, apart.size)) for _ in range(2000)]
    assert gain.noise == pytest.approx(np.std(draws), rel=0.1)


def test_noise_is_never_less_than_what_processors_change():
    assert measure(1.0, least=0.01).gain_over(measure(1.0)).noise == 0.01
    nothing = Measure(np.zeros(0), 0.02)
    assert nothing.gain_over(nothing).noise == 0.02
    assert np.isnan(nothing.value)


@pytest.mark.parametrize(
    ("finer", "reason"),
    [
        (evidence(closeness=4.0), "move apart"),
        (evidence(closeness=6.0, information=0.9), "mutual information falls"),
        (evidence(closeness=6.0, correlation=0.7), "correlation falls"),
        (evidence(closeness=6.0, coverage=0.7), "cover"),
        (evidence(closeness=6.0, information=np.nan), "cannot be measured"),
        (evidence(closeness=6.0, correlation=np.nan), "correlation falls"),
    ],
)
def test_a_finer_transform_must_not_be_worse_on_any_count(finer, reason):
    decision = decide(finer, evidence(), terms=Terms("information"), refines=True)
    assert not decision.finer
    assert reason in decision.reason


def test_witnesses_that_tell_decide():
    closer = evidence(closeness=5.1)
    assert decide(closer, evidence(), terms=Terms("information"), refines=True).finer
    assert decide(closer, evidence(), terms=Terms("likeness"), refines=True).finer


@pytest.mark.parametrize("closeness", [4.95, 5.0, 5.05])
def test_within_the_noise_of_the_witnesses_mutual_information_decides(closeness):
    finer = replace(evidence(closeness=closeness, information=1.2), closeness=measure(closeness, 0.1))
    decision = decide(finer, evidence(), terms=Terms("information"), refines=True)
    assert decision.finer
    assert "do not decide" in decision.reason
    assert "mutual information rises" in decision.reason


def test_within_all_noise_the_simpler_transform_stays():
    finer = evidence(closeness=5.1, information=1.05, noise=0.1)
    decision = decide(finer, evidence(), terms=Terms("information"), refines=True)
    assert not decision.finer
    assert "the simpler transform stays" in decision.reason


def test_what_was_fitted_to_mutual_information_is_judged_by_descriptors():
    finer = replace(evidence(information=1.5), closeness=measure(5.0, 0.1))
    assert not decide(finer, evidence(), terms=Terms("likeness"), refines=True).finer
    assert decide(finer, evidence(), terms=Terms("information"), refines=False).finer
    alike = replace(finer, likeness=measure(-0.04))
    decision = decide(alike, evidence(), terms=Terms("likeness"), refines=True)
    assert decision.finer
    assert "descriptors" in decision.reason


def test_descriptors_that_travel_prefer_the_true_stretch_and_not_a_squeezed_image():
    phantom = phantoms.pair("affine", fixed_grid=phantoms.grid("picture", 64), rotation_deg=0, translation_mm=0.0)
    nothing = RoiPairs(phantom.fixed.grid, phantom.moving.grid, ())
    examination = Examination(phantom.fixed, phantom.moving, phantom.body, nothing, 10.0)
    identity = Affine.identity()
    before = examination.evidence(identity, through=identity).likeness
    assert examination.evidence(phantom.truth, through=identity).likeness.gain_over(before).rises
    squeezed = Affine(about_centre(np.diag([0.8, 1.2, 1.0]), np.zeros(3), phantom.fixed.grid.centre_lps))
    assert examination.evidence(squeezed, through=identity).likeness.gain_over(before).falls


@pytest.mark.parametrize(
    ("fitted_to", "kind", "pictures", "expected"),
    [
        ((), "affine", False, Terms("information")),
        (("information",), "rigid", False, Terms("information")),
        (("information",), "rigid", True, Terms("likeness")),
        (("information",), "affine", False, Terms("likeness")),
        (("likeness",), "affine", False, Terms("information")),
        (("correlation",), "deformable", False, Terms("likeness", pairs_tell=False)),
    ],
)
def test_no_candidate_is_judged_by_what_it_was_fitted_to(fitted_to, kind, pictures, expected):
    assert Terms.of(frozenset(fitted_to), kind, pictures=pictures) == expected


def test_descriptors_hardly_nearer_than_chance_decide_nothing():
    told = {"terms": Terms("likeness", pairs_tell=False), "refines": False}
    near, far = (replace(evidence(likeness=-0.08), by_chance=chance) for chance in (0.2, 0.1))
    found = decide(far, evidence(likeness=-0.2), **told)
    assert not found.finer
    assert not found.within_noise
    assert "80% of their distance by chance" in found.reason
    assert decide(near, evidence(likeness=-0.2), **told).finer


def test_chance_is_the_likeness_of_unrelated_images_and_equal_images_are_alike():
    phantom = phantoms.pair("identity", fixed_grid=phantoms.grid("axial", 48))
    noise = np.random.default_rng(0).normal(400, 100, phantom.fixed.grid.shape).astype(np.float32)
    nothing = RoiPairs(phantom.fixed.grid, phantom.fixed.grid, ())
    identity = Affine.identity()
    for moving, expected in ((replace(phantom.fixed, voxels=noise), 1.0), (phantom.fixed, 0.0)):
        found = Examination(phantom.fixed, moving, phantom.body, nothing, 10.0).evidence(identity, through=identity)
        assert -found.likeness.value / found.by_chance == pytest.approx(expected, abs=0.03)


def test_regions_have_no_say_where_they_are_too_coarse_but_given_contours_do():
    finer = replace(evidence(closeness=1.0), likeness=measure(-0.04), by_chance=0.2)
    rules = {"terms": Terms("likeness", pairs_tell=False), "refines": True}
    assert decide(finer, evidence(closeness=9.0), **rules).finer
    assert not decide(replace(evidence(closeness=9.0), by_chance=0.2), evidence(closeness=1.0), **rules).finer
    assert not decide(finer, evidence(closeness=9.0), **rules, labelled=True).finer


def test_too_few_witnesses_do_not_decide():
    rules = {"terms": Terms("information"), "refines": True}
    finer = evidence(closeness=9.0, count=3)
    assert not decide(finer, evidence(count=3), **rules).finer
    assert decide(evidence(closeness=1.0, information=1.5, count=3), evidence(count=3), **rules).finer


def test_two_given_contours_decide():
    finer, coarser = (evidence(closeness=c, count=2) for c in (9.0, 5.0))
    assert decide(finer, coarser, terms=Terms("information"), refines=True, labelled=True).finer
    assert not decide(coarser, finer, terms=Terms("information"), refines=True, labelled=True).finer
    one = evidence(closeness=9.0, count=1)
    assert not decide(one, evidence(count=1), terms=Terms("information"), refines=True, labelled=True).finer


def test_parts_of_mutual_information_tell_how_it_varies_with_what_was_seen():
    a = RNG.normal(size=4000)
    b = a + RNG.normal(0, 0.7, 4000)
    value, each = information_parts(a, b)
    assert value == pytest.approx(mutual_information(a, b))
    chosen = (RNG.choice(4000, 4000) for _ in range(200))
    drawn = [mutual_information(a[where], b[where]) for where in chosen]
    assert each.std() / 4000**0.5 == pytest.approx(np.std(drawn), rel=0.3)


def test_parts_of_correlation_tell_how_it_varies_with_what_was_seen():
    a = RNG.normal(size=2000)
    b = a + RNG.normal(0, 1.0, 2000)
    value, each = correlation_parts(a, b)
    assert value == pytest.approx(np.corrcoef(a, b)[0, 1])
    chosen = (RNG.choice(2000, 2000) for _ in range(500))
    drawn = [np.corrcoef(a[where], b[where])[0, 1] for where in chosen]
    assert each.std() / 2000**0.5 == pytest.approx(np.std(drawn), rel=0.2)


@pytest.mark.parametrize(("shape", "count"), [((30, 40, 10), 216), ((50, 60, 1), 144), ((5, 3, 2), 30)])
def test_blocks_divide_the_body(shape, count):
    body = np.ones(shape, bool)
    block, found = blocks_of(body)
    assert found == count
    sizes = np.bincount(block[body])
    assert sizes.size == count
    assert sizes.max() <= 4 * sizes.min()


def shifted_by(mm: float) -> Rigid:
    matrix = np.eye(4)
    matrix[0, 3] = mm
    return Rigid(matrix)


def test_the_true_shift_is_preferred_and_pairs_beyond_the_tolerance_count_as_wrong():
    grid = Grid.from_axes((40, 40, 12), (1.0, 1.0, 3.0))
    points = grid.points()
    image = np.sin(points[..., 0] / 3) * np.cos(points[..., 1] / 4) + 0.1 * points[..., 2]
    moved = np.sin((points[..., 0] - 3) / 3) * np.cos(points[..., 1] / 4) + 0.1 * points[..., 2]

    def roi(i: int, j: int) -> Roi:
        mask = np.zeros(grid.shape, bool)
        mask[i : i + 5, j : j + 5, 4:7] = True
        return Roi.from_mask(mask)

    places = [(i, j) for i in (5, 15, 25) for j in (5, 15, 25)]
    right = [RoiPair(n, roi(i, j), roi(i + 3, j), 0.9, 0.9) for n, (i, j) in enumerate(places, 1)]
    wrong = RoiPair(99, roi(2, 2), roi(30, 30), 0.9, 0.9)
    witnesses = RoiPairs(grid, grid, (*right, wrong))
    images = (Volume(v.astype(np.float32), grid) for v in (image, moved))
    examination = Examination(*images, np.ones(grid.shape, bool), witnesses, 10.0)
    before, after = examination.evidence(Affine.identity()), examination.evidence(shifted_by(3.0))
    assert before.closeness.value == pytest.approx(0.9 * 7.0)
    assert after.closeness.value == pytest.approx(0.9 * 10.0)
    assert decide(after, before, terms=Terms("information"), refines=True).finer
    assert not decide(before, after, terms=Terms("information"), refines=True).finer
    assert np.isnan(overlap(witnesses, Affine.identity()).value)  # none is held out


def test_pairs_that_share_a_region_count_as_one():
    grid = Grid.from_axes((20, 20, 4), (1.0, 1.0, 1.0))
    mask = np.zeros(grid.shape, bool)
    mask[5:9, 5:9] = True
    region = Roi.from_mask(mask)
    witnesses = RoiPairs(grid, grid, tuple(RoiPair(n, region, region, 0.9, 0.9, group=1) for n in range(1, 4)))
    image = Volume(RNG.normal(size=grid.shape).astype(np.float32), grid)
    examination = Examination(image, image, np.ones(grid.shape, bool), witnesses, 10.0)
    assert examination.evidence(Affine.identity()).closeness.parts.size == 1
