"""The cache of slices at work: one encoder run a slice, reuse across registrations and processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from samreg import phantoms
from samreg.config import Config, MatchingConfig, ProposalConfig
from samreg.geometry import Volume
from samreg.sam.model import SamFamilyModel
from samreg.session import register
from samreg.whole_files import STAGING
from tests.tiny_sam import tiny_sam


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    tiny_sam().save_pretrained(folder)
    return folder


@pytest.fixture
def encoded_slices(monkeypatch) -> list[int]:
    """How many slices each call of an image encoder got."""
    counts: list[int] = []
    inner = SamFamilyModel.encode
    monkeypatch.setattr(SamFamilyModel, "encode", lambda self, grey: counts.append(len(grey)) or inner(self, grey))
    return counts


@pytest.fixture(scope="module")
def phantom():
    return phantoms.pair("rigid", fixed_grid=phantoms.grid("thin", 48), rotation_deg=4, translation_mm=10)


def config(weights: Path, cache: Path | None = None, *, slice_range_mm: float = 30.0) -> Config:
    return Config(
        transform="rigid",
        encoder="sam",
        weights=str(weights),
        cache=str(cache) if cache else None,
        proposals=ProposalConfig(proposer="everything", points_per_side=4, pred_iou=0.0, stability=0.0),
        matching=MatchingConfig(slice_range_mm=slice_range_mm),
    )


@pytest.mark.parametrize("slice_range_mm", [9.0, 100.0])
def test_each_slice_is_encoded_once_whatever_the_slice_range(weights, phantom, encoded_slices, slice_range_mm):
    """D_fixed + D_moving runs, where Algorithm 1 taken literally needs D (1 + 2 δs + 1)."""
    register(phantom.fixed, phantom.moving, config(weights, slice_range_mm=slice_range_mm))
    assert sum(encoded_slices) == phantom.fixed.grid.shape[2] + phantom.moving.grid.shape[2]


def test_a_second_registration_reuses_a_shared_image(weights, phantom, encoded_slices, tmp_path):
    settings = config(weights, tmp_path / "cache")
    first = register(phantom.fixed, phantom.moving, settings)
    encoded_slices.clear()
    again = register(phantom.fixed, phantom.moving, settings)
    assert encoded_slices == []
    assert [r.bits for r in again.fixed_rois] == [r.bits for r in first.fixed_rois]
    np.testing.assert_array_equal(again.transform.moving_from_fixed, first.transform.moving_from_fixed)
    assert settings.hash == config(weights).hash

    changed = Volume(phantom.moving.voxels[::-1].copy(), phantom.moving.grid)
    register(phantom.fixed, changed, settings)
    assert sum(encoded_slices) == phantom.moving.grid.shape[2]


def test_processes_share_a_folder(tmp_path):
    """Each stores and loads the same and its own keys in a folder too small for all; none sees half an entry."""
    code = (
        "import sys, torch\nfrom pathlib import Path\nfrom samreg.promptable_models.cache import SliceCache, key_of\n"
        "cache = SliceCache(sys.argv[1], limit_gb=2e-4)\n"
        "for n in range(60):\n"
        "    key, value = key_of(str(n % 7)), float(n % 7)\n"
        "    kept = cache.load(key)\n"
        "    assert kept is None or bool((kept['x'] == value).all())\n"
        "    cache.store(key, {'x': torch.full((10_000,), value)})\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert "cannot be" not in errors
    assert not list(tmp_path.glob(f".*{STAGING}*"))
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= 2.5e5
