"""What happens to files: changed bytes, and header fields at their limits.

Each mutation takes the bytes of a file and a generator, and returns other bytes; those of a format know where its
fields stand, and mend the checksums that would otherwise be the only thing that a reader looks at.
"""

from __future__ import annotations

import gzip
import io
import re
import struct
import zlib
from collections.abc import Callable, Mapping

import numpy as np

Mutation = Callable[[bytes, np.random.Generator], bytes]

LONGEST = 64  # bytes that one mutation of bytes touches
WHOLE_NUMBERS = (0, 1, -1, 2, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1)
FRACTIONS = (0.0, -0.0, 1.0, -1.0, float("nan"), float("inf"), -float("inf"), 1e38, -1e38, 1e-38, 1e300, 1e-300)
WORDS = (
    b"", b"0", b"-1", b"1", b"-0", b"2", b"3", b"4", b"nan", b"NaN", b"inf", b"-inf", b"1e300", b"1e-300", b"1e400",
    b"0.5", b"99999999999999999999", b"-9223372036854775808", b"2147483648", b"65536", b"1_000", b"0x10", b"none",
    b"True", b"%n%s%d", b"(", b")", b'"', b"'", b"[", b"{", b"&a *a", b"- -", b"\\", b"\0", b"\n", b"\r", b"\xff\xfe",
    b"\xc3\xa9", b"\xe2\x88\x921", b"LIST", b"../a", b"/dev/zero", b"A" * 70, b"A" * 5000, b"9" * 5000, b"[" * 3000,
    b"2 2 2 2 2 2 2 2 2 2 2 2 2 2 2 2 2",
)  # fmt: skip


def mutated(data: bytes, family: str, rng: np.random.Generator) -> tuple[str, bytes]:
    """One mutation of a file, of its bytes or of a field of its format.

    Args:
        family: Key of `FIELDS`; any other name: bytes alone.

    Returns:
        What was done, and the bytes.
    """
    fields = FIELDS.get(family, {})
    some = fields if fields and rng.random() < 0.6 else BYTES
    name = list(some)[int(rng.integers(len(some)))]
    return name, some[name](data, rng)


def _span(data: bytes, rng: np.random.Generator) -> tuple[int, int]:
    """Start and end of a piece; headers stand in front, so half of the pieces do."""
    limit = min(len(data), 1024) if rng.random() < 0.5 else len(data)
    start = int(rng.integers(max(limit, 1)))
    return start, min(len(data), start + int(rng.integers(1, LONGEST + 1)))


def _flip(data: bytes, rng: np.random.Generator) -> bytes:
    start, _ = _span(data, rng)
    return data[:start] + bytes([data[start] ^ 1 << int(rng.integers(8))]) + data[start + 1 :] if data else data


def _zero(data: bytes, rng: np.random.Generator) -> bytes:
    start, end = _span(data, rng)
    return data[:start] + bytes(end - start) + data[end:]


def _noise(data: bytes, rng: np.random.Generator) -> bytes:
    start, end = _span(data, rng)
    return data[:start] + rng.bytes(end - start) + data[end:]


def _cut(data: bytes, rng: np.random.Generator) -> bytes:
    start, end = _span(data, rng)
    return data[:start] if rng.random() < 0.5 else data[: len(data) - (end - start)]


def _append(data: bytes, rng: np.random.Generator) -> bytes:
    start, end = _span(data, rng)
    return data + (data if rng.random() < 0.2 else data[start:end] if rng.random() < 0.5 else rng.bytes(end - start))


def _delete(data: bytes, rng: np.random.Generator) -> bytes:
    start, end = _span(data, rng)
    return data[:start] + data[end:]


def _duplicate(data: bytes, rng: np.random.Generator) -> bytes:
    start, end = _span(data, rng)
    return data[:end] + data[start:]


def _number(data: bytes, rng: np.random.Generator) -> bytes:
    """A number at a limit, of any type and byte order, at a place where such a number may stand."""
    kind = "bhiqfd"[int(rng.integers(6))]
    new = _packed(kind, "<>"[int(rng.integers(2))], rng)
    start = _span(data, rng)[0] // len(new) * len(new)
    return (data[:start] + new + data[start + len(new) :])[: max(len(data), 1)]


