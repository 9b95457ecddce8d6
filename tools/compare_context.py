"""Does the embedded model gain from the slices beside a slice? Two short trainings that differ in that alone.

python tools/compare_context.py [--steps 1200] [--pairs 96]

Prints a Markdown table of the gates on held-out families. The slices beside one show the same scene where a smooth
field has moved its outlines, with the same contrast and texture and noise of their own.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import torch
from torch import Tensor, nn

from samreg.embedded.network import EmbeddedNetwork, FeatureMaps
from samreg.encoders.models import calibration_of
from samreg.training import loop
from samreg.training.gates import measure
from samreg.training.loop import Recipe, Training
from samreg.training.synthesis import HELD_OUT_APPEARANCES, HELD_OUT_SHAPES, Draw, Synthesis
from samreg.training.synthesis.appearance import draw_appearance
from samreg.training.synthesis.draw import sample
from samreg.training.synthesis.generator import Pairs
from samreg.training.synthesis.shapes import draw_scene
from samreg.training.synthesis.views import draw_views

APART = (0.02, 0.15)  # outlines move by so much from slice to slice, of half the image's side
CELLS = 4
PIXELS = 128 * 128 * 8
SIZES = ((96, 0.5), (128, 0.5))

beside: list[Tensor] = []  # the slices before and after those of the pairs drawn last, [2b, y, x]


class OwnNoise(Draw):
    """Repeats a draw, but for the noise of its pixels."""

    def __init__(self, state: Tensor, size: int, seed: int) -> None:
        super().__init__(0)
        self.generator.set_state(state)
        self._size, self._noise = size, Draw(seed)

    def normal(self, *shape: int) -> Tensor:
        repeated = super().normal(*shape)
        return self._noise.normal(*shape) if len(shape) == 3 and shape[1:] == (self._size, self._size) else repeated


class Stacks(Synthesis):
    """Pairs of slices with those beside them."""

    def draw(self, draw: Draw, batch: int, size: int) -> Pairs:
        state = draw.generator.get_state()
        pairs = super().draw(draw, batch, size)
        strength = draw.log_uniform(*APART, batch, 1, 1, 1, 1)
        field = draw.field(batch, 2, CELLS).repeat_interleave(2, 0)
        beside.clear()
        for side in (-1, 1):
            again = OwnNoise(state, size, int(draw.integers(0, 2**31, 1)))
            places = draw_views(again, batch, size)
            moved = sample(field, places.flatten(0, 1)).movedim(1, -1).view_as(places)
            places = places + side * strength * moved
            scene = draw_scene(again, places, self.shapes)
            images, _ = draw_appearance(again, scene, places, self.appearances, self.same_contrast)
            beside.append(images.flatten(0, 1))
        return pairs


class ThreeSlices(EmbeddedNetwork):
    """Reads the slices beside a slice as channels."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.stem = nn.Conv2d(3, self.size.widths[0], 3, 2, 1)

    def encode(self, images: Tensor) -> FeatureMaps:
        return super().encode(torch.cat([images, *(image[:, None] for image in beside)], 1))


@contextmanager
def networks_are(kind: type[EmbeddedNetwork]) -> Iterator[None]:
    """Within the block trainings make networks of this kind."""
    usual = loop.EmbeddedNetwork
    loop.EmbeddedNetwork = kind  # type: ignore[misc]
    try:
        yield
    finally:
        loop.EmbeddedNetwork = usual  # type: ignore[misc]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--pairs", type=int, default=96)
    asked = parser.parse_args()
    names = ("point_iou", "box_iou", "top1", "top1_embedding", "near")
    print(f"| reads | contrast | {' | '.join(names)} |\n|{'---|' * (2 + len(names))}")
    for name, kind in (("one slice", EmbeddedNetwork), ("three slices", ThreeSlices)):
        with networks_are(kind):
            training = Training(Recipe(steps=asked.steps, pixels=PIXELS, sizes=SIZES), synthesis=Stacks())
        while training.progress < 1:
            training.advance()
        for contrast, same in (("same", 1.0), ("different", 0.0)):
            stacks = Stacks(HELD_OUT_SHAPES, HELD_OUT_APPEARANCES, same)
            gates = asdict(measure(training.averaged, stacks, calibration_of({}), seed=3, pairs=asked.pairs, size=128))
            print(f"| {name} | {contrast} | " + " | ".join(f"{gates[n]:.3f}" for n in names) + " |", flush=True)


if __name__ == "__main__":
    main()
