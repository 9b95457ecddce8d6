"""What a matcher is given, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from samreg.config import MatchingConfig
from samreg.encoders.base import Encoder
from samreg.geometry import Volume
from samreg.rois import RoiPairs, RoiSet
from samreg.transforms import Affine
from samreg.types import Mask


@dataclass(frozen=True, eq=False)
class SegmentedImage:
    """One image of a registration, with what was found in it.

    Attributes:
        image: As it was read.
        working: At the resolution of the regions.
        body: [i, j, k] on the working grid.
        prototypes: [n, c] of the regions; None for given labels.
        displaced: [n, c] the same read in another field of view, for pairs that shall confirm an alignment: features
            that know where in the picture something lies would confirm any alignment. None: as `prototypes`.
    """

    image: Volume
    working: Volume
    body: Mask
    rois: RoiSet
    prototypes: np.ndarray | None
    displaced: np.ndarray | None = None

    @property
    def body_size_mm(self) -> float:
        """Edge of the cube (square) with the body's volume (area)."""
        axes = list(self.working.grid.active_axes)
        return float((self.body.sum() * np.prod(self.working.grid.spacing_mm[axes])) ** (1 / len(axes)))


@dataclass(frozen=True, eq=False)
class Matched:
    """The pairs under one estimate.

    Attributes:
        pairs: Of regions that lie together under it, some held out from every fit; under no estimate: `free`.
        free: Of regions that look alike, wherever they lie.
        moving: The regions of the moving image that were matched.
    """

    pairs: RoiPairs
    free: RoiPairs
    moving: RoiSet


@dataclass(frozen=True, eq=False)
class MatchRequest:
    """What a matcher is asked.

    Attributes:
        fixed, moving: The images.
        encoder: That the prototypes are from.
        config: What is asked of pairs.
        aligned: Rough fixed to moving transform; None: there is no estimate yet. It restricts where pairs may lie, and
            may serve to bring both images to one contrast.
        by_appearance: Not restricted in spite of an alignment, and many: for a first estimate, and to tell a right
            result from a wrong one.
    """

    fixed: SegmentedImage
    moving: SegmentedImage
    encoder: Encoder
    config: MatchingConfig
    aligned: Affine | None = None
    by_appearance: bool = False


class Matcher(Protocol):
    """Pairs regions. A new one is a class with this method, and a row of `registry.MATCHERS`."""

    def match(self, request: MatchRequest) -> RoiPairs:
        """Pairs of regions.

        Args:
            request: The images with their regions, and what is asked.

        Returns:
            Pairs on the grids of the regions, the most confident first.

        Raises:
            InputRefused: There can be no pair.
        """
        ...
