"""The order of a registration: regions → pairs → rigid → affine → deformable → quality.

The only place that knows it. Everything here calls one room after the other and hands on results.
"""

from __future__ import annotations

import logging
import platform
import resource
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from time import perf_counter
from typing import Any

import numpy as np
import torch

import samreg
from samreg.config import Config
from samreg.device import find_device, within_memory
from samreg.encoders import encoder_of
from samreg.errors import UsageError
from samreg.estimation.deformable import fit_field, margin_mm
from samreg.estimation.patches import RoiPatches
from samreg.estimation.rigid import (
    ALIKE,
    ImagePair,
    LinearFit,
    Start,
    edge_starts,
    field_scale,
    fit_linear,
    fit_rigid,
    in_plane,
    mirror_ratio,
    plain_starts,
)
from samreg.estimation.robust import irls, ransac_rigid
from samreg.evidence import MIN_WITNESSES, Judge, Second, decide
from samreg.geometry import Volume, finest_spacing_mm
from samreg.images import Image, as_labels, as_volumes, check_images
from samreg.matching import Side, link_slices, pair_up, with_held_out
from samreg.metrics import why_not_invertible
from samreg.preprocess import body_mask, working_volume
from samreg.quality import Judged, gate, scale_is_plausible
from samreg.reading import Reader
from samreg.result import Quality, RegistrationResult
from samreg.rois import RoiPairs
from samreg.shipped import with_what_is_installed
from samreg.threads import in_parallel, limited
from samreg.transforms import Affine, Rigid, Transform, compose
from samreg.types import Labels, Matrix4, TransformKind

logger = logging.getLogger(__name__)

Progress = Callable[[str, float], None]

# All lengths are for a field of view of 256 mm and scale with it.
BODY_MM = 4.0
PAIR_TOLERANCE_MM = 10.0
PAIR_ROUNDS = 3
WITNESS_SHARE = 0.25  # of the pairs by appearance alone
FINER = 4.0  # times the detail of pictures: stained sections agree in their outlines, not at a distance
STIFFER = 4.0  # times the smoothness weight, where the first velocity field is not better


def register(
    fixed: Image,
    moving: Image,
    config: Config | None = None,
    *,
    fixed_labels: Image | Labels | None = None,
    moving_labels: Image | Labels | None = None,
    on_progress: Progress | None = None,
) -> RegistrationResult:
    """Register a moving to a fixed image by paired regions of interest.

    Args:
        fixed, moving: Volumes, paths that `samreg.io` reads, or images of nibabel, SimpleITK, itk, MONAI or TorchIO.
        config: Everything that decides the result; default `Config()`.
        fixed_labels, moving_labels: Label maps on the images' grids, as arrays [i, j, k] or as the images may be
            given; regions with the same number are pairs (Case 1 of SAMReg). Both or neither.
        on_progress: Called with the stage's name and its fraction done, 0..1.

    Returns:
        The result, whatever its status; see `RegistrationResult.quality`.

    Raises:
        InputRefused: The images cannot be registered.
        UsageError: The configuration asks for something that is not there, or for more memory than there is.

    Example:
        >>> result = samreg.register("fixed/", "moving/")
        >>> result.transform.map_points([[0.0, 10.0, -20.0]])
    """
    config = config or Config()
    if (fixed_labels is None) != (moving_labels is None):
        raise UsageError("a label map of one image alone", "label maps of both images, or of neither")
    fixed, moving = as_volumes(fixed, moving, as_files=config.as_files)
    given = as_labels(fixed_labels, fixed), as_labels(moving_labels, moving)
    labels = None if given[0] is None or given[1] is None else (given[0], given[1])
    config, notes = with_what_is_installed(config)
    registration = _Registration(fixed, moving, config, labels, on_progress or (lambda stage, share: None))
    for note in notes:
        registration.fell_back(note)
    with within_memory(), limited(config.threads) as registration.threads:
        return registration.run()


