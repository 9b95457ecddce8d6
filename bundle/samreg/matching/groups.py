"""Pairs that belong together: because they share a region, or continue each other."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence


def groups_of(keys: Sequence[Iterable[Hashable]]) -> list[int]:
    """The group of each item; items with a key in common are in one group, also by way of others.

    Args:
        keys: Of each item.

    Returns:
        Numbers from 1 in order of the first item; 0 for an item that is alone.
    """
    parent = list(range(len(keys)))

    def root(item: int) -> int:
        while parent[item] != item:
            item = parent[item]
        return item

    first: dict[Hashable, int] = {}
    for item, own in enumerate(keys):
        for key in own:
            a, b = sorted((root(item), root(first.setdefault(key, item))))
            parent[b] = a
    roots = [root(item) for item in range(len(keys))]
    shared = {r for item, r in enumerate(roots) if r != item}
    numbers = {r: n + 1 for n, r in enumerate(sorted(shared))}
    return [numbers.get(r, 0) for r in roots]
