"""HDF5 files of ITK (.h5), taken apart by SimpleITK after a look at the classes that they name.

Without that look SimpleITK would crash on some classes and on some damage, and read the first of a list alone.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from samreg.transforms.base import Transform
from samreg.transforms.composite import compose
from samreg.transforms.itk_classes import (
    KIND,
    Block,
    class_of,
    field_from,
    from_block,
    parts_of,
    probed,
    unreadable,
    unsupported,
)
from samreg.whole_data import is_text

HDF5_START = b"\x89HDF\r\n\x1a\n"
HDF5_LENGTH_AT = {0: 40, 1: 44, 2: 28, 3: 28}  # by version of the superblock
HEAP_START, HEAP_HEADER = b"GCOL\x01\x00\x00\x00", 16
# SimpleITK reads these as part of a composite, which it evaluates, but hands none of them out.
NOT_HANDED_OUT = (
    "CenteredAffineTransform",
    "CenteredEuler3DTransform",
    "ComposeScaleSkewVersor3DTransform",
    "FixedCenterOfRotationAffineTransform",
    "ScalableAffineTransform",
)

CHECK_POINTS = np.random.default_rng(0).uniform(-150, 150, (20, 3))
CHECK_MM = 1e-3


def read_hdf5(path: Path) -> Transform:
    """Read an HDF5 transform file of ITK.

    Raises:
        InputRefused, UsageError: As `read_itk`.
    """
    import SimpleITK

    if not is_text(path):
        raise unreadable(path, "has a path with bytes that are no UTF-8", "Give it another name, or put it elsewhere.")
    kinds = _kinds_in_hdf5(path)
    parts = parts_of(path, kinds)
    if len(kinds) == 1 and class_of(kinds[0]) in NOT_HANDED_OUT:
        raise unsupported(
            path,
            f"a {kinds[0]} that is part of no composite",
            "a transform within a composite",
            "Save it as .tfm or .mat instead.",
        )
    try:
        transform = SimpleITK.ReadTransform(str(path))
        if len(kinds) > 1 and transform.GetNumberOfTransforms() != len(parts):
            raise unreadable(path, f"names {len(parts)} parts and holds {transform.GetNumberOfTransforms()}")
        expected = np.array([transform.TransformPoint(tuple(point)) for point in CHECK_POINTS])
        if not np.isfinite(expected).all():
            raise unreadable(path, "holds a number that is not finite")
        read = compose(list(_hdf5_parts(path, transform, kinds[-1])))
    except (RuntimeError, UnicodeError) as error:  # a message of ITK may quote damaged bytes
        raise unreadable(path, "cannot be read as an ITK transform") from error
    if not np.allclose(read.map_points(CHECK_POINTS), expected, rtol=0, atol=CHECK_MM):
        raise unreadable(path, "maps points otherwise when read in parts")
    return read


def _kinds_in_hdf5(path: Path) -> list[str]:
    """Names of the classes in the order of the blocks: strings in the global heaps of the file.

    SimpleITK crashes or hangs over a damaged heap, or a damaged pointer to a name, so both are checked here.
    Layout: HDF5 file format specification, version 3, II (superblock), III.E (global heap), VIII (pointers to it).
    """
    kinds = []
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[: len(HDF5_START)] != HDF5_START:
            raise unreadable(path, "cannot be read as an HDF5 file")
        length_at = HDF5_LENGTH_AT.get(int.from_bytes(data[8:9], "little"))
        if length_at is None or data[length_at : length_at + 8] != len(data).to_bytes(8, "little"):
            raise unreadable(path, "is of another length than it says")
        for heap, number, text in _heap_strings(path, data):
            if KIND.match(text):
                if data.find(struct.pack("<IQI", len(text), heap, number)) < 0:
                    raise unreadable(path, f"holds the name {text}, but nothing of that name")
                kinds.append(text)
    return kinds


def _heap_strings(path: Path, data: mmap.mmap) -> Iterator[tuple[int, int, str]]:
    """Address of the heap, number in it and text of each string."""
    heap = data.find(HEAP_START)
    while heap >= 0:
        at, end = heap + HEAP_HEADER, heap + int.from_bytes(data[heap + 8 : heap + 16], "little")
        while at + HEAP_HEADER <= end <= len(data):
            number, _, _, length = struct.unpack_from("<HHIQ", data, at)
            if number == 0:  # free space, header included, up to the end
                at += length
                break
            yield heap, number, data[at + HEAP_HEADER : min(at + HEAP_HEADER + length, end)].decode("latin1")
            at += HEAP_HEADER + -(-length // 8) * 8
        if not 0 <= end - at < HEAP_HEADER:
            raise unreadable(path, "holds a damaged list of names")
        heap = data.find(HEAP_START, end)


def _hdf5_parts(path: Path, transform: Any, last: str) -> Iterator[Transform]:
    """The parts in order of application: taken off from the back until only matrices are left, which are one matrix."""
    import SimpleITK

    shown = True  # of the last part a composite shows the numbers
    while not transform.IsLinear():
        composite = isinstance(transform, SimpleITK.CompositeTransform)
        try:
            part = transform.GetBackTransform() if composite else transform
        except (RuntimeError, KeyError) as error:
            if not shown:
                raise unsupported(
                    path,
                    "a part between others that SimpleITK does not hand out",
                    f"none of {', '.join(NOT_HANDED_OUT)}",
                    "Save it as .tfm instead.",
                ) from error
            numbers = (np.array(values) for values in (transform.GetParameters(), transform.GetFixedParameters()))
            yield from_block(path, Block(last, *numbers))
        else:
            is_field = isinstance(part, SimpleITK.DisplacementFieldTransform)
            yield field_from(part.GetDisplacementField()) if is_field else probed(part)
        if not composite or transform.GetNumberOfTransforms() == 1:
            return
        transform.RemoveTransform()
        shown = False
    yield probed(transform)
