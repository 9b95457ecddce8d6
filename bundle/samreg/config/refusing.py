"""One sentence for values that a configuration cannot take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from samreg.errors import UsageError

if TYPE_CHECKING:
    from pydantic import ValidationError

    from samreg.config.settings import Settings

GREATEST = 2**63 - 1  # whole number; beyond, generators of random numbers break off in the middle of a run
_KINDS = {"boolean": "true or false", "string": "text", "null": "none"}


def refusal(error: ValidationError, kind: type[Settings]) -> UsageError:
    """The first error of a validation as one of the library.

    Args:
        error: Of pydantic.
        kind: The settings that were to be made.
    """
    first = error.errors(include_url=False)[0]
    prefix, path = kind.section, list(first["loc"])
    while len(path) > 1 and (section := kind.sections().get(str(path[0]))):
        kind, prefix = section, _dotted(prefix, path.pop(0))
    if not path:
        return UsageError(f"the configuration is a {type(first['input']).__name__}", "keys and values")
    key = _dotted(prefix, path[0])
    if path[0] not in kind.model_fields:
        return UsageError(f"the configuration key '{key}' is unknown", f"one of {', '.join(sorted(kind.model_fields))}")
    if first["type"] == "frozen_instance":
        return UsageError(
            f"'{key}' is set on a configuration that cannot be changed",
            "a new configuration",
            f"Make one: config.with_values({{'{path[0]}': …}}).",
        )
    value = first["input"]
    if isinstance(value, int) and abs(value) > GREATEST:
        return UsageError(
            f"'{key}' is a whole number of {value.bit_length()} bits", "a whole number of at most 63 bits"
        )
    schema = kind.model_json_schema()["properties"][path[0]]
    if len(path) > 1:
        key, schema = f"{key}[{path[1]}]", schema["items"]
    expected = "keys and values" if path[0] in kind.sections() else _expected(schema)
    why = first.get("ctx", {}).get("error")
    return UsageError(f"'{key}' is {_shown(value)}{f' ({why})' if why else ''}", expected)


def _dotted(prefix: str, name: object) -> str:
    return f"{prefix}.{name}" if prefix else str(name)


def _shown(value: Any) -> str:
    """A value for messages; a list or a mapping by its kind alone, for within each other they may be endless."""
    if value is None:
        return "none"
    if isinstance(value, list | tuple) and not value:
        return "an empty list"
    return repr(value) if isinstance(value, str | int | float) else f"a {type(value).__name__}"


def _expected(schema: Mapping[str, Any]) -> str:
    """What a JSON schema accepts, in words."""
    if "anyOf" in schema:
        return " or ".join(_expected(one) for one in schema["anyOf"])
    if "enum" in schema:
        return f"one of {', '.join(schema['enum'])}"
    if schema.get("format") == "regex":
        return "a regular expression"
    kind = schema["type"]
    if kind == "array":
        return "a list of names, at least one"
    if kind == "string" and schema.get("minLength"):
        return "text that is not empty"
    if kind in ("integer", "number"):
        return ("a whole number" if kind == "integer" else "a finite number") + _range(schema)
    return _KINDS[kind]


def _range(schema: Mapping[str, Any]) -> str:
    least, most = schema.get("minimum", 0), schema.get("maximum", GREATEST)
    if most < GREATEST:
        return f" from {least:g} to {most:g}"
    return f" of at least {least:g}" if least else " that is not negative"
