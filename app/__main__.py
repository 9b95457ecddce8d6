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
from collections.abc import Mapping, Sequence
from pathlib import Path

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
    args = _parser().parse_args(argv)
    log_to_stderr(args.log_format or environ.get("SAMREG_LOG_FORMAT", "text"), args.log_level)
    log.info("samreg %s starts", __version__)
    if missing := map_extra_missing():
        sys.stderr.write(f"samreg: {missing}\n")
        return 1
    from app.service import answer, say  # loads torch, which takes seconds

    codes = [0]
    try:
        if args.input and args.output:
            codes.append(answer(Call("options", args.input, args.output), args))
        else:
            with called(environ, root) as calls:
                if not calls:
                    raise _no_call(args)
                codes += [answer(_with_options(call, args), args) for call in calls]
    except SamregError as error:
        codes.append(say(error))
    return max(codes, key=SEVERITY.index)


def _with_options(call: Call, args: argparse.Namespace) -> Call:
    """A call with the one folder that an option names."""
    if args.input:
        call = Call(call.platform, args.input, call.out, call.settings)
    return Call(call.platform, call.fixed, args.output, call.settings, call.moving) if args.output else call


def _no_call(args: argparse.Namespace) -> UsageError:
    known = ", ".join(f"{source} and {target}" for source, target in FOLDERS.values())
    option = "--output" if args.input else "--input" if args.output else "--input and --output"
    return UsageError(f"no folders are named: neither {option} nor {known}", "an input and an output folder")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m app", description="Register two DICOM series.")
    parser.add_argument("-i", "--input", type=Path, help="input folder (default: where the platform says)")
    parser.add_argument("-o", "--output", type=Path, help="output folder (default: where the platform says)")
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
