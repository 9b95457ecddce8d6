"""The configuration that files, options and settings mean together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from samreg.config.configuration import Config
from samreg.config.files import merged, read_values
from samreg.config.settings import without_nulls
from samreg.errors import UsageError


def configured(
    *, method: str | None = None, preset: str | None = None, file: str | Path | None = None, **options: Any
) -> Config:
    """The configuration that these choices mean: the method's preset, the file over it, the options over both.

    Args:
        method: Name of a method.
        preset: Another word for `method`: a method is the preset of its name.
        file: YAML or JSON file.
        options: Keys of `Config`; None leaves a key as it is.

    Returns:
        The validated configuration.

    Raises:
        UsageError: An unknown method, key or value, or two methods.

    Example:
        >>> configured(method="samreg", seed=1).matching.position_weight
        0.0
    """
    values = {} if file is None else read_values(file)
    named = {"method": method, "preset": preset, f"the file '{file}'": values.get("method")}
    return resolved(named, values, {key: value for key, value in options.items() if value is not None})


def resolved(named: Mapping[str, str | None], *layers: Mapping[str, Any]) -> Config:
    """The configuration of a method with layers of values over its preset.

    Args:
        named: The method by each place that may name one, as users call the place; None: that one names none.
        layers: Nested values; the later ones win. None is not given, unless it is a value of its key.

    Returns:
        The validated configuration.

    Raises:
        UsageError: Two places name different methods; an unknown method, key or value.
    """
    names = [(place, name) for place, name in named.items() if name is not None]
    if any(name != names[0][1] for _, name in names):
        said = ", ".join(f"{name!r} by {place}" for place, name in names)
        raise UsageError(f"different methods are given: {said}", reason="contradictory-methods")
    values: dict[str, Any] = {}
    for layer in layers:
        values = merged(values, without_nulls(Config, layer))
    if names:
        values["method"] = names[0][1]
    return Config.model_validate(values)
