"""What every reader refuses: too many voxels, values that are not numbers."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from samreg.errors import InputRefused

# 512 x 512 x 2000: 2 GB of float32 for one image.
MAX_VOXELS = 512 * 512 * 2000


def refuse_if_too_large(shape: Sequence[int]) -> None:
    """Refuse a size before its voxels are read.

    Raises:
        InputRefused: `size-limit`.
    """
    if prod(int(n) for n in shape) > MAX_VOXELS:
        raise InputRefused(
            f"the image has {' x '.join(str(int(n)) for n in shape)} voxels",
            f"at most {MAX_VOXELS} voxels",
            "Crop it or lower its resolution.",
            reason="size-limit",
        )


def refuse_if_not_finite(voxels: np.ndarray) -> None:
    """Refuse NaN and infinite voxels.

    Raises:
        InputRefused: `non-finite-voxels`.
    """
    bad = voxels.size - int(np.count_nonzero(np.isfinite(voxels)))
    if bad:
        raise InputRefused(f"{bad} voxels are not finite (NaN or infinite)", reason="non-finite-voxels")
