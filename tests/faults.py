"""What a machine does to a program: a mount point, a full disk, and what happens in the middle of a renaming."""

from __future__ import annotations

import ctypes
import os
import resource
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch


def mount_point(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """From now on this folder looks like a mount point, which cannot be renamed or replaced."""
    folder = folder.resolve()
    monkeypatch.setattr(Path, "is_mount", lambda self: self == folder)
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == folder)


def before_renaming(monkeypatch: pytest.MonkeyPatch, do: Callable[[Path], None]) -> None:
    """From now on `do` is called with each file or folder just before it gets another name; it may raise."""
    for name in ("rename", "replace"):
        inner = getattr(os, name)

        def watched(source, target, *, inner=inner, **options):
            do(Path(source))
            return inner(source, target, **options)

        monkeypatch.setattr(os, name, watched)


def in_another_process(run: Callable[[], object]) -> int:
    """Runs it in a copy of this process; its exit code: 0, or 99 where it raised something."""
    child = os.fork()
    if child == 0:
        code = 99
        with suppress(BaseException):
            torch.set_num_threads(1)  # the threads of OpenMP are not copied, and would be waited for
            run()
            code = 0
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def fill_the_disk(left: int) -> None:
    """From now on this process can write no file longer than so many bytes, whatever its user may do."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (left, left))


def lose_privileges() -> None:
    """From now on permissions hold for this process, also where its user is root."""
    no_capabilities = struct.pack("<6I", *[0] * 6)
    version_3_of_ours = struct.pack("<Ii", 0x20080522, 0)
    if ctypes.CDLL(None, use_errno=True).capset(version_3_of_ours, no_capabilities):
        raise OSError(ctypes.get_errno(), "capset")