@dataclass(eq=False)
class _Registration:
    """One run; each stage reads what the ones before it left."""

    fixed: Volume
    moving: Volume
    config: Config
    labels: tuple[Labels, Labels] | None
    report: Progress
    timings: dict[str, float] = field(default_factory=dict)
    fallbacks: list[str] = field(default_factory=list)
    decisions: list[str] = field(default_factory=list)
    mirrored: float | None = None
    threads: int = 1

    def run(self) -> RegistrationResult:
        config = self.config
        self.device = find_device(config.device)
        self.encoder = encoder_of(config)
        self.reader = Reader(self.fixed, self.moving, config, self.encoder, self.labels)
        images = self._timed("prepare", self._image_pair)
        fixed, moving = self._timed("regions", lambda: self.reader.sides(lambda share: self.report("regions", share)))
        self._take_notes(fixed, moving)
        free = self._timed("match", lambda: self._with_witnesses(self._match(fixed, moving, witnesses=True)))
        unseen = free.held_out
        rigid = self._timed("rigid", lambda: self._rigid(images, fixed, moving, free))
        aligned = None if rigid is None else Rigid(_settled(Rigid.nearest(rigid.moving_from_fixed).moving_from_fixed))
        if aligned is not None:
            moving = self._timed("regions", lambda: self._lying_alike(fixed, moving, aligned))
            self._take_notes(moving)
        pairs, free = self._timed("pairs", lambda: self._pairs(fixed, moving, free, aligned))
        basis = _Basis(pairs, free)
        stages = _Stages("identity", Affine.identity())
        supported = self.labels is not None or pairs.independent >= config.quality.min_pairs
        if not supported:
            found = f"{pairs.independent} regions pair up, too few to support it"
            self.fell_back(f"{config.transform} → identity: {found}")
        elif config.linear_stages:
            if aligned is not None:
                judge = replace(self._judge(fixed, moving, basis), witnesses=unseen)
                self._consider(stages, judge, "rigid", aligned)
            if config.transform != "rigid":
                basis = self._affine_stage(images, fixed, moving, stages, basis)
        judge = self._judge(fixed, moving, basis)
        if supported and config.transform == "deformable":
            self._timed("deformable", lambda: self._deformable(images, stages, basis, judge))
        quality, inverse = self._timed("quality", lambda: self._quality(stages, basis, judge, rigid))
        return RegistrationResult(
            fixed=self.fixed,
            moving=self.moving,
            transform=stages.transform,
            inverse=inverse,
            kind=stages.kind,
            asked=config.transform,
            stages=stages.reached,
            decisions=tuple(self.decisions),
            fallbacks=tuple(self.fallbacks),
            fixed_rois=fixed.rois,
            moving_rois=moving.rois,
            pairs=basis.pairs.on_grids(self.fixed.grid, self.moving.grid),
            quality=quality,
            config=config,
            timings_s=self.timings,
            peak_memory_mb=_peak_memory_mb(),
            device=str(self.device),
            threads=self.threads,
            provenance=self._provenance(),
        )

    def _timed(self, stage: str, work: Callable[[], Any]) -> Any:
        self.report(stage, 0.0)
        started = perf_counter()
        out = work()
        self.timings[stage] = self.timings.get(stage, 0.0) + perf_counter() - started
        self.report(stage, 1.0)
        return out

    def _image_pair(self) -> ImagePair:
        check_images(self.fixed, self.moving)
        scale = field_scale(self.fixed, self.moving)
        fixed_body, moving_body = in_parallel(lambda image: _body(image, BODY_MM * scale), (self.fixed, self.moving))
        return ImagePair(
            self.fixed,
            self.moving,
            fixed_body,
            moving_body,
            self.config.estimation.rigid_samples,
            self.config.seed,
            self.device,
        )

    def _lying_alike(self, fixed: Side, moving: Side, aligned: Affine) -> Side:
        return self.reader.lying_alike(fixed, moving, aligned, lambda share: self.report("regions", share))

    def _take_notes(self, *sides: Side) -> None:
        """Report what a proposer did in place of what was asked for; it has said so in the log."""
        found = dict.fromkeys(note for side in sides for note in side.rois.notes)
        self.fallbacks += [note for note in found if note not in self.fallbacks]

    def _match(self, fixed: Side, moving: Side, aligned: Affine | None = None, *, witnesses: bool = False) -> RoiPairs:
        return pair_up(fixed, moving, self.encoder, self.config.matching, aligned, witnesses=witnesses)

    def _with_witnesses(self, free: RoiPairs) -> RoiPairs:
        """Pairs by appearance alone, some of them kept from the rigid estimate, so that they can tell if it is right.

        Of few pairs that were found none, since the estimate needs them all.
        """
        share = WITNESS_SHARE if free.independent >= MIN_WITNESSES / WITNESS_SHARE else 0.0
        return with_held_out(
            free, share if self.labels is None else self.config.matching.held_out_share, self.config.seed
        )

    def _pairs(self, fixed: Side, moving: Side, free: RoiPairs, aligned: Affine | None) -> tuple[RoiPairs, RoiPairs]:
        """The pairs that lie together under a linear estimate, linked across slices, some held out.

        Beside them those that appearance alone makes, now that the contrasts are comparable: they
        tell a right alignment from a wrong one.
        """
        pairs = free
        if self.labels is None:
            pairs = self._match(fixed, moving, aligned)
            if aligned is not None:
                free = self._match(fixed, moving, aligned, witnesses=True)
        if self.config.matching.link and any(p.fixed.is_2d for p in pairs) and not self.fixed.grid.is_2d:
            pairs = link_slices(pairs)
        return with_held_out(pairs, self.config.matching.held_out_share, self.config.seed), free

    def _rigid(self, images: ImagePair, fixed: Side, moving: Side, free: RoiPairs) -> LinearFit | None:
        """From pairs by RANSAC; with dense similarity, that is one start among others. None if nothing asks for it."""
        if not self.config.linear_stages and (self.labels is not None or not self.config.matching.position_weight):
            return None
        tolerance = PAIR_TOLERANCE_MM * images.scale
        unseen, used = free.held_out, self._weighed(free.fitted)
        found = ransac_rigid(
            used.fixed.centroids_lps(), used.moving.centroids_lps(), used.confidences, tolerance, seed=self.config.seed
        )
        if found is not None:
            logger.info("%d of %d unaligned pairs agree on one rigid transform", int(found[1].sum()), len(used))
        if not self.config.estimation.dense:
            if found is None:
                self.fell_back(f"rigid → identity: too few of {len(used)} pairs agree on one rigid transform")
                return None
            matrix = found[0]
            for _ in range(PAIR_ROUNDS):
                pairs = self._weighed(self._match(fixed, moving, Rigid.nearest(matrix)).apart_from(unseen))
                points = pairs.fixed.centroids_lps(), pairs.moving.centroids_lps()
                if len(pairs) >= 4:
                    matrix = irls(matrix, *points, pairs.confidences, tolerance / 2)
            return LinearFit(in_plane(matrix, self.fixed, self.moving), float("nan"), "pairs")
        starts = edge_starts(images) + plain_starts(images)
        if found is not None:
            starts.insert(0, Start("pairs", in_plane(found[0], self.fixed, self.moving)))
        fit = fit_rigid(images, starts, on_progress=lambda share: self.report("rigid", 0.9 * share))
        if fit.rivals is not None and fit.rivals >= 1 - ALIKE:
            self.decisions.append("two alignments score alike: the one that moves the body less is taken")
        if not self.fixed.grid.is_2d:
            self.mirrored = mirror_ratio(images, fit.moving_from_fixed)
        return fit

    def _weighed(self, pairs: RoiPairs) -> RoiPairs:
        """The pairs as a fit shall weigh them."""
        return pairs if self.config.estimation.weight_by_confidence else pairs.equally_sure()

    def _judge(self, fixed: Side, moving: Side, basis: _Basis) -> Judge:
        return Judge(
            fixed.working,
            moving.working,
            fixed.body,
            held_out=basis.pairs.held_out,
            witnesses=basis.free.apart_from(basis.pairs.fitted),
            tolerance_mm=PAIR_TOLERANCE_MM * field_scale(self.fixed, self.moving),
            voxel_mm=finest_spacing_mm(self.fixed.grid),
        )

    def _affine_stage(self, images: ImagePair, fixed: Side, moving: Side, stages: _Stages, basis: _Basis) -> _Basis:
        """Take the affine transform if it is better; the pairs are then those that lie together under it."""
        affine = self._timed("affine", lambda: self._affine(images, stages, basis.pairs))
        if affine is None or not self._consider(stages, self._judge(fixed, moving, basis), "affine", affine):
            return basis
        if self.labels is not None or not self.config.estimation.dense:
            return basis
        return _Basis(*self._timed("pairs", lambda: self._pairs(fixed, moving, basis.free, affine)))

    def _affine(self, images: ImagePair, stages: _Stages, pairs: RoiPairs) -> Affine | None:
        start = _matrix(stages.transform)
        if self.config.estimation.dense:
            return Affine(_settled(fit_linear(images, start, "affine", stages.kind).moving_from_fixed))
        fitted = self._weighed(pairs.fitted)
        if len(fitted) < 4:
            self.fell_back(f"affine → {stages.kind}: {len(fitted)} pairs to fit, at least 4 are needed")
            return None
        points = fitted.fixed.centroids_lps(), fitted.moving.centroids_lps()
        tolerance = PAIR_TOLERANCE_MM * images.scale
        return Affine(_settled(irls(start, *points, fitted.confidences, tolerance, kind="affine")))

    def _deformable(self, images: ImagePair, stages: _Stages, basis: _Basis, judge: Judge) -> None:
        """The field; if that is not better, for pictures one from finer detail, a stiffer one; else none."""
        settings = self.config.estimation
        settings = replace(
            settings,
            finest_spacing_mm=settings.finest_spacing_mm * min(1.0, images.scale),
            similarity_weight=settings.similarity_weight if settings.dense else 0.0,
        )
        fitted = self._weighed(basis.pairs.fitted)
        if not settings.dense and len(fitted) < 1:
            self.fell_back(f"deformable → {stages.kind}: no pair to fit")
            return
        patches = RoiPatches.of(fitted, margin_mm(settings), self.device) if len(fitted) else None
        ladder = ((1.0, 1.0), (1.0, FINER), (STIFFER, 1.0)) if self.fixed.grid.is_2d else ((1.0, 1.0), (STIFFER, 1.0))
        for stiffer, detail in ladder:
            field = fit_field(
                stages.transform,
                self.fixed,
                self.moving,
                images.fixed_body,
                patches,
                replace(settings, smoothness_weight=stiffer * settings.smoothness_weight),
                detail=detail,
                seed=self.config.seed,
                device=self.device,
                on_progress=lambda share: self.report("deformable", share),
            )
            if self._consider(stages, judge, "deformable", compose([field, stages.transform])):
                return

    def _consider(self, stages: _Stages, judge: Judge, kind: TransformKind, candidate: Transform) -> bool:
        """Take the finer transform if evidence it was not fitted to says it is better."""
        # Mutual information is no judge of what was fitted to it, though six degrees of freedom cannot imitate anatomy.
        second: Second = "likeness" if kind == "affine" and self.config.estimation.dense else "information"
        through = stages.transform if second == "likeness" else None
        finer, coarser = (judge.evidence(transform, through) for transform in (candidate, stages.transform))
        labelled = self.labels is not None
        decision = decide(finer, coarser, refines=stages.kind != "identity", second=second, labelled=labelled)
        good, reason = decision.finer, decision.reason
        if good and not scale_is_plausible(candidate):
            good, reason = False, "it stretches the body more than anatomy allows"
        if good and kind == "deformable" and (why := why_not_invertible(candidate, judge.fixed.grid)):
            good, reason = False, why
        if good:
            self.decisions.append(f"{kind} in place of {stages.kind}: {reason}")
            logger.info("%s", self.decisions[-1])
            stages.accept(kind, candidate)
        else:
            self.decisions.append(f"{stages.kind}, not {kind}: {reason}")
            self.fell_back(f"{kind} → {stages.kind}: {reason}")
        return good

    def fell_back(self, sentence: str) -> None:
        """Say, in the log and in the report, what was done in place of what was asked for."""
        self.fallbacks.append(sentence)
        logger.warning("fall-back %s", sentence)

    def _quality(
        self, stages: _Stages, basis: _Basis, judge: Judge, rigid: LinearFit | None
    ) -> tuple[Quality, Transform]:
        inverse = stages.transform.inverse()
        judged = Judged(
            transform=stages.transform,
            inverse=inverse,
            pairs=basis.pairs,
            labelled=self.labels is not None,
            rivals=rigid.rivals if rigid is not None else None,
            mirrored=self.mirrored,
            unaligned=basis.free,
            tolerance_mm=judge.tolerance_mm,
            before=judge.evidence(Affine.identity()),
            after=judge.evidence(stages.transform),
            overlaps=(judge.overlap(Affine.identity()), judge.overlap(stages.transform)),
        )
        return gate(judged, judge, self.config.quality), inverse

    def _provenance(self) -> Mapping[str, Any]:
        return {
            "versions": {
                "samreg": samreg.__version__,
                "python": platform.python_version(),
                "torch": torch.__version__,
                "numpy": np.__version__,
                **({"transformers": version("transformers")} if self.encoder.variant else {}),
            },
            "hashes": {
                "config": self.config.hash,
                "weights": self.encoder.weights_hash,
                "fixed": self.fixed.content_hash,
                "moving": self.moving.content_hash,
            },
            "method": self.config.method,
            "encoder": self.config.encoder,
            "variant": self.encoder.variant,
            "precision": self.encoder.precision,
            "proposer": self.reader.proposer,
        }


