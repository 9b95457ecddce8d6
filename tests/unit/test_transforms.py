"""Points, images, inverses, composition and Jacobians of every kind of transform."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from samreg import phantoms
from samreg.errors import UsageError
from samreg.geometry import Grid, Volume
from samreg.transforms import (
    Affine,
    Composite,
    DisplacementField,
    Rigid,
    Transform,
    VelocityField,
    about_centre,
    compose,
    integrate_velocity,
    nearest_rotation,
)

few = settings(max_examples=20, deadline=None, derandomize=True)
degrees = st.floats(-180, 180)
shifts = st.tuples(*[st.floats(-200, 200)] * 3)
POINTS = np.random.default_rng(0).uniform(-150, 150, (40, 3))


@st.composite
def rigids(draw: st.DrawFn) -> Rigid:
    rotation = Rotation.from_euler("xyz", draw(st.tuples(degrees, degrees, degrees)), degrees=True).as_matrix()
    return Rigid(about_centre(rotation, np.array(draw(shifts)), np.array(draw(shifts))))


@st.composite
def affines(draw: st.DrawFn) -> Affine:
    matrix = draw(rigids()).moving_from_fixed.copy()
    change = np.eye(3) + np.triu(np.array(draw(st.lists(st.floats(-0.3, 0.3), min_size=9, max_size=9))).reshape(3, 3))
    matrix[:3, :3] = matrix[:3, :3] @ change
    return Affine(matrix)


def smooth_field(grid: Grid, peak_mm: float, seed: int = 0) -> np.ndarray:
    """[i, j, k, 3] mm: low frequencies that vanish at the border of the grid."""
    rng = np.random.default_rng(seed)
    axes = [np.linspace(0, np.pi, n) if n > 1 else np.full(1, np.pi / 2) for n in grid.shape]
    i, j, k = np.meshgrid(*axes, indexing="ij")
    window = np.sin(i) * np.sin(j) * np.sin(k)
    waves = [np.sin(a * i + b * j + c * k) for a, b, c in rng.uniform(-1, 1, (3, 3))]
    field = np.stack(waves, -1) * window[..., None]
    return (field * peak_mm / np.abs(field).max()).astype(np.float32)


def oblique_grid(size: int = 24, spacing=(4.0, 4.0, 6.0)) -> Grid:
    direction = Rotation.from_euler("xyz", (20, -10, 35), degrees=True).as_matrix() * (1, -1, 1)
    return Grid.from_axes((size, size, size * 2 // 3), spacing, (-40, 20, 60), direction)


def inner_points(grid: Grid, count: int = 300) -> np.ndarray:
    return grid.lps(np.random.default_rng(1).uniform(0.2, 0.8, (count, 3)) * np.array(grid.shape))


@few
@given(affines())
def test_inverse_of_a_matrix_takes_points_back(transform: Affine):
    there = transform.map_points(POINTS)
    assert np.allclose(transform.inverse().map_points(there), POINTS, atol=1e-8)


@few
@given(rigids())
def test_rigid_keeps_distances_and_its_kind(transform: Rigid):
    mapped = transform.map_points(POINTS)
    before = np.linalg.norm(POINTS[1:] - POINTS[:-1], axis=1)
    assert np.allclose(np.linalg.norm(mapped[1:] - mapped[:-1], axis=1), before)
    assert isinstance(transform.inverse(), Rigid)
    assert isinstance(transform.then(transform), Rigid)


@few
@given(rigids(), affines(), rigids())
def test_composition_applies_the_first_part_first_and_folds_matrices(a: Rigid, b: Affine, c: Rigid):
    chain = compose([a, b, c])
    assert type(chain) is Affine
    assert np.allclose(chain.map_points(POINTS), c.map_points(b.map_points(a.map_points(POINTS))), atol=1e-8)
    assert np.allclose(a.then(b).then(c).map_points(POINTS), a.then(b.then(c)).map_points(POINTS), atol=1e-8)


@few
@given(affines())
def test_jacobian_of_a_matrix_is_its_determinant_on_any_grid(transform: Affine):
    expected = np.linalg.det(transform.moving_from_fixed[:3, :3])
    for shape in ((4, 3, 5), (4, 3, 1)):
        grid = Grid(shape, oblique_grid().affine)
        assert np.allclose(transform.jacobian_determinant(grid), expected, rtol=1e-4)


def test_nothing_composed_is_the_identity():
    assert np.array_equal(compose([]).map_points(POINTS), POINTS)


def test_centre_stays_and_moves_by_the_translation():
    centre, shift = np.array([10.0, -20, 30]), np.array([1.0, 2, 3])
    rotation = Rotation.from_euler("z", 40, degrees=True).as_matrix()
    assert np.allclose(Rigid(about_centre(rotation, shift, centre)).map_points(centre[None])[0], centre + shift)


@few
@given(rigids(), st.integers(0, 1000))
def test_nearest_rotation_undoes_small_errors_and_never_mirrors(transform: Rigid, seed: int):
    rotation = transform.moving_from_fixed[:3, :3]
    noisy = rotation + np.random.default_rng(seed).normal(0, 1e-3, (3, 3))
    assert np.abs(nearest_rotation(noisy) - rotation).max() < 1e-2
    assert np.linalg.det(nearest_rotation(-noisy)) == pytest.approx(1.0)


@pytest.mark.parametrize(
    "matrix",
    [np.diag([-1.0, 1, 1, 1]), np.zeros((4, 4)), np.full((4, 4), np.nan), np.eye(3), np.diag([1.0, 1, 1, 2])],
    ids=["mirror", "zero", "nan", "3x3", "projective"],
)
def test_matrices_that_are_no_affine_of_anatomy_are_refused(matrix):
    with pytest.raises(UsageError):
        Affine(matrix)


def test_rigid_refuses_scaling():
    with pytest.raises(UsageError, match="not a rotation"):
        Rigid(np.diag([1.01, 1, 1, 1]))


def test_displacement_is_linear_inside_and_zero_outside():
    grid = Grid.from_axes((5, 4, 3), (2, 3, 4), (10, 20, 30))
    ramp = np.zeros((5, 4, 3, 3), np.float32)
    ramp[..., 0] = np.arange(5)[:, None, None]  # mm along x, by index i
    field = DisplacementField(grid, ramp)
    points = grid.lps(np.array([[1.5, 1, 1], [3.25, 0, 2], [-0.4, 0, 0], [-0.6, 0, 0], [4.6, 1, 1]]))
    moved = (field.map_points(points) - points)[:, 0]
    assert moved == pytest.approx([1.5, 3.25, 0.0, 0.0, 0.0])


def test_fields_that_do_not_fit_or_are_not_finite_are_refused():
    grid = Grid((3, 3, 3), np.eye(4))
    with pytest.raises(UsageError):
        DisplacementField(grid, np.zeros((3, 3, 2, 3), np.float32))
    with pytest.raises(UsageError):
        VelocityField(grid, np.zeros((3, 3, 2, 3), np.float32))
    with pytest.raises(UsageError):
        DisplacementField(grid, np.full((3, 3, 3, 3), np.nan, np.float32))


def test_inverse_of_a_displacement_field():
    grid = oblique_grid()
    field = DisplacementField(grid, smooth_field(grid, 8))
    inverse = field.inverse()
    at_nodes = inverse.grid.points()
    assert np.abs(field.map_points(inverse.map_points(at_nodes)) - at_nodes).max() < 2e-3
    points = inner_points(grid)
    assert np.abs(inverse.map_points(field.map_points(points)) - points).max() < 0.4  # a tenth of the spacing
    assert np.abs(field.map_points(points) - points).max() > 4


def test_a_field_that_stretches_threefold_has_an_inverse():
    """There the plain fixed-point iteration runs away: u changes by more than a millimetre a millimetre."""
    grid = Grid.from_axes((33, 9, 7), (2.0, 2.0, 3.0))
    vectors = np.zeros((*grid.shape, 3))
    slope = np.where(np.arange(32) % 16 < 4, 2.1, -0.7)
    vectors[1:, :, :, 0] = 2.0 * np.cumsum(slope)[:, None, None]
    field = DisplacementField(grid, vectors)
    assert field.jacobian_determinant(grid)[1:-1].max() > 3
    inverse = field.inverse()
    at_nodes = inverse.grid.points()
    inside = grid.contains(inverse.map_points(at_nodes))
    back = field.map_points(inverse.map_points(at_nodes))
    assert np.abs(back - at_nodes)[inside].max() < 2e-3


def test_a_folding_field_has_no_inverse_and_a_negative_jacobian():
    grid = Grid.from_axes((24, 24, 24), (2, 2, 2))
    vectors = np.zeros((*grid.shape, 3), np.float32)
    vectors[..., 0] = 12 * np.sin(np.arange(24) * 1.3)[:, None, None]
    field = DisplacementField(grid, vectors)
    assert field.jacobian_determinant(grid).min() < 0
    with pytest.raises(UsageError, match="does not converge"):
        field.inverse()


@pytest.mark.parametrize("peak_mm", [5, 20])
def test_a_velocity_field_is_a_diffeomorphism_whose_inverse_is_its_negative(peak_mm: float):
    grid = oblique_grid()
    flow = VelocityField(grid, smooth_field(grid, peak_mm))
    points = inner_points(grid)
    assert np.abs(flow.map_points(points) - points).max() > peak_mm / 2
    assert np.abs(flow.inverse().map_points(flow.map_points(points)) - points).max() < 0.6  # a seventh of the spacing
    assert flow.jacobian_determinant(grid).min() > 0
    outside = grid.lps(np.array([[-3.0, 2, 2], [2, 40, 2]]))
    assert np.array_equal(flow.map_points(outside), outside)


def test_the_flow_of_a_linear_velocity_is_the_matrix_exponential():
    grid = Grid.from_axes((41, 41, 5), (2, 2, 2), (-40, -40, -4))
    rate = np.array([[0.1, -0.2, 0], [0.2, 0.05, 0], [0, 0, 0]])
    velocity = grid.points() @ rate.T
    flow = VelocityField(grid, velocity.astype(np.float32))
    points = np.random.default_rng(0).uniform(-15, 15, (50, 3)) * (1, 1, 0.1)
    exponential = torch.linalg.matrix_exp(torch.as_tensor(rate)).numpy()
    # Scaling and squaring starts from an Euler step of 1/128.
    assert np.abs(flow.map_points(points) - points @ exponential.T).max() < 0.05


def test_integration_has_gradients():
    grid = Grid.from_axes((5, 4, 3), (2, 2, 3))
    velocity = torch.rand(3, 5, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: integrate_velocity(v, grid, 3), (velocity,))


def test_jacobian_of_a_stretch_given_as_a_field():
    grid = oblique_grid()
    stretch = np.array([[1.1, 0.05, 0], [0, 0.9, 0.1], [0, 0, 1.2]])
    points = grid.points()
    field = DisplacementField(grid, (points @ (stretch - np.eye(3)).T).astype(np.float32))
    assert np.allclose(field.jacobian_determinant(grid), np.linalg.det(stretch), rtol=1e-3)


def test_jacobian_of_a_large_grid_shows_no_seams_between_slabs(monkeypatch):
    grid = oblique_grid()
    flow = VelocityField(grid, smooth_field(grid, 8))
    whole = flow.jacobian_determinant(grid)
    slabs = Grid.slabs
    monkeypatch.setattr(Grid, "slabs", lambda self, max_voxels=0: slabs(self, 900))
    assert len(list(grid.slabs())) > 5
    assert np.allclose(flow.jacobian_determinant(grid), whole, atol=1e-6)


def test_jacobian_of_a_composite_is_the_product():
    grid = oblique_grid()
    matrix = Affine(np.diag([1.2, 1.1, 0.9, 1.0]))
    flow = VelocityField(grid, smooth_field(grid, 8))
    product = flow.jacobian_determinant(grid) * (1.2 * 1.1 * 0.9)
    assert np.allclose(compose([flow, matrix]).jacobian_determinant(grid), product, rtol=1e-4)


def test_inverse_of_a_composite_turns_the_order():
    grid = oblique_grid()
    flow = VelocityField(grid, smooth_field(grid, 8))
    matrix = Rigid(about_centre(Rotation.from_euler("y", 60, degrees=True).as_matrix(), np.ones(3), np.zeros(3)))
    chain = compose([flow, matrix])
    points = inner_points(grid)
    assert isinstance(chain, Composite)
    assert np.abs(chain.inverse().map_points(chain.map_points(points)) - points).max() < 0.2


def test_float32_points_lose_no_more_than_rounding():
    phantom_truth = phantoms.pair("deformable", fixed_grid=phantoms.grid("picture", 32)).truth
    single = phantom_truth.map_tensor(torch.as_tensor(POINTS).float())
    assert single.dtype == torch.float32
    assert np.abs(single.numpy() - phantom_truth.map_points(POINTS)).max() < 1e-3


@pytest.fixture(scope="module")
def pairs() -> dict[str, phantoms.Phantom]:
    return {
        name: phantoms.pair(kind, fixed_grid=phantoms.grid(name, 48), moving_grid=phantoms.grid(other, 48), noise=0.0)
        for name, other, kind in (
            ("oblique", "flipped", "deformable"),
            ("thin", "thin", "rigid"),
            ("picture", "picture", "deformable"),
        )
    }


@pytest.mark.parametrize("name", ["oblique", "thin", "picture"])
def test_warping_with_the_truth_brings_the_images_together(pairs, name: str):
    phantom = pairs[name]
    warped = phantom.truth.warp(phantom.moving, phantom.fixed.grid)
    seen = phantom.body & phantom.moving.grid.contains(phantom.truth.map_points(phantom.fixed.grid.points()))

    def agreement(image: np.ndarray) -> float:
        return float(np.corrcoef(phantom.fixed.voxels[seen], image[seen])[0, 1])

    assert agreement(warped) > 0.93
    untouched = compose([]).warp(phantom.moving, phantom.fixed.grid)
    assert agreement(warped) > agreement(untouched) + 0.1


@pytest.mark.parametrize("name", ["oblique", "picture"])
def test_warped_labels_agree_by_arg_max_at_least_as_well_as_nearest(pairs, name: str):
    phantom = pairs[name]
    moving = Volume(phantom.moving_labels, phantom.moving.grid)
    nearest = phantom.truth.warp(moving, phantom.fixed.grid, interpolation="nearest")
    best = phantom.truth.warp_labels(phantom.moving_labels, phantom.moving.grid, phantom.fixed.grid)
    assert nearest.dtype == best.dtype == np.uint8
    right = [(labels == phantom.fixed_labels)[phantom.body].mean() for labels in (nearest, best)]
    assert right[0] > 0.85
    assert right[1] >= right[0]


def test_arg_max_of_labels_gives_the_lower_label_on_a_tie_and_background_outside():
    labels = np.zeros((4, 1, 1), np.int16)
    labels[:, 0, 0] = 7, 7, 300, 300
    grid = Grid.from_axes((4, 1, 1), (1, 1, 1))
    at = Grid.from_axes((5, 1, 1), (1, 1, 1), (-0.5, 0, 0))
    shifted = Rigid(about_centre(np.eye(3), np.array([0.0, 0, 0]), np.zeros(3)))
    out = shifted.warp_labels(labels, grid, at)[:, 0, 0]
    assert out[1:4].tolist() == [7, 7, 300]
    far: Transform = Rigid(about_centre(np.eye(3), np.array([50.0, 0, 0]), np.zeros(3)))
    assert not far.warp_labels(labels, grid, grid).any()
    assert far.warp(Volume(labels.astype(np.float32), grid), grid, outside=-1000.0).max() == -1000.0


def test_displacement_is_mapped_point_minus_point():
    grid = oblique_grid(8)
    transform = Rigid(about_centre(np.eye(3), np.array([1.0, -2, 3]), np.zeros(3)))
    assert np.allclose(transform.displacement(grid), [1, -2, 3], atol=1e-5)
