"""The embedded model as MONAI's tools see it: trained, verified, exported, evaluated."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from samreg.embedded.files import load_network
from samreg.shipped import weights_file

ROOT = Path(__file__).parents[2]
TRAIN = ROOT / "configs" / "train_embedded.yaml"


def monai(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "monai.bundle", *map(str, arguments), "--bundle_root", str(ROOT)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("training")
    done = monai(out, "run", "--config_file", TRAIN, "--output_dir", out, "--steps", 2)
    assert done.returncode == 0, done.stderr
    return out


def test_the_bundle_trains(trained):
    network, about, _ = load_network(trained / "embedded.safetensors")
    assert about["steps"] == 2
    assert {p.name for p in trained.iterdir()} == {"checkpoint.pt", "curves.svg", "embedded.safetensors", "log.jsonl"}
    assert network.size == load_network(weights_file())[0].size


def test_the_network_takes_and_gives_what_the_metadata_says(tmp_path):
    meta = ROOT / "configs" / "metadata.json"
    done = monai(tmp_path, "verify_net_in_out", "network_def", "--meta_file", meta, "--config_file", TRAIN)
    assert done.returncode == 0, done.stderr


def test_the_network_is_exported(trained, tmp_path):
    out = tmp_path / "model.ts"
    choices = ["--ckpt_file", trained / "checkpoint.pt", "--key_in_ckpt", "averaged", "--filepath", out]
    traced = ["--use_trace", "True", "--input_shape", "[1,1,64,64]"]
    done = monai(tmp_path, "ckpt_export", "network_def", *choices, *traced, "--config_file", TRAIN)
    assert done.returncode == 0, done.stderr
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        expected = load_network(trained / "embedded.safetensors")[0](image)
        assert torch.allclose(torch.jit.load(out)(image), expected, atol=1e-4)


@pytest.mark.slow
def test_the_bundle_measures_the_gates(trained, tmp_path):
    config = ROOT / "configs" / "evaluate_embedded.yaml"
    weights = trained / "embedded.safetensors"
    options = ["--weights", weights, "--output_dir", tmp_path, "--pairs", 4, "--seeds", "[1]"]
    done = monai(tmp_path, "run", "--config_file", config, *options)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gates.json").read_text())
    assert {(g["families"], g["contrast"], g["size"]) for g in found["gates"]} == {
        (families, contrast, size)
        for families in ("held out", "training")
        for contrast in ("same", "different")
        for size in (128, 256)
    }
    # Two steps teach nothing.
    assert not found["passed"]["point_iou, same contrast"]
    assert (tmp_path / "reliability.svg").read_text().startswith("<svg")
