"""The protocol of proposers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from samreg.config import ProposalConfig
from samreg.geometry import Volume
from samreg.rois import RoiSet
from samreg.types import Mask

OnProgress = Callable[[float], None]  # called with the share done, 0..1


class Proposer(Protocol):
    """Finds the regions of one image."""

    def propose(
        self, volume: Volume, body: Mask, config: ProposalConfig, *, on_progress: OnProgress | None = None
    ) -> RoiSet:
        """Regions on the grid of the volume, best score first.

        Args:
            volume: The image.
            body: [i, j, k] where regions are looked for.
            config: Limits of size, overlap and number.
            on_progress: Called with the share done, 0..1.
        """
        ...
