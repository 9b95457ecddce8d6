"""Transforms one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from samreg.transforms.base import Transform
from samreg.transforms.linear import Affine, Rigid


class Composite(Transform):
    """The parts applied in order, the first one to the fixed point.

    Build it with `compose`, which flattens and folds neighbouring matrices.
    """

    def __init__(self, parts: Sequence[Transform]) -> None:
        self.parts = tuple(parts)

    def map_tensor(self, points: Tensor) -> Tensor:
        for part in self.parts:
            points = part.map_tensor(points)
        return points

    def inverse(self) -> Transform:
        return compose([part.inverse() for part in reversed(self.parts)])


def compose(parts: Sequence[Transform]) -> Transform:
    """Several transforms as one.

    Args:
        parts: In order of application, the first one to the fixed point.

    Returns:
        The transform from fixed points to moving points (LPS mm). Composites are flattened and neighbouring matrices
        multiplied; no part at all is the identity.
    """
    folded: list[Transform] = []
    for part in (leaf for p in parts for leaf in (p.parts if isinstance(p, Composite) else (p,))):
        previous = folded[-1] if folded else None
        if isinstance(part, Affine) and isinstance(previous, Affine):
            matrix = part.moving_from_fixed @ previous.moving_from_fixed
            rigid = isinstance(part, Rigid) and isinstance(previous, Rigid)
            folded[-1] = Rigid(matrix) if rigid else Affine(matrix)
        else:
            folded.append(part)
    if not folded:
        return Affine.identity()
    return folded[0] if len(folded) == 1 else Composite(folded)
