"""The values of each method: the preset of its name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from samreg.config.files import read_values
from samreg.registry import METHODS, find
from samreg.shipped import home

DEFAULT_METHOD = "hybrid"


def presets() -> tuple[str, ...]:
    """Names of the presets that are there; each is that of a method.

    Returns:
        In alphabetical order.
    """
    return tuple(sorted(path.stem for path in (home("configs") / "presets").glob("*.yaml")))


def preset_file(method: str) -> Path:
    """The file of a method's preset.

    Args:
        method: A name of `registry.METHODS`.

    Returns:
        Its path.

    Raises:
        UsageError: There is no method of this name.
    """
    return home("configs") / "presets" / f"{find(METHODS, method, 'method').name}.yaml"


@cache
def preset_values(method: str) -> Mapping[str, Any]:
    """The values of a method, as they stand in its file.

    Raises:
        UsageError: There is no method of this name, or its file cannot be read.
    """
    return read_values(preset_file(method))
