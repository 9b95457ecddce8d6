"""From an image of another package to a volume, and from a volume or a transform to an object of another package."""

from __future__ import annotations

from typing import Any

from samreg.ecosystem.packages import PACKAGES, find_package, package_of
from samreg.errors import UsageError
from samreg.geometry import Grid, Volume
from samreg.transforms import Transform


def read_object(image: Any, *, stored: bool = False) -> Volume:
    """An image of another package as a volume in LPS mm, as the file would be read that the package writes of it.

    Args:
        image: Of one of `PACKAGES`.
        stored: Keep the type of the values, as label numbers need it, instead of float32.

    Returns:
        Voxels [i, j, k]. An image of two dimensions is one slice.

    Raises:
        UsageError: It is of no known package, or no image.
        InputRefused: What is refused in a file: `no-orientation`, `no-spacing`, `unknown-unit`, `4d`,
            `not-greyscale`, `size-limit`, `non-finite-voxels`, `unreadable-file`.

    Example:
        volume = read_object(nibabel.load("t1.nii.gz"))
    """
    package = package_of(image)
    if package is None:
        raise UsageError(
            f"the image is of type {type(image).__module__}.{type(image).__name__}",
            f"a path, a samreg Volume, or an image of {_listed()}",
            "An array does not say where its voxels lie. Make a Volume of it with its Grid.",
        )
    return package.load().read(image, stored=stored)


def grid_for(package: str, grid: Grid) -> Grid:
    """The grid that an image on `grid` must be put on for a package: the upright one where it knows no other.

    Raises:
        UsageError: An unknown package.
    """
    return grid.upright() if find_package(package).perpendicular and grid.is_sheared else grid


def image_as(volume: Volume, package: str) -> Any:
    """A volume as an image of another package.

    Args:
        volume: Voxels [i, j, k] of any type of numbers.
        package: A name in `PACKAGES`.

    Returns:
        An image of three dimensions (four with the channel of monai and torchio) with voxels of the same type.

    Raises:
        UsageError: An unknown package, or one that is not installed; axes that are not perpendicular, which the
            package cannot state (see `grid_for`).

    Example:
        image_as(result.fixed, "SimpleITK")
    """
    row = find_package(package)
    if grid_for(package, volume.grid) is not volume.grid:
        raise UsageError(
            f"the axes of the image for {package} are not perpendicular (voxels would be misplaced by up to "
            f"{volume.grid.shear_mm:.2f} mm)",
            "perpendicular axes",
            "Resample the image to `samreg.ecosystem.grid_for` first.",
        )
    return row.load().make_image(volume)


def transform_as(transform: Transform, package: str, grid: Grid) -> Any:
    """A transform as an object of another package; it maps fixed points to moving points, as `transform` does.

    Args:
        transform: Fixed points to moving points.
        package: A name in `PACKAGES`.
        grid: Of the fixed image. The displacement fields of nibabel and monai lie on it; SimpleITK and itk need none.

    Returns:
        What the row of the package says.

    Raises:
        UsageError: An unknown package, one that is not installed, or one without transforms.

    Example:
        transform_as(result.transform, "SimpleITK", result.fixed.grid).TransformPoint((0.0, 10.0, -20.0))
    """
    row = find_package(package)
    if not row.transforms:
        able = ", ".join(name for name, other in PACKAGES.items() if other.transforms)
        raise UsageError(f"the package '{package}' has no class for a transform", f"one of {able}")
    return row.load().make_transform(transform, grid)


def _listed() -> str:
    *most, last = PACKAGES
    return f"{', '.join(most)} or {last}"
