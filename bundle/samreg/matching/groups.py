"""Pairs that belong together: because they share a region, or continue each other."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def groups_of(keys: Sequence[Iterable[Hashable]]) -> list[int]:
    """The group of each item; items with a key in common are in one group, also by way of others.

    Args:
        keys: Of each item.

    Returns:
        Numbers from 1 in order of the first item; 0 for an item that is alone.
    """
    # A graph whose nodes are the items, and after them the keys.
    nodes: dict[Hashable, int] = {}
    edges = [(item, nodes.setdefault(key, len(keys) + len(nodes))) for item, own in enumerate(keys) for key in own]
    rows, columns = np.array(edges, np.intp).reshape(-1, 2).T
    size = len(keys) + len(nodes)
    graph = coo_array((np.ones(len(edges), np.uint8), (rows, columns)), shape=(size, size))
    components = connected_components(graph, directed=False)[1][: len(keys)]
    _, first, component, count = np.unique(components, return_index=True, return_inverse=True, return_counts=True)
    shared = [c for c in np.argsort(first) if count[c] > 1]
    numbers = {c: n for n, c in enumerate(shared, 1)}
    return [numbers.get(c, 0) for c in component]
