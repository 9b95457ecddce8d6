"""2D pictures (PNG, JPEG, TIFF), through Pillow. They need a pixel spacing."""

from __future__ import annotations

import html
import re
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from samreg.errors import InputRefused, UsageError
from samreg.geometry import Volume
from samreg.io.arrays import not_greyscale, unreadable, volume_from_array
from samreg.io.limits import refuse_if_too_large
from samreg.io.units import MM_PER_UNIT, mm_per_unit
from samreg.whole_data import DamagedDataError

if TYPE_CHECKING:
    from PIL.Image import Image

LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
GREYSCALE = ("1", "L", "I", "F", "I;16", "I;16L", "I;16B")
COLOUR = ("RGB", "RGBA", "LA", "P", "PA", "CMYK", "YCbCr", "RGBX", "La", "RGBa")
# What programs write when nobody measured anything: dots per inch of a screen, a printer or a scanner, in whole
# numbers. Whole numbers of pixels per mm (such as 254 per inch) are nobody's default.
SCREEN_DPI = (72, 96)
MAX_PRINT_DPI = 9600
PRINT_TOLERANCE_DPI = {"PNG": 0.0254, "TIFF": 0.02}  # PNG states whole pixels per metre, rounded or cut
TIFF_SAMPLE_FORMAT = 339
TIFF_X_RESOLUTION, TIFF_Y_RESOLUTION, TIFF_UNIT, TIFF_DESCRIPTION = 282, 283, 296, 270
TIFF_COMPRESSION, TIFF_DEFLATE = 259, (8, 32946)
TIFF_BITS, TIFF_PHOTOMETRIC, TIFF_STRIPS, TIFF_SAMPLES, TIFF_ROWS, TIFF_PLANAR = 258, 262, 273, 277, 278, 284
TIFF_YCBCR, TIFF_SEPARATE = 6, 2
TIFF_PARTS = ((273, 279), (324, 325))  # offsets and byte counts of strips, of tiles
NO_MEASUREMENT = frozenset({"", "pixel", "pixels", "reference frame", "referenceframe"})  # for OME and ImageJ
MM_PER_TIFF_UNIT = {2: 25.4, 3: 10.0}
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
PNG_HEADER = 8
EXIF_ORIENTATION = 274
# What Pillow raises on damaged files, and what its damaged tags raise here.
DAMAGE = (
    *(OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error),
    *(ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError),
)


def read_picture(path: Path, pixel_spacing_mm: Sequence[float] | None = None, *, stored: bool = False) -> Volume:
    """A picture as a volume of one slice: i along x to the right, j along y down.

    Colour becomes luminance (ITU-R BT.601). Stored pixels are kept as they are: an EXIF
    orientation is not applied.

    Args:
        path: PNG, JPEG or TIFF.
        pixel_spacing_mm: (along x, along y); None: what the file states, if that can be a measurement: OME and
            ImageJ units in a TIFF, else the resolution of a PNG or TIFF unless it is one of screens and printers.
        stored: Keep the type of greyscale values, instead of float32.

    Raises:
        UsageError: The given spacing is not two positive numbers.
        InputRefused: `no-spacing`, `unknown-unit`, `unreadable-file`, `4d` for several pages, `not-greyscale`,
            `size-limit`; `not-labels` for stored values of two or four bits.
    """
    with _refusing_damage(path), closing(_open(path)) as image:
        spacing, notes = _spacing(image, pixel_spacing_mm)
        if stored:
            _refuse_spread(image)
        signed = _is_signed(image)
        image.load()
        _refuse_hidden_damage(image, path)
        if image.getexif().get(EXIF_ORIENTATION, 1) != 1:
            notes["exif_orientation"] = "not applied"
        if image.mode in COLOUR:
            values = np.asarray(image.convert("RGB"), np.float32) @ LUMINANCE
            notes["colour"] = "converted to luminance"
        elif image.mode in GREYSCALE:
            values = _pixels(image, signed=signed)
        else:
            raise not_greyscale(f"of mode {image.mode}")
    affine = np.diag([*spacing, 1.0, 1.0])
    return volume_from_array(values.T, affine, name="picture", notes=notes, stored=stored)


def describe_picture(path: Path, pixel_spacing_mm: Sequence[float] | None = None) -> dict[str, Any]:
    """Size and spacing from the header alone.

    Raises:
        UsageError, InputRefused: As `read_picture`, except for the pixels.
    """
    with _refusing_damage(path), closing(_open(path)) as image:
        spacing, _ = _spacing(image, pixel_spacing_mm)
        return {"format": str(image.format), "size": [*image.size, 1], "spacing_mm": np.array([*spacing, 1.0])}


