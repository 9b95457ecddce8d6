"""Checkpoints of the authors' own classes give the same answers here as there.

The authors' packages run in processes of their own; see `tests.oracle`.
"""

from __future__ import annotations

import json

from samreg.sam.family import FAMILY
from tests import oracle

# Builds the model of a row, saves it under the published name as its authors do, and compares.
COMPARE = """
import json, sys
from pathlib import Path
from samreg.sam.loading import load_sam
from tests import originals

folder, kind, names = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
for name, file, settings in names:
    under = settings.pop("under", None)
    adapters = {"image_encoder.blocks.0.Adapter.channel.0.weight": torch.ones(3)} if settings.pop("adapters", 0) else {}
    model = getattr(originals, kind)(**settings)
    loaded = load_sam(originals.save(model, folder / file, under=under, **adapters))
    print(json.dumps([loaded.variant.name, loaded.variant.image_size, originals.differences(model, loaded)]))
"""
STAGES = {"tiny": (1, 2, 7, 2), "small": (1, 2, 11, 2), "base-plus": (2, 3, 16, 3), "large": (2, 6, 36, 4)}


def answers(folder, kind: str, rows: list[tuple[str, dict]]) -> dict[str, tuple[int, list[float]]]:
    """Image size and differences by the row that was told."""
    asked = [(name, FAMILY[name].file, settings) for name, settings in rows]
    lines = oracle.run(COMPARE, folder, kind, json.dumps(asked)).splitlines()
    return {name: (size, differences) for name, size, differences in map(json.loads, lines)}


def check(found: dict, rows: list[tuple[str, dict]], size: int | None = None) -> None:
    assert list(found) == [name for name, _ in rows]
    for name, (image_size, differences) in found.items():
        assert image_size == (size or FAMILY[name].image_size)
        assert max(differences) <= 1e-4, name


def test_sam_and_what_is_trained_from_it(tmp_path):
    oracle.needs("segment_anything", "torchvision")
    rows: list[tuple[str, dict]] = [(name, {}) for name in ("sam-vit-b", "sam-vit-l", "sam-vit-h", "medsam")]
    rows.append(("sam-med2d", {"under": "model", "adapters": True}))
    check(answers(tmp_path, "sam", rows), rows, size=128)


def test_hq_sam(tmp_path):
    oracle.needs("segment_anything_hq", "torchvision", "timm")
    rows: list[tuple[str, dict]] = [(f"sam-hq-vit-{size}", {}) for size in "blh"]
    check(answers(tmp_path, "sam_hq", rows), rows, size=128)


def test_mobile_sam(tmp_path):
    oracle.needs("segment_anything", "segment_anything_hq", "torchvision", "timm")
    rows: list[tuple[str, dict]] = [("mobilesam", {})]
    check(answers(tmp_path, "mobile", rows), rows)


def test_sam2_and_medsam2(tmp_path):
    oracle.needs("sam2", "torchvision")
    names = [f"sam2.1-{size}" for size in STAGES] + ["sam2-tiny", "medsam2"]
    rows: list[tuple[str, dict]] = []
    for name in names:
        size = "tiny" if name == "medsam2" else name.partition("-")[2]
        rows.append((name, {"stages": STAGES[size], "size": FAMILY[name].image_size, "under": "model"}))
    check(answers(tmp_path, "sam2", rows), rows)


THREE = """
from samreg.sam.loading import load_sam
from tests import originals
import sys, pathlib

model = originals.sam_hq()
ours = load_sam(originals.save(model, pathlib.Path(sys.argv[1]) / "a.pth")).model
pixels, points = torch.randn(1, 3, 128, 128), torch.rand(5, 1, 2) * 128
embedding, early = model.image_encoder(pixels)
sparse, dense = model.prompt_encoder((points, torch.ones(5, 1, dtype=torch.int)), None, None)
dense_pe = model.prompt_encoder.get_dense_pe()
made = ours.get_image_embeddings(pixels)
for only in (False, True):
    theirs = model.mask_decoder(embedding, dense_pe, sparse, dense, True, only, early)
    out = ours(image_embeddings=made[0], intermediate_embeddings=made[1], input_points=points[None], hq_token_only=only)
    print(float((out.pred_masks[0, :, :1] - theirs[0]).abs().max() / theirs[0].abs().max()))
    print(float((out.iou_scores[0, :, :1] - theirs[1]).abs().max()))
    assert out.pred_masks.shape[2] == (1 if only else 3)
"""


def test_the_best_of_hq_sams_masks_is_the_authors_mask(tmp_path):
    oracle.needs("segment_anything_hq", "torchvision", "timm")
    assert max(map(float, oracle.run(THREE, tmp_path).split())) <= 1e-4
