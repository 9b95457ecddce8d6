"""A call answered: the operators run, and the output folder holds the results or the reason alone."""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.orchestrators import Call
from app.process import STOPPED, preload_cuda_runtime
from samreg import outputs, workflow
from samreg.cli import config_from
from samreg.errors import InputRefused, OutputInvalid, SamregError, UsageError
from samreg.output_folder import OutputFolder
from samreg.report import write_json

log = logging.getLogger("samreg.app")

ROLES = ("fixed", "moving")  # names of folders that say nothing of a patient
_open: list[OutputFolder] = []  # the folder that is being written, for `stopped`


class Stopped(SamregError):  # noqa: N818
    """Ended from outside."""

    exit_code = STOPPED


def answer(call: Call, args: argparse.Namespace, wrong: SamregError | None = None) -> int:
    """Register what was asked for; returns the exit code.

    Args:
        call: Of the platform.
        args: Options, which come before the call's settings.
        wrong: Why no call can be followed; each output folder gets the reason.
    """
    log.info("called by %s", call.platform)
    try:
        if error := wrong or call.wrong:
            return refuse(call, error)
        return workflow.exit_code(register(call, args))
    except SamregError as error:
        return say(error)
    except Exception as error:  # noqa: BLE001 - its own message may name a patient, and other calls may follow
        for frame in traceback.extract_tb(error.__traceback__):
            log.error("at %s:%s in %s", frame.filename, frame.lineno, frame.name)
        return say(_unexpected(error))


def refuse(call: Call, error: SamregError) -> int:
    """Leave the reason why a call is not followed; returns the exit code."""
    told = anonymous(error, call)
    code = say(told)
    with OutputFolder(call.out, _inputs(call)) as output:
        _leave_reason(told, output, {})
    return code


def stopped() -> None:
    """Leave the reason why the process ends now; another thread may still be writing."""
    error = Stopped("stopped from outside (SIGTERM)", next_step="Start it again.", reason="stopped")
    for output in _open:
        apart = output.folder.with_name(f"{output.folder.name}-stopped")
        output.folder.rename(apart)
        output.folder = apart
        _leave_reason(error, output, {})
        shutil.rmtree(apart, ignore_errors=True)
    say(error)


def anonymous(error: SamregError, call: Call) -> SamregError:
    """The error without the names of files and folders below the input, which may be those of patients."""
    paths = [path for folder in _inputs(call) if folder.is_dir() for path in sorted(folder.rglob("*"))]
    texts = [error.got, error.expected, error.next_step]
    for number, path in enumerate(paths, 1):
        if path.name not in ROLES:
            texts = [text.replace(f"'{path.name}'", f"file {number} of {len(paths)}") for text in texts]
    told = type(error)(*texts, reason=error.reason)
    told.role = error.role
    return told


def _inputs(call: Call) -> list[Path]:
    return [path for path in (call.fixed, call.moving) if path is not None]


def register(call: Call, args: argparse.Namespace) -> dict[str, Any]:
    """Run the operators on a call; the output folder holds all of the results or the reason alone.

    Returns:
        The contents of `report.json`, or of `registrations.json`.

    Raises:
        UsageError: Settings that cannot be followed, or an output folder that must not be used.
        InputRefused: The input is not safe to register; `report.json` and `metadata.json` say why.
    """
    workflow.check_inputs(*_inputs(call))
    with OutputFolder(call.out, _inputs(call)) as output:
        _open[:] = [output]
        asked: dict[str, Any] = {}
        try:
            job = _job(call, args)
            asked = {"asked": job.config.transform, "method": job.config.method}
            report = workflow.each(job, output.folder, _run_operators)
        except SamregError as error:
            _open.clear()
            told = anonymous(error, call)
            _leave_reason(told, output, asked)
            raise told from error
        except Exception as error:
            _open.clear()
            _leave_reason(_unexpected(error), output, asked, kind=type(error).__name__)
            raise
        _leave_answer(report, call, output)
        # What is in place now is whole: a stop would have nothing to say.
        _open.clear()
        output.commit()
    return report


def _leave_answer(report: Mapping[str, Any], call: Call, output: OutputFolder) -> None:
    """`result.json` and `metadata.json` beside the results."""
    kept = ("status", "reasons", "kind", "roles", "objects", "registrations")
    result = {key: report[key] for key in kept if key in report}
    code = workflow.exit_code(report)
    refused = code == InputRefused.exit_code  # one of several
    reason = {
        "exception": InputRefused.__name__ if refused else None,
        "exception_message": " ".join(report["reasons"]) if refused else None,
    }
    write_json(result | {"exit_code": code}, output.folder / "result.json")
    write_json(reason, output.folder / "metadata.json")
    if call.platform == "mercure":
        outputs.flatten(output.folder)  # it sends what lies at the top alone


def _run_operators(job: workflow.Job, folder: Path) -> dict[str, Any]:
    os.environ.setdefault("HOLOSCAN_LOG_LEVEL", "OFF")
    preload_cuda_runtime()
    from app.application import RegistrationApplication

    application = RegistrationApplication(job, folder)
    application.run()
    if application.report is None:
        # Holoscan ends without an error when an operator never ran.
        raise OutputInvalid("the operators ended without a report", reason="no-report")
    return application.report


def _leave_reason(error: SamregError, output: OutputFolder, asked: Mapping[str, Any], kind: str | None = None) -> None:
    """`report.json`, `result.json` and `metadata.json` with the reason, and nothing else."""
    output.clear()
    report = outputs.refusal_file(error, output.folder, **asked)
    result = {"status": report["status"], "reasons": report["reasons"], "exit_code": error.exit_code}
    write_json(result, output.folder / "result.json")
    reason = {"exception": kind or type(error).__name__, "exception_message": error.sentence}
    write_json(reason, output.folder / "metadata.json")
    output.commit()


def _unexpected(error: Exception) -> SamregError:
    # The message itself may name a patient; it is on stderr, not in files that travel.
    return SamregError(f"an unexpected failure ({type(error).__name__})", next_step="See the log", reason="unexpected")


def _job(call: Call, args: argparse.Namespace) -> workflow.Job:
    settings = dict(call.settings)
    named = {key: settings.pop(key, None) for key in ("fixed_series", "moving_series", "allow_different_patients")}
    named |= {key: getattr(args, key) for key in named if getattr(args, key)}
    different = named.pop("allow_different_patients")
    if not isinstance(different, bool | None):
        raise UsageError(f"'allow_different_patients' is a {type(different).__name__}", "true or false")
    for key, value in named.items():
        if value is not None and not (isinstance(value, str) and value):
            raise UsageError(f"'{key}' is {value!r}", "a SeriesInstanceUID")
    config = config_from(args, settings)
    if config.as_files:
        raise UsageError("'as_files' is true, which leaves the DICOM objects out", reason="as-files")
    return workflow.Job(
        fixed=call.fixed,
        moving=call.moving,
        out=call.out,
        config=config,
        allow_different_patients=bool(different),
        **named,
    )


def say(error: SamregError) -> int:
    """The sentence of an error in the log; returns its exit code."""
    log.error("%s", error.sentence)
    return error.exit_code
