"""The data of a file, read to the last byte: data that are cut, too long or fail a checksum are refused.

Libraries stop after the voxels that the header counts, so they never meet the checksum that follows, nor see
that more would. Reading on to the end costs nothing: each byte is still read once.
"""

from __future__ import annotations

import gzip
import logging
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Pair

# All that reading damaged files raises, here and in the libraries.
DAMAGE = (OSError, EOFError, ValueError, KeyError, OverflowError, zlib.error)
MAX_INFLATION = 1032  # of deflate


class DamagedDataError(ValueError):
    """Data that are not as long as the header says, or fail their checksum; its text is a clause that says how."""


def itk_name(path: Path) -> str:
    """A path as ITK takes it, which ends the process on one that is no text.

    Raises:
        DamagedDataError: Bytes that are no UTF-8, as names in Latin-1 of old archives are.
    """
    if not is_text(path):
        raise DamagedDataError("its path holds bytes that are no UTF-8")
    return str(path)


def is_text(path: Path) -> bool:
    """Whether all bytes of a path stand for characters."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def read_raw(file: IO[bytes], count: int) -> bytes:
    """The rest of a file, which must be `count` bytes.

    Raises:
        DamagedDataError: Fewer bytes, or more.
        OSError: The file cannot be read.
    """
    left = os.fstat(file.fileno()).st_size - file.tell()
    if left > count:
        raise too_long(count)
    data = file.read(count) if left == count else b""  # never as many as a damaged header claims
    if len(data) < count:
        raise too_short(max(left, 0), count)
    return data


def read_gzip(file: IO[bytes], count: int, skip: int = 0) -> bytes:
    """As `read_raw`, of what a gzip file inflates to after `skip` bytes; its checksum and length are checked.

    Raises:
        DamagedDataError: Fewer bytes, or more, or a checksum or a length that is wrong.
        OSError: The file cannot be read.
    """
    most = MAX_INFLATION * os.fstat(file.fileno()).st_size
    if count > most:
        raise too_short(most, count)
    try:
        with gzip.GzipFile(fileobj=file) as stream:
            stream.seek(skip)
            data = stream.read(count)
            more = stream.read(1)  # the checksum is looked at where the stream ends, hence by this
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DamagedDataError("its compressed data are damaged") from error
    if len(data) < count:
        raise too_short(len(data), count)
    if more:
        raise too_long(count)
    return data


def read_zlib(file: IO[bytes], count: int) -> bytes:
    """As `read_gzip`, of a zlib (or gzip) stream."""
    stream = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        data = stream.decompress(file.read(), count + 1)
    except zlib.error as error:
        raise DamagedDataError("its compressed data are damaged") from error
    if len(data) > count or stream.unused_data:
        raise too_long(count)
    if not stream.eof or len(data) < count:
        raise too_short(len(data), count)
    return data


def too_short(found: int, count: int) -> DamagedDataError:
    """Less data than the header counts."""
    return DamagedDataError(f"its voxels end after {found} of {count} bytes")


def too_long(count: int) -> DamagedDataError:
    """More data than the header counts."""
    return DamagedDataError(f"it holds more than the {count} bytes of voxels that its header counts")


def open_nifti(path: Path) -> Any:
    """A NIfTI file as nibabel opens it, its voxels not yet read.

    Raises:
        DamagedDataError: It is no image, its header is not sound, or its voxels would begin within the header.
        OSError, EOFError, ValueError, zlib.error: As nibabel.
    """
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError, ImageDataError
    from nibabel.wrapstruct import WrapStructError

    try:
        # It prints what it raises as well, and what it repairs.
        with without_lines_of("nibabel.global"), np.errstate(invalid="ignore"):
            image = nibabel.load(path)
    except (HeaderDataError, WrapStructError) as error:
        raise DamagedDataError(str(error)) from error
    except (ImageFileError, ImageDataError) as error:
        raise DamagedDataError("it is no image") from error
    if isinstance(image, nibabel.Nifti1Pair):
        proxy: Any = image.dataobj
        first = int(image.header["sizeof_hdr"]) + 4
        if proxy.offset < first:  # nibabel takes 0, and the header for voxels
            raise DamagedDataError(f"vox_offset {proxy.offset} lies within its first {first} bytes, its header")
    return image


@contextmanager
def without_lines_of(name: str) -> Iterator[None]:
    """A block in which the logger of this name says nothing."""
    logger, nothing = logging.getLogger(name), logging.Filter()
    nothing.filter = lambda record: False  # type: ignore[method-assign]
    logger.addFilter(nothing)
    try:
        yield
    finally:
        logger.removeFilter(nothing)


def stated_spacings(image: Nifti1Pair, path: Path) -> np.ndarray:
    """Distance between voxels along i, j, k [3] as the file states it (pixdim), by which a qform places voxels.

    The image's own header is repaired by nibabel: 1 in place of 0, lengths in place of negative numbers.

    Args:
        image: The file as `open_nifti` gives it.
        path: The file.
    """
    from nibabel.openers import ImageOpener

    with ImageOpener(str(path)) as file:
        header = type(image.header).from_fileobj(file, check=False)
    return np.asarray(header["pixdim"][1:4], np.float64)


def lacking_spacing(spacings: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Whether an axis of several voxels has no length between them: the standard asks for a number above 0."""
    return any(n > 1 and not (np.isfinite(s) and s > 0) for s, n in zip(spacings, shape, strict=False))


def read_nifti_voxels(image: Nifti1Pair, path: Path) -> np.ndarray:
    """The voxels of a NIfTI file as nibabel scales them.

    Args:
        image: The file as `open_nifti` gives it.
        path: The file, .nii or .nii.gz.

    Returns:
        Of the image's shape, in the stored dtype, or floating where the header states a scale.

    Raises:
        DamagedDataError: The voxels are cut, too many or damaged.
        OSError, ValueError: As nibabel.
    """
    from nibabel.volumeutils import apply_read_scaling

    proxy: Any = image.dataobj
    dtype = np.dtype(proxy.dtype)
    count = prod(image.shape) * dtype.itemsize
    with path.open("rb") as file:
        if path.name.lower().endswith(".gz"):
            data = read_gzip(file, count, skip=proxy.offset)
        else:
            file.seek(proxy.offset)
            data = read_raw(file, count)
    stored = np.frombuffer(data, dtype).reshape(image.shape, order="F")
    return apply_read_scaling(stored, proxy.slope, proxy.inter)
