"""The names that can be chosen: methods, encoders, proposers, matchers and estimators.

Nothing heavy is imported before `load`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        promptable: Of an encoder: a model that answers prompts, so everything mode works with it. Of a proposer:
            works only with such an encoder.
        options: Of an encoder: what it takes beside the device.
    """

    name: str
    summary: str
    target: str = ""
    needs_weights: bool = False
    promptable: bool = False
    options: tuple[str, ...] = ()


_OR_OWN = ", or module:Class"
_ALL_OPTIONS = ("weights", "variant", "precision", "cache")


def _table(*entries: Entry) -> Mapping[str, Entry]:
    return MappingProxyType({entry.name: entry for entry in entries})


ENCODERS = _table(
    Entry(
        "embedded",
        "small network that is part of samreg (default)",
        "samreg.encoders.models:EmbeddedEncoder",
        promptable=True,
        options=("weights", "precision", "cache"),
    ),
    Entry("handcrafted", "MIND-SSC and local intensity statistics", "samreg.encoders.handcrafted:Handcrafted"),
    Entry(
        "sam",
        "image encoder of a SAM model",
        "samreg.encoders.models:SamEncoder",
        needs_weights=True,
        promptable=True,
        options=("weights", "variant", "precision", "cache"),
    ),
)

PROPOSERS = _table(
    Entry(
        "everything",
        "everything mode: a grid of point prompts on every slice (default with an encoder that answers prompts)",
        "samreg.proposals.everything:Everything",
        promptable=True,
    ),
    Entry(
        "superpixels",
        "stable level sets and blobs at several scales, without a model (default with other encoders)",
        "samreg.proposals.superpixels:Superpixels",
    ),
    Entry("labels", "the classes of given label maps (Case 1)", "samreg.proposals.labels:GivenLabels"),
)

MATCHERS = _table(
    Entry(
        "prototypes",
        "pairs by the similarity of their prototypes, and by where they lie (default)",
        "samreg.matching.matchers:Prototypes",
    ),
    Entry("labels", "pairs of equal numbers in given label maps (Case 1)", "samreg.matching.matchers:GivenLabels"),
)

ESTIMATORS = _table(
    Entry(
        "rigid",
        "rigid: the greatest mutual information, from many starts",
        "samreg.estimation.linear_estimators:DenseRigid",
    ),
    Entry("affine", "affine: the greatest mutual information", "samreg.estimation.linear_estimators:DenseAffine"),
    Entry(
        "velocity",
        "deformable: a velocity field, fitted to self-similarity descriptors and pairs",
        "samreg.estimation.field_estimators:Velocity",
    ),
    Entry(
        "velocity-finer",
        "deformable: as velocity, at four times the detail, only for pictures",
        "samreg.estimation.field_estimators:FinerVelocity",
    ),
    Entry(
        "velocity-stiffer",
        "deformable: as velocity, four times as smooth",
        "samreg.estimation.field_estimators:StifferVelocity",
    ),
    Entry(
        "affine-by-descriptors",
        "affine: self-similarity descriptors that travel with the tissue, also between patients",
        "samreg.estimation.dense_estimators:DescriptorAffine",
    ),
    Entry(
        "symmetric",
        "deformable: local correlation and descriptors, both images treated alike, also between patients",
        "samreg.estimation.dense_estimators:Symmetric",
    ),
    Entry(
        "symmetric-wide",
        "deformable: as symmetric, after a search for displacements of up to a third of the field of view",
        "samreg.estimation.dense_estimators:SymmetricFromCapture",
    ),
    Entry(
        "rigid-from-pairs",
        "rigid: a robust fit to pairs of regions",
        "samreg.estimation.linear_estimators:RigidFromPairs",
    ),
    Entry(
        "affine-from-pairs",
        "affine: a robust fit to pairs of regions",
        "samreg.estimation.linear_estimators:AffineFromPairs",
    ),
    Entry(
        "velocity-from-pairs",
        "deformable: a velocity field, fitted only to pairs",
        "samreg.estimation.field_estimators:VelocityFromPairs",
    ),
    Entry(
        "velocity-from-pairs-finer",
        "deformable: as velocity-from-pairs, at four times the detail, only for pictures",
        "samreg.estimation.field_estimators:FinerVelocityFromPairs",
    ),
    Entry(
        "velocity-from-pairs-stiffer",
        "deformable: as velocity-from-pairs, four times as smooth",
        "samreg.estimation.field_estimators:StifferVelocityFromPairs",
    ),
    Entry(
        "displacement",
        "deformable: a displacement field, fitted only to pairs (SAMReg, Eq. 10)",
        "samreg.estimation.field_estimators:Displacement",
    ),
    Entry(
        "displacement-stiffer",
        "deformable: as displacement, four times as smooth",
        "samreg.estimation.field_estimators:StifferDisplacement",
    ),
)

# All that takes a class of the user's own, `module:Class`, beside its rows.
TABLES: Mapping[str, Mapping[str, Entry]] = MappingProxyType(
    {"encoders": ENCODERS, "proposers": PROPOSERS, "matchers": MATCHERS, "estimators": ESTIMATORS}
)

# What a method sets stands in the preset of its name (see `samreg.config`).
METHODS = _table(
    Entry("hybrid", "paired regions and dense similarity (default)"),
    Entry("pairs", "only paired regions: rigid and affine fits, then a velocity field"),
    Entry("samreg", "only paired regions, as published (Huang et al., arXiv 2405.10879)"),
)


