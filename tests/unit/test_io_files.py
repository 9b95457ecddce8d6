"""NIfTI, NRRD, MetaImage and pictures become the volumes that they are."""

from __future__ import annotations

import gzip
from contextlib import suppress

import nibabel
import numpy as np
import PIL.Image
import pytest
import SimpleITK

from samreg.errors import InputRefused, UsageError
from samreg.io import describe, read_image, read_pair
from tests.dicom_series import rotation, small_volume
from tests.shared import DATA

RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def reason(path, **options) -> str:
    with pytest.raises(InputRefused) as caught:
        read_image(path, **options)
    assert caught.value.expected
    assert caught.value.next_step
    assert describe(path, **options)["refused"] in (None, caught.value.as_dict())
    return caught.value.reason


def save_nifti(path, voxels, affine_lps=None) -> None:
    nibabel.save(nibabel.Nifti1Image(voxels, RAS @ (np.eye(4) if affine_lps is None else affine_lps)), path)


def save_itk(path, volume) -> None:
    image = SimpleITK.GetImageFromArray(volume.voxels.T)
    image.SetSpacing(volume.grid.spacing_mm.tolist())
    image.SetOrigin(volume.grid.origin_lps.tolist())
    image.SetDirection(volume.grid.direction.ravel().tolist())
    SimpleITK.WriteImage(image, str(path))


class TestVolumes:
    @pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"])
    def test_a_voxel_keeps_its_value_and_its_place(self, tmp_path, suffix):
        written = small_volume(spacing=(0.7, 1.9, 3.0), direction=rotation() @ np.diag([1.0, -1.0, 1.0]))
        path = tmp_path / f"image{suffix}"
        if "nii" in suffix:
            save_nifti(path, written.voxels, written.grid.affine)
        else:
            save_itk(path, written)
        read = read_image(path)
        assert read.voxels.dtype == np.float32
        np.testing.assert_array_equal(read.voxels, written.voxels)
        np.testing.assert_allclose(read.grid.affine, written.grid.affine, atol=1e-4)
        described = describe(path)
        assert described["size"] == [12, 10, 8]
        np.testing.assert_allclose(described["spacing_mm"], [0.7, 1.9, 3.0], atol=1e-5)

    def test_itk_and_nibabel_agree_on_the_place_of_a_nifti(self, tmp_path):
        written = small_volume(spacing=(0.7, 1.9, 3.0), direction=rotation())
        save_itk(tmp_path / "image.nii.gz", written)
        read = read_image(tmp_path / "image.nii.gz")
        np.testing.assert_allclose(read.grid.affine, written.grid.affine, atol=1e-4)
        np.testing.assert_array_equal(read.voxels, written.voxels)

    def test_scaled_integers(self, tmp_path):
        image = nibabel.Nifti1Image(np.full((4, 4, 4), 3, np.int16), np.eye(4))
        image.header.set_slope_inter(0.5, -1)
        nibabel.save(image, tmp_path / "a.nii")
        assert read_image(tmp_path / "a.nii").voxels[0, 0, 0] == pytest.approx(
            np.asarray(nibabel.load(tmp_path / "a.nii").dataobj)[0, 0, 0]
        )

    def test_micrometres_become_millimetres(self, tmp_path):
        image = nibabel.Nifti1Image(small_volume().voxels, np.diag([250.0, 250, 500, 1]))
        image.header.set_xyzt_units("micron")
        nibabel.save(image, tmp_path / "a.nii")
        read = read_image(tmp_path / "a.nii")
        np.testing.assert_allclose(read.grid.spacing_mm, [0.25, 0.25, 0.5])
        assert "units" in read.notes

    def test_sform_and_qform_that_differ_are_noted(self, tmp_path):
        image = nibabel.Nifti1Image(small_volume().voxels, np.eye(4))
        image.set_qform(np.diag([1.0, 1, 2, 1]), code=1)
        image.set_sform(np.eye(4), code=2)
        nibabel.save(image, tmp_path / "a.nii")
        read = read_image(tmp_path / "a.nii")
        np.testing.assert_allclose(read.grid.spacing_mm, 1)
        assert "sform was used" in read.notes["orientation"]

    def test_a_lone_sform_of_unit_voxels_takes_the_stated_spacing_as_itk_does(self, tmp_path):
        image = nibabel.Nifti1Image(small_volume().voxels, np.diag([-1.0, -1, 1, 1]))
        image.set_qform(None, code=0)
        image.set_sform(image.affine, code=2)
        image.header["pixdim"][1:4] = 1.4, 1.4, 10
        nibabel.save(image, tmp_path / "a.nii")
        read = read_image(tmp_path / "a.nii")
        np.testing.assert_allclose(read.grid.spacing_mm, [1.4, 1.4, 10], rtol=1e-6)
        np.testing.assert_allclose(SimpleITK.ReadImage(str(tmp_path / "a.nii")).GetSpacing(), [1.4, 1.4, 10], rtol=1e-6)
        assert "pixdim" in read.notes["spacing"]

    def test_two_dimensions_are_one_slice(self, tmp_path):
        save_nifti(tmp_path / "a.nii", np.ones((5, 4), np.float32))
        assert read_image(tmp_path / "a.nii").grid.is_2d
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.ones((4, 5), np.float32)), str(tmp_path / "a.mha"))
        assert read_image(tmp_path / "a.mha").grid.shape == (5, 4, 1)

    def test_a_single_coronal_slice_is_turned_and_keeps_its_place(self, tmp_path):
        voxels = small_volume((5, 1, 4)).voxels
        affine = np.diag([1.0, 9.0, 2.0, 1.0])
        save_nifti(tmp_path / "a.nii", voxels, affine)
        read = read_image(tmp_path / "a.nii")
        assert read.grid.shape == (5, 4, 1)
        assert read.voxels[3, 2, 0] == voxels[3, 0, 2]
        np.testing.assert_allclose(read.grid.lps(np.array([3, 2, 0])), [3, 0, 4])

    def test_four_dimensions_with_one_volume(self, tmp_path):
        save_nifti(tmp_path / "a.nii", np.ones((5, 4, 3, 1), np.float32))
        assert read_image(tmp_path / "a.nii").grid.shape == (5, 4, 3)


