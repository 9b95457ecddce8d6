"""Names where there are several registrations: each has a folder of its own."""

from __future__ import annotations

import re

_PART = re.compile(r"moving-[1-9]\d*")


def part_name(number: int) -> str:
    """The folder of one of several registrations, counted from 1."""
    return f"moving-{number}"


def is_part(name: str) -> bool:
    """Whether a folder is that of one of several registrations."""
    return _PART.fullmatch(name) is not None


def part_and_object(name: str) -> str:
    """Of the name of an object's copy at the top ("moving-2-reg.dcm") that of the object ("reg.dcm"); else empty."""
    own = re.fullmatch(rf"{_PART.pattern}-(.+)", name)
    return own[1] if own else ""
