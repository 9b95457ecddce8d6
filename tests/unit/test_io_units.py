"""Lengths are read in the unit that the file states, places in the space that it states, or refused."""

from __future__ import annotations

import nibabel
import numpy as np
import PIL.Image
import pytest
import SimpleITK

from samreg.errors import InputRefused
from samreg.io import describe, read_image
from samreg.io.units import MM_PER_UNIT

SHAPE, SPACING, ORIGIN = (4, 3, 2), (8.0, 8.0, 12.0), (-92.0, -76.0, -90.0)
VOXELS = np.arange(24, dtype="<i2").reshape(SHAPE, order="F")
UNITS = [("mm", 1.0), ("um", 1e-3), ("microns", 1e-3), ("µm", 1e-3), ("cm", 10.0), ("m", 1e3), ("nm", 1e-6)]


def refusal(path, **options) -> InputRefused:
    with pytest.raises(InputRefused) as caught:
        read_image(path, **options)
    error = caught.value
    assert error.got
    assert error.expected
    assert error.next_step.endswith(".")
    assert describe(path, **options)["refused"] == error.as_dict()
    return error


def write_nrrd(path, *fields: str, space: str | None = "left-posterior-superior", mm: float = 1.0, drop=()) -> None:
    """A NRRD file of the image above, with its lengths in units of so many mm."""
    x, y, z = (s / mm for s in SPACING)
    header = {
        "type": "short",
        "dimension": "3",
        "space": space,
        "sizes": "4 3 2",
        "space directions": f"({x!r},0,0) (0,{y!r},0) (0,0,{z!r})",
        "endian": "little",
        "encoding": "raw",
        "space origin": f"({','.join(repr(o / mm) for o in ORIGIN)})",
    }
    lines = [f"{name}: {value}" for name, value in header.items() if value and name not in drop]
    path.write_bytes("\n".join(["NRRD0005", *lines, *fields, "", ""]).encode() + VOXELS.tobytes("F"))


def write_meta(path, *, mm: float = 1.0, **fields: str) -> None:
    """A MetaImage file of the image above, with its lengths in units of so many mm; an empty field is left out."""
    header = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": " ".join(repr(o / mm) for o in ORIGIN),
        "ElementSpacing": " ".join(repr(s / mm) for s in SPACING),
        "DimSize": "4 3 2",
        "ElementType": "MET_SHORT",
        **fields,
        "ElementDataFile": "LOCAL",
    }
    text = "".join(f"{name} = {value}\n" for name, value in header.items() if value)
    path.write_bytes(text.encode() + VOXELS.tobytes("F"))


def is_the_image(path) -> bool:
    read = read_image(path)
    np.testing.assert_array_equal(read.voxels, VOXELS)
    np.testing.assert_allclose(read.grid.spacing_mm, SPACING, rtol=1e-6)
    np.testing.assert_allclose(read.grid.origin_lps, ORIGIN, rtol=1e-6)
    np.testing.assert_allclose(describe(path)["spacing_mm"], SPACING, rtol=1e-6)
    return True


