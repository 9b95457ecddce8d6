"""Docstrings in Google style, taken apart."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, field

_HEADING = re.compile(r"^(Args|Attributes|Returns|Yields|Raises|Example)\b[^\n]*:$", re.MULTILINE)


@dataclass(frozen=True)
class Docstring:
    """The parts of a docstring.

    Attributes:
        text: What stands before the first section, as Markdown.
        sections: The text of each section without its indentation, by its name ("Args", "Returns", "Example").
    """

    text: str
    sections: dict[str, str] = field(default_factory=dict)

    def entries(self, section: str) -> dict[str, str]:
        """Meanings by what stands before the first colon of an entry ("fixed, moving"), each in one line.

        Args:
            section: Name of a section of entries; one that is not there has none.
        """
        meanings = {}
        for entry in re.split(r"\n(?=\S)", self.sections.get(section, "").strip()):
            names, _, meaning = entry.partition(": ")
            if meaning:
                meanings[names] = " ".join(meaning.split())
        return meanings

    def names(self, section: str) -> dict[str, str]:
        """As `entries`, by single names: "fixed, moving: text" serves both.

        Args:
            section: Name of a section of entries.
        """
        return {name: meaning for names, meaning in self.entries(section).items() for name in names.split(", ")}


def parsed(docstring: str | None) -> Docstring:
    """A docstring taken apart.

    Args:
        docstring: As it stands in the source; None: empty.
    """
    text, *rest = _HEADING.split(inspect.cleandoc(docstring or ""))
    sections = {name: inspect.cleandoc(body) for name, body in zip(rest[::2], rest[1::2], strict=True)}
    return Docstring(text.strip(), sections)
