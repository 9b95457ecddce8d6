"""The published models that can be used, a row each. Nothing heavy is imported.

`samreg weights list`, `samreg info` and the loader read these rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Architecture = Literal["sam", "sam_hq", "sam2", "edgetam", "sam3_tracker", "mobile_sam"]
Fit = Literal["pad", "stretch"]
Normalisation = Literal["imagenet", "half", "unit"]


@dataclass(frozen=True)
class Variant:
    """One published model.

    Attributes:
        name: As users write it.
        summary: One line.
        architecture: Which classes read it.
        image_size: Side of its square input in pixels.
        fit: "pad": the long side fills the input and the rest is padding below and to the right;
            "stretch": the slice fills it, whatever its sides.
        normalisation: Of intensities brought to [0, 1]: "imagenet" (less its mean, by its standard
            deviation), "half" (less 0.5, by 0.5), or "unit" (as they are).
        licence: SPDX identifier, or name.
    """

    name: str
    summary: str
    architecture: Architecture
    image_size: int = 1024
    fit: Fit = "pad"
    normalisation: Normalisation = "imagenet"
    licence: str = "Apache-2.0"


def _table(*variants: Variant) -> Mapping[str, Variant]:
    return MappingProxyType({variant.name: variant for variant in variants})


FAMILY = _table(
    Variant("sam-vit-b", "SAM ViT-B", "sam"),
)
