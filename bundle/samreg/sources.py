"""From paths to images: what is registered, which image is fixed and which is moving."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from samreg.availability import check_config
from samreg.config import Config, SeriesConfig
from samreg.constraints.inputs import ConstraintInputs
from samreg.errors import InputRefused, UsageError

if TYPE_CHECKING:
    from samreg.constraints.model import Constraints
    from samreg.geometry import Volume
    from samreg.io import Roles
    from samreg.result import RegistrationResult
    from samreg.types import Labels


@dataclass(frozen=True)
class Sources:
    """What a registration is given, as paths.

    Attributes:
        fixed: DICOM folder, image file or picture. For `moving` None, a folder that holds both series (see
            `samreg.io.find_pair`).
        moving: DICOM folder, image file or picture.
        fixed_series, moving_series: SeriesInstanceUID where a folder holds several.
        fixed_rois, moving_rois: Label maps on the images' grids; equal numbers are pairs (Case 1).
        allow_different_patients: Do not refuse a pair whose patient attributes differ.
        pixel_spacing_mm: (x, y) of pictures that do not state it.
        constraints: What the transform is asked to respect.

    Raises:
        UsageError: A label map of one image alone.

    Example:
        >>> Sources("fixed/", "moving/").fixed.name
        'fixed'
    """

    fixed: Path
    moving: Path | None = None
    fixed_series: str | None = None
    moving_series: str | None = None
    fixed_rois: Path | None = None
    moving_rois: Path | None = None
    allow_different_patients: bool = False
    pixel_spacing_mm: tuple[float, float] | None = None
    constraints: ConstraintInputs = field(default_factory=ConstraintInputs)

    def __post_init__(self) -> None:
        for name in ("fixed", "moving", "fixed_rois", "moving_rois"):
            if (path := getattr(self, name)) is not None:
                object.__setattr__(self, name, Path(path))
        if (self.fixed_rois is None) != (self.moving_rois is None):
            raise UsageError(
                "a label map of only one image is given", "label maps of both images", "Give the other one too."
            )

    @property
    def images(self) -> list[Path]:
        """The paths of the images."""
        return [path for path in (self.fixed, self.moving) if path is not None]

    @property
    def paths(self) -> list[Path]:
        """Every path that is read."""
        rois = [path for path in (self.fixed_rois, self.moving_rois) if path is not None]
        return [*self.images, *rois, *self.constraints.paths]

    @property
    def labelled(self) -> bool:
        """Whether label maps are given, so that no regions need be proposed."""
        return self.fixed_rois is not None


@dataclass(frozen=True)
class Inputs:
    """The two images of a registration, and what else was read with them.

    Attributes:
        fixed_labels, moving_labels: [i, j, k] integers on the images' grids, or None.
        constraints: What the transform is asked to respect.
        roles: How the fixed and the moving image were chosen, one sentence.
        series: Why each series of a study was taken or left.
        seconds: Time taken to read.
    """

    fixed: Volume
    moving: Volume
    fixed_labels: Labels | None = None
    moving_labels: Labels | None = None
    constraints: Constraints | None = None
    roles: str = "as given"
    series: tuple[str, ...] = ()
    seconds: float = 0.0

    def told_in(self, result: RegistrationResult) -> RegistrationResult:
        """A result that says how its images were chosen, and how long it took to read them."""
        timings_s = {"read": self.seconds, **result.timings_s}
        return replace(result, roles=self.roles, series=self.series, timings_s=timings_s)


def check_inputs(*paths: Path | str | None) -> None:
    """Refuse a path that does not exist; None is passed over.

    Raises:
        UsageError: One of them does not exist.
    """
    for path in paths:
        if path is not None and ("\0" in str(path) or not os.access(path, os.F_OK)):
            raise UsageError(f"the input '{path}' does not exist", "a folder or file that can be read")


def picture_spacings(paths: Iterable[Path], given: Sequence[float] | None) -> list[Sequence[float] | None]:
    """The pixel spacing to read each image with: the given one for a picture, None for other formats.

    Raises:
        UsageError: A spacing is given and no image is a picture.
        InputRefused: An unknown format.
    """
    from samreg.io.formats import image_format

    pictures = [image_format(path) == "picture" for path in paths]
    if given is not None and not any(pictures):
        raise UsageError(
            "a pixel spacing is given and no image is a picture", "PNG, JPEG or TIFF", "Leave --pixel-spacing out."
        )
    return [given if picture else None for picture in pictures]


def check(sources: Sources, config: Config) -> None:
    """Refuse, before any image is read, sources and a configuration that cannot be followed here.

    Raises:
        UsageError: An option or a configuration that cannot be followed.
    """
    check_config(config, labelled=sources.labelled)
    # An unknown format is the input's fault, and is told as such when it is read.
    with suppress(InputRefused):
        picture_spacings(sources.images, sources.pixel_spacing_mm)


def load(sources: Sources, config: Config | None = None) -> Inputs:
    """Read the images and label maps, once the configuration can be followed.

    Args:
        sources: What to read.
        config: Says which series is what (`series`), and whether DICOM objects are asked for; default `Config()`.

    Raises:
        UsageError: An option or a configuration that cannot be followed.
        InputRefused: The input is not safe to register.
    """
    config = config or Config()
    check(sources, config)
    return read(sources, config)


def read(sources: Sources, config: Config) -> Inputs:
    """As `load`, of a configuration that was checked.

    Raises:
        UsageError: Rules for series that are not DICOM, or that leave several moving series.
        InputRefused: The input is not safe to register.
    """
    from samreg import io

    started = perf_counter()
    chosen = _chosen(sources, config)
    if chosen.among > 1:
        raise UsageError(
            f"{chosen.among} series can be the moving one (series.several_moving is true)",
            "one moving series",
            "Say in series.moving which one it is, or use `samreg.run.run`, which registers each of them.",
        )
    fixed, moving = io.read_pair(chosen.fixed, chosen.moving, **chosen.options)
    return Inputs(
        fixed,
        moving,
        fixed_labels=None if sources.fixed_rois is None else io.read_labels(sources.fixed_rois, fixed),
        moving_labels=None if sources.moving_rois is None else io.read_labels(sources.moving_rois, moving),
        constraints=sources.constraints.read(fixed, moving),
        roles=chosen.roles,
        series=chosen.series,
        seconds=perf_counter() - started,
    )


def describe(sources: Sources, config: Config) -> dict[str, Any]:
    """What `load` would read, from headers alone.

    Returns:
        The images (see `samreg.io.describe_pair`) with `refused`, None or why they would be; `roles` and `series`, how
        they were chosen.

    Raises:
        UsageError: Rules for images that are no DICOM series.
        InputRefused: The series cannot be chosen.
    """
    from samreg import io

    chosen = _chosen(sources, config)
    described = io.describe_pair(chosen.fixed, chosen.moving, **chosen.options)
    return {**described, "roles": chosen.roles, "series": list(chosen.series)}


def describe_constraints(sources: Sources, config: Config) -> dict[str, Any] | None:
    """What the transform is asked to respect, read and checked as by `load`; of several moving series, with the first.

    Masks and landmarks are checked against their images, so that these are read too.

    Returns:
        As `Constraints.as_dict`; None where nothing is asked.

    Raises:
        UsageError: As `several` and `load`.
        InputRefused: An image or a constraint that cannot be used.
    """
    if not sources.constraints:
        return None
    one, *_ = several(sources, config) or (sources,)
    inputs = read(one, config.with_values({"series": {"several_moving": False}}))
    return None if inputs.constraints is None else inputs.constraints.as_dict()


def several(sources: Sources, config: Config) -> tuple[Sources, ...]:
    """The sources of each registration where the rules allow several moving series; else none.

    Raises:
        UsageError: Rules for images that are no DICOM series, or constraints of one moving image.
        InputRefused: As `samreg.io.find_roles`.
    """
    roles = _roles(sources, config) if config.series.several_moving else None
    if roles is None:
        return ()
    if sources.constraints.of_one_moving_image:
        raise UsageError(
            "landmarks or a mask of one moving image are given where several are registered (series.several_moving)",
            "constraints of the fixed image alone",
            "Register each moving series by itself, with its own constraints.",
        )
    return tuple(
        replace(sources, fixed_series=roles.fixed.series_uid, moving_series=moving.series_uid)
        for moving in roles.moving
    )


@dataclass(frozen=True)
class _Chosen:
    """What is fixed and what is moving, the options to read them with, and how they were chosen."""

    fixed: Any
    moving: Any
    options: dict[str, Any]
    roles: str = "as given"
    series: tuple[str, ...] = ()
    among: int = 1  # moving series that the rules allow


def _chosen(sources: Sources, config: Config) -> _Chosen:
    options: dict[str, Any] = {
        "allow_different_patients": sources.allow_different_patients,
        "pixel_spacing_mm": sources.pixel_spacing_mm,
        "as_files": config.as_files,
    }
    if roles := _roles(sources, config):
        return _Chosen(roles.fixed, roles.moving[0], options, roles.sentence, roles.decisions, len(roles.moving))
    uids = {"fixed_series": sources.fixed_series, "moving_series": sources.moving_series}
    return _Chosen(sources.fixed, sources.moving, options | uids)


def _roles(sources: Sources, config: Config) -> Roles | None:
    """What the rules choose; None where the two inputs say it all.

    Raises:
        UsageError: Rules for images that are no DICOM series.
        InputRefused: As `samreg.io.find_roles`.
    """
    from samreg import io
    from samreg.io.formats import image_format

    rules = _rules(sources, config.series)
    if sources.moving is None:
        return io.find_roles(sources.fixed, rules, as_files=config.as_files)
    if config.series == SeriesConfig():
        return None
    if {image_format(path) for path in sources.images} != {"DICOM"}:
        raise UsageError(
            "rules for series (series.…) are given for images that are not DICOM", "two DICOM folders, or no rules"
        )
    return io.roles_of(sources.fixed, sources.moving, rules, as_files=config.as_files)


def _rules(sources: Sources, rules: SeriesConfig) -> SeriesConfig:
    """Which series is what: the rules of the configuration, with the given UIDs."""
    given = {"fixed": sources.fixed_series, "moving": sources.moving_series}
    return rules.with_values({role: {"series_uid": uid} for role, uid in given.items() if uid})
