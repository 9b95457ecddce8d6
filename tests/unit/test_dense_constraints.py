"""The dense engine under constraints: regions that keep volume or shape, landmarks, and masks of what counts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from samreg import phantoms
from samreg.constraints.measuring import measured, why_constraints_break
from samreg.constraints.model import Constraints, Landmarks, numbered
from samreg.errors import UsageError
from samreg.estimation.dense.affine import fit_by_descriptors
from samreg.estimation.dense.symmetric import fit_symmetric
from samreg.estimation.image_pair import ImagePair
from samreg.geometry import Volume
from samreg.transforms import Affine, Transform, compose

STRETCHED = Affine(np.diag([1.08, 0.94, 1.05, 1.0]))
STRETCHED_IN_PLANE = Affine(np.diag([1.08, 0.94, 1.0, 1.0]))


@pytest.fixture(scope="module", params=["axial", "thin", "picture"])
def deformed(request) -> phantoms.Phantom:
    grid = phantoms.grid(request.param, 48)
    return phantoms.pair("deformable", fixed_grid=grid, rotation_deg=0.5, translation_mm=1.0, peak_mm=10)


def start_of(phantom: phantoms.Phantom) -> Affine:
    """A linear transform that itself changes volumes and shapes."""
    return STRETCHED_IN_PLANE if phantom.fixed.grid.is_2d else STRETCHED


def image_pair(phantom: phantoms.Phantom, constraints: Constraints | None = None) -> ImagePair:
    """As the pipeline makes it: what does not count is painted over."""
    constraints = constraints or Constraints()
    images = constraints.counted(phantom.fixed, phantom.moving)
    masks = constraints.fixed_mask, constraints.moving_mask
    bodies = (
        Volume(phantom.body.astype(np.uint8), phantom.fixed.grid),
        Volume((phantom.moving_labels > 0).astype(np.uint8), phantom.moving.grid),
    )
    cut = [body if mask is None else mask for body, mask in zip(bodies, masks, strict=True)]
    return ImagePair(*images, *cut, 1000, 0, "cpu", *masks)


def registered(phantom: phantoms.Phantom, constraints: Constraints) -> Transform:
    field, start = fit_symmetric(image_pair(phantom, constraints), [start_of(phantom)], constraints=constraints)
    return compose([field, start])


def organ(phantom: phantoms.Phantom, name: str) -> np.ndarray:
    return phantom.moving_labels == phantom.names.index(name) + 1


def regions(phantom: phantoms.Phantom, name: str) -> Volume:
    return numbered(Volume(organ(phantom, name).astype(np.int32), phantom.moving.grid))


def errors(phantom: phantoms.Phantom, transform: Transform, where: np.ndarray) -> float:
    points = phantom.fixed.grid.lps(np.argwhere(where))
    return float(np.linalg.norm(transform.map_points(points) - phantom.truth.map_points(points), axis=1).mean())


def report(transform: Transform, constraints: Constraints):
    return measured(transform, transform.inverse(), constraints)


@pytest.fixture(scope="module")
def kept(deformed) -> Constraints:
    """A lesion in soft tissue that must not change its volume, and an implant along the spine."""
    return Constraints(keep_volume=regions(deformed, "liver"), keep_rigid=regions(deformed, "spine"))


@pytest.fixture(scope="module")
def free(deformed) -> Transform:
    return registered(deformed, Constraints())


@pytest.fixture(scope="module")
def keeping(deformed, kept) -> Transform:
    return registered(deformed, kept)


class TestKeptRegions:
    def test_without_the_constraint_they_change(self, free, kept):
        assert not all(region.met for region in report(free, kept).regions)

    def test_the_volume_stays(self, keeping, kept):
        (lesion,) = (region for region in report(keeping, kept).regions if region.keeps == "keep-volume")
        assert lesion.volume_ratio == pytest.approx(1, abs=0.02)

    def test_the_shape_stays(self, keeping, kept):
        (implant,) = (region for region in report(keeping, kept).regions if region.keeps == "keep-rigid")
        assert implant.most_mm < 0.2
        assert implant.volume_ratio == pytest.approx(1, abs=0.02)

    def test_the_voxels_of_the_warped_lesion_count_as_many(self, deformed, keeping):
        """Measured in another way: the warped mask, finely sampled, holds what the mask held."""
        lesion = organ(deformed, "liver")
        grid = deformed.fixed.grid
        fine = grid.with_spacing(np.where(np.asarray(grid.shape) > 1, grid.spacing_mm / 4, grid.spacing_mm))
        warped = keeping.warp(Volume(lesion.astype(np.uint8), deformed.moving.grid), fine, interpolation="nearest")
        before = lesion.sum() * deformed.moving.grid.voxel_mm3
        assert warped.sum() * fine.voxel_mm3 == pytest.approx(before, rel=0.04)

    def test_nothing_folds(self, deformed, keeping):
        for transform in (keeping, keeping.inverse()):
            assert transform.jacobian_determinant(deformed.fixed.grid).min() > 0

    def test_the_rest_is_about_as_good_as_without(self, deformed, free, keeping):
        names = [deformed.names.index(name) + 1 for name in ("liver", "spine")]
        rest = deformed.body & ~np.isin(deformed.fixed_labels, names)
        assert errors(deformed, keeping, rest) < 1.1 * errors(deformed, free, rest) + 0.05

    def test_nothing_is_said_against_it(self, keeping, kept):
        assert why_constraints_break(keeping, kept) == ""


@pytest.mark.parametrize("radius_mm", [8, 15])
def test_a_lesion_that_the_fixed_image_lacks_does_not_vanish(radius_mm):
    """The images pull it together as far as they can; nothing there has its brightness."""
    phantom = phantoms.pair("deformable", fixed_grid=phantoms.grid("axial", 64), rotation_deg=0.5, peak_mm=5)
    grid = phantom.moving.grid
    middle = grid.lps(np.argwhere(organ(phantom, "liver")).mean(0).round()[None])[0]
    lesion = np.linalg.norm(grid.points() - middle, axis=-1) <= radius_mm
    bright = np.where(lesion, 1.2 * phantom.moving.voxels.max(), phantom.moving.voxels).astype(np.float32)
    phantom = replace(phantom, moving=replace(phantom.moving, voxels=bright))
    constraints = Constraints(keep_volume=numbered(Volume(lesion.astype(np.int32), grid)))
    without, with_it = (
        report(registered(phantom, asked), constraints).regions[0] for asked in (Constraints(), constraints)
    )
    assert without.volume_ratio < 0.92
    assert with_it.volume_ratio == pytest.approx(1, abs=0.02)


def test_a_region_beyond_the_body_stays_rigid_too(deformed):
    """An implant that the body mask leaves out, partly beyond the fixed image."""
    grid = deformed.moving.grid
    plate = np.zeros(grid.shape, np.int32)
    plate[-4:, grid.shape[1] // 2 - 4 : grid.shape[1] // 2 + 4] = 1
    constraints = Constraints(keep_rigid=numbered(Volume(plate, grid)))
    (implant,) = report(registered(deformed, constraints), constraints).regions
    assert implant.most_mm < 0.2


def test_a_picture_stays_in_its_plane(deformed, keeping):
    if deformed.fixed.grid.is_2d:
        points = deformed.fixed.grid.points()
        assert np.abs((keeping.map_points(points) - points)[..., 2]).max() < 1e-6


@pytest.fixture(scope="module")
def marks(deformed) -> Landmarks:
    """Six places, up to several mm from where the images would take them, so that they are to be met on purpose."""
    rng = np.random.default_rng(1)
    inside = np.argwhere(ndimage.binary_erosion(deformed.body, np.ones((3, 3, 1))))
    fixed = deformed.fixed.grid.lps(inside[rng.choice(len(inside), 6, replace=False)].astype(float))
    moved = rng.normal(size=fixed.shape) * 3 * (np.asarray(deformed.fixed.grid.shape) > 1)
    accuracy = np.array([1.0, 0.5, 1.0, 2.0, 1.0, 0.5])
    return Landmarks(fixed, deformed.truth.map_points(fixed) + moved, accuracy, tuple("abcdef"))


class TestLandmarks:
    def test_each_is_met_within_its_accuracy(self, deformed, free, marks):
        constraints = Constraints(landmarks=marks)
        assert not all(mark.met for mark in report(free, constraints).landmarks)
        transform = registered(deformed, constraints)
        assert all(mark.met for mark in report(transform, constraints).landmarks)
        assert transform.jacobian_determinant(deformed.fixed.grid).min() > 0

    def test_together_with_regions_that_stay(self, deformed, kept, marks):
        elsewhere = [n for n in range(6) if not _near(deformed, marks.fixed[n])]
        parts = (part[elsewhere] for part in (marks.fixed, marks.moving, marks.accuracy_mm))
        some = Landmarks(*parts, ("landmark",) * len(elsewhere))
        constraints = replace(kept, landmarks=some)
        assert why_constraints_break(registered(deformed, constraints), constraints) == ""

    def test_what_would_fold_is_not_done(self, deformed):
        """Two places that lie 20 mm apart cannot change sides."""
        step = np.zeros((2, 3))
        step[:, 0] = -10, 10
        fixed = deformed.fixed.grid.centre_lps + step
        marks = Landmarks(fixed, fixed[::-1], np.ones(2), ("left", "right"))
        constraints = Constraints(landmarks=marks)
        try:
            transform = registered(deformed, constraints)
        except UsageError:
            return
        assert transform.jacobian_determinant(deformed.fixed.grid).min() > 0
        assert "landmarks are not met" in why_constraints_break(transform, constraints)


def _near(phantom: phantoms.Phantom, point: np.ndarray) -> bool:
    """Whether a landmark lies at the spine, which cannot follow it."""
    spine = phantom.fixed.grid.lps(np.argwhere(phantom.fixed_labels == phantom.names.index("spine") + 1))
    return bool(np.linalg.norm(spine - point, axis=1).min() < 40)


@pytest.fixture(scope="module")
def masks(deformed) -> Constraints:
    """One half of both images."""
    half = np.zeros(deformed.fixed.grid.shape, np.uint8)
    half[: half.shape[0] // 2] = 1
    return Constraints(Volume(half, deformed.fixed.grid), Volume(half, deformed.moving.grid))


@pytest.fixture(scope="module")
def disturbed(deformed, masks) -> phantoms.Phantom:
    """The same with something else in the other half of either image."""
    rng = np.random.default_rng(3)

    def with_noise(image: Volume, mask: Volume) -> Volume:
        noise = rng.uniform(0, 3 * image.voxels.max(), image.grid.shape).astype(np.float32)
        return replace(image, voxels=np.where(mask.voxels > 0, image.voxels, noise))

    fixed, moving = with_noise(deformed.fixed, masks.fixed_mask), with_noise(deformed.moving, masks.moving_mask)
    return replace(deformed, fixed=fixed, moving=moving)


class TestMasks:
    def test_what_lies_outside_changes_no_deformable_result(self, deformed, disturbed, masks):
        one, other = (registered(phantom, masks) for phantom in (deformed, disturbed))
        points = deformed.fixed.grid.points()
        np.testing.assert_array_equal(one.map_points(points), other.map_points(points))

    def test_nor_an_affine_one(self, deformed, disturbed, masks):
        found = [fit_by_descriptors(image_pair(p, masks), [Affine.identity()]) for p in (deformed, disturbed)]
        np.testing.assert_array_equal(found[0].moving_from_fixed, found[1].moving_from_fixed)

    def test_nor_the_samples_of_mutual_information(self, deformed, disturbed, masks):
        for samples in (image_pair(deformed, masks).coarse, image_pair(disturbed, masks).coarse):
            ijk = deformed.fixed.grid.index(samples.points.numpy())
            assert ijk[:, 0].max() < deformed.fixed.grid.shape[0] / 2 + 2

    def test_inside_it_is_registered(self, deformed, masks):
        inside = deformed.body & (masks.fixed_mask.voxels > 0)
        transform = registered(deformed, masks)
        assert errors(deformed, transform, inside) < 0.7 * errors(deformed, start_of(deformed), inside)
