"""Estimation and matching options through whole registrations of deformable phantoms.

python tools/compare_fits.py [--seeds 1] [--only NAME ...]

Prints a Markdown table: for each option the mean true error in mm over the phantoms of one contrast, how many of them
became deformable (the others fell back), and the mean time.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from itertools import product
from time import perf_counter
from typing import Any

import numpy as np
import torch

from samreg import phantoms
from samreg.config import configured
from samreg.session import register
from samreg.transforms import Affine

GRIDS: Mapping[phantoms.GridName, int] = {"thin": 64, "picture": 96}
LINEAR = ("rigid-from-pairs", "affine-from-pairs")
OPTIONS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "hybrid (default)": ("hybrid", {}),
    "hybrid, from identity": ("hybrid", {"estimators": {"deformable": ["velocity"]}}),
    "hybrid, pairs weigh the same": ("hybrid", {"estimation": {"weight_by_confidence": False}}),
    "hybrid, optimal": ("hybrid", {"matching": {"assignment": "optimal", "mutual": False}}),
    "hybrid, one to many": ("hybrid", {"matching": {"assignment": "one_to_many"}}),
    "hybrid, assignment hybrid": ("hybrid", {"matching": {"assignment": "hybrid"}}),
    "hybrid, adaptive": ("hybrid", {"matching": {"adaptive": True}}),
    "hybrid, shape 1": ("hybrid", {"matching": {"shape_weight": 1.0}}),
    "pairs alone": ("pairs", {}),
    "pairs alone, displacement": ("pairs", {"estimators": {"deformable": [*LINEAR, "displacement"]}}),
    "pairs alone, from identity": ("pairs", {"estimators": {"deformable": ["velocity-from-pairs"]}}),
    "pairs alone, all weigh the same": ("pairs", {"estimation": {"weight_by_confidence": False}}),
    "samreg (the paper)": ("samreg", {}),
    "samreg, linear start": ("samreg", {"estimators": {"deformable": [*LINEAR, "displacement"]}}),
    "samreg, velocity": (
        "samreg",
        {"estimators": {"deformable": ["velocity-from-pairs"]}, "estimation": {"smoothness_weight": 0.3}},
    ),
    "samreg, adaptive": ("samreg", {"matching": {"adaptive": True}}),
    "samreg, slices by position": ("samreg", {"matching": {"slice_pairing": "physical"}}),
    "samreg, linked": ("samreg", {"matching": {"link": True}}),
    "samreg, position 1": ("samreg", {"matching": {"position_weight": 1.0}}),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", nargs="+", default=[""], help="options whose name begins with one of these")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    found = {
        contrast: [
            phantoms.pair("deformable", seed=seed, fixed_grid=phantoms.grid(grid, size), contrast=contrast)
            for (grid, size), seed in product(GRIDS.items(), range(asked.seeds))
        ]
        for contrast in ("same", "inverted")
    }
    print("| option | same [mm] | deformable | inverted [mm] | deformable | time [s] |\n|---|---|---|---|---|---|")
    before = [np.mean([p.errors_mm(Affine.identity()).mean() for p in ps]) for ps in found.values()]
    print(f"| before | {before[0]:.2f} | – | {before[1]:.2f} | – | – |")
    for name, (preset, values) in OPTIONS.items():
        if not name.startswith(tuple(asked.only)):
            continue
        config = configured(preset=preset, encoder="handcrafted", **values)
        cells, started = [], perf_counter()
        for pairs in found.values():
            results = [(p, register(p.fixed, p.moving, config)) for p in pairs]
            error = np.mean([p.errors_mm(r.transform).mean() for p, r in results])
            cells += [f"{error:.2f}", f"{sum(r.kind == 'deformable' for _, r in results)} of {len(results)}"]
        seconds = (perf_counter() - started) / sum(map(len, found.values()))
        print(f"| {name} | {' | '.join(cells)} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
