"""ε and K of one image pair from its own margins, in place of fixed numbers (the paper's future work)."""

from __future__ import annotations

import numpy as np

QUANTILE = 0.9


def least_margin(score: np.ndarray) -> float:
    """How far a pair must lie above its best rival for that not to be chance.

    A region has one counterpart at most, so its second- and third-best partners are both wrong, and the gap between
    them shows by how much wrong partners differ. The 0.9 quantile of these gaps over all rows and columns is the
    margin asked. The similarity that a pair must reach (ε) then is its rival's plus this margin, and the number of
    pairs (K) is that of those that do.

    Args:
        score: [n, m], 0 where two regions may not pair.

    Returns:
        The margin; 0 where no region has three partners to choose from.
    """
    gaps = [np.zeros(0)]
    for values in (score, score.T):
        if values.shape[1] >= 3:
            top = -np.sort(np.partition(-values, 2, axis=1)[:, :3], axis=1)  # best three, the greatest first
            gaps.append((top[:, 1] - top[:, 2])[top[:, 2] > 0])
    known = np.concatenate(gaps)
    return float(np.quantile(known, QUANTILE)) if known.size else 0.0
