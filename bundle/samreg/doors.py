"""How a refusal ends a process: for the configurations of the bundle, and for applications."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from samreg.errors import SamregError
from samreg.threads import restart_bundle


@contextmanager
def ending_the_process() -> Iterator[None]:
    """A block whose refusals end the process: one sentence on stderr, and the exit code of the error."""
    restart_bundle()
    try:
        yield
    except SamregError as error:
        sys.stderr.write(f"samreg: {error.sentence}\n")
        raise SystemExit(error.exit_code) from error
