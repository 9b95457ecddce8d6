"""Matching options beside the paper's choice, on phantoms with a known transform.

python tools/compare_matching.py [--seeds 2] [--size 64]

A pair is correct if the true transform takes the centroid of its fixed region to within 5 mm of that of its moving one.
Prints a Markdown table for each kind of regions: pairs, correct pairs, and their share.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch

from samreg import phantoms
from samreg.config import Config, ProposalConfig
from samreg.encoders.handcrafted import Handcrafted
from samreg.encoders.pooling import pool
from samreg.geometry import Volume
from samreg.matching import SegmentedImage, link_slices, pair_up
from samreg.metrics import pair_distance_mm
from samreg.phantoms import Phantom
from samreg.preprocess import body_mask, working_volume
from samreg.proposals.superpixels import Superpixels
from samreg.rois import RoiPairs
from samreg.transforms import Rigid, rigid_from_points

CORRECT_MM = 5.0
SPACING_MM = 4.0
PAPER = {
    "mutual": False, "rank_by": "score", "position_weight": 0.0, "slice_pairing": "index", "link": False,
    "similarity_threshold": 0.8, "max_pairs": 48,
}  # fmt: skip

# What is compared, each changing one thing: the paper's matching by appearance, and ours under a rigid estimate.
BY_APPEARANCE: Mapping[str, Mapping[str, Any]] = {
    "paper: greedy, ε 0.8": PAPER,
    "optimal": {**PAPER, "assignment": "optimal"},
    "one to many": {**PAPER, "assignment": "one_to_many"},
    "one to many, best of either side": {**PAPER, "assignment": "one_to_many", "mutual": True},
    "hybrid": {**PAPER, "assignment": "hybrid"},
    "mutual": {**PAPER, "mutual": True},
    "first by confidence": {**PAPER, "rank_by": "confidence"},
    "mutual, first by confidence": {**PAPER, "mutual": True, "rank_by": "confidence"},
    "shape 1": {**PAPER, "shape_weight": 1.0},
    "adaptive": {**PAPER, "adaptive": True},
    "adaptive, first by confidence": {**PAPER, "adaptive": True, "rank_by": "confidence"},
    "adaptive, shape 1": {**PAPER, "adaptive": True, "shape_weight": 1.0},
    "slices by position": {**PAPER, "slice_pairing": "physical"},
    "linked across slices": {**PAPER, "link": True},
}
WITH_POSITION: Mapping[str, Mapping[str, Any]] = {
    "default (mutual, position 1)": {},
    "greedy": {"mutual": False},
    "optimal": {"mutual": False, "assignment": "optimal"},
    "one to many": {"assignment": "one_to_many"},
    "hybrid": {"assignment": "hybrid"},
    "position 0.5": {"position_weight": 0.5},
    "position 2": {"position_weight": 2.0},
    "shape 1": {"shape_weight": 1.0},
    "adaptive": {"adaptive": True},
    "first by score": {"rank_by": "score"},
}


@dataclass(frozen=True, eq=False)
class Case:
    """One phantom with its regions; `aligned` is the rigid transform nearest to the truth."""

    phantom: Phantom
    fixed: SegmentedImage
    moving: SegmentedImage
    aligned: Rigid


def cases(grids: tuple[str, ...], seeds: int, size: int, proposals: ProposalConfig) -> Iterator[Case]:
    """Phantoms with a rigid and a deformable truth, same and inverted contrast."""
    for grid, kind, contrast, seed in product(grids, ("rigid", "deformable"), ("same", "inverted"), range(seeds)):
        phantom = phantoms.pair(
            kind, seed=seed, fixed_grid=phantoms.grid(grid, size), contrast=contrast,
            rotation_deg=6, translation_mm=8,
        )  # fmt: skip
        points = phantom.fixed.grid.lps(np.argwhere(phantom.body)[::37])
        matrix = rigid_from_points(points, phantom.truth.map_points(points), np.ones(len(points)))
        yield Case(phantom, _segmented(phantom.fixed, proposals), _segmented(phantom.moving, proposals), Rigid(matrix))


def _segmented(volume: Volume, proposals: ProposalConfig) -> SegmentedImage:
    working = working_volume(volume, SPACING_MM, keep_slices=proposals.per_slice)
    body = body_mask(working)
    rois = Superpixels().propose(working, body, proposals)
    return SegmentedImage(volume, working, body, rois, pool(Handcrafted().encode(working), rois))


def pairs_of(case: Case, options: Mapping[str, Any]) -> RoiPairs:
    """The pairs that a configuration finds."""
    config = Config().with_values({"matching": options}).matching
    aligned = case.aligned if config.position_weight else None
    pairs = pair_up(case.fixed, case.moving, Handcrafted(), config, aligned)
    return link_slices(pairs) if config.link else pairs


def table(title: str, options: Mapping[str, Mapping[str, Any]], found: list[Case]) -> None:
    """Means over all cases."""
    print(f"\n{title}, {len(found)} phantoms\n\n| matching | pairs | correct | share correct |\n|---|---|---|---|")
    for name, values in options.items():
        counts, right = [], []
        for case in found:
            pairs = pairs_of(case, values)
            counts.append(len(pairs))
            right.append(int((pair_distance_mm(pairs, case.phantom.truth) <= CORRECT_MM).sum()))
        share = sum(right) / max(1, sum(counts))
        print(f"| {name} | {np.mean(counts):.1f} | {np.mean(right):.1f} | {share:.2f} |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--size", type=int, default=64)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    solid = list(cases(("oblique", "thin", "picture"), asked.seeds, asked.size, ProposalConfig()))
    table("Regions of the volume, by appearance", BY_APPEARANCE, solid)
    table("Regions of the volume, under the rigid estimate", WITH_POSITION, solid)
    paper = ProposalConfig(per_slice=True, max_rois=2000, min_area_px=200.0, max_area_px=7000.0)
    flat = list(cases(("axial", "thin"), asked.seeds, asked.size, paper))
    table("Regions of each slice (the paper's limits), by appearance", BY_APPEARANCE, flat)


if __name__ == "__main__":
    main()
