"""The published models that can be used, a row each. Nothing heavy is imported.

`samreg weights`, `samreg info` and the loader read these rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from samreg.errors import UsageError

if TYPE_CHECKING:
    from samreg.types import Fit

Architecture = Literal["sam", "sam_hq", "sam2", "edgetam", "sam3_tracker", "mobile_sam"]
Normalisation = Literal["imagenet", "half", "unit"]


@dataclass(frozen=True)
class Variant:
    """One published model.

    Attributes:
        name: As users write it.
        summary: One line.
        architecture: Which classes read it.
        encoder: Width and number of blocks of the image encoder; they tell the sizes of one
            architecture apart. (0, 0): there is one size.
        image_size: Side of its square input in pixels.
        fit: "pad": the long side fills the input and the rest is padding below and to the right;
            "stretch": the slice fills it, whatever its sides.
        normalisation: Of intensities brought to [0, 1]: "imagenet" (less its mean, by its standard
            deviation), "half" (less 0.5, by 0.5), or "unit" (as they are).
        licence: SPDX identifier, or name.
        file: Name of the authors' checkpoint; empty where it is published on Hugging Face alone.
        base_url: Where that file can be had directly, with a slash at the end; empty where it cannot.
        sha256: Of that file, where it is known.
        hub: Hugging Face repository that holds it for transformers.
        hub_sha256: Of its model.safetensors, where it is known.
        page: Where a person has to go to get it: it cannot be fetched.
        note: What a user must know.
    """

    name: str
    summary: str
    architecture: Architecture
    encoder: tuple[int, int] = (0, 0)
    image_size: int = 1024
    fit: Fit = "pad"
    normalisation: Normalisation = "imagenet"
    licence: str = "Apache-2.0"
    file: str = ""
    base_url: str = ""
    sha256: str = ""
    hub: str = ""
    hub_sha256: str = ""
    page: str = ""
    note: str = ""

    @property
    def preprocessing(self) -> str:
        """Size, fit and normalisation of the input, as tables show them."""
        return f"{self.image_size} {self.fit} {self.normalisation}"

    @property
    def source(self) -> str:
        """Where it is published: a page for a person, a file, or a repository."""
        if self.page:
            return self.page
        return self.base_url + self.file if self.base_url else f"https://huggingface.co/{self.hub}"

    @property
    def hashes(self) -> tuple[str, ...]:
        """The SHA-256 that are known, of any of its files."""
        return tuple(filter(None, (self.sha256, self.hub_sha256)))


def variant(name: str) -> Variant:
    """The row of this name.

    Raises:
        UsageError: There is none.

    Example:
        >>> variant("medsam").fit
        'stretch'
    """
    if name not in FAMILY:
        raise UsageError(f"the variant '{name}' is unknown", f"one of {', '.join(FAMILY)}", reason="unknown-variant")
    return FAMILY[name]


def _table(*variants: Variant) -> Mapping[str, Variant]:
    return MappingProxyType({row.name: row for row in variants})


def _sam2(version: str, size: str, encoder: tuple[int, int]) -> Variant:
    number, folder = ("2.1", "092824") if version == "sam2.1" else ("2", "072824")
    return Variant(
        f"{version}-{size.replace('_', '-')}",
        f"SAM {number}, Hiera {size.replace('base_plus', 'base+')}",
        "sam2",
        encoder,
        fit="stretch",
        file=f"{version}_hiera_{size}.pt",
        base_url=f"https://dl.fbaipublicfiles.com/segment_anything_2/{folder}/",
        hub=f"facebook/{version}-hiera-{size.replace('_', '-')}",
    )


_HIERA = {"tiny": (96, 12), "small": (96, 16), "base_plus": (112, 24), "large": (144, 48)}
_SAM = "https://dl.fbaipublicfiles.com/segment_anything/"
_HQ = "https://huggingface.co/lkeab/hq-sam/resolve/main/"

# Among rows that the shapes of the tensors do not tell apart, the first is the most general one.
FAMILY = _table(
    Variant(
        "sam-vit-b", "SAM, ViT-B", "sam", (768, 12), file="sam_vit_b_01ec64.pth", base_url=_SAM,
        sha256="ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912", hub="facebook/sam-vit-base",
    ),
    Variant(
        "sam-vit-l", "SAM, ViT-L", "sam", (1024, 24), file="sam_vit_l_0b3195.pth", base_url=_SAM,
        sha256="3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622", hub="facebook/sam-vit-large",
    ),
    Variant(
        "sam-vit-h", "SAM, ViT-H", "sam", (1280, 32), file="sam_vit_h_4b8939.pth", base_url=_SAM,
        sha256="a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e", hub="facebook/sam-vit-huge",
    ),
    Variant(
        "medsam", "MedSAM, ViT-B", "sam", (768, 12), fit="stretch", normalisation="unit",
        file="medsam_vit_b.pth", base_url="https://zenodo.org/records/10689643/files/",
        hub="wanglab/medsam-vit-base",
        note="It was trained only on boxes. Points, and therefore everything mode, lie outside its training.",
    ),
    Variant(
        "sam-med2d", "SAM-Med2D, ViT-B, without its adapters", "sam", (768, 12), 256, "stretch",
        file="sam-med2d_b.pth", page="https://github.com/OpenGVLab/SAM-Med2D",
        note="Adapters are left out: on unseen data its authors report better results without.",
    ),
    Variant(
        "slimsam-50", "SlimSAM, half of ViT-B (uniform)", "sam", (384, 12), hub="Zigeng/SlimSAM-uniform-50",
        note="The authors' .pth files are pickled models, which are refused.",
    ),
    Variant(
        "slimsam-77", "SlimSAM, a quarter of ViT-B (uniform)", "sam", (168, 12), hub="Zigeng/SlimSAM-uniform-77",
        note="The authors' .pth files are pickled models, which are refused.",
    ),
    Variant(
        "mobilesam", "MobileSAM, TinyViT", "mobile_sam", (64, 12), file="mobile_sam.pt",
        base_url="https://github.com/ChaoningZhang/MobileSAM/raw/master/weights/",
        sha256="6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
    ),
    Variant(
        "sam-hq-vit-b", "HQ-SAM, ViT-B", "sam_hq", (768, 12), file="sam_hq_vit_b.pth", base_url=_HQ,
        hub="syscv-community/sam-hq-vit-base",
    ),
    Variant(
        "sam-hq-vit-l", "HQ-SAM, ViT-L", "sam_hq", (1024, 24), file="sam_hq_vit_l.pth", base_url=_HQ,
        hub="syscv-community/sam-hq-vit-large",
    ),
    Variant(
        "sam-hq-vit-h", "HQ-SAM, ViT-H", "sam_hq", (1280, 32), file="sam_hq_vit_h.pth", base_url=_HQ,
        hub="syscv-community/sam-hq-vit-huge",
    ),
    *(_sam2(version, size, encoder) for version in ("sam2.1", "sam2") for size, encoder in _HIERA.items()),
    Variant(
        "medsam2", "MedSAM2, SAM 2.1 Hiera tiny at 512 pixels", "sam2", (96, 12), 512, "stretch",
        licence="CC-BY-SA-4.0", file="MedSAM2_latest.pt",
        base_url="https://huggingface.co/wanglab/MedSAM2/resolve/main/",
        note="Its tensors do not tell it from SAM 2.1: keep the file's name, or give --variant medsam2.",
    ),
    Variant(
        "edgetam", "EdgeTAM, RepViT", "edgetam", fit="stretch", hub="yonigozlan/EdgeTAM-hf",
        hub_sha256="8858f8e4757b0b96dab8763f296ecffd845efbbbf698f64163cfa20a63d5fff4",
        note="Needs timm: pip install timm torchvision.",
    ),
    Variant(
        "sam3", "SAM 3, its tracker prompted on single images", "sam3_tracker", (1024, 32), 1008, "stretch", "half",
        licence="SAM License", hub="facebook/sam3", page="https://huggingface.co/facebook/sam3",
        note="Gated: its licence has to be accepted on its page first.",
    ),
)  # fmt: skip
