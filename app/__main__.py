"""Entry point of the container: `python -m app`.

The input folder holds `fixed/` and `moving/`, or two series anywhere below it. The results go to the
output folder, with `result.json` and `metadata.json` for orchestrators. Exit codes are those of the
`samreg` command.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.process import enlarge_stack, map_extra_missing, preload_cuda_runtime
from samreg import outputs, workflow
from samreg.cli import add_configuration, config_from
from samreg.errors import OutputInvalid, SamregError, UsageError
from samreg.report import write_json

INPUT, OUTPUT = "HOLOSCAN_INPUT_PATH", "HOLOSCAN_OUTPUT_PATH"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the application; returns the exit code."""
    args = _parser().parse_args(argv)
    if missing := map_extra_missing():
        sys.stderr.write(f"samreg: {missing}\n")
        return 1
    try:
        return workflow.exit_code(register(_job(args)))
    except SamregError as error:
        sys.stderr.write(f"samreg: {error.sentence}\n")
        return error.exit_code


def register(job: workflow.Job) -> dict[str, Any]:
    """Run the operators on a job; the output folder holds all of the results or the reason alone.

    Returns:
        The contents of `report.json`.

    Raises:
        InputRefused: The input is not safe to register; `report.json` and `metadata.json` say why.
    """
    with outputs.OutputFolder(job.out, job.inputs) as output:
        try:
            report = _run_operators(job, output.folder)
        except Exception as error:
            _leave_reason(error, output, job)
            raise
        result = {key: report[key] for key in ("status", "reasons", "kind", "roles", "objects")}
        write_json(result | {"exit_code": workflow.exit_code(report)}, output.folder / "result.json")
        write_json({"exception": None, "exception_message": None}, output.folder / "metadata.json")
        output.commit()
    return report


def _run_operators(job: workflow.Job, folder: Path) -> dict[str, Any]:
    os.environ.setdefault("HOLOSCAN_LOG_LEVEL", "OFF")
    preload_cuda_runtime()
    from app.application import RegistrationApplication

    application = RegistrationApplication(job, folder)
    application.run()
    if application.report is None:
        # Holoscan ends without an error when an operator never ran.
        raise OutputInvalid("the operators ended without a report", "one report", reason="no-report")
    return application.report


def _leave_reason(error: Exception, output: outputs.OutputFolder, job: workflow.Job) -> None:
    """`report.json`, `result.json` and `metadata.json` with the reason, and nothing else."""
    output.clear()
    known = error if isinstance(error, SamregError) else _unexpected(error)
    report = outputs.refusal_file(known, output.folder, asked=job.config.transform, method=job.config.method)
    result = {"status": report["status"], "reasons": report["reasons"], "exit_code": known.exit_code}
    write_json(result, output.folder / "result.json")
    reason = {"exception": type(error).__name__, "exception_message": known.sentence}
    write_json(reason, output.folder / "metadata.json")
    output.commit()


def _unexpected(error: Exception) -> SamregError:
    # The message itself may name a patient; it is on stderr, not in files that travel.
    return SamregError(f"an unexpected failure ({type(error).__name__})", next_step="See the log", reason="unexpected")


def _job(args: argparse.Namespace) -> workflow.Job:
    for name, value in ((INPUT, args.input), (OUTPUT, args.output)):
        if value is None:
            raise UsageError(f"neither an option nor {name} names a folder", "both an input and an output folder")
    return workflow.Job(
        fixed=args.input,
        moving=None,
        out=args.output,
        config=config_from(args),
        fixed_series=args.fixed_series,
        moving_series=args.moving_series,
        allow_different_patients=args.allow_different_patients,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m app", description="Register two DICOM series.")
    parser.add_argument("-i", "--input", type=Path, default=_path(INPUT), help=f"input folder (default ${INPUT})")
    parser.add_argument("-o", "--output", type=Path, default=_path(OUTPUT), help=f"output folder (default ${OUTPUT})")
    parser.add_argument("--fixed-series", metavar="UID", help="SeriesInstanceUID (default: the later acquisition)")
    parser.add_argument("--moving-series", metavar="UID", help="SeriesInstanceUID")
    parser.add_argument("--allow-different-patients", action="store_true", help="do not refuse different patients")
    add_configuration(parser)
    return parser


def _path(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value) if value else None


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="samreg: %(message)s")
    enlarge_stack()
    raise SystemExit(main())
