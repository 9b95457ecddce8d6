"""Given label maps arrive on the image's grid, voxel for voxel, or not at all."""

from __future__ import annotations

import logging
import struct
import zlib

import highdicom as hd
import nibabel
import numpy as np
import PIL.Image
import pytest
import SimpleITK
import tifffile
from pydicom import dcmread
from pydicom.sr.codedict import codes

from samreg.errors import InputRefused
from samreg.geometry import Grid, Volume
from samreg.io import read_for_nearest, read_image, read_label_map, read_labels
from samreg.phantoms import write_dicom_series
from tests.dicom_series import rotation, small_volume, write_enhanced

RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


def some_labels(shape=(12, 10, 8)) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 4, shape).astype(np.int16)


def save(path, labels, grid: Grid) -> None:
    nibabel.save(nibabel.Nifti1Image(labels, RAS @ grid.affine), path)


def save_as(path, labels, grid: Grid) -> None:
    """In the format of the name, by the library of that format."""
    if ".nii" in path.name:
        nibabel.save(nibabel.Nifti1Image(labels, RAS @ grid.affine, dtype=labels.dtype), path)
        return
    image = SimpleITK.GetImageFromArray(labels.T)
    image.SetSpacing(grid.spacing_mm.tolist())
    image.SetOrigin(grid.origin_lps.tolist())
    image.SetDirection(grid.direction.ravel().tolist())
    SimpleITK.WriteImage(image, str(path))


def reason(*arguments) -> str:
    with pytest.raises(InputRefused) as caught:
        read_labels(*arguments)
    assert caught.value.got
    assert caught.value.expected
    assert caught.value.next_step
    return caught.value.reason


