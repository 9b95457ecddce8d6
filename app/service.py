"""A call answered: the operators run, and the output folder holds the results or the reason alone."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.orchestrators import Call
from app.process import preload_cuda_runtime
from samreg import outputs, workflow
from samreg.cli import config_from
from samreg.errors import OutputInvalid, SamregError, UsageError
from samreg.report import write_json

log = logging.getLogger("samreg.app")


def answer(call: Call, args: argparse.Namespace) -> int:
    """Register what was asked for; returns the exit code."""
    log.info("called by %s", call.platform)
    try:
        return workflow.exit_code(register(call, args))
    except SamregError as error:
        return say(error)


def refuse(call: Call, error: SamregError) -> int:
    """Leave the reason why a call is not followed; returns the exit code."""
    try:
        with outputs.OutputFolder(call.out, [path for path in (call.fixed, call.moving) if path is not None]) as output:
            _leave_reason(error, output, {})
    except UsageError as second:
        say(second)
    return say(error)


def register(call: Call, args: argparse.Namespace) -> dict[str, Any]:
    """Run the operators on a call; the output folder holds all of the results or the reason alone.

    Returns:
        The contents of `report.json`, or of `registrations.json`.

    Raises:
        UsageError: Settings that cannot be followed, or an output folder that must not be used.
        InputRefused: The input is not safe to register; `report.json` and `metadata.json` say why.
    """
    inputs = [path for path in (call.fixed, call.moving) if path is not None]
    workflow.check_inputs(*inputs)
    with outputs.OutputFolder(call.out, inputs) as output:
        asked: dict[str, Any] = {}
        try:
            job = _job(call, args)
            asked = {"asked": job.config.transform, "method": job.config.method}
            report = workflow.each(job, output.folder, _run_operators)
        except Exception as error:
            _leave_reason(error, output, asked)
            raise
        kept = ("status", "reasons", "kind", "roles", "objects", "registrations")
        result = {key: report[key] for key in kept if key in report}
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


def _leave_reason(error: Exception, output: outputs.OutputFolder, asked: Mapping[str, Any]) -> None:
    """`report.json`, `result.json` and `metadata.json` with the reason, and nothing else."""
    output.clear()
    known = error if isinstance(error, SamregError) else _unexpected(error)
    report = outputs.refusal_file(known, output.folder, **asked)
    result = {"status": report["status"], "reasons": report["reasons"], "exit_code": known.exit_code}
    write_json(result, output.folder / "result.json")
    reason = {"exception": type(error).__name__, "exception_message": known.sentence}
    write_json(reason, output.folder / "metadata.json")
    output.commit()


def _unexpected(error: Exception) -> SamregError:
    # The message itself may name a patient; it is on stderr, not in files that travel.
    return SamregError(f"an unexpected failure ({type(error).__name__})", next_step="See the log", reason="unexpected")


def _job(call: Call, args: argparse.Namespace) -> workflow.Job:
    settings = dict(call.settings)
    named = {key: settings.pop(key, None) for key in ("fixed_series", "moving_series", "allow_different_patients")}
    named |= {key: getattr(args, key) for key in named if getattr(args, key)}
    different = named.pop("allow_different_patients") or False
    if not isinstance(different, bool):
        raise UsageError(f"'allow_different_patients' is {different!r}", "true or false")
    return workflow.Job(
        fixed=call.fixed,
        moving=call.moving,
        out=call.out,
        config=config_from(args, settings),
        allow_different_patients=different,
        **named,
    )


def say(error: SamregError) -> int:
    """The sentence of an error on stderr; returns its exit code."""
    sys.stderr.write(f"samreg: {error.sentence}\n")
    return error.exit_code
