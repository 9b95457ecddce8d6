"""What was made of a slice, kept in a folder for the next registration.

Keys are hashes of everything that decides the value, so an entry is never out of date. Entries appear
when they are whole, and one that cannot be read counts as absent: processes may share a folder. The
folder holds what can be computed from patients' images, and is its owner's alone.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import numpy as np
from torch import Tensor

from samreg.errors import UsageError
from samreg.whole_files import remove_all_stale, whole_file

logger = logging.getLogger(__name__)

FORMAT = b"1"  # changes whenever what is kept, or how it is computed, does
# Nothing else in the folder is ever removed: it may be one that holds weights too.
_ENTRY = re.compile(r"[0-9a-f]{64}\.safetensors")


class SliceCache:
    """Tensors by key in a folder of limited size; what was not used for longest goes first.

    Args:
        folder: Made if it is not there.
        limit_gb: Size in 10⁹ bytes.

    Raises:
        UsageError: The folder cannot be made or written to.
    """

    def __init__(self, folder: str | Path, limit_gb: float = 20.0) -> None:
        self.folder = Path(folder)
        self.limit = limit_gb * 1e9
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            writable = bool(str(folder)) and os.access(self.folder, os.W_OK)
        except OSError:
            writable = False
        if not writable:
            raise UsageError(
                f"the cache '{self.folder.name}' cannot be written to",
                "a folder that only you may write to",
                "Give another --cache.",
            )

    def load(self, key: str) -> dict[str, Tensor] | None:
        """The tensors of a key, or None."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        path = self._path(key)
        try:
            tensors: dict[str, Tensor] = load(path.read_bytes())  # by its path it would be opened twice
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError) as error:
            logger.warning(
                "The cache entry %s cannot be read (%s). It is computed again.", key[:12], type(error).__name__
            )
            _remove(path)
            return None
        with suppress(OSError):  # of another owner
            os.utime(path)
        return tensors

    def store(self, key: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep tensors; a full disk is said, and is no reason to stop."""
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        try:
            with whole_file(self._path(key)) as part:
                save_file({n: t.detach().cpu().contiguous() for n, t in tensors.items()}, part)
            self._make_room()
        except (OSError, SafetensorError) as error:
            logger.warning(
                "The cache entry %s cannot be written: %s.", key[:12], getattr(error, "strerror", None) or error
            )

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"

    def _make_room(self) -> None:
        remove_all_stale(self.folder)
        entries = []
        for path in self.folder.iterdir():
            try:
                status = path.stat()
            except FileNotFoundError:  # another process was quicker
                continue
            if _ENTRY.fullmatch(path.name):
                entries.append((status.st_mtime, status.st_size, path))
        excess = sum(size for _, size, _ in entries) - self.limit
        for _, size, path in sorted(entries):
            if excess <= 0:
                break
            _remove(path)
            excess -= size


def _remove(path: Path) -> None:
    """Remove a file; one that cannot be removed stays."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


def key_of(*parts: str | bytes | np.ndarray) -> str:
    """Hexadecimal hash of what decides a value."""
    digest = sha256(FORMAT)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        header = f"{data.dtype}{data.shape}" if isinstance(data, np.ndarray) else str(len(data))
        digest.update(header.encode())
        digest.update(np.ascontiguousarray(data).data if isinstance(data, np.ndarray) else data)
    return digest.hexdigest()
