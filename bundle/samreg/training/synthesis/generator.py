"""Pairs of images with known regions and known correspondence, without end and without a patient."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from samreg.training.synthesis.appearance import SAME_CONTRAST, AppearanceFamily, draw_appearance
from samreg.training.synthesis.draw import Draw
from samreg.training.synthesis.shapes import ShapeFamily, draw_scene
from samreg.training.synthesis.views import draw_views
from samreg.training.synthesis.visibility import visible_regions

TRAINING_SHAPES: tuple[ShapeFamily, ...] = ("ellipses", "shells", "tubes", "noise", "voronoi", "nested", "bodies")
TRAINING_APPEARANCES: tuple[AppearanceFamily, ...] = ("mr", "ct", "ultrasound", "pet", "stain")
HELD_OUT_SHAPES: tuple[ShapeFamily, ...] = ("lobes", "bodies")
HELD_OUT_APPEARANCES: tuple[AppearanceFamily, ...] = ("fibres",)


@dataclass(frozen=True, eq=False)
class Pairs:
    """A batch of image pairs.

    Attributes:
        images: float32 [b, 2, y, x], 0..1.
        labels: int64 [b, 2, y, x]; 0 is outside.
        within: bool [b, r, l]: label l is part of region r.
        visible: bool [b, 2, r]: the region can be seen in the view (see `visible_regions`).
        matched: bool [b, r]: it is the same region in both views, and visible in both.
        places: float32 [b, 2, y, x, 2]: x and y in the first view of what a pixel shows, -1 and 1 its edges.
        same_contrast: bool [b].
    """

    images: Tensor
    labels: Tensor
    within: Tensor
    visible: Tensor
    matched: Tensor
    places: Tensor
    same_contrast: Tensor


@dataclass(frozen=True)
class Synthesis:
    """What pairs are drawn from.

    Attributes:
        shapes, appearances: Families.
        same_contrast: Share of the pairs.
    """

    shapes: tuple[ShapeFamily, ...] = TRAINING_SHAPES
    appearances: tuple[AppearanceFamily, ...] = TRAINING_APPEARANCES
    same_contrast: float = SAME_CONTRAST

    def draw(self, draw: Draw, batch: int, size: int) -> Pairs:
        """A batch of pairs of square images.

        Args:
            draw: Source of the random numbers.
            batch: Pairs.
            size: Side in pixels.
        """
        places = draw_views(draw, batch, size)
        scene = draw_scene(draw, places, self.shapes)
        images, same = draw_appearance(draw, scene, places, self.appearances, self.same_contrast)
        of_views = scene.within.repeat_interleave(2, 0)
        visible = visible_regions(images.flatten(0, 1), scene.labels.flatten(0, 1), of_views).view(batch, 2, -1)
        visible &= scene.regions[:, None]
        matched = visible.all(1) & scene.matched
        return Pairs(images, scene.labels, scene.within, visible, matched, places, same)
