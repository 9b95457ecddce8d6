"""Random numbers of one seeded source, batched, on one device."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

FIELD_EXTENT = 1.5  # a field covers -1.5 to 1.5 along both axes, so that a moved view still lies on it
_SEED_STRIDE = 1_000_003
_UPSAMPLED = 4  # so that linear interpolation of a field is smooth


class Draw:
    """Draws from a seeded generator.

    Args:
        seed: Of the generator.
        device: Where the numbers come to lie. Each kind of device has its own sequence.
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.generator = torch.Generator(self.device).manual_seed(seed)

    @classmethod
    def numbered(cls, seed: int, number: int, device: torch.device | str = "cpu") -> Draw:
        """The `number`-th source of a seed; neighbouring seeds have none in common."""
        return cls(seed * _SEED_STRIDE + number, device)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Evenly between two numbers."""
        return torch.rand(*shape, generator=self.generator, device=self.device) * (high - low) + low

    def log_uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Evenly on a logarithmic scale."""
        return self.uniform(math.log(low), math.log(high), *shape).exp()

    def normal(self, *shape: int) -> Tensor:
        """Mean 0, deviation 1."""
        return torch.randn(*shape, generator=self.generator, device=self.device)

    def chance(self, probability: float, *shape: int) -> Tensor:
        """Bool, true with this probability."""
        return torch.rand(*shape, generator=self.generator, device=self.device) < probability

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """int64 from low to high - 1."""
        return torch.randint(low, high, shape, generator=self.generator, device=self.device)

    def field(self, batch: int, channels: int, cells: int) -> Tensor:
        """Smooth random fields to be read by `sample`: about mean 0 and deviation 1, `cells` bumps along an axis."""
        coarse = self.normal(batch, channels, cells, cells)
        return interpolate(coarse, scale_factor=_UPSAMPLED, mode="bicubic", align_corners=False)


def sample(field: Tensor, places: Tensor) -> Tensor:
    """A field [b, c, n, n] at places [b, y, x, 2], x and y of -1..1 being the image: [b, c, y, x]."""
    return grid_sample(field, places / FIELD_EXTENT, mode="bilinear", padding_mode="reflection", align_corners=False)
