"""A registration where the weights of the embedded model are not installed."""

import logging

import numpy as np

from samreg import phantoms, shipped
from samreg.config import Config
from samreg.geometry import Volume
from samreg.session import register


def test_without_its_weights_the_fall_back_is_announced(monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(shipped, "home", lambda name: tmp_path)
    fixed = phantoms.pair("identity", fixed_grid=phantoms.grid("picture", 64)).fixed
    moving = Volume(np.roll(fixed.voxels, 3, 0), fixed.grid)
    with caplog.at_level(logging.WARNING, logger="samreg"):
        result = register(fixed, moving, Config(transform="rigid"))
    assert result.provenance["encoder"] == "handcrafted"
    assert result.provenance["proposer"] == "superpixels"
    for said in (" ".join(result.fallbacks), caplog.text):
        assert "encoder embedded → handcrafted" in said
