"""What proposers and matchers of the user's own answer is checked once, and the class is named."""

from dataclasses import replace

import numpy as np
import pytest

from samreg.errors import InputRefused, UsageError
from samreg.geometry import Grid
from samreg.own_answers import pairs_of, regions_of
from samreg.rois import Roi, RoiPair, RoiPairs, RoiSet

GRID = Grid((8, 8, 4), np.eye(4))
ELSEWHERE = Grid((8, 8, 4), np.diag([2.0, 1, 1, 1]))
REGION = Roi.from_mask(np.ones((2, 2, 2), bool), offset=(1, 1, 1))
OUTSIDE = replace(REGION, start=(7, 1, 1))
PAIR = RoiPair(1, REGION, REGION, 0.9, 0.8)
NAN = float("nan")


def raising(error):
    def ask():
        raise error

    return ask


def pairs(*some, grid=GRID) -> RoiPairs:
    return RoiPairs(GRID, grid, tuple(some))


def test_what_is_right_passes_as_it_is():
    found, paired = RoiSet(GRID, (REGION,), ("a note",)), pairs(PAIR, replace(PAIR, id=2))
    assert regions_of("mine:Proposer", lambda: found, GRID) is found
    assert pairs_of("mine:Matcher", lambda: paired, GRID, GRID) is paired
    assert not pairs_of("mine:Matcher", pairs, GRID, GRID).pairs


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (None, "a NoneType"),
        ([REGION], "a list"),
        (RoiSet(ELSEWHERE, (REGION,)), "regions on another grid"),
        (RoiSet(None, ()), "regions on another grid"),
        (RoiSet(GRID, [REGION]), "no tuple of samreg.rois.Roi"),
        (RoiSet(GRID, (np.ones((2, 2, 2)),)), "no tuple of samreg.rois.Roi"),
        (RoiSet(GRID, (REGION,), "a note"), "notes are no tuple"),
        (RoiSet(GRID, (OUTSIDE,)), "a region outside the image"),
        (RoiSet(GRID, (replace(REGION, bits=b"\0"),)), "a region without voxels"),
        (RoiSet(GRID, (replace(REGION, score=NAN),)), "the score nan"),
        (RoiSet(GRID, (replace(REGION, start=None),)), "failed (TypeError"),
    ],
)
def test_regions_of_another_kind_are_refused(found, said):
    with pytest.raises(UsageError, match="The proposer 'mine:Proposer'") as refused:
        regions_of("mine:Proposer", lambda: found, GRID)
    assert said in refused.value.sentence
    assert "RoiSet on the grid of the volume" in refused.value.expected
    assert "CONTRIBUTING.md" in refused.value.next_step


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([PAIR], "a list"),
        (pairs(PAIR, grid=ELSEWHERE), "pairs on other grids"),
        (RoiPairs(GRID, GRID, [PAIR]), "no tuple of samreg.rois.RoiPair"),
        (pairs((REGION, REGION)), "no tuple of samreg.rois.RoiPair"),
        (pairs(PAIR, PAIR), "each once"),
        (pairs(replace(PAIR, id=0)), "whole numbers from 1"),
        (pairs(replace(PAIR, confidence=NAN)), "the confidence nan"),
        (pairs(replace(PAIR, confidence=1.5)), "the confidence 1.5"),
        (pairs(replace(PAIR, similarity="high")), "the similarity 'high'"),
        (pairs(replace(PAIR, group="a")), "groups are not whole numbers"),
        (pairs(replace(PAIR, moving=OUTSIDE)), "a pair with a region outside the image"),
        (pairs(replace(PAIR, fixed=None)), "a pair with a NoneType as a region"),
    ],
)
def test_pairs_of_another_kind_are_refused(found, said):
    with pytest.raises(UsageError, match="The matcher 'mine:Matcher'") as refused:
        pairs_of("mine:Matcher", lambda: found, GRID, GRID)
    assert said in refused.value.sentence
    assert "RoiPairs on the grids of the regions" in refused.value.expected


def test_a_class_that_breaks_off_is_named_and_one_of_the_library_is_not_looked_at():
    with pytest.raises(UsageError, match=r"'mine:Matcher' failed \(KeyError: 'nose'\)"):
        pairs_of("mine:Matcher", raising(KeyError("nose")), GRID, GRID)
    with pytest.raises(KeyError):
        pairs_of("prototypes", raising(KeyError("nose")), GRID, GRID)


@pytest.mark.parametrize("error", [InputRefused("there is none", reason="no-common-label"), MemoryError()])
def test_refusals_and_a_lack_of_memory_pass_as_they_are(error):
    with pytest.raises(type(error)):
        regions_of("mine:Proposer", raising(error), GRID)
