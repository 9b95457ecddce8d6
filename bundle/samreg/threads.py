"""How many processors a process may use, how its threads wait, and work divided among them.

`prepare` comes before torch: OpenMP reads its settings when it is loaded, and never again.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from typing import TypeVar

from samreg.errors import UsageError

Item = TypeVar("Item")
Result = TypeVar("Result")
OnProgress = Callable[[float], None]  # called with the share done, 0..1

WAITING = "OMP_WAIT_POLICY"
COUNT = "OMP_NUM_THREADS"
MOST_WORKERS = 8  # each holds the working memory of an item

PROC = Path("/proc")
BUNDLE = ["-m", "monai.bundle"]

_in_a_loop = False  # torch was loaded first, so its threads wait as the environment said then


def prepare(environ: MutableMapping[str, str] = os.environ, proc: Path = PROC) -> None:
    """Settle how the threads of OpenMP wait and how many there are; what the environment says already stays.

    Threads that wait for others sleep: where other work shares the processors, waiting in a loop makes a registration
    several times as slow. A quota of a container, which OpenMP does not know of, limits their number.
    """
    global _in_a_loop
    allowed = processors(environ, proc)
    if WAITING not in environ:
        _in_a_loop = "torch" in sys.modules and allowed > 1
        environ[WAITING] = "PASSIVE"
    if COUNT not in environ and allowed < _affinity():
        environ[COUNT] = str(allowed)


def processors(environ: MutableMapping[str, str] = os.environ, proc: Path = PROC) -> int:
    """Processors that this process may use: of its affinity, its control groups and OMP_NUM_THREADS the least.

    Args:
        environ: The environment.
        proc: Where the kernel tells of processes.
    """
    counts = [_affinity(), *_quotas(proc)]
    # A list gives the number of each level of nesting; the first is that of the outermost.
    asked = environ.get(COUNT, "").split(",")[0].strip()
    if asked.isdigit() and int(asked) > 0:
        counts.append(int(asked))
    return max(1, min(counts))


def restart_bundle() -> None:
    """Start `python -m monai.bundle …` again where torch, which it loads before it reads a bundle, came too early.

    Now the environment says how threads wait. Nothing happens in any other process.
    """
    if _in_a_loop and sys.orig_argv[1:3] == BUNDLE:
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
        asked: Threads that the user asks for; None: as many as there are processors.

    Returns:
        The number of threads.

    Raises:
        UsageError: Fewer than one is asked for.

    Warns:
        RuntimeWarning: Once, if torch was imported before samreg.
    """
    import torch

    _warn_once()

    if asked is not None and asked < 1:
        raise UsageError(f"{asked} threads", "at least 1")
    before = torch.get_num_threads()
    # Whoever called torch.set_num_threads in this process meant it.
    count = min(before, processors()) if asked is None else min(asked, _most())
    torch.set_num_threads(count)
    try:
        yield count
    finally:
        torch.set_num_threads(before)


def in_parallel(
    work: Callable[[Item], Result], items: Iterable[Item], on_progress: OnProgress | None = None
) -> list[Result]:
    """The results of independent items, in their order, worked on by as many threads as torch may use.

    Each item is computed by one thread alone, so the results do not depend on how many there are. An error of an item
    ends the whole, as it does in a loop.

    Args:
        work: Computes one item; may be called from several threads at once.
        items: Given to it.
        on_progress: Called with the share done, 0..1, in the thread of the caller.

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
    workers = min(before, len(items), MOST_WORKERS)
    if workers <= 1:
        with _one_thread(before):
            return take(map(work, items))
    pool = ThreadPoolExecutor(workers, "samreg", initializer=torch.set_num_threads, initargs=(1,))
    try:
        return take(pool.map(work, items))
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)  # torch hands the number of the last thread that set it to new ones


@contextmanager
def _one_thread(before: int) -> Iterator[None]:
    import torch

    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _affinity() -> int:
    return len(os.sched_getaffinity(0))


def _most() -> int:
    return max(1, min([_affinity(), *_quotas(PROC)]))


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
    paths: dict[str, str] = {}  # by controller; version 2 has no name
    for line in _lines(proc / "self" / "cgroup"):
        _, controllers, path = line.split(":", 2)
        paths.update(dict.fromkeys(controllers.split(","), path))
    for line in _lines(proc / "self" / "mountinfo"):
        fields, _, mounted = line.partition(" - ")
        root, point = (_unescaped(text) for text in fields.split()[3:5])
        kind, _, options = mounted.split()[:3]
        controller = {"cgroup": "cpu", "cgroup2": ""}.get(kind)
        if controller is None or (controller and controller not in options.split(",")) or controller not in paths:
            continue
        path = paths[controller]
        inside = path[len(root) :] if root != "/" and path.startswith(root) else path
        folder = Path(point) / inside.lstrip("/")
        # In a namespace of its own a container sees its group at the mount point, whatever the path says.
        yield (folder if folder.is_dir() and ".." not in folder.parts else Path(point)), Path(point)


def _quota(folder: Path) -> float | None:
    """Processors that one control group allows (cgroup v2, v1), or None."""
    both = " ".join(_lines(folder / "cpu.max")).split()
    if not both:
        both = [*_lines(folder / "cpu.cfs_quota_us"), *_lines(folder / "cpu.cfs_period_us")]
    # "max" and -1 mean no limit.
    if len(both) == 2 and all(text.isdigit() for text in both) and int(both[1]) > 0:
        return int(both[0]) / int(both[1])
    return None


def _lines(path: Path) -> Sequence[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:  # not mounted, or not to be read: nothing is known of a limit
        return ()


def _unescaped(text: str) -> str:
    return text.replace("\\040", " ")
