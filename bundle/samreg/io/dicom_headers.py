"""Reading DICOM headers without trusting them."""

from __future__ import annotations

import logging
import re
import sqlite3
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
from pydicom.uid import UID

from samreg.whole_data import without_lines_of

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
    StopIteration,
    TypeError,
    ValueError,
    sqlite3.Error,  # highdicom keeps the frames of a SEG in a table
    struct.error,
    zlib.error,
)

# Defined terms of Modality, PS3.3 C.7.3.1.1.1.
MODALITIES = frozenset({
    "ANN", "AR", "ASMT", "AU", "BDUS", "BI", "BMD", "CFM", "CR", "CT", "CTPROTOCOL", "DG", "DMS", "DOC", "DX",
    "ECG", "EEG", "EMG", "EOG", "EPS", "ES", "FID", "GM", "HC", "HD", "IO", "IOL", "IVOCT", "IVUS", "KER", "KO",
    "LEN", "LS", "M3D", "MG", "MR", "NM", "OAM", "OCT", "OP", "OPM", "OPT", "OPTBSV", "OPTENF", "OPV", "OSS", "OT",
    "PA", "PLAN", "POS", "PR", "PT", "PX", "REG", "RESP", "RF", "RG", "RTDOSE", "RTIMAGE", "RTINTENT", "RTPLAN",
    "RTRAD", "RTRECORD", "RTSEGANN", "RTSTRUCT", "RWV", "SEG", "SM", "SMR", "SR", "SRF", "STAIN", "TEXTUREMAP",
    "TG", "US", "VA", "VF", "XA", "XAPROTOCOL", "XC",
})  # fmt: skip

# A failed decoding is reported once, by this project's error; these loggers would print it to stderr as well.
for _name in ("pydicom", "pylibjpeg", "openjpeg", "libjpeg", "rle", "highdicom"):
    logging.getLogger(_name).addHandler(logging.NullHandler())


@contextmanager
def quiet() -> Iterator[None]:
    """Without pydicom's warnings, raised or logged: they repeat values of the header, and so patient data."""
    with without_lines_of("pydicom"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def is_dicom(path: Path) -> bool:
    """True if the file has the DICOM prefix (files without it are never forced)."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def lacks_prefix(path: Path) -> bool:
    """True if the file begins with a data element of DICOM, where its preamble and prefix should stand."""
    with path.open("rb") as file:
        start = file.read(8)
    # File meta information, or group 0008 of a data set: tag, then a value representation or a short length.
    return re.match(rb"[\x02\x08]\x00.\x00([A-Z]{2}|[\x02-\x40]\x00\x00\x00)", start, re.DOTALL) is not None


def read_header(path: Path) -> Dataset:
    """The data set before its pixels.

    Raises:
        One of `DAMAGE` if the file is damaged.
    """
    return dcmread(path, stop_before_pixels=True)


def text(header: Dataset, keyword: str) -> str:
    """A value as text without padding; empty if it is missing or damaged."""
    try:
        with quiet():
            value = header.get(keyword)
    except DAMAGE:
        return ""
    return "" if value is None else str(value).strip().strip("\0").strip()


def shown_uid(uid: str) -> str:
    """A UID for messages: what stands in its place in a header may be free text, and hold names or line breaks."""
    return uid if re.fullmatch(r"[0-9.]{1,64}", uid) else "an invalid UID"


def uid_name(uid: str) -> str:
    """The standard's name of a UID, else as `shown_uid`."""
    with quiet():
        return UID(uid).name if shown_uid(uid) == uid else shown_uid(uid)


def shown_modality(modality: str) -> str:
    """A modality for messages: a defined term, or that it is none."""
    return modality if modality in MODALITIES else "unknown modality" if modality else "no modality"


def texts(header: Dataset, keyword: str) -> tuple[str, ...]:
    """The values of a multi-valued attribute; empty if it is missing or damaged."""
    try:
        with quiet():
            value = header.get(keyword)
    except DAMAGE:
        return ()
    if value is None:
        return ()
    return tuple(str(v) for v in ([value] if isinstance(value, str) else value))


def numbers(header: Dataset, keyword: str, count: int = 1) -> np.ndarray | None:
    """`count` finite numbers [count] float64, or None if they are missing or damaged."""
    try:
        with quiet():
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
        with quiet():
            sequence = header.get(keyword)
        return sequence[0] if sequence else Dataset()
    except DAMAGE:
        return Dataset()


def item_count(header: Dataset, keyword: str) -> int:
    """How many items a sequence has; 0 if it is missing or damaged."""
    try:
        with quiet():
            return len(header.get(keyword) or ())
    except DAMAGE:
        return 0