class TestUnits:
    @pytest.mark.parametrize(("unit", "mm"), UNITS)
    def test_space_units_of_nrrd(self, tmp_path, unit, mm):
        write_nrrd(tmp_path / "a.nrrd", f'space units: "{unit}" "{unit}" "{unit}"', mm=mm)
        assert is_the_image(tmp_path / "a.nrrd")
        assert ("units" in read_image(tmp_path / "a.nrrd").notes) == (mm != 1)

    @pytest.mark.parametrize(("unit", "mm"), UNITS)
    def test_distance_units_of_metaimage(self, tmp_path, unit, mm):
        write_meta(tmp_path / "a.mha", DistanceUnits=unit, mm=mm)
        assert is_the_image(tmp_path / "a.mha")

    def test_voxels_of_one_nanometre(self, tmp_path):
        directions = "space directions: (1,0,0) (0,1,0) (0,0,1)"
        write_nrrd(tmp_path / "a.nrrd", directions, 'space units: "nm" "nm" "nm"', drop=("space directions",))
        write_meta(tmp_path / "a.mha", ElementSpacing="1 1 1", DistanceUnits="nm")
        for name in ("a.nrrd", "a.mha"):
            np.testing.assert_allclose(read_image(tmp_path / name).grid.spacing_mm, 1e-6)

    def test_a_unit_for_each_axis(self, tmp_path):
        write_nrrd(tmp_path / "a.nrrd", 'space units: "mm" "mm" "cm"')
        read = read_image(tmp_path / "a.nrrd")
        np.testing.assert_allclose(read.grid.spacing_mm, [8, 8, 120])
        np.testing.assert_allclose(read.grid.origin_lps, [-92, -76, -900])

    def test_no_unit_is_mm(self, tmp_path):
        write_nrrd(tmp_path / "a.nrrd")
        write_nrrd(tmp_path / "b.nrrd", 'space units: "" "" ""')
        write_nrrd(tmp_path / "c.nrrd", "space units:=um um um")  # a key and its value, which are no field
        write_meta(tmp_path / "a.mha")
        write_nrrd(tmp_path / "d.nrrd", 'space units: "Unknown" "unknown" "???"')
        write_meta(tmp_path / "b.mha", DistanceUnits="?")
        write_meta(tmp_path / "c.mha", DistanceUnits="Unknown")
        assert all(is_the_image(path) for path in sorted(tmp_path.iterdir()))

    def test_names_of_nrrd_without_their_space_are_the_same_fields(self, tmp_path):
        plain = ("space directions", "space origin")
        spaced = ("space directions: (8000,0,0) (0,8000,0) (0,0,12000)", "space origin: (-92000,-76000,-90000)")
        fields = [f.replace("space ", "space").title() for f in spaced]  # their case does not count
        write_nrrd(tmp_path / "a.nrrd", *fields, 'spaceunits: "um" "um" "um"', "byteskip: -1", drop=plain)
        assert is_the_image(tmp_path / "a.nrrd")
        assert "origin" not in read_image(tmp_path / "a.nrrd").notes
        write_nrrd(tmp_path / "a.nrrd", "spaceorigin: 1,2,3", drop=("space origin",))
        assert "space origin" in refusal(tmp_path / "a.nrrd").got

    def test_a_field_of_nrrd_under_both_of_its_names(self, tmp_path):
        write_nrrd(tmp_path / "a.nrrd", 'space units: "mm" "mm" "mm"', 'spaceunits: "um" "um" "um"')
        error = refusal(tmp_path / "a.nrrd")
        assert error.reason == "unreadable-file"
        assert "'space units' twice" in error.got

    @pytest.mark.parametrize(("units", "count"), [('"mm" "mm"', 2), ('"mm" "mm" "mm" "mm"', 4), ("mm mm mm", 0)])
    def test_a_wrong_number_of_units(self, tmp_path, units, count):
        write_nrrd(tmp_path / "a.nrrd", f"space units: {units}")
        error = refusal(tmp_path / "a.nrrd")
        assert error.reason == "unreadable-file"
        assert f"{count} units in quotation marks ('space units') for the 3 axes" in error.got

    @pytest.mark.parametrize("unit", ["s", "pixel", "parsecs"])
    def test_no_unit_of_length(self, tmp_path, unit):
        write_nrrd(tmp_path / "a.nrrd", f'space units: "{unit}" "{unit}" "{unit}"')
        write_meta(tmp_path / "a.mha", DistanceUnits=unit)
        for name in ("a.nrrd", "a.mha"):
            error = refusal(tmp_path / name)
            assert error.reason == "unknown-unit"
            assert unit in error.got
            listed = error.expected.partition("(")[2].rstrip(")").split(", ")
            assert {MM_PER_UNIT[name] for name in listed} == set(MM_PER_UNIT.values())

    @pytest.mark.parametrize(("code", "mm"), [(0, 1.0), (1, 1e3), (2, 1.0), (3, 1e-3), (8 + 2, 1.0), (16 + 3, 1e-3)])
    def test_units_of_nifti(self, tmp_path, code, mm):
        image = nibabel.Nifti1Image(VOXELS, np.diag([-1 / mm, -1 / mm, 1 / mm, 1]) @ _affine())
        image.header["xyzt_units"] = code
        nibabel.save(image, tmp_path / "a.nii")
        assert is_the_image(tmp_path / "a.nii")

    @pytest.mark.parametrize("code", [4, 5, 6, 7, 8 + 5])
    def test_codes_that_nifti_does_not_know(self, tmp_path, code):
        image = nibabel.Nifti1Image(VOXELS, _affine())
        image.header["xyzt_units"] = code
        nibabel.save(image, tmp_path / "a.nii")
        assert refusal(tmp_path / "a.nii").reason == "unknown-unit"


