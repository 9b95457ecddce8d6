"""Which series of a study is which image."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from samreg.config.settings import Settings


def _compiles(text: str) -> str:
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(str(error)) from error
    return text


Pattern = Annotated[str, AfterValidator(_compiles), Field(json_schema_extra={"format": "regex"})]


class SeriesRule(Settings):
    """What a DICOM series must be to take a role; all that is given must hold.

    Attributes:
        modality, description, protocol: Regular expressions, found anywhere in Modality, SeriesDescription and
            ProtocolName, in small or capital letters.
        folder: Pattern (`*`, `?`) of its files' folder below the input.
        series_uid: SeriesInstanceUID.
        acquired: Of several that satisfy all this.
    """

    modality: Pattern | None = None
    description: Pattern | None = None
    protocol: Pattern | None = None
    folder: str | None = None
    series_uid: str | None = None
    acquired: Literal["earliest", "latest"] | None = None


class SeriesConfig(Settings):
    """Which series of a study is fixed and which moving, where a folder holds several.

    Attributes:
        fixed, moving: What a series must be for the role.
        several_moving: Register every series that can be the moving one, each for itself.
        within: Pattern (`*`, `?`) of a folder below the input that holds what counts; files elsewhere are not looked
            at, as if they were not there (where a platform keeps other results in the same tree).
    """

    section: ClassVar[str] = "series"

    fixed: SeriesRule = Field(default_factory=SeriesRule)
    moving: SeriesRule = Field(default_factory=SeriesRule)
    several_moving: bool = False
    within: str | None = None