class TestFiles:
    volume = small_volume(spacing=(0.7, 1.9, 3.0), direction=rotation())

    def test_on_the_same_grid(self, tmp_path):
        save(tmp_path / "a.nii.gz", some_labels(), self.volume.grid)
        read = read_labels(tmp_path / "a.nii.gz", self.volume)
        assert np.issubdtype(read.dtype, np.integer)
        np.testing.assert_array_equal(read, some_labels())

    @pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
    @pytest.mark.parametrize("flips", [(), (1,), (0, 2)])
    def test_axes_stored_in_another_order_or_direction(self, tmp_path, order, flips):
        affine = self.volume.grid.affine[:, [*order, 3]]
        stored = np.flip(some_labels().transpose(order), flips)
        for axis in flips:
            affine[:3, 3] += affine[:3, axis] * (stored.shape[axis] - 1)
            affine[:3, axis] *= -1
        save(tmp_path / "a.nii", np.ascontiguousarray(stored), Grid(stored.shape, affine))
        np.testing.assert_array_equal(read_labels(tmp_path / "a.nii", self.volume.grid), some_labels())

    @pytest.mark.parametrize(
        "grid",
        [
            Grid.from_axes((12, 10, 8), (0.7, 1.9, 3.0), (-10.0, 5.0, 30.5), rotation()),
            Grid.from_axes((12, 10, 8), (0.7, 1.9, 3.1), (-10.0, 5.0, 30.0), rotation()),
            Grid.from_axes((12, 10, 7), (0.7, 1.9, 3.0), (-10.0, 5.0, 30.0), rotation()),
            Grid.from_axes((12, 10, 8), (0.7, 1.9, 3.0), (-10.0, 5.0, 30.0), rotation(24)),
        ],
        ids=["shifted", "stretched", "cropped", "turned"],
    )
    def test_another_grid(self, tmp_path, grid):
        save(tmp_path / "a.nii", some_labels(grid.shape), grid)
        with pytest.raises(InputRefused) as caught:
            read_labels(tmp_path / "a.nii", self.volume)
        assert caught.value.reason == "other-grid"
        assert "nearest" in caught.value.next_step

    @pytest.mark.parametrize("value", [0.5, -1.0])
    def test_no_labels_at_all(self, tmp_path, value):
        values = some_labels().astype(np.float32)
        values[0, 0, 0] = value
        save(tmp_path / "a.nii", values, self.volume.grid)
        assert reason(tmp_path / "a.nii", self.volume) == "not-labels"

    @pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
    @pytest.mark.parametrize("kind", INTEGERS)
    def test_each_integer_type_keeps_its_greatest_numbers(self, tmp_path, kind, suffix):
        top = int(np.iinfo(kind).max)
        labels = np.array([0, 1, top - 1, top], kind)[some_labels()]
        save_as(tmp_path / f"a{suffix}", labels, self.volume.grid)
        read = read_labels(tmp_path / f"a{suffix}", self.volume)
        assert read.dtype.kind in "iu"
        assert set(np.unique(read).tolist()) == {0, 1, top - 1, top}
        np.testing.assert_array_equal(read, labels)
        np.testing.assert_array_equal(read_label_map(tmp_path / f"a{suffix}").voxels, labels)

    def test_integers_in_the_other_byte_order(self, tmp_path):
        labels = np.array([0, 7, 2**24 + 1, 2**31 - 1], ">i4")[some_labels()]
        header = nibabel.Nifti1Header(endianness=">")
        header.set_data_dtype(">i4")
        nibabel.save(nibabel.Nifti1Image(labels, RAS @ self.volume.grid.affine, header), tmp_path / "a.nii")
        np.testing.assert_array_equal(read_labels(tmp_path / "a.nii", self.volume), labels)

    @pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha"])
    @pytest.mark.parametrize("kind", [k for k in INTEGERS if k.startswith("i")])
    def test_negative_integers_are_no_labels(self, tmp_path, kind, suffix):
        save_as(tmp_path / f"a{suffix}", (some_labels() - 1).astype(kind), self.volume.grid)
        assert reason(tmp_path / f"a{suffix}", self.volume) == "not-labels"

    @pytest.mark.parametrize(("kind", "limit"), [("float32", 2**24), ("float64", 2**53)])
    def test_floating_point_as_far_as_it_tells_whole_numbers_apart(self, tmp_path, kind, limit):
        labels = np.array([0, 1, 997, limit - 1], kind)[some_labels()]
        save(tmp_path / "a.nii", labels, self.volume.grid)
        assert set(np.unique(read_labels(tmp_path / "a.nii", self.volume)).tolist()) == {0, 1, 997, limit - 1}
        labels[0, 0, 0] = limit + 1  # which this type makes the limit itself
        save(tmp_path / "a.nii", labels, self.volume.grid)
        with pytest.raises(InputRefused, match=f"{limit}.*{kind}.*numbers below {limit}") as caught:
            read_labels(tmp_path / "a.nii", self.volume)
        assert caught.value.reason == "label-limit"
        assert "integers" in caught.value.next_step

    @pytest.mark.parametrize(("top", "kept"), [(2**31, True), (2**53 + 1, False)])
    def test_labels_that_the_header_scales(self, tmp_path, top, kept):
        labels = np.array([0, 1, 997, top], np.int64)[some_labels()]
        save_as(tmp_path / "a.nii", labels, self.volume.grid)
        data = bytearray((tmp_path / "a.nii").read_bytes())
        data[112:120] = struct.pack("<ff", 1.0, 3.0)  # slope and intercept: readers compute in float64
        (tmp_path / "a.nii").write_bytes(data)
        if kept:
            np.testing.assert_array_equal(read_labels(tmp_path / "a.nii", self.volume), labels + 3)
            np.testing.assert_array_equal(read_for_nearest(tmp_path / "a.nii").voxels, labels + 3)
            assert read_for_nearest(tmp_path / "a.nii").voxels.dtype == np.uint32
        else:
            assert reason(tmp_path / "a.nii", self.volume) == "label-limit"
            with pytest.raises(InputRefused, match="numbers below"):
                read_for_nearest(tmp_path / "a.nii")

    def test_empty(self, tmp_path):
        save(tmp_path / "a.nii", np.zeros((12, 10, 8), np.int16), self.volume.grid)
        assert reason(tmp_path / "a.nii", self.volume) == "no-labels"

    def test_a_picture(self, tmp_path):
        PIL.Image.fromarray(some_labels((5, 4)).T.astype(np.uint8)).save(tmp_path / "a.png")
        grid = Grid.from_axes((5, 4, 1), (0.1, 0.2, 1.0))
        np.testing.assert_array_equal(read_labels(tmp_path / "a.png", grid)[..., 0], some_labels((5, 4)))

    def test_a_picture_in_colour(self, tmp_path):
        PIL.Image.fromarray(some_labels((5, 4)).T.astype(np.uint8)).convert("P").save(tmp_path / "a.png")
        assert reason(tmp_path / "a.png", Grid.from_axes((5, 4, 1), (0.1, 0.2, 1.0))) == "not-labels"

    @pytest.mark.parametrize("numbers", [(1, 2**31, 3_000_000_000), (1, 2, 255)])
    def test_a_picture_of_32_bits(self, tmp_path, numbers):
        labels = np.array([0, *numbers], np.uint32)[some_labels((5, 4))]
        tifffile.imwrite(tmp_path / "a.tif", labels.T)
        np.testing.assert_array_equal(
            read_labels(tmp_path / "a.tif", Grid.from_axes((5, 4, 1), (1, 1, 1)))[..., 0], labels
        )

    def test_a_picture_of_signed_bytes(self, tmp_path):
        labels = np.array([0, 1, -1, 3], np.int8)[some_labels((5, 4))]
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(labels.T), str(tmp_path / "a.tif"))
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif", pixel_spacing_mm=(1, 1)).voxels[..., 0], labels)
        assert reason(tmp_path / "a.tif", Grid.from_axes((5, 4, 1), (1, 1, 1))) == "not-labels"

    @pytest.mark.parametrize("bits", [2, 4])
    def test_a_picture_of_few_bits_holds_shares_of_white(self, tmp_path, bits):
        PIL.Image.fromarray(np.eye(4, dtype=np.uint8)).convert("P").save(tmp_path / "a.png", bits=bits)
        data = bytearray((tmp_path / "a.png").read_bytes())
        data[25] = 0  # from palette to greyscale
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
        (tmp_path / "a.png").write_bytes(data)
        assert reason(tmp_path / "a.png", Grid.from_axes((4, 4, 1), (1, 1, 1))) == "not-labels"


