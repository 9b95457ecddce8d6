"""Entry point of the container: `python -m app`.

The input folder holds `fixed/` and `moving/`, or series anywhere below it. The results go to the output folder, with
`result.json` and `metadata.json` for orchestrators. Where both lie is told by options, or by the platform that calls
(see `app.orchestrators`). Exit codes are those of the `samreg` command.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from app.orchestrators import FOLDERS, Call, called
from app.process import enlarge_stack, map_extra_missing
from samreg import __version__
from samreg.cli import add_configuration
from samreg.errors import SamregError, UsageError
from samreg.logs import FORMATS, log_to_stderr

log = logging.getLogger("samreg.app")

SEVERITY = (0, 4, 3, 2, 1)  # exit codes, the gravest last


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ, root: Path = Path("/")) -> int:
    """Run the application; returns the exit code, of several studies the gravest."""
    try:
        args, wrong = _parser().parse_args(argv), None
    except UsageError as error:
        args, wrong = _folders().parse_known_args(argv)[0], error
    log_to_stderr(args.log_format or environ.get("SAMREG_LOG_FORMAT", "text"), args.log_level)
    log.info("samreg %s starts", __version__)
    if missing := map_extra_missing():
        sys.stderr.write(f"samreg: {missing}\n")
        return 1
    from app.service import answer, refuse, say  # loads torch, which takes seconds

    codes = [0]
    try:
        with _calls(args, environ, root) as calls:
            codes += [refuse(call, wrong) if wrong else answer(call, args) for call in calls]
    except SamregError as error:
        codes.append(say(wrong or error))
    return max(codes, key=SEVERITY.index)


@contextmanager
def _calls(args: argparse.Namespace, environ: Mapping[str, str], root: Path) -> Iterator[tuple[Call, ...]]:
    """What the options ask for, else the platform."""
    if args.input and args.output:
        yield (Call("options", args.input, args.output),)
        return
    with called(environ, root) as calls:
        if not calls:
            known = ", ".join(f"{source} and {target}" for source, target in FOLDERS.values())
            option = "--output" if args.input else "--input" if args.output else "--input and --output"
            raise UsageError(f"no folders are named: neither {option} nor {known}", "an input and an output folder")
        yield tuple(_with_options(call, args) for call in calls)


def _with_options(call: Call, args: argparse.Namespace) -> Call:
    """A call with the one folder that an option names."""
    if args.input:
        call = Call(call.platform, args.input, call.out, call.settings)
    return Call(call.platform, call.fixed, args.output, call.settings, call.moving) if args.output else call


class _Parser(argparse.ArgumentParser):
    """Wrong options are an error like all others, whose reason the output folder gets."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, "the options that --help lists", reason="wrong-options")


def _folders() -> _Parser:
    """The options that say where the reason goes if others are wrong."""
    parser = _Parser(add_help=False)
    parser.add_argument("-i", "--input", type=Path, help="input folder (default: where the platform says)")
    parser.add_argument("-o", "--output", type=Path, help="output folder (default: where the platform says)")
    parser.set_defaults(log_format=None, log_level="INFO")
    return parser


def _parser() -> _Parser:
    parser = _Parser(prog="python -m app", description="Register two DICOM series.", parents=[_folders()])
    parser.add_argument("--fixed-series", metavar="UID", help="SeriesInstanceUID (default: the later acquisition)")
    parser.add_argument("--moving-series", metavar="UID", help="SeriesInstanceUID")
    parser.add_argument("--allow-different-patients", action="store_true", help="do not refuse different patients")
    parser.add_argument("--log-format", choices=FORMATS, help="of the log on stderr (default $SAMREG_LOG_FORMAT, text)")
    parser.add_argument("--log-level", choices=("WARNING", "INFO"), default="INFO", help="default INFO")
    add_configuration(parser)
    return parser


if __name__ == "__main__":
    enlarge_stack()
    raise SystemExit(main())
