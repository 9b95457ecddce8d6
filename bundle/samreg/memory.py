"""The peak memory of a run."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")
_FORGET_PEAK = Path("/proc/self/clear_refs")


class PeakMemory:
    """The peak from here on, where the system can forget the one before; else that of the process (not on Linux).

    Example:
        >>> PeakMemory().mb > 0
        True
    """

    def __init__(self) -> None:
        try:
            _FORGET_PEAK.write_text("5")
        except OSError:
            return

    @property
    def mb(self) -> float:
        """In 2²⁰ bytes."""
        try:
            found = re.search(r"^VmHWM:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
        except OSError:
            found = None
        if found is not None:
            return int(found[1]) / 1024
        unit = 1024**2 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
