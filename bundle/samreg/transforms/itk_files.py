"""Transform files of ITK: which of the rooms reads which."""

from __future__ import annotations

from pathlib import Path

from samreg.transforms.base import Transform
from samreg.transforms.composite import compose
from samreg.transforms.itk_blocks import matlab_blocks, text_blocks
from samreg.transforms.itk_classes import from_block, parts_of, unreadable
from samreg.transforms.itk_hdf5 import read_hdf5

ITK_SUFFIXES = (".h5", ".hdf5", ".tfm", ".txt", ".mat")
HDF5_SUFFIXES = (".h5", ".hdf5")


def read_itk(path: Path) -> Transform:
    """Read a transform file of ITK (fixed → moving).

    Raises:
        InputRefused: The file is cut or damaged, or not one of ITK's; a list of transforms; a class without a
            counterpart here; another dimension than three.
        UsageError: A matrix that mirrors or collapses space, a field with a vector that is not finite.
    """
    try:
        if path.stat().st_size == 0:
            raise unreadable(path, "is empty")
        if path.suffix.lower() in HDF5_SUFFIXES:
            return read_hdf5(path)
        blocks = list(matlab_blocks(path) if path.suffix.lower() == ".mat" else text_blocks(path))
    except OSError as error:
        raise unreadable(path, f"cannot be read ({error.strerror})") from error
    parts = [blocks[n] for n in parts_of(path, [block.kind for block in blocks])]
    return compose([from_block(path, part) for part in reversed(parts)])
