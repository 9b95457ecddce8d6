"""Every configuration on every pair, one after the other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from samreg import __version__
from samreg.ablation.cases import Case, GroundTruth, read_cases
from samreg.ablation.grid import Value, Variant, flat, text_of, variants
from samreg.availability import check_config
from samreg.config import Config
from samreg.encoders import EncoderStore
from samreg.errors import InputRefused, UsageError
from samreg.run import compute
from samreg.session import Session
from samreg.sources import Inputs, Sources, load

logger = logging.getLogger(__name__)

Row = dict[str, Any]
Progress = Callable[[str, float], None]

MEASURES = ("dice", "tre_mean_mm", "tre_max_mm", "hd95_mm", "folding_percent", "sd_log_jacobian")
BEFORE = tuple(f"before_{name}" for name in MEASURES)
NUMBERS = ("roi_pairs", *MEASURES, "seconds", *BEFORE)
TEXTS = ("pair", "inputs", "hash", "version", "status", "kind", "reason")
UNKNOWN = float("nan")


@dataclass(frozen=True)
class Plan:
    """Every run that is asked for: each variant on each case."""

    cases: tuple[Case, ...]
    base: Config
    variants: tuple[Variant, ...]

    def __len__(self) -> int:
        return len(self.cases) * len(self.variants)

    @property
    def keys(self) -> tuple[str, ...]:
        """What is varied."""
        return tuple(self.variants[0].values)

    @property
    def identities(self) -> list[tuple[str, ...]]:
        """What tells each run from all others."""
        return [identity(_start(case, variant)) for case in self.cases for variant in self.variants]

    def as_json(self) -> dict[str, Any]:
        """The plan for a dry run."""
        return {
            "pairs": [case.name for case in self.cases],
            "configurations": [{"hash": v.config.hash, **v.values} for v in self.variants],
            "runs": len(self),
        }


def planned(
    pairs: Path | str | Sequence[Case], base: Config | None = None, grid: Mapping[str, Sequence[Value]] | None = None
) -> Plan:
    """The runs, once every one of their configurations is known to hold.

    Raises:
        UsageError: A pair, a key or a value that cannot be followed.
    """
    cases = read_cases(pairs) if isinstance(pairs, Path | str) else tuple(pairs)
    base = base or Config()
    found = variants(base, grid or {})
    unlabelled = next((case.name for case in cases if case.fixed_rois is None), None)
    labelled = unlabelled is None
    for variant in found:
        if variant.config.proposals.proposer == "labels" and not labelled:
            raise UsageError(
                f"the proposer is 'labels' and pair '{unlabelled}' has no label maps",
                "the columns fixed_rois and moving_rois",
            )
        check_config(variant.config, labelled=labelled)
    return Plan(cases, base, found)


def run(
    pairs: Path | str | Sequence[Case],
    base: Config | None = None,
    grid: Mapping[str, Sequence[Value]] | None = None,
    on_progress: Progress | None = None,
) -> list[Row]:
    """Register every pair with every configuration of a grid, and score each.

    Args:
        pairs: A CSV file (see `read_cases`), or cases.
        base: What is not varied; default `Config()`.
        grid: Values of each varied key, {"matching.max_pairs": (1, 3, 5)}.
        on_progress: Called with the run's name and the fraction of runs done, 0..1.

    Returns:
        A row for each run: `TEXTS`, `NUMBERS` (NaN where unmeasured; `before_…` is the identity) and
        every configuration value by its key. `status` is PASS, REVIEW or FAIL, REFUSED for input that
        is not safe to register, ERROR for a run that failed; `reason` says why.

    Raises:
        UsageError: Before anything runs: a pair, a key or a value that cannot be followed.
    """
    return list(rows(planned(pairs, base, grid), on_progress=on_progress))


def rows(plan: Plan, known: Iterable[Row] = (), on_progress: Progress | None = None) -> Iterator[Row]:
    """The rows of a plan as they come, case by case; those among the `known` ones are not run again."""
    report = on_progress or (lambda stage, fraction: None)
    done = {identity(row): row for row in known}
    number = 0
    encoders = EncoderStore()
    for case in plan.cases:
        bench: _Bench | None = None
        for variant in plan.variants:
            start = _start(case, variant)
            number += 1
            if identity(start) in done:
                yield done[identity(start)]
                continue
            report(f"run {number} of {len(plan)}: {case.name}, {variant.label}", (number - 1) / len(plan))
            bench = bench or _Bench(case, encoders)
            yield {**start, **bench.scores(variant.config)}
    report("done", 1.0)


def identity(row: Row) -> tuple[str, ...]:
    """What makes two rows the same run; the configuration's hash leaves weights and device out."""
    return tuple(text_of(row.get(key, "")) for key in ("pair", "inputs", "hash", "version", "weights", "device"))


def _start(case: Case, variant: Variant) -> Row:
    empty = {**dict.fromkeys(TEXTS, ""), **dict.fromkeys(NUMBERS, UNKNOWN)}
    name = {"pair": case.name, "inputs": case.hash, "hash": variant.config.hash, "version": __version__}
    return {**empty, **name, **flat(variant.config)}


class _Bench:
    """One case: read once, registered many times.

    Args:
        case: What is registered.
        encoders: Loaded for other cases and configurations.
    """

    def __init__(self, case: Case, encoders: EncoderStore) -> None:
        self.case = case
        self.encoders = encoders
        self.inputs: Inputs | None = None
        self.truth: GroundTruth | None = None
        self.before: Row = {}
        self.unreadable: Row | None = None

    def scores(self, config: Config) -> Row:
        """Status and measures of one run."""
        if self.unreadable is None and self.inputs is None:
            self.unreadable = _caught(lambda: self._read(config))
        if self.unreadable is not None:
            return self.unreadable
        out: Row = {}
        failed = _caught(lambda: out.update(self._register(config)))
        return {**self.before, **(failed or out)}

    def _read(self, config: Config) -> None:
        from samreg.transforms import Affine

        case = self.case
        sources = Sources(
            case.fixed,
            case.moving,
            fixed_rois=case.fixed_rois,
            moving_rois=case.moving_rois,
            pixel_spacing_mm=case.pixel_spacing_mm,
        )
        inputs = load(sources, config.with_values({"as_files": True}))  # tables alone are written
        self.truth = GroundTruth.of(case, inputs)
        identity = self.truth.measures(Affine.identity())
        self.before = {f"before_{name}": value for name, value in identity.items()}
        self.inputs = inputs

    def _register(self, config: Config) -> Row:
        if self.inputs is None or self.truth is None:
            raise RuntimeError("registered before it was read")
        started = perf_counter()
        result = compute(self.inputs, Session(config, encoders=self.encoders))
        seconds = perf_counter() - started
        return {
            "status": result.quality.status,
            "reason": " ".join((*result.quality.reasons, *result.fallbacks)),
            "kind": result.kind,
            "roi_pairs": len(result.pairs),
            "seconds": seconds,
            **self.truth.measures(result.transform),
        }


def _caught(work: Callable[[], None]) -> Row | None:
    """What a row says of work that failed; None if it did not."""
    try:
        work()
    except InputRefused as error:
        return {"status": "REFUSED", "reason": error.sentence}
    except Exception as error:  # a run that breaks off is a row of the table, not its end
        logger.warning("A run failed: %s", error)
        logger.info("The run failed here:", exc_info=True)
        return {"status": "ERROR", "reason": f"{type(error).__name__}: {' '.join(str(error).split())}"}
    return None
