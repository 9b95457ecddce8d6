"""The classes of ITK's transform files: which of them are read, and what their numbers mean.

A file holds blocks: the name of a class and its numbers. One block is a transform; a composite stands first and the
blocks after it are its parts, the last of which is applied first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from samreg.errors import InputRefused
from samreg.geometry import Grid
from samreg.refusals.results import AS_COMPOSITE
from samreg.transforms.base import Transform
from samreg.transforms.field import DisplacementField
from samreg.transforms.linear import Affine, Rigid, is_orthonormal

if TYPE_CHECKING:
    import SimpleITK

KIND = re.compile(r"([A-Za-z0-9]*Transform[A-Za-z0-9]*)_(?:double|float)_(\d)_(\d)")
COMPOSITE = "CompositeTransform"
# Subclasses that differ in how a registration updates them, not in how they map points.
FIELDS = (
    "DisplacementFieldTransform",
    "GaussianSmoothingOnUpdateDisplacementFieldTransform",
    "BSplineSmoothingOnUpdateDisplacementFieldTransform",
)
# Class of ITK → the member of SimpleITK's enumeration that maps points alike, and the number of parameters.
LINEAR = {
    "IdentityTransform": ("sitkIdentity", 0),
    "TranslationTransform": ("sitkTranslation", 3),
    "ScaleTransform": ("sitkScale", 3),
    "ScaleLogarithmicTransform": ("sitkScaleLogarithmic", 3),
    "Euler3DTransform": ("sitkEuler", 6),
    "CenteredEuler3DTransform": ("sitkEuler", 9),
    "QuaternionRigidTransform": ("sitkQuaternionRigid", 7),
    "VersorTransform": ("sitkVersor", 3),
    "VersorRigid3DTransform": ("sitkVersorRigid", 6),
    "Similarity3DTransform": ("sitkSimilarity", 7),
    "ScaleVersor3DTransform": ("sitkScaleVersor", 9),
    "ScaleSkewVersor3DTransform": ("sitkScaleSkewVersor", 15),
    "ComposeScaleSkewVersor3DTransform": ("sitkComposeScaleSkewVersor", 12),
    "AffineTransform": ("sitkAffine", 12),
    "MatrixOffsetTransformBase": ("sitkAffine", 12),
    "ScalableAffineTransform": ("sitkAffine", 12),
    "FixedCenterOfRotationAffineTransform": ("sitkAffine", 12),
    "CenteredAffineTransform": ("sitkAffine", 15),
}
CENTRED = ("CenteredEuler3DTransform", "CenteredAffineTransform")  # the centre is a parameter, before the translation
PROBE_MM = 100.0  # distance of the points that read the matrix out of a linear transform of ITK

AS_FIELD = (
    "Turn it into a displacement field (SimpleITK: TransformToDisplacementField; 3D Slicer: Transforms, convert)."
)
PICTURE = "A picture is a 3D image of one slice here; write its transform as a 3D one."
WRITE_AGAIN = "Write the file again; it may be cut or damaged."


@dataclass(frozen=True)
class Block:
    """One transform as it stands in a file.

    Attributes:
        kind: ITK's name, class and dimensions ("AffineTransform_double_3_3").
        parameters: [n] float64, in the order of the class.
        fixed: [m] float64: the centre, or the grid of a field.
    """

    kind: str
    parameters: np.ndarray
    fixed: np.ndarray


def parts_of(path: Path, kinds: Sequence[str]) -> range:
    """Which blocks of a file are the parts of its transform, given the names of all.

    Raises:
        InputRefused: There is none, a class is not read here, a composite stands inside another, or the file holds a
            list without saying what it means.
    """
    if not kinds:
        raise unreadable(path, "holds no transform")
    composite = class_of(kinds[0]) == COMPOSITE
    parts = range(int(composite), len(kinds))
    if not parts:
        raise unreadable(path, "holds a composite transform without parts")
    for n in parts:
        _refuse_kind(path, kinds[n])
    if not composite and len(kinds) > 1:
        # One transform for each volume of a series (fMRIPrep), parts of a chain (ANTs), or a B-spline and what is
        # added to it (ITK 3): only who wrote the list knows.
        raise InputRefused(f"'{path.name}' holds a list of {len(kinds)} transforms", reason="transform-list")
    return parts


def _refuse_kind(path: Path, kind: str) -> None:
    found = KIND.fullmatch(kind)
    if found and found[2] == found[3] != "3":
        raise unsupported(path, f"a {found[2]}D transform ({kind})", "a 3D transform", PICTURE)
    name = class_of(kind)
    if name == COMPOSITE:
        raise unsupported(path, "a composite inside another transform", "one level of parts", AS_COMPOSITE)
    if found is None or found[3] != "3" or name not in (*LINEAR, *FIELDS):
        raise unsupported(path, f"a {kind}", "matrices and displacement fields", AS_FIELD)


def class_of(kind: str) -> str:
    """ "AffineTransform" of "AffineTransform_double_3_3"."""
    return kind.split("_")[0]


def from_block(path: Path, block: Block) -> Transform:
    """The transform of one block of a class in LINEAR or FIELDS.

    Raises:
        InputRefused: Too few or too many numbers, or one that is not finite.
        UsageError: A matrix that mirrors or collapses space.
    """
    if not (np.isfinite(block.parameters).all() and np.isfinite(block.fixed).all()):
        raise unreadable(path, f"holds a number in its {block.kind} that is not finite")
    return _field(path, block) if class_of(block.kind) in FIELDS else _matrix(path, block)


def _matrix(path: Path, block: Block) -> Affine:
    import SimpleITK

    name = class_of(block.kind)
    kind, count = LINEAR[name]
    parameters, fixed = block.parameters, block.fixed
    if len(parameters) != count:
        raise unreadable(path, f"holds {len(parameters)} numbers for a {name} instead of {count}")
    transform = SimpleITK.Transform(3, getattr(SimpleITK, kind))
    if name in CENTRED:
        fixed = np.concatenate([parameters[-6:-3], fixed[3:]])
        parameters = np.concatenate([parameters[:-6], parameters[-3:]])
    wanted = len(transform.GetFixedParameters())
    if wanted:  # Euler angles have a fourth, the order of rotations, which older files lack.
        if len(fixed) not in (3, wanted):
            raise unreadable(path, f"holds {len(fixed)} fixed numbers for a {name} instead of {wanted}")
        transform.SetFixedParameters([*fixed.tolist(), 0.0][:wanted])
    transform.SetParameters(parameters.tolist())
    return probed(transform)


def probed(transform: SimpleITK.Transform) -> Affine:
    """A linear transform of ITK, whatever its parameters and centre, from where it takes four points."""
    corner = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    ends = np.array([transform.TransformPoint(tuple(PROBE_MM * axis)) for axis in np.eye(3)])
    matrix = np.eye(4)
    matrix[:3, :3] = (ends - corner).T / PROBE_MM
    matrix[:3, 3] = corner
    return Rigid(matrix) if is_orthonormal(matrix[:3, :3]) else Affine(matrix)


def _field(path: Path, block: Block) -> DisplacementField:
    fixed, vectors = block.fixed, block.parameters
    size = fixed[:3].astype(int) if len(fixed) == 18 else np.zeros(3, int)
    if min(size) < 1 or any(size != fixed[:3]) or 3 * float(np.prod(fixed[:3])) != len(vectors) or min(fixed[6:9]) <= 0:
        raise unreadable(path, f"holds {len(vectors)} numbers for a field with the grid {fixed.tolist()}")
    grid = Grid.from_axes(size, fixed[6:9], fixed[3:6], fixed[9:].reshape(3, 3))
    return DisplacementField(grid, vectors.reshape(*size[::-1], 3).transpose(2, 1, 0, 3))


def field_from(image: SimpleITK.Image) -> DisplacementField:
    """The field of a vector image of ITK, LPS mm."""
    import SimpleITK

    direction = np.array(image.GetDirection()).reshape(3, 3)
    grid = Grid.from_axes(image.GetSize(), image.GetSpacing(), image.GetOrigin(), direction)
    return DisplacementField(grid, SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0, 3))


def unreadable(path: Path, got: str, next_step: str = WRITE_AGAIN) -> InputRefused:
    """The refusal of a file that is not whole, or not ITK's."""
    expected = "a whole file written by ITK, SimpleITK, ANTs or 3D Slicer"
    return InputRefused(f"'{path.name}' {got}", expected, next_step, reason="transform-unreadable")


def unsupported(path: Path, got: str, expected: str, next_step: str = "") -> InputRefused:
    """The refusal of a file that is whole, but has no counterpart here."""
    return InputRefused(f"'{path.name}' holds {got}", expected, next_step, reason="transform-unsupported")
