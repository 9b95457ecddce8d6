"""What can be chosen by name. The commands, the bundle and `samreg info --json` all read it.

Nothing heavy is imported before `load`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Any

from samreg.errors import UsageError


@dataclass(frozen=True)
class Entry:
    """One choice.

    Attributes:
        name: As users write it.
        summary: One line for `--help` and `samreg info`.
        target: "package.module:Class" that `load` imports; empty for a method.
        needs_weights: Works only with a weights file or folder.
    """

    name: str
    summary: str
    target: str = ""
    needs_weights: bool = False


def _table(*entries: Entry) -> Mapping[str, Entry]:
    return MappingProxyType({entry.name: entry for entry in entries})


ENCODERS = _table(
    Entry("handcrafted", "MIND-SSC and local intensity statistics", "samreg.encoders.handcrafted:Handcrafted"),
    Entry("sam", "image encoder of a SAM model", "samreg.encoders.sam:SamEncoder", needs_weights=True),
)

PROPOSERS = _table(
    Entry(
        "superpixels",
        "stable level sets and blobs at several scales, without a model",
        "samreg.proposals.superpixels:Superpixels",
    ),
    Entry("sam", "everything mode of a SAM model", "samreg.proposals.sam:SamEverything", needs_weights=True),
    Entry("labels", "the classes of given label maps (Case 1)", "samreg.proposals.labels:GivenLabels"),
)

# What a method sets stands in the preset of its name (see `samreg.workflow.configured`).
METHODS = _table(
    Entry("hybrid", "paired regions and dense similarity together (default)"),
    Entry("samreg", "paired regions alone, as published (Huang et al., arXiv 2405.10879)"),
)


def find(table: Mapping[str, Entry], name: str, what: str) -> Entry:
    """The entry of this name.

    Args:
        table: ENCODERS, PROPOSERS or METHODS.
        name: As the user wrote it.
        what: The kind of thing, for the message ("encoder").

    Raises:
        UsageError: There is no such entry.

    Example:
        >>> find(ENCODERS, "handcrafted", "encoder").needs_weights
        False
    """
    if name not in table:
        raise UsageError(f"unknown {what} '{name}'", f"one of {', '.join(table)}", reason=f"unknown-{what}")
    return table[name]


def find_proposer(name: str, *, labelled: bool = False) -> Entry:
    """The proposer of this name.

    Args:
        labelled: Label maps are given.

    Raises:
        UsageError: There is none, or it needs label maps.
    """
    entry = find(PROPOSERS, name, "proposer")
    if name == "labels" and not labelled:
        raise UsageError(
            "proposer 'labels' without a label map", "one for each image", "Give --fixed-rois and --moving-rois."
        )
    return entry


def load(entry: Entry) -> Any:
    """The class or function behind an entry.

    Raises:
        UsageError: The entry has nothing to load (a method is a preset).
    """
    if not entry.target:
        raise UsageError(f"'{entry.name}' has nothing to load", "an encoder or a proposer")
    module, _, name = entry.target.partition(":")
    return getattr(import_module(module), name)
