"""A small grid and a shift, for tests of what applies a transform."""

import numpy as np

from samreg.geometry import Grid
from samreg.transforms import Affine

GRID = Grid.from_axes((20, 18, 12), (2.0, 2.0, 3.0), (-20, -10, 5))
SHIFT = Affine(np.array([[1.0, 0, 0, 5], [0, 1, 0, -3], [0, 0, 1, 2], [0, 0, 0, 1]]))
