"""2D pictures (PNG, JPEG, TIFF), through Pillow. They need a pixel spacing."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from samreg.errors import InputRefused, UsageError
from samreg.geometry import Volume
from samreg.io.arrays import not_greyscale, unreadable, volume_from_array
from samreg.io.limits import refuse_if_too_large

if TYPE_CHECKING:
    from PIL.Image import Image

LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
GREYSCALE = ("1", "L", "I", "F", "I;16", "I;16L", "I;16B")
COLOUR = ("RGB", "RGBA", "LA", "P", "PA", "CMYK", "YCbCr", "RGBX", "La", "RGBa")
# What programs write when nobody measured anything: a screen's dots per inch.
SCREEN_DPI = (72, 96)
TIFF_SAMPLE_FORMAT = 339
TIFF_X_RESOLUTION, TIFF_Y_RESOLUTION, TIFF_UNIT = 282, 283, 296
MM_PER_TIFF_UNIT = {2: 25.4, 3: 10.0}
EXIF_ORIENTATION = 274


def read_picture(path: Path, pixel_spacing_mm: Sequence[float] | None = None, *, stored: bool = False) -> Volume:
    """A picture as a volume of one slice: i along x to the right, j along y down.

    Colour becomes luminance (ITU-R BT.601). Stored pixels are kept as they are: an EXIF
    orientation is not applied.

    Args:
        path: PNG, JPEG or TIFF.
        pixel_spacing_mm: (along x, along y); None: the resolution that a PNG or TIFF states.
        stored: Keep the type of greyscale values, instead of float32.

    Raises:
        UsageError: The given spacing is not two positive numbers.
        InputRefused: `no-spacing`, `unreadable-file`, `4d` for several pages, `not-greyscale`,
            `size-limit`; `not-labels` for stored values of two or four bits.
    """
    with closing(_open(path)) as image:
        spacing, notes = _spacing(image, pixel_spacing_mm)
        if stored:
            _refuse_spread(image)
        signed = _is_signed(image)
        try:
            image.load()
            if image.getexif().get(EXIF_ORIENTATION, 1) != 1:
                notes["exif_orientation"] = "not applied"
            if image.mode in COLOUR:
                values = np.asarray(image.convert("RGB"), np.float32) @ LUMINANCE
                notes["colour"] = "converted to luminance"
            elif image.mode in GREYSCALE:
                values = _pixels(image, signed=signed)
            else:
                raise not_greyscale(f"of mode {image.mode}")
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise unreadable(path.name, "a picture") from error
    affine = np.diag([*spacing, 1.0, 1.0])
    return volume_from_array(values.T, affine, name="picture", notes=notes, stored=stored)


def describe_picture(path: Path, pixel_spacing_mm: Sequence[float] | None = None) -> dict[str, Any]:
    """Size and spacing from the header alone.

    Raises:
        UsageError, InputRefused: As `read_picture`, except for the pixels.
    """
    with closing(_open(path)) as image:
        spacing, _ = _spacing(image, pixel_spacing_mm)
        return {"format": str(image.format), "size": [*image.size, 1], "spacing_mm": np.array([*spacing, 1.0])}


def _open(path: Path) -> Image:
    import PIL.Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
            image = PIL.Image.open(path, formats=("PNG", "JPEG", "TIFF"))
    except PIL.Image.DecompressionBombError as error:
        raise InputRefused(
            "the picture has too many pixels", f"at most {2 * (PIL.Image.MAX_IMAGE_PIXELS or 0)}",
            "Lower its resolution.", reason="size-limit",
        ) from error  # fmt: skip
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise unreadable(path.name, "PNG, JPEG or TIFF") from error
    refuse_if_too_large(image.size)
    pages = getattr(image, "n_frames", 1)
    if pages > 1:
        image.close()
        raise InputRefused(
            f"the picture has {pages} pages", "one page", "Save the page to register on its own.", reason="4d"
        )
    return image


def _is_signed(image: Image) -> bool | None:
    """Whether a TIFF says that its integers are signed; None for other formats and for numbers that are no integers."""
    tags = getattr(image, "tag_v2", None)
    if image.format != "TIFF" or tags is None:
        return None
    return {1: False, 2: True}.get(tags.get(TIFF_SAMPLE_FORMAT, (1,))[0])


def _pixels(image: Image, *, signed: bool | None) -> np.ndarray:
    """Greyscale values [y, x]; Pillow has no type for signed bytes and for unsigned integers of 32 bits."""
    values = np.asarray(image)
    if image.mode == "L" and signed:
        return values.view(np.int8)
    if image.mode == "I" and signed is False:
        return values.view(np.uint32)
    return values.astype(np.uint8) if image.mode == "1" else values


def _refuse_spread(image: Image) -> None:
    """Refuse greys of two or four bits as numbers: Pillow spreads them over 0 to 255, as PNG asks.

    Raises:
        InputRefused: `not-labels`.
    """
    raw = " ".join(str(tile[3]) for tile in getattr(image, "tile", ()))
    bits = next((n for n in (2, 4) if f"L;{n}" in raw), None)
    if bits is not None:
        raise InputRefused(
            f"the picture has greys of {bits} bits, which stand for shares of white and not for numbers",
            "8 or 16 bits in each pixel",
            "Write the labels as 8-bit greyscale.",
            reason="not-labels",
        )


def _spacing(image: Image, given: Sequence[float] | None) -> tuple[tuple[float, float], dict[str, str]]:
    """Spacing (x, y) in mm, and where it is from."""
    if given is not None:
        values = np.asarray(given, np.float64)
        if values.shape != (2,) or not np.isfinite(values).all() or (values <= 0).any():
            raise UsageError(f"pixel spacing {given!r}", "two positive numbers in mm, along x and along y")
        return (float(values[0]), float(values[1])), {"pixel_spacing": "as given"}
    stated = _stated_mm(image)
    if stated is None:
        raise _no_spacing("the picture states no pixel spacing")
    dpi = [25.4 / s for s in stated]
    if all(any(abs(d - screen) < 0.5 for screen in SCREEN_DPI) for d in dpi):
        raise _no_spacing(f"the picture states {dpi[0]:.0f} dots per inch, a screen's default and not a measurement")
    return stated, {"pixel_spacing": f"from the file's resolution ({stated[0]:.4g} x {stated[1]:.4g} mm)"}


def _no_spacing(got: str) -> InputRefused:
    return InputRefused(
        got,
        "the distance between pixels in mm",
        "Give it with --pixel-spacing X Y (mm along x and along y).",
        reason="no-spacing",
    )


def _stated_mm(image: Image) -> tuple[float, float] | None:
    """Pixel spacing (x, y) where the file states it in a unit of length; JPEG's density is never measured."""
    if image.format == "PNG" and "dpi" in image.info:
        x, y = (float(d) for d in image.info["dpi"])
        return (25.4 / x, 25.4 / y) if x > 0 and y > 0 else None
    tags = getattr(image, "tag_v2", None)
    if image.format == "TIFF" and tags is not None:
        unit = MM_PER_TIFF_UNIT.get(tags.get(TIFF_UNIT, 0))
        x, y = float(tags.get(TIFF_X_RESOLUTION, 0) or 0), float(tags.get(TIFF_Y_RESOLUTION, 0) or 0)
        return (unit / x, unit / y) if unit and x > 0 and y > 0 else None
    return None
