"""Regions without a model: stable components of the level sets, and blobs at several scales."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch

from samreg.config import ProposalConfig
from samreg.geometry import Grid, Volume, finest_spacing_mm, gaussian_smooth
from samreg.proposals.base import OnProgress
from samreg.proposals.blobs import blobs
from samreg.proposals.filters import size_limits, without_overlap
from samreg.proposals.level_sets import stable_components
from samreg.rois import Roi, RoiSet
from samreg.types import Mask, Voxels

MAX_ROIS = 400  # of an image
LEVEL_SET_SCALE = 1.2  # smoothing before thresholds, in units of the finest spacing
BLOB_SCALES = (2.0, 3.2, 5.0)
BLOB_CONTRAST = 0.02  # a blob that stands this high above its surroundings scores one half
SMALL = 100  # voxels at which the score of a region is halved for its size
BLOB_RATIO = 1.28  # of the two smoothings whose difference is the response


class Superpixels:
    """Hierarchical regions from the image alone; parts stay beside wholes.

    Level sets give the outlines of what differs from its surroundings; blobs cover what lies
    between. Both follow the image under rotation and shift, and swap bright for dark when
    the contrast is inverted, so the same anatomy gives the same regions.
    """

    def propose(
        self, volume: Volume, body: Mask, config: ProposalConfig, *, on_progress: OnProgress | None = None
    ) -> RoiSet:
        report = on_progress or (lambda share: None)
        config = config.with_values({"max_rois": MAX_ROIS if config.max_rois is None else config.max_rois})
        if not config.per_slice or volume.grid.is_2d:
            rois = _regions(volume, body, config, report)
        else:
            slices = volume.grid.shape[2]
            rois = [
                replace(roi, start=(*roi.start[:2], k))
                for k in range(slices)
                for roi in _regions(_slice(volume, k), body[:, :, k : k + 1], config, _part(report, k, slices))
            ]
            rois = sorted(rois, key=lambda roi: -roi.score)[: config.max_rois]
        report(1.0)
        return RoiSet(volume.grid, tuple(rois))


def _slice(volume: Volume, k: int) -> Volume:
    grid = volume.grid
    return replace(volume, voxels=volume.voxels[:, :, k : k + 1], grid=grid.crop((0, 0, k), (*grid.shape[:2], k + 1)))


def _part(report: OnProgress, number: int, count: int) -> OnProgress:
    return lambda share: report((number + share) / count)


def _regions(volume: Volume, body: Mask, config: ProposalConfig, report: OnProgress) -> list[Roi]:
    """Regions of a volume or a single slice, best score first."""
    if not body.any():
        return []
    low, high = np.argwhere(body).min(0), np.argwhere(body).max(0) + 1
    where = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    grid, inside = volume.grid.crop(low, high), body[where]
    image = _normalised(volume.voxels, body)[where]
    smallest, largest = size_limits(volume.grid, body, config, per_slice=volume.grid.is_2d)
    rois: list[Roi] = []
    smooth = _smoothed(image, inside, grid, LEVEL_SET_SCALE)
    rois += stable_components(smooth, inside, smallest, largest[0])
    for n, scale in enumerate(BLOB_SCALES):
        report((n + 1) / (len(BLOB_SCALES) + 2))
        response = _smoothed(image, inside, grid, scale) - _smoothed(image, inside, grid, scale * BLOB_RATIO)
        rois += _graded(blobs(response, inside, smallest, largest[0]))
    rois = [_placed(roi, low) for roi in rois]
    return without_overlap(rois, config.max_overlap, max_rois=config.max_rois, relative_to=config.overlap_of)


def _placed(roi: Roi, low: np.ndarray) -> Roi:
    """A region of the cropped grid on the whole one, small ones trusted less: their outline is all noise."""
    i, j, k = (int(a + b) for a, b in zip(roi.start, low, strict=True))
    return replace(roi, start=(i, j, k), score=roi.score * roi.count / (roi.count + SMALL))


def _normalised(voxels: Voxels, body: Mask) -> Voxels:
    """Robust range of the body to 0..1, a little beyond it kept."""
    low, high = np.percentile(voxels[body], [0.5, 99.5])
    return np.clip((voxels - low) / max(float(high - low), 1e-12), -0.5, 1.5).astype(np.float32)


def _smoothed(image: Voxels, inside: Mask, grid: Grid, scale: float) -> Voxels:
    """Gaussian smoothing that does not look outside the body; sigma in units of the finest spacing."""
    sigmas = scale * finest_spacing_mm(grid) / grid.spacing_mm
    both = torch.from_numpy(np.stack([np.where(inside, image, 0), inside]).astype(np.float32))
    value, weight = gaussian_smooth(both, sigmas).numpy()
    return value / np.maximum(weight, 1e-3)


def _graded(found: Iterable[Roi]) -> Iterator[Roi]:
    """Scores of blobs (contrast in units of the body's range) brought to 0..1."""
    for roi in found:
        yield replace(roi, score=roi.score / (roi.score + BLOB_CONTRAST))
