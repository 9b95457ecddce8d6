"""Folders and files of results: written whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from samreg.errors import UsageError
from samreg.whole_data import is_text

RESULT_FILES = (
    "transform.h5",
    "inverse.h5",
    "warped.nii.gz",
    "pairs.json",
    "rois_fixed.nii.gz",
    "rois_moving.nii.gz",
    "report.json",
    "report.html",
)
DICOM_FILES = ("reg.dcm", "dreg.dcm", "seg_fixed.dcm", "seg_moving.dcm")
CONTAINER_FILES = ("result.json", "metadata.json")
SEVERAL = "registrations.json"
PART = re.compile(r"moving-[1-9]\d*")
_PART_OBJECT = re.compile(rf"{PART.pattern}-(.+)")
_STAGING = ".samreg-"


@dataclass(frozen=True)
class Results:
    """What a command leaves in its folder.

    Attributes:
        documents: Files that say what the others are, one of which is there; written last.
        names: All files and folders that may stand there, relative to the folder.
        parts: Whether there may be sub-folders that hold the same, for several registrations.
    """

    documents: tuple[str, ...]
    names: frozenset[str]
    parts: bool = False

    def hold(self, path: Path) -> bool:
        """Whether a path, relative to the folder, may stand there."""
        if self.parts and (own := _PART_OBJECT.fullmatch(path.as_posix())):
            return own[1] in DICOM_FILES
        if self.parts and PART.fullmatch(path.parts[0]):
            return len(path.parts) == 1 or path.relative_to(path.parts[0]).as_posix() in self.names
        return path.as_posix() in self.names


REGISTRATION = Results(
    ("report.json", SEVERAL),
    # Objects stand in `dicom`, and for platforms that do not look into folders also beside the report (see `flatten`).
    frozenset((*RESULT_FILES, *CONTAINER_FILES, SEVERAL, "dicom", *(f"dicom/{n}" for n in DICOM_FILES), *DICOM_FILES)),
    parts=True,
)
LOCATED = Results(("locate.json",), frozenset(("locate.json", "roi_fixed.nii.gz", "roi_moving.nii.gz")))


class OutputFolder:
    """A temporary folder that becomes `out` in one step, or leaves no trace.

    Use it as a context; what is not committed when the block ends is thrown away:

        with OutputFolder(out) as output:
            write(output.folder)
            output.commit()

    The temporary folder is made at once, so a place that cannot be written is known before the work.
    It stands beside `out` and is renamed. Where that is impossible (`out` is a mount point, or its
    parent is read-only, as in a container) it stands inside `out` and its files are moved one by
    one, the document last.

    One run at a time writes into a folder: an `out` that exists is locked until the block ends. If it
    comes into being meanwhile, the results of the later commit replace it as a whole. Temporary folders
    are locked too; those that nobody holds were left by killed runs, and are removed. On file systems
    without locks nothing is held and nothing removed.

    Args:
        out: Where the results shall stand. May exist if it is empty or holds results of this kind alone.
        inputs: Paths that are read; they must not contain `out`, nor lie in it.
        results: What will be written; earlier results of this kind alone are replaced.

    Raises:
        UsageError: `out` holds other files, mixes with an input, is being written by another run, or
            cannot be written.
    """

    def __init__(self, out: Path, inputs: Iterable[Path] = (), results: Results = REGISTRATION) -> None:
        self.out = out.resolve()
        self._results = results
        self._locks = ExitStack()
        self._out_lock: int | None = None
        with ExitStack() as undo:
            undo.push(self._locks)
            _check_text(self.out)
            _check_apart(self.out, inputs)
            self._lock_out()
            _check_ours(self.out, results)
            _remove_stale(self.out)
            self._inside = self.out.is_mount() or (self.out.is_dir() and not os.access(self.out.parent, os.W_OK))
            self.folder = self._make_folder(out)
            undo.pop_all()

    def __enter__(self) -> OutputFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self._locks.close()

    def clear(self) -> None:
        """Throw away what was written so far."""
        for item in self.folder.iterdir():  # the folder itself is locked
            _remove(item)

    def commit(self) -> None:
        """Put the files in place of whatever `out` held before.

        Raises:
            UsageError: Meanwhile `out` got other files, or another run began to write into it.
        """
        if self._inside:
            self._move_inside()
        else:
            self._take_its_place()
        self._locks.close()

    def _take_its_place(self) -> None:
        while True:
            retired = self._retire() if self.out.exists() else None
            try:
                self.folder.rename(self.out)
            except OSError as error:
                # Another run, which also found no folder at its start, was faster by a hair.
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                continue
            finally:
                if retired is not None and self.out.exists():
                    shutil.rmtree(retired)
                elif retired is not None:
                    retired.rename(self.out)
            return

    def _retire(self) -> Path:
        """Put what `out` holds aside; where to."""
        self._lock_out()
        _check_ours(self.out, self._results)
        shutil.copymode(self.out, self.folder)
        retired = self.folder.with_name(f"{self.folder.name}-old")
        return self.out.rename(retired)

    def _move_inside(self) -> None:
        names = {item.name for item in self.folder.iterdir()}
        for old in self.out.iterdir():
            if old.name in names or self._results.hold(old.relative_to(self.out)):
                _remove(old)
        for item in sorted(self.folder.iterdir(), key=lambda p: p.name in self._results.documents):
            item.rename(self.out / item.name)

    def _lock_out(self) -> None:
        """Hold the lock of `out` if it is there, not held yet, and its file system has locks."""
        if not self.out.is_dir():
            return
        try:
            lock = _lock(self.out)
        except BlockingIOError as error:
            if self._holds_out():
                return
            raise _held(self.out) from error
        if lock is not None:
            self._locks.callback(os.close, lock)
            self._out_lock = lock

    def _holds_out(self) -> bool:
        return self._out_lock is not None and os.path.samestat(os.fstat(self._out_lock), self.out.stat())

    def _make_folder(self, given: Path) -> Path:
        place, prefix = (self.out, "") if self._inside else (self.out.parent, f".{self.out.name}")
        try:
            place.mkdir(parents=True, exist_ok=True)
            return _staging_folder(place, prefix, self._locks)
        except OSError as error:
            raise UsageError(
                f"output folder '{given}' cannot be written ({error.strerror})", "a folder you may write to"
            ) from error


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file of the same name in a temporary folder beside `path`; takes its place if the block ends without an error.

    Several processes may write the same file: none meets what another has not finished, and the last one wins as a
    whole. Temporary folders that killed processes left are removed.

        with whole_file(out) as part:
            write(part)

    Raises:
        UsageError: The path is no text.
        OSError: The folder is absent or cannot be written.
    """
    _check_text(path.resolve())
    _remove_stale(path)
    with ExitStack() as locks:
        folder = _staging_folder(path.parent, f".{path.name}", locks)
        try:
            yield folder / path.name
            (folder / path.name).replace(path)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """A block in which no other process may be in such a block of the same folder (where file systems have locks).

    Raises:
        UsageError: One is.
    """
    try:
        lock = _lock(folder)
    except BlockingIOError as error:
        raise _held(folder) from error
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


