"""Pairs found slice by slice, joined into pairs of three-dimensional regions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from samreg.rois import Roi, RoiPair, RoiPairs

MIN_IOU = 0.4


def link_slices(pairs: RoiPairs, *, max_gap: int = 1) -> RoiPairs:
    """Joins pairs whose regions continue each other in neighbouring slices of both images.

    Two pairs are linked if in each image their regions lie in slices at most 1 + `max_gap` apart and
    overlap, seen along the slice normal, with an intersection over union of at least 0.4. What is
    linked becomes one pair of the united masks; similarity and confidence are the means, weighted by
    area. Pairs that span several slices already are left alone.

    Returns:
        Pairs renumbered, most confident first.
    """
    groups = _Groups(len(pairs))
    for a in range(len(pairs)):
        for b in range(a):
            one, two = pairs.pairs[a], pairs.pairs[b]
            if _continues(one.fixed, two.fixed, max_gap) and _continues(one.moving, two.moving, max_gap):
                groups.join(a, b)
    linked = [_united([pairs.pairs[i] for i in members]) for members in groups.members()]
    linked.sort(key=lambda pair: -pair.confidence)
    return replace(pairs, pairs=tuple(replace(p, id=i + 1) for i, p in enumerate(linked)))


def _continues(one: Roi, two: Roi, max_gap: int) -> bool:
    if not one.is_2d or not two.is_2d or not abs(one.start[2] - two.start[2]) <= 1 + max_gap:
        return False
    flat = replace(two, start=(*two.start[:2], one.start[2]))
    shared = one.overlap(flat)
    return shared >= MIN_IOU * (one.count + two.count - shared)


def _united(pairs: list[RoiPair]) -> RoiPair:
    if len(pairs) == 1:
        return pairs[0]
    areas = np.array([p.fixed.count for p in pairs], float)
    return replace(
        pairs[0],
        fixed=union([p.fixed for p in pairs]),
        moving=union([p.moving for p in pairs]),
        similarity=float(np.average([p.similarity for p in pairs], weights=areas)),
        confidence=float(np.average([p.confidence for p in pairs], weights=areas)),
    )


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


class _Groups:
    """Disjoint sets."""

    def __init__(self, count: int) -> None:
        self.parent = list(range(count))

    def root(self, item: int) -> int:
        while self.parent[item] != item:
            item = self.parent[item]
        return item

    def join(self, a: int, b: int) -> None:
        self.parent[self.root(a)] = self.root(b)

    def members(self) -> list[list[int]]:
        groups: dict[int, list[int]] = {}
        for item in range(len(self.parent)):
            groups.setdefault(self.root(item), []).append(item)
        return list(groups.values())