class TestRefusedVolumes:
    def test_several_volumes(self, tmp_path):
        save_nifti(tmp_path / "a.nii", np.ones((5, 4, 3, 2), np.float32))
        assert reason(tmp_path / "a.nii") == "4d"
        image = SimpleITK.GetImageFromArray(np.ones((2, 3, 4, 5), np.float32), isVector=False)
        SimpleITK.WriteImage(image, str(tmp_path / "a.mha"))
        assert reason(tmp_path / "a.mha") == "4d"

    def test_no_orientation(self, tmp_path):
        image = nibabel.Nifti1Image(small_volume().voxels, None)
        image.header["sform_code"] = image.header["qform_code"] = 0
        nibabel.save(image, tmp_path / "a.nii")
        assert reason(tmp_path / "a.nii") == "no-orientation"

    @pytest.mark.parametrize("pixdim", [0.0, -3.0, np.nan, np.inf])
    @pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
    def test_a_qform_without_a_spacing_of_its_own(self, tmp_path, pixdim, suffix):
        image = nibabel.Nifti1Image(small_volume().voxels, np.diag([1.0, 1, 3, 1]))
        image.set_qform(image.affine, code=1)
        path = tmp_path / f"a.{suffix}"
        for sform in (0, 1):
            image.header["sform_code"], image.header["pixdim"][3] = sform, pixdim
            raw = _with_header(image)
            path.write_bytes(gzip.compress(raw) if suffix == "nii.gz" else raw)
            if sform:  # which places voxels without it
                np.testing.assert_allclose(read_image(path).grid.spacing_mm, [1, 1, 3])
            else:
                assert reason(path) == "no-spacing"

    @pytest.mark.filterwarnings("error")
    @pytest.mark.parametrize("sform", [0, 1])
    def test_nibabel_prints_nothing_of_its_own(self, tmp_path, sform, caplog):
        image = nibabel.Nifti1Image(small_volume().voxels, np.eye(4))
        image.set_qform(image.affine, code=1)
        for pixdim in (0, -1, np.inf):
            image.header["sform_code"], image.header["pixdim"][3] = sform, pixdim
            raw = _with_header(image)
            for file in (raw, raw[:108] + np.float32(348).tobytes() + raw[112:]):  # voxels that begin within the header
                (tmp_path / "a.nii").write_bytes(file)
                with suppress(InputRefused):
                    read_image(tmp_path / "a.nii")
        assert caplog.records == []

    def test_a_picture_by_a_qform_needs_no_thickness(self, tmp_path):
        image = nibabel.Nifti1Image(small_volume().voxels[:, :, :1], np.diag([2.0, 2, 1, 1]))
        image.set_qform(image.affine, code=1)
        image.header["sform_code"], image.header["pixdim"][3] = 0, 0
        (tmp_path / "a.nii").write_bytes(_with_header(image))
        np.testing.assert_allclose(read_image(tmp_path / "a.nii").grid.spacing_mm[:2], 2)

    @pytest.mark.parametrize("diagonal", [[1, 0, 1], [1, 1, np.nan]], ids=["flat", "not finite"])
    def test_degenerate_affine(self, tmp_path, diagonal):
        image = nibabel.Nifti1Image(small_volume().voxels, np.eye(4))
        image.header["srow_y"] = [0, diagonal[1], 0, 0]
        image.header["srow_z"] = [0, 0, diagonal[2], 0]
        image.header["sform_code"] = 1
        path = tmp_path / "a.nii"
        path.write_bytes(_with_header(image))
        assert reason(path) == "no-orientation"

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    @pytest.mark.parametrize("suffix", ["nii.gz", "mha"])
    def test_not_finite(self, tmp_path, value, suffix):
        written = small_volume()
        written.voxels[3, 2, 1] = value
        path = tmp_path / f"a.{suffix}"
        save_nifti(path, written.voxels) if suffix == "nii.gz" else save_itk(path, written)
        assert reason(path) == "non-finite-voxels"

    @pytest.mark.parametrize("suffix", ["nii", "nii.gz", "nrrd", "mha"])
    def test_truncated(self, tmp_path, suffix):
        path = tmp_path / f"a.{suffix}"
        save_nifti(path, small_volume().voxels) if "nii" in suffix else save_itk(path, small_volume())
        raw = path.read_bytes()
        path.write_bytes(raw[: len(raw) // 2])
        assert reason(path) == "unreadable-file"

    @pytest.mark.parametrize("suffix", ["nii", "nii.gz", "nrrd", "mha", "png", "jpg", "tif"])
    def test_rubbish(self, tmp_path, suffix):
        path = tmp_path / f"a.{suffix}"
        path.write_bytes(gzip.compress(b"rubbish") if suffix == "nii.gz" else b"rubbish")
        assert reason(path) in ("unreadable-file", "no-orientation", "no-spacing")

    def test_colour(self, tmp_path):
        image = SimpleITK.GetImageFromArray(np.ones((4, 5, 6, 3), np.float32), isVector=True)
        SimpleITK.WriteImage(image, str(tmp_path / "a.mha"))
        assert reason(tmp_path / "a.mha") == "not-greyscale"
        rgb = np.zeros((4, 4, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
        nibabel.save(nibabel.Nifti1Image(rgb, np.eye(4)), tmp_path / "a.nii")
        assert reason(tmp_path / "a.nii") == "not-greyscale"

    def test_what_itk_would_fill_in_by_itself(self, tmp_path):
        save_itk(tmp_path / "a.nhdr", small_volume())
        text = (tmp_path / "a.nhdr").read_text()
        kept = [x for x in text.splitlines() if not x.startswith("space")]
        (tmp_path / "a.nhdr").write_text("\n".join(kept) + "\n")
        assert reason(tmp_path / "a.nhdr") == "no-orientation"
        save_itk(tmp_path / "a.mhd", small_volume())
        kept = [x for x in (tmp_path / "a.mhd").read_text().splitlines() if not x.startswith("ElementSpacing")]
        (tmp_path / "a.mhd").write_text("\n".join(kept) + "\n")
        assert reason(tmp_path / "a.mhd") == "no-spacing"

    @pytest.mark.parametrize("target", ["../a.raw", "/etc/hostname"])
    def test_data_outside_the_folder(self, tmp_path, target):
        save_itk(tmp_path / "a.mhd", small_volume())
        text = (tmp_path / "a.mhd").read_text().replace("ElementDataFile = a.raw", f"ElementDataFile = {target}")
        (tmp_path / "a.mhd").write_text(text)
        assert reason(tmp_path / "a.mhd") == "outside-folder"
        save_itk(tmp_path / "a.nhdr", small_volume())
        lines = (tmp_path / "a.nhdr").read_text().splitlines()
        lines = [f"data file: {target}" if x.startswith("data file") else x for x in lines]
        (tmp_path / "a.nhdr").write_text("\n".join(lines) + "\n")
        assert reason(tmp_path / "a.nhdr") == "outside-folder"

    def test_size_limit(self, tmp_path):
        image = nibabel.Nifti1Image(small_volume().voxels, np.eye(4))
        raw = bytearray(image.to_bytes())
        raw[42:48] = np.array([30000, 30000, 30000], "<i2").tobytes()
        (tmp_path / "a.nii").write_bytes(bytes(raw))
        assert reason(tmp_path / "a.nii") == "size-limit"

    def test_unknown_format(self, tmp_path):
        (tmp_path / "a.xyz").write_text("rubbish")
        assert reason(tmp_path / "a.xyz") == "unknown-format"

    def test_options_that_do_not_fit(self, tmp_path):
        save_nifti(tmp_path / "a.nii", small_volume().voxels)
        with pytest.raises(UsageError):
            read_image(tmp_path / "a.nii", pixel_spacing_mm=(1, 1))
        with pytest.raises(UsageError):
            read_image(tmp_path / "a.nii", series_uid="1.2.3")


class TestPictures:
    grey = np.arange(20, dtype=np.uint8).reshape(4, 5)  # [y, x]

    def test_x_runs_along_i_and_y_along_j(self, tmp_path):
        PIL.Image.fromarray(self.grey).save(tmp_path / "a.png")
        read = read_image(tmp_path / "a.png", pixel_spacing_mm=(0.5, 0.25))
        assert read.grid.shape == (5, 4, 1)
        assert read.grid.is_2d
        assert read.voxels[3, 2, 0] == self.grey[2, 3]
        np.testing.assert_allclose(read.grid.lps(np.array([3, 2, 0])), [1.5, 0.5, 0])

    @pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
    def test_colour_becomes_luminance_with_a_note(self, tmp_path, mode):
        PIL.Image.new("RGB", (6, 3), (255, 0, 0)).convert(mode).save(tmp_path / "a.png")
        read = read_image(tmp_path / "a.png", pixel_spacing_mm=(1, 1))
        np.testing.assert_allclose(read.voxels, 0.299 * 255, rtol=1e-5)
        assert "luminance" in read.notes["colour"]

    def test_sixteen_bits_are_kept(self, tmp_path):
        PIL.Image.fromarray(self.grey.astype(np.uint16) * 1000).save(tmp_path / "a.tif")
        assert read_image(tmp_path / "a.tif", pixel_spacing_mm=(1, 1)).voxels.max() == 19000

    def test_stated_resolution(self, tmp_path):
        PIL.Image.fromarray(self.grey).save(tmp_path / "a.tif", resolution_unit=3, x_resolution=200, y_resolution=100)
        read = read_image(tmp_path / "a.tif")
        np.testing.assert_allclose(read.grid.spacing_mm[:2], [0.05, 0.1])
        assert "from the file" in read.notes["pixel_spacing"]
        PIL.Image.fromarray(self.grey).save(tmp_path / "a.png", dpi=(254, 254))
        np.testing.assert_allclose(read_image(tmp_path / "a.png").grid.spacing_mm[:2], 0.1, rtol=1e-3)

    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("a.png", {}),
            ("a.tif", {}),
            ("a.jpg", {"dpi": (300, 300)}),
            ("a.png", {"dpi": (96, 96)}),
            ("a.tif", {"resolution_unit": 1, "x_resolution": 200, "y_resolution": 200}),
        ],
        ids=["none", "no tag", "JPEG", "a screen's", "no unit"],
    )
    def test_without_a_spacing(self, tmp_path, name, options):
        PIL.Image.fromarray(self.grey).save(tmp_path / name, **options)
        assert reason(tmp_path / name) == "no-spacing"
        assert "--pixel-spacing" in describe(tmp_path / name)["refused"]["next_step"]

    @pytest.mark.parametrize("spacing", [(0, 1), (1,), (1, -1), (np.nan, 1)])
    def test_spacing_that_is_none(self, tmp_path, spacing):
        PIL.Image.fromarray(self.grey).save(tmp_path / "a.png")
        with pytest.raises(UsageError):
            read_image(tmp_path / "a.png", pixel_spacing_mm=spacing)

    def test_several_pages(self, tmp_path):
        pages = [PIL.Image.fromarray(self.grey + n) for n in range(2)]
        pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
        assert reason(tmp_path / "a.tif", pixel_spacing_mm=(1, 1)) == "4d"

    def test_truncated(self, tmp_path):
        noise = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
        PIL.Image.fromarray(noise).save(tmp_path / "a.png")
        raw = (tmp_path / "a.png").read_bytes()
        (tmp_path / "a.png").write_bytes(raw[: len(raw) // 2])
        assert reason(tmp_path / "a.png", pixel_spacing_mm=(1, 1)) == "unreadable-file"

    def test_a_pair(self, tmp_path):
        for n in range(2):
            PIL.Image.fromarray(self.grey + n).save(tmp_path / f"{n}.png")
        fixed, moving = read_pair(tmp_path / "0.png", tmp_path / "1.png", pixel_spacing_mm=(0.1, 0.1))
        assert fixed.grid.same_as(moving.grid)


@pytest.mark.shared("ct_thorax.nii.gz", "brain2d", "prostate_mr_us", "histology")
class TestRealFiles:
    @pytest.mark.parametrize(
        ("name", "shape"),
        [
            ("ct_thorax.nii.gz", (122, 101, 112)),
            ("brain2d/r16slice.nii.gz", (256, 256, 1)),
            ("prostate_mr_us/fixed_images/case000000.nii.gz", (44, 59, 41)),
        ],
    )
    def test_nifti_lies_where_itk_sees_it(self, name, shape):
        read = read_image(DATA / name)
        assert read.grid.shape == shape
        image = SimpleITK.ReadImage(str(DATA / name))
        corner = [n - 1 for n in image.GetSize()]
        place = image.TransformIndexToPhysicalPoint(corner)
        n = len(place)
        np.testing.assert_allclose(read.grid.lps(np.array(shape) - 1.0)[:n], place, atol=1e-2)

    def test_histology(self):
        path = DATA / "histology" / "lesions" / "Izd2-29-041-w35_HE.jpg"
        assert reason(path) == "no-spacing"
        assert read_image(path, pixel_spacing_mm=(0.01, 0.01)).grid.shape == (890, 733, 1)


def _with_header(image) -> bytes:
    """The file's bytes with the header as it stands (saving would repair it)."""
    header = image.header.copy()
    raw = bytearray(nibabel.Nifti1Image(np.asarray(image.dataobj), np.eye(4)).to_bytes())
    raw[:348] = header.binaryblock
    raw[108:112] = np.float32(352).tobytes()
    return bytes(raw)
