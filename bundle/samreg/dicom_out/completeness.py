"""Presence of the attributes that the standard requires (types 1 and 2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydicom.dataset import Dataset

# Functional groups stand in one of these, not in both: the tables cannot say which. dciodvfy can.
_FUNCTIONAL_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
# Items that name whoever gives out numbers (PS3.3 10.14, 10.18).
_DESIGNATORS = ("IssuerOfAccessionNumberSequence", "AssigningFacilitySequence")


def missing_attributes(ds: Dataset) -> list[str]:
    """What the object lacks of the mandatory modules of its IOD, one clause each.

    Type 1 must be there with a value, type 2 may be empty; nested attributes are required where their
    sequence has items. Conditional attributes (1C, 2C) and functional groups are not judged.

    Source: the tables of PS3.3 that highdicom carries.
    """
    # highdicom keeps the standard's tables in a private module; its version is pinned.
    from highdicom._standard_utils import get_iod_module_map, get_sop_class_iod_map

    iod = get_sop_class_iod_map()[ds.SOPClassUID]
    rows = _rows(m["key"] for m in get_iod_module_map()[iod] if m["usage"] == "M")
    return _missing(ds, (row for row in rows if not set(row["path"]).intersection(_FUNCTIONAL_GROUPS)))


def is_complete(ds: Dataset, sequence: str) -> bool:
    """True if the items of a sequence of the Patient or General Study module hold what the standard requires.

    Beside types 1 and 2 that is a code with its scheme in each code item, a name in each item that identifies an
    issuer, and the type of each universal identifier.
    """
    rows = (row for row in _rows(("patient", "general-study")) if row["path"] and row["path"][0] == sequence)
    return not _missing(ds, rows) and _has_names(ds[sequence].value, sequence)


def _rows(modules: Iterable[str]) -> Iterator[Mapping[str, Any]]:
    """The rows of the standard's tables of these modules."""
    from highdicom._standard_utils import get_module_attribute_map

    table = get_module_attribute_map()
    for module in modules:
        yield from table.get(module, ())


def _missing(ds: Dataset, rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """What of these rows' attributes of type 1 and 2 is not there, or must not be empty."""
    found: dict[str, None] = {}
    for row in rows:
        if row["type"] in ("1", "2"):
            name = " > ".join((*row["path"], row["keyword"]))
            for item in _items_at(ds, row["path"]):
                if row["keyword"] not in item:
                    found[f"{name} is missing (type {row['type']})"] = None
                elif row["type"] == "1" and _is_empty(item, row["keyword"]):
                    found[f"{name} is empty (type 1)"] = None
    return list(found)


def _has_names(items: Iterable[Dataset], sequence: str) -> bool:
    """True if the items of a sequence, and those nested in them, hold what they are called by (type 1C)."""
    for item in items:
        if sequence.endswith("CodeSequence"):  # PS3.3 8.1, 8.2
            short = item.get("CodeValue") or item.get("LongCodeValue")
            if not (item.get("CodingSchemeDesignator") if short else item.get("URNCodeValue")):
                return False
        elif sequence in _DESIGNATORS and not (item.get("LocalNamespaceEntityID") or item.get("UniversalEntityID")):
            return False
        if item.get("UniversalEntityID") and not item.get("UniversalEntityIDType"):
            return False
        if not all(_has_names(nested.value, nested.keyword) for nested in item if nested.VR == "SQ"):
            return False
    return True


def _items_at(ds: Dataset, path: Sequence[str]) -> Iterator[Dataset]:
    """All items of the nested sequences along a path of keywords; the dataset itself for no path."""
    if not path:
        yield ds
        return
    for item in ds.get(path[0]) or ():
        yield from _items_at(item, path[1:])


def _is_empty(item: Dataset, keyword: str) -> bool:
    value = item[keyword].value
    return value is None or (hasattr(value, "__len__") and len(value) == 0)
