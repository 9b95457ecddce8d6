"""The packages whose images are taken and given back, and how an object of theirs is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType, ModuleType

from samreg.errors import UsageError


@dataclass(frozen=True)
class Package:
    """One package of the field.

    Attributes:
        name: As users write it, which is what they import.
        images: What is taken and given back as an image.
        transforms: What a transform is given back as; empty: the package has no class for it.
        room: The module that reads images (`read`) and makes images and transforms (`make_image`, `make_transform`).
        distribution: What pip calls it.
        perpendicular: Its images cannot lie on a grid whose axes are not perpendicular.
    """

    name: str
    images: str
    transforms: str
    room: str
    distribution: str
    perpendicular: bool = False

    def load(self) -> ModuleType:
        """The module that knows the package.

        Raises:
            UsageError: The package is not installed.
        """
        if find_spec(self.name) is None:
            raise UsageError(
                f"an object of {self.name} is asked for and {self.name} is not installed",
                "an installed package",
                f"Install it with: pip install {self.distribution}",
            )
        return import_module(self.room)


def _table(*packages: Package) -> Mapping[str, Package]:
    return MappingProxyType({package.name: package for package in packages})


PACKAGES = _table(
    Package(
        "nibabel",
        "Nifti1Image, Nifti2Image or Nifti1Pair",
        "a displacement field as samreg writes it to NIfTI: [i, j, k, 1, 3] LPS mm, intent 1007",
        "samreg.ecosystem.of_nibabel",
        "nibabel",
        perpendicular=True,
    ),
    Package(
        "SimpleITK",
        "Image",
        "a CompositeTransform of matrices and displacement fields",
        "samreg.ecosystem.of_simpleitk",
        "simpleitk",
    ),
    Package(
        "itk",
        "itk.Image",
        "a CompositeTransform of matrices and displacement fields",
        "samreg.ecosystem.of_itk",
        "itk",
    ),
    Package(
        "monai",
        "MetaTensor [1, i, j, k]",
        "a MetaTensor [3, i, j, k]: the displacement in voxels of the grid, as monai.networks.blocks.Warp takes it",
        "samreg.ecosystem.of_monai",
        "monai",
    ),
    Package("torchio", "ScalarImage or LabelMap with one channel", "", "samreg.ecosystem.of_torchio", "torchio"),
)


def find_package(name: str) -> Package:
    """The package of this name.

    Raises:
        UsageError: There is none.

    Example:
        >>> find_package("itk").distribution
        'itk'
    """
    if name not in PACKAGES:
        raise UsageError(f"the package '{name}' is unknown", f"one of {', '.join(PACKAGES)}")
    return PACKAGES[name]


def package_of(thing: object) -> Package | None:
    """The package that an object, or a class that it is derived from, comes from; None where it is none of them."""
    for kind in type(thing).__mro__:
        package = PACKAGES.get(kind.__module__.partition(".")[0])
        if package is not None:
            return package
    return None
