"""The folder of results: written as a whole or not at all, by one run at a time."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from samreg import artefacts
from samreg.artefacts import Artefact
from samreg.errors import UsageError
from samreg.whole_files import STAGING, check_text, held_by_another, lock, remove_stale, staging_folder


@dataclass(frozen=True)
class Results:
    """What a command leaves in its folder.

    Attributes:
        table: The files, by key.
        parts: Whether there may be sub-folders that hold the same, for several registrations.
    """

    table: Mapping[str, Artefact]
    parts: bool = False

    @property
    def documents(self) -> tuple[str, ...]:
        """Files that say what the others are, one of which is there; they are written last."""
        return tuple(row.path for row in self.table.values() if row.document)

    def hold(self, path: Path) -> bool:
        """Whether a path, relative to the folder, may stand there."""
        if self.parts and (own := artefacts.part_and_object(path.as_posix())):
            return own in self._objects
        if self.parts and artefacts.is_part(path.parts[0]):
            return len(path.parts) == 1 or self._names(path.relative_to(path.parts[0]).as_posix())
        return self._names(path.as_posix())

    def _names(self, path: str) -> bool:
        rows = self.table.values()
        folders = {row.folder for row in rows} - {""}
        return path in folders or path in self._objects or any(path == row.path for row in rows)

    @property
    def _objects(self) -> set[str]:
        """Objects stand in `dicom`, and for platforms that do not look into folders also at the top (see `flatten`)."""
        return {row.name for row in self.table.values() if row.step == "dicom"}


REGISTRATION = Results(artefacts.OF_REGISTER, parts=True)
LOCATED = Results(artefacts.OF_LOCATE)


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
            check_text(self.out)
            _check_apart(self.out, inputs)
            self._lock_out()
            _check_ours(self.out, results)
            remove_stale(self.out)
            self._inside = self.out.is_mount() or (self.out.is_dir() and not os.access(self.out.parent, os.W_OK))
            self.folder = self._make_folder(out)
            undo.pop_all()

    def __enter__(self) -> OutputFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Throw away what was not committed, and let others write into `out`."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._locks.close()

    def clear(self) -> None:
        """Throw away what was written so far."""
        for item in self.folder.iterdir():  # the folder itself is locked
            _remove(item)

    def set_apart(self) -> None:
        """Move the temporary folder away and empty it: what another thread still writes is lost from now on."""
        abandoned = self.folder
        self.folder = abandoned.with_name(f"{abandoned.name}-stopped")
        abandoned.rename(self.folder)
        self.clear()

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
            descriptor = lock(self.out)
        except BlockingIOError as error:
            if self._holds_out():
                return
            raise held_by_another(self.out) from error
        if descriptor is not None:
            self._locks.callback(os.close, descriptor)
            self._out_lock = descriptor

    def _holds_out(self) -> bool:
        return self._out_lock is not None and os.path.samestat(os.fstat(self._out_lock), self.out.stat())

    def _make_folder(self, given: Path) -> Path:
        place, prefix = (self.out, "") if self._inside else (self.out.parent, f".{self.out.name}")
        try:
            place.mkdir(parents=True, exist_ok=True)
            return staging_folder(place, prefix, self._locks)
        except OSError as error:
            raise UsageError(
                f"the output folder '{given}' cannot be written ({error.strerror})", "a folder you may write to"
            ) from error


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
    check_text(out.resolve())
    _check_apart(out.resolve(), inputs)
    _check_ours(out.resolve(), results)


def empty(folder: Path) -> None:
    """Throw away what a folder holds."""
    shutil.rmtree(folder)
    folder.mkdir()


def _check_apart(out: Path, inputs: Iterable[Path]) -> None:
    for path in (p.resolve() for p in inputs):
        if path == out or out in path.parents or (path.is_dir() and path in out.parents):
            raise UsageError(
                f"the output folder '{out}' and input '{path}' contain one another",
                "an output folder apart from the input",
            )


def _check_ours(out: Path, results: Results) -> None:
    if out.exists() and not out.is_dir():
        raise UsageError(f"the output '{out}' is a file", "a folder")
    if out.exists() and not os.access(out, os.R_OK | os.W_OK | os.X_OK):
        raise UsageError(
            f"the output folder '{out}' may not be used by the user with uid {os.geteuid()}",
            "a folder that this user may read and write",
            "Change its permissions, or choose another folder.",
        )
    if not out.exists() or not any(out.iterdir()):
        return
    found = [p.relative_to(out) for p in out.rglob("*") if not p.relative_to(out).parts[0].startswith(STAGING)]
    foreign = sorted(str(p) for p in found if not results.hold(p))
    if foreign or (found and not any((out / document).is_file() for document in results.documents)):
        example = foreign[0] if foreign else str(min(found))
        raise UsageError(
            f"the output folder '{out}' holds other files, such as '{example}'",
            "a new or empty folder, or one with earlier results of this command",
            "Choose another folder.",
        )