def _packed(kind: str, order: str, rng: np.random.Generator) -> bytes:
    if kind in "fd":
        with np.errstate(over="ignore", under="ignore"):
            return np.array(rng.choice(FRACTIONS)).astype(f"{order}f{4 if kind == 'f' else 8}").tobytes()
    bits = 8 * struct.calcsize(f"={kind}")
    number = WHOLE_NUMBERS[int(rng.integers(len(WHOLE_NUMBERS)))] % 2**bits
    return number.to_bytes(bits // 8, "little" if order == "<" else "big")


BYTES: Mapping[str, Mutation] = {
    "flip": _flip,
    "zero": _zero,
    "noise": _noise,
    "cut": _cut,
    "append": _append,
    "delete": _delete,
    "duplicate": _duplicate,
    "number": _number,
}


def _in_head(change: Mutation) -> Mutation:
    """A mutation of the text before the voxels of NRRD and MetaImage, or of a whole text."""

    def mutation(data: bytes, rng: np.random.Generator) -> bytes:
        end = len(data)
        if data.startswith(b"NRRD"):
            end = data.find(b"\n\n") + 1 or end
        elif found := re.search(rb"ElementDataFile[^\n]*\n", data):
            end = found.end()
        return change(data[:end], rng) + data[end:]

    return mutation


def _word(head: bytes, rng: np.random.Generator) -> bytes:
    words = list(re.finditer(rb"[^\s,:=()]+", head))
    if not words:
        return head
    word = words[int(rng.integers(len(words)))]
    return head[: word.start()] + WORDS[int(rng.integers(len(WORDS)))] + head[word.end() :]


def _value(head: bytes, rng: np.random.Generator) -> bytes:
    """All that stands behind a name."""
    values = list(re.finditer(rb"[:=,][ ]?([^\n:=]*)", head))
    if not values:
        return head
    value = values[int(rng.integers(len(values)))]
    return head[: value.start(1)] + WORDS[int(rng.integers(len(WORDS)))] + head[value.end(1) :]


def _line(head: bytes, rng: np.random.Generator) -> bytes:
    """A line left out, twice, or in the place of another."""
    lines = head.splitlines(keepends=True)
    if not lines:
        return head
    at, other = (int(n) for n in rng.integers(len(lines), size=2))
    match int(rng.integers(3)):
        case 0:
            del lines[at]
        case 1:
            lines.insert(other, lines[at])
        case _:
            lines[at], lines[other] = lines[other], lines[at]
    return b"".join(lines)


_TEXT: Mapping[str, Mutation] = {"word": _in_head(_word), "value": _in_head(_value), "line": _in_head(_line)}


def _nifti_field(data: bytes, rng: np.random.Generator) -> bytes:
    from nibabel.nifti1 import header_dtype

    names = header_dtype.names or ()
    name = names[int(rng.integers(len(names)))]
    dtype, offset = header_dtype.fields[name][:2]
    base = dtype.base
    start = offset + base.itemsize * int(rng.integers(dtype.itemsize // base.itemsize))
    kind = {"i": {1: "b", 2: "h", 4: "i", 8: "q"}, "u": {1: "b", 2: "h"}, "f": {4: "f", 8: "d"}}
    new = rng.bytes(base.itemsize) if base.kind == "S" else _packed(kind[base.kind][base.itemsize], "<", rng)
    return data[:start] + new + data[start + len(new) :]


def _inflated(change: Mutation) -> Mutation:
    return lambda data, rng: gzip.compress(change(gzip.decompress(data), rng), 1, mtime=0)


def _png_chunk(data: bytes, rng: np.random.Generator) -> bytes:
    """A chunk changed, left out or twice, with a checksum that is right."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    which = int(rng.integers(len(chunks)))
    kind, body = chunks[which]
    match int(rng.integers(6)):
        case 0:
            del chunks[which]
        case 1:
            chunks.insert(int(rng.integers(len(chunks))), chunks[which])
        case 2:
            name, text = (b"tEXt", b"iTXt", b"zTXt", b"pHYs", b"eXIf", b"tRNS", b"PLTE", b"acTL"), rng.bytes(9)
            chunks.insert(int(rng.integers(1, len(chunks))), (name[int(rng.integers(len(name)))], text))
        case _:
            names = list(BYTES)
            chunks[which] = kind, BYTES[names[int(rng.integers(len(names)))]](body, rng) if body else rng.bytes(4)
    whole = [len(b).to_bytes(4, "big") + k + b + zlib.crc32(k + b).to_bytes(4, "big") for k, b in chunks]
    return data[:8] + b"".join(whole)


def _tiff_entry(data: bytes, rng: np.random.Generator) -> bytes:
    """Tag, type, count or value of an entry."""
    order = "<" if data[:2] == b"II" else ">"
    (at,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, at)
    entry = at + 2 + 12 * int(rng.integers(count))
    place, kind = ((0, "h"), (2, "h"), (4, "i"), (8, "i"), (8, "h"))[int(rng.integers(5))]
    new = _packed(kind, order, rng)
    return data[: entry + place] + new + data[entry + place + len(new) :]


def _jpeg_segment(data: bytes, rng: np.random.Generator) -> bytes:
    """A byte or two behind a marker."""
    markers = [m.start() for m in re.finditer(rb"\xff[\xc0-\xfe]", data)]
    start = markers[int(rng.integers(len(markers)))] + 2 + int(rng.integers(12))
    new = _packed("bh"[int(rng.integers(2))], ">", rng)
    return data[:start] + new + data[start + len(new) :]


def _dicom_element(data: bytes, rng: np.random.Generator) -> bytes:
    """An element of the data set, or of an item within, left out or with another value."""
    from pydicom import dcmread
    from pydicom.dataelem import RawDataElement
    from pydicom.dataset import Dataset
    from pydicom.errors import BytesLengthException

    def sets(dataset: Dataset) -> list[Dataset]:
        tags = list(dataset.keys())
        inner = [item for tag in tags if dataset.get_item(tag).VR == "SQ" for item in dataset[tag].value]
        return [dataset, *(found for item in inner for found in sets(item))]

    whole = dcmread(io.BytesIO(data))
    some = [whole, *(found for found in sets(whole) if len(found))]
    dataset = some[int(rng.integers(len(some)))] if rng.random() < 0.5 else whole
    tags = list(dataset.keys())
    tag = tags[int(rng.integers(len(tags)))]
    element = dataset.get_item(tag)
    if rng.random() < 0.2 or (element.VR != "SQ" and not isinstance(element, RawDataElement)):
        del dataset[tag]
    elif element.VR == "SQ":
        items = dataset[tag].value
        dataset[tag].value = [*items, *items] if rng.random() < 0.5 else []
    else:
        text = element.VR in ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UI", "UT")
        old = element.value or b""
        if text:
            new = WORDS[int(rng.integers(len(WORDS)))] if rng.random() < 0.7 else old.replace(b"\\", b"", 1)
        else:
            kind = {"US": "h", "SS": "h", "UL": "i", "SL": "i", "FL": "f", "FD": "d"}.get(element.VR, "b")
            names = list(BYTES)
            mutation = BYTES[names[int(rng.integers(len(names)))]]
            new = _packed(kind, "<", rng) if len(old) <= 8 else mutation(old, rng)
        new += b" " * (len(new) % 2)
        dataset._dict[tag] = element._replace(value=new, length=len(new))
    out = io.BytesIO()
    try:
        whole.save_as(out)
    except (ValueError, TypeError, AttributeError, KeyError, OverflowError, struct.error, BytesLengthException):
        return _flip(data, rng)  # this library does not write it
    return out.getvalue()


FIELDS: Mapping[str, Mapping[str, Mutation]] = {
    "nifti": {"field": _nifti_field},
    "nifti.gz": {"field": _inflated(_nifti_field), "inner flip": _inflated(_flip), "inner cut": _inflated(_cut)},
    "text": _TEXT,
    "png": {"chunk": _png_chunk},
    "tiff": {"entry": _tiff_entry},
    "jpeg": {"segment": _jpeg_segment},
    "dicom": {"element": _dicom_element},
}
