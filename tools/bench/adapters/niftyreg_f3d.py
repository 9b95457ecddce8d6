"""NiftyReg: reg_f3d, cubic B-splines or a velocity field of them, after reg_aladin's affine if asked."""

import os
import subprocess
import tempfile
from pathlib import Path

import nibabel as nib
import niftyreg
import numpy as np
from exchange import main

PROGRAMS = Path(niftyreg.__file__).parent / "bin"


def register(
    fixed: str,
    moving: str,
    *,
    metric: list[str],
    knots: list[str],
    velocity: bool,
    levels: int,
    iterations: int,
    bending: float,
    affine: bool,
) -> np.ndarray:
    """Run the programs one after the other."""
    with tempfile.TemporaryDirectory() as scratch:
        linear, grid, moved, field = (f"{scratch}/{n}" for n in ("affine.txt", "grid.nii", "moved.nii", "field.nii"))
        pair = ["-ref", fixed, "-flo", moving]
        if affine:
            _run("reg_aladin", *pair, "-aff", linear, "-res", moved, "-nac", "-speeeeed")
        start = ["-aff", linear] if affine else []
        model = ["-vel"] if velocity else []
        spacing = [part for pair in zip(("-sx", "-sy", "-sz"), knots, strict=False) for part in pair]
        options = [*metric, *spacing, "-ln", str(levels), "-maxit", str(iterations), "-be", str(bending)]
        _run("reg_f3d", *pair, "-cpp", grid, "-res", moved, *options, *model, *start)
        _run("reg_transform", "-ref", fixed, "-disp", grid, field)
        vectors = np.squeeze(nib.load(field).get_fdata(dtype=np.float32), axis=3)
    # NiftyReg counts in RAS mm.
    vectors = vectors * ([-1, -1, 1][: vectors.shape[-1]])
    return vectors[:, :, 0] if vectors.shape[2] == 1 else vectors


def _run(program: str, *arguments: str) -> None:
    command = [str(PROGRAMS / program), *arguments]
    subprocess.run(command, check=True, env={**os.environ, "LD_LIBRARY_PATH": str(PROGRAMS.parent / "lib")})


if __name__ == "__main__":
    main(register)
