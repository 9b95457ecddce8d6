"""A self-test: a phantom with a known transform is registered in seconds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

from samreg import __version__

LIMIT_VOX = 0.5


@dataclass(frozen=True)
class Outcome:
    """What came out.

    Attributes:
        passed: The status is PASS and the mean true error at most half a voxel.
        status: Of the quality gate.
        error_mm, limit_mm: Mean true error in the body, and what it may be.
        fallbacks: What was done in place of what was asked for.
        seconds: Imports left out.
        device, encoder, weights: What was used; the weights' SHA-256.
    """

    passed: bool
    status: str
    error_mm: float
    limit_mm: float
    fallbacks: tuple[str, ...]
    seconds: float
    device: str
    encoder: str
    weights: str | None
    version: str = __version__

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def check(device: str = "auto") -> Outcome:
    """Registers a phantom by the default chain, and compares the transform with the true one.

    Args:
        device: "auto", "cpu", "cuda", "cuda:1".

    Raises:
        UsageError: The device is not there.

    Example:
        >>> check().passed
        True
    """
    from samreg import phantoms
    from samreg.config import Config
    from samreg.session import register

    started = perf_counter()
    grid = phantoms.grid("thin", 64)
    phantom = phantoms.pair("rigid", fixed_grid=grid, rotation_deg=5, translation_mm=8)
    result = register(phantom.fixed, phantom.moving, Config(transform="rigid", device=device))
    error = float(phantom.errors_mm(result.transform).mean())
    limit = LIMIT_VOX * float(grid.spacing_mm.min())
    return Outcome(
        passed=result.quality.status == "PASS" and error <= limit,
        status=result.quality.status,
        error_mm=round(error, 3),
        limit_mm=round(limit, 3),
        fallbacks=result.fallbacks,
        seconds=round(perf_counter() - started, 1),
        device=result.device,
        encoder=result.provenance["encoder"],
        weights=result.provenance["hashes"]["weights"],
    )
