"""What a compressed image says of itself, beside what its DICOM header says of it."""

from __future__ import annotations

from typing import NamedTuple

JPEG_START, JPEG_2000_START = b"\xff\xd8", b"\xff\x4f\xff\x51"
# Start of frame of JPEG (C4, C8 and CC are other segments) and of JPEG-LS.
FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}


class Stated(NamedTuple):
    """Size in pixels, and bits of a value; rows are 0 where they are stated at the end of the stream."""

    columns: int
    rows: int
    bits: int


def stated_by(stream: bytes) -> Stated | None:
    """The size that a JPEG, JPEG-LS or JPEG 2000 stream states; None where it states none that is found."""
    if stream.startswith(JPEG_2000_START):
        return _by_jpeg_2000(stream)
    return _by_jpeg(stream) if stream.startswith(JPEG_START) else None


def _by_jpeg_2000(stream: bytes) -> Stated | None:
    """Segment SIZ (ISO/IEC 15444-1 A.5.1)."""
    if len(stream) < 43:
        return None
    x1, y1, x0, y0 = (int.from_bytes(stream[at : at + 4], "big") for at in range(8, 24, 4))
    return Stated(x1 - x0, y1 - y0, (stream[42] & 0x7F) + 1)


def _by_jpeg(stream: bytes) -> Stated | None:
    """The first start of frame (ITU-T T.81 B.2.2); what stands before it are segments with their lengths."""
    at = len(JPEG_START)
    while at + 9 <= len(stream) and stream[at] == 0xFF:
        marker = stream[at + 1]
        if marker in FRAME_MARKERS:
            rows, columns = (int.from_bytes(stream[p : p + 2], "big") for p in (at + 5, at + 7))
            return Stated(columns, rows, stream[at + 4])
        at += 1 if marker == 0xFF else 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
    return None
