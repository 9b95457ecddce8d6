"""Numbers into pictures: windows, colours, composites, and their encoding. Arrays are [w, h]; NaN is "no data"."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from samreg.geometry import Volume

VOID = (27, 33, 41)  # beyond an image: unlike any tissue, darker than the page is light
FIXED_TINT = np.array([1.0, 0.56, 0.16])  # the two tints add up to white where the images agree
MOVING_TINT = 1.0 - FIXED_TINT
QUALITY = 86


@dataclass(frozen=True)
class Window:
    """Intensities shown from black to white."""

    low: float
    high: float

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Values in 0..1; NaN stays."""
        return np.clip((values - self.low) / max(self.high - self.low, 1e-9), 0, 1)


@dataclass(frozen=True)
class Ramp:
    """A colour scale: values and their colours (0..255), linear in between.

    Attributes:
        marks: Values to write at the colour bar, with their words.
    """

    values: tuple[float, ...]
    colours: tuple[tuple[int, int, int], ...]
    marks: tuple[tuple[float, str], ...] = ()

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Colours [w, h, 3] in 0..1."""
        channels = np.array(self.colours, float).T / 255
        return np.stack([np.interp(np.nan_to_num(values), self.values, c) for c in channels], -1)

    def fraction(self, value: float) -> float:
        """Where a value stands on the bar, 0..1."""
        return (value - self.values[0]) / (self.values[-1] - self.values[0])


DIFFERENCE = Ramp((-0.6, 0.0, 0.6), ((74, 158, 255), (16, 19, 24), (255, 138, 48)))
MAGNITUDE_COLOURS = ((20, 14, 54), (87, 21, 126), (183, 55, 121), (252, 137, 97), (252, 253, 191))
# Blue shrinks, grey keeps, orange grows. Folding has a colour of its own.
JACOBIAN_COLOURS = ((54, 118, 255), (74, 116, 190), (112, 112, 112), (204, 124, 58), (255, 132, 20))
FOLDED = (226, 0, 170)


def magnitude_ramp(highest_mm: float) -> Ramp:
    """A scale from 0 to a round number of mm at or above `highest_mm`."""
    power = 10.0 ** np.floor(np.log10(max(highest_mm, 0.1)))
    top = float(power * next(m for m in (1, 2, 3, 4, 5, 6, 8, 10) if m * power >= highest_mm * (1 - 1e-9)))
    marks = tuple((top * f, f"{top * f:g}") for f in (0.0, 0.25, 0.5, 0.75, 1.0))
    return Ramp(tuple(np.linspace(0, top, len(MAGNITUDE_COLOURS)).tolist()), MAGNITUDE_COLOURS, marks)


def jacobian_ramp(extreme: float) -> Ramp:
    """A scale of log2 of the determinant, symmetric about 0 (no change), that holds ±`extreme`."""
    top = next((t for t in (0.125, 0.25, 0.5, 1.0) if extreme <= t), 2.0)
    marks = tuple((f * top, f"{2 ** (f * top):.2f}".rstrip("0").rstrip(".")) for f in (-1.0, -0.5, 0.0, 0.5, 1.0))
    return Ramp(tuple(f * top for f in (-1.0, -0.5, 0.0, 0.5, 1.0)), JACOBIAN_COLOURS, marks)


def window_of(volume: Volume) -> Window:
    """A window that shows the body: soft tissue for CT (wide where there is lung), percentiles else."""
    steps = [max(1, n // 96) for n in volume.grid.shape]
    values = volume.voxels[:: steps[0], :: steps[1], :: steps[2]]
    values = values[np.isfinite(values)]
    if values.size == 0:
        return Window(0.0, 1.0)
    if volume.modality == "CT" and values.min() < -500:
        lung = np.mean((values > -950) & (values < -600))
        return Window(-1000.0, 400.0) if lung > 0.08 else Window(-160.0, 240.0)
    low, high = np.percentile(values, (0.5, 99.7))
    # Air fills most of many images: the upper end is that of what is brighter than air.
    bright = values[values > low + 0.05 * (high - low)]
    if bright.size:
        high = float(np.percentile(bright, 99))
    return Window(float(low), float(high if high > low else low + 1))


def grey(shade: np.ndarray) -> np.ndarray:
    """uint8 [w, h, 3] of shades 0..1."""
    return _finish(np.repeat(shade[..., None], 3, -1), np.isnan(shade))


def overlay(fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """Fixed in orange and moving in blue: grey where they agree."""
    mixed = np.nan_to_num(fixed)[..., None] * FIXED_TINT + np.nan_to_num(moving)[..., None] * MOVING_TINT
    return _finish(mixed, np.isnan(fixed) & np.isnan(moving))


def checkerboard(fixed: np.ndarray, warped: np.ndarray, squares: int = 8) -> np.ndarray:
    """Fixed and warped in turn, with `squares` along the longer side."""
    side = max(fixed.shape) / squares
    i, j = np.indices(fixed.shape)
    return grey(np.where(((i // side) + (j // side)) % 2 == 0, fixed, warped))


def difference(fixed: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Other minus fixed: orange where brighter, blue where darker."""
    return _finish(DIFFERENCE(other - fixed), np.isnan(fixed) | np.isnan(other))


def tinted(shade: np.ndarray, colours: np.ndarray, strength: np.ndarray | float = 0.72) -> np.ndarray:
    """Colours [w, h, 3] in 0..1 over an anatomy in shades of grey, each pixel with its own strength."""
    light = 0.45 + 0.55 * np.nan_to_num(shade)[..., None]
    strength = np.broadcast_to(strength, shade.shape)[..., None]
    mixed = (1 - strength) * np.nan_to_num(shade)[..., None] + strength * colours * light
    return _finish(mixed, np.isnan(shade))


def enlarged(values: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Values [w, h] on a finer picture of the same field of view, linear."""
    from scipy.ndimage import map_coordinates

    axes = [(np.arange(n) + 0.5) * m / n - 0.5 for n, m in zip(shape, values.shape, strict=True)]
    return map_coordinates(values, np.meshgrid(*axes, indexing="ij"), order=1, mode="nearest")


def data_uri(picture: np.ndarray) -> str:
    """A picture uint8 [w, h, 3] as a WebP data URI."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture.swapaxes(0, 1))).save(buffer, "WEBP", quality=QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _finish(colours: np.ndarray, void: np.ndarray) -> np.ndarray:
    out = (np.nan_to_num(np.clip(colours, 0, 1)) * 255 + 0.5).astype(np.uint8)
    out[void] = VOID
    return out
