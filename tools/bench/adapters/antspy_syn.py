"""ANTs' symmetric normalisation (SyN) by ANTsPy, after the affine of the same call or alone."""

import os
import tempfile

import ants
import numpy as np
from exchange import main


def register(fixed: str, moving: str, *, kind: str, metric: str, radius: int, iterations: list[int]) -> np.ndarray:
    """`kind` is "SyN" (with affine) or "SyNOnly"."""
    os.environ["ANTS_RANDOM_SEED"] = "1"  # the affine draws its samples at random
    a, b = (ants.image_read(path, pixeltype="float") for path in (fixed, moving))
    with tempfile.TemporaryDirectory() as scratch:
        found = ants.registration(
            a,
            b,
            type_of_transform=kind,
            initial_transform="Identity",
            syn_metric=metric,
            syn_sampling=radius,
            reg_iterations=tuple(iterations),
            outprefix=f"{scratch}/",
        )
        whole = ants.apply_transforms(a, b, found["fwdtransforms"], compose=f"{scratch}/whole")
        return ants.image_read(whole).numpy()


if __name__ == "__main__":
    main(register)
