"""The files that come with the library: presets, and the embedded model."""

from __future__ import annotations

import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

from samreg.errors import UsageError

if TYPE_CHECKING:
    from samreg.config import Config

_KNOWN_BY = {"configs": "presets", "models": "embedded.md"}


def home(name: str) -> Path:
    """A folder of the bundle, "configs" or "models".

    In the source tree, in the package of the application (where the bundle is its model), or where the wheel put it.
    """
    above = Path(__file__).parents[2]
    for root in (above, above / "models" / "samreg"):
        if (root / name / _KNOWN_BY[name]).exists():
            return root / name
    return Path(sysconfig.get_path("data")) / "share" / "samreg" / name


def weights_file() -> Path:
    """Where the weights of the embedded model are, or would be."""
    return home("models") / "embedded.safetensors"


def with_available_encoder(config: Config) -> tuple[Config, tuple[str, ...]]:
    """The configuration without the embedded model where its weights are not installed, and a sentence that says so.

    A file that is there but cannot be used is refused when it is read.

    Raises:
        UsageError: Everything mode is asked for, which needs a model.

    Example:
        >>> with_available_encoder(Config())[0].encoder
        'embedded'
    """
    if config.encoder != "embedded" or config.weights is not None or weights_file().exists():
        return config, ()
    absent = f"the weights are not installed ({weights_file()})"
    if config.proposals.proposer == "everything":
        raise UsageError(
            f"the proposer 'everything' needs the encoder 'embedded', and {absent}",
            "a model",
            "Install samreg with its weights, give --encoder sam and --weights, or leave the proposer out.",
            reason="weights-missing",
        )
    return config.with_values({"encoder": "handcrafted"}), (f"encoder embedded → handcrafted: {absent}",)
