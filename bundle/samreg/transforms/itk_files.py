"""Transforms out of the files of ITK: text (.tfm, .txt), MATLAB version 4 (.mat) and HDF5 (.h5).

A file holds blocks: the name of a class and its numbers. One block is a transform; a composite stands first and the
blocks after it are its parts, the last of which is applied first. Text and .mat files are taken apart here, because
ITK reads cut ones without a word. HDF5 is taken apart by SimpleITK, but only after the names of the classes were
looked up: it crashes on some, and of a list it reads the first transform alone.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from samreg.errors import InputRefused
from samreg.geometry import Grid
from samreg.transforms.base import Transform
from samreg.transforms.composite import compose
from samreg.transforms.field import DisplacementField
from samreg.transforms.linear import Affine, Rigid, is_orthonormal

if TYPE_CHECKING:
    import SimpleITK

ITK_SUFFIXES = (".h5", ".hdf5", ".tfm", ".txt", ".mat")
HDF5_SUFFIXES = (".h5", ".hdf5")
HDF5_START = b"\x89HDF\r\n\x1a\n"
HDF5_LENGTH_AT = {0: 40, 1: 44, 2: 28, 3: 28}  # by version of the superblock
HEAP_START, HEAP_HEADER = b"GCOL\x01\x00\x00\x00", 16
MATLAB_HEADER = 5 * 4  # bytes: type, rows, columns, imaginary, length of the name
KIND = re.compile(r"([A-Za-z0-9]*Transform[A-Za-z0-9]*)_(?:double|float)_(\d)_(\d)")

COMPOSITE = "CompositeTransform"
# Subclasses that differ in how a registration updates them, not in how they map points.
FIELDS = (
    "DisplacementFieldTransform",
    "GaussianSmoothingOnUpdateDisplacementFieldTransform",
    "BSplineSmoothingOnUpdateDisplacementFieldTransform",
)
# Class of ITK → the member of SimpleITK's enumeration that maps points alike, and the number of parameters.
LINEAR = {
    "IdentityTransform": ("sitkIdentity", 0),
    "TranslationTransform": ("sitkTranslation", 3),
    "ScaleTransform": ("sitkScale", 3),
    "ScaleLogarithmicTransform": ("sitkScaleLogarithmic", 3),
    "Euler3DTransform": ("sitkEuler", 6),
    "CenteredEuler3DTransform": ("sitkEuler", 9),
    "QuaternionRigidTransform": ("sitkQuaternionRigid", 7),
    "VersorTransform": ("sitkVersor", 3),
    "VersorRigid3DTransform": ("sitkVersorRigid", 6),
    "Similarity3DTransform": ("sitkSimilarity", 7),
    "ScaleVersor3DTransform": ("sitkScaleVersor", 9),
    "ScaleSkewVersor3DTransform": ("sitkScaleSkewVersor", 15),
    "ComposeScaleSkewVersor3DTransform": ("sitkComposeScaleSkewVersor", 12),
    "AffineTransform": ("sitkAffine", 12),
    "MatrixOffsetTransformBase": ("sitkAffine", 12),
    "ScalableAffineTransform": ("sitkAffine", 12),
    "FixedCenterOfRotationAffineTransform": ("sitkAffine", 12),
    "CenteredAffineTransform": ("sitkAffine", 15),
}
CENTRED = ("CenteredEuler3DTransform", "CenteredAffineTransform")  # the centre is a parameter, before the translation
# SimpleITK reads these as part of a composite, which it evaluates, but hands none of them out.
INSIDE_ALONE = (
    "CenteredAffineTransform",
    "CenteredEuler3DTransform",
    "ComposeScaleSkewVersor3DTransform",
    "FixedCenterOfRotationAffineTransform",
    "ScalableAffineTransform",
)

PROBE_MM = 100.0  # distance of the points that read the matrix out of a linear transform of ITK
CHECK_POINTS = np.random.default_rng(0).uniform(-150, 150, (20, 3))
CHECK_MM = 1e-3

AS_ITK = "A parameter file of elastix or of another tool must be exported as an ITK transform or a displacement field."
AS_MATRIX = "Convert it first, for example with `c3d_affine_tool … -oitk`."
AS_FIELD = (
    "Turn it into a displacement field (SimpleITK: TransformToDisplacementField; 3D Slicer: Transforms, convert)."
)
AS_COMPOSITE = (
    "If they are parts of one transform, write them as one CompositeTransform, the part applied first last; "
    "otherwise write each into a file of its own."
)
WRITE_AGAIN = "Write the file again; it may be cut or damaged."


@dataclass(frozen=True)
class Block:
    """One transform as it stands in a file.

    Attributes:
        kind: ITK's name, class and dimensions ("AffineTransform_double_3_3").
        parameters: [n] float64, in the order of the class.
        fixed: [m] float64: the centre, or the grid of a field.
    """

    kind: str
    parameters: np.ndarray
    fixed: np.ndarray


def read_itk(path: Path) -> Transform:
    """Read a transform file of ITK (fixed → moving).

    Raises:
        InputRefused: The file is cut or damaged, or not one of ITK's; a list of transforms; a class without a
            counterpart here; another dimension than three.
        UsageError: A matrix that mirrors or collapses space, a field with a vector that is not finite.
    """
    try:
        if path.stat().st_size == 0:
            raise _unreadable(path, "is empty")
        if path.suffix.lower() in HDF5_SUFFIXES:
            return _read_hdf5(path)
        blocks = list(_matlab_blocks(path) if path.suffix.lower() == ".mat" else _text_blocks(path))
    except OSError as error:
        raise _unreadable(path, f"cannot be read ({error.strerror})") from error
    parts = [blocks[n] for n in _parts(path, [block.kind for block in blocks])]
    return compose([_from_block(path, part) for part in reversed(parts)])


def _parts(path: Path, kinds: Sequence[str]) -> range:
    """Which blocks of a file are the parts of its transform; each is of a class that is read here."""
    if not kinds:
        raise _unreadable(path, "holds no transform")
    composite = _class_of(kinds[0]) == COMPOSITE
    parts = range(int(composite), len(kinds))
    if not parts:
        raise _unreadable(path, "holds a composite transform without parts")
    for n in parts:
        _refuse_kind(path, kinds[n])
    if not composite and len(kinds) > 1:
        # One transform for each volume of a series (fMRIPrep), parts of a chain (ANTs), or a B-spline and what is
        # added to it (ITK 3): only who wrote the list knows.
        raise InputRefused(
            f"{path.name} holds a list of {len(kinds)} transforms",
            "one transform",
            AS_COMPOSITE,
            reason="transform-list",
        )
    return parts


def _refuse_kind(path: Path, kind: str) -> None:
    found = KIND.fullmatch(kind)
    if found and found[2] == found[3] != "3":
        raise _unsupported(path, f"a {found[2]}D transform ({kind})", "a 3D one (a picture is a 3D image of one slice)")
    name = _class_of(kind)
    if name == COMPOSITE:
        raise _unsupported(path, "a composite inside another transform", "one level of parts", AS_COMPOSITE)
    if found is None or found[3] != "3" or name not in (*LINEAR, *FIELDS):
        raise _unsupported(path, f"a {kind}", "matrices and displacement fields", AS_FIELD)


def _class_of(kind: str) -> str:
    return kind.split("_")[0]


def _from_block(path: Path, block: Block) -> Transform:
    if not (np.isfinite(block.parameters).all() and np.isfinite(block.fixed).all()):
        raise _unreadable(path, f"holds a number in its {block.kind} that is not finite")
    return _field(path, block) if _class_of(block.kind) in FIELDS else _matrix(path, block)


def _matrix(path: Path, block: Block) -> Affine:
    import SimpleITK

    name = _class_of(block.kind)
    kind, count = LINEAR[name]
    parameters, fixed = block.parameters, block.fixed
    if len(parameters) != count:
        raise _unreadable(path, f"holds {len(parameters)} numbers for a {name} instead of {count}")
    transform = SimpleITK.Transform(3, getattr(SimpleITK, kind))
    if name in CENTRED:
        fixed = np.concatenate([parameters[-6:-3], fixed[3:]])
        parameters = np.concatenate([parameters[:-6], parameters[-3:]])
    wanted = len(transform.GetFixedParameters())
    if wanted:  # Euler angles have a fourth, the order of rotations, which older files lack.
        if len(fixed) not in (3, wanted):
            raise _unreadable(path, f"holds {len(fixed)} fixed numbers for a {name} instead of {wanted}")
        transform.SetFixedParameters(fixed.tolist())
    transform.SetParameters(parameters.tolist())
    return _probed(transform)


def _probed(transform: SimpleITK.Transform) -> Affine:
    """A linear transform of ITK, whatever its parameters and centre, from where it takes four points."""
    corner = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    ends = np.array([transform.TransformPoint(tuple(PROBE_MM * axis)) for axis in np.eye(3)])
    matrix = np.eye(4)
    matrix[:3, :3] = (ends - corner).T / PROBE_MM
    matrix[:3, 3] = corner
    return Rigid(matrix) if is_orthonormal(matrix[:3, :3]) else Affine(matrix)


def _field(path: Path, block: Block) -> DisplacementField:
    fixed, vectors = block.fixed, block.parameters
    size = fixed[:3].astype(int) if len(fixed) == 18 else np.zeros(3, int)
    if min(size) < 1 or any(size != fixed[:3]) or 3 * float(np.prod(fixed[:3])) != len(vectors) or min(fixed[6:9]) <= 0:
        raise _unreadable(path, f"holds {len(vectors)} numbers for a field with the grid {fixed.tolist()}")
    grid = Grid.from_axes(size, fixed[6:9], fixed[3:6], fixed[9:].reshape(3, 3))
    return DisplacementField(grid, vectors.reshape(*size[::-1], 3).transpose(2, 1, 0, 3))


def _text_blocks(path: Path) -> Iterator[Block]:
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise _unreadable(path, "is not a text file") from error
    if _is_bare_matrix(text):
        raise _unsupported(path, "a bare matrix, as FSL, greedy and NiftyReg write it", "an ITK transform", AS_MATRIX)
    if not text.endswith(("\n", "\r")):
        raise _unreadable(path, "ends within a line", "End the last line if it is whole, else write the file again.")
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
            raise _unsupported(path, "names of other files", "one file with all parts", AS_COMPOSITE)
        else:
            raise _unreadable(path, f"holds the line '{line.strip()[:40]}', which no ITK transform has", AS_ITK)
    if announced:
        raise _unreadable(path, "ends before the last transform that it announces")
    if kind:
        yield _text_block(path, kind, numbers)


def _text_block(path: Path, kind: str, numbers: dict[str, np.ndarray]) -> Block:
    if _class_of(kind) == COMPOSITE:
        return Block(kind, np.empty(0), np.empty(0))
    if len(numbers) < 2:
        raise _unreadable(path, f"holds a {kind} without parameters or without fixed parameters")
    return Block(kind, numbers["Parameters"], numbers["FixedParameters"])


def _numbers(path: Path, text: str) -> np.ndarray:
    try:
        return np.array(text.split(), np.float64)
    except ValueError as error:
        raise _unreadable(path, f"holds a word where a number belongs ({error})") from error


def _is_bare_matrix(text: str) -> bool:
    try:
        return len([float(word) for word in text[:1000].split()]) in (12, 16)
    except ValueError:
        return False


def _matlab_blocks(path: Path) -> Iterator[Block]:
    """Two vectors for each transform: the parameters under the name of the class, then the fixed ones."""
    data = path.read_bytes()
    if data.startswith(b"MATLAB 5.0"):
        raise _unsupported(path, "a MATLAB 5 file", "version 4, as ITK and ANTs write it", AS_ITK)
    if data.isascii() and _is_bare_matrix(data.decode("ascii")):
        raise _unsupported(path, "a bare matrix, as FSL writes it", "an ITK transform", AS_MATRIX)
    vectors = list(_matlab_vectors(path, data))
    if len(vectors) % 2:
        raise _unreadable(path, f"holds a {vectors[-1][0]} without fixed parameters")
    for (kind, parameters), (_, fixed) in zip(vectors[::2], vectors[1::2], strict=True):
        if _class_of(kind) == COMPOSITE:
            raise _unsupported(path, f"a {kind}, whose parts a .mat file does not name", "a composite as .h5 or .tfm")
        yield Block(kind, parameters, fixed)


def _matlab_vectors(path: Path, data: bytes) -> Iterator[tuple[str, np.ndarray]]:
    at = 0
    while at < len(data):
        order = "<" if data[at : at + 2] in (b"\x00\x00", b"\x0a\x00", b"\x64\x00", b"\x6e\x00") else ">"
        if at + MATLAB_HEADER > len(data):
            raise _unreadable(path, "ends within a variable")
        # Thousands: byte order; hundreds: stored by rows, all one for a vector; tens: 1 is single precision.
        kind, rows, columns, imaginary, length = np.frombuffer(data, order + "i4", 5, at).tolist()
        if kind % 1000 not in (0, 10, 100, 110) or kind // 1000 != (order == ">") or imaginary or min(rows, length) < 0:
            raise _unreadable(path, "is no MATLAB file of version 4", AS_ITK)
        dtype = np.dtype(order + ("f4" if kind % 100 == 10 else "f8"))
        name_at, at = at + MATLAB_HEADER, at + MATLAB_HEADER + length
        end = at + rows * dtype.itemsize
        if columns != 1 or end > len(data):
            raise _unreadable(path, f"ends within a variable or holds an array of {rows} x {columns}")
        name = data[name_at:at].rstrip(b"\x00").decode("ascii", "replace")
        yield name, np.frombuffer(data, dtype, rows, at).astype(np.float64)
        at = end


def _read_hdf5(path: Path) -> Transform:
    import SimpleITK

    kinds = _kinds_in_hdf5(path)
    parts = _parts(path, kinds)
    if len(kinds) == 1 and _class_of(kinds[0]) in INSIDE_ALONE:
        raise _unsupported(
            path, f"a {kinds[0]} that is part of no composite", "one in a composite", "Save it as .tfm or .mat instead."
        )
    try:
        transform = SimpleITK.ReadTransform(str(path))
        if len(kinds) > 1 and transform.GetNumberOfTransforms() != len(parts):
            raise _unreadable(path, f"names {len(parts)} parts and holds {transform.GetNumberOfTransforms()}")
        expected = np.array([transform.TransformPoint(tuple(point)) for point in CHECK_POINTS])
        read = compose(list(_hdf5_parts(path, transform, kinds[-1])))
    except (RuntimeError, UnicodeError) as error:  # a message of ITK may quote damaged bytes
        raise _unreadable(path, "cannot be read as an ITK transform") from error
    if not np.allclose(read.map_points(CHECK_POINTS), expected, rtol=0, atol=CHECK_MM):
        raise _unreadable(path, "maps points otherwise when read in parts")
    return read


def _kinds_in_hdf5(path: Path) -> list[str]:
    """Names of the classes in the order of the blocks: strings in the global heaps of the file.

    SimpleITK crashes or hangs over a damaged heap, or a damaged pointer to a name, so both are checked here.
    Layout: HDF5 file format specification, version 3, II (superblock), III.E (global heap), VIII (pointers to it).
    """
    kinds = []
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[: len(HDF5_START)] != HDF5_START:
            raise _unreadable(path, "cannot be read as an HDF5 file")
        length_at = HDF5_LENGTH_AT.get(data[8])
        if length_at is None or data[length_at : length_at + 8] != len(data).to_bytes(8, "little"):
            raise _unreadable(path, "is of another length than it says")
        for heap, number, text in _heap_strings(path, data):
            if KIND.match(text):
                if data.find(struct.pack("<IQI", len(text), heap, number)) < 0:
                    raise _unreadable(path, f"holds the name {text}, but nothing of that name")
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
            raise _unreadable(path, "holds a damaged list of names")
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
                raise _unsupported(
                    path,
                    "a part between others that SimpleITK does not hand out",
                    f"none of {', '.join(INSIDE_ALONE)}",
                    "Save it as .tfm instead.",
                ) from error
            numbers = (np.array(values) for values in (transform.GetParameters(), transform.GetFixedParameters()))
            yield _from_block(path, Block(last, *numbers))
        else:
            is_field = isinstance(part, SimpleITK.DisplacementFieldTransform)
            yield _field_from(part.GetDisplacementField()) if is_field else _probed(part)
        if not composite or transform.GetNumberOfTransforms() == 1:
            return
        transform.RemoveTransform()
        shown = False
    yield _probed(transform)


def _field_from(image: SimpleITK.Image) -> DisplacementField:
    import SimpleITK

    direction = np.array(image.GetDirection()).reshape(3, 3)
    grid = Grid.from_axes(image.GetSize(), image.GetSpacing(), image.GetOrigin(), direction)
    return DisplacementField(grid, SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0, 3))


def _unreadable(path: Path, got: str, next_step: str = WRITE_AGAIN) -> InputRefused:
    expected = "a whole file written by ITK, SimpleITK, ANTs or 3D Slicer"
    return InputRefused(f"{path.name} {got}", expected, next_step, reason="transform-unreadable")


def _unsupported(path: Path, got: str, expected: str, next_step: str = "") -> InputRefused:
    return InputRefused(f"{path.name} holds {got}", expected, next_step, reason="transform-unsupported")
