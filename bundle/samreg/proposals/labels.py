"""Given label maps as regions (Case 1 of the paper: both images segmented into the same classes)."""

from __future__ import annotations

from samreg.config import ProposalConfig
from samreg.errors import UsageError
from samreg.geometry import Volume
from samreg.proposals.base import OnProgress
from samreg.rois import RoiSet
from samreg.types import Labels, Mask


class GivenLabels:
    """One region for each class of a label map; no filter, since each class was asked for.

    Args:
        labels: [i, j, k] whole numbers, 0 is background.
    """

    def __init__(self, labels: Labels) -> None:
        self.labels = labels

    def propose(
        self, volume: Volume, body: Mask, config: ProposalConfig, *, on_progress: OnProgress | None = None
    ) -> RoiSet:
        """Regions with their class as `label`.

        Raises:
            UsageError: The map has another shape than the volume, or no class at all.
        """
        rois = RoiSet.from_labels(self.labels, volume.grid)
        if not rois.rois:
            raise UsageError("the label map holds no labels", reason="empty-labels")
        if on_progress:
            on_progress(1.0)
        return rois
