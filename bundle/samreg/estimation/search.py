"""Where to start: a global search over rotations and all translations.

Of volumes edges (gradient magnitude) are compared, so contrast may differ or be inverted; of pictures what they
show without their background, within both bodies and with either sign. Normalised
correlation over the overlap is found for every translation at once by FFT, so a large offset or
a body partly outside the field of view costs nothing extra.

Source: Padfield, "Masked object registration in the Fourier domain", IEEE TIP 21(5), 2012.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import fft, ndimage
from scipy.spatial.transform import Rotation

from samreg.geometry import Grid, Volume, field_scale, resample
from samreg.preprocess import flattened
from samreg.threads import in_parallel
from samreg.transforms import about_centre
from samreg.types import Mask, Matrix4

MIN_OVERLAP = 0.35
SEARCHES = 2  # at once; each holds some ten images of the padded size


def tilts(degrees: Sequence[float], grid: Grid) -> list[np.ndarray]:
    """Rotations [3, 3] to try: none, and each angle about each axis (a single slice: about its normal)."""
    axes = [grid.direction[:, 2]] if grid.is_2d else [np.eye(3)[:, a] for a in range(3)]
    turns = [Rotation.from_rotvec(np.deg2rad(d) * axis).as_matrix() for axis in axes for d in degrees]
    return [np.eye(3), *turns]


def global_search(
    fixed: Volume,
    moving: Volume,
    fixed_body: Mask,
    moving_body: Mask,
    rotations: Sequence[np.ndarray],
    *,
    spacing_mm: float,
    best: int = 6,
) -> list[tuple[float, Matrix4]]:
    """The likeliest rigid starts, best first.

    Args:
        fixed, moving: Images at about `spacing_mm`.
        fixed_body, moving_body: Their body masks [i, j, k].
        rotations: Rotations [3, 3] (moving from fixed) to try.

    Returns:
        (correlation, [4, 4] moving from fixed) of the best translation of each rotation.
    """
    centre = moving.grid.centre_lps
    fixed_grid = _search_grid(fixed.grid, spacing_mm)
    pictures = fixed.grid.is_2d
    if pictures:
        scale = field_scale(fixed.grid, moving.grid)
        shown = flattened(fixed, fixed_body, scale), flattened(moving, moving_body, scale)
    else:
        shown = _edges(fixed, fixed_body, fixed_grid), _edges(moving, moving_body, fixed_grid)
    fixed_values, fixed_mask = _on(*shown[0], fixed_grid, np.eye(4))

    def under(rotation: np.ndarray) -> tuple[float, Matrix4]:
        # The moving image, turned back about its centre, in axes parallel to the fixed grid.
        turned = about_centre(rotation, np.zeros(3), centre)
        moving_grid = _grid_around(moving.grid, np.linalg.inv(turned), spacing_mm, fixed_grid)
        moving_values, moving_mask = _on(*shown[1], moving_grid, turned)
        score, shift = _best_shift(fixed_values, fixed_mask, moving_values, moving_mask, either_sign=pictures)
        offset = moving_grid.origin_lps - fixed_grid.origin_lps + fixed_grid.affine[:3, :3] @ shift
        back = np.eye(4)
        back[:3, 3] = offset
        return score, turned @ back

    found = in_parallel(under, rotations, most=SEARCHES)
    found.sort(key=lambda entry: -entry[0])
    return found[:best]


def _search_grid(grid: Grid, spacing_mm: float) -> Grid:
    if grid.is_2d:
        return grid.with_spacing((spacing_mm, spacing_mm, grid.spacing_mm[2]))
    return grid.bounding_grid(spacing_mm)


def _grid_around(grid: Grid, matrix: np.ndarray, spacing_mm: float, like: Grid) -> Grid:
    """The grid with the axes of `like` that covers `grid` after `matrix`."""
    moved = Grid(grid.shape, matrix @ grid.affine)
    if grid.is_2d:
        ijk = np.array([(i, j, 0) for i in (0, 1) for j in (0, 1)]) * np.asarray(grid.shape) - (0.5, 0.5, 0)
        local = moved.lps(ijk) @ like.direction
        low, high = local.min(0), local.max(0)
        shape = np.maximum(1, np.ceil((high - low) / spacing_mm)).astype(int)
        return Grid.from_axes((shape[0], shape[1], 1), like.spacing_mm, like.direction @ low, like.direction)
    return moved.bounding_grid(spacing_mm)


def _edges(volume: Volume, body: Mask, grid: Grid) -> tuple[Volume, Mask]:
    """Compressed gradient magnitude for a search on `grid`, and where it is known (the image's field of view)."""
    sigma = [
        max(0.5, 0.6 * grid.spacing_mm[0] / s) if n > 1 else 0
        for s, n in zip(volume.grid.spacing_mm, volume.grid.shape, strict=True)
    ]
    squares = np.zeros(volume.grid.shape, np.float32)
    for axis in volume.grid.active_axes:
        order = [1 if a == axis else 0 for a in range(3)]
        squares += (ndimage.gaussian_filter(volume.voxels, sigma, order) / volume.grid.spacing_mm[axis]) ** 2
    edges = np.sqrt(squares)
    scale = np.percentile(edges[body], 75) if body.any() else edges.mean()
    edges = edges / (edges + max(float(scale), float(np.finfo(np.float32).tiny)))
    return replace(volume, voxels=edges), np.ones(volume.grid.shape, bool)


def _on(volume: Volume, mask: Mask, grid: Grid, volume_from_grid: Matrix4) -> tuple[np.ndarray, np.ndarray]:
    """Values on `grid`, 0 where they are not known, and where they are."""
    on_target = Grid(volume.grid.shape, np.linalg.inv(volume_from_grid) @ volume.grid.affine)
    values = resample(volume.voxels, on_target, grid)
    known = resample(mask.astype(np.uint8), on_target, grid, mode="nearest")
    return values * known, known.astype(np.float32)


def _best_shift(
    fixed: np.ndarray, fixed_mask: np.ndarray, moving: np.ndarray, moving_mask: np.ndarray, *, either_sign: bool
) -> tuple[float, np.ndarray]:
    """Greatest masked correlation over all shifts, and the shift in voxels: moving index = fixed index + shift.

    Returned so that fixed voxel x lies on moving voxel x + shift, counted from each grid's first voxel.
    """
    size = [fft.next_fast_len(a + b - 1, real=True) for a, b in zip(fixed.shape, moving.shape, strict=True)]

    def spectrum(image: np.ndarray) -> np.ndarray:
        return fft.rfftn(image, size)

    def correlate(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return fft.irfftn(np.conj(a) * b, size)

    f, f2, fm = spectrum(fixed), spectrum(fixed**2), spectrum(fixed_mask)
    m, m2, mm = spectrum(moving), spectrum(moving**2), spectrum(moving_mask)
    count = np.maximum(correlate(fm, mm), 1e-3)
    sum_f, sum_m = correlate(f, mm), correlate(fm, m)
    top = correlate(f, m) - sum_f * sum_m / count
    var_f = np.maximum(correlate(f2, mm) - sum_f**2 / count, 0)
    var_m = np.maximum(correlate(fm, m2) - sum_m**2 / count, 0)
    top = np.abs(top) if either_sign else top
    # Correlation counts by how much of the smaller image's content it explains.
    energy = min(
        float((fixed**2).sum() - fixed.sum() ** 2 / fixed_mask.sum()),
        float((moving**2).sum() - moving.sum() ** 2 / moving_mask.sum()),
    )
    correlation = top / np.sqrt(var_f * var_m + (0.05 * energy) ** 2)
    enough = np.minimum(var_f, var_m) > MIN_OVERLAP * energy
    correlation = np.where(enough, correlation, -1)
    place = np.unravel_index(correlation.argmax(), correlation.shape)
    shift = np.array([p if p < n else p - s for p, n, s in zip(place, moving.shape, size, strict=True)], float)
    return float(correlation[place]), shift
