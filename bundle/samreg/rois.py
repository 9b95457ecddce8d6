"""Regions of interest: compact masks on a grid, sets of them, and pairs between two images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.ndimage import map_coordinates

from samreg.errors import UsageError
from samreg.geometry import Grid
from samreg.types import Labels, Mask


@dataclass(frozen=True, eq=False)
class Roi:
    """One region: the bits of its bounding box.

    A box of 50 x 50 x 20 voxels takes 6 KB, so thousands of regions fit in memory.

    Attributes:
        start: Index [i, j, k] of the first voxel of the box.
        shape: Size of the box in voxels.
        bits: np.packbits of the box in C order.
        score: The proposer's own quality of the region, 0..1.
        label: The label number of a given label map (Case 1), else 0.
    """

    start: tuple[int, int, int]
    shape: tuple[int, int, int]
    bits: bytes
    score: float = 1.0
    label: int = 0

    @staticmethod
    def from_mask(mask: Mask, *, offset: Sequence[int] = (0, 0, 0), score: float = 1.0, label: int = 0) -> Roi:
        """A region from a mask [i, j, k] whose voxel (0, 0, 0) has index `offset`.

        Raises:
            UsageError: The mask is empty.
        """
        low, high = [], []
        for axis in range(3):
            line = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
            if line.size == 0:
                raise UsageError("the region is empty", "a mask with at least one voxel")
            low.append(int(line[0]))
            high.append(int(line[-1]) + 1)
        box = np.ascontiguousarray(mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))])
        start = tuple(a + int(o) for a, o in zip(low, offset, strict=True))
        return Roi(start, box.shape, np.packbits(box).tobytes(), score, label)  # type: ignore[arg-type]

    @property
    def box(self) -> Mask:
        """The mask of the bounding box."""
        count = int(np.prod(self.shape))
        return np.unpackbits(np.frombuffer(self.bits, np.uint8), count=count).reshape(self.shape).astype(bool)

    @property
    def where(self) -> tuple[slice, slice, slice]:
        """Slices of the bounding box in the whole grid."""
        i, j, k = (slice(a, a + n) for a, n in zip(self.start, self.shape, strict=True))
        return i, j, k

    @cached_property
    def count(self) -> int:
        """Number of voxels."""
        return int(np.unpackbits(np.frombuffer(self.bits, np.uint8)).sum())

    @cached_property
    def centroid_ijk(self) -> np.ndarray:
        """Mean voxel index [3]."""
        return np.argwhere(self.box).mean(0) + self.start

    @property
    def is_2d(self) -> bool:
        """True for a region within one slice (axis k)."""
        return self.shape[2] == 1

    def contains(self, voxel: Sequence[int] | np.ndarray) -> bool:
        """True if the voxel of index [i, j, k] belongs to the region."""
        local = tuple(int(v) - s for v, s in zip(voxel, self.start, strict=True))
        return all(0 <= v < n for v, n in zip(local, self.shape, strict=True)) and bool(self.box[local])

    def mask(self, shape: Sequence[int]) -> Mask:
        """The whole mask on a grid of this shape."""
        out = np.zeros(shape, bool)
        out[self.where] = self.box
        return out

    def on_grid(self, source: Grid, target: Grid) -> Roi | None:
        """The region on another grid of the same space, its edges interpolated; None if it vanishes there."""
        if source.same_as(target, 1e-6):
            return self
        edges = target.index(source.corners(self.start, self.shape))
        low = np.clip(np.floor(edges.min(0)), 0, np.asarray(target.shape) - 1).astype(int)
        high = np.clip(np.ceil(edges.max(0)) + 1, low + 1, target.shape).astype(int)
        ijk = source.index(target.crop(low, high).points()) - np.asarray(self.start)
        # A shell of zeros around the box; beyond a grid's own border the region goes on.
        pad = [
            (int(a > 0), int(a + n < whole)) for a, n, whole in zip(self.start, self.shape, source.shape, strict=True)
        ]
        box = np.pad(self.box.astype(np.float32), pad)
        values = map_coordinates(box, np.moveaxis(ijk + [p[0] for p in pad], -1, 0), order=1, mode="nearest")
        mask = values >= 0.5
        return Roi.from_mask(mask, offset=low.tolist(), score=self.score, label=self.label) if mask.any() else None

    def overlap(self, other: Roi) -> int:
        """Number of voxels shared with another region of the same grid."""
        low = np.maximum(self.start, other.start)
        high = np.minimum(np.add(self.start, self.shape), np.add(other.start, other.shape))
        if (high <= low).any():
            return 0
        mine = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, self.start, strict=True))
        theirs = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, other.start, strict=True))
        return int((self.box[mine] & other.box[theirs]).sum())


@dataclass(frozen=True, eq=False)
class RoiSet:
    """Regions of one image on one grid. Regions may overlap.

    Attributes:
        notes: What its maker had to do otherwise than asked.
    """

    grid: Grid
    rois: tuple[Roi, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rois)

    def __iter__(self) -> Iterator[Roi]:
        return iter(self.rois)

    @staticmethod
    def from_labels(labels: Labels, grid: Grid) -> RoiSet:
        """One region for each non-zero label of a map [i, j, k].

        Raises:
            UsageError: The map does not have the grid's shape.
        """
        if labels.shape != grid.shape:
            raise UsageError(f"the label map has the shape {labels.shape}", f"the image's shape {grid.shape}")
        rois = [Roi.from_mask(labels == n, label=int(n)) for n in np.unique(labels) if n != 0]
        return RoiSet(grid, tuple(rois))

    def volume_mm3(self, roi: Roi) -> float:
        """Volume of a region."""
        return roi.count * self.grid.voxel_mm3

    def area_mm2(self, roi: Roi) -> float:
        """Area of a region within its slices (i, j), mean over the slices it spans."""
        i, j = self.grid.affine[:3, 0], self.grid.affine[:3, 1]
        return roi.count / roi.shape[2] * float(np.linalg.norm(np.cross(i, j)))

    def centroid_lps(self, roi: Roi) -> np.ndarray:
        """Centroid [3] in LPS mm."""
        return self.grid.lps(roi.centroid_ijk[None])[0]

    def centroids_lps(self) -> np.ndarray:
        """Centroids [n, 3] in LPS mm."""
        return np.array([self.centroid_lps(r) for r in self.rois]).reshape(-1, 3)

    def described(self, roi: Roi, *, flat: bool | None = None) -> dict[str, Any]:
        """A region of this grid as it stands in JSON: centroid (LPS mm), area or volume, slices, label.

        Args:
            roi: The region.
            flat: Give its area; None: that of a region of one slice, the volume of others.
        """
        out: dict[str, Any] = {"centroid_lps_mm": [round(float(c), 4) for c in self.centroid_lps(roi)]}
        if roi.is_2d if flat is None else flat:
            out["area_mm2"] = round(self.area_mm2(roi), 3)
        else:
            out["volume_mm3"] = round(self.volume_mm3(roi), 3)
        out["slices"] = list(range(roi.start[2], roi.start[2] + roi.shape[2]))
        if roi.label:
            out["label"] = roi.label
        return out


@dataclass(frozen=True, eq=False)
class RoiPair:
    """The same anatomy in both images.

    Attributes:
        id: Number of the pair, from 1; the label of both regions in label maps and SEG.
        similarity: Of the prototypes, 0..1 (their raw cosine where that is configured).
        confidence: Probability that the pair is right, 0..1; weights the fit.
        held_out: True if the pair scores the fit instead of taking part in it.
        group: Pairs with the same number share a region, directly or by way of others; 0: shares none.
    """

    id: int
    fixed: Roi
    moving: Roi
    similarity: float
    confidence: float
    held_out: bool = False
    group: int = 0

    @property
    def is_2d(self) -> bool:
        """True if each region lies within one slice of its image."""
        return self.fixed.is_2d and self.moving.is_2d


@dataclass(frozen=True, eq=False)
class RoiPairs:
    """Pairs between regions of a fixed and a moving image, the most confident first."""

    fixed_grid: Grid
    moving_grid: Grid
    pairs: tuple[RoiPair, ...]

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[RoiPair]:
        return iter(self.pairs)

    @property
    def fixed(self) -> RoiSet:
        """The fixed regions in order of the pairs."""
        return RoiSet(self.fixed_grid, tuple(p.fixed for p in self.pairs))

    @property
    def moving(self) -> RoiSet:
        """The moving regions in order of the pairs."""
        return RoiSet(self.moving_grid, tuple(p.moving for p in self.pairs))

    def on_grids(self, fixed: Grid, moving: Grid) -> RoiPairs:
        """The pairs on other grids of the same spaces; a pair with a region that vanishes there is dropped."""
        out = []
        for pair in self.pairs:
            one, two = pair.fixed.on_grid(self.fixed_grid, fixed), pair.moving.on_grid(self.moving_grid, moving)
            if one is not None and two is not None:
                out.append(replace(pair, fixed=one, moving=two))
        return RoiPairs(fixed, moving, tuple(replace(p, id=n + 1) for n, p in enumerate(out)))

    @property
    def confidences(self) -> np.ndarray:
        """[n] in order of the pairs."""
        return np.array([p.confidence for p in self.pairs])

    @property
    def independent(self) -> int:
        """Number of pairs, those that share a region counted once."""
        return sum(not p.group for p in self.pairs) + len({p.group for p in self.pairs if p.group})

    def with_equal_confidence(self) -> RoiPairs:
        """The pairs, all with confidence 1."""
        return replace(self, pairs=tuple(replace(p, confidence=1.0) for p in self.pairs))

    def select(self, keep: Iterable[bool]) -> RoiPairs:
        """The pairs where `keep` is true."""
        return replace(self, pairs=tuple(p for p, k in zip(self.pairs, keep, strict=True) if k))

    def apart_from(self, others: RoiPairs) -> RoiPairs:
        """The pairs of which not both regions lie for the greater part inside those of one of the others.

        Args:
            others: Pairs of the same images; their grids may be others.
        """
        if not (self.fixed_grid.same_as(others.fixed_grid) and self.moving_grid.same_as(others.moving_grid)):
            others = others.on_grids(self.fixed_grid, self.moving_grid)

        def inside(one: Roi, other: Roi) -> bool:
            return 2 * one.overlap(other) > one.count

        return self.select(
            not any(inside(pair.fixed, other.fixed) and inside(pair.moving, other.moving) for other in others)
            for pair in self.pairs
        )

    @property
    def fitted(self) -> RoiPairs:
        """The pairs that take part in the fit."""
        return self.select(not p.held_out for p in self.pairs)

    @property
    def held_out(self) -> RoiPairs:
        """The pairs that score the fit."""
        return self.select(p.held_out for p in self.pairs)

    def label_map(self, role: str) -> tuple[np.ndarray, list[tuple[int, int]]]:
        """Label map of one image (role "fixed" or "moving") with the pair's id as label.

        Where regions overlap the more confident pair wins, except that a region wholly inside
        another stays visible: smaller regions of equal confidence are drawn last. Of pairs that
        share a region the better one's number stands there.

        Returns:
            [i, j, k] uint16 (uint32 where the ids need it), and the (winner, loser) ids that overlap.
        """
        grid = self.fixed_grid if role == "fixed" else self.moving_grid
        largest = max((p.id for p in self.pairs), default=0)
        out = np.zeros(grid.shape, np.promote_types(np.uint16, np.min_scalar_type(largest)))
        overlaps: list[tuple[int, int]] = []
        drawn: list[tuple[int, Roi]] = []
        for pair in sorted(self.pairs, key=lambda p: (p.confidence, -getattr(p, role).count, -p.id)):
            roi: Roi = getattr(pair, role)
            out[roi.where][roi.box] = pair.id
            overlaps += [(pair.id, loser) for loser, other in drawn if roi.overlap(other)]
            drawn.append((pair.id, roi))
        return out, sorted(overlaps)

    def as_json(self) -> dict[str, Any]:
        """`pairs.json`: pairs, and the overlaps in each label map as [winner, loser].

        A pair that shares a region with others (one-to-many) names them in `shares_region_with`.
        """
        return {
            "pairs": [
                {
                    "id": p.id,
                    "similarity": round(p.similarity, 6),
                    "confidence": round(p.confidence, 6),
                    "held_out": p.held_out,
                    "fixed": self.fixed.described(p.fixed, flat=p.is_2d),
                    "moving": self.moving.described(p.moving, flat=p.is_2d),
                    **({"shares_region_with": self._sharing(p)} if p.group else {}),
                }
                for p in self.pairs
            ],
            "overlaps": {role: [list(o) for o in self.label_map(role)[1]] for role in ("fixed", "moving")},
        }

    def _sharing(self, pair: RoiPair) -> list[int]:
        """Ids of the other pairs of a pair's group."""
        return [p.id for p in self.pairs if p.group == pair.group and p.id != pair.id]
