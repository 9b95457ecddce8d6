"""No reader takes a file that is damaged, cut, or longer than its header says."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
import zlib
from typing import ClassVar

import nibabel
import numpy as np
import PIL.Image
import pytest
import SimpleITK
from pydicom.uid import UID

from samreg.errors import InputRefused
from samreg.io import describe, read_image
from samreg.transforms import read_transform
from tests.dicom_series import edit, write_small
from tests.unit.test_io_units import SHAPE, VOXELS, write_meta, write_nrrd

RAW = VOXELS.tobytes("F")


def reason(path, **options) -> str:
    with pytest.raises(InputRefused) as caught:
        read_image(path, **options)
    assert caught.value.expected
    assert caught.value.next_step
    return caught.value.reason


def save(path, voxels=VOXELS) -> None:
    """A file that its own library writes."""
    if ".nii" in path.name:
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), path)
    else:
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(voxels.T), str(path), "packed" in path.name)


def silently_damaged(whole: bytes, start: int, wbits: int) -> bytes:
    """A compressed file with one bit changed that inflates without an error to other data; only a checksum tells."""
    right = zlib.decompressobj(wbits).decompress(whole[start:])
    for at in range(len(whole) - 10, start, -1):
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        try:
            # Without the checksum, which zlib would look at.
            got = zlib.decompressobj(wbits).decompress(bytes(damaged[start : -8 if wbits == 31 else -4]))
        except zlib.error:
            continue
        if len(got) == len(right) and got != right:
            return bytes(damaged)
    raise AssertionError("no bit that does it")


FILES = ["a.nii", "a.nii.gz", "a.nrrd", "packed.nrrd", "a.mha", "packed.mha", "a.nhdr", "a.mhd", "packed.mhd"]


@pytest.mark.parametrize("name", FILES)
class TestWrittenByLibraries:
    def test_whole(self, tmp_path, name):
        for dtype in (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.float32, np.float64):
            voxels = np.arange(24).reshape(SHAPE).astype(dtype)
            save(tmp_path / name, voxels)
            np.testing.assert_array_equal(read_image(tmp_path / name).voxels, voxels)

    def test_voxels_are_the_readers_own(self, tmp_path, name):
        save(tmp_path / name, np.ones((5, 1, 1), np.float32))
        read_image(tmp_path / name).voxels[:] = 2
        assert read_image(tmp_path / name).voxels.max() == 1

    @pytest.mark.parametrize("change", ["one byte less", "much less", "one byte more", "much more"])
    def test_cut_or_too_long(self, tmp_path, name, change):
        save(tmp_path / name)
        path = next((p for p in tmp_path.iterdir() if "raw" in p.suffix), tmp_path / name)  # the data beside a header
        whole = path.read_bytes()
        changed = {
            "one byte less": whole[:-1],
            "much less": whole[:-12],
            "one byte more": whole + b"\1",
            "much more": whole + bytes(range(1, 200)),
        }
        path.write_bytes(changed[change])
        assert reason(tmp_path / name) == "unreadable-file"


class TestChecksums:
    def test_gzip_of_nifti(self, tmp_path):
        noise = np.random.default_rng(0).integers(-500, 500, (12, 11, 10)).astype(np.int16)
        save(tmp_path / "a.nii.gz", noise)
        whole = (tmp_path / "a.nii.gz").read_bytes()
        (tmp_path / "a.nii.gz").write_bytes(silently_damaged(whole, 0, 31))
        assert reason(tmp_path / "a.nii.gz") == "unreadable-file"
        for tail in (b"\0" * 8, whole[-8:-4] + b"\1\0\0\0"):  # a wrong checksum, a wrong length
            (tmp_path / "a.nii.gz").write_bytes(whole[:-8] + tail)
            assert reason(tmp_path / "a.nii.gz") == "unreadable-file"

    def test_gzip_of_nrrd(self, tmp_path):
        noise = np.random.default_rng(0).integers(-500, 500, (12, 11, 10)).astype(np.int16)
        save(tmp_path / "packed.nrrd", noise)
        whole = (tmp_path / "packed.nrrd").read_bytes()
        (tmp_path / "packed.nrrd").write_bytes(silently_damaged(whole, whole.index(b"\n\n") + 2, 31))
        assert reason(tmp_path / "packed.nrrd") == "unreadable-file"

    def test_zlib_of_metaimage(self, tmp_path):
        noise = np.random.default_rng(0).integers(-500, 500, (12, 11, 10)).astype(np.int16)
        save(tmp_path / "packed.mha", noise)
        whole = (tmp_path / "packed.mha").read_bytes()
        start = whole.index(b"LOCAL\n") + 6
        (tmp_path / "packed.mha").write_bytes(silently_damaged(whole, start, 15))
        assert reason(tmp_path / "packed.mha") == "unreadable-file"

    def test_a_file_in_two_gzip_members_is_whole(self, tmp_path):
        save(tmp_path / "a.nii")
        whole = (tmp_path / "a.nii").read_bytes()
        (tmp_path / "b.nii.gz").write_bytes(gzip.compress(whole[:370]) + gzip.compress(whole[370:]))
        np.testing.assert_array_equal(read_image(tmp_path / "b.nii.gz").voxels, VOXELS)

    def test_the_next_step_says_what_is_wrong(self, tmp_path):
        save(tmp_path / "a.nii")
        (tmp_path / "a.nii").write_bytes((tmp_path / "a.nii").read_bytes()[:-4])
        with pytest.raises(InputRefused, match="44 of 48 bytes"):
            read_image(tmp_path / "a.nii")


class TestNifti:
    @pytest.mark.parametrize("offset", [0, 100, 348])
    @pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
    def test_an_offset_within_the_header(self, tmp_path, name, offset):
        image = nibabel.Nifti1Image(VOXELS, np.eye(4))
        raw = bytearray(image.to_bytes())
        raw[108:112] = np.float32(offset).tobytes()
        (tmp_path / name).write_bytes(gzip.compress(bytes(raw)) if name.endswith("gz") else bytes(raw))
        assert reason(tmp_path / name) == "unreadable-file"
        assert describe(tmp_path / name)["refused"]["reason"] == "unreadable-file"

    def test_an_offset_behind_an_extension(self, tmp_path):
        image = nibabel.Nifti1Image(VOXELS, np.eye(4))
        image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"a" * 100))
        nibabel.save(image, tmp_path / "a.nii")
        np.testing.assert_array_equal(read_image(tmp_path / "a.nii").voxels, VOXELS)

    @pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
    def test_a_header_that_claims_gigabytes_of_a_small_file(self, tmp_path, name):
        raw = bytearray(nibabel.Nifti1Image(VOXELS.astype(np.float64), np.eye(4)).to_bytes())
        raw[42:48] = np.array([800, 800, 800], "<i2").tobytes()
        (tmp_path / name).write_bytes(gzip.compress(bytes(raw)) if name.endswith("gz") else bytes(raw))
        tracemalloc.start()
        try:
            assert reason(tmp_path / name) == "unreadable-file"
            assert tracemalloc.get_traced_memory()[1] < 2**26
        finally:
            tracemalloc.stop()

    def test_a_qform_that_is_no_rotation_beside_a_sform(self, tmp_path):
        image = nibabel.Nifti1Image(VOXELS, np.eye(4))
        image.set_qform(np.eye(4), code=1)
        raw = bytearray(image.to_bytes())
        raw[256:260] = np.float32(7).tobytes()
        (tmp_path / "a.nii").write_bytes(bytes(raw))
        assert "sform was used" in read_image(tmp_path / "a.nii").notes["orientation"]

    def test_nifti_2(self, tmp_path):
        nibabel.save(nibabel.Nifti2Image(VOXELS, np.eye(4)), tmp_path / "a.nii")
        np.testing.assert_array_equal(read_image(tmp_path / "a.nii").voxels, VOXELS)

    @pytest.mark.parametrize(("at", "new"), [(70, b"\5\0"), (72, b"\7\0"), (40, b"\0\x20"), (344, b"n+9\0")])
    def test_headers_that_nibabel_does_not_take(self, tmp_path, at, new):
        raw = bytearray(nibabel.Nifti1Image(VOXELS, np.eye(4)).to_bytes())
        raw[at : at + len(new)] = new
        (tmp_path / "a.nii").write_bytes(bytes(raw))
        if at == 72:  # bits of a voxel, which the type tells as well
            assert read_image(tmp_path / "a.nii").grid.shape == SHAPE
        else:
            assert reason(tmp_path / "a.nii") == "unreadable-file"


class TestDataBesideAndWithinHeaders:
    """The forms in which NRRD and MetaImage files keep their voxels."""

    def nrrd(self, path, data: bytes, *fields: str) -> None:
        drop = ("encoding",) if any(f.startswith("encoding") for f in fields) else ()
        write_nrrd(path, *fields, drop=drop)
        path.write_bytes(path.read_bytes()[: -len(RAW)] + data)

    @pytest.mark.parametrize(
        ("encoding", "data"),
        [
            ("raw", RAW),
            ("gzip", gzip.compress(RAW, mtime=0)),
            ("gz", gzip.compress(RAW, mtime=0)),
            ("ascii", " ".join(map(str, VOXELS.ravel("F"))).encode()),
            ("hex", RAW.hex().encode()),
        ],
        ids=["raw", "gzip", "gz", "ascii", "hex"],
    )
    def test_encodings_of_nrrd(self, tmp_path, encoding, data):
        self.nrrd(tmp_path / "a.nrrd", data, f"encoding: {encoding}")
        np.testing.assert_array_equal(read_image(tmp_path / "a.nrrd").voxels, VOXELS)
        self.nrrd(tmp_path / "a.nrrd", data[:-3], f"encoding: {encoding}")
        assert reason(tmp_path / "a.nrrd") == "unreadable-file"
        more = data + (b" 7 8" if encoding in ("ascii", "hex") else b"\7\7")
        self.nrrd(tmp_path / "a.nrrd", more, f"encoding: {encoding}")
        assert reason(tmp_path / "a.nrrd") == "unreadable-file"

    def test_an_encoding_that_is_not_read(self, tmp_path):
        self.nrrd(tmp_path / "a.nrrd", RAW, "encoding: bzip2")
        with pytest.raises(InputRefused, match=r"bzip2.*gzip"):
            read_image(tmp_path / "a.nrrd")

    def test_bytes_and_lines_that_nrrd_skips(self, tmp_path):
        self.nrrd(tmp_path / "a.nrrd", b"one\ntwo\nxyz" + RAW, "line skip: 2", "byte skip: 3")
        np.testing.assert_array_equal(read_image(tmp_path / "a.nrrd").voxels, VOXELS)
        (tmp_path / "data.raw").write_bytes(b"any header" + RAW)
        self.nrrd(tmp_path / "b.nhdr", b"", "byte skip: -1", "data file: data.raw")
        np.testing.assert_array_equal(read_image(tmp_path / "b.nhdr").voxels, VOXELS)
        (tmp_path / "data.raw").write_bytes(RAW[1:])
        assert reason(tmp_path / "b.nhdr") == "unreadable-file"

    def test_high_bytes_first(self, tmp_path):
        write_nrrd(tmp_path / "a.nrrd", "endian: big", drop=("endian",))
        write_meta(tmp_path / "a.mha", BinaryDataByteOrderMSB="True")
        for name in ("a.nrrd", "a.mha"):
            np.testing.assert_array_equal(read_image(tmp_path / name).voxels, VOXELS.byteswap())

    @pytest.mark.parametrize("listed", ["LIST\ns1.raw\ns2.raw", "s%d.raw 1 2 1"])
    def test_a_file_for_each_slice(self, tmp_path, listed):
        half = len(RAW) // 2
        (tmp_path / "s1.raw").write_bytes(RAW[:half])
        (tmp_path / "s2.raw").write_bytes(RAW[half:])
        self.nrrd(tmp_path / "a.nhdr", b"", "encoding: raw", f"data file: {listed}")
        (tmp_path / "a.nhdr").write_bytes((tmp_path / "a.nhdr").read_bytes().rstrip() + b"\n")  # no name but these
        write_meta(tmp_path / "a.mhd")
        header = (tmp_path / "a.mhd").read_bytes()[: -len(RAW)].decode()
        (tmp_path / "a.mhd").write_text(header.replace("LOCAL", listed))
        for name in ("a.nhdr", "a.mhd"):
            np.testing.assert_array_equal(read_image(tmp_path / name).voxels, VOXELS)
        for data in (RAW[half:-1], RAW[half:] + b"\1"):
            (tmp_path / "s2.raw").write_bytes(data)
            assert {reason(tmp_path / name) for name in ("a.nhdr", "a.mhd")} == {"unreadable-file"}
        (tmp_path / "s2.raw").unlink()
        assert {reason(tmp_path / name) for name in ("a.nhdr", "a.mhd")} == {"unreadable-file"}

    @pytest.mark.parametrize("listed", ["LIST\n../s1.raw", "../s%d.raw 1 2 1"])
    def test_slices_outside_the_folder(self, tmp_path, listed):
        self.nrrd(tmp_path / "a.nhdr", b"", f"data file: {listed}")
        assert reason(tmp_path / "a.nhdr") == "outside-folder"

    @pytest.mark.parametrize(
        "listed", ["s%99d.raw 1 2 1", "s%s.raw 1 2 1", "100%.raw", "s%d.raw 1 2 0", "s%d.raw 1 x 1"]
    )
    def test_patterns_of_names_that_are_none(self, tmp_path, listed):
        self.nrrd(tmp_path / "a.nhdr", b"", f"data file: {listed}")  # ITK writes beyond its buffer at the first
        assert reason(tmp_path / "a.nhdr") == "unreadable-file"

    @pytest.mark.parametrize("skip", ["byte skip: -5", "byte skip: many", "line skip: 99", "byte skip: 1"])
    def test_skips_that_leave_other_data(self, tmp_path, skip):
        self.nrrd(tmp_path / "a.nrrd", RAW, skip)
        assert reason(tmp_path / "a.nrrd") == "unreadable-file"

    def test_header_size_of_metaimage(self, tmp_path):
        write_meta(tmp_path / "a.mha", HeaderSize="4")  # from the start of the file: its own header
        assert reason(tmp_path / "a.mha") == "unreadable-file"
        write_meta(tmp_path / "a.mha", HeaderSize="-1")
        np.testing.assert_array_equal(read_image(tmp_path / "a.mha").voxels, VOXELS)

    def test_text_of_metaimage(self, tmp_path):
        write_meta(tmp_path / "a.mha", BinaryData="False")
        header = (tmp_path / "a.mha").read_bytes()[: -len(RAW)]
        numbers = " ".join(map(str, VOXELS.ravel("F"))).encode()
        (tmp_path / "a.mha").write_bytes(header + numbers)
        np.testing.assert_array_equal(read_image(tmp_path / "a.mha").voxels, VOXELS)
        (tmp_path / "a.mha").write_bytes(header + numbers + b" 5")
        assert reason(tmp_path / "a.mha") == "unreadable-file"


class TestHeadersThatEndTheProcessInITK:
    long = "A" * 5000

    @pytest.mark.parametrize(
        "field", [f"endian: {long}", f"sizes: 4 3 {long}", f"space directions: (8,0,0) {long}", long]
    )
    def test_nrrd(self, tmp_path, field):
        write_nrrd(tmp_path / "a.nrrd", field, drop=(field.split(":")[0],))
        assert reason(tmp_path / "a.nrrd") == "unreadable-file"
        assert len(describe(tmp_path / "a.nrrd")["refused"]["got"]) < 200

    @pytest.mark.parametrize("n", ["-1", "1e300", "99999999999999999999", ""])
    def test_metaimage(self, tmp_path, n):
        write_meta(tmp_path / "a.mha", NDims=n)
        assert reason(tmp_path / "a.mha") == "unreadable-file"

    @pytest.mark.parametrize("name", ["Offset", "ElementSpacing", "TransformMatrix", "DimSize", "CenterOfRotation"])
    @pytest.mark.parametrize("count", [1, 2, 4, 8, 10])
    def test_too_few_or_too_many_numbers_of_metaimage(self, tmp_path, name, count):
        write_meta(tmp_path / "a.mha", **{name: " ".join(["4", "3", "2", *["1"] * 9][:count])})
        assert reason(tmp_path / "a.mha") == "unreadable-file"

    def test_a_field_stated_twice(self, tmp_path):
        write_meta(tmp_path / "a.mha")
        whole = (tmp_path / "a.mha").read_bytes()
        (tmp_path / "a.mha").write_bytes(b"ElementSpacing = 1 1 1\n" + whole)
        assert reason(tmp_path / "a.mha") == "unreadable-file"

    def test_long_texts_of_programs_are_read(self, tmp_path):
        write_nrrd(tmp_path / "a.nrrd", f"Segment0_Terminology:={self.long}", f"# {self.long}")
        np.testing.assert_array_equal(read_image(tmp_path / "a.nrrd").voxels, VOXELS)


class TestPictures:
    noise = np.random.default_rng(0).integers(0, 255, (40, 50)).astype(np.uint8)
    KINDS: ClassVar[dict[str, dict[str, str]]] = {
        "a.png": {},
        "a.jpg": {},
        "raw.tif": {},
        "lzw.tif": {"compression": "tiff_lzw"},
        "deflate.tif": {"compression": "tiff_adobe_deflate"},
    }

    def save(self, path) -> bytes:
        PIL.Image.fromarray(self.noise).save(path, **self.KINDS[path.name])
        assert read_image(path, pixel_spacing_mm=(1, 1)).grid.shape == (50, 40, 1)
        return path.read_bytes()

    @pytest.mark.parametrize("name", KINDS)
    @pytest.mark.parametrize("lost", [6, 10, 20, 300, 1200])
    def test_cut(self, tmp_path, name, lost):
        whole = self.save(tmp_path / name)
        (tmp_path / name).write_bytes(whole[:-lost])
        assert reason(tmp_path / name, pixel_spacing_mm=(1, 1)) == "unreadable-file"

    @pytest.mark.parametrize("name", ["a.png", "deflate.tif"])
    def test_damage_where_a_checksum_tells(self, tmp_path, name):
        whole = self.save(tmp_path / name)
        for place in range(len(whole) // 4, len(whole) // 2, 31):
            damaged = bytearray(whole)
            damaged[place] ^= 0x10
            (tmp_path / name).write_bytes(bytes(damaged))
            assert reason(tmp_path / name, pixel_spacing_mm=(1, 1)) == "unreadable-file"

    def test_pixels_of_a_png_that_were_damaged_before_their_chunk_was_closed(self, tmp_path):
        whole = self.save(tmp_path / "a.png")
        at = whole.index(b"IDAT")
        length = int.from_bytes(whole[at - 4 : at], "big")
        for pixels in (whole[at + 4 : at + length] + b"\1\1\1\1", whole[at + 4 : at + length + 2]):
            chunk = b"IDAT" + pixels  # with a checksum of its own that is right
            chunk = len(pixels).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
            (tmp_path / "a.png").write_bytes(whole[: at - 4] + chunk + whole[at + length + 8 :])
            assert reason(tmp_path / "a.png", pixel_spacing_mm=(1, 1)) == "unreadable-file"

    @pytest.mark.parametrize("name", ["raw.tif", "deflate.tif"])
    @pytest.mark.parametrize(
        ("tag", "number"), [(256, 2), (256, 49), (256, 51), (257, 2), (257, 38), (257, 4000), (258, 16)]
    )
    def test_a_size_of_a_tiff_that_its_pixels_contradict(self, tmp_path, name, tag, number):
        whole = bytearray(self.save(tmp_path / name))
        (start,) = struct.unpack_from("<I", whole, 4)
        entry = next(at for at in range(start + 2, len(whole), 12) if struct.unpack_from("<H", whole, at) == (tag,))
        struct.pack_into("<HII", whole, entry + 2, 4, 1, number)
        (tmp_path / name).write_bytes(bytes(whole))
        assert reason(tmp_path / name, pixel_spacing_mm=(1, 1)) in ("unreadable-file", "size-limit")

    @pytest.mark.parametrize("mode", ["1", "L", "I;16", "F", "RGB", "RGBA", "P", "LA", "CMYK"])
    @pytest.mark.parametrize("compression", [None, "tiff_adobe_deflate", "tiff_lzw", "packbits"])
    def test_tiffs_of_every_kind_are_whole(self, tmp_path, mode, compression):
        noise = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 255, (701, 333)).astype(np.uint8))
        picture = noise.convert("I;16") if mode == "I;16" else noise.convert(mode)
        picture.save(tmp_path / "a.tif", compression=compression)
        assert read_image(tmp_path / "a.tif", pixel_spacing_mm=(1, 1)).grid.shape == (333, 701, 1)


class TestDisplacementFields:
    def save(self, path) -> bytes:
        vectors = np.random.default_rng(0).normal(size=(6, 5, 4, 1, 3)).astype(np.float32)
        image = nibabel.Nifti1Image(vectors, np.eye(4))
        image.header.set_intent(1007)
        nibabel.save(image, path)
        return path.read_bytes()

    def reason(self, path) -> str:
        with pytest.raises(InputRefused) as caught:
            read_transform(path)
        return caught.value.reason

    def test_damaged_or_cut(self, tmp_path):
        path = tmp_path / "field.nii.gz"
        whole = self.save(path)
        assert read_transform(path).grid.shape == (6, 5, 4)
        for bad in (silently_damaged(whole, 0, 31), whole[:-1], whole[: len(whole) // 2], whole[:-8] + bytes(8)):
            path.write_bytes(bad)
            assert self.reason(path) == "transform-unreadable"
        path = tmp_path / "field.nii"
        whole = self.save(path)
        for bad in (whole[:-1], whole + b"\1", whole[:108] + bytes(4) + whole[112:]):
            path.write_bytes(bad)
            assert self.reason(path) == "transform-unreadable"

    def test_a_field_without_an_orientation(self, tmp_path):
        whole = self.save(tmp_path / "field.nii")
        (tmp_path / "field.nii").write_bytes(whole[:252] + bytes(4) + whole[256:])  # the codes of qform and sform
        assert self.reason(tmp_path / "field.nii") == "transform-unsupported"

    def test_a_field_that_a_qform_places_without_a_spacing(self, tmp_path):
        whole = self.save(tmp_path / "field.nii")
        by_qform = whole[:80] + bytes(4) + whole[84:252] + bytes([1, 0, 0, 0]) + whole[256:]  # pixdim[1], the codes
        (tmp_path / "field.nii").write_bytes(by_qform)
        assert self.reason(tmp_path / "field.nii") == "transform-unsupported"

    @pytest.mark.parametrize("code", [1, 3, 5])
    def test_a_field_in_another_unit(self, tmp_path, code):
        whole = self.save(tmp_path / "field.nii")
        (tmp_path / "field.nii").write_bytes(whole[:123] + bytes([code]) + whole[124:])
        assert self.reason(tmp_path / "field.nii") in ("transform-unsupported", "transform-unreadable")


PADDING = b"\xfc\xff\xfc\xffOB\0\0\4" + bytes(7)  # an element that may stand behind the pixels


class TestDicom:
    """Bytes that were put in anywhere in front shift the pixels: a stack with a sheared slice, or one that jumps."""

    @pytest.fixture
    def files(self, tmp_path):
        return write_small(tmp_path / "series")

    @pytest.mark.parametrize("count", [1, 2, 6, 40, 64, 500])
    def test_bytes_put_in_among_the_pixels(self, files, count):
        whole = files[3].read_bytes()
        files[3].write_bytes(whole[:-60] + whole[-60 - count : -60] + whole[-60:])
        assert reason(files[0].parent) == "contradictory-pixels"

    @pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80"], ids=["RLE", "JPEG-LS"])
    @pytest.mark.parametrize("change", [-15, -2, 2, 30])
    def test_compressed_pixels_that_lost_or_won_bytes(self, files, syntax, change):
        edit(files, lambda dataset: dataset.compress(UID(syntax), generate_instance_uid=False))
        assert read_image(files[0].parent).grid.shape[2] == len(files)
        whole = files[3].read_bytes()
        files[3].write_bytes(whole[: -60 - max(-change, 0)] + whole[-60 - max(change, 0) :])
        assert reason(files[0].parent) in ("undecodable-pixels", "contradictory-pixels")

    def test_a_transfer_as_text(self, files):
        files[3].write_bytes(files[3].read_bytes()[:-240] + b"\n" + b"\r\n" * 60 + b"\1" * 150)
        assert reason(files[0].parent) == "contradictory-pixels"

    @pytest.mark.parametrize(
        "rest", [b"", b"\0", bytes(8), bytes(333), b"\xfc\xff\xfc\xffOB\0\0\4" + bytes(7)], ids=len
    )
    def test_what_may_stand_behind_the_pixels(self, files, rest):
        for file in files:
            file.write_bytes(file.read_bytes() + rest)
        assert read_image(files[0].parent).grid.shape[2] == len(files)
