"""Checks that what a configuration names is available: encoder, weights, proposer and device."""

from __future__ import annotations

from pathlib import Path

from samreg.config import Config
from samreg.device import find_device
from samreg.errors import UsageError
from samreg.registry import ESTIMATORS, find, find_encoder, find_estimators, find_matcher, find_proposer, is_own, load
from samreg.sam.family import variant as family_row
from samreg.shipped import with_available_encoder


def check_config(config: Config, *, labelled: bool = False) -> None:
    """Refuse, before anything is read, a configuration that cannot be followed here.

    Args:
        config: What is asked for.
        labelled: Label maps are given, so no proposer is needed.

    Raises:
        UsageError: An unknown encoder, proposer, matcher or estimator; a class of the caller's own that cannot be
            imported; weights missing, superfluous or not there; a device that is not there.
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
    find_estimators(getattr(config.estimators, config.transform))
    for name in own_classes(config):
        load(find(ESTIMATORS, name, "class"))
    config, _ = with_available_encoder(config)
    find_proposer(config.proposals.proposer, config.encoder, labelled=labelled)
    find_device(config.device)


def own_classes(config: Config) -> tuple[str, ...]:
    """The names of a configuration that are classes of the caller's own (`module:Class`)."""
    estimators = getattr(config.estimators, config.transform)
    names = (config.encoder, config.proposals.proposer, config.matching.matcher, *estimators)
    return tuple(name for name in names if is_own(name))
