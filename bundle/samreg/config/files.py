"""Values from YAML and JSON files, by dotted keys, and over each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from samreg.errors import UsageError

# What reading a file of YAML raises: the library leaves to Python what stands for no number or no date, and what is
# nested deeper than Python recurses.
_NOT_YAML = (OSError, ValueError, LookupError, AttributeError, TypeError, OverflowError, RecursionError)


def read_values(path: str | Path) -> Mapping[str, Any]:
    """The keys and values of a YAML or JSON file.

    Args:
        path: The file.

    Returns:
        Nested values, not validated.

    Raises:
        UsageError: A file that cannot be read, that holds something else, or a key twice.
    """
    try:
        values = _read(Path(path))
    except _NOT_YAML as error:
        raise UsageError(f"the configuration '{path}' cannot be read ({_why(error)})", "a YAML or JSON file") from error
    if not isinstance(values, Mapping):
        raise UsageError(f"the configuration '{path}' holds a {type(values).__name__}", "keys and values")
    return values


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted keys ("matching.max_pairs") as nested ones; keys without a dot stay as they are.

    Args:
        values: By dotted keys.

    Returns:
        Nested mappings.

    Raises:
        UsageError: A key that is a value and a group of keys at once.
    """
    out: dict[str, Any] = {}
    for key, value in values.items():
        *path, last = key.split(".")
        part = out
        for name in path:
            part = part.setdefault(name, {})
            if not isinstance(part, dict):
                raise UsageError(f"the configuration key '{key}' is unknown", f"'{name}' as a single value")
        part[last] = value
    return out


def merged(values: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values with others over them, key by key.

    Args:
        values: Nested mappings.
        over: What replaces them; mappings are merged.

    Returns:
        A new mapping.
    """
    out = dict(values)
    for key, value in over.items():
        below = out.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            out[key] = merged(below, value)
        else:
            out[key] = value
    return out


def _read(path: Path) -> Any:
    """What a YAML or JSON file holds; a key that stands twice is refused, for YAML would take the last without a word.

    Raises:
        One of `_NOT_YAML`.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            twice = next((key for key in keys if keys.count(key) > 1), None)
            if twice is not None:
                raise yaml.constructor.ConstructorError(None, None, f"the key '{twice}' stands twice", node.start_mark)
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader)
    except yaml.YAMLError as error:
        raise ValueError(_why(error)) from error


def _why(error: Exception) -> str:
    """What is wrong, and in which line, without the parser's excerpt of the file."""
    text = getattr(error, "strerror", None) or getattr(error, "problem", None) or str(error)
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return where + " ".join(str(text).split())
