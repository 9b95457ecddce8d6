"""The default chain beside its fall-back on real images with a known truth.

python tools/compare_encoders.py DATA [--only decubitus prostate histology brain] [--cases 25]

Prints Markdown tables. DATA holds decubitus/ (one head in several positions), prostate_mr_us/ (ultrasound and MR with
gland and landmarks), histology/ (sections in two stains with landmarks) and brain2d/. Nothing is tuned on them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import nibabel as nib
import numpy as np
import torch

from samreg import io
from samreg.config import configured
from samreg.geometry import Volume
from samreg.metrics import dice, evaluate_landmarks, normalised_correlation, pair_distance_mm
from samreg.preprocess import body_mask
from samreg.result import RegistrationResult
from samreg.session import register
from samreg.tables import PointTable, paired
from samreg.transforms import Affine, Transform

ENCODERS = ("embedded", "handcrafted")
RIGHT_MM = 5.0
SUREST = 100


def decubitus(data: Path, cases: int) -> None:
    """Pairs of regions of one head in two positions; right by the rigid motion that mutual information finds."""
    print(
        "| pair | encoder | pairs | right | precision | of the 100 surest | time [s] |\n|---|---|---|---|---|---|---|"
    )
    for fixed_name, moving_name in [("HFS", "HFDR"), ("HFS", "HFP"), ("HFDR", "HFP")][:cases]:
        fixed, moving = io.read_pair(data / fixed_name, data / moving_name)
        truth = register(fixed, moving, configured(encoder="handcrafted", transform="rigid")).transform
        for encoder in ENCODERS:
            result, seconds = _registered(fixed, moving, encoder, transform="rigid", matching={"link": False})
            right = pair_distance_mm(result.pairs, truth) <= RIGHT_MM
            order = np.argsort(-result.pairs.confidences)
            row = [len(right), int(right.sum()), f"{right.mean():.2f}", f"{right[order][:SUREST].mean():.2f}"]
            _row(f"{fixed_name} ← {moving_name}", encoder, *row, f"{seconds:.0f}")


def prostate(data: Path, cases: int) -> None:
    """Ultrasound and MR of one gland: its Dice, and the distance of landmarks (centroids of small masks)."""
    scores: dict[str, list[tuple[float, float, str]]] = {"before": [], **{encoder: [] for encoder in ENCODERS}}
    seconds = dict.fromkeys(ENCODERS, 0.0)
    for name in sorted(path.name for path in (data / "fixed_images").glob("*.nii.gz"))[:cases]:
        fixed, moving = (io.read_image(data / f"{side}_images" / name) for side in ("fixed", "moving"))
        masks = [_masks(data / f"{side}_labels" / name) for side in ("fixed", "moving")]
        scores["before"].append((*_gland_scores(Affine.identity(), fixed, moving, masks), "identity"))
        for encoder in ENCODERS:
            result, took = _registered(fixed, moving, encoder)
            seconds[encoder] += took
            scores[encoder].append((*_gland_scores(result.transform, fixed, moving, masks), result.kind))
    print("| encoder | gland Dice | landmark error [mm] | kinds | time of a pair [s] |\n|---|---|---|---|---|")
    for encoder, rows in scores.items():
        kinds = [kind for _, _, kind in rows]
        said = ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))
        overlap, error = np.mean([row[0] for row in rows]), np.nanmean([row[1] for row in rows])
        each = f"{seconds[encoder] / len(rows):.0f}" if encoder in seconds else ""
        _row(encoder, f"{overlap:.3f}", f"{error:.2f}", said, each)


def histology(data: Path, cases: int) -> None:
    """Sections in two stains: the error of landmarks in pixels."""
    print(
        "| sections | transform | encoder | mean | median | max | taken | time [s] |\n|---|---|---|---|---|---|---|---|"
    )
    sections = [
        ("lesions", "Izd2-29-041-w35_HE", "Izd2-29-041-w35_proSPC"),
        ("rat-kidney", "Rat-Kidney_HE", "Rat-Kidney_PanCytokeratin"),
    ]
    for folder, *names in sections[:cases]:
        files = [data / folder / name for name in names]
        fixed, moving = (io.read_image(f"{file}.jpg", pixel_spacing_mm=(0.01, 0.01)) for file in files)
        grids = fixed.grid, moving.grid
        tables = [PointTable.read_pixels(Path(f"{f}.csv"), grid) for f, grid in zip(files, grids, strict=True)]
        points = paired(*tables)
        for transform in ("rigid", "deformable"):
            for encoder in ENCODERS:
                result, seconds = _registered(fixed, moving, encoder, transform=transform)
                error = evaluate_landmarks(result.transform, *points, moving_grid=moving.grid)["tre_px"]
                values = [f"{error[key]:.1f}" for key in ("mean", "median", "max")]
                _row(folder, transform, encoder, *values, result.kind, f"{seconds:.0f}")


def brain(data: Path, cases: int) -> None:
    """Slices of a brain: correlation after registration."""
    print("| slices | transform | encoder | correlation | taken | time [s] |\n|---|---|---|---|---|---|")
    for name, transform in [
        ("r16slice_rigid", "rigid"),
        ("r16slice_rigid", "deformable"),
        ("r64slice", "affine"),
        ("r64slice", "deformable"),
    ][:cases]:
        fixed, moving = io.read_pair(data / "r16slice.nii.gz", data / f"{name}.nii.gz")
        for encoder in ENCODERS:
            result, seconds = _registered(fixed, moving, encoder, transform=transform)
            warped = result.transform.warp(moving, fixed.grid, outside=np.nan)
            seen = body_mask(fixed) & np.isfinite(warped)
            reached = normalised_correlation(fixed.voxels[seen], warped[seen])
            _row(f"r16 ← {name}", transform, encoder, f"{reached:.3f}", result.kind, f"{seconds:.0f}")


def _registered(fixed: Volume, moving: Volume, encoder: str, **options: Any) -> tuple[RegistrationResult, float]:
    started = perf_counter()
    result = register(fixed, moving, configured(encoder=encoder, **options))
    return result, perf_counter() - started


def _masks(path: Path) -> np.ndarray:
    """[i, j, k, n] gland first, then landmarks."""
    masks = np.asarray(nib.load(path).dataobj) > 0.5  # type: ignore[attr-defined]
    return masks if masks.ndim == 4 else masks[..., None]


def _gland_scores(transform: Transform, fixed: Volume, moving: Volume, masks: list[np.ndarray]) -> tuple[float, float]:
    warped = transform.warp(Volume(masks[1][..., 0].astype(np.uint8), moving.grid), fixed.grid, interpolation="nearest")
    errors = [float(np.linalg.norm(a - b)) for a, b in _landmarks(transform, fixed, moving, masks)]
    return dice(masks[0][..., 0], warped > 0), float(np.mean(errors)) if errors else float("nan")


def _landmarks(
    transform: Transform, fixed: Volume, moving: Volume, masks: list[np.ndarray]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Where each landmark of the fixed image is mapped to, and where it lies, LPS mm."""
    for n in range(1, min(masks[0].shape[3], masks[1].shape[3])):
        here, there = (np.argwhere(mask[..., n]) for mask in masks)
        if len(here) and len(there):
            yield transform.map_points(fixed.grid.lps(here.mean(0)[None]))[0], moving.grid.lps(there.mean(0)[None])[0]


def _row(*cells: object) -> None:
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


COMPARISONS: Mapping[str, tuple[str, Any]] = {
    "decubitus": ("decubitus", decubitus),
    "prostate": ("prostate_mr_us", prostate),
    "histology": ("histology", histology),
    "brain": ("brain2d", brain),
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", nargs="+", choices=list(COMPARISONS), default=list(COMPARISONS))
    parser.add_argument("--cases", type=int, default=25, help="at most so many of each")
    asked = parser.parse_args()
    torch.set_num_threads(2)
    for name in asked.only:
        folder, compare = COMPARISONS[name]
        print(f"\n{compare.__doc__}\n")
        compare(asked.data / folder, asked.cases)


if __name__ == "__main__":
    main()
