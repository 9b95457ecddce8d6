"""What a machine does to a program now and then: a mount point, and what happens in the middle of a renaming."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest


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
