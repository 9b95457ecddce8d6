"""The text headers of NRRD and MetaImage files, and where their voxels lie."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Literal

import numpy as np

from samreg.errors import InputRefused
from samreg.io.arrays import unreadable
from samreg.whole_data import DamagedDataError, read_gzip, read_raw, read_zlib, too_long, too_short

MAX_HEADER_BYTES = 2**24  # segmentations of 3D Slicer keep whole terminologies in theirs
BYTE_ORDER = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")  # of MetaImage
MAX_DATA_FILES = 2**16
MAX_LINE = 512  # of a field; ITK writes longer ones beyond its buffers where it complains of them
_NUMBER = r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?"
_VECTOR = rf"\(\s*{_NUMBER}(\s*,\s*{_NUMBER})*\s*\)"
_NUMBERS = rf"{_NUMBER}(\s+{_NUMBER})*"
# What a field must look like before ITK sees it: it ends the process on some that do not.
FORMS = {
    "type": r"[a-zA-Z0-9_ ]+",
    "dimension": r"[1-9]|1[0-6]",
    "sizes": r"\d{1,9}(\s+\d{1,9})*",
    "space": r"[a-zA-Z0-9-]+",
    "space dimension": r"[1-8]",
    "space directions": rf"({_VECTOR}|none)(\s+({_VECTOR}|none))*",
    "space origin": _VECTOR,
    "spacings": r"[-+.\w\s]+",
    "endian": r"(?i:little|big)",
    "encoding": r"[a-zA-Z0-9]+",
    "kinds": r"[a-zA-Z0-9?-]+(\s+[a-zA-Z0-9?-]+)*",
    "centers": r"[a-zA-Z?]+(\s+[a-zA-Z?]+)*",
    "NDims": r"[1-9]",
    "DimSize": r"\d{1,9}(\s+\d{1,9})*",
    "ElementType": r"MET_[A-Z_]+",
    "ElementNumberOfChannels": r"\d{1,4}",
    "ElementSpacing": _NUMBERS,
    "ElementSize": _NUMBERS,
    "TransformMatrix": _NUMBERS,
    "Rotation": _NUMBERS,
    "Orientation": _NUMBERS,
    "Offset": _NUMBERS,
    "Position": _NUMBERS,
    "Origin": _NUMBERS,
    "CenterOfRotation": _NUMBERS,
}
# Fields with one entry for each axis, and for each pair of axes.
PER_AXIS = (
    *("sizes", "space directions", "kinds", "centers"),
    *("DimSize", "ElementSpacing", "ElementSize", "Offset", "Position", "Origin", "CenterOfRotation"),
)
PER_PAIR = ("TransformMatrix", "Rotation", "Orientation")
# Names that NRRD knows for the same field (teem's table of equivalents).
_SPACED = (
    *("block size", "space dimension", "space directions", "space origin", "space units", "measurement frame"),
    *("axis mins", "axis maxs", "old min", "old max", "line skip", "byte skip", "sample units", "data file"),
)
SYNONYMS = {name.replace(" ", ""): name for name in _SPACED} | {"centerings": "centers"}
NUMBERED = re.compile(r"%0?\d?d")

Kind = Literal["NRRD", "MetaImage"]


@dataclass(frozen=True)
class TextHeader:
    """What a NRRD or MetaImage header says, as text.

    Attributes:
        path: The file.
        kind: Its format.
        fields: Text by name; NRRD's names, whose case does not count, in lower case, one for all synonyms.
        data_names: The files of the voxels beside this one, in their order; empty where they follow the header.
        data_at: Bytes of this file before what follows the header.
    """

    path: Path
    kind: Kind
    fields: dict[str, str]
    data_names: tuple[str, ...]
    data_at: int

    def value(self, *names: str) -> str:
        """The first of these fields that is stated, or nothing."""
        return next((self.fields[name] for name in names if self.fields.get(name)), "")


def read_text_header(path: Path) -> TextHeader:
    """The header of a .nrrd, .nhdr, .mha or .mhd file.

    Raises:
        InputRefused: `unreadable-file`, or `outside-folder` if the voxels are not beside the file.
    """
    kind: Kind = "NRRD" if path.suffix.lower() in (".nrrd", ".nhdr") else "MetaImage"
    try:
        with path.open("rb") as file:
            fields, data_at = (_nrrd_fields if kind == "NRRD" else _meta_fields)(file)
            _check_forms(fields)
            stated = fields.get("data file") or fields.get("ElementDataFile") or ""
            names: list[str] = []
            if stated.split()[:1] == ["LIST"]:
                names = [name.strip() for name in _text(file.read(MAX_HEADER_BYTES)).splitlines() if name.strip()]
            elif stated and not (kind == "MetaImage" and stated.lower() == "local"):
                names = _data_names(stated, fields)
    except (OSError, ValueError) as error:
        raise unreadable(path.name, kind, error) from error
    if any(_leaves_folder(name) for name in names):
        raise InputRefused("the header points at a data file outside its folder", reason="outside-folder")
    return TextHeader(path, kind, fields, tuple(names), data_at)


def _check_forms(fields: dict[str, str]) -> None:
    """Refuse a field that is none.

    Raises:
        DamagedDataError: It is malformed, too long, or has not as many entries as there are axes.
    """
    for name, value in fields.items():
        shown = value if len(value) < 50 else f"{value[:40]}..."
        if len(name) + len(value) > MAX_LINE or not re.fullmatch(FORMS.get(name, r"[^\0]*"), value):
            raise DamagedDataError(f"its header states '{name[:50]}' as '{shown}'")
    axes = int(fields.get("dimension") or fields.get("NDims") or 0)
    if not axes:
        raise DamagedDataError("its header states no number of dimensions")
    for name in (*PER_AXIS, *PER_PAIR):
        entries = len(re.findall(r"\([^)]*\)|\S+", fields.get(name, "")))
        if entries not in (0, axes * axes if name in PER_PAIR else axes):
            raise DamagedDataError(f"its header has {entries} entries in '{name}' for {axes} dimensions")


def read_stored_voxels(header: TextHeader, shape: tuple[int, int, int], dtype: np.dtype) -> np.ndarray:
    """The voxels, from data that must be whole to the last byte.

    Args:
        header: From `read_text_header`.
        shape: Size along i, j, k.
        dtype: Of one voxel, whatever its byte order.

    Returns:
        Stored numbers [i, j, k] in this dtype.

    Raises:
        InputRefused: `unreadable-file` for an encoding that is not read.
        DamagedDataError: Data that are cut, too long or fail their checksum.
        OSError, ValueError: A data file is missing, or is not text where it should be.
    """
    paths = [header.path.parent / name for name in header.data_names] or [header.path]
    count, rest = divmod(prod(shape), len(paths))
    if rest:
        raise DamagedDataError(f"{prod(shape)} voxels do not fill {len(paths)} files")
    start = 0 if header.data_names else header.data_at
    parts = [_part(header, path, start, count, dtype) for path in paths]
    values = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return values.reshape(shape, order="F")


def _nrrd_fields(file: IO[bytes]) -> tuple[dict[str, str], int]:
    """Fields up to the blank line (or the list of data files), and where that ends."""
    fields: dict[str, str] = {}
    if not re.fullmatch(rb"NRRD000\d\s*", file.readline(MAX_LINE)):
        raise DamagedDataError("it does not begin as one")
    while line := file.readline(MAX_HEADER_BYTES):
        text = _text(line).strip()
        if not text or file.tell() > MAX_HEADER_BYTES:
            break
        name, colon, value = text.partition(":")
        if text.startswith("#") or value.startswith("="):
            continue  # a comment, a pair of key and value
        if not colon:
            raise DamagedDataError(f"its header holds the line '{text[:40]}'")
        name = SYNONYMS.get(name.strip().lower(), name.strip().lower())
        _state(fields, name, value.strip())
        if name == "data file" and value.split()[:1] == ["LIST"]:
            break
    return fields, file.tell()


def _meta_fields(file: IO[bytes]) -> tuple[dict[str, str], int]:
    """Fields up to the one that names the data, which is the last, and where it ends."""
    fields: dict[str, str] = {}
    while line := file.readline(MAX_HEADER_BYTES):
        name, _, value = _text(line).partition("=")
        _state(fields, name.strip(), value.strip())
        if name.strip() == "ElementDataFile" or file.tell() > MAX_HEADER_BYTES:
            break
    return fields, file.tell()


def _state(fields: dict[str, str], name: str, value: str) -> None:
    if fields.setdefault(name, value) != value:
        raise DamagedDataError(f"its header states '{name[:50]}' twice, with different values")


def _data_names(stated: str, fields: dict[str, str]) -> list[str]:
    """The file that a header names, or those of a numbered pattern: 'slice%03d.raw first last step'."""
    pattern, *numbers = stated.split()
    place = NUMBERED.search(pattern)
    if "%" in stated and not place:  # ITK would take it for a pattern, and may crash on it
        raise DamagedDataError(f"its header names the data file '{stated}'")
    if not place:
        return [stated]
    slices = (fields.get("DimSize") or fields.get("sizes", "")).split()[-1:]
    default = [1, int(slices[0]) if slices else 1, 1]
    first, last, step = [*(int(n) for n in numbers[:3]), *default[len(numbers[:3]) :]]
    found = range(first, last + (1 if step > 0 else -1), step)
    if not 0 < len(found) <= MAX_DATA_FILES:
        raise DamagedDataError(f"its header names {len(found)} data files")
    return [pattern[: place.start()] + place.group() % n + pattern[place.end() :] for n in found]


def _part(header: TextHeader, path: Path, start: int, count: int, dtype: np.dtype) -> np.ndarray:
    """The numbers [count] of one data file."""
    encoding = _encoding(header)
    n_bytes = count * dtype.itemsize
    with path.open("rb") as file:
        file.seek(start)
        if encoding == "text":
            return _numbers(file.read().split(), count, dtype)
        _skip(header, file, encoding, n_bytes)
        if encoding == "hex":
            data = bytes.fromhex(file.read().decode("ascii"))
            if len(data) != n_bytes:
                raise DamagedDataError(f"it holds {len(data)} bytes of voxels where its header counts {n_bytes}")
        else:
            data = READERS[encoding](file, n_bytes)
    return np.frombuffer(data, dtype.newbyteorder(_byte_order(header)))


READERS: dict[str, Callable[[IO[bytes], int], bytes]] = {
    "raw": read_raw,
    "gzip": read_gzip,
    "zlib": read_zlib,
}
NRRD_ENCODINGS = {
    "raw": "raw",
    **dict.fromkeys(("gzip", "gz"), "gzip"),
    **dict.fromkeys(("text", "txt", "ascii"), "text"),
    "hex": "hex",
}


def _encoding(header: TextHeader) -> str:
    if header.kind == "MetaImage":
        if not _is_true(header.value("BinaryData") or "True"):
            return "text"
        return "zlib" if _is_true(header.value("CompressedData")) else "raw"
    stated = header.value("encoding").lower()
    if stated not in NRRD_ENCODINGS:
        raise InputRefused(
            f"the data of '{header.path.name}' are encoded as '{stated}'",
            f"one of {', '.join(NRRD_ENCODINGS)}",
            "Write the file again with the encoding gzip.",
            reason="unreadable-file",
        )
    return NRRD_ENCODINGS[stated]


def _byte_order(header: TextHeader) -> Literal["<", ">"]:
    if header.kind == "NRRD":
        return ">" if header.value("endian").lower() == "big" else "<"
    return ">" if _is_true(header.value(*BYTE_ORDER)) else "<"


def _is_true(text: str) -> bool:
    return text[:1] in ("T", "t", "1")


def _skip(header: TextHeader, file: IO[bytes], encoding: str, n_bytes: int) -> None:
    """Go to where the data begin, as the header's fields of bytes and lines to skip say."""
    lines = int(header.value("line skip") or 0)
    skipped = int(header.value("byte skip", "HeaderSize") or 0)
    if (lines or skipped) and encoding != "raw":
        raise DamagedDataError("its header skips a part of compressed data")
    for _ in range(lines):
        file.readline()
    if skipped < -1:
        raise DamagedDataError(f"its header skips {skipped} bytes")
    if skipped == -1:  # the voxels are the last bytes of the file, whatever lies before them
        start = file.seek(0, 2) - n_bytes
        if start < 0:
            raise too_short(file.tell(), n_bytes)
        file.seek(start)
    elif skipped and header.kind == "MetaImage":
        if not header.data_names:
            raise DamagedDataError(f"HeaderSize {skipped} counts from the start of a file with a header of its own")
        file.seek(skipped)
    else:
        file.seek(skipped, 1)


def _numbers(words: list[bytes], count: int, dtype: np.dtype) -> np.ndarray:
    if len(words) > count:
        raise too_long(count * dtype.itemsize)
    if len(words) < count:
        raise DamagedDataError(f"it holds {len(words)} of {count} numbers")
    return np.array(words).astype(dtype)


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _leaves_folder(name: str) -> bool:
    pure = (PurePosixPath(name), PureWindowsPath(name))
    return any(p.is_absolute() or ".." in p.parts for p in pure)