@contextmanager
def _refusing_damage(path: Path) -> Iterator[None]:
    """Tags may hold text where numbers belong, be empty, or point anywhere; Pillow hands them out as they are."""
    try:
        yield
    except DAMAGE as error:
        raise unreadable(path.name, "a picture", error) from error


def _open(path: Path) -> Image:
    import PIL.Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
            warnings.filterwarnings("error", "Corrupt EXIF data", UserWarning)  # the tags of a TIFF that was cut
            image = PIL.Image.open(path, formats=("PNG", "JPEG", "TIFF"))
    except PIL.Image.DecompressionBombError as error:
        raise InputRefused(
            "the picture has too many pixels", f"at most {2 * (PIL.Image.MAX_IMAGE_PIXELS or 0)}",
            "Lower its resolution.", reason="size-limit",
        ) from error  # fmt: skip
    except (*DAMAGE, UserWarning) as error:
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
            raise UsageError(f"the pixel spacing is {given!r}", "two positive numbers in mm, along x and along y")
        return (float(values[0]), float(values[1])), {"pixel_spacing": "as given"}
    stated, where = _stated_mm(image)
    if stated is None:
        raise _no_spacing("the picture states no pixel spacing")
    if where == "resolution" and _is_print_resolution(stated, PRINT_TOLERANCE_DPI[str(image.format)]):
        dpi = " x ".join(dict.fromkeys(f"{25.4 / s:.0f}" for s in stated))
        raise _no_spacing(
            f"the picture states {dpi} dots per inch, a default of screens and printers and not a measurement",
            f", {stated[0]:.4g} {stated[1]:.4g} if it was scanned at that resolution",
        )
    return stated, {"pixel_spacing": f"from the file's {where} ({stated[0]:.4g} x {stated[1]:.4g} mm)"}


def _no_spacing(got: str, advice: str = "") -> InputRefused:
    return InputRefused(
        got,
        "the distance between pixels in mm",
        f"Give it with --pixel-spacing X Y (mm along x and along y{advice}).",
        reason="no-spacing",
    )


def _is_print_resolution(spacing_mm: tuple[float, float], tolerance_dpi: float) -> bool:
    """Whether screens and printers work at this resolution, so that nobody need have measured it."""

    def is_print(mm: float) -> bool:
        dpi = 25.4 / mm
        if any(abs(dpi - screen) < 0.5 for screen in SCREEN_DPI):
            return True
        whole = abs(dpi - round(dpi)) < tolerance_dpi and dpi <= MAX_PRINT_DPI
        return whole and abs(1 / mm - round(1 / mm)) > tolerance_dpi / 25.4

    return all(is_print(mm) for mm in spacing_mm)


def _stated_mm(image: Image) -> tuple[tuple[float, float] | None, str]:
    """Pixel spacing (x, y) where the file states it in a unit of length, and where; JPEG's is never measured.

    Raises:
        InputRefused: `unknown-unit` for lengths of OME or ImageJ in a unit that is none of length.
    """
    if image.format == "PNG" and "dpi" in image.info:
        x, y = (float(d) for d in image.info["dpi"])
        return (_positive(25.4 / x, 25.4 / y) if x > 0 and y > 0 else None), "resolution"
    tags = getattr(image, "tag_v2", None)
    if image.format != "TIFF" or tags is None:
        return None, ""
    description = _description(str(tags.get(TIFF_DESCRIPTION, "")))
    if sizes := _ome_sizes(description):
        return _measured(*sizes, "OME header"), "OME header"
    x, y = float(tags.get(TIFF_X_RESOLUTION, 0) or 0), float(tags.get(TIFF_Y_RESOLUTION, 0) or 0)
    lengths = (1 / x, 1 / y) if x > 0 and y > 0 else (0.0, 0.0)
    units = _imagej_units(description)
    # ImageJ takes over the inches of a print resolution.
    if units is not None and {MM_PER_UNIT.get(unit) for unit in units} != {MM_PER_TIFF_UNIT[2]}:
        return _measured(lengths, units, "ImageJ header"), "ImageJ header"
    mm = MM_PER_TIFF_UNIT.get(tags.get(TIFF_UNIT, 0), 0.0)
    return _positive(mm * lengths[0], mm * lengths[1]), "resolution"


def _measured(lengths: tuple[float, float], units: tuple[str, str], where: str) -> tuple[float, float] | None:
    """Lengths (x, y) in mm; None where the file says that nobody measured them, or states none."""
    if not NO_MEASUREMENT.isdisjoint(units):
        return None
    x, y = (
        length * mm_per_unit(unit, f"the {where} of the picture") for length, unit in zip(lengths, units, strict=True)
    )
    return _positive(x, y)