def write_seg(volume: Volume, masks: np.ndarray, path, kind="BINARY") -> None:
    """A SEG of masks [n, i, j, k] by highdicom, from the source files as `read_series` lists them."""
    description = [
        hd.seg.SegmentDescription(
            segment_number=n + 1,
            segment_label=f"Region {n + 1}",
            segmented_property_category=codes.SCT.Organ,
            segmented_property_type=codes.SCT.Organ,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for n in range(len(masks))
    ]
    geometry = hd.Volume(
        np.moveaxis(masks, 0, -1).astype(np.uint8),
        volume.grid.affine,
        coordinate_system="PATIENT",
        frame_of_reference_uid=volume.frame_of_reference_uid,
        channels={"SegmentNumber": list(range(1, len(masks) + 1))},
    )
    seg = hd.seg.Segmentation(
        source_images=[dcmread(f) for f in volume.source.files],
        pixel_array=geometry,
        segmentation_type=kind,
        segment_descriptions=description,
        series_instance_uid=hd.UID(),
        series_number=100,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="test",
        manufacturer_model_name="test",
        software_versions="1",
        device_serial_number="1",
    )
    seg.save_as(path)


class TestSeg:
    def make(self, folder, kind="classic") -> Volume:
        written = small_volume(direction=rotation() @ np.diag([1.0, -1.0, 1.0]))
        if kind == "enhanced":
            folder.mkdir()
            write_enhanced(written, folder / "enhanced.dcm", order=[3, 0, 7, 1, 2, 6, 5, 4])
        else:
            write_dicom_series(written, folder)
        return read_image(folder)

    def masks(self) -> np.ndarray:
        masks = np.zeros((2, 12, 10, 8), bool)
        masks[0, 2:5, 3:7, 1:4] = True
        masks[1, 6:9, 1:4, 3:6] = True
        return masks

    @pytest.mark.parametrize("kind", ["classic", "enhanced"])
    def test_a_seg_comes_back_on_the_grid_of_its_series(self, tmp_path, kind):
        volume = self.make(tmp_path / "series", kind)
        write_seg(volume, self.masks(), tmp_path / "seg.dcm")
        read = read_labels(tmp_path / "seg.dcm", volume)
        np.testing.assert_array_equal(read, self.masks()[0] + 2 * self.masks()[1])

    @pytest.mark.parametrize("kind", ["LABELMAP", "FRACTIONAL"])
    def test_other_types_of_seg(self, tmp_path, kind):
        volume = self.make(tmp_path / "series")
        write_seg(volume, self.masks(), tmp_path / "seg.dcm", kind)
        np.testing.assert_array_equal(read_labels(tmp_path / "seg.dcm", volume), self.masks()[0] + 2 * self.masks()[1])

    def test_overlap_is_announced(self, tmp_path, caplog):
        volume, masks = self.make(tmp_path / "series"), self.masks()
        masks[1, 2:4, 3:5, 1:2] = True
        write_seg(volume, masks, tmp_path / "seg.dcm")
        with caplog.at_level(logging.WARNING):
            read = read_labels(tmp_path / "seg.dcm", volume)
        assert "overlap in 4 voxels" in caplog.text
        np.testing.assert_array_equal(read == 2, masks[1])

    def test_a_segment_that_is_asked_for_is_whole_under_others(self, tmp_path, caplog):
        volume, masks = self.make(tmp_path / "series"), self.masks()
        masks[1] |= masks[0]
        write_seg(volume, masks, tmp_path / "seg.dcm")
        for label in (1, 2):
            np.testing.assert_array_equal(read_labels(tmp_path / "seg.dcm", volume, label), label * masks[label - 1])
        assert "overlap" not in caplog.text
        assert set(np.unique(read_labels(tmp_path / "seg.dcm", volume, 3))) == {0, 2}  # there is no 3

    def test_another_frame_of_reference(self, tmp_path):
        volume, other = self.make(tmp_path / "series"), self.make(tmp_path / "other")
        write_seg(volume, self.masks(), tmp_path / "seg.dcm")
        assert reason(tmp_path / "seg.dcm", other) == "other-frame-of-reference"
        assert reason(tmp_path / "seg.dcm", volume.grid) == "other-frame-of-reference"

    def test_another_grid(self, tmp_path):
        volume = self.make(tmp_path / "series")
        write_seg(volume, self.masks(), tmp_path / "seg.dcm")
        shifted = Volume(
            volume.voxels,
            Grid(volume.grid.shape, volume.grid.affine @ np.diag([1.1, 1, 1, 1])),
            frame_of_reference_uid=volume.frame_of_reference_uid,
        )
        assert reason(tmp_path / "seg.dcm", shifted) == "other-grid"

    def test_frames_that_name_no_segment_are_refused(self, tmp_path):
        volume = self.make(tmp_path / "series")
        path = tmp_path / "seg.dcm"
        write_seg(volume, self.masks(), path)
        seg = dcmread(path)
        for frame in seg.PerFrameFunctionalGroupsSequence:
            del frame.SegmentIdentificationSequence
        seg.save_as(path)
        assert reason(path, volume) == "unreadable-file"

    def test_an_image_is_no_segmentation(self, tmp_path):
        volume = self.make(tmp_path / "series")
        assert reason(volume.source.files[0], volume) == "unsupported-sop-class"
        assert reason(tmp_path / "series", volume) == "several-files"
