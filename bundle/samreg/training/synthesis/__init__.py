"""Image pairs with known regions and known correspondence, drawn without end from random shapes and contrasts."""

from samreg.training.synthesis.draw import Draw
from samreg.training.synthesis.generator import (
    HELD_OUT_APPEARANCES,
    HELD_OUT_SHAPES,
    TRAINING_APPEARANCES,
    TRAINING_SHAPES,
    Pairs,
    Synthesis,
)

__all__ = [
    "HELD_OUT_APPEARANCES",
    "HELD_OUT_SHAPES",
    "TRAINING_APPEARANCES",
    "TRAINING_SHAPES",
    "Draw",
    "Pairs",
    "Synthesis",
]