def _description(text: str) -> str:
    """A TIFF's description with its micro signs: Pillow takes UTF-8 for Latin-1, ImageJ and XML write codes."""
    with suppress(UnicodeError):
        text = text.encode("latin-1").decode("utf-8")
    return html.unescape(text.replace("\\u00B5", "µ"))


def _ome_sizes(description: str) -> tuple[tuple[float, float], tuple[str, str]] | None:
    """Pixel sizes (x, y) of an OME-TIFF, 0 for one that is none, and their units; its default is the micrometre."""
    pixels = re.search(r"<(?:\w+:)?Pixels\b[^>]*>", description)
    stated: dict[str, str] = dict(
        re.findall(r'\bPhysicalSize([XY](?:Unit)?)="([^"]*)"', pixels.group() if pixels else "")
    )
    if stated.keys().isdisjoint("XY"):
        return None
    x, y = (_number(stated.get(axis, "")) for axis in "XY")
    x_unit, y_unit = (stated.get(f"{axis}Unit", "µm").strip().lower() for axis in "XY")
    return (x, y), (x_unit, y_unit)


def _imagej_units(description: str) -> tuple[str, str] | None:
    """The units along x and y of a TIFF that ImageJ wrote, if it states one."""
    if not description.startswith("ImageJ="):
        return None
    stated: dict[str, str] = dict(re.findall(r"^(y?unit)=(.*)$", description, re.MULTILINE))
    if "unit" not in stated:
        return None
    x, y = stated["unit"], stated.get("yunit", stated["unit"])
    return x.strip().lower(), y.strip().lower()


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _positive(x: float, y: float) -> tuple[float, float] | None:
    return (x, y) if np.isfinite([x, y]).all() and x > 0 and y > 0 else None


def _refuse_hidden_damage(image: Image, path: Path) -> None:
    """Check the checksums that decoders leave out: PNG's chunks, and the zlib streams in PNG and TIFF.

    Raises:
        DamagedDataError, OSError, SyntaxError, zlib.error: The file is damaged or cut.
    """
    import PIL.Image

    if image.format == "PNG":
        with PIL.Image.open(path, formats=("PNG",)) as again:
            again.verify()
        data = path.read_bytes()
        if PNG_END not in data:
            raise DamagedDataError("it has no end")
        _inflate(memoryview(b"".join(_png_pixels(data))))
    tags = getattr(image, "tag_v2", None)
    if image.format == "TIFF" and tags is not None:
        raw = memoryview(path.read_bytes())
        found = 0
        for offsets, counts in TIFF_PARTS:
            for offset, count in zip(tags.get(offsets, ()), tags.get(counts, ()), strict=False):
                if offset + count > len(raw):
                    raise DamagedDataError(f"its pixels end after {len(raw)} of {offset + count} bytes")
                packed = tags.get(TIFF_COMPRESSION) in TIFF_DEFLATE
                found += _inflate(raw[offset : offset + count]) if packed else count
        if tags.get(TIFF_COMPRESSION, 1) in (1, *TIFF_DEFLATE):
            _refuse_other_count(image.size, tags, found)


def _png_pixels(data: bytes) -> Iterator[bytes]:
    """The parts of the compressed pixels of a PNG, whose chunks are sound."""
    at = PNG_HEADER
    while at + 8 <= len(data):
        length, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if name == b"IDAT":
            yield data[at + 8 : at + 8 + length]
        at += length + 12


def _refuse_other_count(size: tuple[int, int], tags: Any, found: int) -> None:
    """Strips that hold other than the pixels that width, height and bits make; the last one may be a full one.

    Raises:
        DamagedDataError: They hold fewer, or more.
    """
    (width, height), strips = size, len(tags.get(TIFF_STRIPS, ()))
    if not strips or tags.get(TIFF_PHOTOMETRIC) == TIFF_YCBCR:
        return
    bits, samples = max(tags.get(TIFF_BITS, (1,))), int(tags.get(TIFF_SAMPLES, 1))
    planes = samples if tags.get(TIFF_PLANAR, 1) == TIFF_SEPARATE else 1
    row = -(-width * bits * samples // planes // 8)
    count = row * height * planes
    full = row * min(int(tags.get(TIFF_ROWS, height)), height) * strips
    if not count <= found < max(count, full) + 4 * strips:  # each padded to a word
        raise DamagedDataError(f"its strips hold {found} bytes for {width} x {height} pixels of {bits} bits")


def _inflate(data: memoryview) -> int:
    """Go through a zlib stream to its checksum; how many bytes it holds."""
    held = 0
    stream = zlib.decompressobj()
    rest: bytes | memoryview = data
    while not stream.eof:
        some = len(stream.decompress(rest, 2**20))
        if not some and not stream.unconsumed_tail and not stream.eof:
            raise DamagedDataError("its compressed pixels have no end")
        held += some
        rest = stream.unconsumed_tail
    return held
