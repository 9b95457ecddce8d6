"""How an adapter is called, and what it leaves.

An adapter runs in its peer's environment: `python ADAPTER.py FIXED MOVING OUT SETTINGS`. FIXED and MOVING are NIfTI
images (2D for pictures), SETTINGS is a JSON object, and OUT is the displacement from fixed to moving points on the
fixed grid: `.npy`, [i, j, k, 3] (of pictures [i, j, 2]) float32, LPS mm.
"""

import json
import sys
from collections.abc import Callable

import numpy as np

Register = Callable[..., np.ndarray]


def main(register: Register) -> None:
    """Call `register(fixed, moving, **settings)` with the paths and save the field that it returns."""
    fixed, moving, out, settings = sys.argv[1:]
    np.save(out, np.ascontiguousarray(register(fixed, moving, **json.loads(settings)), dtype=np.float32))


def from_itk(vectors: np.ndarray) -> np.ndarray:
    """[k, j, i, c] as ITK's arrays lie, to [i, j, k, c]; of pictures [j, i, c] to [i, j, c]."""
    return vectors.transpose(*range(vectors.ndim - 2, -1, -1), vectors.ndim - 1)
