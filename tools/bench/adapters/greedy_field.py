"""Greedy (PICSL): a field by its greedy or velocity-field optimiser, alone or after its own affine."""

import tempfile
from pathlib import Path

import numpy as np
import SimpleITK
from exchange import from_itk, main
from picsl_greedy import Greedy2D, Greedy3D


def register(
    fixed: str,
    moving: str,
    *,
    metric: str,
    iterations: str,
    smooth: str,
    velocity: bool,
    affine: bool,
    affine_metric: str,
) -> np.ndarray:
    """Run greedy as from its command line."""
    image = SimpleITK.ReadImage(fixed)
    dimension = image.GetDimension()
    greedy = {2: Greedy2D, 3: Greedy3D}[dimension]()
    with tempfile.TemporaryDirectory() as scratch:
        warp, linear, whole = (Path(scratch) / name for name in ("warp.nii.gz", "affine.mat", "whole.nii.gz"))
        pair = f"-d {dimension} -i {fixed} {moving}"
        if affine:
            greedy.execute(f"{pair} -a -dof 12 -ia-identity -m {affine_metric} -n {iterations} -o {linear}")
        start = f"-it {linear}" if affine else ""
        model = "-sv" if velocity else ""
        # Without -wp 0 greedy rounds the field to a tenth of a voxel.
        greedy.execute(f"{pair} -m {metric} -n {iterations} -s {smooth} {model} -wp 0 {start} -o {warp}")
        greedy.execute(f"-d {dimension} -rf {fixed} -wp 0 -rc {whole} -r {warp} {linear if affine else ''}")
        return from_itk(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(whole))))


if __name__ == "__main__":
    main(register)
