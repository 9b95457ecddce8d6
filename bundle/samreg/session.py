"""A session: the models of one configuration, loaded once, for as many pairs of images as there are."""

from __future__ import annotations

from functools import cached_property

from samreg.availability import check_config
from samreg.config import Config
from samreg.constraints.inputs import ConstraintInputs
from samreg.constraints.model import Constraints
from samreg.counterparts import Located
from samreg.counterparts.finding import PromptLike, counterpart_of
from samreg.device import find_device
from samreg.encoders import EncoderStore
from samreg.errors import UsageError
from samreg.image_arguments import Image, as_labels, as_sources, as_volumes
from samreg.pipeline import Tools, run
from samreg.registry import build, find_estimators
from samreg.result import RegistrationResult
from samreg.shipped import with_available_encoder
from samreg.sources import read
from samreg.stopwatch import Progress
from samreg.types import Labels


class Session:
    """Registers pairs of images with one configuration.

    Device, encoder and estimators are loaded, and the weights hashed, when the first pair asks for them. Nothing of a
    pair is kept for the next one. A session is for one thread at a time.

    Args:
        config: Everything that decides the results; default `Config()`.
        encoders: Of other sessions, so that those with the same weights and precision share them.

    Raises:
        UsageError: The configuration asks for something that is not installed (from the first pair on).

    Example:
        >>> session = Session(Config(transform="rigid"))
        >>> results = [session.register(fixed, moving) for fixed, moving in pairs]
    """

    def __init__(self, config: Config | None = None, *, encoders: EncoderStore | None = None) -> None:
        self.config = config or Config()
        self._encoders = encoders or EncoderStore()

    @cached_property
    def tools(self) -> Tools:
        """What every registration of the session works with."""
        config, notes = with_available_encoder(self.config)
        names = getattr(config.estimators, config.transform)
        estimators = [(entry.name, build(entry)) for entry in find_estimators(names)]
        return Tools(config, find_device(config.device), self._encoders.of(config), estimators, notes)

    def register(
        self,
        fixed: Image,
        moving: Image,
        *,
        fixed_labels: Image | Labels | None = None,
        moving_labels: Image | Labels | None = None,
        constraints: ConstraintInputs | Constraints | None = None,
        on_progress: Progress | None = None,
    ) -> RegistrationResult:
        """As `samreg.session.register`, with the configuration of the session.

        Arguments and result are explained there.

        Raises:
            UsageError: A label map of only one image is given, or constraints of another type.
            SamregError: As `samreg.session.register`.
        """
        if (fixed_labels is None) != (moving_labels is None):
            raise UsageError("a label map of only one image is given", "label maps of both images, or of neither")
        if not isinstance(constraints, ConstraintInputs | Constraints | None):
            raise UsageError(
                f"the constraints are of the type {type(constraints).__name__}",
                "`samreg.ConstraintInputs`",
                "Write constraints=samreg.ConstraintInputs(landmarks=…, keep_rigid=…).",
            )
        check_config(self.config, labelled=fixed_labels is not None)
        sources = as_sources(fixed, moving)
        inputs = read(sources, self.config) if sources is not None else None
        volumes = as_volumes(fixed, moving) if inputs is None else (inputs.fixed, inputs.moving)
        first, second = as_labels(fixed_labels, volumes[0]), as_labels(moving_labels, volumes[1])
        labels = None if first is None or second is None else (first, second)
        if isinstance(constraints, ConstraintInputs):
            constraints = constraints.read(*volumes)
        tools = self.tools
        try:
            result = run(*volumes, tools, labels, on_progress, constraints)
        finally:
            tools.encoder.forget()
        return result if inputs is None else inputs.told_in(result)

    def locate(
        self, fixed: Image, moving: Image, prompt: PromptLike, *, on_progress: Progress | None = None
    ) -> Located:
        """As `samreg.session.locate`, with the configuration of the session.

        Arguments and result are explained there.

        Raises:
            SamregError: As `samreg.session.locate`.
        """
        check_config(self.config)
        if (sources := as_sources(fixed, moving)) is not None:
            # An answer is no DICOM object, so nothing is asked of the series' identifiers.
            inputs = read(sources, self.config.with_values({"as_files": True}))
            volumes = inputs.fixed, inputs.moving
        else:
            volumes = as_volumes(fixed, moving)
        tools = self.tools

        def register() -> RegistrationResult:
            return self.register(*volumes, on_progress=on_progress)

        try:
            return counterpart_of(*volumes, prompt, tools, register, on_progress)
        finally:
            tools.encoder.forget()


def register(
    fixed: Image,
    moving: Image,
    config: Config | None = None,
    *,
    fixed_labels: Image | Labels | None = None,
    moving_labels: Image | Labels | None = None,
    constraints: ConstraintInputs | Constraints | None = None,
    on_progress: Progress | None = None,
) -> RegistrationResult:
    """Register one pair of images; for several with one configuration `Session` loads the models once.

    Args:
        fixed, moving: Volumes, paths that `samreg.io` reads, or images of `samreg.ecosystem.PACKAGES`. Of two DICOM
            folders, `config.series` chooses the series.
        config: Everything that decides the result; default `Config()`.
        fixed_labels, moving_labels: Label maps on the images' grids, as arrays [i, j, k] or as the images may be given;
            regions with the same number are pairs (Case 1 of SAMReg). Both or neither.
        constraints: What the transform is asked to respect: masks of what counts, landmarks, and regions of the moving
            image that keep their volume or their shape. As a caller gives them, or as they were read.
        on_progress: Called with the stage's name and its share done, 0..1.

    Returns:
        The result, whatever its status; see `RegistrationResult.quality`.

    Raises:
        InputRefused: The images cannot be registered.
        UsageError: The configuration asks for something that is not there, or for more memory than there is.
        EstimatorFailed: An estimator failed.

    Example:
        >>> result = samreg.register("fixed/", "moving/")
        >>> result.transform.map_points([[0.0, 10.0, -20.0]])
    """
    return Session(config).register(
        fixed,
        moving,
        fixed_labels=fixed_labels,
        moving_labels=moving_labels,
        constraints=constraints,
        on_progress=on_progress,
    )


def locate(
    fixed: Image,
    moving: Image,
    prompt: PromptLike,
    config: Config | None = None,
    *,
    on_progress: Progress | None = None,
) -> Located:
    """The region that a prompt means in the fixed image, and its counterpart in the moving one.

    The encoder "sam" answers by prompts in both images. With any other the images are registered: a point means the
    smallest paired region that it lies in, and a box or a given region is mapped by the transform.

    Args:
        fixed, moving: Volumes, paths that `samreg.io` reads, or images of `samreg.ecosystem.PACKAGES`. Of two DICOM
            folders, `config.series` chooses the series.
        prompt: `Point`, `Box` or `GivenRoi` in the fixed image, or a point as [3] LPS mm.
        config: Everything that decides the result; default `Config()`.
        on_progress: Called with the stage's name and its share done, 0..1.

    Returns:
        Both regions with a confidence; 0 where the registration failed its gate.

    Raises:
        InputRefused: A prompt outside the image or on nothing, or no region that answers it.
        UsageError: The configuration asks for something that is not there, or for more memory than there is.

    Example:
        >>> locate("fixed/", "moving/", Point([-12.5, 40, 88])).as_dict()["moving"]["centroid_lps_mm"]
    """
    return Session(config).locate(fixed, moving, prompt, on_progress=on_progress)
