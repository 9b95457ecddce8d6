"""What every part of the configuration is: a frozen model that is validated when it is made."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import isclass
from types import NoneType
from typing import Annotated, Any, ClassVar, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from samreg.config.files import merged
from samreg.config.refusing import GREATEST, refusal


def _countable(value: Any) -> Any:
    if isinstance(value, int) and abs(value) > GREATEST:
        raise ValueError("too large")
    return value


Whole = Annotated[int, Field(ge=0, le=GREATEST)]
Count = Annotated[int, Field(ge=1, le=GREATEST)]
Amount = Annotated[float, BeforeValidator(_countable), Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Length = Annotated[float, BeforeValidator(_countable), Field(ge=1e-3)]  # mm


class Settings(BaseModel):
    """Values by name: frozen, of strict types, within limits, and no others.

    Attributes:
        section: Where the values stand in a configuration, for messages; empty: at its top, or in several places.

    Raises:
        UsageError: An unknown key, a wrong type, or a value out of range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    section: ClassVar[str] = ""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise refusal(error, type(self)) from None  # whose text would spell out endless lists

    # Tells pydantic that this is no other way to make a model, so that it validates what is nested as one whole, and
    # an error knows its place in the whole.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """The settings that a mapping means; nested mappings are sections.

        Raises:
            UsageError: An unknown key, a wrong type, or a value out of range.
        """
        try:
            return super().model_validate(obj, **options)
        except ValidationError as error:
            raise refusal(error, cls) from None

    def __setattr__(self, name: str, value: Any) -> None:
        try:
            super().__setattr__(name, value)
        except ValidationError as error:
            raise refusal(error, type(self)) from None

    @classmethod
    def sections(cls) -> dict[str, type[Settings]]:
        """The keys that are settings themselves."""
        kinds = {name: field.annotation for name, field in cls.model_fields.items()}
        return {name: kind for name, kind in kinds.items() if isclass(kind) and issubclass(kind, Settings)}

    @property
    def given(self) -> dict[str, Any]:
        """The values, nested, that were given when this was made; the others are those of the library."""
        return spelled_out(type(self), {name: getattr(self, name) for name in sorted(self.model_fields_set)})

    def with_values(self, values: Mapping[str, Any]) -> Self:
        """A copy with other values; nested mappings change single keys of a section, and a section replaces it.

        Args:
            values: By key, such as {"matching": {"max_pairs": 5}, "seed": 1}.

        Raises:
            UsageError: An unknown key, a wrong type, or a value out of range.
        """
        return self.model_validate(merged(self.given, values))

    def as_dict(self) -> dict[str, Any]:
        """Every value by its key; sections are mappings, lists are tuples."""
        return self.model_dump()


def spelled_out(kind: type[Settings], values: Mapping[str, Any]) -> dict[str, Any]:
    """Values with what was given to each section among them in place of the section."""
    out = dict(values)
    for name, section in kind.sections().items():
        value = values.get(name)
        if isinstance(value, section):
            out[name] = value.given
        elif isinstance(value, Mapping):
            out[name] = spelled_out(section, value)
    return out


def without_nulls(kind: type[Settings], values: Mapping[str, Any]) -> dict[str, Any]:
    """Values without each None that its key does not take: in a file or an option it means "not given".

    Args:
        kind: What the values are for.
        values: Nested mappings. Unknown keys stay, so that they are refused.

    Returns:
        A new mapping.
    """
    sections, out = kind.sections(), {}
    for name, value in values.items():
        field = kind.model_fields.get(name)
        if name in sections and isinstance(value, Mapping):
            out[name] = without_nulls(sections[name], value)
        elif value is not None or field is None or NoneType in get_args(field.annotation):
            out[name] = value
    return out
