"""One image that answers prompts with regions, and says where it looks like a region of another image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from samreg.encoders.base import Features
from samreg.encoders.pooling import pool
from samreg.geometry import Volume
from samreg.matching.similarity import similarity
from samreg.preprocess import body_mask, mask_on, working_volume
from samreg.promptable_models.slices import PromptableSlices
from samreg.proposals.everything import Candidates
from samreg.rois import Roi, RoiSet

BODY_ACROSS = 100  # voxels across the field of view at which the body is found
CONTINUES = 0.4  # least intersection over union of a region with itself in the next slice
PEAKS = 3  # point prompts of a slice
SMALL_SAY = 0.1  # exponent of size and segmentation beside the similarity: a factor of two weighs as 0.07 of it


@dataclass(frozen=True, eq=False)
class Region:
    """A region within one slice, as it is compared with others.

    Attributes:
        roi: On the grid of its image; the score is predicted IoU times stability, 1 for a given region.
        prototype: [c] mean embedding inside it.
        area_mm2: Its size.
    """

    roi: Roi
    prototype: np.ndarray
    area_mm2: float

    @property
    def k(self) -> int:
        """Its slice."""
        return self.roi.start[2]

    @property
    def width_mm(self) -> float:
        """Side of a square of its area."""
        return float(np.sqrt(self.area_mm2))

    def similarity(self, other: Region) -> float:
        """Of the prototypes, 0..1."""
        return float(similarity(self.prototype[None], other.prototype[None])[0, 0])

    def size_ratio(self, other: Region) -> float:
        """The smaller area by the larger."""
        return min(self.area_mm2, other.area_mm2) / max(self.area_mm2, other.area_mm2)

    def likeness(self, other: Region) -> float:
        """Similarity, a little less where sizes differ or the other one's segmentation is unsure; 0..1."""
        return self.similarity(other) * (self.size_ratio(other) * other.roi.score) ** SMALL_SAY

    def iou_along_normal(self, other: Region) -> float:
        """Intersection over union with a region of the same image, whatever the slices."""
        shared = self._shared(other)
        return shared / (self.roi.count + other.roi.count - shared)

    def continues(self, other: Region) -> bool:
        """True if it may be a region of the same image in a neighbouring slice, gone on."""
        return abs(self.k - other.k) == 1 and self.iou_along_normal(other) >= CONTINUES

    def same_structure(self, other: Region, slice_mm: float) -> bool:
        """True if the two of one image mostly cover each other, seen along the slice normal, and lie no
        further apart than they are wide: slices, parts or wholes of one structure."""
        apart_mm = abs(self.k - other.k) * slice_mm
        near = apart_mm <= max(slice_mm, self.width_mm, other.width_mm)
        return near and self._shared(other) > 0.5 * min(self.roi.count, other.roi.count)

    def _shared(self, other: Region) -> int:
        return self.roi.overlap(replace(other.roi, start=(*other.roi.start[:2], self.k)))


