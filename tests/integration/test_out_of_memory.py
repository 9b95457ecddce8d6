"""A registration on a device whose memory is soon full: the same result and a word about it, or the next step."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from samreg import cli, phantoms
from samreg.io import read_image
from samreg.io.writing import write_image
from samreg.sam.model import SamFamilyModel
from samreg.transforms.files import read_transform
from tests.tiny_sam import tiny_sam
from tests.true_regions import TrueSlice, true_regions


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> SimpleNamespace:
    """Two pictures, a model, and the options that register them with it."""
    folder = tmp_path_factory.mktemp("case")
    tiny_sam(512).save_pretrained(folder / "weights")
    phantom = phantoms.pair("rigid", fixed_grid=phantoms.grid("picture", 64), rotation_deg=4, translation_mm=10)
    images = [folder / f"{role}.nii.gz" for role in ("fixed", "moving")]
    for volume, path in zip((phantom.fixed, phantom.moving), images, strict=True):
        write_image(volume.voxels, volume.grid, path)
    labels = (phantom.fixed_labels, phantom.moving_labels)
    settings = {"proposer": "everything", "points_per_side": 16, "points_per_batch": 16}
    (folder / "config.json").write_text(json.dumps({"proposals": settings}))
    options = ["--encoder", "sam", "--weights", str(folder / "weights"), "--device", "cpu"]
    point = phantom.fixed.grid.lps(np.array([[32.0, 32.0, 0.0]]))[0]
    return SimpleNamespace(
        images=[str(path) for path in images],
        options=options,
        config=["--config", str(folder / "config.json")],
        point=[f"{value:.3f}" for value in point],
        labels={read_image(path).content_hash: known for path, known in zip(images, labels, strict=True)},
        errors_mm=phantom.errors_mm,
    )


def register(case: SimpleNamespace, out: Path) -> int:
    return cli.main(
        ["register", *case.images, "-o", str(out), "--transform", "rigid", "--quiet", *case.options, *case.config]
    )


def limit(owner: type, method: str, fitting: int, monkeypatch) -> None:
    """From now on this method runs out of memory where it is given more than so many slices or points."""
    inner = getattr(owner, method)

    def limited(self, *given, **options):
        if len(given[-1]) > fitting:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return inner(self, *given, **options)

    monkeypatch.setattr(owner, method, limited)


def test_the_report_says_that_fewer_points_went_at_once(case, tmp_path, no_pictures, monkeypatch):
    with true_regions(case.labels):
        assert register(case, tmp_path / "before") == 0
        limit(TrueSlice, "at_points", 4, monkeypatch)
        assert register(case, tmp_path / "after") == 0
    before, after = (json.loads((tmp_path / n / "report.json").read_text("utf-8")) for n in ("before", "after"))
    notes = [text for text in after["fallbacks"] if "memory" in text]
    # Once, though each image had to find it out.
    assert [re.findall(r"\d+", note) for note in notes] == [["16", "8"], ["8", "4"]]
    assert [text for text in after["fallbacks"] if "memory" not in text] == before["fallbacks"]
    pairs = [json.loads((tmp_path / n / "pairs.json").read_text("utf-8"))["pairs"] for n in ("before", "after")]
    assert len(pairs[0]) > 3
    assert pairs[1] == pairs[0]
    assert case.errors_mm(read_transform(tmp_path / "after" / "transform.h5")).mean() < 2


@pytest.mark.parametrize("method", ["encode", "masks_at_points"])
def test_where_nothing_fits_a_registration_ends_with_the_next_step(case, tmp_path, method, monkeypatch, capsys):
    limit(SamFamilyModel, method, 0, monkeypatch)
    assert register(case, tmp_path / "out") == 2
    told = capsys.readouterr().err
    assert "The device's memory does not hold" in told
    assert "--device cpu" in told
    assert "Traceback" not in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("method", ["encode", "masks_at_points"])
def test_where_nothing_fits_a_search_ends_with_the_next_step(case, method, monkeypatch, capsys):
    limit(SamFamilyModel, method, 0, monkeypatch)
    assert cli.main(["locate", *case.images, "--point", *case.point, *case.options]) == 2
    assert "--device cpu" in capsys.readouterr().err
