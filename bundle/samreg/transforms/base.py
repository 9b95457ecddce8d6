"""What every transform can do. A transform maps fixed points to moving points (LPS mm)."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor

from samreg.geometry import Grid, Volume, index_points, sample, sample_nearest
from samreg.types import Interpolation, Points


class Transform(ABC):
    """A map from points of the fixed image to points of the moving image, in LPS mm (ITK's sense).

    Warping therefore pulls: the value at a fixed voxel is read in the moving image at its mapped point.
    """

    @abstractmethod
    def map_tensor(self, points: Tensor) -> Tensor:
        """Map points [..., 3] (LPS mm, float32 or float64, any device)."""

    @abstractmethod
    def inverse(self) -> Transform:
        """The transform from moving points to fixed points.

        Raises:
            UsageError: The transform cannot be inverted.
        """

    def map_points(self, points: Points) -> Points:
        """Map points [..., 3] (LPS mm) in float64."""
        return self.map_tensor(torch.as_tensor(np.asarray(points, np.float64))).numpy()

    def then(self, following: Transform) -> Transform:
        """This transform first, `following` after it."""
        from samreg.transforms.composite import compose

        return compose([self, following])

    def warp(
        self,
        moving: Volume,
        reference: Grid,
        *,
        interpolation: Interpolation = "linear",
        outside: float = 0.0,
        device: torch.device | str = "cpu",
    ) -> np.ndarray:
        """The moving image on the fixed grid.

        Args:
            moving: Image or label map to pull through the transform.
            reference: Grid of the result, in the fixed image's space.
            interpolation: "nearest" takes voxels as they are, labels of 64 bits too.
            outside: Value where the mapped point lies beyond the moving image.

        Returns:
            [i, j, k] on `reference`; float32, or the dtype of the input with "nearest".
        """
        if interpolation == "nearest":
            found = np.empty(reference.shape, moving.voxels.dtype)
            for where, points in reference.slabs():
                mapped = self.map_tensor(torch.as_tensor(points, device=device))
                found[where] = sample_nearest(moving.voxels, index_points(moving.grid, mapped), outside=outside)
            return found
        image = torch.as_tensor(np.ascontiguousarray(moving.voxels).astype(np.float32, copy=False), device=device)
        out = np.empty(reference.shape, np.float32)
        for where, points in reference.slabs():
            mapped = self.map_tensor(torch.as_tensor(points, device=device))
            out[where] = sample(image[None], index_points(moving.grid, mapped), outside=outside)[0].cpu().numpy()
        return out

    def warp_labels(self, labels: np.ndarray, grid: Grid, reference: Grid) -> np.ndarray:
        """A label map on the fixed grid by arg-max of its linearly interpolated labels.

        Smoother than nearest neighbour where the grids differ in spacing; ties go to the lower label.

        Args:
            labels: [i, j, k] integers on `grid` (moving space), 0 is background.

        Returns:
            [i, j, k] on `reference` (fixed space), dtype of the input.
        """
        mapped = np.empty((*reference.shape, 3), np.float32)
        for where, points in reference.slabs():
            mapped[where] = grid.index(self.map_points(points))
        ijk = torch.as_tensor(mapped)
        best = sample(torch.as_tensor(labels == 0).float()[None], ijk, outside=1.0)[0]
        out = np.zeros(reference.shape, labels.dtype)
        for label in np.unique(labels[labels != 0]):
            share = sample(torch.as_tensor(labels == label).float()[None], ijk, outside=0.0)[0]
            wins = share > best
            out[wins.numpy()] = label
            best = torch.maximum(best, share)
        return out

    def jacobian_determinant(self, grid: Grid) -> np.ndarray:
        """det of the spatial derivative at every voxel, [i, j, k] float32; ≤ 0 means folding.

        Central differences of the mapped points along the grid's own axes (one-sided at borders);
        an axis of one voxel is differentiated over one voxel spacing.
        """
        out = np.empty(grid.shape, np.float32)
        for where, _ in grid.slabs():
            # One plane more on each side, so that slabs do not show in the differences.
            start, stop = max(where.start - 1, 0), min(where.stop + 1, grid.shape[0])
            points = grid.crop((start, 0, 0), (stop, *grid.shape[1:])).points()
            mapped = self.map_points(points)
            i, j, k = (
                np.gradient(mapped, axis=axis)
                if grid.shape[axis] > 1
                else self.map_points(points + grid.affine[:3, axis]) - mapped
                for axis in range(3)
            )
            determinant = np.einsum("...c,...c", i, np.cross(j, k)) / np.linalg.det(grid.affine[:3, :3])
            out[where] = determinant[where.start - start : where.stop - start]
        return out

    def displacement(self, grid: Grid) -> np.ndarray:
        """Mapped point minus point at every voxel centre, [i, j, k, 3] float32 mm."""
        out = np.empty((*grid.shape, 3), np.float32)
        for where, points in grid.slabs():
            out[where] = self.map_points(points) - points
        return out
