"""Which entries of a score matrix become pairs."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.optimize import linear_sum_assignment

Assignment = Literal["greedy", "optimal", "one_to_many", "hybrid"]


def assign(
    score: np.ndarray,
    kind: Assignment,
    *,
    mutual: bool,
    sure: tuple[np.ndarray, np.ndarray] | None = None,
) -> list[tuple[int, int]]:
    """Pairs (row, column) of a score matrix, greatest score first; entries that are not positive never pair.

    Args:
        score: [n, m].
        kind: "greedy": again and again the greatest entry, its row and column then taken (SAMReg, Eq. 7).
            "optimal": each row and column once, with the greatest total (Hungarian method; Crouse, IEEE
            TAES 52(4), 2016). "one_to_many": every entry. "hybrid": like greedy, but rows and columns that are
            not sure are never taken.
        mutual: Only entries that are the greatest of their row and of their column; for "one_to_many" and
            "hybrid", of at least one of the two.
        sure: Whether each row [n] and column [m] may be in one pair alone; "hybrid" needs it.
    """
    if score.size == 0:
        return []
    several = kind in ("one_to_many", "hybrid")
    if mutual:
        of_row, of_column = score >= score.max(1, keepdims=True), score >= score.max(0, keepdims=True)
        score = np.where(of_row | of_column if several else of_row & of_column, score, 0.0)
    if kind == "optimal":
        rows, columns = linear_sum_assignment(score, maximize=True)
        positive = score[rows, columns] > 0
        rows, columns = rows[positive], columns[positive]
    else:
        rows, columns = np.nonzero(score > 0)
    order = np.argsort(-score[rows, columns], kind="stable")
    ranked = list(zip(rows[order].tolist(), columns[order].tolist(), strict=True))
    if kind == "greedy":
        return _taken_once(ranked, np.ones(score.shape[0], bool), np.ones(score.shape[1], bool))
    if kind == "hybrid":
        if sure is None:
            raise ValueError("a hybrid assignment without what is sure")
        return _taken_once(ranked, *sure)
    return ranked


def _taken_once(ranked: list[tuple[int, int]], rows: np.ndarray, columns: np.ndarray) -> list[tuple[int, int]]:
    """The entries in order, without those whose row or column is taken already; `rows` and `columns` can be taken."""
    taken_rows, taken_columns = np.zeros(len(rows), bool), np.zeros(len(columns), bool)
    out = []
    for n, m in ranked:
        if not taken_rows[n] and not taken_columns[m]:
            taken_rows[n], taken_columns[m] = rows[n], columns[m]
            out.append((n, m))
    return out


def margins(score: np.ndarray) -> np.ndarray:
    """How far each score [n, m] lies above the best rival in its row and column (negative if it loses)."""

    def rival(values: np.ndarray) -> np.ndarray:
        if values.shape[1] < 2:
            return np.zeros_like(values)
        top = np.partition(values, -2, axis=1)
        first, second = top[:, -1:], top[:, -2:-1]
        return np.where(values >= first, second, first)

    return score - np.maximum(rival(score), rival(score.T).T) if score.size else score
