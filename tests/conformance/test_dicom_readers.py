"""Independent programs read our registration objects and get our transform, in our direction."""

import shutil
import subprocess
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread
from pydicom.dataset import Dataset

from samreg import phantoms
from samreg.dicom_out import DicomObjects, write_objects
from samreg.geometry import Grid, Volume
from samreg.io import read_image
from samreg.transforms import Affine, Transform
from tests.dicom_results import affine, deformable, result_of, rigid
from tests.shared import DATA

reg = pytest.importorskip("pydicomrt.reg.parser", reason="pydicomrt is not installed (extra dev)")
loader = pytest.importorskip("pydicomrt.utils.image_series_loader", reason="pydicomrt is not installed (extra dev)")


class Case:
    """Two DICOM series on disk, a transform between them, and the objects written for it."""

    def __init__(self, fixed: Path, moving: Path, folder: Path, kind: str) -> None:
        self.fixed_folder, self.moving_folder, self.kind = fixed, moving, kind
        self.fixed, self.moving = read_image(fixed), read_image(moving)
        transform, self.stage = deformable(self.fixed)
        self.transform = {"rigid": rigid, "affine": affine, "deformable": lambda _: transform}[kind](self.fixed)
        stages = {"rigid": self.stage, kind: self.transform}
        folder.mkdir()
        self.result = result_of(self.fixed, self.moving, self.transform, kind=kind, stages=stages)
        self.objects: DicomObjects = write_objects(self.result, folder)

    @property
    def linear(self) -> Affine:
        """What REG holds."""
        return self.stage if self.kind == "deformable" else self.transform

    def object(self, name: str) -> Dataset:
        return dcmread(self.objects.files[name])

    def image(self, side: str) -> sitk.Image:
        """As pydicomrt reads it, not as we do."""
        series = loader.load_sorted_image_series(str(getattr(self, f"{side}_folder")))
        from pydicomrt.utils.sitk_transform import image_series_to_sitk_image

        return sitk.Cast(image_series_to_sitk_image(series), sitk.sitkFloat32)

    def rms(self, transform: sitk.Transform, ours: Transform) -> float:
        """Difference between the moving image warped by ITK and by us, as a share of the image's spread."""
        theirs = sitk.Resample(self.image("moving"), self.image("fixed"), transform, sitk.sitkLinear, -9999.0)
        theirs = sitk.GetArrayFromImage(theirs).transpose(2, 1, 0)
        mine = ours.warp(self.moving, self.fixed.grid, outside=-9999.0)
        both = (theirs != -9999) & (mine != -9999)
        assert both.mean() > 0.2
        return float(np.sqrt(np.mean((theirs - mine)[both] ** 2)) / mine[both].std())


def phantom_folders(folder: Path) -> tuple[Path, Path]:
    fixed_grid, moving_grid = phantoms.grid("oblique", 56), phantoms.grid("anisotropic", 56)
    pair = phantoms.pair("rigid", fixed_grid=fixed_grid, moving_grid=moving_grid)
    for volume, name in ((pair.fixed, "fixed"), (pair.moving, "moving")):
        phantoms.write_dicom_series(volume, folder / name)
    return folder / "fixed", folder / "moving"


