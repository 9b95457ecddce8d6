"""How alike two regions look."""

from __future__ import annotations

import numpy as np


def similarity(fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """Cosine of prototypes, brought to [0, 1] (SAMReg, Eq. 6).

    Args:
        fixed: [n, c] prototypes of the fixed regions.
        moving: [m, c] prototypes of the moving regions.

    Returns:
        [n, m] float64.
    """
    return (_unit(fixed) @ _unit(moving).T + 1) / 2


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
