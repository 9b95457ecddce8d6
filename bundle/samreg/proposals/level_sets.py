"""Stable components of the level sets: dark or bright things whose outline hardly moves with the threshold.

Matas et al., Robust Wide Baseline Stereo from Maximally Stable Extremal Regions, BMVC 2002;
Donoser and Bischof, 3D Segmentation by Maximally Stable Volumes, ICPR 2006.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import find_objects, label

from samreg.rois import Roi
from samreg.types import Mask, Voxels

# Thresholds: half of them at equal shares of the body's voxels, where most of the tissue is; half at equal
# steps of intensity, for small things that stand out. Bright and dark are treated alike.
LEVELS = 40
DELTA = 3  # levels above and below over which a component's size must hold


@dataclass(frozen=True, eq=False)
class _Tree:
    """Components of the sets image >= threshold, lowest threshold first; a parent has a lower threshold.

    Attributes:
        labels: For each level the components, int32 [i, j, k] from 1.
        offset: [levels] number of the level's component 1.
        parent: [m] number of the component one level below, -1 on the lowest level.
        size: [m] voxels.
        level: [m].
    """

    labels: list[np.ndarray]
    offset: np.ndarray
    parent: np.ndarray
    size: np.ndarray
    level: np.ndarray


def stable_components(image: Voxels, body: Mask, smallest: float, largest: float) -> Iterator[Roi]:
    """Bright and dark components that are stable over the threshold.

    Args:
        image: float32 [i, j, k], smoothed.
        body: [i, j, k] where components are looked for.
        smallest, largest: Limits in voxels.

    Yields:
        Regions; the score 1 / (1 + relative growth over 2 * DELTA levels) is 1 for a perfectly stable one.
    """
    values = image[body]
    shares = np.quantile(values, (np.arange(LEVELS // 2) + 0.5) / (LEVELS // 2))
    steps = np.linspace(values.min(), values.max(), LEVELS // 2 + 2)[1:-1]
    thresholds = np.concatenate([shares, steps])
    for sign in (1, -1):
        tree = _component_tree(sign * image, body, np.unique(sign * thresholds))
        growth = _growth(tree)
        good = np.isfinite(growth) & (tree.size >= smallest) & (tree.size <= largest)
        for level, labels in enumerate(tree.labels):
            numbers = np.flatnonzero(good & (tree.level == level))
            if numbers.size == 0:
                continue
            boxes = find_objects(labels)
            for number in numbers:
                own = int(number - tree.offset[level]) + 1
                box = boxes[own - 1]
                offset = [side.start for side in box]
                yield Roi.from_mask(labels[box] == own, offset=offset, score=float(1 / (1 + growth[number])))
        del tree, labels  # one polarity at a time: a tree holds a label map for every level


def _component_tree(image: Voxels, body: Mask, thresholds: np.ndarray) -> _Tree:
    labels: list[np.ndarray] = []
    offsets, parents, sizes = [0], [], []
    for n, threshold in enumerate(thresholds):
        components, count = label((image >= threshold) & body)
        flat = components.ravel()
        inside = np.flatnonzero(flat)
        sizes.append(np.bincount(flat[inside], minlength=count + 1)[1:])
        anywhere = np.zeros(count + 1, np.int64)  # one voxel of each component
        anywhere[flat[inside]] = inside
        below = labels[-1].ravel()[anywhere[1:]] - 1 + offsets[n - 1] if n else np.full(count, -1)
        parents.append(below)
        labels.append(components)
        offsets.append(offsets[-1] + count)
    level = np.repeat(np.arange(len(thresholds)), np.diff(offsets))
    return _Tree(labels, np.array(offsets[:-1]), np.concatenate(parents), np.concatenate(sizes), level)


def _growth(tree: _Tree) -> np.ndarray:
    """[m] relative change of size from DELTA levels above to DELTA below; not finite near the lowest level."""
    everyone = np.arange(tree.size.size)
    ancestor = everyone
    for _ in range(DELTA):
        ancestor = np.where(ancestor >= 0, tree.parent[ancestor], -1)
    # The largest component inside, DELTA levels above; nothing is left of a peak.
    by_size = np.argsort(tree.size, kind="stable")
    by_size = by_size[tree.parent[by_size] >= 0]
    main_child = np.full(tree.size.size, -1)
    main_child[tree.parent[by_size]] = by_size
    descendant = everyone
    for _ in range(DELTA):
        descendant = np.where(descendant >= 0, main_child[descendant], -1)
    outer = np.where(ancestor >= 0, tree.size[ancestor], np.inf)
    inner = np.where(descendant >= 0, tree.size[descendant], 0)
    return (outer - inner) / tree.size
