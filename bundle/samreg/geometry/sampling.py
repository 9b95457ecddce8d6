"""Interpolation on a grid, in torch, on any device.

The only place that knows grid_sample's normalised (x, y, z). `align_corners=False` throughout:
it is defined for axes of one voxel, and its border [-0.5, n - 0.5] is ITK's buffer rule.

What is handed on in single precision is computed in double precision or in one order, so that it is the same to the
last bit on every processor.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import grid_sample

from samreg.geometry.grid import Grid
from samreg.types import Interpolation

HALF_WAY_VOX = 1e-3  # nearest: from so little before the middle between two voxels on, the next one is taken


def normalised_from_index(shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Scale [3] and offset [3] that take indices (i, j, k) to grid_sample's range, still in i, j, k order."""
    n = torch.tensor([float(s) for s in shape], dtype=torch.float64)
    return 2 / n, 1 / n - 1


def sample(
    image: Tensor, points_ijk: Tensor, *, mode: Interpolation = "linear", outside: float | None = None
) -> Tensor:
    """Values of an image at continuous indices; differentiable in both.

    Args:
        image: [c, i, j, k] floating point; with "nearest" of any dtype.
        points_ijk: [..., 3] in voxel indices of the image.
        mode: Linear or nearest; a point half way between two voxels belongs to the one of greater index, whatever
            the last digit says.
        outside: Value beyond the field of view (half a voxel of border included);
            None repeats the border.

    Returns:
        [c, ...] in the dtype of the image.
    """
    shape = image.shape[1:]
    flat = points_ijk.reshape(-1, 3)
    if mode == "nearest":
        values = image.reshape(image.shape[0], -1)[:, nearest_voxels(flat, shape)]
        return _with_outside(values.reshape(image.shape[0], *points_ijk.shape[:-1]), points_ijk, shape, outside)
    # The CPU kernel runs in parallel over the batch alone, so the points are folded into one.
    count = flat.shape[0]
    batch = max(1, min(torch.get_num_threads() if image.device.type == "cpu" else 1, count))
    each = -(-count // batch)
    if each * batch != count:
        flat = torch.cat([flat, flat[-1:].expand(each * batch - count, 3)])
    values = sample_each(image[None].expand(batch, *image.shape), flat.reshape(batch, each, 3))
    values = values.movedim(1, 0).reshape(image.shape[0], -1)[:, :count]
    return _with_outside(values.reshape(image.shape[0], *points_ijk.shape[:-1]), points_ijk, shape, outside)


def _with_outside(values: Tensor, points_ijk: Tensor, shape: Sequence[int], outside: float | None) -> Tensor:
    """Values [c, ...], those beyond the field of view replaced."""
    if outside is None:
        return values
    return torch.where(inside(points_ijk, shape), values, torch.full_like(values, outside))


def nearest_voxels(points_ijk: Tensor, shape: Sequence[int]) -> Tensor:
    """Place in C order, int64 [...], of the voxel nearest to each index [..., 3]; beyond the grid that of its border.

    A point half way between two voxels belongs to the one of greater index, whatever the last digit says.
    """
    ijk = torch.floor(points_ijk + (0.5 + HALF_WAY_VOX)).nan_to_num(-1.0)
    i, j, k = (ijk[..., axis].clamp(0, n - 1).long() for axis, n in enumerate(shape))
    return (i * shape[1] + j) * shape[2] + k


def sample_nearest(voxels: np.ndarray, points_ijk: Tensor, *, outside: float = 0.0) -> np.ndarray:
    """Voxels [i, j, k] of any dtype at continuous indices, by place: no value is ever computed with.

    Args:
        voxels: A label map, or an image.
        points_ijk: [..., 3] in voxel indices, on any device.
        outside: Value beyond the field of view (half a voxel of border included).

    Returns:
        [...] in the dtype of the voxels.
    """
    flat = np.ascontiguousarray(voxels).reshape(-1)
    out = flat[nearest_voxels(points_ijk, voxels.shape).cpu().numpy()]
    out[~inside(points_ijk, voxels.shape).cpu().numpy()] = outside
    return out


def sample_each(images: Tensor, points_ijk: Tensor) -> Tensor:
    """Values of several images, each at its own points, interpolated linearly; the border repeats.

    Args:
        images: [b, c, i, j, k] floating point.
        points_ijk: [b, n, 3] in voxel indices of each image.

    Returns:
        [b, c, n] in the dtype of the images.
    """
    scale, offset = (t.to(points_ijk) for t in normalised_from_index(images.shape[2:]))
    where = (points_ijk * scale + offset).flip(-1).to(images.dtype)[:, :, None, None, :]
    values = grid_sample(images, where, mode="bilinear", padding_mode="border", align_corners=False)
    return values[..., 0, 0]


def inside(points_ijk: Tensor, shape: Sequence[int]) -> Tensor:
    """Whether points lie in the field of view, half a voxel of border included.

    Args:
        points_ijk: [..., 3] in voxel indices, on any device.
        shape: Voxels along i, j and k.

    Returns:
        bool [...].
    """
    upper = torch.tensor([s - 0.5 for s in shape], dtype=points_ijk.dtype, device=points_ijk.device)
    return ((points_ijk >= -0.5) & (points_ijk <= upper)).all(-1)


def index_points(grid: Grid, points_lps: Tensor) -> Tensor:
    """Continuous voxel indices of points, differentiable.

    Args:
        grid: Whose indices.
        points_lps: [..., 3] LPS mm, floating point, on any device.

    Returns:
        [..., 3] of the dtype and on the device of the points.
    """
    matrix = torch.as_tensor(grid.index_from_lps, dtype=points_lps.dtype, device=points_lps.device)
    return points_lps @ matrix[:3, :3].T + matrix[:3, 3]


def grid_points(grid: Grid, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Tensor:
    """Where the voxel centres of a grid lie.

    Args:
        grid: Of shape (i, j, k).
        device: Where the points are made.
        dtype: Of the points.

    Returns:
        [i, j, k, 3] LPS mm.
    """
    return torch.as_tensor(grid.points(), dtype=dtype, device=device)


def resample(
    voxels: np.ndarray,
    source: Grid,
    target: Grid,
    *,
    mode: Interpolation = "linear",
    outside: float = 0.0,
    antialias: bool = True,
    device: torch.device | str = "cpu",
) -> np.ndarray:
    """An image on another grid of the same space.

    Args:
        voxels: [i, j, k] on the source grid; a label map in nearest mode.
        source: Grid of the image.
        target: Grid of the result.
        mode: Linear or nearest.
        outside: Value beyond the image's field of view (half a voxel of border included).
        device: Where to compute.
        antialias: Average over the target voxel first where it is coarser than the source
            (linear mode only).

    Returns:
        float32 [i, j, k]; in nearest mode the dtype of the input.
    """
    slabs = (
        (where, torch.as_tensor(source.index(points), dtype=torch.float32, device=device))
        for where, points in target.slabs()
    )
    if mode == "nearest":
        found = np.empty(target.shape, voxels.dtype)
        for where, ijk in slabs:
            found[where] = sample_nearest(voxels, ijk, outside=outside)
        return found
    image = torch.as_tensor(np.ascontiguousarray(voxels), device=device).float()[None]
    if antialias:
        image = _smooth_for(image, source, target)
    out = torch.empty(target.shape, dtype=torch.float32, device=device)
    for where, ijk in slabs:
        out[where] = sample(image, ijk, outside=outside)[0]
    return out.cpu().numpy()


def _smooth_for(image: Tensor, source: Grid, target: Grid) -> Tensor:
    """Gaussian smoothing of [1, i, j, k] so that sampling at the target's spacing does not alias."""
    # Spacing of the target as seen along each source axis.
    along = np.abs(source.direction.T @ target.direction) @ target.spacing_mm
    ratio = along / source.spacing_mm
    sigmas = [
        float(np.sqrt(max(0.0, r * r - 1)) * 0.4) if n > 1 else 0.0 for r, n in zip(ratio, source.shape, strict=True)
    ]
    return gaussian_smooth(image, sigmas)


def gaussian_smooth(image: Tensor, sigmas_vox: Sequence[float] | np.ndarray) -> Tensor:
    """Separable Gaussian smoothing; the border repeats.

    Args:
        image: [c, i, j, k] floating point.
        sigmas_vox: Standard deviation along i, j and k in voxels. Below 0.2 an axis stays as it is.

    Returns:
        [c, i, j, k] of the dtype and on the device of the image.
    """
    for axis, sigma in enumerate(sigmas_vox):
        if sigma < 0.2 or image.shape[axis + 1] == 1:
            continue
        radius = max(1, int(np.ceil(3 * sigma)))
        kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
        image = convolve_axis(image, kernel / kernel.sum(), axis)
    return image


def convolve_axis(image: Tensor, kernel: np.ndarray, axis: int) -> Tensor:
    """[c, i, j, k] convolved with an odd symmetric kernel [2r + 1] along one spatial axis; borders repeat."""
    if image.device.type == "cpu":
        # SciPy sums in double precision and in one order; a convolution of torch does neither.
        return torch.from_numpy(ndimage.correlate1d(image.numpy(), kernel, axis + 1, mode="nearest"))
    radius = len(kernel) // 2
    weights = torch.as_tensor(kernel, dtype=image.dtype, device=image.device)
    moved = image.movedim(axis + 1, -1)
    rows = moved.reshape(-1, 1, moved.shape[-1])
    padded = torch.nn.functional.pad(rows, (radius, radius), mode="replicate")
    return torch.nn.functional.conv1d(padded, weights.view(1, 1, -1)).reshape(moved.shape).movedim(-1, axis + 1)
