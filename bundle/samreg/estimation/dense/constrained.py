"""All constraints of a registration on the two half fields of the symmetric descent."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from samreg.constraints.model import Constraints
from samreg.estimation.dense.keeping import Keeper
from samreg.estimation.dense.landmarks import LandmarkPull
from samreg.geometry import Grid
from samreg.transforms import Affine, Transform

ROUNDS = 8  # of corrections, each of which disturbs the others a little
SETTLED_MM = 0.01  # that a round changes the fields by, below which there is no other


@dataclass(frozen=True, eq=False)
class Constrained:
    """Corrects half fields, so that constraints hold of the whole transform.

    Attributes:
        keepers: Of the regions that keep their volume, and of those that keep their shape; in this order, since a
            rigid region keeps its volume too.
        pull: Of the landmarks; None without any.
    """

    keepers: tuple[Keeper, ...]
    pull: LandmarkPull | None

    @staticmethod
    def by(constraints: Constraints, start: Affine) -> Constrained:
        """The corrections that constraints ask for, in front of a linear start."""
        regions = (constraints.keep_volume, False), (constraints.keep_rigid, True)
        return Constrained(
            tuple(Keeper(volume, start, rigid) for volume, rigid in regions if volume is not None),
            None if constraints.landmarks is None else LandmarkPull(constraints.landmarks, start),
        )

    def kept(self, fields: Tensor, grid: Grid) -> Tensor:
        """The fields [2, i, j, k, 3] with their regions corrected once, as between the steps of a descent."""
        for keeper in self.keepers:
            fields = keeper.kept(fields, grid)
        return fields

    def aimed(self, inverse: Transform) -> Constrained | None:
        """Corrections that make up for what a transform that these ended at misses; None where it is near enough.

        Args:
            inverse: Moving points to fixed points.
        """
        aimed = [keeper.aimed(inverse) for keeper in self.keepers]
        if not any(aimed):
            return None
        keepers = tuple(new or old for new, old in zip(aimed, self.keepers, strict=True))
        return Constrained(keepers, self.pull)

    def settled(self, fields: Tensor, grid: Grid) -> Tensor:
        """The fields [2, i, j, k, 3] with regions and landmarks corrected until nothing changes."""
        if not self.keepers and self.pull is None:
            return fields
        for _ in range(ROUNDS):
            before = fields
            if self.pull is not None:
                fields = self.pull.pulled(fields, grid)
            fields = self.kept(fields, grid)
            if float((fields - before).abs().max()) < SETTLED_MM:
                break
        return fields