def _held(folder: Path) -> UsageError:
    return UsageError(
        f"another run is writing to output folder '{folder}'",
        "one run at a time",
        "Wait for it, or choose another folder",
    )


def _staging_folder(place: Path, prefix: str, locks: ExitStack) -> Path:
    """A new temporary folder, locked until `locks` are closed."""
    while True:
        folder = place / f"{prefix}{_STAGING}{secrets.token_hex(4)}"
        folder.mkdir()
        with suppress(BlockingIOError):
            lock = _lock(folder)
            if lock is not None:
                locks.callback(os.close, lock)
            if folder.is_dir():  # else a run that removes stale folders was faster than the lock
                return folder


def _lock(folder: Path) -> int | None:
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


def _remove_stale(out: Path) -> None:
    """Remove the temporary folders that killed runs left in `out` and beside it, and nobody holds."""
    inside = re.compile(rf"{re.escape(_STAGING)}[0-9a-f]{{8}}")
    beside = re.compile(rf"\.{re.escape(out.name)}{inside.pattern}(-old)?")
    for place, name in ((out, inside), (out.parent, beside)):
        with suppress(OSError):  # a parent that cannot be listed
            for folder in [p for p in place.iterdir() if name.fullmatch(p.name)]:
                with suppress(BlockingIOError):
                    lock = _lock(folder)
                    if lock is not None:
                        shutil.rmtree(folder, ignore_errors=True)
                        os.close(lock)


