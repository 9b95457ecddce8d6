"""Rigid and affine transforms."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from samreg.errors import UsageError
from samreg.transforms.base import Transform
from samreg.types import Matrix4, Points

ORTHONORMAL_TOLERANCE = 1e-6


class Affine(Transform):
    """x_moving = A x_fixed + t.

    Args:
        moving_from_fixed: [4, 4] float64, last row (0, 0, 0, 1).

    Raises:
        UsageError: The matrix is not finite, mirrors or collapses space (det ≤ 0), or is no affine.
    """

    def __init__(self, moving_from_fixed: Matrix4) -> None:
        matrix = np.array(moving_from_fixed, np.float64)
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or not np.array_equal(matrix[3], (0, 0, 0, 1)):
            raise UsageError(f"the matrix is {matrix.tolist()}", "a finite 4x4 matrix with last row 0 0 0 1")
        if np.linalg.det(matrix[:3, :3]) <= 0:
            raise UsageError(
                f"the matrix has the determinant {np.linalg.det(matrix[:3, :3]):.3g}",
                "a positive determinant (anatomy is never mirrored)",
                "Correct the image whose left and right are swapped, or whose axes are left-handed.",
            )
        matrix.setflags(write=False)
        self.moving_from_fixed = matrix

    @staticmethod
    def identity() -> Rigid:
        """The transform that changes nothing."""
        return Rigid(np.eye(4))

    @property
    def is_rigid(self) -> bool:
        """True if the matrix is orthonormal with determinant +1."""
        return is_orthonormal(self.moving_from_fixed[:3, :3])

    def map_tensor(self, points: Tensor) -> Tensor:
        matrix = torch.tensor(self.moving_from_fixed, dtype=points.dtype, device=points.device)
        return points @ matrix[:3, :3].T + matrix[:3, 3]

    def inverse(self) -> Affine:
        return type(self)(_exact_last_row(np.linalg.inv(self.moving_from_fixed)))


class Rigid(Affine):
    """x_moving = R x_fixed + t with R a rotation.

    Raises:
        UsageError: The 3x3 part is not orthonormal to 1e-6 with determinant +1.
    """

    def __init__(self, moving_from_fixed: Matrix4) -> None:
        super().__init__(moving_from_fixed)
        if not self.is_rigid:
            raise UsageError(
                "the matrix is not a rotation",
                "orthonormal columns",
                "Use Affine, or make it one with `Rigid.nearest`.",
            )

    @classmethod
    def nearest(cls, moving_from_fixed: Matrix4) -> Rigid:
        """Of a matrix [4, 4] that is rigid up to rounding: its rotation made exact, its translation kept."""
        exact = np.array(moving_from_fixed, np.float64)
        exact[:3, :3] = nearest_rotation(exact[:3, :3])
        return cls(exact)


def is_orthonormal(matrix: np.ndarray, tolerance: float = ORTHONORMAL_TOLERANCE) -> bool:
    """Whether a matrix is a rotation: columns orthonormal, determinant +1.

    Args:
        matrix: [3, 3].
        tolerance: Greatest difference of an entry of MᵀM from the identity.

    Returns:
        True for a rotation.
    """
    return bool(np.abs(matrix.T @ matrix - np.eye(3)).max() <= tolerance and np.linalg.det(matrix) > 0)


def nearest_rotation(matrix: np.ndarray) -> np.ndarray:
    """The rotation closest to a matrix in the Frobenius norm (polar decomposition).

    Args:
        matrix: [3, 3] float64.

    Returns:
        [3, 3] float64, orthonormal with determinant +1.
    """
    u, _, vt = np.linalg.svd(matrix)
    return u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt


def rigid_from_points(fixed: Points, moving: Points, weights: np.ndarray) -> Matrix4:
    """The weighted least-squares rotation and translation (Kabsch), [4, 4] moving from fixed.

    Args:
        fixed, moving: Paired points [n, 3] LPS mm, n ≥ 3 and not all on a line for a unique rotation.
        weights: [n], not negative, not all zero.

    Returns:
        [4, 4] float64 on LPS mm.
    """
    share = weights / weights.sum()
    centre_fixed, centre_moving = share @ fixed, share @ moving
    covariance = (moving - centre_moving).T @ ((fixed - centre_fixed) * share[:, None])
    out = np.eye(4)
    out[:3, :3] = nearest_rotation(covariance)
    out[:3, 3] = centre_moving - out[:3, :3] @ centre_fixed
    return out


def about_centre(linear: np.ndarray, translation_mm: np.ndarray, centre_lps: np.ndarray) -> Matrix4:
    """The matrix of a linear map about a centre: x ↦ linear (x - centre) + centre + translation.

    Args:
        linear: [3, 3] float64.
        translation_mm: [3] LPS.
        centre_lps: [3] LPS mm.

    Returns:
        [4, 4] float64 on LPS mm.
    """
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = centre_lps + translation_mm - linear @ centre_lps
    return matrix


def _exact_last_row(matrix: np.ndarray) -> np.ndarray:
    matrix[3] = (0, 0, 0, 1)
    return matrix
