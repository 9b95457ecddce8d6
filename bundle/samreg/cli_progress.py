"""The progress of a command on stderr: a live line on a terminal, else one line for each stage."""

from __future__ import annotations

import sys
from typing import TextIO


class ProgressLine:
    """Shows stages as they come; call it with the stage's name and its fraction done, 0..1."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self.stage = ""
        self.percent = -1

    def __call__(self, stage: str, fraction: float) -> None:
        percent = round(100 * min(max(fraction, 0.0), 1.0))
        if (stage, percent) == (self.stage, self.percent):
            return
        if self.live:
            # \x1b[K clears what a longer line before has left.
            self.stream.write(f"\r{stage} {percent} %\x1b[K")
        elif stage != self.stage:
            self.stream.write(f"{stage} …\n")
        self.stage, self.percent = stage, percent
        self.stream.flush()

    def close(self) -> None:
        """Clear the live line."""
        if self.live and self.stage:
            self.stream.write("\r\x1b[K")
            self.stream.flush()
