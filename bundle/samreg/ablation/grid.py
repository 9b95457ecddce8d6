"""The grid: every combination of the values that are varied, each a whole, checked configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from samreg.config import Config, nested
from samreg.errors import UsageError

Value = bool | int | float | str | None
WORDS: Mapping[str, Value] = {"true": True, "false": False, "none": None}


@dataclass(frozen=True)
class Variant:
    """One configuration of the grid.

    Attributes:
        values: The varied keys and what they are here, in the order they were given.
        config: The whole configuration.
    """

    values: Mapping[str, Value]
    config: Config

    @property
    def label(self) -> str:
        """The varied values for a reader."""
        return ", ".join(f"{key}={text_of(value)}" for key, value in self.values.items()) or "as configured"


def parse(texts: Iterable[str]) -> dict[str, tuple[Value, ...]]:
    """The grid that `KEY=V1,V2,...` mean.

    Raises:
        UsageError: A text without key or value, a key or a value that stands twice.

    Example:
        >>> parse(["matching.max_pairs=1,3", "matching.max_distance_mm=none,20"])
        {'matching.max_pairs': (1, 3), 'matching.max_distance_mm': (None, 20)}
    """
    vary: dict[str, tuple[Value, ...]] = {}
    for text in texts:
        key, _, values = (part.strip() for part in text.partition("="))
        words = [word.strip() for word in values.split(",")]
        if not key or not all(words):
            raise UsageError(
                f"--vary has the value '{text}'", "a configuration key and its values, such as matching.max_pairs=1,3,5"
            )
        if key in vary:
            raise UsageError(f"'{key}' is varied twice", "each key once", "Give all of its values together.")
        vary[key] = tuple(value_of(word) for word in words)
    return vary


def value_of(text: str) -> Value:
    """A number, true, false, none, or else the text itself.

    Example:
        >>> [value_of(text) for text in ("3", "0.5", "true", "none", "sam")]
        [3, 0.5, True, None, 'sam']
    """
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def text_of(value: Value) -> str:
    """The inverse of `value_of`."""
    for word, meaning in WORDS.items():
        if value is meaning:
            return word
    return str(value)


def variants(base: Config, vary: Mapping[str, Sequence[Value]]) -> tuple[Variant, ...]:
    """The configuration of every combination, the last key varying fastest.

    A varied `method` takes that method's preset; what `base` changes of its own preset stays changed.

    Raises:
        UsageError: An unknown key, a value of the wrong type or out of range, or twice the same configuration.
    """
    out: list[Variant] = []
    for values in product(*vary.values()):
        chosen = dict(zip(vary, values, strict=True))
        variant = Variant(chosen, base.with_values(nested(chosen)))
        twin = next((other for other in out if other.config == variant.config), None)
        if twin is not None:
            raise UsageError(f"'{twin.label}' and '{variant.label}' are the same configuration", "each value once")
        out.append(variant)
    return tuple(out)


def flat(config: Config) -> dict[str, Value]:
    """Every value of a configuration by its dotted key; a list as its words."""
    return dict(_flat(config.as_dict(), ""))


def _flat(values: Mapping[str, Any], prefix: str) -> Iterable[tuple[str, Value]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", " ".join(value) if isinstance(value, tuple) else value
