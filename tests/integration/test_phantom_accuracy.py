"""What a user relies on: known transforms are found, on the grids and contrasts that occur."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from samreg import phantoms
from samreg.config import Config, configured
from samreg.geometry import Grid, Volume
from samreg.locate import locate
from samreg.metrics import evaluate_labels
from samreg.phantoms import Phantom
from samreg.result import RegistrationResult
from samreg.session import register
from samreg.transforms import Affine

THIN = {"rotation_deg": 5, "translation_mm": 20}
THIN_DEFORMABLE = {"peak_mm": 6, "rotation_deg": 2}


@lru_cache(maxsize=2)
def registered(config: Config, kind: str, grid: str, size: int, **options) -> tuple[Phantom, RegistrationResult]:
    """A pair of this kind, and what becomes of it; the last two are kept for tests that follow each other."""
    phantom = phantoms.pair(kind, fixed_grid=phantoms.grid(grid, size), **options)
    return phantom, register(phantom.fixed, phantom.moving, config)


def voxel_mm(phantom: Phantom) -> float:
    grid = phantom.fixed.grid
    return float(grid.spacing_mm[list(grid.active_axes)].min())


def round_trip_mm(result: RegistrationResult, phantom: Phantom) -> float:
    points = phantom.fixed.grid.lps(np.argwhere(phantom.body)[::37])
    mapped = result.transform.map_points(points)
    seen = phantom.moving.grid.contains(mapped)
    return float(np.linalg.norm(result.inverse.map_points(mapped) - points, axis=-1)[seen].max())


@pytest.mark.parametrize(
    ("grid", "contrast", "motion"),
    [
        ("oblique", "inverted", {}),
        ("anisotropic", "same", {}),
        ("flipped", "inverted", {}),
        ("thin", "inverted", THIN),
        ("picture", "same", {}),
        ("picture", "inverted", {}),
        ("axial", "same", {"rotation_deg": 15, "translation_mm": 64}),  # a quarter of the field of view
        ("oblique", "inverted", {"rotation_deg": 15, "translation_mm": 64}),
        ("axial", "same", {"rotation_deg": 10, "outside": 0.2}),  # body partly outside the field of view
        ("thin", "same", THIN),
    ],
)
def test_rigid_is_right_to_a_fifth_of_a_voxel(grid, contrast, motion):
    size = 64 if grid in ("thin", "picture") else 48
    phantom, result = registered(Config(transform="rigid"), "rigid", grid, size, contrast=contrast, **motion)
    assert result.kind == "rigid"
    assert result.quality.status == "PASS", result.quality.reasons
    assert phantom.errors_mm(result.transform).mean() <= 0.2 * voxel_mm(phantom)
    assert round_trip_mm(result, phantom) <= 1e-6


def test_a_point_leads_to_its_counterpart():
    config = Config(transform="rigid")
    phantom, result = registered(config, "rigid", "thin", 64, contrast="same", **THIN)
    pair = result.pairs.pairs[0]
    voxel = np.argwhere(pair.fixed.box)[0] + pair.fixed.start
    found = locate(phantom.fixed, phantom.moving, phantom.fixed.grid.lps(voxel[None])[0], config).as_dict()
    true = phantom.truth.map_points(phantom.fixed.grid.lps(voxel[None]))[0]
    assert np.linalg.norm(np.asarray(found["mapped_point_lps_mm"]) - true) <= voxel_mm(phantom)
    assert found["pair"]["moving"]["centroid_lps_mm"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("grid", "contrast", "motion", "left"),
    [
        ("oblique", "inverted", {}, 0.3),
        ("anisotropic", "inverted", {}, 0.3),
        ("flipped", "same", {}, 0.3),
        # Ten slices of 9 mm and inverted contrast at once stay short of the 0.3 asked (docs/performance.md).
        ("thin", "inverted", THIN_DEFORMABLE, 0.35),
        ("axial", "same", {"rotation_deg": 8, "translation_mm": 64}, 0.3),  # a quarter of the field of view
        ("thin", "same", THIN_DEFORMABLE, 0.3),
    ],
)
def test_deformable_removes_most_of_the_error(grid, contrast, motion, left):
    size = {"thin": 96, "anisotropic": 64}.get(grid, 48)
    phantom, result = registered(Config(), "deformable", grid, size, contrast=contrast, **motion)
    assert result.kind == "deformable", result.fallbacks
    before, after = (phantom.errors_mm(t).mean() for t in (Affine.identity(), result.transform))
    assert after <= left * before
    assert result.transform.jacobian_determinant(phantom.fixed.grid).min() > 0
    assert round_trip_mm(result, phantom) <= 0.5 * voxel_mm(phantom)


def test_affine_is_found():
    phantom = phantoms.pair("affine", fixed_grid=phantoms.grid("axial", 48))
    result = register(phantom.fixed, phantom.moving, Config(transform="affine"))
    assert result.kind == "affine", result.fallbacks
    assert phantom.errors_mm(result.transform).mean() <= 0.5 * voxel_mm(phantom)


@pytest.mark.parametrize("transform", ["rigid", pytest.param("deformable", marks=pytest.mark.slow)])
def test_identical_images_stay_where_they_are(transform):
    phantom = phantoms.pair("identity", fixed_grid=phantoms.grid("oblique", 32))
    result = register(phantom.fixed, phantom.fixed, Config(transform=transform))
    moved = np.linalg.norm(result.transform.displacement(phantom.fixed.grid), axis=-1)
    assert moved.max() <= 0.1 * voxel_mm(phantom)
    assert result.quality.status == "PASS"


def test_pairs_alone_give_the_transform():
    phantom = phantoms.pair("rigid", fixed_grid=phantoms.grid("axial", 48), rotation_deg=12)
    result = register(phantom.fixed, phantom.moving, configured(preset="pairs", transform="rigid"))
    assert result.kind == "rigid"
    assert phantom.errors_mm(result.transform).mean() <= 0.5 * voxel_mm(phantom)


@pytest.mark.parametrize(("grid", "size", "seed"), [("picture", 96, 1), ("thin", 64, 0)])
def test_the_papers_method_finds_regions_and_a_displacement_on_pictures_and_volumes(grid, size, seed):
    phantom = phantoms.pair("deformable", fixed_grid=phantoms.grid(grid, size), seed=seed)
    result = register(phantom.fixed, phantom.moving, configured(method="samreg"))
    assert len(result.fixed_rois) >= 10 * (1 if grid == "picture" else 10)
    assert all(roi.is_2d for roi in result.fixed_rois)
    assert set(result.stages) == {"deformable"}, result.fallbacks
    assert result.transform.jacobian_determinant(phantom.fixed.grid).min() > 0
    before, after = (phantom.errors_mm(t).mean() for t in (Affine.identity(), result.transform))
    assert after < 0.85 * before
    assert round_trip_mm(result, phantom) <= 0.5 * voxel_mm(phantom)


@pytest.mark.parametrize("assignment", ["one_to_many", "hybrid"])
def test_regions_in_several_pairs_go_through_to_the_end(assignment):
    phantom = phantoms.pair("rigid", fixed_grid=phantoms.grid("axial", 48), rotation_deg=5)
    settings = {"assignment": assignment, "min_confidence": 0.0, "similarity_threshold": 0.5, "position_weight": 0.2}
    result = register(
        phantom.fixed,
        phantom.moving,
        Config(transform="rigid", encoder="handcrafted").with_values({"matching": settings}),
    )
    pairs = result.pairs
    assert 4 <= pairs.independent < len(pairs)
    held = {p.group for p in pairs.held_out if p.group}
    assert held.isdisjoint(p.group for p in pairs.fitted)
    assert phantom.errors_mm(result.transform).mean() <= 0.5 * voxel_mm(phantom)


@pytest.mark.parametrize(
    "estimators", [["displacement"], ["rigid-from-pairs", "displacement"], ["velocity-from-pairs"]]
)
def test_given_contours_work_with_every_fit(estimators):
    phantom = phantoms.pair(
        "deformable", fixed_grid=phantoms.grid("axial", 48), seed=2, rotation_deg=1, translation_mm=3
    )
    result = register(
        phantom.fixed, phantom.moving,
        configured(
            method="samreg", estimation={"smoothness_weight": 3.0}, estimators={"deformable": estimators}
        ),
        fixed_labels=phantom.fixed_labels, moving_labels=phantom.moving_labels,
    )  # fmt: skip
    assert {p.fixed.label for p in result.pairs} == {p.moving.label for p in result.pairs}
    before, after = (phantom.errors_mm(t).mean() for t in (Affine.identity(), result.transform))
    assert after < before, result.fallbacks


@pytest.mark.slow
def test_given_contours_lead_the_fit_and_held_out_contours_improve():
    phantom = phantoms.pair("deformable", fixed_grid=phantoms.grid("axial", 48), seed=2)
    result = register(
        phantom.fixed, phantom.moving, fixed_labels=phantom.fixed_labels, moving_labels=phantom.moving_labels
    )
    held = {p.fixed.label for p in result.pairs if p.held_out}
    assert len(held) >= 4
    assert result.kind == "deformable", result.fallbacks

    def dice(transform) -> float:
        scores = evaluate_labels(
            transform, phantom.fixed_labels, phantom.fixed.grid, phantom.moving_labels, phantom.moving.grid
        )
        return float(np.nanmean([scores["labels"][str(n)]["dice"] for n in held]))

    assert dice(result.transform) > dice(result.stages["rigid"]) > dice(Affine.identity())


def test_an_image_mirrored_before_it_was_stored_fails_the_gate():
    phantom = phantoms.pair("rigid", fixed_grid=phantoms.grid("sagittal", 48), rotation_deg=5, translation_mm=8)
    mirrored = replace(phantom.moving, voxels=np.ascontiguousarray(phantom.moving.voxels[:, :, ::-1]))
    result = register(phantom.fixed, mirrored, Config(transform="rigid"))
    assert result.quality.status == "FAIL"


def test_unrelated_images_fail_the_gate():
    phantom = phantoms.pair("identity", fixed_grid=phantoms.grid("axial", 48))
    noise = np.random.default_rng(0).normal(400, 100, phantom.fixed.grid.shape).astype(np.float32)
    result = register(phantom.fixed, replace(phantom.fixed, voxels=noise))
    assert result.quality.status == "FAIL"
    assert result.kind == "identity"
    assert any("pairs" in reason for reason in result.quality.reasons)


def test_given_contours_decide_where_the_images_say_nothing():
    phantom = phantoms.pair("rigid", fixed_grid=phantoms.grid("axial", 48), rotation_deg=12)

    def silhouette(volume: Volume, seed: int) -> Volume:
        grain = np.random.default_rng(seed).normal(100, 8, volume.voxels.shape)
        return Volume(np.where(volume.voxels > 0.05 * volume.voxels.max(), grain, 0).astype(np.float32), volume.grid)

    result = register(
        silhouette(phantom.fixed, 1), silhouette(phantom.moving, 2), configured(preset="pairs", transform="rigid"),
        fixed_labels=np.where(phantom.fixed_labels <= 12, phantom.fixed_labels, 0),
        moving_labels=np.where(phantom.moving_labels <= 12, phantom.moving_labels, 0),
    )  # fmt: skip
    assert result.kind == "rigid", result.decisions
    assert phantom.errors_mm(result.transform).mean() < 1.0


@pytest.mark.parametrize("scale", [1e-3, 1.0])
def test_a_picture_of_any_size_passes(scale):
    phantom = phantoms.pair("rigid", fixed_grid=phantoms.grid("picture", 64))

    def scaled(volume: Volume) -> Volume:
        affine = volume.grid.affine.copy()
        affine[:3] *= scale
        return Volume(volume.voxels, Grid(volume.grid.shape, affine))

    result = register(scaled(phantom.fixed), scaled(phantom.moving), Config(transform="rigid"))
    assert result.quality.status == "PASS", result.quality.reasons
