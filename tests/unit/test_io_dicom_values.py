"""A DICOM series is read exactly, or refused: never with values that mean something else than they seem to."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from samreg.errors import InputRefused
from samreg.io import describe, read_image
from samreg.io.dicom_pixels import within_stored_bits
from samreg.phantoms import write_dicom_series
from tests.dicom_series import edit, small_volume, write_enhanced, write_small


def refusal(call, *arguments, **options) -> InputRefused:
    with pytest.raises(InputRefused) as caught:
        call(*arguments, **options)
    return caught.value


def reason(call, *arguments, **options) -> str:
    return refusal(call, *arguments, **options).reason


@pytest.fixture
def files(tmp_path):
    """A sound series of eight axial slices, 4 mm apart."""
    return write_small(tmp_path / "series")


@pytest.fixture
def folder(files):
    return files[0].parent


class TestValues:
    """The values of all slices mean the same, and what the header says of them."""

    def test_a_rescale_in_some_slices(self, files, folder):
        edit(files[::2], RescaleSlope="1", RescaleIntercept="-1024")
        error = refusal(read_image, folder)
        assert error.reason == "mixed-rescale"
        assert "4 images with and 4 images without" in error.got
        assert describe(folder)["refused"] == error.as_dict()

    def test_a_rescale_in_some_slices_that_changes_nothing(self, files, folder):
        plain = read_image(folder).voxels
        edit(files[::2], RescaleSlope="1", RescaleIntercept="0")
        np.testing.assert_array_equal(read_image(folder).voxels, plain)

    def test_a_rescale_in_some_frames(self, tmp_path):
        def drop(dataset):
            del dataset.PerFrameFunctionalGroupsSequence[2].PixelValueTransformationSequence

        write_enhanced(small_volume(), tmp_path / "enhanced.dcm", slopes=[2.0] * 8)
        edit(tmp_path / "enhanced.dcm", drop)
        assert reason(read_image, tmp_path) == "mixed-rescale"

    def test_a_rescale_at_the_top_of_a_multi_frame_object(self, tmp_path):
        def drop(dataset):
            for group in dataset.PerFrameFunctionalGroupsSequence:
                del group.PixelValueTransformationSequence

        write_enhanced(small_volume(), tmp_path / "enhanced.dcm")
        edit(tmp_path / "enhanced.dcm", drop, RescaleSlope="2", RescaleIntercept="0")
        assert reason(read_image, tmp_path) == "bad-rescale"

    @pytest.mark.parametrize("keyword", ["PlanePositionSequence", "PixelValueTransformationSequence"])
    def test_a_frame_that_is_described_twice(self, tmp_path, keyword):
        def twice(dataset):
            groups = dataset.PerFrameFunctionalGroupsSequence
            groups[2][keyword].value.append(groups[3][keyword].value[0])

        write_enhanced(small_volume(), tmp_path / "enhanced.dcm", slopes=range(1, 9))
        edit(tmp_path / "enhanced.dcm", twice)
        error = refusal(read_image, tmp_path)
        assert error.reason == "ambiguous-frames"
        assert keyword in error.got

    @pytest.mark.parametrize("half", [{"RescaleSlope": "2"}, {"RescaleIntercept": "-1024"}])
    @pytest.mark.parametrize("which", [slice(None), slice(2, 3)], ids=["everywhere", "in one slice"])
    def test_half_a_rescale(self, files, folder, half, which):
        edit(files[which], **half)
        assert reason(read_image, folder) == "bad-rescale"

    @pytest.mark.parametrize("keyword", ["RescaleType", "Units"])
    def test_values_in_two_units(self, files, folder, keyword):
        edit(files, RescaleSlope="1", RescaleIntercept="0")
        edit(files[::2], lambda dataset: setattr(dataset, keyword, "HU"))
        assert read_image(folder).grid.shape[2] == 8  # one unit that not every image states
        edit(files[1::2], lambda dataset: setattr(dataset, keyword, "US"))
        assert reason(read_image, folder) == "mixed-rescale"

    @pytest.mark.parametrize(
        ("keyword", "values", "said"),
        [
            ("DiffusionBValue", (0.0, 800.0), "2 values of b-value"),
            ("EchoNumbers", ("1", "2"), "2 values of echo"),
            ("ImageType", (["ORIGINAL", "PRIMARY", "M_FFE"], ["ORIGINAL", "PRIMARY", "P_FFE"]), "magnitude and phase"),
        ],
    )
    def test_two_volumes_between_each_other(self, files, folder, keyword, values, said):
        edit(files[::2], **{keyword: values[0]})
        edit(files[1::2], **{keyword: values[0]})
        assert read_image(folder).grid.shape[2] == 8
        edit(files[1::2], **{keyword: values[1]})
        error = refusal(read_image, folder)
        assert error.reason == "mixed-contrast"
        assert said in error.got

    def test_images_of_two_kinds(self, files, folder):
        edit(files[::2], SOPClassUID="1.2.840.10008.5.1.4.1.1.2")
        error = refusal(read_image, folder)
        assert error.reason == "mixed-sop-class"
        assert "CT Image Storage and MR Image Storage" in error.got

    @pytest.mark.parametrize(
        "bits", [{"BitsStored": 12, "HighBit": 15}, {"BitsStored": 16, "HighBit": 11}], ids=["shifted", "cut"]
    )
    @pytest.mark.parametrize("which", [slice(None), slice(2, 3)], ids=["everywhere", "in one slice"])
    def test_a_high_bit_that_contradicts_the_bits_stored(self, files, folder, bits, which):
        edit(files[which], **bits)
        assert reason(read_image, folder) == "contradictory-pixels"
        assert describe(folder)["refused"]["reason"] == "contradictory-pixels"

    @pytest.mark.parametrize("signed", [0, 1], ids=["unsigned", "signed"])
    @pytest.mark.parametrize("syntax", [None, RLELossless], ids=["native", "RLE"])
    def test_values_that_need_more_bits_than_stated(self, files, folder, signed, syntax):
        values = np.full((10, 12), 5000, "<i2")
        values[0, 0] = -7 * signed

        def change(dataset):
            dataset.PixelData = values.tobytes()
            if syntax:
                dataset.compress(syntax, generate_instance_uid=False)
            dataset.BitsStored, dataset.HighBit = 12, 11

        edit(files, PixelRepresentation=signed)
        edit(files[4], change)
        error = refusal(read_image, folder)
        assert error.reason == "contradictory-pixels"
        assert "119 stored values" in error.got

    @pytest.mark.parametrize("first", [0, -1000])
    def test_a_sign_bit_alone_may_be_a_positive_value(self, files, folder, first):
        values = np.zeros((10, 12), "<i2")
        values[0, :2] = first, 3000  # of 12 bits -1096
        edit(files[4], PixelData=values.tobytes(), BitsStored=12, HighBit=11)
        assert reason(read_image, folder) == "contradictory-pixels"

    def test_a_decoder_of_jpeg_gives_negative_values_without_their_sign_repeated(self):
        header = Dataset()
        header.BitsAllocated, header.BitsStored, header.file_meta = 16, 12, FileMetaDataset()
        header.file_meta.TransferSyntaxUID = JPEGLosslessSV1
        kept = within_stored_bits(np.array([0x0FFF, 0x07FF, 0x0800], "<i2"), header)
        assert kept.tolist() == [-1, 2047, -2048]
        with pytest.raises(InputRefused):
            within_stored_bits(np.array([0x1000], "<i2"), header)

    def test_signed_values_of_few_bits(self, files, folder):
        values = np.zeros((10, 12), "<i2")
        values[0, :3] = -2048, -1, 2047
        edit(files, PixelData=values.tobytes(), BitsStored=12, HighBit=11)
        assert read_image(folder).voxels[:4, 0, 0].tolist() == [-2048, -1, 2047, 0]

    def test_an_overlay_in_the_unused_bits_is_no_value(self, files, folder):
        plain = read_image(folder).voxels

        def draw(dataset):
            values = np.frombuffer(dataset.PixelData, "<u2") | 0x8000
            dataset.PixelData = values.tobytes()
            dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, 0
            dataset.add_new(0x60000100, "US", 16)
            dataset.add_new(0x60000102, "US", 15)

        edit(files, draw)
        np.testing.assert_array_equal(read_image(folder).voxels, plain)

    @pytest.mark.parametrize("size", [{"Rows": 9}, {"Columns": 11}, {"Rows": 5}, {"BitsAllocated": 8}], ids=str)
    def test_more_pixels_than_the_header_says(self, files, folder, size):
        edit(files, **size, **({"BitsStored": 8, "HighBit": 7} if "BitsAllocated" in size else {}))
        error = refusal(read_image, folder)
        assert error.reason == "contradictory-pixels"
        assert "bytes more" in error.got

    @pytest.mark.parametrize("lost", [2, 100, 240])
    def test_a_file_that_was_cut_within_its_pixels(self, files, folder, lost):
        files[3].write_bytes(files[3].read_bytes()[:-lost])
        error = refusal(read_image, folder)
        assert error.reason == "undecodable-pixels"
        assert f"slice 4 of 8 ('{files[3].name}')" in error.got
        assert (f"end after {240 - lost} of 240 bytes" if lost < 240 else "no whole PixelData") in error.got

    @pytest.mark.parametrize("keyword", ["PixelRepresentation", "BitsStored", "BitsAllocated", "SamplesPerPixel"])
    def test_what_decoders_need_is_named(self, files, folder, keyword):
        edit(files[3], **{keyword: None})
        error = refusal(read_image, folder)
        assert error.reason == "undecodable-pixels"
        assert f"the file has no {keyword})" in error.got

    def test_bits_at_another_place_are_named(self, files, folder):
        edit(files[:2], HighBit=3)
        assert "High Bit is 3 and Bits Stored is 16 in 2 of 8 images" in refusal(read_image, folder).got

    def test_a_little_padding_behind_the_pixels(self, files, folder):
        plain = read_image(folder).voxels
        edit(files, lambda dataset: setattr(dataset, "PixelData", dataset.PixelData + b"\0" * 6))
        np.testing.assert_array_equal(read_image(folder).voxels, plain)

    @pytest.mark.parametrize("modality", ["CT", "PT"])
    def test_a_ct_without_a_rescale_says_so(self, files, folder, modality):
        edit(files, Modality=modality)
        assert "stored values" in read_image(folder).notes["rescale"]

    @pytest.mark.parametrize(("keyword", "value"), [("SeriesNumber", 7), ("Modality", "CT")])
    def test_two_series_between_each_other_under_one_uid(self, files, folder, keyword, value):
        edit(files[::2], **{keyword: value})
        assert reason(read_image, folder) == "mixed-series"
        edit(files, SeriesInstanceUID=None)
        assert reason(read_image, folder, as_files=True) == "mixed-series"

    @pytest.mark.parametrize("lost", [0, 1], ids=["as many images", "one image less"])
    def test_two_series_between_each_other_that_count_their_images_alike(self, files, folder, lost):
        for k, file in enumerate(files):
            edit(file, InstanceNumber=k // 2 + 1)
        for file in files[len(files) - lost :]:
            file.unlink()
        error = refusal(read_image, folder)
        assert error.reason == "mixed-series"
        assert f"{8 - lost} images of the series share 4 instance numbers" in error.got

    @pytest.mark.parametrize(
        "numbers", [[1] * 8, [None] * 8, [None, 1, 1, 2, 2, 3, 3, 3], [1, 2, 3, 4, 5, 6, 7, 7]], ids=str
    )
    def test_instance_numbers_that_tell_no_two_series_apart(self, files, folder, numbers):
        for file, n in zip(files, numbers, strict=True):
            edit(file, InstanceNumber=n)
        assert read_image(folder).grid.shape == (12, 10, 8)


class TestStreams:
    """Compressed pixels are what the header says."""

    @pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless], ids=["JPEG-LS", "JPEG 2000"])
    @pytest.mark.parametrize(
        "said",
        [{"Rows": 64, "Columns": 48}, {"Columns": 63}, {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}],
        ids=["rows and columns swapped", "a column less", "half of the bits"],
    )
    def test_a_stream_that_is_not_what_the_header_says(self, tmp_path, syntax, said):
        files = write_dicom_series(small_volume(shape=(64, 48, 4)), tmp_path)
        edit(files, lambda dataset: dataset.compress(syntax, generate_instance_uid=False))
        edit(files, **said)
        error = refusal(read_image, tmp_path)
        assert error.reason == "contradictory-pixels"
        assert "64 x 48 pixels of 16 bits" in error.got

    def test_a_decoder_that_breaks_off(self, files, folder):
        def narrow(dataset):
            dataset.compress(RLELossless, generate_instance_uid=False)
            dataset.Columns = 11

        edit(files, narrow)
        assert reason(read_image, folder) == "undecodable-pixels"

    def test_fewer_streams_than_frames(self, tmp_path):
        def lose(dataset):
            dataset.compress(RLELossless, generate_instance_uid=False)
            dataset.PixelData = encapsulate(list(generate_frames(dataset.PixelData, number_of_frames=8))[:-1])

        write_enhanced(small_volume(), tmp_path / "enhanced.dcm")
        edit(tmp_path / "enhanced.dcm", lose)
        assert reason(read_image, tmp_path) == "undecodable-pixels"


class TestParts:
    """A part that looks whole."""

    MARKS = (
        {"ConcatenationUID": "1.2.3.4", "InConcatenationNumber": 1, "InConcatenationTotalNumber": 2},
        {"ConcatenationUID": "1.2.3.4"},
        {"InConcatenationNumber": 2, "ConcatenationFrameOffsetNumber": 8},
        {"ConcatenationFrameOffsetNumber": 8},
    )

    @pytest.mark.parametrize("marks", MARKS, ids=["part 1 of 2", "the UID alone", "no UID", "the offset alone"])
    def test_one_part_of_a_concatenation(self, tmp_path, marks):
        write_enhanced(small_volume(), tmp_path / "enhanced.dcm")
        edit(tmp_path / "enhanced.dcm", **marks)
        assert reason(read_image, tmp_path) == "concatenation"
        assert reason(read_image, tmp_path, as_files=True) == "concatenation"

    def test_all_parts_of_a_concatenation(self, tmp_path):
        for n in (1, 2):
            write_enhanced(small_volume(), tmp_path / f"{n}.dcm")
            marks = {"ConcatenationUID": "1.2.3.4", "InConcatenationNumber": n, "InConcatenationTotalNumber": 2}
            edit(tmp_path / f"{n}.dcm", SeriesInstanceUID="1.2.3", **marks)
        error = refusal(read_image, tmp_path)
        assert error.reason == "concatenation"
        assert "2 parts of a concatenation of 2 parts" in error.got

    def test_a_concatenation_of_one_part_is_whole(self, tmp_path):
        write_enhanced(small_volume(), tmp_path / "enhanced.dcm")
        edit(tmp_path / "enhanced.dcm", ConcatenationUID="1.2.3", InConcatenationTotalNumber=1)
        assert read_image(tmp_path).grid.shape == (12, 10, 8)

    @pytest.mark.parametrize("cut", [132, "data set"], ids=["preamble and prefix", "file meta too"])
    def test_one_image_without_the_prefix(self, files, folder, cut):
        # The last slice: without it the rest would pass.
        whole = files[-1].read_bytes()
        files[-1].write_bytes(whole[132:] if cut == 132 else whole[whole.index(b"\x08\x00\x05\x00") :])
        error = refusal(read_image, folder)
        assert error.reason == "unreadable-file"
        assert f"'{files[-1].name}'" in error.got
