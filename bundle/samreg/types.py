"""Array aliases, with their axes and units.

Arrays of voxels are indexed [i, j, k]; points are LPS millimetres unless a suffix says
otherwise (`_ijk`: continuous voxel indices).
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Matrix4 = NDArray[np.float64]  # [4, 4] homogeneous, acts on column vectors
Points = NDArray[np.float64]  # [n, 3] LPS mm
Points_ijk = NDArray[np.float64]  # [n, 3] continuous voxel indices
Voxels = NDArray[np.float32]  # [i, j, k] intensities
Labels = NDArray[np.integer]  # [i, j, k] label numbers, 0 is background
Mask = NDArray[np.bool_]  # [i, j, k]
Vectors = NDArray[np.float32]  # [i, j, k, 3] LPS mm

Interpolation = Literal["linear", "nearest"]
Role = Literal["fixed", "moving"]  # of an image in a pair
TransformKind = Literal["identity", "rigid", "affine", "deformable"]
KINDS: tuple[TransformKind, ...] = get_args(TransformKind)  # each finer than those before
Status = Literal["PASS", "REVIEW", "FAIL"]

Fit = Literal["pad", "stretch"]  # of a slice into a model's square input: padded, or its sides stretched
