"""A result without the work: for tests of what stands around the pipeline."""

import numpy as np

from samreg.config import Config
from samreg.geometry import Volume
from samreg.image_arguments import as_sources, as_volumes
from samreg.result import Criterion, Quality, RegistrationResult
from samreg.rois import Roi, RoiPair, RoiPairs
from samreg.sources import read
from samreg.transforms import Rigid, Transform, about_centre
from samreg.types import Status


def instant_result(fixed: Volume, moving: Volume, config: Config | None = None, status: Status = "PASS"):
    """A small rotation with two pairs, whatever the images show."""
    transform = rotation(fixed)
    pairs = RoiPairs(fixed.grid, moving.grid, tuple(_pair(n, fixed, moving) for n in (1, 2)))
    reasons = () if status == "PASS" else ("The held-out pairs do not agree.",)
    criterion = Criterion("folding", "Share of the body that folds", "0", 0.0, "", "met", "AAPM TG-132")
    quality = Quality(status, reasons, (criterion,), {"ncc": 0.2}, {"ncc": 0.9})
    return RegistrationResult(
        fixed=fixed,
        moving=moving,
        transform=transform,
        inverse=transform.inverse(),
        kind="rigid",
        asked="rigid",
        stages={"rigid": transform},
        fallbacks=(),
        fixed_rois=pairs.fixed,
        moving_rois=pairs.moving,
        pairs=pairs,
        quality=quality,
        config=(config or Config()).with_values({"transform": "rigid"}),
        timings_s={"match": 0.1},
        peak_memory_mb=100.0,
    )


def rotation(fixed: Volume) -> Transform:
    """Three degrees about the middle of the fixed image, and a shift."""
    a = np.deg2rad(3.0)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    return Rigid(about_centre(turn, np.array([4.0, -2.0, 0.0]), fixed.grid.centre_lps))


def _pair(number: int, fixed: Volume, moving: Volume) -> RoiPair:
    return RoiPair(number, _box(fixed, number), _box(moving, number), 0.9, 0.8, held_out=number == 2)


def _box(volume: Volume, number: int) -> Roi:
    mask = np.ones([max(1, n // 6) for n in volume.grid.shape], bool)
    return Roi.from_mask(mask, offset=[(n * number) // 4 for n in volume.grid.shape])


class InstantPipeline:
    """Stands in for the pipeline.

    Attributes:
        status: Of the next results.
        calls: Number of registrations asked for.
        during: Called in the middle of the work.
    """

    def __init__(self) -> None:
        self.status: Status = "PASS"
        self.calls = 0
        self.during = lambda: None

    @property
    def register(self):
        """In place of `samreg.session.Session.register`."""
        return lambda session, *images, **options: self(*images, session.config, **options)

    def __call__(
        self, fixed, moving, config=None, *, fixed_labels=None, moving_labels=None, constraints=None, on_progress=None
    ):
        self.calls += 1
        self.labels, self.constraints = (fixed_labels, moving_labels), constraints
        for fraction in (0.0, 0.5, 1.0):
            if on_progress:
                on_progress("match", fraction)
        self.during()
        if (sources := as_sources(fixed, moving)) is not None:
            inputs = read(sources, config or Config())
            fixed, moving = inputs.fixed, inputs.moving
        fixed, moving = as_volumes(fixed, moving)
        return instant_result(fixed, moving, config, self.status)
