"""The one way from sources to a folder of results or to a refusal. Every door takes it.

The command, the MONAI bundle and the container differ in how they are asked, in what registers a pair and in what they
leave beside the results; a `Door` says so. The order of things stands here alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samreg import artefacts
from samreg.config import Config
from samreg.doors import ending_the_process
from samreg.errors import InputRefused, SamregError
from samreg.output_folder import OutputFolder, check_folder, empty
from samreg.registry import find_proposer
from samreg.shipped import with_available_encoder
from samreg.sources import Inputs, Sources, check, check_inputs, describe, describe_constraints, load, several
from samreg.stopwatch import Progress

if TYPE_CHECKING:
    from samreg.result import RegistrationResult
    from samreg.session import Session

GATE_FAILED = 4
STATUSES = ("PASS", "REVIEW", "FAIL", "REFUSED")  # the best first


class Door:
    """How the command and the bundle run; another door overrides what is different there.

    Args:
        on_progress: Called with the stage's name and its fraction done, 0..1.

    Attributes:
        output: The folder that is being written, as long as it is neither whole nor given up.
    """

    def __init__(self, on_progress: Progress | None = None) -> None:
        self.on_progress = on_progress
        self.output: OutputFolder | None = None

    def pair(self, sources: Sources, session: Session, folder: Path) -> dict[str, Any]:
        """Register one pair with the models of a session, and write its files into an existing folder.

        Returns:
            The contents of `report.json`.
        """
        from samreg import outputs

        self.progress("read", 0.0)
        result = compute(load(sources, session.config), session, self.on_progress)
        self.progress("write", 0.0)
        return outputs.write_files(result, folder)

    def beside(self, report: Mapping[str, Any], folder: Path) -> None:
        """Leave files of the door's own beside the results, before the folder is put in place."""

    def told(self, error: Exception) -> SamregError | None:
        """What the output folder, and whoever called, are told of an error; None: the folder stays as it was."""
        return error if isinstance(error, InputRefused) else None

    def beside_reason(self, error: SamregError, folder: Path) -> None:
        """Leave files of the door's own beside the report of a refusal."""

    def progress(self, stage: str, fraction: float) -> None:
        """Tell of the work, if anybody listens."""
        if self.on_progress is not None:
            self.on_progress(stage, fraction)


def run(sources: Sources, out: Path, config: Config | None = None, door: Door | None = None) -> dict[str, Any]:
    """Load, register and write; the folder holds all of the results or none.

    A refusal leaves `report.json` with the reason in the folder, and nothing else. Where the configuration allows
    several moving series, each has a sub-folder `moving-1`, `moving-2` … with `registrations.json` beside them; a
    refusal of one of several leaves its reason in its folder, and does not stop the others.

    Args:
        sources: What to register.
        out: Folder of the results.
        config: Everything that decides the result; default `Config()`.
        door: How it is done; default as by the command.

    Returns:
        The contents of `report.json`, or of `registrations.json`: `status` and `reasons` over all, and the
        `registrations` with their `folder`, `status`, `reasons`, `kind`, `roles` and `objects`.

    Raises:
        UsageError: Wrong paths, or an output folder that must not be used.
        InputRefused: The input is not safe to register.
        OutputInvalid: What was written does not reproduce the result.

    Example:
        run(Sources("fixed/", "moving/"), Path("out"))
    """
    config, door = config or Config(), door or Door()
    check_inputs(*sources.paths)
    with OutputFolder(out, sources.paths) as output:
        door.output = output
        try:
            report = _every_pair(sources, config, output.folder, door)
            door.beside(report, output.folder)
        except Exception as error:
            door.output = None
            told = door.told(error)
            if told is None:
                raise
            leave_reason(told, output, door, config)
            if told is error:
                raise
            raise told from error
        # What is put in place now is whole: a stop would have nothing to say.
        door.output = None
        output.commit()
    door.progress("write", 1.0)
    return report


def refuse(error: SamregError, out: Path, inputs: Iterable[Path], door: Door) -> None:
    """Leave the reason why nothing is registered, where not even sources and configuration can be told.

    Raises:
        UsageError: An output folder that must not be used.
    """
    with OutputFolder(out, inputs) as output:
        leave_reason(error, output, door)