class TestSpaces:
    @pytest.mark.parametrize(
        ("names", "signs"),
        [
            (("left-posterior-superior", "LPS", "lps", "Left-Posterior-Superior"), (1, 1, 1)),
            (("right-anterior-superior", "RAS", "ras"), (-1, -1, 1)),
            (("left-anterior-superior", "LAS"), (1, -1, 1)),
        ],
        ids=["LPS", "RAS", "LAS"],
    )
    def test_spaces_of_the_body(self, tmp_path, names, signs):
        for name in names:
            write_nrrd(tmp_path / "a.nrrd", space=name)
            far = read_image(tmp_path / "a.nrrd").grid.lps(np.array(SHAPE) - 1.0)
            np.testing.assert_allclose(far, (np.array([-68, -60, -78])) * signs)

    @pytest.mark.parametrize("space", ["3D-right-handed", "3D-left-handed", "scanner-xyz", "LPI", "RAST", "none"])
    def test_spaces_that_say_nothing_of_the_body(self, tmp_path, space):
        write_nrrd(tmp_path / "a.nrrd", space=space)
        error = refusal(tmp_path / "a.nrrd")
        assert error.reason == "no-orientation"
        assert space in error.got
        assert "left-posterior-superior" in error.expected

    def test_a_space_with_time_is_not_turned_by_itk(self, tmp_path):
        directions = "space directions: (8,0,0,0) (0,8,0,0) (0,0,12,0) (0,0,0,1)"
        more = ("dimension: 4", "sizes: 4 3 2 1", directions, "space origin: (1,2,3,0)")
        drop = ("dimension", "sizes", "space directions", "space origin")
        write_nrrd(tmp_path / "a.nrrd", *more, space="right-anterior-superior-time", drop=drop)
        text = (tmp_path / "a.nrrd").read_bytes()
        space = b"space: right-anterior-superior-time\n"
        (tmp_path / "a.nrrd").write_bytes(
            text.replace(space, b"").replace(b"dimension: 4\n", b"dimension: 4\n" + space)
        )
        assert refusal(tmp_path / "a.nrrd").reason == "no-orientation"

    def test_what_itk_would_take_for_granted(self, tmp_path):
        write_nrrd(tmp_path / "a.nrrd", drop=("space directions",))
        assert refusal(tmp_path / "a.nrrd").reason == "no-spacing"
        write_meta(tmp_path / "a.mha", TransformMatrix="", AnatomicalOrientation="LPI")
        assert refusal(tmp_path / "a.mha").reason == "no-orientation"
        write_meta(tmp_path / "a.mha", ElementSpacing="", elementspacing="8 8 12")  # names with another case
        assert refusal(tmp_path / "a.mha").reason == "no-spacing"

    def test_what_is_taken_for_granted_is_said(self, tmp_path):
        write_nrrd(tmp_path / "a.nrrd", drop=("space origin",))
        write_meta(tmp_path / "a.mha", TransformMatrix="", Offset="")
        for name in ("a.nrrd", "a.mha"):
            assert "0 0 0" in read_image(tmp_path / name).notes["origin"]
        assert "TransformMatrix" in read_image(tmp_path / "a.mha").notes["orientation"]

    def test_an_orientation_that_the_matrix_contradicts_is_said(self, tmp_path):
        write_meta(tmp_path / "a.mha", AnatomicalOrientation="RAI")
        assert "orientation" not in read_image(tmp_path / "a.mha").notes
        write_meta(tmp_path / "a.mha", AnatomicalOrientation="LPI")
        assert "LPI" in read_image(tmp_path / "a.mha").notes["orientation"]
        assert is_the_image(tmp_path / "a.mha")

    @pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (1, -1, -1), (-1, -1, -1)])
    def test_the_orientations_that_itk_writes_contradict_nothing(self, tmp_path, flips):
        image = SimpleITK.GetImageFromArray(VOXELS.T)
        image.SetDirection(np.diag(flips).astype(float).ravel().tolist())
        for axes in ((0, 1, 2), (2, 0, 1), (1, 0, 2)):
            SimpleITK.WriteImage(SimpleITK.PermuteAxes(image, axes), str(tmp_path / "a.mha"))
            assert read_image(tmp_path / "a.mha").notes == {}

    @pytest.mark.parametrize("spacing", ["0 1 1", "-1 1 1"])
    def test_spacings_that_are_no_lengths(self, tmp_path, spacing):
        write_meta(tmp_path / "a.mha", ElementSpacing=spacing)
        assert refusal(tmp_path / "a.mha").reason == "no-spacing"

    def test_the_matrix_of_metaimage_under_each_of_its_names(self, tmp_path):
        for name in ("TransformMatrix", "Rotation", "Orientation"):
            write_meta(tmp_path / "a.mha", **{"TransformMatrix": "", name: "0 1 0 1 0 0 0 0 1"})
            read = read_image(tmp_path / "a.mha")
            np.testing.assert_allclose(read.grid.direction, [[0, 1, 0], [1, 0, 0], [0, 0, 1]])

    def test_intensities_of_metaimage_are_scaled_as_it_says(self, tmp_path):
        scale = {"ElementToIntensityFunctionSlope": "2", "ElementToIntensityFunctionOffset": "-1024"}
        write_meta(tmp_path / "a.mha", **scale)
        read = read_image(tmp_path / "a.mha")
        np.testing.assert_array_equal(read.voxels, VOXELS * 2.0 - 1024)
        assert "intensities" in read.notes
        for slope in ("0", "nan", "steep"):
            write_meta(tmp_path / "a.mha", ElementToIntensityFunctionSlope=slope)
            with pytest.raises(InputRefused):
                read_image(tmp_path / "a.mha")

    def test_an_order_of_bytes_that_is_taken_for_granted_is_said(self, tmp_path):
        write_meta(tmp_path / "a.mha", BinaryDataByteOrderMSB="")
        assert "byte" in read_image(tmp_path / "a.mha").notes["byte_order"]


