"""Files and folders that are written under a temporary name and renamed when they are whole."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from samreg.errors import UsageError
from samreg.whole_data import is_text

STAGING = ".samreg-"  # in the name of every temporary folder
_INSIDE = re.compile(rf"{re.escape(STAGING)}[0-9a-f]{{8}}")
_OF_FILES = re.compile(rf"\..+{_INSIDE.pattern}")


@contextmanager
def whole_file(path: Path, *, called: str = "") -> Iterator[Path]:
    """A file in a temporary folder beside `path`, which takes its place if the block ends without an error.

    Several processes may write the same file: none meets what another has not finished, and the last one wins as a
    whole. Temporary folders that killed processes left are removed.

        with whole_file(out) as part:
            write(part)

    Args:
        path: Where the file shall stand.
        called: Its name until then; default that of `path`, as libraries tell formats by it.

    Raises:
        UsageError: The path is no text.
        OSError: The folder is absent or cannot be written.
    """
    check_text(path.resolve())
    remove_stale(path)
    with ExitStack() as locks:
        folder = staging_folder(path.parent, f".{path.name}", locks)
        part = folder / (called or path.name)
        try:
            yield part
            part.replace(path)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """An empty folder that takes the place of `path`, which is not there yet, if the block ends without an error.

    Raises:
        UsageError: The path is no text.
        OSError: The parent folder is absent or cannot be written, or `path` has come into being meanwhile.
    """
    with whole_file(path) as part:
        part.mkdir()
        yield part


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """A block in which no other process may be in such a block of the same folder (where file systems have locks).

    Raises:
        UsageError: One is.
    """
    try:
        descriptor = lock(folder)
    except BlockingIOError as error:
        raise held_by_another(folder) from error
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def check_file(out: Path, inputs: Iterable[Path] = ()) -> None:
    """Refuse an output file that must not be used; writes nothing.

    Raises:
        UsageError: It is a folder or one of the inputs, or its folder is absent or cannot be written.
    """
    check_text(out.resolve())
    if out.is_dir():
        raise UsageError(f"the output '{out}' is a folder", "the name of a file")
    if not out.parent.is_dir():
        raise UsageError(f"the folder '{out.parent}' does not exist", "an output file in a folder that does")
    if not os.access(out.parent, os.W_OK):
        raise UsageError(f"the folder '{out.parent}' cannot be written", "an output file in a folder you may write to")
    for path in inputs:
        if out.resolve() == path.resolve() or (out.exists() and path.exists() and out.samefile(path)):
            raise UsageError(f"the output '{out}' is the input '{path}'", "another file")


def check_text(out: Path) -> None:
    """Libraries end the process on a name that is no text, and JSON cannot hold it."""
    if not is_text(out):
        raise UsageError(f"the output '{out}' holds bytes that are no UTF-8", "a path of text", "Choose another name.")


def staging_folder(place: Path, prefix: str, locks: ExitStack) -> Path:
    """A new temporary folder, locked until `locks` are closed."""
    while True:
        folder = place / f"{prefix}{STAGING}{secrets.token_hex(4)}"
        folder.mkdir()
        with suppress(BlockingIOError):
            descriptor = lock(folder)
            if descriptor is not None:
                locks.callback(os.close, descriptor)
            if folder.is_dir():  # else a run that removes stale folders was faster than the lock
                return folder


def lock(folder: Path) -> int | None:
    """The descriptor of a folder that is now locked for this process alone; None where it cannot be locked.

    Raises:
        BlockingIOError: Somebody else holds the lock.
    """
    while True:
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between the two calls its holder may have put another folder in its place.
            if os.path.samestat(os.fstat(descriptor), folder.stat()):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise
        except OSError:
            os.close(descriptor)
            return None  # a file system without locks
        os.close(descriptor)


def remove_stale(out: Path) -> None:
    """Remove the temporary folders that killed runs left in `out` and beside it, and nobody holds."""
    beside = re.compile(rf"\.{re.escape(out.name)}{_INSIDE.pattern}(-old)?")
    _remove_unheld(out, _INSIDE)
    _remove_unheld(out.parent, beside)


def remove_all_stale(folder: Path) -> None:
    """Remove the temporary folders of `whole_file` that killed processes left in a folder, whatever its files are."""
    _remove_unheld(folder, _OF_FILES)


def _remove_unheld(place: Path, name: re.Pattern[str]) -> None:
    with suppress(OSError):  # a place that cannot be listed
        for folder in [p for p in place.iterdir() if name.fullmatch(p.name)]:
            with suppress(BlockingIOError):
                descriptor = lock(folder)
                if descriptor is not None:
                    shutil.rmtree(folder, ignore_errors=True)
                    os.close(descriptor)


def held_by_another(folder: Path) -> UsageError:
    """What is said of a folder that another process has locked."""
    return UsageError(
        f"another run is writing to the output folder '{folder}'",
        "one run at a time",
        "Wait for it, or choose another folder.",
    )
