"""Checkpoints of the authors' own classes give the same answers here as there, also when they are converted."""

from __future__ import annotations

import json
from pathlib import Path

from samreg.sam.family import FAMILY
from tests.oracle import run_beside_torchvision

STAGES = {"tiny": (1, 2, 7, 2), "small": (1, 2, 11, 2), "base-plus": (2, 3, 16, 3), "large": (2, 6, 36, 4)}


def check(folder: Path, kind: str, rows: dict[str, dict], needs: tuple[str, ...], size: int | None = None) -> None:
    """Each model is saved under the published name of its row, is told by it, and answers as the original."""
    asked = json.dumps([(FAMILY[name].file, settings) for name, settings in rows.items()])
    lines = run_beside_torchvision("originals", folder, kind, asked, needs=needs).splitlines()
    assert len(lines) == len(rows)
    for line, (name, settings) in zip(lines, rows.items(), strict=True):
        answers = json.loads(line)
        assert len(answers) == (2 if settings.get("convert") else 1)
        for found, image_size, differences in answers:
            assert (found, image_size) == (name, size or FAMILY[name].image_size)
            assert max(differences) <= 1e-4, name


def test_sam_and_what_is_trained_from_it(tmp_path):
    rows: dict[str, dict] = {name: {} for name in ("sam-vit-b", "sam-vit-l", "sam-vit-h", "medsam")}
    rows["sam-med2d"] = {"under": "model", "adapters": True}
    check(tmp_path, "sam", rows, ("segment_anything",), size=128)


def test_hq_sam(tmp_path):
    rows: dict[str, dict] = {f"sam-hq-vit-{size}": {} for size in "bh"}
    rows["sam-hq-vit-l"] = {"convert": FAMILY["sam-hq-vit-l"].file}
    check(tmp_path, "sam_hq", rows, ("segment_anything_hq", "timm"), size=128)


def test_mobile_sam(tmp_path):
    rows = {"mobilesam": {"convert": "a.pt"}}  # a name that says nothing
    check(tmp_path, "mobile", rows, ("segment_anything", "segment_anything_hq", "timm"))


def test_sam2_and_medsam2(tmp_path):
    rows = {}
    for name in (*(f"sam2.1-{size}" for size in STAGES), "sam2-tiny", "medsam2"):
        size = "tiny" if name == "medsam2" else name.partition("-")[2]
        rows[name] = {"stages": STAGES[size], "size": FAMILY[name].image_size, "under": "model"}
    rows["medsam2"]["convert"] = FAMILY["medsam2"].file
    check(tmp_path, "sam2", rows, ("sam2",))


def test_edgetam_loads_where_timm_is(tmp_path):
    run_beside_torchvision("tiny_family", "edgetam", tmp_path / "folder", needs=("timm",))
