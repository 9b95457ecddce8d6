"""A call answered: the operators run, and the output folder holds the results or the reason alone."""

from __future__ import annotations

import argparse
import logging
import os
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.orchestrators import Call
from app.process import STOPPED, preload_cuda_runtime
from samreg import artefacts, outputs
from samreg.availability import own_classes
from samreg.cli_options import config_from
from samreg.config import Config
from samreg.errors import InputRefused, OutputInvalid, SamregError, UsageError
from samreg.run import Door, exit_code, leave_reason, refuse, run
from samreg.session import Session
from samreg.sources import Sources, check_inputs

log = logging.getLogger("samreg.app")

ROLES = ("fixed", "moving")  # names of folders that say nothing of a patient
_open: list[Container] = []  # the doors that may be writing, for `stopped`


class Stopped(SamregError):  # noqa: N818
    """Ended from outside."""

    exit_code = STOPPED


class Unexpected(SamregError):  # noqa: N818
    """A failure that nobody foresaw, without its message, which may name a patient.

    Args:
        error: What was raised.
    """

    def __init__(self, error: Exception) -> None:
        self.kind = type(error).__name__
        super().__init__(f"the run failed unexpectedly ({self.kind})", next_step="See the log.", reason="unexpected")


class Container(Door):
    """The operators register a pair; `result.json` and `metadata.json` stand beside results and reasons.

    Args:
        call: Whose output folder is written.
    """

    def __init__(self, call: Call) -> None:
        super().__init__()
        self.call = call

    def pair(self, sources: Sources, session: Session, folder: Path) -> dict[str, Any]:
        """Run the operators on one pair.

        Returns:
            The contents of `report.json`.

        Raises:
            OutputInvalid: They ended without a report.
        """
        os.environ.setdefault("HOLOSCAN_LOG_LEVEL", "OFF")
        preload_cuda_runtime()
        from app.application import RegistrationApplication

        application = RegistrationApplication(sources, session, folder)
        application.run()
        if application.report is None:
            # Holoscan ends without an error when an operator never ran.
            raise OutputInvalid("the operators ended without a report", reason="no-report")
        return application.report

    def beside(self, report: Mapping[str, Any], folder: Path) -> None:
        """What orchestrators read, and copies of the objects for one that sends only what lies at the top."""
        kept = ("status", "reasons", "kind", "roles", "objects", "registrations")
        result = {key: report[key] for key in kept if key in report}
        code = exit_code(report)
        refused = code == InputRefused.exit_code  # one of several
        reason = {
            "exception": InputRefused.__name__ if refused else None,
            "exception_message": " ".join(report["reasons"]) if refused else None,
        }
        artefacts.write_document("result", result | {"exit_code": code}, folder)
        artefacts.write_document("metadata", reason, folder)
        if self.call.platform == "mercure":
            outputs.flatten(folder)

    def beside_reason(self, error: SamregError, folder: Path) -> None:
        """What orchestrators read."""
        result = {"status": "REFUSED", "reasons": [error.sentence], "exit_code": error.exit_code}
        kind = error.kind if isinstance(error, Unexpected) else type(error).__name__
        artefacts.write_document("result", result, folder)
        artefacts.write_document("metadata", {"exception": kind, "exception_message": error.sentence}, folder)

    def told(self, error: Exception) -> SamregError:
        """Every error is told, without what may name a patient."""
        return anonymous(error, self.call) if isinstance(error, SamregError) else _unexpected(error)

    def stop(self, error: SamregError) -> None:
        """Leave the reason why nothing is finished, although another thread may still be writing."""
        output = self.output  # which the other thread may let go of meanwhile
        if output is not None:
            output.set_apart()
            leave_reason(error, output, self)
            output.close()


def answer(call: Call, args: argparse.Namespace, wrong: SamregError | None = None) -> int:
    """Register what was asked for; returns the exit code.

    Args:
        call: Of the platform.
        args: Options, which come before the call's settings.
        wrong: Why no call can be followed; each output folder gets the reason.
    """
    log.info("The caller is %s.", call.platform)
    door = Container(call)
    _open[:] = [door]
    try:
        if error := wrong or call.wrong:
            return _refused(error, door)
        check_inputs(*_images(call))
        try:
            sources, config = _asked(call, args)
        except SamregError as error:
            return _refused(error, door)
        return exit_code(run(sources, call.out, config, door))
    except SamregError as error:
        return say(error)
    except Exception as error:  # noqa: BLE001 - its own message may name a patient, and other calls may follow
        return say(_unexpected(error))


def _refused(error: SamregError, door: Container) -> int:
    """Leave the reason why a call is not followed; returns the exit code."""
    told = anonymous(error, door.call)
    code = say(told)
    refuse(told, door.call.out, _images(door.call), door)
    return code


def stopped() -> None:
    """Leave the reason why the process ends now."""
    error = Stopped("the process was stopped from outside (SIGTERM)", next_step="Start it again.", reason="stopped")
    for door in _open:
        door.stop(error)
    say(error)


def anonymous(error: SamregError, call: Call) -> SamregError:
    """The error without the names of files and folders below the input, which may be those of patients."""
    paths = [path for folder in _images(call) if folder.is_dir() for path in sorted(folder.rglob("*"))]
    texts = [error.got, error.expected, error.next_step]
    for number, path in enumerate(paths, 1):
        if path.name not in ROLES:
            texts = [text.replace(f"'{path.name}'", f"file {number} of {len(paths)}") for text in texts]
    told = type(error)(*texts, reason=error.reason)
    told.role = error.role
    return told


def _images(call: Call) -> list[Path]:
    return [path for path in (call.fixed, call.moving) if path is not None]


def _unexpected(error: Exception) -> Unexpected:
    """Where it happened goes to the log, and what was said nowhere."""
    for frame in traceback.extract_tb(error.__traceback__):
        log.error("at %s:%s in %s", frame.filename, frame.lineno, frame.name)
    return Unexpected(error)


def _asked(call: Call, args: argparse.Namespace) -> tuple[Sources, Config]:
    """What the call's settings and the options mean.

    Raises:
        UsageError: They cannot be followed.
    """
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
        raise UsageError("'as_files' is true and leaves the DICOM objects out", reason="as-files")
    if own := own_classes(config):
        raise UsageError(f"'{own[0]}' is a class of the caller's own", reason="own-class")
    return Sources(call.fixed, call.moving, allow_different_patients=bool(different), **named), config


def say(error: SamregError) -> int:
    """The sentence of an error in the log; returns its exit code."""
    log.error("%s", error.sentence)
    return error.exit_code
