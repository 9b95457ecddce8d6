"""Pairs found slice by slice, joined into pairs of three-dimensional regions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from samreg.matching.groups import groups_of
from samreg.rois import Roi, RoiPair, RoiPairs

MIN_IOU = 0.4


def link_slices(pairs: RoiPairs, *, max_gap: int = 1) -> RoiPairs:
    """Joins pairs whose regions continue each other in neighbouring slices of both images.

    Two pairs are linked if in each image their regions lie in slices at most 1 + `max_gap` apart (in one slice in
    both images, or in neither) and overlap, seen along the slice normal, with an intersection over union of at
    least 0.4. What is linked becomes one pair of the united masks; similarity and confidence are the means, weighted by
    area. Pairs that span several slices already are left alone.

    Returns:
        Pairs renumbered, most confident first. Where pairs shared a region, what they became part of does too.
    """
    links: list[list[tuple[int, int]]] = [[] for _ in pairs]
    for a in range(len(pairs)):
        for b in range(a):
            one, two = pairs.pairs[a], pairs.pairs[b]
            # One slice paired with two is one-to-many, not a region that goes on.
            level = (one.fixed.start[2] == two.fixed.start[2]) == (one.moving.start[2] == two.moving.start[2])
            if level and all(_continues(getattr(one, s), getattr(two, s), max_gap) for s in ("fixed", "moving")):
                links[a].append((a, b))
                links[b].append((a, b))
    chains: dict[object, list[RoiPair]] = {}
    for n, (pair, chain) in enumerate(zip(pairs, groups_of(links), strict=True)):
        chains.setdefault(("chain", chain) if chain else n, []).append(pair)
    members = sorted(chains.values(), key=lambda m: -_mean(m, "confidence"))
    groups = groups_of([{p.group for p in m if p.group} for m in members])
    linked = (replace(_united(m), id=i, group=g) for i, (m, g) in enumerate(zip(members, groups, strict=True), 1))
    return replace(pairs, pairs=tuple(linked))


def _continues(one: Roi, two: Roi, max_gap: int) -> bool:
    if not one.is_2d or not two.is_2d or abs(one.start[2] - two.start[2]) > 1 + max_gap:
        return False
    flat = replace(two, start=(*two.start[:2], one.start[2]))
    shared = one.overlap(flat)
    return shared >= MIN_IOU * (one.count + two.count - shared)


def _united(pairs: list[RoiPair]) -> RoiPair:
    if len(pairs) == 1:
        return pairs[0]
    return replace(
        pairs[0],
        fixed=union([p.fixed for p in pairs]),
        moving=union([p.moving for p in pairs]),
        similarity=_mean(pairs, "similarity"),
        confidence=_mean(pairs, "confidence"),
    )


def _mean(pairs: list[RoiPair], name: str) -> float:
    """Of an attribute of the pairs, weighted by area."""
    return float(np.average([getattr(p, name) for p in pairs], weights=[p.fixed.count for p in pairs]))


def union(rois: list[Roi]) -> Roi:
    """Regions of one grid as one; its score is their mean, its label that of the first."""
    start = np.min([r.start for r in rois], axis=0)
    stop = np.max([np.add(r.start, r.shape) for r in rois], axis=0)
    mask = np.zeros(stop - start, bool)
    for roi in rois:
        where = tuple(slice(a - s, a - s + n) for a, s, n in zip(roi.start, start, roi.shape, strict=True))
        mask[where] |= roi.box
    score = float(np.mean([r.score for r in rois]))
    return Roi.from_mask(mask, offset=start.tolist(), score=score, label=rois[0].label)
