"""Checks that what a configuration names is available: encoder, weights, proposer, matcher, estimators and device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from samreg.config import Config
from samreg.device import find_device
from samreg.errors import UsageError
from samreg.registry import TABLES, find, find_encoder, find_estimators, find_matcher, find_proposer, is_own, load
from samreg.sam.family import variant as family_row
from samreg.shipped import with_available_encoder
from samreg.types import KINDS, TransformKind

# What a class of each table must have.
_METHODS = {"encoders": "encode", "proposers": "propose", "matchers": "match", "estimators": "estimate"}


def check_config(config: Config, *, labelled: bool = False) -> None:
    """Refuse, before anything is read, a configuration that cannot be followed here.

    Args:
        config: What is asked for.
        labelled: Label maps are given, so no proposer is needed.

    Raises:
        UsageError: An unknown encoder, proposer, matcher or estimator; an estimator that stands twice in a list, or
            that is finer than the transform asked for; a class of the caller's own that cannot be imported, or that is
            something else; weights missing, superfluous or not there; a device that is not there.
    """
    entry = find_encoder(config.encoder, config.weights)
    if config.weights is not None and not (config.weights and Path(config.weights).exists()):
        raise UsageError(f"the weights '{config.weights}' do not exist", reason="weights-missing")
    if config.variant is not None:
        family_row(config.variant)
        if "variant" not in entry.options:
            raise UsageError(
                f"the variant '{config.variant}' is given for the encoder '{entry.name}'",
                "no variant for this encoder",
                "Leave it out, or add --encoder sam.",
            )
        if config.weights is None:
            raise UsageError(
                f"the variant '{config.variant}' is given without weights",
                "a variant together with its weights",
                "Give the weights with --weights.",
            )
    find_matcher(config.matching.matcher, labelled=labelled)
    for names in config.estimators.as_dict().values():  # those for other transforms too: a typo is a typo
        find_estimators(names)
    for table, name in _named(config):
        if is_own(name):
            _check_own(table, name)
    for entry in find_estimators(getattr(config.estimators, config.transform)):
        _check_kind(entry.name, getattr(load(entry), "kind", None), config.transform)
    config, _ = with_available_encoder(config)
    find_proposer(config.proposals.proposer, config.encoder, labelled=labelled)
    find_device(config.device)


def own_classes(config: Config) -> tuple[str, ...]:
    """The names of a configuration that are classes of the caller's own (`module:Class`)."""
    return tuple(name for _, name in _named(config) if is_own(name))


def _named(config: Config) -> list[tuple[str, str]]:
    """What a run of a configuration builds: table and name."""
    estimators = getattr(config.estimators, config.transform)
    return [
        ("encoders", config.encoder),
        ("proposers", config.proposals.proposer),
        ("matchers", config.matching.matcher),
        *(("estimators", name) for name in estimators),
    ]


def _check_own(table: str, name: str) -> None:
    """Refuse a class of the caller's own that cannot be imported, or that lacks what it is asked for."""
    what, method = table.removesuffix("s"), _METHODS[table]
    if not callable(getattr(load(find(TABLES[table], name, what)), method, None)):
        raise UsageError(
            f"'{name}' is no {what} (it has no method `{method}`)", f"a class with the method `{method}`",
            "CONTRIBUTING.md shows one.", reason="no-such-class",
        )  # fmt: skip


def _check_kind(name: str, kind: Any, asked: TransformKind) -> None:
    """Refuse an estimator of no known kind, or whose transforms are finer than the one that is asked for."""
    if kind not in KINDS[1:]:
        raise UsageError(
            f"'{name}' is no estimator (its class says the kind {kind!r})",
            f"a class whose attribute `kind` is {' or '.join(KINDS[1:])}",
            "CONTRIBUTING.md shows one.", reason="no-such-class",
        )  # fmt: skip
    if KINDS.index(kind) > KINDS.index(asked):
        raise UsageError(
            f"estimator '{name}', whose transforms are {kind}, is listed where {asked} is asked for",
            f"estimators of at most {asked} transforms",
        )
