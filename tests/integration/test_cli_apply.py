"""`samreg apply`: an image warped onto the grid of another."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from samreg import cli
from samreg.geometry import Grid, Volume
from samreg.io import read_image
from samreg.io.writing import write_image
from samreg.transforms import Affine
from samreg.transforms.files import write_transform
from tests.shifted import GRID, SHIFT
from tests.written import assert_in_place, read_by_every_reader, tilted, told_by_place


@pytest.mark.parametrize("name", ["out.nii.gz", "out.nrrd", "out.mha"])
def test_apply_warps_onto_the_grid_of_the_reference(tmp_path: Path, shift: Path, image: Path, name: str):
    coarse = Grid.from_axes((9, 8, 7), (4.0, 4.0, 4.0), (-18, -8, 7))
    write_image(np.zeros(coarse.shape, np.float32), coarse, tmp_path / "reference.nii.gz")
    out = tmp_path / name
    assert (
        cli.main(["apply", str(shift), str(image), "--reference", str(tmp_path / "reference.nii.gz"), "-o", str(out)])
        == 0
    )
    found = read_image(out)
    assert found.grid.same_as(coarse)
    np.testing.assert_allclose(found.voxels, SHIFT.warp(read_image(image), coarse), atol=1e-3)


def test_apply_keeps_labels(tmp_path: Path, shift: Path, image: Path):
    labels = np.random.default_rng(1).integers(0, 4, GRID.shape).astype(np.uint8)
    write_image(labels, GRID, tmp_path / "labels.nii.gz")
    arguments = ["apply", str(shift), str(tmp_path / "labels.nii.gz"), "--reference", str(image)]
    assert cli.main([*arguments, "-o", str(tmp_path / "out.nii.gz"), "--interpolation", "nearest"]) == 0
    expected = SHIFT.warp(Volume(labels, GRID), GRID, interpolation="nearest")
    np.testing.assert_array_equal(read_image(tmp_path / "out.nii.gz").voxels, expected)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize(
    "kind", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
)
def test_apply_keeps_each_number_of_a_label_map(tmp_path: Path, shift: Path, image: Path, kind: str, suffix: str):
    top = np.iinfo(kind).max if kind[0] != "f" else 2 ** (np.finfo(kind).nmant + 1) - 1
    labels = np.array([0, 1, top - 1, top], kind)[np.random.default_rng(1).integers(0, 4, GRID.shape)]
    write_image(labels, GRID, tmp_path / f"labels{suffix}")
    out = tmp_path / f"out{suffix}"
    arguments = ["apply", str(shift), str(tmp_path / f"labels{suffix}"), "--reference", str(image), "-o", str(out)]
    assert cli.main([*arguments, "--interpolation", "nearest"]) == 0
    expected = SHIFT.warp(Volume(labels, GRID), GRID, interpolation="nearest")
    assert {1, top - 1, top} <= set(np.unique(expected).tolist())
    for name, (values, _) in read_by_every_reader(out).items():
        assert values.dtype.kind in "iu", name
        assert values.dtype == (kind if kind[0] != "f" else np.min_scalar_type(int(top))), name
        np.testing.assert_array_equal(values, expected, err_msg=name)


def test_apply_keeps_fractions_and_negative_numbers_of_an_image(tmp_path: Path, shift: Path, image: Path):
    for values in (np.float32(-0.5), np.int16(-1000)):
        voxels = np.random.default_rng(1).integers(0, 4, GRID.shape).astype(values.dtype) + values
        write_image(voxels, GRID, tmp_path / "moving.nrrd")
        arguments = ["apply", str(shift), str(tmp_path / "moving.nrrd"), "--reference", str(image)]
        assert cli.main([*arguments, "-o", str(tmp_path / "out.nrrd"), "--interpolation", "nearest"]) == 0
        expected = SHIFT.warp(Volume(voxels, GRID), GRID, interpolation="nearest")
        for found, _ in read_by_every_reader(tmp_path / "out.nrrd").values():
            assert found.dtype == values.dtype
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("interpolation", ["linear", "nearest"])
@pytest.mark.parametrize("given", [".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_apply_onto_a_sheared_reference_is_in_place(
    tmp_path: Path, suffix: str, given: str, interpolation: str, capsys: pytest.CaptureFixture[str]
):
    grid = tilted()
    around = told_by_place(grid.bounding_grid(2.0, 20.0))
    write_transform(Affine.identity(), tmp_path / "identity.tfm")
    write_image(around.voxels, around.grid, tmp_path / "image.nii.gz")
    save_sheared(np.zeros(grid.shape, np.float32), grid, tmp_path / f"reference{given}")
    out = tmp_path / f"out{suffix}"
    arguments = ["apply", str(tmp_path / "identity.tfm"), str(tmp_path / "image.nii.gz"), "-o", str(out)]
    arguments += ["--reference", str(tmp_path / f"reference{given}"), "--interpolation", interpolation]
    assert cli.main(arguments) == 0
    # Nearest neighbour takes the value from up to a voxel's corner away.
    assert_in_place(out, covered=grid, within=0.01 if interpolation == "linear" else 3**0.5)
    kept = ".nii" not in suffix
    assert ("perpendicular grid" in capsys.readouterr().err) == (not kept)
    for name, (values, affine) in read_by_every_reader(out).items():
        assert Grid(values.shape, affine).same_as(grid, 0.01) == kept, name


def save_sheared(voxels: np.ndarray, grid: Grid, path: Path) -> None:
    """As dcm2niix writes a tilted CT: an sform alone."""
    if ".nii" not in path.name:
        write_image(voxels, grid, path)
        return
    header = nibabel.Nifti1Image(voxels, np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid.affine)
    header.set_sform(header.affine, 1)
    header.header["qform_code"] = 0
    header.header.set_xyzt_units("mm")
    nibabel.save(header, path)


def test_apply_refuses_a_format_it_cannot_write(tmp_path: Path, shift: Path, image: Path, capsys):
    assert cli.main(["apply", str(shift), str(image), "--reference", str(image), "-o", str(tmp_path / "out.png")]) == 2
    assert ".nrrd" in capsys.readouterr().err


def test_apply_reads_pictures_with_the_spacing_it_is_given(tmp_path: Path, capsys):
    from PIL import Image

    pixels = np.random.default_rng(2).integers(1, 250, (20, 24), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    write_transform(Affine.identity(), tmp_path / "same.h5")
    picture, out = str(tmp_path / "a.png"), tmp_path / "out.nii.gz"
    arguments = ["apply", str(tmp_path / "same.h5"), picture, "--reference", picture, "-o", str(out)]
    assert cli.main(arguments) == 3
    assert "--pixel-spacing X Y" in capsys.readouterr().err
    assert cli.main([*arguments, "--pixel-spacing", "0.5", "0.25"]) == 0
    warped = read_image(out)
    np.testing.assert_allclose(warped.grid.spacing_mm[:2], (0.5, 0.25))
    np.testing.assert_allclose(warped.voxels[:, :, 0], pixels.T, atol=1e-3)


def test_apply_refuses_a_pixel_spacing_without_a_picture(tmp_path: Path, shift: Path, image: Path):
    arguments = ["apply", str(shift), str(image), "--reference", str(image)]
    assert cli.main([*arguments, "-o", str(tmp_path / "out.nii.gz"), "--pixel-spacing", "1", "1"]) == 2
