"""Two images and their bodies at the resolutions that a linear fit needs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from samreg.estimation.linear import Level, make_level
from samreg.estimation.mutual_information import PointSamples
from samreg.geometry import Volume, field_scale

# Chosen on phantoms and real heads, of a field of view of 256 mm, and scale with it.
RIM_MM = 8.0  # around the body of a volume, so that its outline counts
SPACINGS_MM = 6.0, 3.0, 1.0  # of the images that a fit compares, one after the other
PICTURE_SPACINGS_MM = 2.0, 1.0, 1.0  # a photograph shows finer structure
SAMPLE_SHARES = 1 / 10, 1 / 3, 1.0  # of the points, likewise


@dataclass(frozen=True, eq=False)
class ImagePair:
    """Two images and their bodies at all the resolutions that a linear fit needs.

    Attributes:
        fixed, moving: As they were read, painted over where a mask says that they do not count; voxels float32
            [i, j, k], grids in LPS mm.
        fixed_body, moving_body: Masks as volumes of 0 and 1, on any grid of their image.
        samples: Points read at the finest level, at most.
        seed: Of the random choice of these points.
        device: Where tensors live.
        fixed_mask, moving_mask: What counts of each image, as volumes of 0 and 1 on any grid of it; None: all of it.
            The bodies lie within.
    """

    fixed: Volume
    moving: Volume
    fixed_body: Volume
    moving_body: Volume
    samples: int
    seed: int
    device: str
    fixed_mask: Volume | None = None
    moving_mask: Volume | None = None

    @property
    def masked(self) -> bool:
        """Whether a mask says what counts of an image."""
        return self.fixed_mask is not None or self.moving_mask is not None

    def level(self, spacing_mm: float, max_voxels: int = 8_000_000) -> Level:
        """Images and masks at one resolution.

        Args:
            spacing_mm: Of the voxels, about; directions that are coarser stay as they are.
            max_voxels: Of each image; the spacing grows where they would be more.

        Returns:
            `fixed` and `moving` at this resolution, with their bodies as masks [i, j, k] (`fixed_mask`, `moving_mask`).
            The masks of volumes hold a rim around the body, so that its outline counts; not beyond what counts at all.
        """
        rim = 0.0 if self.fixed.grid.is_2d else RIM_MM * self.scale
        level = make_level(self.fixed, self.moving, self.fixed_body, self.moving_body, spacing_mm, rim, max_voxels)
        return level.within(self.fixed_mask, self.moving_mask) if self.masked else level

    @cached_property
    def coarse(self) -> PointSamples:
        """Sample points at 6 mm for a field of view of 256 mm; of pictures at 2 mm, and flattened (`preprocess`).

        Their `points` are [n, 3] LPS mm of the fixed image. Their `mutual_information(matrix)` takes a tensor [4, 4]
        from fixed to moving points, float64, and gives nats and the share of points inside the moving image, both
        differentiable in the matrix.
        """
        return self._at(0)

    @cached_property
    def middle(self) -> PointSamples:
        """Sample points at 3 mm, of pictures at 1 mm, as `coarse`."""
        return self._at(1)

    @cached_property
    def fine(self) -> PointSamples:
        """Sample points at 1 mm, of pictures too, or at the fixed resolution if that is coarser, as `coarse`."""
        return self._at(2)

    @cached_property
    def pictures(self) -> Level:
        """Of single slices both without their background, at 1 mm for a field of view of 256 mm."""
        return self._pictures_at(PICTURE_SPACINGS_MM[-1])

    @property
    def scale(self) -> float:
        """Size of the field of view, relative to 256 mm; lengths that fits work with are multiplied by it."""
        return field_scale(self.fixed.grid, self.moving.grid)

    def _at(self, step: int) -> PointSamples:
        if self.fixed.grid.is_2d:
            level = self._pictures_at(PICTURE_SPACINGS_MM[step])
        else:
            level = self.level(max(SPACINGS_MM[step] * self.scale, float(self.fixed.grid.spacing_mm.min())))
        return level.samples(self.samples, SAMPLE_SHARES[step], seed=self.seed, device=self.device)

    def _pictures_at(self, spacing_mm: float) -> Level:
        return self.level(spacing_mm * self.scale).flattened(self.scale)
