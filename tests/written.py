"""What other people's readers say of a written image, and images whose values tell where they lie."""

from __future__ import annotations

from pathlib import Path

import nibabel
import nrrd
import numpy as np
import SimpleITK

from samreg.geometry import Grid, Volume

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
WEIGHTS = np.array([1.0, 2.0, 3.0]) / 14**0.5  # of x, y and z in an image whose values tell where they lie, in mm


def tilted(shape: tuple[int, int, int] = (12, 10, 8), degrees: float = 20.0) -> Grid:
    """The grid of a CT with a tilted gantry: slice after slice shifted along j."""
    affine = np.diag([4.0, 4.0, 6.0, 1.0])
    affine[1, 2] = 6 * np.tan(np.deg2rad(degrees))
    affine[:3, 3] = (-24, -30, -20)
    return Grid(shape, affine)


def told_by_place(grid: Grid) -> Volume:
    """An image that is linear in LPS mm, so that interpolation keeps it."""
    return Volume((grid.points() @ WEIGHTS).astype(np.float32), grid)


def read_by_every_reader(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Voxels [i, j, k] and affine [4, 4] (LPS mm) of a file, by each library that reads its format."""
    image = SimpleITK.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    found = {"SimpleITK": (SimpleITK.GetArrayFromImage(image).T, affine)}
    if ".nii" in path.name:
        nifti = nibabel.load(path)
        found["nibabel"] = np.asarray(nifti.dataobj), LPS_FROM_RAS @ nifti.affine
        found["nibabel, qform"] = np.asarray(nifti.dataobj), LPS_FROM_RAS @ nifti.header.get_qform()
    if path.suffix == ".nrrd":
        values, header = nrrd.read(str(path))
        assert header["space"] == "left-posterior-superior"
        affine = np.eye(4)
        affine[:3, :3] = header["space directions"].T
        affine[:3, 3] = header["space origin"]
        found["pynrrd"] = values, affine
    return found


def assert_in_place(path: Path, covered: Grid, within: float = 0.01) -> None:
    """Each reader finds a value of `told_by_place` where it belongs, and a voxel for each place that is covered."""
    for name, (values, affine) in read_by_every_reader(path).items():
        grid = Grid(values.shape, affine)
        assert grid.contains(covered.points()).all(), name
        np.testing.assert_allclose(values, grid.points() @ WEIGHTS, rtol=0, atol=within, err_msg=name)
