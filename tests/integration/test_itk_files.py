"""Transform files as ITK reads them: same points, same images, and a clear word where there is no counterpart."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from scipy.spatial.transform import Rotation

from samreg import phantoms
from samreg.errors import InputRefused, UsageError
from samreg.geometry import Grid, Volume
from samreg.transforms import (
    Affine,
    Composite,
    DisplacementField,
    Rigid,
    Transform,
    about_centre,
    compose,
    read_transform,
    write_displacement_nifti,
    write_transform,
)
from tests.written import tilted

TOLERANCE_MM = 1e-3


@pytest.fixture(scope="module")
def phantom() -> phantoms.Phantom:
    return phantoms.pair(
        "deformable",
        fixed_grid=phantoms.grid("oblique", 40),
        moving_grid=phantoms.grid("flipped", 40),
        peak_mm=15,
        noise=0.0,
    )


@pytest.fixture(scope="module")
def kinds(phantom: phantoms.Phantom) -> dict[str, Transform]:
    half_turn = Rotation.from_rotvec([0, 0, np.pi]).as_matrix()
    grid = phantom.fixed.grid
    stretch = np.array([[1.1, 0.1, 0], [0, 0.9, -0.05], [0, 0.02, 1.05]])
    affine = Affine(about_centre(stretch, np.array([3.0, -8, 14]), grid.centre_lps))
    picture = phantoms.pair("deformable", fixed_grid=phantoms.grid("picture", 40))
    return {
        "identity": compose([]),
        "rigid": Rigid(about_centre(half_turn, np.array([10.0, 20, -30]), grid.centre_lps)),
        "affine": affine,
        "displacement": DisplacementField(grid, phantom.truth.displacement(grid)),
        "velocity and rigid": phantom.truth,
        "affine, then velocity and rigid": compose([affine, phantom.truth]),
        "picture": picture.truth,
    }


KINDS = (
    "identity",
    "rigid",
    "affine",
    "displacement",
    "velocity and rigid",
    "affine, then velocity and rigid",
    "picture",
)


def probe_points(grid: Grid) -> np.ndarray:
    """Points in the field of view, at its very border, and far outside."""
    rng = np.random.default_rng(0)
    shape = np.array(grid.shape)
    everywhere = rng.uniform(-1.0, 2.0, (300, 3)) * shape
    border = rng.uniform(-0.5, shape - 0.5, (100, 3))
    border[:50, 0] = -0.499
    border[50:, 1] = shape[1] - 0.501
    return grid.lps(np.concatenate([everywhere, border]))


def itk_points(transform: SimpleITK.Transform, points: np.ndarray) -> np.ndarray:
    return np.array([transform.TransformPoint(tuple(p)) for p in points])


def itk_image(volume: Volume) -> SimpleITK.Image:
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(volume.voxels.T))
    image.SetOrigin(volume.grid.origin_lps.tolist())
    image.SetSpacing(volume.grid.spacing_mm.tolist())
    image.SetDirection(volume.grid.direction.ravel().tolist())
    return image


@pytest.mark.parametrize("suffix", [".h5", ".tfm"])
@pytest.mark.parametrize("kind", KINDS)
def test_itk_maps_points_as_we_do_and_the_file_comes_back(kinds, phantom, tmp_path: Path, kind: str, suffix: str):
    transform, path = kinds[kind], tmp_path / f"transform{suffix}"
    write_transform(transform, path)
    points = probe_points(phantom.fixed.grid)
    expected = transform.map_points(points)
    itk = SimpleITK.ReadTransform(str(path))
    assert itk.GetName() == "CompositeTransform"
    assert np.abs(itk_points(itk, points) - expected).max() < TOLERANCE_MM
    back = read_transform(path)
    assert np.abs(back.map_points(points) - expected).max() < TOLERANCE_MM
    assert isinstance(back, Rigid) == isinstance(transform, Rigid)
    assert isinstance(back, Composite) == isinstance(transform, Composite)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".h5", ".tfm"])
def test_a_field_on_a_sheared_grid_moves_points_as_itk_does(tmp_path: Path, suffix: str):
    rng = np.random.default_rng(0)
    grid = tilted()
    field = DisplacementField(grid, rng.normal(0, 2, (*grid.shape, 3)).astype(np.float32))
    path = tmp_path / f"field{suffix}"
    write_transform(field, path)
    points = grid.lps(rng.uniform(0, np.asarray(grid.shape) - 1, (200, 3)))
    for found in (itk_points(SimpleITK.ReadTransform(str(path)), points), read_transform(path).map_points(points)):
        np.testing.assert_allclose(found, field.map_points(points), atol=1e-6)


def test_itk_resamples_as_we_warp(phantom, tmp_path: Path):
    write_transform(phantom.truth, tmp_path / "transform.h5")
    itk = SimpleITK.ReadTransform(str(tmp_path / "transform.h5"))
    ours = phantom.truth.warp(phantom.moving, phantom.fixed.grid, outside=-5.0)
    theirs = SimpleITK.Resample(itk_image(phantom.moving), itk_image(phantom.fixed), itk, SimpleITK.sitkLinear, -5.0)
    theirs = SimpleITK.GetArrayFromImage(theirs).T
    index = phantom.moving.grid.index(phantom.truth.map_points(phantom.fixed.grid.points()))
    border = (np.abs(index + 0.5) < 1e-3) | (np.abs(index + 0.5 - phantom.moving.grid.shape) < 1e-3)
    clear = ~border.any(-1)
    assert np.ptp(ours) > 500
    assert np.abs(ours - theirs)[clear].max() < 1e-5 * np.ptp(ours)


def test_the_order_of_a_composite_written_by_itk_is_kept(tmp_path: Path):
    scale = SimpleITK.ScaleTransform(3, (2.0, 1.0, 1.0))
    shift = SimpleITK.TranslationTransform(3, (5.0, 0.0, 0.0))
    SimpleITK.WriteTransform(SimpleITK.CompositeTransform([scale, shift]), str(tmp_path / "two.tfm"))
    # The one added last is applied first: 2 (x + 5).
    assert np.allclose(read_transform(tmp_path / "two.tfm").map_points(np.array([[1.0, 2, 3]])), [[12, 2, 3]])


def linear_itk_transforms() -> list[SimpleITK.Transform]:
    centre = (10.0, -20.0, 30.0)
    euler = SimpleITK.Euler3DTransform(centre, 0.3, -0.2, 0.9, (4.0, 5.0, -6.0))
    versor = SimpleITK.VersorRigid3DTransform((0.1, 0.7, -0.2), 2.5, (1.0, 2.0, 3.0), centre)
    similarity = SimpleITK.Similarity3DTransform(1.2, (0.0, 1.0, 0.0), 0.4, (1.0, 2.0, 3.0), centre)
    return [euler, versor, similarity, SimpleITK.TranslationTransform(3, (7.0, 8.0, 9.0)), SimpleITK.Transform()]


@pytest.mark.parametrize("transform", linear_itk_transforms(), ids=lambda t: t.GetName())
def test_linear_transforms_of_other_tools_are_read(tmp_path: Path, transform: SimpleITK.Transform):
    SimpleITK.WriteTransform(transform, str(tmp_path / "other.tfm"))
    points = np.random.default_rng(0).uniform(-300, 300, (20, 3))
    back = read_transform(tmp_path / "other.tfm")
    assert np.abs(back.map_points(points) - itk_points(transform, points)).max() < 1e-9
    assert isinstance(back, Rigid) == ("Similarity" not in transform.GetName())


def test_a_grid_folds_everything_into_one_field(kinds, phantom, tmp_path: Path):
    grid = phantom.fixed.grid
    write_transform(kinds["velocity and rigid"], tmp_path / "one.h5", grid=grid)
    back = read_transform(tmp_path / "one.h5")
    assert isinstance(back, DisplacementField)
    assert np.abs(back.vectors - phantom.truth.displacement(grid)).max() < 1e-5
    far = grid.lps(np.array([[-50.0, 0, 0]]))
    assert np.array_equal(back.map_points(far), far)


@pytest.mark.parametrize("name", ["field.nii.gz", "field.nii"])
def test_nifti_field_is_a_vector_image_in_lps_with_a_ras_header(phantom, tmp_path: Path, name: str):
    grid = phantom.fixed.grid
    write_transform(phantom.truth, tmp_path / name, grid=grid)
    displacement = phantom.truth.displacement(grid)
    nifti = nibabel.load(tmp_path / name)
    assert nifti.shape == (*grid.shape, 1, 3)
    assert nifti.header["intent_code"] == 1007
    assert np.allclose(nifti.affine, np.diag([-1, -1, 1, 1]) @ grid.affine, atol=1e-3)
    assert np.allclose(nifti.get_fdata()[:, :, :, 0], displacement)
    itk = SimpleITK.DisplacementFieldTransform(
        SimpleITK.Cast(SimpleITK.ReadImage(str(tmp_path / name)), SimpleITK.sitkVectorFloat64)
    )
    points = probe_points(grid)
    field = DisplacementField(grid, displacement)
    border = np.abs(grid.index(points) - np.round(grid.index(points) + 0.5) + 0.5).min(-1) < 1e-2
    assert np.abs(itk_points(itk, points) - field.map_points(points))[~border].max() < TOLERANCE_MM
    back = read_transform(tmp_path / name)
    assert isinstance(back, DisplacementField)
    assert back.grid.same_as(grid)
    assert np.array_equal(back.vectors, displacement)


def test_nifti_displacement_intent_means_ras_vectors(phantom, tmp_path: Path):
    grid = phantom.fixed.grid
    displacement = phantom.truth.displacement(grid)
    vectors = (displacement * (-1, -1, 1))[:, :, :, None].astype(np.float32)
    ras = nibabel.Nifti1Image(vectors, np.diag([-1, -1, 1, 1]) @ grid.affine)
    ras.header.set_intent(1006)
    nibabel.save(ras, tmp_path / "ras.nii.gz")
    back = read_transform(tmp_path / "ras.nii.gz")
    assert back.grid.same_as(grid)
    assert np.array_equal(back.vectors, displacement)
    itk = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "ras.nii.gz")))
    assert np.allclose(itk.transpose(2, 1, 0, 3), displacement)


def test_the_inverse_file_takes_points_back(phantom, tmp_path: Path):
    write_transform(phantom.truth, tmp_path / "transform.h5")
    write_transform(phantom.truth.inverse(), tmp_path / "inverse.h5")
    points = phantom.fixed.grid.lps(np.argwhere(phantom.body)[::97].astype(float))
    there = read_transform(tmp_path / "transform.h5").map_points(points)
    assert np.abs(read_transform(tmp_path / "inverse.h5").map_points(there) - points).max() < 0.1


def bspline(path: Path) -> None:
    SimpleITK.WriteTransform(SimpleITK.BSplineTransform(3, 3), str(path))


def flat(path: Path) -> None:
    SimpleITK.WriteTransform(SimpleITK.Euler2DTransform(), str(path))


def mirror(path: Path) -> None:
    SimpleITK.WriteTransform(SimpleITK.ScaleTransform(3, (-1.0, 1.0, 1.0)), str(path))


def nested_bspline(path: Path) -> None:
    parts = [SimpleITK.TranslationTransform(3), SimpleITK.BSplineTransform(3, 3)]
    SimpleITK.WriteTransform(SimpleITK.CompositeTransform(parts), str(path))


def elastix(path: Path) -> None:
    path.write_text('(Transform "EulerTransform")\n(NumberOfParameters 6)\n', encoding="utf-8")


def garbage(path: Path) -> None:
    path.write_bytes(b"\x00\x01garbage")


def scalar_image(path: Path) -> None:
    SimpleITK.WriteImage(SimpleITK.Image(4, 4, 4, SimpleITK.sitkFloat32), str(path))


def fsl_warp(path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4, 3), np.float32), np.eye(4)), path)


def niftyreg(path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((4, 4, 4, 1, 3), np.float32), np.eye(4))
    image.header.set_intent(1007, name="NREG_TRANS")
    nibabel.save(image, path)


def in_metres(path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((4, 4, 4, 1, 3), np.float32), np.eye(4))
    image.header.set_intent(1007)
    image.header.set_xyzt_units("meter")
    nibabel.save(image, path)


def truncated(path: Path) -> None:
    image = nibabel.Nifti1Image(np.random.default_rng(0).random((9, 9, 9, 1, 3)).astype(np.float32), np.eye(4))
    image.header.set_intent(1007)
    nibabel.save(image, path)
    path.write_bytes(path.read_bytes()[:4000])


def not_finite(path: Path) -> None:
    image = nibabel.Nifti1Image(np.full((4, 4, 4, 1, 3), np.nan, np.float32), np.eye(4))
    image.header.set_intent(1007)
    nibabel.save(image, path)


@pytest.mark.parametrize(
    ("write", "name", "word"),
    [
        (bspline, "a.tfm", "BSpline"),
        (nested_bspline, "a.h5", "BSpline"),
        (flat, "a.tfm", "2D transform"),
        (mirror, "a.tfm", "determinant"),
        (elastix, "a.txt", "elastix"),
        (garbage, "a.h5", "cannot be read"),
        (garbage, "a.nii.gz", "cannot be read"),
        (garbage, "a.lta", "one that ends in"),
        (scalar_image, "a.nii.gz", "displacement field"),
        (fsl_warp, "a.nii.gz", "(4, 4, 4, 3)"),
        (niftyreg, "a.nii.gz", "NiftyReg"),
        (in_metres, "a.nii.gz", "meter"),
        (truncated, "a.nii.gz", "cannot be read"),
        (truncated, "a.nii", "cannot be read"),
        (not_finite, "a.nii.gz", "not finite"),
    ],
)
def test_what_has_no_counterpart_is_refused_with_a_word(tmp_path: Path, write, name: str, word: str):
    write(tmp_path / name)
    with pytest.raises(InputRefused) as refused:
        read_transform(tmp_path / name)
    assert word in str(refused.value)
    assert refused.value.reason.startswith("transform-")


def test_an_absent_file_is_refused(tmp_path: Path):
    with pytest.raises(InputRefused, match="does not exist"):
        read_transform(tmp_path / "absent.h5")


def test_what_cannot_be_written_is_refused_and_leaves_nothing_behind(kinds, phantom, tmp_path: Path):
    sheared = phantom.fixed.grid.affine.copy()
    sheared[0, 1] += 0.5
    with pytest.raises(UsageError, match="ends in"):
        write_transform(kinds["affine"], tmp_path / "a.xfm")
    with pytest.raises(UsageError, match="No grid"):
        write_transform(kinds["affine"], tmp_path / "a.nii.gz")
    with pytest.raises(UsageError, match="perpendicular"):
        write_displacement_nifti(kinds["affine"], Grid((4, 4, 4), sheared), tmp_path / "a.nii.gz")
    with pytest.raises(UsageError, match="does not exist"):
        write_transform(kinds["affine"], tmp_path / "absent" / "a.h5")
    assert not list(tmp_path.iterdir())
