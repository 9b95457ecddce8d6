"""SAM models through the whole chain: everything mode, embeddings, pairs, transform, files."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from samreg import cli, phantoms
from samreg.io.writing import write_image
from samreg.sam.family import FAMILY
from samreg.transforms.files import read_transform
from tests import register_tiny
from tests.oracle import run_beside_torchvision
from tests.tiny_sam import tiny_sam


@pytest.mark.parametrize("proposer", ["everything", "superpixels"])
def test_a_sam_model_registers_a_phantom(proposer: str, tmp_path: Path):
    phantom = phantoms.pair("rigid", fixed_grid=phantoms.grid("thin", 48), rotation_deg=4, translation_mm=10)
    tiny_sam().save_pretrained(tmp_path / "weights")
    for role in ("fixed", "moving"):
        volume = getattr(phantom, role)
        write_image(volume.voxels, volume.grid, tmp_path / f"{role}.nii.gz")
    # A random model is sure of nothing, so nothing it proposes may be dropped for that.
    settings = {"proposals": {"proposer": proposer, "points_per_side": 6, "pred_iou": 0.0, "stability": 0.0}}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    images = [str(tmp_path / f"{role}.nii.gz") for role in ("fixed", "moving")]
    options = ["--encoder", "sam", "--weights", str(tmp_path / "weights"), "--config", str(tmp_path / "config.json")]
    out = tmp_path / "out"
    code = cli.main(["register", *images, "-o", str(out), "--transform", "rigid", "--quiet", *options])
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert code == (4 if report["status"] == "FAIL" else 0)
    assert len(report["hashes"]["weights"]) == 64
    pairs = json.loads((out / "pairs.json").read_text(encoding="utf-8"))["pairs"]
    labels = np.asarray(nib.load(out / "rois_fixed.nii.gz").dataobj)
    assert set(np.unique(labels)) <= {0, *(p["id"] for p in pairs)}
    if proposer == "superpixels":
        # Regions do not depend on the model; the transform is right whatever its embedding is worth.
        assert phantom.errors_mm(read_transform(out / "transform.h5")).mean() < 2.0


@pytest.mark.parametrize("name", FAMILY)
def test_every_row_of_the_family_registers(name: str, tmp_path: Path, no_pictures):
    if FAMILY[name].architecture == "edgetam":  # its encoder is timm's, which needs torchvision
        run_beside_torchvision("register_tiny", name, tmp_path, needs=("timm",))
    else:
        register_tiny.main(name, tmp_path)
