"""The gates of the embedded model, measured and written down."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from samreg.embedded.files import load_network, save_network
from samreg.encoders.base import Calibration
from samreg.encoders.models import SYNTHETIC_PAIRS, EmbeddedEncoder
from samreg.errors import UsageError
from samreg.shipped import weights_file
from samreg.training.confidence import Found, calibration_error, collect, fitted, reliability
from samreg.training.gates import measure
from samreg.training.pictures import draw_reliability
from samreg.training.synthesis import (
    HELD_OUT_APPEARANCES,
    HELD_OUT_SHAPES,
    TRAINING_APPEARANCES,
    TRAINING_SHAPES,
    Synthesis,
)

logger = logging.getLogger(__name__)

# What is asked of held-out families: same contrast, different contrast.
REQUIRED = {
    "point_iou": (0.75, 0.75),
    "box_iou": (0.85, 0.85),
    "top1": (0.90, 0.80),
    "near": (0.80, 0.80),
}
MOST_CALIBRATION_ERROR = 0.05
FAMILIES = {
    "held out": (HELD_OUT_SHAPES, HELD_OUT_APPEARANCES),
    "training": (TRAINING_SHAPES, TRAINING_APPEARANCES),
}
CONTRASTS = {"same": 1.0, "different": 0.0}
SIZES = (128, 256)
LEAST_PAIRS = 4
PANELS = {"free": "by appearance alone", "aligned": "lying together"}


def evaluate(
    out: str | Path,
    weights: str | Path | None = None,
    seeds: tuple[int, ...] = (11, 12),
    pairs: int = 128,
    calibrate_seed: int | None = None,
) -> dict[str, Any]:
    """Measures the gates and the confidence of pairs, and writes `gates.json` and `reliability.svg`.

    Args:
        out: Folder of the results.
        weights: The embedded model's file; None: the one that is shipped.
        seeds: Of the evaluations, which shall agree.
        pairs: Image pairs of each kind; a quarter of that at 256 pixels.
        calibrate_seed: The confidence of pairs is fitted anew before, to pairs of this seed, and the weights with it
            written to `embedded.safetensors`.

    Returns:
        What `gates.json` holds.

    Raises:
        UsageError: Too few pairs, or weights that cannot be used.
    """
    if pairs < LEAST_PAIRS:
        raise UsageError(f"the number of pairs of images is {pairs}", f"at least {LEAST_PAIRS}")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    if calibrate_seed is not None:
        if calibrate_seed in seeds:
            raise UsageError(
                f"the seed {calibrate_seed} is used for calibration and for evaluation", "a seed of its own"
            )
        network, about, _ = load_network(weights or weights_file())
        about["calibration"] = asdict(calibrate(weights, calibrate_seed, pairs))
        weights = out / "embedded.safetensors"
        save_network(network, weights, about)
    encoder = EmbeddedEncoder(weights=weights, precision="float32")  # as the network was trained
    gates: list[dict[str, Any]] = []
    confidence: list[dict[str, Any]] = []
    for seed in seeds:
        gates += _gates(encoder, seed, pairs)
        confidence.append(_confidence(encoder, encoder.calibration, seed, pairs))
    passed = _verdicts(gates, confidence)
    results = {
        "weights": encoder.weights_hash,
        "seeds": list(seeds),
        "pairs": pairs,
        "passed": passed,
        "gates": gates,
        "confidence": confidence,
    }
    panels = {
        f"{title}, seed {found['seed']}: error {found[name]['calibration_error']:.3f}": found[name]["steps"]
        for name, title in PANELS.items()
        for found in confidence
    }
    (out / "reliability.svg").write_text(draw_reliability(panels), encoding="utf-8")
    (out / "gates.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    for name, reached in passed.items():
        logger.info("%s: %s", name, "reached" if reached else "NOT reached")
    return results


def calibrate(weights: str | Path | None, seed: int, pairs: int) -> Calibration:
    """What similarity, shape and overlap are worth to this model: fitted to pairs of held-out families.

    Args:
        weights: The embedded model's file; None: the one that is shipped.
        seed: Of the image pairs; those of the evaluation are others.
        pairs: Image pairs, half of them of one contrast.
    """
    encoder = EmbeddedEncoder(weights=weights, precision="float32")  # as the network was trained
    start = encoder.calibration
    free, aligned = _pairs(encoder, start, seed, pairs)
    right = np.sort(free.terms[free.right, 0])
    threshold = float(right[int(0.02 * len(right))]) if len(right) else start.similarity_threshold
    return Calibration(
        similarity_threshold=round(threshold, 3),
        shape_weight=start.shape_weight,
        max_pairs=start.max_pairs,
        apart=start.apart,
        free=_rounded(fitted(free)),
        aligned=_rounded(fitted(aligned)),
        fitted_on=SYNTHETIC_PAIRS,
    )


def _gates(encoder: EmbeddedEncoder, seed: int, pairs: int) -> list[dict[str, Any]]:
    network = encoder.model.network
    found: list[dict[str, Any]] = []
    for families, (shapes, appearances) in FAMILIES.items():
        for contrast, same in CONTRASTS.items():
            for size in SIZES:
                count = pairs if size == 128 else pairs // 4
                synthesis = Synthesis(shapes, appearances, same)
                gates = measure(network, synthesis, encoder.calibration, seed=seed, pairs=count, size=size)
                kind = {"families": families, "contrast": contrast, "size": size, "seed": seed}
                found.append({**kind, **{name: round(value, 4) for name, value in asdict(gates).items()}})
                logger.info("%s", json.dumps(found[-1]))
    return found


def _pairs(encoder: EmbeddedEncoder, calibration: Calibration, seed: int, pairs: int) -> tuple[Found, Found]:
    return collect(
        encoder,
        calibration,
        Synthesis(HELD_OUT_SHAPES, HELD_OUT_APPEARANCES, 0.5),
        seed=seed,
        pairs=pairs,
        size=256,
    )


def _confidence(encoder: EmbeddedEncoder, calibration: Calibration, seed: int, pairs: int) -> dict[str, Any]:
    found = dict(zip(("free", "aligned"), _pairs(encoder, calibration, seed, pairs), strict=True))
    result: dict[str, Any] = {"seed": seed}
    for name, some in found.items():
        confidence = some.confidences(getattr(calibration, name))
        result[name] = {
            "pairs": len(confidence),
            "calibration_error": round(calibration_error(confidence, some.right), 4),
            "steps": [[round(a, 3), round(b, 3), n] for a, b, n in reliability(confidence, some.right)],
            "by_least_confidence": [
                [least, *_precision_and_recall(confidence >= least, some)] for least in (0.0, 0.3, 0.5, 0.7, 0.8, 0.9)
            ],
        }
    logger.info("calibration error: %s", {name: result[name]["calibration_error"] for name in found})
    return result


def _precision_and_recall(chosen: np.ndarray, found: Found) -> tuple[float, float]:
    right = int((chosen & found.right).sum())
    return round(right / max(int(chosen.sum()), 1), 3), round(right / max(found.possible, 1), 3)


def _verdicts(gates: list[dict[str, Any]], confidence: list[dict[str, Any]]) -> dict[str, bool]:
    """Whether each gate is reached on held-out families at 128 pixels, with every seed."""
    out = {}
    for contrast, number in (("same", 0), ("different", 1)):
        rows = [
            row
            for row in gates
            if row["families"] == "held out" and row["contrast"] == contrast and row["size"] == SIZES[0]
        ]
        for name, least in REQUIRED.items():
            out[f"{name}, {contrast} contrast"] = all(row[name] >= least[number] for row in rows)
    for name in ("free", "aligned"):
        errors = [found[name]["calibration_error"] for found in confidence]
        out[f"calibration error, {name}"] = max(errors) <= MOST_CALIBRATION_ERROR
    return out


def _rounded(confidence: Any) -> Any:
    return type(confidence)(**{name: round(value, 3) for name, value in asdict(confidence).items()})
