"""What the embedded model costs: everything mode of one slice of 256 x 256, and two volumes of 40 slices up to pairs.

python tools/bench_embedded.py                          # the weights that are shipped
python tools/bench_embedded.py --weights embedded.safetensors --slices 40
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from samreg import phantoms
from samreg.config import configured
from samreg.encoders.models import EmbeddedEncoder
from samreg.encoders.pooling import pool
from samreg.geometry import Volume
from samreg.matching import calibrated, match, similarity, weigh
from samreg.preprocess import body_mask
from samreg.proposals.everything import POINTS_PER_SIDE, Everything

PIXELS = 256
REPEATS = 5


def main() -> None:
    """Print both figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="default: the weights that are shipped")
    parser.add_argument("--slices", type=int, default=40, help="of each volume (default: 40)")
    args = parser.parse_args()
    encoder = EmbeddedEncoder(weights=args.weights)
    pair = phantoms.pair("rigid", fixed_grid=phantoms.grid("axial", PIXELS), rotation_deg=5)
    fixed, moving = (middle_slices(volume, args.slices) for volume in (pair.fixed, pair.moving))

    spent = []
    for repeat in range(REPEATS + 1):
        slice_ = middle_slices(fixed, 1)
        # Other voxels each time, so that nothing is kept from the last.
        slice_ = Volume(slice_.voxels + np.float32(repeat), slice_.grid)
        started = time.perf_counter()
        rois = regions_of(encoder, slice_)
        spent.append(time.perf_counter() - started)
    points = POINTS_PER_SIDE**2
    print(f"{torch.get_num_threads()} threads")
    seconds = float(np.median(spent[1:]))
    print(f"everything mode of {PIXELS} x {PIXELS}, up to {points} points: {seconds:.2f} s, {len(rois)} regions")

    started = time.perf_counter()
    sets = [regions_of(encoder, volume) for volume in (fixed, moving)]
    prototypes = [pool(encoder.encode(volume), found) for volume, found in zip((fixed, moving), sets, strict=True)]
    matching = calibrated(configured().matching, encoder.calibration)
    pairs = match(weigh(*sets, similarity(*prototypes, matching.similarity), matching, calibration=encoder.calibration))
    seconds = time.perf_counter() - started
    print(f"2 x {args.slices} slices: {seconds:.1f} s from volumes to {len(pairs)} pairs of {len(sets[0])} regions")


def regions_of(encoder: EmbeddedEncoder, volume: Volume) -> object:
    """Everything mode of all slices, encoding included."""
    return Everything(encoder.slices).propose(volume, body_mask(volume), configured().proposals)


def middle_slices(volume: Volume, count: int) -> Volume:
    """The middle slices of a volume."""
    grid = volume.grid
    first = (grid.shape[2] - count) // 2
    voxels = np.ascontiguousarray(volume.voxels[:, :, first : first + count])
    return Volume(voxels, grid.crop((0, 0, first), (*grid.shape[:2], first + count)))


if __name__ == "__main__":
    main()
