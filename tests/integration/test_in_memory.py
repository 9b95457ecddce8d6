"""Images of other packages register to the same bits as the same images otherwise."""

import numpy as np
import pytest

import samreg
from samreg import phantoms
from samreg.config import Config
from samreg.ecosystem import image_as
from samreg.transforms import Rigid


@pytest.mark.slow
def test_images_of_packages_register_to_the_bits_of_volumes():
    pytest.importorskip("monai")
    pair = phantoms.pair("rigid", fixed_grid=phantoms.grid("thin", 24), rotation_deg=5, translation_mm=4)
    config = Config(encoder="handcrafted", transform="rigid", device="cpu")
    by_volumes = samreg.register(pair.fixed, pair.moving, config)
    by_images = samreg.register(image_as(pair.fixed, "SimpleITK"), image_as(pair.moving, "monai"), config)
    assert isinstance(by_images.transform, Rigid)
    assert np.array_equal(by_images.transform.moving_from_fixed, by_volumes.transform.moving_from_fixed)
    for role in ("fixed", "moving"):
        assert by_images.provenance["hashes"][role] == by_volumes.provenance["hashes"][role]
