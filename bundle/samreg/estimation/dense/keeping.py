"""Regions of the moving image that keep their shape or their volume, in the two half fields of the symmetric descent.

Between the images lies a middle. If the map from there to the moving image is rigid within a region, and so is what
follows from the fixed to the moving image, start included, neither drifts while the forces pull.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from samreg.constraints.measuring import volume_ratios
from samreg.estimation.dense.fields import along_axes, determinants, in_lps
from samreg.estimation.dense.filters import smoothed
from samreg.geometry import Grid, Volume, finest_spacing_mm, sample_nearest, transform_points
from samreg.transforms import Affine, Transform, rigid_from_points
from samreg.types import Mask, Points

# Around a region, moved as the region. What is interpolated at the border of a rigid one is exact then.
RIGID_ZONE_VOX, VOLUME_ZONE_VOX = 2.5, 1.5
ZONE_WEIGHT = 1e-3  # of a voxel around it in the fit of its motion, so that a thin region does not twist
SLOPE = 0.2  # mm per mm, of a correction that fades out around a region
LEAST_RAMP_VOX = 4.0  # of the finest spacing, over which it fades
SWEEPS = 4  # that smooth it there
MOST_SCALED = 2.0  # times a volume is made larger or smaller by one correction
NEAR_ENOUGH = 0.005  # of a volume, from which on it is not corrected again


@dataclass(frozen=True, eq=False)
class _Place:
    """One region as the middle shows it, with the voxels around it.

    Attributes:
        number: Of the region.
        points: [n, 3] LPS mm in the middle.
        inside: bool [n].
        mapped: [n, 3] LPS mm, where the half field takes them.
        other: [n, 3] LPS mm, where the map to the moving image takes them, start included.
        ratio, other_ratio: Mean determinant within the region, of the half field and of that map.
    """

    number: int
    points: Points
    inside: Mask
    mapped: Points
    other: Points
    ratio: float
    other_ratio: float

    def rigid(self, source: Points) -> Points:
        """The best rigid motion from points to where the half field takes them."""
        matrix = rigid_from_points(source, self.mapped, np.where(self.inside, 1.0, ZONE_WEIGHT))
        return transform_points(matrix, source)

    def scaled(self, ratio: float, dimensions: int) -> Points:
        """Where the half field takes them, scaled about the middle of the region."""
        centre = self.mapped[self.inside].mean(0)
        ratio = min(max(ratio, 1 / MOST_SCALED), MOST_SCALED)
        return np.asarray(centre + ratio ** (1 / dimensions) * (self.mapped - centre))


@dataclass(frozen=True, eq=False)
class Keeper:
    """Keeps the regions of one label map.

    Attributes:
        regions: Numbers of the regions of the moving image, on their own grid.
        start: The linear transform behind the fields.
        rigid: Whether their shape is kept, or only their volume.
        aims: Of each region the ratio of its volumes to head for; empty: 1.
    """

    regions: Volume
    start: Affine
    rigid: bool
    aims: tuple[float, ...] = ()

    @property
    def zone_vox(self) -> float:
        """Distance from a region within which all is moved as the region."""
        return RIGID_ZONE_VOX if self.rigid else VOLUME_ZONE_VOX

    def kept(self, fields: Tensor, grid: Grid) -> Tensor:
        """The fields [2, i, j, k, 3], corrected within the regions and smoothly around them.

        Args:
            fields: mm along the axes of the grid, from the middle to the fixed and to the moving image.
            grid: Of the fields.
        """
        dimensions = len(grid.active_axes)
        if self.rigid:
            fields = self._corrected(fields, grid, 1, lambda at: at.rigid(at.points))
            return self._corrected(fields, grid, 0, lambda at: at.rigid(at.other))
        fields = self._corrected(fields, grid, 1, lambda at: at.scaled(1 / at.ratio, dimensions))
        aims = self.aims or (1.0,) * int(self.regions.voxels.max())
        return self._corrected(
            fields, grid, 0, lambda at: at.scaled(aims[at.number - 1] * at.other_ratio / at.ratio, dimensions)
        )

    def aimed(self, inverse: Transform) -> Keeper | None:
        """A keeper that makes up for what a transform that this one ended at misses.

        On a coarse grid the voxels of a region do not tell its volume exactly.

        Args:
            inverse: Moving points to fixed points.

        Returns:
            None where the volumes are near enough, or shapes are kept.
        """
        if self.rigid:
            return None
        ratios = volume_ratios(inverse, self.regions)
        if np.abs(ratios - 1).max() <= NEAR_ENOUGH:
            return None
        return replace(self, aims=tuple((np.array(self.aims or 1.0) / ratios).tolist()))

    def _corrected(self, fields: Tensor, grid: Grid, half: int, wanted: Callable[[_Place], Points]) -> Tensor:
        """The fields with one half corrected."""
        found = self._in_middle(fields, grid)
        if found is None:
            return fields
        box, numbers = found
        low = [side.start for side in box]
        part = grid.crop(low, [side.stop for side in box])
        i, j, k = box
        both = fields[:, i, j, k]
        points = part.points()
        mapped = points + in_lps(both, grid)
        local = determinants(both, grid).double().cpu().numpy()
        distance, nearest = ndimage.distance_transform_edt(numbers == 0, return_indices=True)
        zone = np.where(distance <= self.zone_vox, numbers[tuple(nearest)], 0)
        change = np.zeros((*part.shape, 3))
        for number in range(1, int(numbers.max()) + 1):
            here = zone == number
            if not here.any():
                continue
            inside = numbers == number
            place = _Place(
                number,
                points[here],
                inside[here],
                mapped[half][here],
                self.start.map_points(mapped[1][here]),
                float(local[half][inside].mean()),
                float(local[1][inside].mean()) * float(np.linalg.det(self.start.moving_from_fixed[:3, :3])),
            )
            change[here] = wanted(place) - place.mapped
        correction = _faded(along_axes(change, grid, fields), zone > 0, low, grid)
        out = fields.clone()
        out[half] += correction
        return out

    def _in_middle(self, fields: Tensor, grid: Grid) -> tuple[tuple[slice, ...], np.ndarray] | None:
        """The part of the grid around the regions, and the number of the region at each of its voxels."""
        shown = self.start.inverse().map_points(self.regions.grid.lps(np.argwhere(self.regions.voxels > 0)))
        ijk = grid.index(shown)
        reach = np.ceil(fields[1].abs().amax((0, 1, 2)).cpu().numpy() / grid.spacing_mm) + self.zone_vox + 1
        low = np.clip(np.floor(ijk.min(0) - reach), 0, grid.shape).astype(int)
        high = np.clip(np.ceil(ijk.max(0) + reach) + 1, 0, grid.shape).astype(int)
        if (low >= high).any():
            return None
        i, j, k = box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        points = grid.crop(low, high).points() + in_lps(fields[1, i, j, k], grid)
        places = torch.as_tensor(self.regions.grid.index(self.start.map_points(points)))
        numbers = sample_nearest(self.regions.voxels, places)
        return (box, numbers) if numbers.any() else None


def _faded(change: Tensor, zone: Mask, low: list[int], grid: Grid) -> Tensor:
    """A change that is given in a zone, on the whole grid: it goes on around the zone and fades out.

    Args:
        change: [i, j, k, 3] mm along the axes of the grid, on the part of the grid that begins at `low`.
        zone: bool [i, j, k], where it holds as it is.
        low: [3] voxels.
        grid: The whole one.

    Returns:
        [i, j, k, 3] on the whole grid.
    """
    finest = finest_spacing_mm(grid)
    width = max(LEAST_RAMP_VOX * finest, float(change.norm(dim=-1).max()) / SLOPE)
    margin = np.ceil(width / grid.spacing_mm).astype(int) + 1
    start = np.maximum(0, np.asarray(low) - margin)
    stop = np.minimum(grid.shape, np.asarray(low) + zone.shape + margin)
    before, after = np.asarray(low) - start, stop - np.asarray(low) - zone.shape
    pads = [(int(a), int(b)) for a, b in zip(before, after, strict=True)]
    inside = np.pad(zone, pads)
    distance, nearest = ndimage.distance_transform_edt(~inside, sampling=grid.spacing_mm, return_indices=True)
    given = torch.nn.functional.pad(change, (0, 0, *(n for pair in reversed(pads) for n in pair)))
    ramp = np.clip(1 - distance / width, 0, 1)
    ramp = torch.as_tensor(ramp**2 * (3 - 2 * ramp)).to(change)
    fixed = torch.as_tensor(inside, device=change.device)[..., None]
    out = given[tuple(torch.as_tensor(n, device=change.device) for n in nearest)] * ramp[..., None]
    sigmas = [width / 8 / float(spacing) for spacing in grid.spacing_mm]
    for _ in range(SWEEPS):
        out = torch.where(fixed, given, smoothed(out[None], sigmas, first=-4)[0] * (ramp > 0)[..., None])
    whole = change.new_zeros((*grid.shape, 3))
    whole[tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))] = out
    return whole
