"""The configuration that choices mean, and whether it can be followed here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from samreg.config import Config
from samreg.device import find_device
from samreg.errors import UsageError
from samreg.registry import find_encoder, find_proposer
from samreg.sam.family import variant as family_row
from samreg.shipped import home, with_what_is_installed


def configured(
    *, method: str | None = None, preset: str | None = None, file: str | Path | None = None, **options: Any
) -> Config:
    """The configuration that these choices mean; what comes later in this list wins.

    Args:
        method: Name of a method; the preset of that name.
        preset: Name of a preset in `configs/presets`.
        file: YAML or JSON file.
        options: Keys of `Config`; None leaves a key as it is.

    Raises:
        UsageError: An unknown preset, key or value.
    """
    config = Config()
    for name in (method, preset):
        if name is not None:
            config = Config.load(preset_file(name), config)
    if file is not None:
        config = Config.load(file, config)
    return config.with_values({key: value for key, value in options.items() if value is not None})


def presets() -> tuple[str, ...]:
    """Names of the presets."""
    return tuple(sorted(path.stem for path in (home("configs") / "presets").glob("*.yaml")))


def preset_file(name: str) -> Path:
    """The file of a preset.

    Raises:
        UsageError: There is none of this name.
    """
    if name not in presets():
        raise UsageError(f"unknown preset '{name}'", f"one of {', '.join(presets())}")
    return home("configs") / "presets" / f"{name}.yaml"


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
