"""Text (.tfm, .txt) and MATLAB version 4 (.mat) files of ITK taken apart into blocks.

Not by ITK, which reads cut files without a word and of a list the first transform alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from samreg.refusals.results import AS_COMPOSITE
from samreg.transforms.itk_classes import COMPOSITE, Block, class_of, unreadable, unsupported

MATLAB_HEADER = 5 * 4  # bytes: type, rows, columns, imaginary, length of the name
AS_ITK = "A parameter file of elastix or of another tool must be exported as an ITK transform or a displacement field."
AS_MATRIX = "Convert it first, for example with `c3d_affine_tool … -oitk`."


def text_blocks(path: Path) -> Iterator[Block]:
    """The blocks of a text file: lines of `Transform`, `Parameters` and `FixedParameters`, comments between.

    Raises:
        InputRefused: The file is cut or holds something else.
    """
    try:
        text = path.read_text("utf-8-sig")  # some editors of Windows put a mark before the text
    except UnicodeDecodeError as error:
        raise unreadable(path, "is not a text file") from error
    if _is_bare_matrix(text):
        raise unsupported(path, "a bare matrix, as FSL, greedy and NiftyReg write it", "an ITK transform", AS_MATRIX)
    if not text.endswith(("\n", "\r")):
        raise unreadable(path, "ends within a line", "End the last line if it is whole, else write the file again.")
    kind, numbers, announced = "", dict[str, np.ndarray](), False
    for line in text.splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        if not key or key.startswith("#"):
            announced = announced or key.startswith("#Transform")
            continue
        announced = False
        if key == "Transform":
            if kind:
                yield _text_block(path, kind, numbers)
            kind, numbers = value, {}
        elif kind and key in ("Parameters", "FixedParameters") and key not in numbers:
            numbers[key] = _numbers(path, value)
        elif key == "ComponentTransformFile":
            raise unsupported(path, "names of other files", "one file with all parts", AS_COMPOSITE)
        else:
            raise unreadable(path, f"holds the line '{line.strip()[:40]}', which no ITK transform has", AS_ITK)
    if announced:
        raise unreadable(path, "ends before the last transform that it announces")
    if kind:
        yield _text_block(path, kind, numbers)


def _text_block(path: Path, kind: str, numbers: dict[str, np.ndarray]) -> Block:
    if class_of(kind) == COMPOSITE:
        return Block(kind, np.empty(0), np.empty(0))
    if len(numbers) < 2:
        raise unreadable(path, f"holds a {kind} without parameters or without fixed parameters")
    return Block(kind, numbers["Parameters"], numbers["FixedParameters"])


def _numbers(path: Path, text: str) -> np.ndarray:
    try:
        return np.array(text.split(), np.float64)
    except ValueError as error:
        raise unreadable(path, f"holds a word where a number belongs ({error})") from error


def _is_bare_matrix(text: str) -> bool:
    try:
        return len([float(word) for word in text[:1000].split()]) in (12, 16)
    except ValueError:
        return False


def matlab_blocks(path: Path) -> Iterator[Block]:
    """The blocks of a .mat file: two vectors each, the parameters under the name of the class, then the fixed ones.

    Raises:
        InputRefused: The file is cut, holds a composite, or something else.
    """
    data = path.read_bytes()
    if data.startswith(b"MATLAB 5.0"):
        raise unsupported(path, "a MATLAB 5 file", "version 4, as ITK and ANTs write it", AS_ITK)
    if data.isascii() and _is_bare_matrix(data.decode("ascii")):
        raise unsupported(path, "a bare matrix, as FSL writes it", "an ITK transform", AS_MATRIX)
    vectors = list(_matlab_vectors(path, data))
    if len(vectors) % 2:
        raise unreadable(path, f"holds a {vectors[-1][0]} without fixed parameters")
    for (kind, parameters), (_, fixed) in zip(vectors[::2], vectors[1::2], strict=True):
        if class_of(kind) == COMPOSITE:
            raise unsupported(
                path, f"a {kind}, whose parts it does not name", "a composite as .h5 or .tfm", "Write it as .h5."
            )
        yield Block(kind, parameters, fixed)


def _matlab_vectors(path: Path, data: bytes) -> Iterator[tuple[str, np.ndarray]]:
    at = 0
    while at < len(data):
        order = "<" if int.from_bytes(data[at : at + 4], "little") < 1000 else ">"
        if at + MATLAB_HEADER > len(data):
            raise unreadable(path, "ends within a variable")
        # Thousands: byte order; hundreds: stored by rows, all one for a vector; tens: 1 is single precision.
        kind, rows, columns, imaginary, length = np.frombuffer(data, order + "i4", 5, at).tolist()
        if kind % 1000 not in (0, 10, 100, 110) or kind // 1000 != (order == ">") or imaginary or min(rows, length) < 0:
            raise unreadable(path, "is no MATLAB file of version 4", AS_ITK)
        dtype = np.dtype(order + ("f4" if kind % 100 == 10 else "f8"))
        name_at = at + MATLAB_HEADER
        at = name_at + length
        end = at + rows * dtype.itemsize
        if columns != 1 or end > len(data):
            raise unreadable(path, f"ends within a variable or holds an array of {rows} x {columns}")
        name = data[name_at:at].rstrip(b"\x00").decode("ascii", "replace")
        yield name, np.frombuffer(data, dtype, rows, at).astype(np.float64)
        at = end
