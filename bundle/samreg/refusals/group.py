"""One row of the table of refusals, and a group of rows under one heading."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Refusal:
    """One reason for which samreg does not go on.

    Attributes:
        reason: Stable identifier for machines ("missing-slices").
        got: What was found, in general words, as a noun; an error says it as a clause, with its numbers and names.
        expected: What would have been accepted, as a noun; empty: each error says it for itself.
        next_step: What the user can do, as a sentence; empty: each error says it for itself.
    """

    reason: str
    got: str
    expected: str = ""
    next_step: str = ""


@dataclass(frozen=True)
class Group:
    """Reasons that belong together.

    Attributes:
        title: Heading of the group.
        refusals: In the order in which they are met.
    """

    title: str
    refusals: tuple[Refusal, ...]
