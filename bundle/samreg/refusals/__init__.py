"""The table of refusals: every reason for which samreg stops, and what to do then.

An error names its reason and says what it got with numbers and names; what was expected and the next step are those of
the table, unless the error knows more particular ones. `docs/refusals.md` is written from the same table.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from samreg.refusals.files import FILES, IMAGES, LABELS, PAIR
from samreg.refusals.group import Group, Refusal
from samreg.refusals.results import LANDMARKS, PROMPTS, RUN, TRANSFORMS, WEIGHTS
from samreg.refusals.series import CHOICE, IDENTIFIERS, SERIES, VALUES

__all__ = ["GROUPS", "REFUSALS", "Group", "Refusal"]

GROUPS = (
    *(FILES, CHOICE, SERIES, VALUES, IDENTIFIERS, IMAGES, PAIR, LABELS),
    *(TRANSFORMS, LANDMARKS, PROMPTS, WEIGHTS, RUN),
)
REFUSALS: Mapping[str, Refusal] = MappingProxyType({row.reason: row for group in GROUPS for row in group.refusals})
