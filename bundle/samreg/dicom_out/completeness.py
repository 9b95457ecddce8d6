"""Presence of the attributes that the standard requires (types 1 and 2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydicom.dataset import Dataset

# Functional groups stand in one of these, not in both: the tables cannot say which. dciodvfy can.
_FUNCTIONAL_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")


def missing_attributes(ds: Dataset) -> list[str]:
    """What the object lacks of the mandatory modules of its IOD, one clause each.

    Type 1 must be there with a value, type 2 may be empty; nested attributes are required where their
    sequence has items. Conditional attributes (1C, 2C) and functional groups are not judged.

    Source: the tables of PS3.3 that highdicom carries.
    """
    # highdicom keeps the standard's tables in a private module; its version is pinned.
    from highdicom._standard_utils import get_iod_module_map, get_module_attribute_map, get_sop_class_iod_map

    iod = get_sop_class_iod_map()[ds.SOPClassUID]
    modules = [m["key"] for m in get_iod_module_map()[iod] if m["usage"] == "M"]
    table = get_module_attribute_map()
    found: dict[str, None] = {}
    for module in modules:
        for row in table.get(module, ()):
            if row["type"] in ("1", "2") and not set(row["path"]).intersection(_FUNCTIONAL_GROUPS):
                name = " > ".join((*row["path"], row["keyword"]))
                for item in _items_at(ds, row["path"]):
                    if row["keyword"] not in item:
                        found[f"{name} is missing (type {row['type']})"] = None
                    elif row["type"] == "1" and _is_empty(item, row["keyword"]):
                        found[f"{name} is empty (type 1)"] = None
    return list(found)


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
