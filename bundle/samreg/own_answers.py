"""What proposers and matchers of the user's own (`module:Class`) answer, checked where it enters the library."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import isfinite, prod
from numbers import Real
from typing import Any, TypeVar

import torch

from samreg.errors import InputRefused, UsageError
from samreg.geometry import Grid
from samreg.registry import is_own
from samreg.rois import Roi, RoiPair, RoiPairs, RoiSet

T = TypeVar("T")

REGIONS = "a samreg.rois.RoiSet on the grid of the volume"
PAIRS = "samreg.rois.RoiPairs on the grids of the regions"


def regions_of(name: str, propose: Callable[[], RoiSet], grid: Grid) -> RoiSet:
    """The regions that a proposer finds.

    Args:
        name: Of the proposer; one of the library is not checked.
        propose: Asks it.
        grid: Of the image that it is given.

    Raises:
        UsageError: A class of the user's own failed, or answered with something else.
        InputRefused: As the proposer raised it.
    """
    return _checked("proposer", name, propose, REGIONS, lambda found: _wrong_regions(found, grid))


def pairs_of(name: str, match: Callable[[], RoiPairs], fixed: Grid, moving: Grid) -> RoiPairs:
    """The pairs that a matcher finds.

    Args:
        name: Of the matcher; one of the library is not checked.
        match: Asks it.
        fixed, moving: Grids of the regions that it is given.

    Raises:
        UsageError: A class of the user's own failed, or answered with something else.
        InputRefused: As the matcher raised it.
    """
    return _checked("matcher", name, match, PAIRS, lambda found: _wrong_pairs(found, fixed, moving))


def _checked(what: str, name: str, ask: Callable[[], T], expected: str, wrong: Callable[[Any], str]) -> T:
    if not is_own(name):
        return ask()
    try:
        found = ask()
        why = wrong(found)
    except (InputRefused, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise UsageError(
            f"the {what} '{name}' failed ({type(error).__name__}: {error})", expected, reason="wrong-answer"
        ) from error
    if why:
        raise UsageError(f"the {what} '{name}' returned {why}", expected, reason="wrong-answer")
    return found


def _wrong_regions(found: Any, grid: Grid) -> str:
    """What is wrong with a set of regions, a noun; empty if nothing is."""
    if not isinstance(found, RoiSet):
        return f"a {type(found).__name__}"
    if not isinstance(found.grid, Grid) or not found.grid.same_as(grid):
        return "regions on another grid"
    if not _are(found.notes, str):
        return "regions whose notes are no tuple of sentences"
    if not _are(found.rois, Roi):
        return "regions that are no tuple of samreg.rois.Roi"
    return next((why for roi in found.rois if (why := _wrong_region(roi, grid))), "")


def _wrong_pairs(found: Any, fixed: Grid, moving: Grid) -> str:
    """What is wrong with pairs, a noun; empty if nothing is."""
    if not isinstance(found, RoiPairs):
        return f"a {type(found).__name__}"
    grids = ((found.fixed_grid, fixed), (found.moving_grid, moving))
    if not all(isinstance(one, Grid) and one.same_as(other) for one, other in grids):
        return "pairs on other grids"
    if not _are(found.pairs, RoiPair):
        return "pairs that are no tuple of samreg.rois.RoiPair"
    numbers = [pair.id for pair in found.pairs]
    if not _are(tuple(numbers), int) or min(numbers, default=1) < 1 or len(set(numbers)) < len(numbers):
        return "pairs whose ids are not whole numbers from 1, each once"
    if not _are(tuple(pair.group for pair in found.pairs), int):
        return "pairs whose groups are not whole numbers"
    for pair in found.pairs:
        if not (_is_number(pair.similarity) and _is_number(pair.confidence) and 0 <= pair.confidence <= 1):
            return (
                f"a pair with the similarity {pair.similarity!r} and the confidence {pair.confidence!r}, "
                "which are not finite, or not within 0 and 1"
            )
        if why := _wrong_region(pair.fixed, fixed) or _wrong_region(pair.moving, moving):
            return f"a pair with {why}"
    return ""


def _wrong_region(roi: Any, grid: Grid) -> str:
    if not isinstance(roi, Roi):
        return f"a {type(roi).__name__} as a region"
    ends = [a + n for a, n in zip(roi.start, roi.shape, strict=True)]
    if min(roi.start) < 0 or min(roi.shape) < 1 or any(e > n for e, n in zip(ends, grid.shape, strict=True)):
        return f"a region outside the image (voxels {roi.start} to {tuple(ends)} of {grid.shape})"
    if len(roi.bits) != -(-prod(roi.shape) // 8) or not roi.count:
        return "a region without voxels, or whose bits do not fill its box"
    return "" if _is_number(roi.score) else f"a region with the score {roi.score!r}"


def _are(values: Iterable[Any], kind: type) -> bool:
    return isinstance(values, tuple) and all(isinstance(value, kind) for value in values)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and isfinite(value)