def leave_reason(error: SamregError, output: OutputFolder, door: Door, config: Config | None = None) -> None:
    """Put `report.json` with the reason in place, and what the door leaves beside it; nothing else."""
    from samreg import outputs

    output.clear()
    outputs.refusal_file(error, output.folder, **_asked(config))
    door.beside_reason(error, output.folder)
    output.commit()


def _every_pair(sources: Sources, config: Config, folder: Path, door: Door) -> dict[str, Any]:
    from samreg import outputs
    from samreg.session import Session

    parts = several(sources, config)
    if not parts:
        return door.pair(sources, Session(config), folder)
    session = Session(config.with_values({"series": {"several_moving": False}}))
    registrations = []
    for number, part in enumerate(parts, 1):
        place = folder / artefacts.part_name(number)
        place.mkdir()
        try:
            report = door.pair(part, session, place)
        except InputRefused as error:
            empty(place)
            report = outputs.refusal_file(door.told(error) or error, place, **_asked(config))
        kept = {key: report[key] for key in ("status", "reasons", "kind", "roles", "objects")}
        registrations.append({"folder": place.name, **kept})
    worst = max((entry["status"] for entry in registrations), key=STATUSES.index)
    reasons = [f"{entry['folder']}: {' '.join(entry['reasons'])}" for entry in registrations if entry["reasons"]]
    document = {"status": worst, "reasons": reasons, "registrations": registrations}
    artefacts.write_document("registrations", document, folder)
    return document


def _asked(config: Config | None) -> dict[str, Any]:
    return {} if config is None else {"asked": config.transform, "method": config.method}


def compute(inputs: Inputs, session: Session, on_progress: Progress | None = None) -> RegistrationResult:
    """Register what was read.

    Args:
        inputs: The two images.
        session: What they are registered with.
        on_progress: Called with the stage's name and its fraction done, 0..1.

    Raises:
        InputRefused: The images cannot be registered.
    """
    return inputs.told_in(
        session.register(
            inputs.fixed,
            inputs.moving,
            fixed_labels=inputs.fixed_labels,
            moving_labels=inputs.moving_labels,
            constraints=inputs.constraints,
            on_progress=on_progress,
        )
    )


def exit_code(report: Mapping[str, Any]) -> int:
    """0 for a result, 4 for one that failed its quality gate, 3 where one of several was refused."""
    return {"FAIL": GATE_FAILED, "REFUSED": InputRefused.exit_code}.get(report["status"], 0)


def run_or_exit(sources: Sources, out: Path | str, config: Config | None = None) -> dict[str, Any]:
    """`run` for a door that ends the process: a refusal is one sentence on stderr and an exit code.

    Returns:
        The contents of `report.json`, unless the process ends.

    Raises:
        SystemExit: With the exit code of the error, or 4 if the result failed its gate.
    """
    with ending_the_process():
        report = run(sources, Path(out), config)
    if exit_code(report):
        sys.stderr.write(f"samreg: {' '.join(report['reasons'])}\n")
        raise SystemExit(exit_code(report))
    return report


def plan(sources: Sources, out: Path, config: Config | None = None) -> dict[str, Any]:
    """What `run` would do, from headers alone, or from the images where constraints are given; nothing is written.

    Returns:
        The images (see `samreg.io.describe_pair`) with `refused`, None or why they, or what the transform is asked to
        respect, would be; the `constraints` (see `Constraints.as_dict`, None for none); the method, the transform asked
        for, what would be done in place of what was asked, and where the results would stand.

    Raises:
        UsageError: Whatever `run` would refuse before it registers.
    """
    config = config or Config()
    check_inputs(*sources.paths)
    check_folder(out, sources.paths)
    check(sources, config)
    described = describe(sources, config) | {"constraints": None}
    if described["refused"] is None:
        try:
            described["constraints"] = describe_constraints(sources, config)
        except InputRefused as error:
            described["refused"] = error.as_dict()
    installed, fallbacks = with_available_encoder(config)
    proposer = find_proposer(installed.proposals.proposer, installed.encoder, labelled=sources.labelled)
    return {
        **described,
        "method": config.method,
        "transform": config.transform,
        "encoder": installed.encoder,
        "proposer": proposer.name,
        "fallbacks": list(fallbacks),
        "configuration": config.hash,
        "out": str(out),
    }
