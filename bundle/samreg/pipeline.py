"""The order of a registration: regions → pairs → ladder → quality. The only place that knows it."""

from __future__ import annotations

import logging
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

import samreg
from samreg.config import Config
from samreg.constraints.measuring import ConstraintReport, measured
from samreg.constraints.model import Constraints, counted_body
from samreg.device import within_memory
from samreg.encoders import Encoder
from samreg.estimation.base import Estimator, Problem, linear_part
from samreg.estimation.image_pair import ImagePair
from samreg.estimation.rigid import mirror_ratio
from samreg.evidence import overlap
from samreg.examiner import PairExaminer
from samreg.geometry import Volume, field_scale, finest_spacing_mm
from samreg.image_arguments import check_images
from samreg.ladder import Climb, EstimatorFailed, climb
from samreg.memory import PeakMemory
from samreg.pairing import Pairing
from samreg.preprocess import body_mask, working_volume
from samreg.quality import Findings, gate, stands_out
from samreg.regions import RegionFinder
from samreg.result import Quality, RegistrationResult
from samreg.stopwatch import Progress, Stopwatch
from samreg.threads import in_parallel, limited
from samreg.transforms import Affine, Rigid, Transform
from samreg.types import Labels

logger = logging.getLogger(__name__)

BODY_MM = 4.0  # of a field of view of 256 mm, and scales with it


@dataclass(frozen=True, eq=False)
class Tools:
    """What a registration works with, whatever the images.

    Attributes:
        config: Everything that decides the result.
        device: Where tensors live.
        encoder: That reads the images.
        estimators: Those of the configuration with their names, in order.
        notes: What was put in place of what the configuration asks for, one sentence each.
    """

    config: Config
    device: str
    encoder: Encoder
    estimators: Sequence[tuple[str, Estimator]]
    notes: tuple[str, ...] = ()


def run(
    fixed: Volume,
    moving: Volume,
    tools: Tools,
    labels: tuple[Labels, Labels] | None = None,
    on_progress: Progress | None = None,
    constraints: Constraints | None = None,
) -> RegistrationResult:
    """Register a moving to a fixed image.

    Args:
        fixed, moving: The images.
        tools: What to work with.
        labels: Label maps [i, j, k] on the grids of both images; regions with the same number are pairs (Case 1).
        on_progress: Called with the stage's name and its share done, 0..1.
        constraints: What the transform is asked to respect; default nothing.

    Raises:
        InputRefused: The images cannot be registered.
        UsageError: There is not enough memory.
        EstimatorFailed: An estimator failed.
    """
    config, peak, watch = tools.config, PeakMemory(), Stopwatch(on_progress)
    constraints = constraints or Constraints()
    for note in tools.notes:
        logger.warning("Fall-back: %s", note)
    with within_memory(), limited(config.threads) as threads:
        with watch.stage("prepare"):
            images = _image_pair(fixed, moving, constraints, tools)
        masks = constraints.fixed_mask, constraints.moving_mask
        finder = RegionFinder(images.fixed, images.moving, config, tools.encoder, labels, masks)
        with watch.stage("regions") as progress:
            segmented = finder.segmented(progress)
        pairing = Pairing(finder, *segmented, tools.encoder, config, watch.stage)
        problem = Problem(
            images,
            *segmented,
            config.estimation,
            pairing.under,
            tools.encoder.encode,
            labelled=labels is not None,
            calibrated=tools.encoder.calibration.fitted_on is not None,
            constraints=constraints,
        )
        examiner = PairExaminer(problem, config.quality.min_pairs)
        hashes = fixed.content_hash, moving.content_hash
        climbed = climb(problem, tools.estimators, examiner, stage=watch.stage)
        if (fixed.content_hash, moving.content_hash) != hashes:
            raise EstimatorFailed(
                "an estimator changed the images that it was given", "estimators that leave the problem as it is",
                "Copy what is changed. Read the images again: they are no longer those that were read.",
                reason="estimator-failed",
            )  # fmt: skip
        matched = pairing.under(linear_part(climbed.best.transform))
        with watch.stage("quality"):
            inverse = climbed.best.transform.inverse()
            respected = measured(climbed.best.transform, inverse, constraints) if constraints else None
            quality = _quality(climbed, inverse, problem, examiner, config, respected)
        return RegistrationResult(
            fixed=fixed,
            moving=moving,
            transform=climbed.best.transform,
            inverse=inverse,
            kind=climbed.best.kind,
            asked=config.transform,
            stages=climbed.stages,
            steps=climbed.steps,
            decisions=climbed.decisions,
            fallbacks=(*tools.notes, *finder.notes, *climbed.fallbacks),
            fixed_rois=segmented[0].rois,
            moving_rois=matched.moving,
            pairs=matched.pairs.on_grids(fixed.grid, moving.grid),
            quality=quality,
            constraints=respected,
            config=config,
            timings_s=watch.seconds,
            peak_memory_mb=peak.mb,
            device=tools.device,
            threads=threads,
            provenance={
                **_provenance(tools, finder, hashes),
                **({} if problem.labelled else {"confidences_fitted_on": tools.encoder.calibration.fitted_on}),
            },
        )


