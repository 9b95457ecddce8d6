"""What several test files need: a phantom study, and a registration that takes no time."""

import os
from pathlib import Path

import pytest

# Test processes share the cores; threads of their own would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from samreg import phantoms


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the series `fixed` and `moving` of one invented patient, 12 degrees apart."""
    folder = tmp_path_factory.mktemp("study")
    phantom = phantoms.pair("deformable", fixed_grid=phantoms.grid("axial", 48), rotation_deg=12)
    phantoms.write_dicom_study(phantom, folder)
    return folder


# What the tests that compare the doors ask for: the default chain, on the device that all machines have.
DOOR_OPTIONS = {"device": "cpu"}


@pytest.fixture(scope="session")
def by_command(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `samreg register` makes of the study."""
    from samreg import cli

    out = tmp_path_factory.mktemp("command") / "out"
    options = [text for key, value in DOOR_OPTIONS.items() for text in (f"--{key}", value)]
    code = cli.main(["register", str(study / "fixed"), str(study / "moving"), "-o", str(out), "--quiet", *options])
    assert code == 0, (out / "report.json").read_text(encoding="utf-8")
    return out


@pytest.fixture
def instant(monkeypatch: pytest.MonkeyPatch):
    """Replaces the pipeline by one that answers at once; its `status` and `calls` can be set and read."""
    from samreg import pipeline
    from tests.instant import InstantPipeline

    stand_in = InstantPipeline()
    monkeypatch.setattr(pipeline, "register", stand_in)
    return stand_in


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces the drawing of the report, which takes seconds, by an empty page."""
    from samreg import report

    monkeypatch.setattr(report, "write_report", lambda result, warped, path, *, report: path.write_text("<html>"))
