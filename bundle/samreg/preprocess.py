"""Images prepared for matching: body mask, contrast and working resolution."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

from samreg.geometry import Grid, Volume, resample
from samreg.transforms import Affine, Transform, nearest_rotation
from samreg.types import Mask

# Chosen on phantoms and on the real images of docs/performance.md.
COARSER = 1.1  # times the spacing, until an image has no more voxels than allowed
BODY_SHARE = 0.01, 0.97  # of the image: a mask of less or more tells nothing, and the image is all body
BORDER_BINS = 32
DARKEST, BRIGHTEST = 0.2, 0.8  # of the robust range: a background is darker or brighter
LEAST_BORDER = 0.2  # of the border's voxels that have the value of the background
SMALLEST_PART = 0.05  # of the largest part of a body
OTSU_BINS = 128
SAME_SPACING, SAME_PLACE = 0.02, 0.1  # of a spacing by which slices may differ and still be the same
TILT_DEG, PICTURE_TILT_DEG = 3.0, 10.0  # by which axes may differ and still lie alike
CONTRAST_BINS = 64
DISPLACED = 0.12  # of a slice's sides
BACKGROUND_MM = 10.0  # of a picture's brightness, of a field of view of 256 mm; scales with it
BORDER_MM = 2.0  # that a picture loses within its body, likewise
FLAT_RANGE = 3.0  # local standard deviations
LEAST_DEVIATION = 0.3  # of the median one


def working_volume(
    volume: Volume, spacing_mm: float, *, max_voxels: int = 4_000_000, keep_slices: bool = False
) -> Volume:
    """The image at about `spacing_mm`, on a grid with the same axes; never finer than the original.

    Args:
        max_voxels: The spacing is coarsened until the image has no more voxels than this.
        keep_slices: The slices (axis k) stay as they are.

    Returns:
        A float32 volume whose axes have spacing max(original, `spacing_mm`); outside is the darkest value.
    """
    coarsened = np.array([1.0, 1.0, 0.0 if keep_slices else 1.0])
    grid = volume.grid.with_spacing(np.maximum(volume.grid.spacing_mm, spacing_mm * coarsened))
    while grid.size > max_voxels and spacing_mm < float(volume.grid.extent_mm[:2].max()):
        spacing_mm *= COARSER
        grid = volume.grid.with_spacing(np.maximum(volume.grid.spacing_mm, spacing_mm * coarsened))
    return on_grid(volume, grid)


def for_slices(volume: Volume, pixel_mm: float, max_slices: int) -> Volume:
    """The image with pixels of this size within its slices (axis k), and at most so many slices.

    Slices are averaged, not left out. An image that is as it should be is left alone.
    """
    spacing = volume.grid.spacing_mm
    wanted = np.array([pixel_mm, pixel_mm, max(spacing[2], volume.grid.extent_mm[2] / max_slices)])
    if np.abs(wanted / spacing - 1).max() < 1e-3:
        return volume
    return on_grid(volume, volume.grid.with_spacing(wanted))


def on_grid(volume: Volume, grid: Grid) -> Volume:
    """The image averaged onto another grid of its own space."""
    if grid.same_as(volume.grid, 1e-6):
        return volume
    voxels = resample(volume.voxels, volume.grid, grid, outside=float(volume.voxels.min()))
    return replace(volume, voxels=voxels, grid=grid)


def body_mask(volume: Volume) -> Mask:
    """Where the body is: what differs from the background, closed and filled slice by slice.

    The background is the commonest value of the border if that is the darkest or brightest of the
    image (so an inverted image has the same mask). An image without background is all body.
    """
    low, high = np.percentile(volume.voxels, (0.5, 99.5))
    if high <= low:
        return np.ones(volume.grid.shape, bool)
    values = ((volume.voxels - low) / (high - low)).clip(0, 1)
    background = background_value(values)
    if background is None:
        return np.ones(volume.grid.shape, bool)
    contrast = np.sqrt(np.abs(values - background))
    sigma = [
        min(1.0, 2.0 / s) if n > 1 else 0.0 for s, n in zip(volume.grid.spacing_mm, volume.grid.shape, strict=True)
    ]
    contrast = ndimage.gaussian_filter(contrast, sigma)
    mask = _largest_parts(contrast > _otsu(contrast))
    for k in range(mask.shape[2]):
        mask[:, :, k] = ndimage.binary_fill_holes(mask[:, :, k])
    share = mask.mean()
    return mask if BODY_SHARE[0] < share < BODY_SHARE[1] else np.ones(volume.grid.shape, bool)


def background_value(values: np.ndarray) -> float | None:
    """The commonest value of the border, if it is the darkest or brightest of the image; else None.

    Args:
        values: [i, j, k], the robust range of the image brought to 0..1.
    """
    border = _border_values(values)
    counts, edges = np.histogram(border, BORDER_BINS, (0, 1))
    background = float(edges[counts.argmax()] + 0.5 / BORDER_BINS)
    if DARKEST < background < BRIGHTEST or counts.max() < LEAST_BORDER * border.size:
        return None
    return background


def flattened(picture: Volume, body: Mask, scale: float) -> tuple[Volume, Mask]:
    """A picture without its background: what it shows against its surroundings, in local standard deviations.

    The edge of a camera's field of view, and the light within it, stay in place when the tissue moves. So only what
    lies within the body is read, and slow changes of brightness and contrast are removed.

    Args:
        picture: A single slice.
        body: [i, j, 1] on its grid.
        scale: Size of the field of view, relative to 256 mm.

    Returns:
        The flattened picture, 0 outside the body, and the part of the body [i, j, 1] that is read: all but its rim.
    """
    spacing = picture.grid.spacing_mm[:2]
    inside, values = body[:, :, 0], picture.voxels[:, :, 0].astype(np.float64)
    sigma = BACKGROUND_MM * scale / spacing
    share = np.maximum(ndimage.gaussian_filter(inside.astype(np.float64), sigma), 1e-3)
    values = (values - ndimage.gaussian_filter(values * inside, sigma) / share) * inside
    deviation = np.sqrt(np.maximum(ndimage.gaussian_filter(values**2, sigma), 0) / share)
    usual = float(np.median(deviation[inside])) if inside.any() else 0.0
    values = values / np.maximum(deviation + LEAST_DEVIATION * usual, float(np.finfo(np.float32).tiny))
    distance = ndimage.distance_transform_edt(inside, sampling=spacing)
    read = (distance > BORDER_MM * scale) if not inside.all() else inside
    values = values.clip(-FLAT_RANGE, FLAT_RANGE) * read
    return replace(picture, voxels=values[:, :, None].astype(np.float32)), read[:, :, None]


def turned_like(moving: Volume, fixed: Grid, aligned: Affine) -> Volume:
    """The moving image on a grid of its own space that lies as the fixed one does under a rough alignment.

    Features that know directions (MIND-SSC) compare only between images that lie alike.

    Returns:
        The image itself if its axes lie within 10° of the fixed ones; else the whole of it at the fixed
        spacing, with the median of its border around it.
    """
    direction = nearest_rotation(aligned.moving_from_fixed[:3, :3]) @ fixed.direction
    if np.abs(np.linalg.norm(direction - moving.grid.direction, axis=0)).max() < _chord(PICTURE_TILT_DEG):
        return moving
    n = np.asarray(moving.grid.shape)
    corners = moving.grid.lps(np.array(list(np.ndindex(2, 2, 2))) * (n - 1)) @ direction
    low, high = corners.min(0), corners.max(0)
    shape = np.round((high - low) / fixed.spacing_mm).astype(int) + 1
    if moving.grid.is_2d:
        shape[2] = 1
    grid = Grid.from_axes(shape, fixed.spacing_mm, direction @ low, direction)
    border = float(np.median(_border_values(moving.voxels)))
    return replace(moving, voxels=resample(moving.voxels, moving.grid, grid, outside=border), grid=grid)


def cut_along(moving: Volume, fixed: Grid, aligned: Affine) -> Volume:
    """The moving image on the fixed grid as a rough alignment maps it, so that their slices show the same.

    Returns:
        The image itself where its slices lie there already: within 3° and a tenth of their spacing (a picture:
        within 10°).
    """
    matrix = np.eye(4)
    matrix[:3, :3] = nearest_rotation(aligned.moving_from_fixed[:3, :3])
    matrix[:3, 3] = aligned.map_points(fixed.centre_lps[None])[0] - matrix[:3, :3] @ fixed.centre_lps
    grid = Grid(fixed.shape, matrix @ fixed.affine)
    turn = np.linalg.norm(grid.direction - moving.grid.direction, axis=0).max()
    place = moving.grid.index(grid.centre_lps[None])[0, 2] - (fixed.shape[2] - 1) / 2
    same_spacing = abs(fixed.spacing_mm[2] / moving.grid.spacing_mm[2] - 1) < SAME_SPACING
    level = moving.grid.is_2d or (same_spacing and abs(place - round(place)) < SAME_PLACE)
    if level and turn < _chord(PICTURE_TILT_DEG if moving.grid.is_2d else TILT_DEG):
        return moving
    border = float(np.median(_border_values(moving.voxels)))
    return replace(moving, voxels=resample(moving.voxels, moving.grid, grid, outside=border), grid=grid)


def displaced(volume: Volume) -> Volume:
    """The image in a field of view that begins earlier along both axes of the slices; nothing is left out."""
    before = [round(DISPLACED * n) for n in volume.grid.shape[:2]] + [0]
    border = float(np.median(_border_values(volume.voxels)))
    voxels = np.pad(volume.voxels, [(n, 0) for n in before], constant_values=border)
    return replace(volume, voxels=voxels, grid=volume.grid.crop([-n for n in before], volume.grid.shape))


def mask_on(mask: Mask, source: Grid, target: Grid) -> Mask:
    """A mask [i, j, k] on another grid of its space (nearest neighbour)."""
    return resample(mask.astype(np.uint8), source, target, mode="nearest") > 0


def contrast_matched(moving: Volume, fixed: Volume, aligned: Transform, fixed_body: Mask) -> Volume:
    """The moving image with each grey value replaced by the mean fixed value found at the same place.

    Makes images of different or inverted contrast comparable by intensity, once a rough alignment is known.

    Args:
        aligned: Fixed to moving points.
        fixed_body: [i, j, k] on the fixed grid.
    """
    low, high = np.percentile(moving.voxels, (0.5, 99.5))
    if high <= low:
        return moving
    warped = aligned.warp(moving, fixed.grid, outside=np.nan)
    seen = ndimage.binary_dilation(fixed_body, iterations=2) & np.isfinite(warped)
    place = ((warped[seen] - low) / (high - low)).clip(0, 1) * (CONTRAST_BINS - 1)
    counts = np.bincount(place.round().astype(int), minlength=CONTRAST_BINS).astype(float)
    sums = np.bincount(place.round().astype(int), fixed.voxels[seen], CONTRAST_BINS)
    counts, sums = (ndimage.gaussian_filter1d(v, 1.0, mode="constant") for v in (counts, sums))
    known = counts > 1e-3 * counts.sum() / CONTRAST_BINS
    if not known.any():
        return moving
    bins = np.arange(CONTRAST_BINS)
    curve = np.interp(bins, bins[known], sums[known] / counts[known])
    position = ((moving.voxels - low) / (high - low)).clip(0, 1) * (CONTRAST_BINS - 1)
    return replace(moving, voxels=np.interp(position, bins, curve).astype(np.float32))


def _chord(degrees: float) -> float:
    """Distance of the ends of two unit vectors at an angle."""
    return float(2 * np.sin(np.deg2rad(degrees / 2)))


def _border_values(values: np.ndarray) -> np.ndarray:
    """Values on the faces of the first two axes (slices may all hold body)."""
    faces = [values[0], values[-1], values[:, 0], values[:, -1]]
    return np.concatenate([f.ravel() for f in faces])


def _largest_parts(mask: Mask) -> Mask:
    """Components of at least a twentieth of the largest one."""
    labels, count = ndimage.label(mask)
    if count <= 1:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return (sizes >= SMALLEST_PART * sizes.max())[labels] & mask


def _otsu(values: np.ndarray) -> float:
    """Otsu's threshold: the edge between two of 128 bins that separates the two classes best."""
    counts, edges = np.histogram(values, OTSU_BINS)
    # The upper edges stand in place of the bin centres, so that a whole bin lies on one side of the threshold.
    return float(threshold_otsu(hist=(counts, edges[1:])))
