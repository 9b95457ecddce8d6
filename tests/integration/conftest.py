"""Small files that several commands are given."""

from pathlib import Path

import numpy as np
import pytest

from samreg.io.writing import write_image
from samreg.transforms.files import write_transform
from tests.shifted import GRID, SHIFT


@pytest.fixture
def shift(tmp_path: Path) -> Path:
    write_transform(SHIFT, tmp_path / "shift.h5")
    return tmp_path / "shift.h5"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    voxels = np.random.default_rng(0).uniform(1, 100, GRID.shape).astype(np.float32)
    write_image(voxels, GRID, tmp_path / "image.nii.gz")
    return tmp_path / "image.nii.gz"


@pytest.fixture
def points(tmp_path: Path) -> Path:
    (tmp_path / "points.csv").write_text("1,2,3\n")
    return tmp_path / "points.csv"
