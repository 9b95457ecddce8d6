"""The error family of samreg: what was got, what was expected, and what to do.

Every error says what was got, what was expected and what to do next, and carries the
exit code of the command line (see `docs/reference.md`). Its reason stands in `samreg.refusals`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from samreg.refusals import REFUSALS

MAX_LENGTH = 2000  # of each part of a message


class SamregError(Exception):
    """Base of all errors raised on purpose.

    Args:
        got: What was found, as a clause with a verb and without a full stop ("the series has 2 gaps"). Names of files
            stand in quotation marks, since the first letter becomes a capital one in the sentence.
        expected: What would have been accepted, as a noun ("evenly spaced slices"); empty: as the table says.
        next_step: What the user can do, as a sentence ("Export the whole series again."); empty: as the table says.
        reason: Stable identifier for machines ("missing-slices"), a row of `samreg.refusals.REFUSALS`; empty: that
            of the class.

    Attributes:
        role: "fixed" or "moving", where reading that image of a pair failed; else empty.

    Raises:
        ValueError: The table has no such reason.
    """

    exit_code = 1
    role = ""

    def __init__(self, got: str, expected: str = "", next_step: str = "", *, reason: str = "") -> None:
        self.reason = reason or _slug(type(self).__name__)
        row = REFUSALS.get(self.reason)
        if row is None:
            raise ValueError(f"'{self.reason}' is no reason of samreg.refusals")
        self.got = _on_one_line(got)
        self.expected = _on_one_line(expected or row.expected)
        self.next_step = _on_one_line(next_step or row.next_step)
        super().__init__(self.sentence)

    def __str__(self) -> str:
        return self.sentence

    @property
    def sentence(self) -> str:
        """One line of up to three sentences: what was got (of which image of a pair), what was expected, what to do.

        Example:
            >>> InputRefused("the series has 2 gaps", reason="missing-slices").sentence
            'The series has 2 gaps. Expected a stack without gaps. Export the whole original series again.'
        """
        got = f"{self.role} image: {self.got}" if self.role else self.got
        expected = f"expected {self.expected}" if self.expected else ""
        return " ".join(as_sentence(part) for part in (got, expected, self.next_step) if part)

    def as_dict(self) -> dict[str, str]:
        """The error as it stands in `report.json`."""
        return {
            "reason": self.reason,
            "got": self.got,
            "expected": self.expected,
            "next_step": self.next_step,
            **({"role": self.role} if self.role else {}),
        }


class UsageError(SamregError):
    """Wrong arguments or configuration (exit code 2)."""

    exit_code = 2


class InputRefused(SamregError):  # noqa: N818
    """The input is not safe to register (exit code 3)."""

    exit_code = 3


class OutputInvalid(SamregError):  # noqa: N818
    """A written object does not reproduce the result when read back (exit code 1)."""


def as_sentence(clause: str) -> str:
    """A clause as a sentence, with a capital letter and a full stop.

    Args:
        clause: A text of one line ("the folder is empty").

    Returns:
        "The folder is empty."
    """
    return clause[:1].upper() + clause[1:] + ("" if clause.endswith((".", "!", "?")) else ".")


def _on_one_line(text: str) -> str:
    """Without control characters and halves of characters, which damaged files and names of files may hold, and short.

    They would break lines of a log, command a terminal, or not go into JSON.
    """
    kept = "".join(c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return kept if len(kept) <= MAX_LENGTH else f"{kept[:MAX_LENGTH]}…"


def _slug(name: str) -> str:
    return "".join("-" + c.lower() if c.isupper() else c for c in name).lstrip("-")


@contextmanager
def reading(role: str) -> Iterator[None]:
    """A block that reads one image of a pair: its refusals say which.

    Args:
        role: "fixed" or "moving".

    Raises:
        InputRefused: That of the block, with its role.
    """
    try:
        yield
    except InputRefused as error:
        error.role = role
        raise
