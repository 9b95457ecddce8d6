"""What pulls two images towards each other: the derivative of their likeness by the displacement of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from samreg.encoders.mind import even_dilation, mind_ssc
from samreg.estimation.dense.fields import pulled
from samreg.estimation.dense.filters import gradient, window_mean
from samreg.geometry import Grid, finest_spacing_mm

WINDOW_VOX = 3.0  # radius of the window of local correlation, of the finest spacing
NOISY = 2.0  # times the variance of the noise, below which a window counts as flat,
FLAT = 0.003, 0.1  # but at least and at most this share of the variance of the image


class Force(Protocol):
    """A term of the likeness of two images."""

    def force(self, displacements: Tensor) -> Tensor:
        """[2, i, j, k, 3] per mm along the axes of the grid, at displacements [2, i, j, k, 3] mm."""
        ...


@dataclass(frozen=True, eq=False)
class LocalCorrelation:
    """Squared correlation of the two images within windows, which holds whatever the contrast does slowly.

    Source: Avants et al., Med Image Anal 12(1), 2008, Eq. 6, the derivative at the middle of each window.

    Attributes:
        images: [2, 1, i, j, k] fixed and moving image, of variance one.
        grid: Of both.
        noise: Variance of the noise of each image.
    """

    images: Tensor
    grid: Grid
    noise: Sequence[float] = (0.0, 0.0)

    def force(self, displacements: Tensor) -> Tensor:
        """See `Force`."""
        seen = pulled(self.images, displacements, self.grid)[:, 0]
        fixed, moving = seen
        radii = _radii(self.grid)
        products = torch.stack([fixed, moving, fixed * fixed, moving * moving, fixed * moving])
        mean_f, mean_m, square_f, square_m, product = window_mean(products, radii)
        flat_f, flat_m = (min(max(FLAT[0], NOISY * noise), FLAT[1]) for noise in self.noise)
        variance_f = (square_f - mean_f * mean_f).clamp_min_(0) + flat_f
        variance_m = (square_m - mean_m * mean_m).clamp_min_(0) + flat_m
        covariance = product - mean_f * mean_m
        common = covariance / (variance_f * variance_m)
        fixed, moving = fixed - mean_f, moving - mean_m
        by_value = torch.stack(
            [
                common * (moving - fixed * (covariance / variance_f)),
                common * (fixed - moving * (covariance / variance_m)),
            ]
        )
        return by_value[..., None] * _gradient_per_mm(seen, self.grid)


@dataclass(frozen=True, eq=False)
class SelfSimilarity:
    """Minus the mean squared difference of MIND-SSC descriptors, which are made once and travel with the tissue.

    Attributes:
        descriptors: [2, c, i, j, k] of the fixed and the moving image.
        grid: Of both.
    """

    descriptors: Tensor
    grid: Grid

    @staticmethod
    def of(images: Tensor, grid: Grid) -> SelfSimilarity:
        """Of images [2, 1, i, j, k]."""
        dilation = even_dilation(grid)
        return SelfSimilarity(torch.stack([mind_ssc(image, dilation=dilation) for image in images]), grid)

    def force(self, displacements: Tensor) -> Tensor:
        """See `Force`."""
        seen = pulled(self.descriptors, displacements, self.grid)
        difference = seen[1] - seen[0]
        force = seen.new_zeros((2, *self.grid.shape, 3))
        for both, apart in zip(seen.movedim(1, 0), difference, strict=True):  # at once they take much memory
            slopes = _gradient_per_mm(both, self.grid)
            force[0] += apart[..., None] * slopes[0]
            force[1] -= apart[..., None] * slopes[1]
        return force / len(difference)


def _radii(grid: Grid) -> list[int]:
    """Of a window of the same width in mm along all axes; at least one voxel, as far as the axis has them."""
    finest = finest_spacing_mm(grid)
    return [
        min(max(1, round(WINDOW_VOX * finest / float(spacing))), (count - 1) // 2)
        for spacing, count in zip(grid.spacing_mm, grid.shape, strict=True)
    ]


def _gradient_per_mm(values: Tensor, grid: Grid) -> Tensor:
    return gradient(values).mul_(torch.as_tensor(1 / grid.spacing_mm).to(values))