@pytest.fixture(scope="module", params=["phantom", pytest.param("decubitus", marks=pytest.mark.shared("decubitus"))])
def folders(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if request.param == "phantom":
        return phantom_folders(tmp_path_factory.mktemp("phantom"))
    return DATA / "decubitus" / "HFS", DATA / "decubitus" / "HFDR"


@pytest.fixture(scope="module", params=["rigid", "affine", "deformable"])
def case(request: pytest.FixtureRequest, folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(*folders, tmp_path_factory.mktemp("objects") / "out", request.param)


def linear_itk(matrix: np.ndarray) -> sitk.AffineTransform:
    out = sitk.AffineTransform(3)
    out.SetMatrix(matrix[:3, :3].ravel().tolist())
    out.SetTranslation(matrix[:3, 3].tolist())
    return out


def field_itk(item: dict) -> sitk.DisplacementFieldTransform:
    grid = item["DeformableRegistrationGrid"]
    image = sitk.GetImageFromArray(grid["VectorGridData"].astype(np.float64), isVector=True)
    image.SetOrigin([float(v) for v in grid["ImagePositionPatient"]])
    image.SetSpacing([float(v) for v in grid["GridResolution"]])
    return sitk.DisplacementFieldTransform(image)


def test_pydicomrt_reproduces_the_warped_image_from_reg(case: Case):
    found = reg.get_spatial_registrations(case.object("reg"))
    matrix = found[case.fixed.frame_of_reference_uid][case.moving.frame_of_reference_uid]
    fixed_from_moving = np.array(matrix).reshape(4, 4)
    right = case.rms(linear_itk(np.linalg.inv(fixed_from_moving)), case.linear)
    wrong = case.rms(linear_itk(fixed_from_moving), case.linear)
    assert right < 1e-3
    assert wrong > 0.3, "a reader that takes the matrix the wrong way round must be noticed"


@pytest.mark.parametrize("case", ["deformable"], indirect=True)
def test_pydicomrt_reproduces_the_warped_image_from_dreg(case: Case):
    (item,) = reg.get_deformable_registrations(case.object("dreg"))
    assert item["SourceFrameOfReferenceUID"] == case.moving.frame_of_reference_uid
    assert np.array_equal(np.array(item["PreDeformationMatrixRegistration"]).reshape(4, 4), np.eye(4))
    transform = field_itk(item)
    assert case.rms(transform, case.transform) < 0.02
    item["DeformableRegistrationGrid"]["VectorGridData"] = -item["DeformableRegistrationGrid"]["VectorGridData"]
    assert case.rms(field_itk(item), case.transform) > 0.3
    stated = case.objects.errors_mm["dreg"]
    points = case.fixed.grid.lps(np.random.default_rng(5).uniform(0, np.array(case.fixed.grid.shape) - 1, (300, 3)))
    theirs = np.array([transform.TransformPoint(p) for p in points.tolist()])
    assert np.linalg.norm(theirs - case.transform.map_points(points), axis=1).max() <= max(stated, 0.1)


@pytest.fixture(scope="module")
def plastimatch() -> str:
    path = shutil.which("plastimatch")
    if path is None:
        pytest.skip("plastimatch is not installed")
    return path


def converted(plastimatch: str, transform: Path, case: Case, out: Path) -> Dataset:
    """The registration object that plastimatch writes for an ITK file (fixed to moving)."""
    fixed, moving = str(case.fixed_folder), str(case.moving_folder)
    command = [plastimatch, "xf-convert", "--input", str(transform), "--output-dicom", str(out)]
    command += ["--fixed-rcs", fixed, "--moving-rcs", moving]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    (file,) = out.rglob("*.dcm")
    return dcmread(file)


def matrix_of(ds: Dataset, frame_of_reference_uid: str) -> np.ndarray:
    (item,) = [i for i in ds.RegistrationSequence if i.FrameOfReferenceUID == frame_of_reference_uid]
    values = item.MatrixRegistrationSequence[0].MatrixSequence[0].FrameOfReferenceTransformationMatrix
    return np.array([float(v) for v in values]).reshape(4, 4)


def test_plastimatch_writes_the_same_reg(plastimatch: str, case: Case, tmp_path: Path):
    sitk.WriteTransform(linear_itk(case.linear.moving_from_fixed), str(tmp_path / "linear.tfm"))
    theirs = converted(plastimatch, tmp_path / "linear.tfm", case, tmp_path / "plastimatch")
    ours = case.object("reg")
    assert theirs.FrameOfReferenceUID == ours.FrameOfReferenceUID
    for volume in (case.fixed, case.moving):
        uid = volume.frame_of_reference_uid
        np.testing.assert_allclose(matrix_of(ours, uid), matrix_of(theirs, uid), atol=2e-5)


@pytest.mark.parametrize("case", ["deformable"], indirect=True)
def test_plastimatch_writes_the_same_dreg(plastimatch: str, case: Case, tmp_path: Path):
    ours = grid_of(case.object("dreg"))
    # What plastimatch is given is sampled from the transform itself, not copied from our object.
    grid = Grid.from_axes(ours.GridDimensions, ours.GridResolution, [float(v) for v in ours.ImagePositionPatient])
    image = sitk.GetImageFromArray(case.transform.displacement(grid).transpose(2, 1, 0, 3), isVector=True)
    image.SetOrigin(grid.origin_lps.tolist())
    image.SetSpacing(grid.spacing_mm.tolist())
    sitk.WriteImage(image, str(tmp_path / "field.mha"))
    theirs = grid_of(converted(plastimatch, tmp_path / "field.mha", case, tmp_path / "plastimatch"))
    assert list(theirs.GridDimensions) == list(ours.GridDimensions)
    np.testing.assert_allclose(theirs.ImagePositionPatient, ours.ImagePositionPatient, atol=1e-4)
    vectors = (np.frombuffer(item.VectorGridData, "<f4") for item in (theirs, ours))
    np.testing.assert_allclose(*vectors, atol=1e-4)


def grid_of(ds: Dataset) -> Dataset:
    return ds.DeformableRegistrationSequence[0].DeformableRegistrationGridSequence[0]


@pytest.mark.parametrize("case", ["rigid"], indirect=True)
def test_highdicom_reads_the_masks_on_the_series_geometry(case: Case):
    for side, volume, folder in (("fixed", case.fixed, case.fixed_folder), ("moving", case.moving, case.moving_folder)):
        reference = hd.get_volume_from_series([dcmread(p) for p in sorted(folder.iterdir())]).get_geometry()
        seg = hd.seg.segread(case.objects.files[f"seg_{side}"])
        assert seg.number_of_segments == len(case.result.pairs)
        for pair in case.result.pairs:
            read = seg.get_volume(segment_numbers=[pair.id], combine_segments=False)
            mask = on_grid(read.match_geometry(reference), volume)
            np.testing.assert_array_equal(mask, getattr(pair, side).mask(volume.grid.shape))
            assert seg.get_segment_description(pair.id).segment_label == f"ROI {pair.id}"


def on_grid(read: hd.Volume, volume: Volume) -> np.ndarray:
    """A highdicom volume [slice, row, column, segment] as [i, j, k] on our grid."""
    mask = read.array[..., 0].transpose(2, 1, 0).astype(bool)
    affine = read.affine[:, [2, 1, 0, 3]]
    if affine[:3, 2] @ volume.grid.affine[:3, 2] < 0:
        mask, origin = mask[:, :, ::-1], affine @ [0, 0, mask.shape[2] - 1, 1]
        affine = np.column_stack([affine[:, 0], affine[:, 1], -affine[:, 2], origin])
    np.testing.assert_allclose(affine, volume.grid.affine, atol=1e-3)
    return mask
