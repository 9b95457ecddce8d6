"""Which row of the family a checkpoint is."""

from __future__ import annotations

import logging
from pathlib import Path

from samreg.errors import UsageError
from samreg.sam.checkpoints import read_json, refused
from samreg.sam.family import FAMILY, Architecture, Variant, variant

log = logging.getLogger(__name__)

MARKER = "samreg.json"  # {"variant": name}, in folders that `samreg weights` wrote


def claimed(path: Path, digest: str, name: str | None) -> tuple[Variant | None, str]:
    """The row that the user, the hash, the marker or the published name says; the first that speaks.

    Args:
        path: The file or folder.
        digest: SHA-256 of its weights.
        name: What the user says, if anything.

    Returns:
        The row, or None, and who says so: "given", "hash", "marker" or "name".

    Raises:
        UsageError: An unknown name, or the hash is that of another row.
    """
    published = next((row for row in FAMILY.values() if digest in row.hashes), None)
    if name is not None:
        row = variant(name)
        if published is not None and published is not row:
            raise _contradicted(path, row, f"the published file of {published.name}")
        return row, "given"
    if published is not None:
        return published, "hash"
    if path.is_dir() and (path / MARKER).is_file():
        marked = read_json(path / MARKER).get("variant")
        if not isinstance(marked, str) or marked not in FAMILY:
            raise refused(path, f"is marked as unknown variant {marked!r}")
        return FAMILY[marked], "marker"
    return by_name(path), "name"


def by_name(path: Path) -> Variant | None:
    """The row whose published file or repository has this name; also in the cache of Hugging Face."""
    path = path.absolute()
    name, parents = path.name.casefold(), {part.casefold() for part in path.parts}
    for row in FAMILY.values():
        hub = row.hub.casefold()
        if name in (row.file.casefold(), row.name, hub.rpartition("/")[2]):
            return row
        if f"models--{hub.replace('/', '--')}" in parents:
            return row
    return None


def confirmed(
    path: Path, claim: tuple[Variant | None, str], architecture: Architecture, encoder: tuple[int, int]
) -> Variant:
    """The row, once the architecture is known: the claimed one if it fits, else the most general one.

    Args:
        path: For messages.
        claim: Of `claimed`.
        architecture: Of the model.
        encoder: Width and blocks of its encoder. A size that no row has (a model of one's own)
            fits every row of its architecture.

    Raises:
        UsageError: The user or a marker names a row that the model cannot be.
    """
    same = [row for row in FAMILY.values() if row.architecture == architecture]
    candidates = [row for row in same if row.encoder == encoder] or same
    row, by = claim
    if row in candidates:
        return row
    if row is not None and by != "name":
        raise _contradicted(path, row, f"a model like {candidates[0].name}")
    guess, others = candidates[0], [c.name for c in candidates[1:] if c.preprocessing != candidates[0].preprocessing]
    if others:
        log.warning(
            "The weights '%s' are taken for %s by their architecture. %s has the same architecture and reads other "
            "pixels. Name the right one with --variant.",
            path.name, guess.name, " or ".join(others),
        )  # fmt: skip
    else:
        log.info("The weights '%s' are taken for %s by their architecture.", path.name, guess.name)
    return guess


def _contradicted(path: Path, row: Variant, what: str) -> UsageError:
    return UsageError(
        f"the weights '{path.name}' are {what}, not {row.name}", f"weights of {row.name}", reason="variant-contradicted"
    )
