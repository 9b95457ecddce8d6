"""Whether what a configuration asks for is there: encoder, weights, proposer, device."""

from __future__ import annotations

from pathlib import Path

from samreg.config import Config
from samreg.device import find_device
from samreg.errors import UsageError
from samreg.registry import find_encoder, find_proposer
from samreg.sam.family import variant as family_row
from samreg.shipped import with_what_is_installed


def check_config(config: Config, *, labelled: bool = False) -> None:
    """Refuse, before anything is read, a configuration that cannot be followed here.

    Args:
        config: What is asked for.
        labelled: Label maps are given, so no proposer is needed.

    Raises:
        UsageError: An unknown encoder or proposer; weights missing, superfluous or not there; a
            device that is not there.
    """
    entry = find_encoder(config.encoder, config.weights)
    if config.weights is not None and not (config.weights and Path(config.weights).exists()):
        raise UsageError(f"weights '{config.weights}' do not exist", reason="weights-missing")
    if config.variant is not None:
        family_row(config.variant)
        if "variant" not in entry.options:
            raise UsageError(
                f"variant '{config.variant}' for the {entry.name} encoder",
                "none",
                "Leave it out, or add --encoder sam.",
            )
        if config.weights is None:
            raise UsageError(f"variant '{config.variant}' without weights", "both", "Give the weights with --weights.")
    config, _ = with_what_is_installed(config)
    find_proposer(config.proposals.proposer, config.encoder, labelled=labelled)
    find_device(config.device)
