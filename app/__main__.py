"""Entry point of the container: `python -m app`.

The input folder holds `fixed/` and `moving/`, or series anywhere below it. The results go to the output folder, with
`result.json` and `metadata.json` for orchestrators. Where both lie is told by options, or by the platform that calls
(see `app.orchestrators`). Exit codes are those of the `samreg` command.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from app.orchestrators import FOLDERS, called
from app.process import end_on_sigterm, enlarge_stack, map_extra_missing
from samreg import __version__
from samreg.cli_options import add_configuration
from samreg.errors import SamregError, UsageError
from samreg.logs import FORMATS, log_to_stderr

log = logging.getLogger("samreg.app")

SEVERITY = (0, 4, 3, 2, 1)  # exit codes, the gravest last


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ, root: Path = Path("/")) -> int:
    """Run the application; returns the exit code, of several studies the gravest."""
    args, wrong = _parsed(argv)
    log_to_stderr(args.log_format or environ.get("SAMREG_LOG_FORMAT", "text"), args.log_level)
    log.info("samreg %s starts.", __version__)
    if missing := map_extra_missing():
        log.error("%s", missing)
        return 1
    from app.service import answer, say  # loads torch, which takes seconds

    codes = [0]
    try:
        with called(environ, root, source=args.input, target=args.output) as calls:
            if not calls:
                raise wrong or _no_call(args)
            codes += [answer(call, args, wrong) for call in calls]
    except SamregError as error:
        codes.append(say(wrong or error))
    return max(codes, key=SEVERITY.index)


def _no_call(args: argparse.Namespace) -> UsageError:
    known = ", ".join(f"{source} and {target}" for source, target in FOLDERS.values())
    option = "--output" if args.input else "--input" if args.output else "--input and --output"
    return UsageError(f"neither {option} nor {known} names a folder", "an input and an output folder")


def _parsed(argv: Sequence[str] | None) -> tuple[argparse.Namespace, UsageError | None]:
    """The options; of wrong ones those that say where the reason goes, and what is wrong."""
    try:
        return _parser().parse_args(argv), None
    except UsageError as error:
        wrong = error
    try:
        return _where().parse_known_args(argv)[0], wrong
    except UsageError:
        return _where().parse_args([]), wrong


class _Parser(argparse.ArgumentParser):
    """Wrong options are an error like all others, whose reason the output folder gets."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, reason="wrong-options")


def _where() -> _Parser:
    """The options that say where results and log go."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("-i", "--input", type=Path, help="input folder (default: the one that the platform names)")
    parser.add_argument("-o", "--output", type=Path, help="output folder (default: the one that the platform names)")
    parser.add_argument(
        "--log-format", choices=FORMATS, help="format of the log on stderr (default: $SAMREG_LOG_FORMAT, else text)"
    )
    parser.add_argument(
        "--log-level", choices=("WARNING", "INFO"), default="INFO", help="lowest level that is logged (default INFO)"
    )
    return parser


def _parser() -> _Parser:
    parser = _Parser(
        prog="python -m app", description="Register two DICOM series.", parents=[_where()], allow_abbrev=False
    )
    parser.add_argument(
        "--fixed-series", metavar="UID", help="SeriesInstanceUID of the fixed series (default: the later acquisition)"
    )
    parser.add_argument(
        "--moving-series",
        metavar="UID",
        help="SeriesInstanceUID of the moving series (default: the earlier acquisition)",
    )
    parser.add_argument(
        "--allow-different-patients",
        action="store_true",
        help="accept two series that differ in patient ID, name, birth date or sex (default: they are refused)",
    )
    add_configuration(parser)
    return parser


def process() -> int:
    """`main` of a process of its own: stopped from outside, it leaves the reason and no half of a result."""
    end_on_sigterm()
    return main()


if __name__ == "__main__":
    enlarge_stack()
    raise SystemExit(process())