def _remove(path: Path) -> None:
    """Remove a file, a link or a folder with all it holds."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def check_folder(out: Path, inputs: Iterable[Path] = (), results: Results = REGISTRATION) -> None:
    """Refuse a folder that must not be used; writes nothing.

    Raises:
        UsageError: It holds other files, or mixes with an input.
    """
    _check_text(out.resolve())
    _check_apart(out.resolve(), inputs)
    _check_ours(out.resolve(), results)


def empty(folder: Path) -> None:
    """Throw away what a folder holds."""
    shutil.rmtree(folder)
    folder.mkdir()


def check_file(out: Path, inputs: Iterable[Path] = ()) -> None:
    """Refuse an output file that must not be used; writes nothing.

    Raises:
        UsageError: It is a folder or one of the inputs, or its folder is absent or cannot be written.
    """
    _check_text(out.resolve())
    if out.is_dir():
        raise UsageError(f"output '{out}' is a folder", "the name of a file")
    if not out.parent.is_dir():
        raise UsageError(f"folder '{out.parent}' does not exist", "an output file in a folder that does")
    if not os.access(out.parent, os.W_OK):
        raise UsageError(f"folder '{out.parent}' cannot be written", "an output file in a folder you may write to")
    for path in inputs:
        if out.resolve() == path.resolve() or (out.exists() and path.exists() and out.samefile(path)):
            raise UsageError(f"output '{out}' is the input '{path}'", "another file")


def _check_text(out: Path) -> None:
    """Libraries end the process on a name that is no text, and JSON cannot hold it."""
    if not is_text(out):
        raise UsageError(f"output '{out}' holds bytes that are no UTF-8", "a path of text", "Choose another name")


def _check_apart(out: Path, inputs: Iterable[Path]) -> None:
    for path in (p.resolve() for p in inputs):
        if path == out or out in path.parents or (path.is_dir() and path in out.parents):
            raise UsageError(
                f"output folder '{out}' and input '{path}' lie in each other", "an output folder apart from the input"
            )


def _check_ours(out: Path, results: Results) -> None:
    if out.exists() and not out.is_dir():
        raise UsageError(f"output '{out}' is a file", "a folder")
    if out.exists() and not os.access(out, os.R_OK | os.W_OK | os.X_OK):
        raise UsageError(
            f"output folder '{out}' may not be used by the user with uid {os.geteuid()}",
            "a folder that this user may read and write",
            "Change its permissions, or choose another folder",
        )
    if not out.exists() or not any(out.iterdir()):
        return
    found = [p.relative_to(out) for p in out.rglob("*") if not p.relative_to(out).parts[0].startswith(_STAGING)]
    foreign = sorted(str(p) for p in found if not results.hold(p))
    if foreign or (found and not any((out / document).is_file() for document in results.documents)):
        example = foreign[0] if foreign else str(min(found))
        raise UsageError(
            f"output folder '{out}' holds other files, such as '{example}'",
            "a new or empty folder, or one with earlier results of this command",
            "Choose another folder",
        )