@dataclass(frozen=True, eq=False)
class _Basis:
    """What a transform rests on.

    Attributes:
        pairs: Of regions that lie together under the linear estimate.
        free: Pairs by appearance alone.
    """

    pairs: RoiPairs
    free: RoiPairs


@dataclass(eq=False)
class _Stages:
    """The best transform so far, and those accepted on the way."""

    kind: TransformKind
    transform: Transform
    reached: dict[str, Transform] = field(default_factory=dict)

    def accept(self, kind: TransformKind, transform: Transform) -> None:
        self.kind, self.transform = kind, transform
        self.reached[kind] = transform


def _matrix(transform: Transform) -> np.ndarray:
    if not isinstance(transform, Affine):
        raise UsageError(f"a {type(transform).__name__}", "a linear transform")
    return transform.moving_from_fixed


def _settled(matrix: Matrix4) -> Matrix4:
    """A matrix to a millionth of a millimetre in the body, so that what begins with it begins with the same digits.

    A field that is fitted to loose outlines makes millimetres of a difference in the last one.
    """
    return matrix.round(9)


def _body(image: Volume, spacing_mm: float) -> Volume:
    """The body mask as a volume of 0 and 1 at a coarse resolution."""
    coarse = working_volume(image, spacing_mm)
    return Volume(body_mask(coarse).astype(np.uint8), coarse.grid)


def _peak_memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
