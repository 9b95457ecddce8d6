"""The regions that a proposer finds in the two images, with their prototypes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from samreg.config import Config
from samreg.constraints.model import counted_body
from samreg.encoders.base import Encoder
from samreg.encoders.pooling import pool
from samreg.geometry import Volume, field_scale
from samreg.matching import SegmentedImage
from samreg.own_answers import regions_of
from samreg.preprocess import body_mask, cut_along, displaced, for_slices, mask_on, working_volume
from samreg.proposals import create_proposer
from samreg.proposals.labels import GivenLabels
from samreg.registry import find_proposer
from samreg.transforms import Affine
from samreg.types import Labels

logger = logging.getLogger(__name__)

REGIONS_MM = 2.5  # of a field of view of 256 mm, and scales with it
# Of sampled slices. With 256 pixels and 48 slices a run takes twice as long, and finds a tenth more pairs.
MODEL_SIDE, MODEL_SLICES = 192, 36
PICTURE_SIDE = 256  # a single picture has few regions, and costs little

OnProgress = Callable[[float], None]  # called with the share done, 0..1


@dataclass(frozen=True, eq=False)
class RegionFinder:
    """Finds the regions of the two images of a registration as its configuration asks.

    Attributes:
        fixed, moving: The images.
        config: Names proposer and encoder.
        encoder: Makes features.
        labels: Given label maps, in place of a proposer.
        masks: What counts of the fixed and the moving image, 0 and 1 on any grid of it; None: all of it.
        notes: What the proposer did in place of what was asked for, one sentence each; it has said so in the log.
    """

    fixed: Volume
    moving: Volume
    config: Config
    encoder: Encoder
    labels: tuple[Labels, Labels] | None = None
    masks: tuple[Volume | None, Volume | None] = (None, None)
    notes: list[str] = field(default_factory=list, init=False)

    @property
    def proposer(self) -> str:
        """Registry name, "auto" resolved."""
        proposer, encoder = self.config.proposals.proposer, self.config.encoder
        return find_proposer(proposer, encoder, labelled=self.labels is not None).name

    def segmented(self, on_progress: OnProgress) -> tuple[SegmentedImage, SegmentedImage]:
        """Both images with their regions."""
        labels = self.labels or (None, None)
        fixed = self._segmented(self.fixed, labels[0], self.masks[0], lambda share: on_progress(share / 2))
        moving = self._segmented(self.moving, labels[1], self.masks[1], lambda share: on_progress((1 + share) / 2))
        logger.info(
            "%d regions were found in the fixed image and %d in the moving image.", len(fixed.rois), len(moving.rois)
        )
        return fixed, moving

    def along(
        self, fixed: SegmentedImage, moving: SegmentedImage, aligned: Affine, on_progress: OnProgress
    ) -> SegmentedImage:
        """The moving image cut anew along the fixed slices, with the regions there, if it lies otherwise.

        Slices that cross each other at an angle show few regions in common.

        Args:
            fixed, moving: Of `segmented`.
            aligned: Rough fixed to moving transform.
            on_progress: Called with the share done, 0..1.
        """
        if not self.encoder.rereads_aligned or moving.prototypes is None:
            return moving
        cut = cut_along(moving.image, fixed.image.grid, aligned)
        segmented = moving
        if cut is not moving.image:
            found = self._segmented(cut, None, self.masks[1], on_progress)
            logger.info("%d regions were found in the moving image, cut along the fixed slices.", len(found.rois))
            # The evidence stays with the image as it was acquired: the cut shows no more than the fixed one does.
            segmented = replace(moving, rois=found.rois, prototypes=found.prototypes)
        elsewhere = self.encoder.encode(self._read(displaced(cut), moving.working))
        return replace(segmented, displaced=pool(elsewhere, segmented.rois))

    def _segmented(
        self, image: Volume, labels: Labels | None, mask: Volume | None, on_progress: OnProgress
    ) -> SegmentedImage:
        proposals = self.config.proposals
        spacing_mm = REGIONS_MM * field_scale(self.fixed.grid, self.moving.grid)
        working = working_volume(image, spacing_mm, keep_slices=proposals.per_slice)
        body = counted_body(body_mask(working), working.grid, mask)
        if labels is not None:
            rois = GivenLabels(labels).propose(image, mask_on(body, working.grid, image.grid), proposals)
            on_progress(1.0)
            return SegmentedImage(image, working, body, rois, None)
        read = self._read(image, working)
        source = read if self.proposer == "everything" else working
        proposer = create_proposer(self.proposer, self.encoder)
        on_source = mask_on(body, working.grid, source.grid)
        rois = regions_of(
            self.proposer,
            lambda: proposer.propose(source, on_source, proposals, on_progress=lambda s: on_progress(0.9 * s)),
            source.grid,
        )
        self.notes.extend(note for note in rois.notes if note not in self.notes)
        prototypes = pool(self.encoder.encode(read), rois)
        on_progress(1.0)
        return SegmentedImage(image, working, body, rois, prototypes)

    def _read(self, image: Volume, working: Volume) -> Volume:
        """What the encoder is given of an image; sampled slices with no more pixels than it can tell apart."""
        if self.encoder.reads == "working image":
            return working
        if self.encoder.reads == "slices":
            return image
        grids = self.fixed.grid, self.moving.grid
        longest_mm = max(float(grid.extent_mm[:2].max()) for grid in grids)
        finest_mm = min(float(grid.spacing_mm[:2].min()) for grid in grids)
        side = PICTURE_SIDE if image.grid.is_2d else MODEL_SIDE
        return for_slices(image, max(finest_mm, longest_mm / side), MODEL_SLICES)
