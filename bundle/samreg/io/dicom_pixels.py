"""Are the pixels of a file what its header says of them?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import JPEGTransferSyntaxes

from samreg.errors import InputRefused
from samreg.io.dicom_headers import number
from samreg.io.dicom_streams import stated_by
from samreg.whole_data import DamagedDataError

PIXEL_DATA = 0x7FE00010
ITEM = b"\xfe\xff\x00\xe0"
UNDEFINED_LENGTH = 0xFFFFFFFF
NEEDED = (
    *("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation"),
    *("BitsAllocated", "BitsStored", "PixelRepresentation"),
)  # by decoders
LOOKED_AT = 4096  # bytes behind the pixels


def refuse_incomplete(dataset: Dataset) -> None:
    """A header without what decoders need, or uncompressed pixels that end too early.

    Raises:
        DamagedDataError: Says what is missing.
    """
    if not dataset.get("PixelData"):  # pydicom drops what a cut file holds of compressed ones, and more
        raise DamagedDataError("the file has no whole PixelData")
    missing = [keyword for keyword in NEEDED if dataset.get(keyword) in (None, "")]
    if missing:
        raise DamagedDataError(f"the file has no {', '.join(missing)}")
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        return
    found, expected = len(dataset.PixelData), _expected_bytes(dataset)
    if found < expected:
        raise DamagedDataError(f"they end after {found} of {expected} bytes")


def _expected_bytes(dataset: Dataset) -> int:
    frames = int(number(dataset, "NumberOfFrames") or 1)
    return int(dataset.Rows) * int(dataset.Columns) * frames * int(dataset.BitsAllocated) // 8


def refuse_surplus(dataset: Dataset) -> None:
    """More uncompressed pixels than the header has room for: a decoder leaves them out, and may cut rows amiss.

    Raises:
        InputRefused: `contradictory-pixels`.
    """
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        return
    rows, columns, bits = int(dataset.Rows), int(dataset.Columns), int(dataset.BitsAllocated)
    surplus = len(dataset.PixelData) - _expected_bytes(dataset)
    if surplus >= min(rows, columns) * bits // 8:  # less than a row or a column too many is padding
        raise _contradictory(
            f"the pixels of an image are {surplus} bytes more than {columns} x {rows} of {bits} bits",
            "as many as Rows, Columns and Bits Allocated say",
        )


def refuse_rest(dataset: Dataset, file: Path) -> None:
    """What stands behind the pixels and does not belong there: bytes were put in before, as by a transfer as text.

    Args:
        dataset: As it was read, its pixels not yet looked at.
        file: Where it was read from.

    Raises:
        InputRefused: `contradictory-pixels`.
    """
    tags = [int(tag) for tag in dataset.keys()]  # noqa: SIM118 (in order of the file)
    behind = tags[tags.index(PIXEL_DATA) + 1 :] if PIXEL_DATA in tags else []
    misplaced = [tag for tag in behind if tag < PIXEL_DATA and (tag or dataset[tag].value)]  # zeros are padding
    pixels = dataset.get_item(PIXEL_DATA) if tags[-1:] == [PIXEL_DATA] else None
    rest = b""
    if isinstance(pixels, RawDataElement) and _has_place(pixels, dataset):
        with file.open("rb") as opened:
            opened.seek(pixels.value_tell + pixels.length)
            rest = opened.read(LOOKED_AT).strip(b"\0")
    if misplaced or rest:
        raise _contradictory(
            "the file of an image goes on behind its pixels with what is no element of DICOM",
            "a file that ends with its pixels",
        )


def _has_place(pixels: RawDataElement, dataset: Dataset) -> bool:
    return pixels.length != UNDEFINED_LENGTH and not dataset.file_meta.TransferSyntaxUID.is_deflated


def refuse_torn(dataset: Dataset) -> None:
    """Parts of compressed pixels that are not as long as they say: bytes were lost or put in, which decoders may miss.

    Raises:
        DamagedDataError: They do not follow each other to the end.
    """
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return
    data, at = dataset.PixelData, 0
    while data[at : at + 4] == ITEM and at + 8 <= len(data):
        at += 8 + int.from_bytes(data[at + 4 : at + 8], "little")
    if at > len(data) or data[at:].strip(b"\0"):
        raise DamagedDataError("its compressed pixels are torn")


def refuse_other_size(dataset: Dataset) -> None:
    """Decoders fill the rows and columns of the header with whatever the streams hold, if only the number fits.

    Raises:
        InputRefused: `contradictory-pixels`.
    """
    if not dataset.file_meta.TransferSyntaxUID.is_compressed:
        return
    frames = int(number(dataset, "NumberOfFrames") or 1)
    for stream in generate_frames(dataset.PixelData, number_of_frames=frames):
        stated = stated_by(stream)
        if stated is None:
            continue
        fits = stated.columns == dataset.Columns and stated.rows in (0, dataset.Rows)
        if not fits or stated.bits > dataset.BitsAllocated:
            raise _contradictory(
                f"a compressed image of {stated.columns} x {stated.rows} pixels of {stated.bits} bits",
                f"{dataset.Columns} x {dataset.Rows} of at most {dataset.BitsAllocated} bits, as its header says",
            )


def within_stored_bits(values: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Values as Bits Stored has them, if what stands in the bits above contradicts none of them.

    Those bits repeat the sign, or hold the overlay that old images declare there (PS3.5 8.1.1). Anything else may be a
    value that needs more bits than the header states, which cutting it off would change. A sign that stands in its own
    bit alone is such a case too, for which readers differ; but decoders of JPEG give negative values so.

    Args:
        values: Decoded, any shape and integer type, the unused bits as they are stored.
        dataset: Their header.

    Raises:
        InputRefused: `contradictory-pixels`.
    """
    unused = int(dataset.BitsAllocated) - int(dataset.BitsStored)
    if unused <= 0 or values.dtype.kind not in "iu":
        return values
    kept = np.right_shift(np.left_shift(values, unused), unused)
    odd = kept != values
    if not odd.any() or _has_embedded_overlay(dataset):
        return kept
    positive = (values >= 0).all() and values.max() < 2 ** int(dataset.BitsStored)
    if values.dtype.kind == "i" and positive and dataset.file_meta.TransferSyntaxUID in JPEGTransferSyntaxes:
        return kept
    raise _contradictory(
        f"{int(odd.sum())} stored values of an image need more bits than its header states",
        f"values within {int(dataset.BitsStored)} bits (Bits Stored)",
    )


def _contradictory(got: str, expected: str) -> InputRefused:
    return InputRefused(got, expected, reason="contradictory-pixels")


def _has_embedded_overlay(dataset: Dataset) -> bool:
    """True if an Overlay Bit Position, in the groups 6000 to 601E, is not that of an overlay with data of its own."""
    tags = [group << 16 | 0x0102 for group in range(0x6000, 0x6020, 2)]
    return any(dataset[tag].value for tag in tags if tag in dataset)