class PromptedImage:
    """An image, its embeddings as far as they were asked for, and its body.

    Args:
        slices: The model.
        volume: The image.
        max_area_fraction: Of a slice's body; larger masks are no regions.

    Attributes:
        used: Slices that were encoded.
    """

    def __init__(self, slices: PromptableSlices, volume: Volume, max_area_fraction: float) -> None:
        self.volume = volume
        self.used: set[int] = set()
        self._encoded = slices.of(volume)
        working = working_volume(volume, float(volume.grid.extent_mm[:2].max()) / BODY_ACROSS)
        self._body_grid, self._body = working.grid, body_mask(working)
        self._body_cells = mask_on(self._body, working.grid, self._encoded.grid)
        self._max_area_fraction = max_area_fraction

    @property
    def slice_mm(self) -> float:
        """Distance of neighbouring slices."""
        return float(self.volume.grid.spacing_mm[2])

    def in_body(self, point_lps: np.ndarray) -> bool:
        """True if a point [3] within the field of view lies in the body."""
        voxel = np.round(self._body_grid.index(point_lps[None])[0]).astype(int)
        return bool(self._body[tuple(np.clip(voxel, 0, np.asarray(self._body.shape) - 1))])

    def at_points(self, k: int, points_ij: np.ndarray) -> list[Region]:
        """Regions of slice k at points [p, 2] (continuous voxel indices)."""
        self.used.add(k)
        image = self._encoded.prompted(k)
        found = image.at_points(points_ij)
        return self._regions(k, Candidates.on_voxels(image, found.logits, found.iou))

    def in_box(
        self, k: int, low_ij: Sequence[float] | np.ndarray, high_ij: Sequence[float] | np.ndarray
    ) -> list[Region]:
        """Regions of slice k in a box (continuous voxel indices of its edges)."""
        self.used.add(k)
        image = self._encoded.prompted(k)
        found = image.in_boxes(np.array([[*low_ij[:2], *high_ij[:2]]], float))
        return self._regions(k, Candidates.on_voxels(image, found.logits, found.iou))

    def given(self, rois: Sequence[Roi]) -> list[Region]:
        """Regions (2D, of one slice) with their prototypes."""
        if not rois:
            return []
        (k,) = {roi.start[2] for roi in rois}
        self.used.add(k)
        cells = self._encoded.grid
        one_slice = cells.crop((0, 0, k), (*cells.shape[:2], k + 1))
        features = Features(one_slice, self._encoded.embedding(k)[..., None])
        whole = RoiSet(self.volume.grid, tuple(rois))
        return [
            Region(roi, prototype, whole.area_mm2(roi))
            for roi, prototype in zip(rois, pool(features, whole), strict=True)
        ]

    def points_like(self, k: int, sought: Region, threshold: float) -> np.ndarray:
        """Where slice k looks most like a region of another image (or of this one).

        The similarity of every cell in the body with the prototype, smoothed over a window in proportion to
        the region so that its local maxima lie inside what they show and not at its edge.

        Args:
            threshold: Cells of less similarity are passed over.

        Returns:
            [p, 2] continuous voxel indices, at most `PEAKS`, the most similar first.
        """
        self.used.add(k)
        cells, body = self._encoded.grid, self._body_cells[:, :, k]
        channels = self._encoded.embedding(k).float().cpu().numpy()
        alike = similarity(sought.prototype[None], channels.reshape(len(channels), -1).T).reshape(body.shape)
        sigma = sought.width_mm / 4 / cells.spacing_mm[:2]
        smooth = _smoothed(np.where(body, alike, 0.0), sigma) / np.maximum(_smoothed(body.astype(float), sigma), 1e-6)
        smooth[~body] = 0.0
        peaks = (smooth == ndimage.maximum_filter(smooth, 3)) & body & (alike > threshold)
        plateaus, count = ndimage.label(peaks, np.ones((3, 3)))
        found = [_middle(np.argwhere(plateaus == n + 1)) for n in range(count)]
        found.sort(key=lambda cell: -smooth[cell])
        at = np.array([(*cell, k) for cell in found[:PEAKS]], float).reshape(-1, 3)
        return self.volume.grid.index(cells.lps(at))[:, :2]

    def _regions(self, k: int, candidates: Candidates) -> list[Region]:
        """What of the masks lies in the body, without masks of the background and those too large."""
        grid = self.volume.grid
        in_slice = grid.crop((0, 0, k), (*grid.shape[:2], k + 1))
        body = mask_on(self._body, self._body_grid, in_slice)[:, :, 0]
        masks, scores = candidates.masks.cpu().numpy(), candidates.scores
        inside = masks & body
        area, whole = inside.sum((1, 2)), masks.sum((1, 2))
        keep = np.flatnonzero((area > 0) & (2 * area >= whole) & (area <= self._max_area_fraction * body.sum()))
        return self.given(
            [Roi.from_mask(inside[n][:, :, None], offset=(0, 0, k), score=float(scores[n])) for n in keep]
        )


def _smoothed(values: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter(values, sigma, mode="constant")


def _middle(cells: np.ndarray) -> tuple[int, int]:
    """The one of these cells [n, 2] that is nearest to their centroid."""
    x, y = cells[np.linalg.norm(cells - cells.mean(0), axis=1).argmin()]
    return int(x), int(y)
