"""The number of threads, the way they wait, and work divided among them.

`prepare` comes before torch: OpenMP reads its settings when it is loaded, and never again.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from math import ceil
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import TypeVar

from samreg.errors import UsageError

Item = TypeVar("Item")
Result = TypeVar("Result")
OnProgress = Callable[[float], None]  # called with the share done, 0..1

WAITING = "OMP_WAIT_POLICY"
COUNT = "OMP_NUM_THREADS"
LIMIT = "OMP_THREAD_LIMIT"
MOST_WORKERS = 4  # each holds the working memory of an item, and a container may have 2 GB on a host of any size

PROC = Path("/proc")
BUNDLE = ("-m", "monai.bundle")

_in_a_loop = False  # torch was loaded first, so its threads wait as the environment said then


def prepare(environ: MutableMapping[str, str] = os.environ, proc: Path = PROC) -> None:
    """Settle how the threads of OpenMP wait and how many there are; what the environment says already stays.

    Threads that wait for others sleep: where other work shares the processors, waiting in a loop makes a registration
    several times as slow. A quota of a container, which OpenMP does not know of, limits their number.
    """
    global _in_a_loop
    allowed = processors(environ, proc)
    if not environ.get(WAITING, "").strip():  # a container's `-e OMP_WAIT_POLICY=` asks for nothing
        _in_a_loop = "torch" in sys.modules and allowed > 1
        environ[WAITING] = "PASSIVE"
    if _first_count(environ, COUNT) is None and allowed < _affinity():
        environ[COUNT] = str(allowed)


def processors(environ: MutableMapping[str, str] = os.environ, proc: Path = PROC) -> int:
    """Processors that this process may use: the least of its affinity, control groups and the environment.

    Args:
        environ: The environment, of which OMP_NUM_THREADS and OMP_THREAD_LIMIT count.
        proc: Where the kernel tells of processes.
    """
    counts = [_affinity(), *_quotas(proc)]
    asked = (_first_count(environ, name) for name in (COUNT, LIMIT))
    return max(1, min([*counts, *(count for count in asked if count is not None)]))


def restart_bundle() -> None:
    """Start `python -m monai.bundle …` again where torch, which it loads before it reads a bundle, came too early.

    Now the environment says how threads wait. Nothing happens in any other process.
    """
    if _in_a_loop and BUNDLE in pairwise(sys.orig_argv):
        sys.stderr.write("samreg: starts again, with threads that sleep while they wait.\n")
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _warn_once() -> None:
    global _in_a_loop
    if _in_a_loop:
        _in_a_loop = False
        warnings.warn(
            "torch was imported before samreg, so its threads wait in a loop: beside other work, a registration can "
            f"take several times as long. Import samreg first, or set {WAITING}=PASSIVE for the process.",
            RuntimeWarning,
            stacklevel=4,
        )


@contextmanager
def limited(asked: int | None = None) -> Iterator[int]:
    """A block in which torch uses no more threads than there are processors for it; afterwards as many as before.

    Args:
        asked: Threads that the user asks for, in place of OMP_NUM_THREADS; None: as many as there are processors.

    Returns:
        The number of threads.

    Raises:
        UsageError: Fewer than one is asked for.

    Warns:
        RuntimeWarning: Once, if torch was imported before samreg.
    """
    import torch

    if asked is not None and asked < 1:
        raise UsageError(f"the number of threads is {asked}", "at least 1")
    _warn_once()
    with _of_the_process() as before:
        # Whoever called torch.set_num_threads in this process meant it.
        count = min(before, processors()) if asked is None else min(asked, processors({}))
        torch.set_num_threads(count)
        try:
            yield count
        finally:
            torch.set_num_threads(before)


class _Process:
    """What torch was told for the whole process, while blocks here tell it something else.

    A thread that never set its own number gets the one that any thread set last, so it cannot be asked in a new thread
    while another one is at work.
    """

    def __init__(self) -> None:
        self.lock = Lock()
        self.blocks = 0
        self.count = 1


_process = _Process()


@contextmanager
def _of_the_process() -> Iterator[int]:
    """A block that changes the number of threads; gives the one to go back to."""
    import torch

    with _process.lock:
        if not _process.blocks:
            _process.count = torch.get_num_threads()
        _process.blocks += 1
    try:
        yield _process.count
    finally:
        with _process.lock:
            _process.blocks -= 1
            if not _process.blocks:
                torch.set_num_threads(_process.count)


def in_parallel(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    on_progress: OnProgress | None = None,
    *,
    most: int = MOST_WORKERS,
) -> list[Result]:
    """The results of independent items, in their order, worked on by as many threads as torch may use.

    Each item is computed by one thread alone, so the results do not depend on how many there are. An error of an item
    ends the whole, as it does in a loop.

    Args:
        work: Computes one item; may be called from several threads at once.
        items: Given to it.
        on_progress: Called with the share done, 0..1, in the thread of the caller.
        most: Items worked on at once.

    Example:
        >>> in_parallel(abs, [1, -2, 3])
        [1, 2, 3]
    """
    import torch

    items = list(items)
    results: list[Result] = []

    def take(done: Iterable[Result]) -> list[Result]:
        for result in done:
            results.append(result)
            if on_progress:
                on_progress(len(results) / len(items))
        return results

    before = torch.get_num_threads()
    workers = min(before, len(items), most)
    with _of_the_process():
        try:
            if workers <= 1:
                torch.set_num_threads(1)
                return take(map(work, items))
            pool = ThreadPoolExecutor(workers, "samreg", initializer=torch.set_num_threads, initargs=(1,))
            try:
                return take(pool.map(work, items))
            finally:
                pool.shutdown(cancel_futures=True)
        finally:
            torch.set_num_threads(before)


def _first_count(environ: Mapping[str, str], name: str) -> int | None:
    """What a variable of OpenMP says, None for nothing or what is no number of threads.

    A list gives the number of each level of nesting; the first is that of the outermost.
    """
    text = environ.get(name, "").split(",")[0].strip().removeprefix("+")
    return int(text) if _is_count(text) else None


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(proc: Path) -> list[int]:
    """Processors that each control group of this process allows, rounded up; empty where none limits them."""
    found = []
    for group, point in _groups(proc):
        # A group is limited by those above it too.
        for folder in (group, *group.parents):
            if (quota := _quota(folder)) is not None:
                found.append(max(1, ceil(quota)))
            if folder == point:
                break
    return found


def _groups(proc: Path) -> Iterator[tuple[Path, Path]]:
    """The folders of the control groups of this process that may limit processors, each with its mount point."""
    paths: dict[str, PurePosixPath] = {}  # by controller; version 2 has no name
    for line in _lines(proc / "self" / "cgroup"):
        controllers, colon, group = line.partition(":")[2].partition(":")
        if colon:
            paths.update(dict.fromkeys(controllers.split(","), PurePosixPath(group)))
    for line in _lines(proc / "self" / "mountinfo"):
        before, _, after = line.partition(" - ")
        fields, kind, options = before.split(" "), after.partition(" ")[0], after.rpartition(" ")[2].split(",")
        controller = {"cgroup": "cpu", "cgroup2": ""}.get(kind)
        if len(fields) < 5 or controller not in paths or (controller and controller not in options):
            continue
        root, point = (_unescaped(text) for text in fields[3:5])
        path = paths[controller]
        inside = path.relative_to(root) if path.is_relative_to(root) else PurePosixPath(str(path).lstrip("/"))
        # In a namespace of its own a container sees its group at the mount point, whatever the path says.
        seen = ".." not in inside.parts and os.access(Path(point) / inside, os.F_OK)
        yield (Path(point) / inside if seen else Path(point)), Path(point)


def _quota(folder: Path) -> float | None:
    """Processors that one control group allows (cgroup v2, v1), or None."""
    both = " ".join(_lines(folder / "cpu.max")).split()
    if not both:
        both = [*_lines(folder / "cpu.cfs_quota_us"), *_lines(folder / "cpu.cfs_period_us")]
    # "max" and -1 mean no limit.
    if len(both) == 2 and all(_is_count(text) for text in both):
        return int(both[0]) / int(both[1])
    return None


def _is_count(text: str) -> bool:
    """A whole number above 0 that the kernel's own types hold."""
    return text.isascii() and text.isdecimal() and len(text) < 20 and int(text) > 0


def _lines(path: Path) -> list[str]:
    """Of a file of the kernel, whose names may hold any bytes."""
    try:
        return os.fsdecode(path.read_bytes()).rstrip("\n").split("\n")
    except OSError:  # not mounted, or not to be read: nothing is known of a limit
        return []


def _unescaped(text: str) -> str:
    """Of a mount, in which the kernel writes space, tab, newline and backslash as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
