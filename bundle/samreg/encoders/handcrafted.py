"""Features without a model: self-similarity and local intensity."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from samreg.encoders.base import PHANTOM_CALIBRATION, Calibration, Encoder, Features, OnProgress
from samreg.encoders.mind import even_dilation, mind_ssc
from samreg.geometry import Grid, Volume, finest_spacing_mm, gaussian_smooth
from samreg.preprocess import background_value

# In units of the finest spacing, so that pictures of any scale and thin stacks are served alike.
STATISTICS_SCALES = (1.6, 4.0)
# Of the statistics beside MIND-SSC: more helps images of one contrast little and misleads those of two.
STATISTICS_WEIGHT = 0.3
FOREGROUND = 0.05  # share of the robust range below which a neighbourhood is background


class Handcrafted(Encoder):
    """MIND-SSC, then local mean and local standard deviation of the intensity at two scales.

    MIND-SSC does not depend on the contrast; the statistics (of the image's robust range, brought
    to 0..1) tell the tissues of one contrast apart. Each channel has zero mean over the foreground,
    so that a cosine can tell regions apart, and a deviation of 1 (statistics: 0.3).

    Args:
        device: Where to compute.

    Example:
        >>> Handcrafted().encode(volume).channels.shape  # of a volume of 100 x 100 x 35
        torch.Size([16, 100, 100, 35])
    """

    @property
    def calibration(self) -> Calibration:
        """Fitted to phantoms."""
        return PHANTOM_CALIBRATION

    @property
    def one_contrast(self) -> bool:
        """Intensity statistics compare only within one contrast."""
        return True

    def __init__(self, *, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)

    def encode(self, volume: Volume, *, on_progress: OnProgress | None = None) -> Features:
        """float32 [16, i, j, k] (8 channels for a 2D image) on the grid of the volume."""
        voxels = torch.from_numpy(np.ascontiguousarray(volume.voxels, dtype=np.float32))[None].to(self.device)
        normalised = _normalised(voxels)
        self_similarity = mind_ssc(voxels, dilation=even_dilation(volume.grid))
        if on_progress:
            on_progress(0.5)
        statistics, foreground = _statistics(normalised, volume.grid)
        channels = _standardised(torch.cat([self_similarity, statistics]), foreground)
        channels[len(self_similarity) :] *= STATISTICS_WEIGHT
        if on_progress:
            on_progress(1.0)
        return Features(volume.grid, channels)


def _normalised(voxels: Tensor) -> Tensor:
    """Robust range of the image to 0..1."""
    low, high = np.percentile(voxels.cpu().numpy(), [1, 99])
    return ((voxels - float(low)) / max(float(high - low), 1e-12)).clamp(0, 1)


def _statistics(image: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Local mean and deviation at each scale [4, i, j, k], and the foreground bool [i, j, k]."""
    finest = finest_spacing_mm(grid)
    out = []
    for scale in STATISTICS_SCALES:
        mean, square = gaussian_smooth(torch.cat([image, image**2]), scale * finest / grid.spacing_mm)
        out += [mean, (square - mean**2).clamp_min(0).sqrt()]
    # A stained section lies on bright glass: there, what is dark is the foreground.
    bright = (background_value(image[0].cpu().numpy()) or 0.0) > 0.5
    foreground = (out[0] < 1 - FOREGROUND) if bright else (out[0] > FOREGROUND)
    return torch.stack(out), foreground


def _standardised(channels: Tensor, foreground: Tensor) -> Tensor:
    """In place: zero mean and unit deviation over the foreground (over everything where there is none)."""
    inside = foreground if foreground.any() else torch.ones_like(foreground)
    for channel in channels:
        values = channel[inside].double()  # sums in single precision depend on the processor
        mean = values.mean()
        channel -= mean
        channel /= (values - mean).square().mean().sqrt().clamp_min(1e-6)
    return channels
