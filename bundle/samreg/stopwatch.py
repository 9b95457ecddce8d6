"""The time and the progress of the stages of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from time import perf_counter

Progress = Callable[[str, float], None]  # called with the stage's name and its share done, 0..1
# A context for a stage by its name; within it one says the share that is done.
Stage = Callable[[str], AbstractContextManager[Callable[[float], None]]]


class Stopwatch:
    """Times stages that may lie within each other; each has the seconds that none within it had.

    Args:
        on_progress: Told of every stage that begins, goes on and ends.

    Attributes:
        seconds: By stage, in the order in which they began.
    """

    def __init__(self, on_progress: Progress | None = None) -> None:
        self._tell = on_progress or (lambda stage, share: None)
        self._running: list[str] = []
        self._since = perf_counter()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[[float], None]]:
        """A stage; yields what tells of its progress."""
        self._turn()
        self.seconds.setdefault(name, 0.0)
        self._running.append(name)
        self._tell(name, 0.0)
        try:
            yield lambda share: self._tell(name, share)
        finally:
            self._turn()
            self._running.pop()
        self._tell(name, 1.0)

    def _turn(self) -> None:
        """Count the time since the last turn to the stage that ran."""
        now = perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now
