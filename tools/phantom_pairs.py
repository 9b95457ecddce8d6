"""Phantom pairs with organ labels and landmarks, and the PAIRS.csv that lists them for `samreg ablate`.

python tools/phantom_pairs.py OUT --count 4
samreg ablate OUT/PAIRS.csv --vary matching.max_pairs=1,3,5,9 -o TABLE
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np

from samreg import phantoms

if TYPE_CHECKING:
    from samreg.phantoms import Phantom

COLUMNS = ("name", "fixed", "moving", "fixed_labels", "moving_labels", "fixed_landmarks", "moving_landmarks")


def main() -> int:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder, made if absent")
    parser.add_argument("--count", type=int, default=4, help="pairs, each another anatomy (default 4)")
    parser.add_argument("--size", type=int, default=56, help="voxels along i (default 56)")
    parser.add_argument("--grid", choices=get_args(phantoms.GridName), default="axial")
    parser.add_argument("--kind", choices=get_args(phantoms.PhantomKind), default="deformable")
    parser.add_argument("--contrast", choices=("same", "inverted", "other"), default="same")
    parser.add_argument("--peak-mm", type=float, default=12.0, help="largest displacement of a deformable pair")
    args = parser.parse_args()
    grid = phantoms.grid(args.grid, args.size)
    made = [
        phantoms.pair(args.kind, seed=seed, fixed_grid=grid, contrast=args.contrast, peak_mm=args.peak_mm)
        for seed in range(args.count)
    ]
    print(write(args.out, made))
    return 0


def write(out: Path, pairs: list[Phantom], landmarks: int = 24) -> Path:
    """Images, label maps and landmarks of each pair in a folder of its own.

    Args:
        landmarks: Random voxels of organs whose true counterparts the moving image shows, at most this many.

    Returns:
        The PAIRS.csv.
    """
    from samreg.io.writing import write_image

    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, phantom in enumerate(pairs):
        name = f"phantom-{number}"
        folder = out / name
        folder.mkdir(exist_ok=True)
        for side, image, labels in (
            ("fixed", phantom.fixed, phantom.fixed_labels),
            ("moving", phantom.moving, phantom.moving_labels),
        ):
            write_image(image.voxels, image.grid, folder / f"{side}.nii.gz")
            write_image(labels, image.grid, folder / f"{side}_labels.nii.gz")
        for side, points in zip(("fixed", "moving"), _landmarks(phantom, landmarks, number), strict=True):
            lines = [f"{n},{x:.4f},{y:.4f},{z:.4f}" for n, (x, y, z) in enumerate(points, 1)]
            text = "\n".join(["name,x,y,z", *lines])
            (folder / f"{side}_landmarks.csv").write_text(f"{text}\n", encoding="utf-8")
        files = [
            f"{side}{what}" for what in (".nii.gz", "_labels.nii.gz", "_landmarks.csv") for side in ("fixed", "moving")
        ]
        rows.append([name, *(f"{name}/{file}" for file in files)])
    with (out / "PAIRS.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    return out / "PAIRS.csv"


def _landmarks(phantom: Phantom, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points [n, 3] in LPS mm of the fixed image and where they truly lie in the moving one."""
    points = phantom.fixed.grid.lps(np.argwhere(phantom.fixed_labels > 0).astype(float))
    points = np.random.default_rng(seed).permutation(points)[: 4 * count]
    true = phantom.truth.map_points(points)
    seen = np.flatnonzero(phantom.moving.grid.contains(true))[:count]
    return points[seen], true[seen]


if __name__ == "__main__":
    sys.exit(main())
