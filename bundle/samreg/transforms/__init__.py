"""Transforms from fixed points to moving points (LPS mm)."""

from samreg.transforms.base import Transform
from samreg.transforms.composite import Composite, compose
from samreg.transforms.field import DisplacementField, VelocityField, integrate_velocity
from samreg.transforms.files import read_transform, write_displacement_nifti, write_transform
from samreg.transforms.linear import Affine, Rigid, about_centre, is_orthonormal, nearest_rotation, rigid_from_points

__all__ = [
    "Affine",
    "Composite",
    "DisplacementField",
    "Rigid",
    "Transform",
    "VelocityField",
    "about_centre",
    "compose",
    "integrate_velocity",
    "is_orthonormal",
    "nearest_rotation",
    "read_transform",
    "rigid_from_points",
    "write_displacement_nifti",
    "write_transform",
]
