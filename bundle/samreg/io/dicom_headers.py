"""Reading DICOM headers without trusting them."""

from __future__ import annotations

import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError

# What pydicom and its decoders raise on damaged files.
DAMAGE = (
    ArithmeticError,
    AttributeError,
    BytesLengthException,
    EOFError,
    InvalidDicomError,
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)

# A failed decoding is reported once, by this project's error; these loggers would print it to stderr as well.
for _name in ("pydicom", "pylibjpeg", "openjpeg", "libjpeg", "rle", "highdicom"):
    logging.getLogger(_name).addHandler(logging.NullHandler())


@contextmanager
def quiet() -> Iterator[None]:
    """Without pydicom's warnings: they repeat values of the header, and so patient data."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def is_dicom(path: Path) -> bool:
    """True if the file has the DICOM prefix (files without it are never forced)."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def read_header(path: Path) -> Dataset:
    """The data set before its pixels.

    Raises:
        One of `DAMAGE` if the file is damaged.
    """
    return dcmread(path, stop_before_pixels=True)


def text(header: Dataset, keyword: str) -> str:
    """A value as text without padding; empty if it is missing or damaged."""
    try:
        value = header.get(keyword)
    except DAMAGE:
        return ""
    return "" if value is None else str(value).strip().strip("\0").strip()


def texts(header: Dataset, keyword: str) -> tuple[str, ...]:
    """The values of a multi-valued attribute; empty if it is missing or damaged."""
    try:
        value = header.get(keyword)
    except DAMAGE:
        return ()
    if value is None:
        return ()
    return tuple(str(v) for v in ([value] if isinstance(value, str) else value))


def numbers(header: Dataset, keyword: str, count: int = 1) -> np.ndarray | None:
    """`count` finite numbers [count] float64, or None if they are missing or damaged."""
    try:
        value = header.get(keyword)
        values = np.atleast_1d(np.asarray([] if value is None else value, dtype=np.float64))
    except DAMAGE:
        return None
    return values if values.shape == (count,) and np.isfinite(values).all() else None


def number(header: Dataset, keyword: str) -> float | None:
    """One finite number, or None if it is missing or damaged."""
    values = numbers(header, keyword)
    return None if values is None else float(values[0])


def item(header: Dataset, keyword: str) -> Dataset:
    """The first item of a sequence; an empty data set if it is missing or damaged."""
    try:
        sequence = header.get(keyword)
        return sequence[0] if sequence else Dataset()
    except DAMAGE:
        return Dataset()
