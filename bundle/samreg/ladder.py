"""The ladder: it tries the estimators of a method, judges each candidate, and keeps the best transform.

It knows neither images nor regions: what speaks for a candidate is handed in.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from time import perf_counter
from typing import Protocol

import torch

from samreg.errors import InputRefused, SamregError, as_sentence
from samreg.estimation.base import Abstention, Candidate, Estimator, Problem, ignored
from samreg.evidence import Evidence, SecondMeasure, Terms, decide
from samreg.registry import is_own
from samreg.result import Outcome, Step
from samreg.stopwatch import Stage
from samreg.transforms import Affine, Transform
from samreg.types import KINDS, TransformKind

logger = logging.getLogger(__name__)

ANSWERS = "a candidate with a transform of samreg, or an abstention"


class EstimatorFailed(SamregError):  # noqa: N818
    """An estimator failed, or returned neither a candidate nor an abstention."""

    exit_code = 1


@dataclass(frozen=True, eq=False)
class Reached:
    """A transform that was taken.

    Attributes:
        candidate: None for the identity that every climb starts from.
    """

    kind: TransformKind
    transform: Transform
    candidate: Candidate | None = None


@dataclass(frozen=True, eq=False)
class Climb:
    """Where the ladder ended, and how it came there.

    Attributes:
        best: The finest transform that was taken.
        stages: Of each kind the transform that was taken.
        steps: One for each estimator, in their order.
        decisions: How each candidate was judged, and choices within the estimates, one sentence each.
        fallbacks: One sentence for each refusal and abstention of a kind that was not reached.
        rigid: The rigid candidate, taken or not; None without one.
        aligned: A candidate was fitted that is neither better nor worse than the identity, within the noise, none that
            was better had to be refused for a flaw, and constraints made no estimator abstain.
    """

    best: Reached
    stages: Mapping[str, Transform]
    steps: tuple[Step, ...]
    decisions: tuple[str, ...]
    fallbacks: tuple[str, ...]
    rigid: Candidate | None = None
    aligned: bool = False


class Examiner(Protocol):
    """What speaks for a candidate and against it; takes part in no estimate."""

    def support(self, candidate: Candidate) -> str:
        """Why pairs of regions do not support a candidate at all, a clause; empty if they do."""
        ...

    def terms(self, candidate: Candidate, kind: TransformKind) -> Terms:
        """What the candidate is judged by: something that it was not fitted to."""
        ...

    def evidence(self, candidate: Candidate, coarser: Transform, second: SecondMeasure) -> tuple[Evidence, Evidence]:
        """What speaks for the candidate, and for the coarser transform that it would replace.

        Args:
            candidate: To be judged.
            coarser: The best transform so far.
            second: The measure that decides where witnesses do not tell.
        """
        ...

    def flaw(self, candidate: Candidate, kind: TransformKind) -> str:
        """Why a transform cannot be right whatever speaks for it, a clause; empty if nothing is wrong."""
        ...


@dataclass(eq=False)
class _Ladder:
    """A climb that is going on."""

    examiner: Examiner
    labelled: bool
    constrained: bool = False
    best: Reached = field(default_factory=lambda: Reached("identity", Affine.identity()))
    stages: dict[str, Transform] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    decisions: list[str] = field(default_factory=list)
    rigid: Candidate | None = None
    aligned: bool = False
    flawed: bool = False  # what was better, or might have been, could not be taken, so what stayed is no finding
    lost: list[tuple[TransformKind, TransformKind, str]] = field(default_factory=list)  # kind, what stayed, why

    def judge(self, kind: TransformKind, candidate: Candidate) -> tuple[Outcome, str]:
        """Take a candidate if evidence that it was not fitted to says it is better."""
        terms = self.examiner.terms(candidate, kind)
        if terms.pairs_tell and self.best.kind == "identity" and (why := self.examiner.support(candidate)):
            return "refused", why
        finer, coarser = self.examiner.evidence(candidate, self.best.transform, terms.second)
        refines = self.best.kind != "identity"
        decision = decide(finer, coarser, terms, refines=refines, labelled=self.labelled)
        if not decision.finer:
            self.aligned |= not refines and decision.within_noise and not self.examiner.flaw(candidate, kind)
            return "refused", decision.reason
        if why := self.examiner.flaw(candidate, kind):
            self.flawed = True
            return "refused", why
        return "taken", decision.reason

    def settle(self, name: str, kind: TransformKind, candidate: Candidate, seconds: float) -> None:
        """Judge a candidate, and write down what became of it."""
        self.decisions += candidate.notes
        outcome, reason = self.judge(kind, candidate)
        before = self.best.kind
        if outcome == "taken":
            self.best = Reached(kind, candidate.transform, candidate)
            self.stages[kind] = candidate.transform
        else:
            self.lost.append((kind, before, reason))
        new, old = _named(kind), _named(before)
        taken = outcome == "taken"
        said = as_sentence(
            f"{new} replaces {old}: {reason}" if taken else f"{old} stays and {new} is refused: {reason}"
        )
        self.decisions.append(said)
        logger.info("%s", said)
        self.steps.append(Step(name, kind, outcome, reason, candidate.rests_on, seconds))

    def pass_on(self, name: str, kind: TransformKind, answer: Abstention, seconds: float) -> None:
        """Write an abstention down."""
        if not answer.by_design:
            self.lost.append((kind, self.best.kind, answer.reason))
            self.flawed |= self.constrained  # that the identity respects all constraints does not make it right
        outcome: Outcome = "not needed" if answer.by_design else "abstained"
        self.steps.append(Step(name, kind, outcome, answer.reason, "", seconds))

    def pass_over(self, name: str, kind: TransformKind) -> bool:
        """Whether an estimator is not asked; written down if so."""
        if KINDS.index(kind) > KINDS.index(self.best.kind):
            return False
        self.steps.append(Step(name, kind, "not needed", f"{self.best.kind} was reached"))
        return True

    def fallbacks(self) -> tuple[str, ...]:
        """What was lost of what was asked for: kinds that are finer than what was reached."""
        reached = KINDS.index(self.best.kind)
        return tuple(f"{kind} → {instead}: {why}" for kind, instead, why in self.lost if KINDS.index(kind) > reached)


def climb(
    problem: Problem,
    estimators: Sequence[tuple[str, Estimator]],
    examiner: Examiner,
    *,
    stage: Stage = lambda name: nullcontext(ignored),
) -> Climb:
    """The finest transform that the evidence carries.

    Each estimator starts from the best transform so far. Of several of one kind, the first that is taken ends the
    others; a candidate that is refused leaves the transform before it in place. While nothing is taken yet, pairs must
    support a candidate that they can judge.

    Args:
        problem: What estimators are given.
        estimators: With their names, in order; coarse ones first.
        examiner: Tells what speaks for a candidate.
        stage: Opens a stage of the work by its name, and yields what tells of progress.

    Raises:
        EstimatorFailed: An estimator failed, or returned neither a candidate nor an abstention.
        SamregError: As an estimator raised it.
    """
    ladder = _Ladder(examiner, problem.labelled, bool(problem.constraints))
    for name, estimator in estimators:
        kind: TransformKind = estimator.kind
        if ladder.pass_over(name, kind):
            continue
        started = perf_counter()
        with stage(kind) as progress:
            answer = _asked(name, estimator, problem.reporting(progress), ladder.best.transform)
            seconds = perf_counter() - started
            if isinstance(answer, Candidate):
                if kind == "rigid":
                    ladder.rigid = answer
                ladder.settle(name, kind, answer, seconds)
                continue
        ladder.pass_on(name, kind, answer, seconds)
    fallbacks = ladder.fallbacks()
    for sentence in fallbacks:
        logger.warning("Fall-back: %s", sentence)
    return Climb(
        ladder.best,
        dict(ladder.stages),
        tuple(ladder.steps),
        tuple(ladder.decisions),
        fallbacks,
        ladder.rigid,
        ladder.aligned and not ladder.flawed,
    )


def _asked(name: str, estimator: Estimator, problem: Problem, start: Transform) -> Candidate | Abstention:
    """What an estimator answers."""
    try:
        answer = estimator.estimate(problem, start)
    except (InputRefused, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if isinstance(error, SamregError) and not is_own(name):
            raise
        logger.info("The estimator '%s' failed.", name, exc_info=True)
        why, expected = f"{type(error).__name__}: {error}", ANSWERS
        if isinstance(error, SamregError):
            why, expected = error.got, error.expected
        raise EstimatorFailed(
            f"the estimator '{name}' failed ({why})", expected,
            "Leave it out of the list of estimators, or correct it.", reason="estimator-failed",
        ) from error  # fmt: skip
    if isinstance(answer, Abstention | Candidate):
        return answer
    raise EstimatorFailed(
        f"the estimator '{name}' returned a {type(answer).__name__}", ANSWERS, reason="estimator-failed"
    )


def _named(kind: TransformKind) -> str:
    return "the identity" if kind == "identity" else f"the {kind} transform"
