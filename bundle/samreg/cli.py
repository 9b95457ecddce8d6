"""The `samreg` command: it reads the arguments, runs a sub-command, and tells failures in one line."""

from __future__ import annotations

import argparse
import errno
import json
import logging
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from samreg.cli_parser import build_parser
from samreg.errors import SamregError

FULL = (errno.ENOSPC, errno.EDQUOT)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments without the program's name; default those of the process.

    Returns:
        The exit code (see `cli_parser.EXIT_CODES`).
    """
    args = build_parser().parse_args(argv)
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        with _logging(args):
            return _run(args)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _run(args: argparse.Namespace) -> int:
    try:
        return int(args.run(args))
    except SamregError as error:
        sys.stderr.write(f"samreg: {error.sentence}\n")
        return error.exit_code
    except (OSError, MemoryError) as error:
        logging.getLogger(__name__).info("The command failed here:", exc_info=True)
        sys.stderr.write(f"samreg: {_plain_failure(error, getattr(args, 'out', None))}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("samreg: The command was interrupted. Nothing was written.\n")
        return 130
    except _Stopped:
        why = SamregError("the process was stopped from outside (SIGTERM)", reason="stopped")
        sys.stderr.write(f"samreg: {why.sentence}\n")
        raise


def say(values: Any) -> None:
    """Print values as JSON."""
    sys.stdout.write(json.dumps(values, indent=1, ensure_ascii=False) + "\n")


@contextmanager
def _logging(args: argparse.Namespace) -> Iterator[None]:
    # Undone at the end: whoever calls `main` in its own process keeps its own logging.
    level = logging.WARNING
    if getattr(args, "quiet", False):
        level = logging.ERROR
    elif getattr(args, "verbose", False):
        level = logging.INFO
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("samreg: %(message)s"))
    logger = logging.getLogger("samreg")
    before = logger.handlers[:], logger.propagate, logger.level
    logger.handlers[:], logger.propagate = [handler], False
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.handlers[:], logger.propagate = before[0], before[1]
        logger.setLevel(before[2])


def _plain_failure(error: OSError | MemoryError, out: Path | None) -> str:
    if isinstance(error, MemoryError):
        return "The memory is exhausted. Close other programs, or register images of fewer voxels."
    if error.errno in FULL and out is not None:
        return (
            f"'{out}' cannot be written because its disk is full ({error.strerror}). Free space there, or choose "
            "another place with -o."
        )
    where = f" '{error.filename}'" if error.filename else ""
    return f"{error.strerror or error}{where}. Run again with --verbose to see where."


class _Stopped(SystemExit):
    """Ended by a signal."""


def _terminate(number: int, frame: FrameType | None) -> None:
    # Ends by way of an exception, so that temporary files are cleared away.
    raise _Stopped(128 + number)


if __name__ == "__main__":
    raise SystemExit(main())
