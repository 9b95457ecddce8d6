"""The optimizer of matrices and filters: steps of equal size in all directions (Muon; Jordan et al., 2024).

torch.optim.Muon takes matrices alone; here filters count as matrices too, a row for each output channel.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration, as published
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal by a Newton-Schulz iteration.

    Args:
        params: Of two dimensions or more; of three, a stack of matrices.
        lr: Learning rate.
        momentum: Of the gradient's mean.
        weight_decay: Times the learning rate.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float = 0.02, momentum: float = 0.95, weight_decay: float = 0.1
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step along the gradients; there is no closure."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                mean = state.setdefault("mean", torch.zeros_like(parameter))
                mean.lerp_(parameter.grad, 1 - group["momentum"])
                ahead = parameter.grad.lerp(mean, group["momentum"])
                matrix = ahead.flatten(1) if ahead.ndim > 3 else ahead
                rows, columns = matrix.shape[-2:]
                size = group["lr"] * max(1.0, rows / columns) ** 0.5
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(_orthogonal(matrix).view_as(parameter), alpha=-size)


def _orthogonal(matrix: Tensor) -> Tensor:
    """A matrix [..., rows, columns] with all its singular values brought near 1."""
    a, b, c = _COEFFICIENTS
    tall = matrix.shape[-2] > matrix.shape[-1]
    out = (matrix.mT if tall else matrix).bfloat16()
    out = out / (out.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(_ITERATIONS):
        square = out @ out.mT
        out = a * out + (b * square + c * square @ square) @ out
    return (out.mT if tall else out).to(matrix.dtype)
