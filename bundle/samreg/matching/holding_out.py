"""Pairs that no fit uses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from samreg.rois import RoiPairs


def with_held_out(pairs: RoiPairs, share: float, seed: int) -> RoiPairs:
    """The pairs with about `share` of them marked as held out, drawn evenly over the confidences.

    Pairs that share a region are held out together or not at all, and count as one. At least one is held out from
    four on; with fewer, none (all are needed).
    """
    units: dict[object, list[int]] = {}
    for n, pair in enumerate(pairs):
        units.setdefault(("group", pair.group) if pair.group else n, []).append(n)
    together = list(units.values())
    count = max(1, round(share * len(together))) if share > 0 and len(together) >= 4 else 0
    rng = np.random.default_rng(seed)
    parts = np.array_split(np.arange(len(together)), count) if count else []
    chosen = {n for part in parts for n in together[int(rng.choice(part))]}
    return replace(pairs, pairs=tuple(replace(p, held_out=n in chosen) for n, p in enumerate(pairs)))