def _image_pair(fixed: Volume, moving: Volume, constraints: Constraints, tools: Tools) -> ImagePair:
    check_images(fixed, moving)
    fixed, moving = constraints.counted(fixed, moving)
    masks = constraints.fixed_mask, constraints.moving_mask
    spacing_mm = BODY_MM * field_scale(fixed.grid, moving.grid)
    sides = zip((fixed, moving), masks, strict=True)
    fixed_body, moving_body = in_parallel(lambda side: _body(*side, spacing_mm), tuple(sides))
    samples, seed = tools.config.estimation.rigid_samples, tools.config.seed
    return ImagePair(fixed, moving, fixed_body, moving_body, samples, seed, tools.device, *masks)


def _body(image: Volume, mask: Volume | None, spacing_mm: float) -> Volume:
    """What counts of the body as a volume of 0 and 1 at a coarse resolution."""
    coarse = working_volume(image, spacing_mm)
    return Volume(counted_body(body_mask(coarse), coarse.grid, mask).astype(np.uint8), coarse.grid)


def _quality(
    climbed: Climb,
    inverse: Transform,
    problem: Problem,
    examiner: PairExaminer,
    config: Config,
    respected: ConstraintReport | None,
) -> Quality:
    """The quality of where the climb ended."""
    transform, identity = climbed.best.transform, Affine.identity()
    matched = problem.matched(linear_part(transform))
    examination = examiner.examination(matched.free.apart_from(matched.pairs.fitted))
    findings = Findings(
        transform=transform,
        inverse=inverse,
        pairs=matched.pairs,
        labelled=problem.labelled,
        rivals=climbed.rigid.rivals if climbed.rigid is not None else None,
        mirrored=_mirrored(climbed, problem),
        unaligned=matched.free,
        tolerance_mm=problem.tolerance_mm,
        voxel_mm=finest_spacing_mm(problem.images.fixed.grid),
        before=examination.evidence(identity),
        after=examination.evidence(transform),
        overlaps=(overlap(matched.pairs, identity), overlap(matched.pairs, transform)),
        stands_out="rigid" in climbed.stages and stands_out(climbed.rigid, problem.images.fixed.grid),
        nothing_held=climbed.best.kind == "identity" and not climbed.aligned,
        constraints=respected,
    )
    return gate(findings, examination, config.quality)


def _mirrored(climbed: Climb, problem: Problem) -> float | None:
    """Score of the moving image mirrored left to right, relative to this alignment; None of pictures.

    Measured here where no estimator did: an image that was mirrored before it was stored must not pass by any method.
    """
    if problem.images.fixed.grid.is_2d:
        return None
    if climbed.rigid is not None and climbed.rigid.mirrored is not None:
        return climbed.rigid.mirrored
    linear = linear_part(climbed.best.transform) or Affine.identity()
    return mirror_ratio(problem.images, Rigid.nearest(linear.moving_from_fixed).moving_from_fixed)


def _provenance(tools: Tools, finder: RegionFinder, hashes: tuple[str, str]) -> Mapping[str, Any]:
    config, encoder = tools.config, tools.encoder
    return {
        "versions": {
            "samreg": samreg.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            **({"transformers": version("transformers")} if encoder.variant else {}),
        },
        "hashes": {
            "config": config.hash,
            "weights": encoder.weights_hash,
            "fixed": hashes[0],
            "moving": hashes[1],
        },
        "method": config.method,
        "encoder": config.encoder,
        "variant": encoder.variant,
        "precision": encoder.precision,
        "proposer": finder.proposer,
    }
