"""The pairs of regions of two images under any linear estimate."""

from __future__ import annotations

from samreg.config import Config
from samreg.encoders.base import Encoder
from samreg.evidence import MIN_WITNESSES
from samreg.matching import Matched, MatchRequest, SegmentedImage, link_slices, with_held_out
from samreg.own_answers import pairs_of
from samreg.regions import RegionFinder
from samreg.registry import build, find_matcher
from samreg.rois import RoiPairs
from samreg.stopwatch import Stage
from samreg.transforms import Affine

FREE_SHARE = 0.25  # of the pairs by appearance that a first estimate is not fitted to


class Pairing:
    """Pairs the regions of two images under any estimate, and keeps each answer.

    The moving image is read again once, as the first estimate lays it: what follows refines that estimate.

    Args:
        finder: Finds the regions of an image anew where it lies otherwise than it was read.
        fixed, moving: As they were read first.
        encoder: That their prototypes are from.
        config: What is asked of pairs.
        stage: Opens a stage of the work by its name.
    """

    def __init__(
        self,
        finder: RegionFinder,
        fixed: SegmentedImage,
        moving: SegmentedImage,
        encoder: Encoder,
        config: Config,
        stage: Stage,
    ) -> None:
        self._finder = finder
        self._fixed, self._moving = fixed, moving
        self._encoder = encoder
        self._config = config
        self._stage = stage
        self._labelled = finder.labels is not None
        entry = find_matcher(config.matching.matcher, labelled=self._labelled)
        self._name, self._matcher = entry.name, build(entry)
        self._kept: dict[bytes | None, Matched] = {}
        self._reread: SegmentedImage | None = None

    def under(self, aligned: Affine | None) -> Matched:
        """Pairs that lie together under an estimate; None: by appearance alone.

        Of those by appearance alone some are held out too, so that they can tell if a first estimate is right. Of few
        that were found none, since the estimate needs them all.
        """
        key = None if aligned is None else aligned.moving_from_fixed.tobytes()
        if key not in self._kept:
            with self._stage("match" if aligned is None else "pairs"):
                self._kept[key] = self._free() if aligned is None else self._under(aligned)
        return self._kept[key]

    def _free(self) -> Matched:
        free = self._match(self._moving, by_appearance=True)
        share = FREE_SHARE if free.independent >= MIN_WITNESSES / FREE_SHARE else 0.0
        if self._labelled:
            share = self._config.matching.held_out_share
        free = with_held_out(free, share, self._config.seed)
        return Matched(free, free, self._moving.rois)

    def _under(self, aligned: Affine) -> Matched:
        if self._labelled:
            return self.under(None)
        matching, moving = self._config.matching, self._moving
        if not matching.position_weight:
            pairs, free = self._match(moving), self.under(None).free  # wherever they lie
        else:
            if self._reread is None:
                with self._stage("regions") as progress:
                    self._reread = self._finder.along(self._fixed, self._moving, aligned, progress)
            moving = self._reread
            pairs = self._match(moving, aligned)
            free = self._match(moving, aligned, by_appearance=True)
        if matching.link and any(p.fixed.is_2d for p in pairs) and not self._fixed.image.grid.is_2d:
            pairs = link_slices(pairs)
        return Matched(with_held_out(pairs, matching.held_out_share, self._config.seed), free, moving.rois)

    def _match(self, moving: SegmentedImage, aligned: Affine | None = None, *, by_appearance: bool = False) -> RoiPairs:
        request = MatchRequest(self._fixed, moving, self._encoder, self._config.matching, aligned, by_appearance)
        return pairs_of(self._name, lambda: self._matcher.match(request), self._fixed.rois.grid, moving.rois.grid)