def find(table: Mapping[str, Entry], name: str, what: str) -> Entry:
    """The entry of this name; a name with a colon is a class of the user's own, as `module:Class`.

    Args:
        table: ENCODERS, PROPOSERS, MATCHERS, ESTIMATORS or METHODS.
        name: As the user wrote it.
        what: The kind of thing, for the message ("encoder").

    Raises:
        UsageError: There is no such entry.

    Example:
        >>> find(ENCODERS, "handcrafted", "encoder").needs_weights
        False
    """
    if is_own(name) and table is not METHODS:
        return Entry(name, f"your own {what}", target=name, options=_ALL_OPTIONS)
    if name not in table:
        raise UsageError(
            f"the {what} '{name}' is unknown", f"one of {', '.join(table)}{_OR_OWN * (table is not METHODS)}",
            reason=f"unknown-{what}",
        )  # fmt: skip
    return table[name]


def is_own(name: str) -> bool:
    """Whether a name is that of a class of the user's own."""
    return ":" in name


def find_encoder(name: str, weights: object = None) -> Entry:
    """The encoder of this name.

    Args:
        name: As the user wrote it.
        weights: What is given as its weights; None: nothing.

    Raises:
        UsageError: There is none, or weights are missing or superfluous.

    Example:
        >>> find_encoder("embedded").promptable
        True
    """
    entry = find(ENCODERS, name, "encoder")
    if entry.needs_weights and weights is None:
        raise UsageError(
            f"the encoder '{name}' is used without weights",
            next_step="Name the file or folder with --weights.",
            reason="weights-missing",
        )
    if weights is not None and "weights" not in entry.options:
        others = " or ".join(f"'{e.name}'" for e in ENCODERS.values() if "weights" in e.options)
        raise UsageError(
            f"weights are given for the encoder '{name}'",
            "no weights for this encoder",
            f"Leave out the weights or choose {others}.",
        )
    return entry


def find_proposer(name: str, encoder: str, *, labelled: bool = False) -> Entry:
    """The proposer of this name.

    Args:
        name: "auto": everything mode with an encoder that answers prompts, else superpixels.
        encoder: Name of the encoder beside it.
        labelled: Label maps are given, so no other proposer is asked.

    Raises:
        UsageError: There is none, or it needs label maps or another encoder.

    Example:
        >>> find_proposer("auto", "handcrafted").name
        'superpixels'
    """
    promptable = find(ENCODERS, encoder, "encoder").promptable
    if labelled:
        return PROPOSERS["labels"]
    if name == "auto":
        name = "everything" if promptable else "superpixels"
    entry = find(PROPOSERS, name, "proposer")
    if name == "labels":
        raise UsageError(
            "the proposer 'labels' is used without label maps",
            "a label map for each image",
            "Give --fixed-rois and --moving-rois.",
        )
    if entry.promptable and not promptable:
        able = " or ".join(f"'{e.name}'" for e in ENCODERS.values() if e.promptable)
        raise UsageError(
            f"the proposer '{name}' does not work with the encoder '{encoder}'",
            f"the encoder {able}",
            "Choose another --encoder.",
        )
    return entry


def find_matcher(name: str, *, labelled: bool = False) -> Entry:
    """The matcher of this name.

    Args:
        name: "auto": prototypes, or labels where label maps are given.
        labelled: Label maps are given, so no other matcher is asked.

    Raises:
        UsageError: There is none, or it needs label maps.
    """
    if labelled:
        return MATCHERS["labels"]
    if name == "labels":
        raise UsageError(
            "the matcher 'labels' is used without label maps",
            "a label map for each image",
            "Give --fixed-rois and --moving-rois.",
        )
    return find(MATCHERS, "prototypes" if name == "auto" else name, "matcher")


def find_estimators(names: Sequence[str]) -> tuple[Entry, ...]:
    """The estimators of these names.

    Raises:
        UsageError: One of them is unknown or stands there twice, or there is none.
    """
    if not names:
        raise UsageError("the list of estimators is empty", f"one or more of {', '.join(ESTIMATORS)}{_OR_OWN}")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"the estimator '{twice}' stands twice in a list of estimators", "each estimator once")
    return tuple(find(ESTIMATORS, name, "estimator") for name in names)


def load(entry: Entry) -> Any:
    """The class or function behind an entry.

    Raises:
        UsageError: The entry has nothing to load (a method is a preset), or a class of the user's own cannot be
            imported, for whatever reason.
    """
    if not entry.target:
        raise UsageError(f"'{entry.name}' has nothing to load", "an encoder, a proposer, a matcher or an estimator")
    module, _, name = entry.target.partition(":")
    if not is_own(entry.name):
        return getattr(import_module(module), name)
    try:
        return getattr(import_module(module), name)
    except (Exception, SystemExit) as error:  # whatever the module does when it is imported
        raise UsageError(
            f"'{entry.name}' cannot be imported ({type(error).__name__}: {error})", "a class that can be imported",
            "Put the folder of the module into PYTHONPATH, and correct what the module raises.", reason="no-such-class",
        ) from error  # fmt: skip


def build(entry: Entry, *args: Any, **options: Any) -> Any:
    """An object of the class behind an entry.

    Args:
        entry: Of the registry, or a class of the user's own.
        args, options: What its class is made with.

    Raises:
        UsageError: A class of the user's own is not there, or cannot be made with these.
    """
    of_class = load(entry)
    try:
        return of_class(*args, **options)
    except Exception as error:
        if not is_own(entry.name):
            raise
        raise UsageError(
            f"'{entry.name}' cannot be made ({error})", "a class as CONTRIBUTING.md shows it", reason="no-such-class"
        ) from error
