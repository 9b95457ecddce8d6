"""Images and transforms of other packages: the same voxels in the same place, and the same map of points."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch

from samreg.ecosystem import PACKAGES, image_as, read_object, transform_as
from samreg.errors import InputRefused, UsageError
from samreg.geometry import Grid, Volume
from samreg.image_arguments import as_labels, as_volumes
from samreg.io import read_image
from samreg.transforms import Affine, DisplacementField, Rigid, about_centre, compose, read_transform
from tests.dicom_series import rotation, small_volume
from tests.instant import instant_result

TRANSFORMS = [name for name, package in PACKAGES.items() if package.transforms]
RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
CORNER = np.array([3, 2, 1])


@pytest.fixture(params=list(PACKAGES))
def package(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param)
    return request.param


@pytest.fixture(params=TRANSFORMS)
def mapper(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param)
    return request.param


def oblique(shape=(12, 10, 8)) -> Volume:
    return small_volume(shape, spacing=(0.7, 1.9, 3.0), direction=rotation() @ np.diag([1.0, -1.0, 1.0]))


def exact(shape=(12, 10, 8)) -> Volume:
    """On a grid that a header in float32 states to the last bit."""
    return Volume(small_volume(shape).voxels, Grid.from_axes(shape, (0.5, 1.25, 3.0), (-20.5, 10.25, 7.0)))


def reason(image: object) -> str:
    with pytest.raises(InputRefused) as caught:
        read_object(image)
    assert caught.value.expected
    assert caught.value.next_step
    return caught.value.reason


def save(image, package: str, folder: Path) -> Path:
    """The file that the package itself writes."""
    if package == "nibabel":
        nibabel.save(image, folder / "a.nii.gz")
        return folder / "a.nii.gz"
    if package == "SimpleITK":
        SimpleITK.WriteImage(image, str(folder / "a.nrrd"))
        return folder / "a.nrrd"
    if package == "itk":
        import itk

        itk.imwrite(image, str(folder / "a.nrrd"))
        return folder / "a.nrrd"
    if package == "torchio":
        image.save(folder / "a.nii.gz")
        return folder / "a.nii.gz"
    from monai.transforms import SaveImage

    writer = SaveImage(folder, output_postfix="", output_ext=".nii.gz", separate_folder=False, print_log=False)
    writer(image)
    (path,) = folder.glob("*.nii.gz")
    return path


class TestImages:
    def test_an_image_is_read_as_the_file_that_its_package_writes(self, package, tmp_path):
        image = image_as(exact(), package)
        assert read_object(image).content_hash == exact().content_hash
        assert read_object(image).content_hash == read_image(save(image, package, tmp_path)).content_hash

    def test_an_oblique_image_keeps_its_voxels_and_their_place(self, package):
        read = read_object(image_as(oblique(), package))
        assert np.array_equal(read.voxels, oblique().voxels)
        np.testing.assert_allclose(read.grid.affine, oblique().grid.affine, atol=1e-5)

    def test_the_package_sees_a_voxel_where_it_lies(self, package):
        image, volume = image_as(oblique(), package), oblique()
        i, j, k = (int(n) for n in CORNER)
        if package in ("SimpleITK", "itk"):
            lps = image.TransformIndexToPhysicalPoint([i, j, k])
            value = image.GetPixel([i, j, k])
        else:
            lps = (RAS @ np.asarray(image.affine) @ [i, j, k, 1])[:3]
            value = image.dataobj[i, j, k] if package == "nibabel" else image.data[0, i, j, k]
        np.testing.assert_allclose(list(lps), volume.grid.lps(CORNER), atol=1e-4)
        assert float(value) == volume.voxels[i, j, k]

    def test_what_the_caller_does_to_its_image_later_does_not_reach_the_volume(self):
        values = exact().voxels.copy()
        for image in (nibabel.Nifti1Image(values, RAS), _meta_tensor(values[None])):
            before = read_object(image).voxels
            values[:] = 0
            assert before.any()
            values[:] = exact().voxels

    @pytest.mark.parametrize("image", [np.zeros((9, 9, 9)), torch.zeros(1, 9, 9, 9), None, 3])
    def test_what_does_not_say_where_it_lies_is_refused(self, image):
        with pytest.raises(UsageError, match=r"nibabel.*Volume of it with its Grid"):
            read_object(image)

    @pytest.mark.parametrize("image", [SimpleITK.AffineTransform(3), nibabel.MGHImage(np.zeros((4, 4, 4), "f4"), RAS)])
    def test_other_objects_of_a_package_are_refused(self, image):
        with pytest.raises(UsageError, match=r"Expected (a Nifti1Image|an Image)"):
            read_object(image)

    def test_only_the_package_that_an_image_is_of_is_imported(self):
        code = (
            "import sys, numpy, nibabel\nfrom samreg.ecosystem import read_object\n"
            "read_object(nibabel.Nifti1Image(numpy.ones((9, 9, 9), 'f4'), numpy.eye(4)))\n"
            "assert not {'monai', 'itk', 'torchio'} & set(sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr

    def test_a_package_that_is_not_installed_is_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "torchio", None)
        with pytest.raises(UsageError, match="pip install torchio"):
            image_as(exact(), "torchio")
        with pytest.raises(UsageError, match="nibabel, SimpleITK"):
            image_as(exact(), "numpy")


class TestNibabel:
    def test_units_and_forms_are_those_of_files(self, tmp_path):
        image = nibabel.Nifti1Image(exact().voxels, np.diag([250.0, 250, 500, 1]))
        image.header.set_xyzt_units("micron")
        image.set_qform(np.diag([250.0, 250, 1000, 1]), code=1)
        image.set_sform(image.affine, code=2)
        read = read_object(image)
        np.testing.assert_allclose(read.grid.spacing_mm, [0.25, 0.25, 0.5])
        assert {"units", "orientation"} <= set(read.notes)
        nibabel.save(image, tmp_path / "a.nii")
        assert read_object(nibabel.load(tmp_path / "a.nii")).content_hash == read.content_hash

    def test_an_affine_that_was_changed_in_place_counts(self):
        image = image_as(exact(), "nibabel")
        image.affine[:3, 3] += (1, 2, 3)
        moved = read_object(image).grid.origin_lps - exact().grid.origin_lps
        np.testing.assert_allclose(moved, [-1, -2, 3])

    def test_what_is_refused_in_a_file_is_refused_in_memory(self):
        voxels = exact().voxels
        assert reason(nibabel.Nifti1Image(voxels, None)) == "no-orientation"
        assert reason(nibabel.Nifti1Image(np.stack([voxels] * 2, -1), RAS)) == "4d"
        assert reason(nibabel.Nifti1Image(voxels.astype("c8"), RAS)) == "not-greyscale"
        assert reason(nibabel.Nifti1Image(np.full_like(voxels, np.nan), RAS)) == "non-finite-voxels"
        of_no_length = nibabel.Nifti1Image(voxels, RAS)
        of_no_length.header["xyzt_units"] = 4
        assert reason(of_no_length) == "unknown-unit"

    def test_a_file_that_was_cut_is_refused_though_nibabel_opens_it(self, tmp_path):
        path = tmp_path / "a.nii"
        nibabel.save(image_as(exact(), "nibabel"), path)
        path.write_bytes(path.read_bytes()[:-10])
        assert reason(nibabel.load(path)) == "unreadable-file"

    def test_axes_that_are_not_perpendicular_cannot_be_stated(self):
        affine = np.eye(4)
        affine[0, 1] = 0.3
        with pytest.raises(UsageError, match="perpendicular"):
            image_as(Volume(exact().voxels, Grid(exact().grid.shape, affine)), "nibabel")


class TestSimpleItk:
    def test_a_picture_is_one_slice_as_in_a_file(self, tmp_path):
        image = SimpleITK.GetImageFromArray(np.arange(80, dtype=np.uint8).reshape(8, 10))
        image.SetSpacing((0.5, 0.25))
        image.SetOrigin((3.0, 4.0))
        SimpleITK.WriteImage(image, str(tmp_path / "a.mha"))
        read = read_object(image)
        assert read.grid.shape == (10, 8, 1)
        assert read.content_hash == read_image(tmp_path / "a.mha").content_hash

    def test_what_is_refused_in_a_file_is_refused_in_memory(self):
        assert reason(SimpleITK.Image((9, 9, 9), SimpleITK.sitkVectorFloat32, 3)) == "not-greyscale"
        assert reason(SimpleITK.Image((9, 9, 9), SimpleITK.sitkComplexFloat32)) == "not-greyscale"
        assert reason(SimpleITK.Image((9, 9, 9, 2), SimpleITK.sitkFloat32)) == "4d"
        assert read_object(SimpleITK.Image((9, 9, 9, 1), SimpleITK.sitkFloat32)).grid.shape == (9, 9, 9)


class TestItk:
    def test_a_picture_and_a_region_that_was_cut_out_keep_their_place(self):
        itk = pytest.importorskip("itk")
        picture = itk.image_from_array(np.ones((8, 10), np.uint8))
        picture.SetSpacing((0.5, 0.25))
        assert read_object(picture).grid.shape == (10, 8, 1)
        np.testing.assert_allclose(read_object(picture).grid.spacing_mm[:2], (0.5, 0.25))
        whole = image_as(oblique(), "itk")
        cut = itk.extract_image_filter(whole, extraction_region=itk.ImageRegion[3]([2, 1, 3], [5, 6, 4]))
        part = read_object(cut)
        assert np.array_equal(part.voxels, oblique().voxels[2:7, 1:7, 3:7])
        np.testing.assert_allclose(part.grid.origin_lps, oblique().grid.lps(np.array([2, 1, 3])), atol=1e-6)

    def test_what_is_refused_in_a_file_is_refused_in_memory(self):
        itk = pytest.importorskip("itk")
        assert reason(itk.image_from_array(np.zeros((9, 9, 9, 3), np.uint8), is_vector=True)) == "not-greyscale"
        with pytest.raises(UsageError, match=r"itk\.Image"):
            read_object(itk.AffineTransform[itk.D, 3].New())


class TestMonai:
    def test_the_space_of_the_affine_counts(self):
        image = _meta_tensor(exact().voxels[None], exact().grid.affine, space="LPS")
        np.testing.assert_array_equal(read_object(image).grid.affine, exact().grid.affine)
        assert reason(_meta_tensor(exact().voxels[None], space="scanner")) == "no-orientation"

    def test_pictures_and_narrow_types(self):
        picture = _meta_tensor(np.ones((1, 10, 8), np.float16), np.diag([0.5, 0.25, 1]))
        assert read_object(picture).grid.shape == (10, 8, 1)
        np.testing.assert_allclose(read_object(picture).grid.spacing_mm[:2], (0.5, 0.25))
        assert read_object(_meta_tensor(torch.ones(1, 9, 9, 9, dtype=torch.bfloat16))).voxels.dtype == np.float32

    def test_one_channel_of_one_image_is_taken(self):
        assert reason(_meta_tensor(np.ones((3, 9, 9, 9), np.float32))) == "not-greyscale"
        assert reason(_meta_tensor(np.ones((1, 1, 9, 9, 9), np.float32))) == "4d"
        batch = _meta_tensor(np.ones((1, 1, 9, 9, 9), np.float32))
        batch.is_batch = True
        with pytest.raises(UsageError, match="batch"):
            read_object(batch)


def test_torchio_gives_one_channel_and_a_label_map_its_numbers():
    torchio = pytest.importorskip("torchio")
    image = torchio.ScalarImage(tensor=torch.ones(2, 9, 9, 9))
    assert reason(image) == "not-greyscale"
    with pytest.raises(UsageError, match="Subject"):
        read_object(torchio.Subject(t1=image))
    labels = torchio.LabelMap(tensor=torch.full((1, 9, 9, 9), 2**40))
    assert read_object(labels, stored=True).voxels.max() == 2**40


class TestTransforms:
    @pytest.fixture
    def transform(self):
        """A turn about the middle, and a field after it: a composite whose order matters."""
        grid = oblique((14, 12, 9)).grid
        turn = Rigid(about_centre(rotation(), np.array([2.0, -1.0, 0.5]), grid.centre_lps))
        wave = np.sin(np.indices(grid.shape) / 3.0)
        field = DisplacementField(grid.padded(20), np.zeros((*grid.padded(20).shape, 3), np.float32))
        start = [(a - b) // 2 for a, b in zip(field.grid.shape, grid.shape, strict=True)]
        where = tuple(slice(s, s + n) for s, n in zip(start, grid.shape, strict=True))
        field.vectors[where] = np.moveaxis(wave, 0, -1).astype(np.float32)
        return compose([turn, field])

    def test_points_are_mapped_as_by_the_transform(self, mapper, transform):
        grid = oblique().grid
        indices = np.stack(np.meshgrid(range(0, 12, 3), range(0, 10, 3), range(0, 8, 3)), -1).reshape(-1, 3)
        points = grid.lps(indices)
        given = transform_as(transform, mapper, grid)
        if mapper in ("SimpleITK", "itk"):
            mapped = np.array([list(given.TransformPoint(point.tolist())) for point in points])
        elif mapper == "nibabel":
            mapped = points + given.get_fdata()[tuple(indices.T)][:, 0]
            np.testing.assert_allclose(RAS @ given.affine, grid.affine, atol=1e-5)
        else:
            moved = indices + given.as_tensor().numpy()[:, *indices.T].T
            mapped = (moved @ given.affine.numpy()[:3, :3].T + given.affine.numpy()[:3, 3]) * (-1, -1, 1)
        assert np.abs(transform.map_points(points) - points).max() > 1
        np.testing.assert_allclose(mapped, transform.map_points(points), atol=1e-3)

    def test_a_field_of_nibabel_is_the_file_that_samreg_reads(self, tmp_path):
        grid = oblique().grid
        transform = Rigid(about_centre(rotation(), np.array([2.0, -1.0, 0.5]), grid.centre_lps))
        nibabel.save(transform_as(transform, "nibabel", grid), tmp_path / "field.nii.gz")
        inner = grid.lps(np.array([[3.0, 4, 5], [6.5, 2.25, 3]]))
        np.testing.assert_allclose(
            read_transform(tmp_path / "field.nii.gz").map_points(inner), transform.map_points(inner), atol=1e-3
        )

    def test_monai_warps_by_its_field(self):
        blocks = pytest.importorskip("monai.networks.blocks")
        volume = exact()
        shift = Rigid(about_centre(np.eye(3), np.array([0.5, 1.25, -3.0]), volume.grid.centre_lps))  # whole voxels
        field = transform_as(shift, "monai", volume.grid)
        warped = blocks.Warp(padding_mode="zeros")(image_as(volume, "monai").as_tensor()[None], field.as_tensor()[None])
        expected = shift.warp(volume, volume.grid)
        inner = (slice(1, -1),) * 3
        np.testing.assert_allclose(warped[0, 0].numpy()[inner], expected[inner], rtol=1e-3, atol=1e-3)

    def test_torchio_has_no_transforms(self):
        with pytest.raises(UsageError, match=r"torchio.*Expected one of nibabel, SimpleITK, itk, monai"):
            transform_as(Affine.identity(), "torchio", oblique().grid)


class TestResults:
    def test_a_result_gives_its_image(self, package):
        result = instant_result(oblique(), oblique())
        read = read_object(result.warped_as(package))
        assert np.array_equal(read.voxels, result.warped().voxels)
        assert read.grid.same_as(result.fixed.grid)

    def test_a_result_gives_its_transform_both_ways(self):
        result = instant_result(oblique(), oblique())
        point = result.fixed.grid.centre_lps
        there = result.transform_as("SimpleITK").TransformPoint(point.tolist())
        np.testing.assert_allclose(there, result.transform.map_points(point), atol=1e-6)
        np.testing.assert_allclose(result.inverse_as("SimpleITK").TransformPoint(there), point, atol=1e-6)

    def test_nibabel_gets_an_upright_image_of_a_tilted_stack(self):
        affine = np.diag([1.0, 1.0, 3.0, 1.0])
        affine[1, 2] = 0.6
        tilted = Volume(exact().voxels, Grid(exact().grid.shape, affine))
        result = instant_result(tilted, tilted)
        assert not read_object(result.warped_as("nibabel")).grid.is_sheared
        assert read_object(result.warped_as("SimpleITK")).grid.same_as(tilted.grid)


class TestInputs:
    def test_kinds_mix_and_a_file_may_stand_beside_an_image_in_memory(self, tmp_path):
        nibabel.save(image_as(exact(), "nibabel"), tmp_path / "a.nii.gz")
        objects = [exact(), image_as(exact(), "SimpleITK"), image_as(exact(), "nibabel"), _meta_tensor(exact())]
        for one, other in itertools.pairwise([tmp_path / "a.nii.gz", *objects, tmp_path / "a.nii.gz"]):
            fixed, moving = as_volumes(one, other)
            assert fixed.content_hash == moving.content_hash == exact().content_hash

    def test_a_dicom_series_beside_an_image_in_memory_is_refused(self, study):
        with pytest.raises(UsageError, match="patients can be compared"):
            as_volumes(study / "fixed", image_as(exact(), "SimpleITK"))

    def test_a_refusal_says_which_image_it_is_of(self):
        with pytest.raises(InputRefused, match="Moving image") as caught:
            as_volumes(exact(), SimpleITK.Image((9, 9, 9, 2), SimpleITK.sitkFloat32))
        assert caught.value.role == "moving"

    def test_labels_may_be_images_with_their_axes_in_another_order(self, tmp_path):
        numbers = np.zeros(exact().grid.shape, np.int16)
        numbers[2:4, 3, 5:] = 7
        labels = SimpleITK.Flip(image_as(Volume(numbers, exact().grid), "SimpleITK"), (False, True, True))
        found = as_labels(labels, exact())
        assert found.dtype == np.int32
        assert np.array_equal(found, numbers)
        SimpleITK.WriteImage(labels, str(tmp_path / "a.nrrd"))
        assert np.array_equal(as_labels(tmp_path / "a.nrrd", exact()), numbers)
        assert np.array_equal(as_labels(numbers, exact()), numbers)
        with pytest.raises(InputRefused, match="another grid"):
            as_labels(labels, oblique())
        with pytest.raises(InputRefused, match="no labels"):
            as_labels(Volume(exact().voxels + 0.5, exact().grid), exact())


def _meta_tensor(values, affine=None, **meta):
    data = pytest.importorskip("monai.data")
    if isinstance(values, Volume):
        return image_as(values, "monai")
    return data.MetaTensor(values, affine=affine, meta=meta or None)
