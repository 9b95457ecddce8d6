"""From paths to a folder of results: the one way that every door takes.

The command, the MONAI bundle and the MONAI Deploy application differ in how they are asked; all of
them load, register and write with the functions here, and so agree.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from samreg.availability import check_config
from samreg.config import Config, SeriesConfig
from samreg.doors import ending_the_process
from samreg.errors import InputRefused, UsageError
from samreg.output_folder import SEVERAL, OutputFolder, check_folder, empty
from samreg.registry import find_proposer
from samreg.shipped import with_what_is_installed

if TYPE_CHECKING:
    from samreg.geometry import Volume
    from samreg.io import Roles
    from samreg.result import RegistrationResult
    from samreg.types import Labels

log = logging.getLogger(__name__)

Progress = Callable[[str, float], None]
GATE_FAILED = 4
STATUSES = ("PASS", "REVIEW", "FAIL", "REFUSED")  # the best first


@dataclass(frozen=True)
class Job:
    """One registration, from paths to a folder.

    Attributes:
        fixed, moving: DICOM folders, image files or pictures. For `moving` None, `fixed` is a folder
            that holds both series (see `samreg.io.find_pair`).
        out: Folder of the results.
        config: Everything that decides the result.
        fixed_series, moving_series: SeriesInstanceUID where a folder holds several.
        fixed_rois, moving_rois: Label maps on the images' grids; equal numbers are pairs (Case 1).
        allow_different_patients: Do not refuse a pair whose patient attributes differ.
        pixel_spacing_mm: (x, y) of pictures that do not state it.
    """

    fixed: Path
    moving: Path | None
    out: Path
    config: Config = field(default_factory=Config)
    fixed_series: str | None = None
    moving_series: str | None = None
    fixed_rois: Path | None = None
    moving_rois: Path | None = None
    allow_different_patients: bool = False
    pixel_spacing_mm: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for name in ("fixed", "moving", "out", "fixed_rois", "moving_rois"):
            if (path := getattr(self, name)) is not None:
                object.__setattr__(self, name, Path(path))
        if (self.fixed_rois is None) != (self.moving_rois is None):
            raise UsageError("a label map of one image alone", "label maps of both images", "Give the other one too")

    @property
    def rules(self) -> SeriesConfig:
        """Which series is what: those of the configuration, with the given UIDs."""
        rules = self.config.series
        given = {"fixed": self.fixed_series, "moving": self.moving_series}
        return rules.with_values({role: {"series_uid": uid} for role, uid in given.items() if uid})

    @property
    def inputs(self) -> list[Path]:
        """Every path that is read.

        Raises:
            UsageError: One of them does not exist.
        """
        paths = [p for p in (self.fixed, self.moving, self.fixed_rois, self.moving_rois) if p is not None]
        check_inputs(*paths)
        return paths


@dataclass(frozen=True)
class Inputs:
    """What a job reads.

    Attributes:
        fixed_labels, moving_labels: [i, j, k] integers on the images' grids, or None.
        roles: How the fixed and the moving image were chosen, one sentence.
        series: Why each series of a study was taken or left.
        seconds: Time taken to read.
    """

    fixed: Volume
    moving: Volume
    fixed_labels: Labels | None = None
    moving_labels: Labels | None = None
    roles: str = "as given"
    series: tuple[str, ...] = ()
    seconds: float = 0.0


def check_inputs(*paths: Path | str | None) -> None:
    """Refuse a path that does not exist; None is passed over.

    Raises:
        UsageError: One of them does not exist.
    """
    for path in paths:
        if path is not None and ("\0" in str(path) or not os.access(path, os.F_OK)):
            raise UsageError(f"input '{path}' does not exist", "a folder or file that can be read")


def picture_spacings(paths: Iterable[Path], given: Sequence[float] | None) -> list[Sequence[float] | None]:
    """The pixel spacing to read each image with: the given one for a picture, None for other formats.

    Raises:
        UsageError: A spacing is given and no image is a picture.
        InputRefused: An unknown format.
    """
    from samreg.io.images import image_format

    pictures = [image_format(path) == "picture" for path in paths]
    if given is not None and not any(pictures):
        raise UsageError("a pixel spacing without a picture", "PNG, JPEG or TIFF", "Leave --pixel-spacing out")
    return [given if picture else None for picture in pictures]


def _check(job: Job) -> None:
    """What `run` and `plan` ask of the arguments before they read an image."""
    check_config(job.config, labelled=job.fixed_rois is not None)
    # An unknown format is the input's fault, and is told as such when it is read.
    with suppress(InputRefused):
        picture_spacings([p for p in (job.fixed, job.moving) if p is not None], job.pixel_spacing_mm)


def load(job: Job) -> Inputs:
    """Read the images and label maps of a job, once its configuration can be followed (`check_config`).

    Raises:
        UsageError: A path, an option or a configuration that cannot be followed.
        InputRefused: The input is not safe to register.
    """
    from samreg import io

    _check(job)
    started = perf_counter()
    sources = _sources(job)
    a, b = io.read_pair(sources.fixed, sources.moving, **sources.options)
    return Inputs(
        a,
        b,
        fixed_labels=None if job.fixed_rois is None else io.read_labels(job.fixed_rois, a),
        moving_labels=None if job.moving_rois is None else io.read_labels(job.moving_rois, b),
        roles=sources.roles,
        series=sources.series,
        seconds=perf_counter() - started,
    )


@dataclass(frozen=True)
class _Sources:
    """What is fixed and what is moving, the options to read them with, and how they were chosen."""

    fixed: Any
    moving: Any
    options: dict[str, Any]
    roles: str = "as given"
    series: tuple[str, ...] = ()


def _sources(job: Job) -> _Sources:
    options = {"allow_different_patients": job.allow_different_patients, "pixel_spacing_mm": job.pixel_spacing_mm}
    options |= {"as_files": job.config.as_files}
    if roles := _roles(job):
        return _Sources(roles.fixed, roles.moving[0], options, roles.sentence, roles.decisions)
    uids = {"fixed_series": job.fixed_series, "moving_series": job.moving_series}
    return _Sources(job.fixed, job.moving, options | uids)


def _roles(job: Job) -> Roles | None:
    """What the rules choose; None where the two inputs say it all.

    Raises:
        UsageError: Rules for images that are no DICOM series.
        InputRefused: As `samreg.io.find_roles`.
    """
    from samreg import io
    from samreg.io.images import image_format

    if job.moving is None:
        return io.find_roles(job.fixed, job.rules, as_files=job.config.as_files)
    if job.config.series == SeriesConfig():
        return None
    if {image_format(path) for path in (job.fixed, job.moving)} != {"DICOM"}:
        raise UsageError("rules for series (series.…) of images that are not DICOM", "two DICOM folders, or no rules")
    return io.roles_of(job.fixed, job.moving, job.rules, as_files=job.config.as_files)


def compute(inputs: Inputs, config: Config, on_progress: Progress | None = None) -> RegistrationResult:
    """Register what was read.

    Raises:
        InputRefused: The images cannot be registered.
    """
    from samreg import session

    result = session.Session(config).register(
        inputs.fixed,
        inputs.moving,
        fixed_labels=inputs.fixed_labels,
        moving_labels=inputs.moving_labels,
        on_progress=on_progress,
    )
    return replace(
        result, roles=inputs.roles, series=inputs.series, timings_s={"read": inputs.seconds, **result.timings_s}
    )


def run(job: Job, on_progress: Progress | None = None) -> dict[str, Any]:
    """Load, register and write; the folder holds all of the results or none.

    A refusal leaves `report.json` with the reason in the folder, and nothing else. Where the job's rules allow several
    moving series, each has a folder of its own (see `each`).

    Args:
        job: What to register.
        on_progress: Called with the stage's name and its fraction done, 0..1.

    Returns:
        The contents of `report.json`, or of `registrations.json`.

    Raises:
        UsageError: Wrong paths, or an output folder that must not be used.
        InputRefused: The input is not safe to register.
        OutputInvalid: What was written does not reproduce the result.
    """
    from samreg import outputs

    report = on_progress or (lambda stage, fraction: None)

    def one(part: Job, folder: Path) -> dict[str, Any]:
        report("read", 0.0)
        result = compute(load(part), part.config, on_progress)
        report("write", 0.0)
        return outputs.write_files(result, folder)

    with OutputFolder(job.out, job.inputs) as output:
        try:
            document = each(job, output.folder, one)
        except InputRefused as error:
            outputs.refusal_file(error, output.folder, asked=job.config.transform, method=job.config.method)
            output.commit()
            raise
        output.commit()
    report("write", 1.0)
    return document


def each(job: Job, folder: Path, one: Callable[[Job, Path], dict[str, Any]]) -> dict[str, Any]:
    """Every registration of a job, into an existing folder.

    Several go into sub-folders `moving-1`, `moving-2` … with `registrations.json` beside them. A refusal of one of
    several leaves its reason in its folder, and does not stop the others.

    Args:
        job: What to register.
        folder: Where the results go.
        one: Registers a part of the job into a folder, and returns the contents of `report.json`.

    Returns:
        What `one` returned, or the contents of `registrations.json`: `status` and `reasons` over all, and the
        `registrations` with their `folder`, `status`, `reasons`, `kind`, `roles` and `objects`.

    Raises:
        InputRefused: The series cannot be chosen, or the only registration was refused.
    """
    from samreg import outputs
    from samreg.report import write_json

    asked = parts(job)
    if asked == (job,):
        return one(job, folder)
    registrations = []
    for part in asked:
        place = folder / part.out.name
        place.mkdir()
        try:
            report = one(part, place)
        except InputRefused as error:
            empty(place)
            report = outputs.refusal_file(error, place, asked=job.config.transform, method=job.config.method)
        kept = {key: report[key] for key in ("status", "reasons", "kind", "roles", "objects")}
        registrations.append({"folder": place.name, **kept})
    worst = max((entry["status"] for entry in registrations), key=STATUSES.index)
    reasons = [f"{entry['folder']}: {' '.join(entry['reasons'])}" for entry in registrations if entry["reasons"]]
    document = {"status": worst, "reasons": reasons, "registrations": registrations}
    write_json(document, folder / SEVERAL)
    return document


def parts(job: Job) -> tuple[Job, ...]:
    """The registrations that a job asks for: itself, or one for each moving series where its rules allow several.

    Raises:
        InputRefused: As `samreg.io.find_roles`.
    """
    roles = _roles(job) if job.rules.several_moving else None
    if roles is None:
        return (job,)
    return tuple(
        replace(
            job,
            out=job.out / f"moving-{number}",
            config=job.config.with_values({"series": {"several_moving": False}}),
            fixed_series=roles.fixed.series_uid,
            moving_series=moving.series_uid,
        )
        for number, moving in enumerate(roles.moving, 1)
    )


def exit_code(report: Mapping[str, Any]) -> int:
    """0 for a result, 4 for one that failed its quality gate, 3 where one of several was refused."""
    return {"FAIL": GATE_FAILED, "REFUSED": InputRefused.exit_code}.get(report["status"], 0)


def run_or_exit(job: Job) -> dict[str, Any]:
    """`run` for a door that ends the process: a refusal is one sentence on stderr and an exit code.

    Returns:
        The contents of `report.json`, unless the process ends.

    Raises:
        SystemExit: With the exit code of the error, or 4 if the result failed its gate.
    """
    with ending_the_process():
        report = run(job)
    if exit_code(report):
        sys.stderr.write(f"samreg: {' '.join(report['reasons'])}\n")
        raise SystemExit(exit_code(report))
    return report


def plan(job: Job) -> dict[str, Any]:
    """What `run` would do, from headers alone; nothing is written.

    Returns:
        The images (see `samreg.io.describe_pair`) with `refused`, None or why they would be; the
        method, the transform asked for, what would be done in place of what was asked, and where the
        results would stand.

    Raises:
        UsageError: Whatever `run` would refuse before it reads pixels.
    """
    from samreg import io

    check_folder(job.out, job.inputs)
    _check(job)
    sources = _sources(job)
    config, fallbacks = with_what_is_installed(job.config)
    return {
        **io.describe_pair(sources.fixed, sources.moving, **sources.options),
        "roles": sources.roles,
        "series": list(sources.series),
        "method": job.config.method,
        "transform": job.config.transform,
        "encoder": config.encoder,
        "proposer": find_proposer(config.proposals.proposer, config.encoder, labelled=job.fixed_rois is not None).name,
        "fallbacks": list(fallbacks),
        "configuration": job.config.hash,
        "out": str(job.out),
    }