class TestPictures:
    grey = np.arange(20, dtype=np.uint8).reshape(4, 5)

    def save(self, path, **options) -> None:
        PIL.Image.fromarray(self.grey).save(path, **options)

    @pytest.mark.parametrize("dpi", [72, 96, 100, 144, 150, 200, 300, 600, 1200, 2400])
    @pytest.mark.parametrize("suffix", ["png", "tif"])
    def test_resolutions_of_screens_and_printers_are_no_spacing(self, tmp_path, dpi, suffix):
        self.save(tmp_path / f"a.{suffix}", dpi=(dpi, dpi))
        error = refusal(tmp_path / f"a.{suffix}")
        assert error.reason == "no-spacing"
        assert f"{dpi} dots per inch" in error.got
        assert "--pixel-spacing" in error.next_step
        read = read_image(tmp_path / f"a.{suffix}", pixel_spacing_mm=(0.5, 0.25))
        np.testing.assert_allclose(read.grid.spacing_mm[:2], [0.5, 0.25])

    @pytest.mark.parametrize("dpi", [72, 110, 130, 160, 220, 240, 360, 400, 1000, 4800, 9599])
    def test_they_are_known_in_whole_pixels_per_metre_that_were_cut(self, tmp_path, dpi):
        cut = int(dpi / 0.0254)  # 9448 for 240 dpi, which is 239.98 dpi
        for per_metre in (cut, round(dpi / 0.0254)):
            self.save(tmp_path / "a.png", dpi=(per_metre * 0.0254, per_metre * 0.0254))
            assert refusal(tmp_path / "a.png").reason == "no-spacing"

    @pytest.mark.parametrize("per_metre", [5000, 10000, 20000, 100000, 9440, 9446, 9452])
    def test_other_resolutions_of_png_are_measured(self, tmp_path, per_metre):
        self.save(tmp_path / "a.png", dpi=(per_metre * 0.0254, per_metre * 0.0254))
        np.testing.assert_allclose(read_image(tmp_path / "a.png").grid.spacing_mm[:2], 1000 / per_metre, rtol=1e-9)

    def test_they_are_known_in_cm_and_with_two_numbers_too(self, tmp_path):
        self.save(tmp_path / "a.tif", resolution_unit=3, x_resolution=118.11, y_resolution=118.11)
        assert refusal(tmp_path / "a.tif").reason == "no-spacing"
        self.save(tmp_path / "b.tif", resolution_unit=2, x_resolution=600, y_resolution=300)
        assert refusal(tmp_path / "b.tif").reason == "no-spacing"

    @pytest.mark.parametrize(("per_cm", "mm"), [(39572.0, 2.527e-4), (100.0, 0.1), (24.3, 0.4115)])
    def test_a_measured_resolution(self, tmp_path, per_cm, mm):
        self.save(tmp_path / "a.tif", resolution_unit=3, x_resolution=per_cm, y_resolution=per_cm)
        np.testing.assert_allclose(read_image(tmp_path / "a.tif").grid.spacing_mm[:2], mm, rtol=1e-3)

    def save_described(self, path, text: str, encoding: str, **options) -> None:
        """A TIFF with a description in this encoding (Pillow writes ASCII alone)."""
        written = text.encode(encoding)
        stand_in = "".join(chr(c) if c < 128 else "#" for c in written)
        self.save(path, description=stand_in, **options)
        path.write_bytes(path.read_bytes().replace(stand_in.encode(), written))

    @pytest.mark.parametrize(
        ("unit", "encoding"),
        [("micron", "ascii"), ("um", "ascii"), ("\\u00B5m", "ascii"), ("µm", "latin-1"), ("µm", "utf-8")],
    )
    def test_units_of_imagej(self, tmp_path, unit, encoding):
        text = f"ImageJ=1.54f\nunit={unit}\nmin=0.0\n"
        options = {"resolution_unit": 1, "x_resolution": 4.0, "y_resolution": 2.0}
        self.save_described(tmp_path / "a.tif", text, encoding, **options)
        read = read_image(tmp_path / "a.tif")
        np.testing.assert_allclose(read.grid.spacing_mm[:2], [0.00025, 0.0005])
        assert "ImageJ" in read.notes["pixel_spacing"]

    def test_imagej_takes_over_inches_that_nobody_measured(self, tmp_path):
        text = "ImageJ=1.54f\nunit=inch\n"
        self.save(tmp_path / "a.tif", description=text, resolution_unit=2, x_resolution=300, y_resolution=300)
        assert refusal(tmp_path / "a.tif").reason == "no-spacing"

    @pytest.mark.parametrize(("unit", "mm"), [("", 0.001), ("µm", 0.001), ("&#181;m", 0.001), ("cm", 10.0)])
    def test_ome(self, tmp_path, unit, mm):
        units = f'PhysicalSizeXUnit="{unit}" PhysicalSizeYUnit="{unit}"' if unit else ""
        sizes = f'PhysicalSizeX="0.5" PhysicalSizeY="0.25" {units}'
        text = (
            f'<OME xmlns="http://www.openmicroscopy.org"><Image><Pixels ID="Pixels:0" {sizes} SizeX="5"/></Image></OME>'
        )
        self.save_described(tmp_path / "a.tif", text, "utf-8", dpi=(300, 300))
        read = read_image(tmp_path / "a.tif")
        np.testing.assert_allclose(read.grid.spacing_mm[:2], [0.5 * mm, 0.25 * mm])
        assert "OME" in read.notes["pixel_spacing"]

    @pytest.mark.parametrize("unit", ["pixel", "pixels", "", "reference frame"])
    def test_no_measurement(self, tmp_path, unit):
        sizes = f'PhysicalSizeX="0.5" PhysicalSizeY="0.5" PhysicalSizeXUnit="{unit}" PhysicalSizeYUnit="{unit}"'
        texts = (f"<OME><Image><Pixels {sizes}/></Image></OME>", f"ImageJ=1.54f\nunit={unit}\nmin=0.0\n")
        for text in texts:
            # A resolution of 0.1 mm that the header by OME or ImageJ contradicts.
            self.save(tmp_path / "a.tif", description=text, resolution_unit=3, x_resolution=100, y_resolution=100)
            assert refusal(tmp_path / "a.tif").reason == "no-spacing"

    @pytest.mark.parametrize(
        "text",
        [
            f'<OME><Image><Pixels PhysicalSizeX="2" PhysicalSizeY="2" {name}="parsec"/></Image></OME>'
            for name in ("PhysicalSizeXUnit", "PhysicalSizeYUnit")
        ]
        + ["ImageJ=1.54f\nunit=parsec\n", "ImageJ=1.54f\nunit=mm\nyunit=parsec\n"],
        ids=["OME x", "OME y", "ImageJ", "ImageJ y"],
    )
    def test_a_unit_that_is_none_of_length(self, tmp_path, text):
        self.save(tmp_path / "a.tif", description=text, resolution_unit=3, x_resolution=100, y_resolution=100)
        error = refusal(tmp_path / "a.tif")
        assert error.reason == "unknown-unit"
        assert "'parsec'" in error.got
        assert "--pixel-spacing" in error.next_step
        read = read_image(tmp_path / "a.tif", pixel_spacing_mm=(0.5, 0.25))
        np.testing.assert_allclose(read.grid.spacing_mm[:2], [0.5, 0.25])

    def test_imagej_may_measure_y_in_a_unit_of_its_own(self, tmp_path):
        text = "ImageJ=1.54f\nunit=mm\nyunit=um\n"
        self.save(tmp_path / "a.tif", description=text, resolution_unit=1, x_resolution=4.0, y_resolution=0.002)
        np.testing.assert_allclose(read_image(tmp_path / "a.tif").grid.spacing_mm[:2], [0.25, 0.5])

    @pytest.mark.parametrize("sizes", ['X="2"', 'X="2" PhysicalSizeY="0"', 'X="2" PhysicalSizeY="wide"'])
    def test_ome_with_half_a_spacing(self, tmp_path, sizes):
        text = f"<OME><Image><Pixels PhysicalSize{sizes}/></Image></OME>"
        self.save(tmp_path / "a.tif", description=text, resolution_unit=3, x_resolution=100, y_resolution=100)
        assert refusal(tmp_path / "a.tif").reason == "no-spacing"

    def test_an_ome_header_without_sizes_leaves_the_resolution(self, tmp_path):
        text = '<OME><Image><Pixels PhysicalSizeXUnit="mm" SizeX="5"/></Image></OME>'
        self.save(tmp_path / "a.tif", description=text, resolution_unit=3, x_resolution=100, y_resolution=100)
        np.testing.assert_allclose(read_image(tmp_path / "a.tif").grid.spacing_mm[:2], 0.1)


def _affine() -> np.ndarray:
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = ORIGIN
    return affine
