"""What the bundle says about itself."""

import json
from pathlib import Path

import pytest
import yaml

import samreg
from samreg import metadata
from samreg.errors import UsageError

ROOT = Path(__file__).parents[2]


def test_it_is_that_of_the_bundle():
    about = metadata.bundle_metadata()
    stated = json.loads((ROOT / "configs" / "metadata.json").read_text(encoding="utf-8"))
    assert vars(about).items() <= stated.items()
    assert (about.name, about.version) == ("samreg", samreg.__version__)
    package = yaml.safe_load((ROOT / "app.yaml").read_text(encoding="utf-8"))["application"]
    assert (package["title"], package["version"]) == (about.name, about.version)


def test_without_the_file_it_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(metadata, "home", lambda name: tmp_path)
    metadata.bundle_metadata.cache_clear()
    with pytest.raises(UsageError, match=r"metadata\.json"):
        metadata.bundle_metadata()
