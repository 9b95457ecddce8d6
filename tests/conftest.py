"""What several test files need: a phantom study, and a registration that takes no time."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

# Before torch is imported. Test processes share the cores; threads of their own would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from samreg import phantoms
from tests.shared import skip_without_shared


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    skip_without_shared(item)  # before any fixture is made


@pytest.fixture(autouse=True)
def seeded() -> None:
    """What a test draws without a generator of its own is the same in any order of the tests."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], None]], Path]:
    """Makes a folder of this name; of several test processes the first does, and the others wait for it."""
    ours = tmp_path_factory.getbasetemp()
    place = ours.parent if "PYTEST_XDIST_WORKER" in os.environ else ours

    def made(name: str, make: Callable[[Path], None]) -> Path:
        with (place / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            whole, part = place / name, place / f"{name}.part"
            if not whole.exists():
                shutil.rmtree(part, ignore_errors=True)  # of one that failed
                part.mkdir()
                make(part)
                part.rename(whole)
        return whole

    return made


@pytest.fixture(scope="session")
def study(once) -> Path:
    """A folder with the series `fixed` and `moving` of one invented patient: ten slices, turned and deformed."""

    def make(folder: Path) -> None:
        phantom = phantoms.pair("deformable", fixed_grid=phantoms.grid("thin", 96), peak_mm=6, rotation_deg=2)
        phantoms.write_dicom_study(phantom, folder)

    return once("study", make)


# What the tests that compare the doors ask for: the default chain, on the device that all machines have.
DOOR_OPTIONS = {"device": "cpu"}


@pytest.fixture(scope="session")
def by_command(study: Path, once) -> Path:
    """The folder that `samreg register` makes of the study."""
    from samreg import cli

    options = [text for key, value in DOOR_OPTIONS.items() for text in (f"--{key}", value)]

    def make(folder: Path) -> None:
        paths = [str(study / "fixed"), str(study / "moving"), "-o", str(folder / "out")]
        code = cli.main(["register", *paths, "--quiet", *options])
        assert code == 0, (folder / "out" / "report.json").read_text(encoding="utf-8")

    return once("command", make) / "out"


@pytest.fixture(scope="session")
def slices(once) -> str:
    """A cache of what the model makes of slices, for tests that register an image again, with other settings."""
    return str(once("slices", lambda folder: None))


@pytest.fixture
def instant(monkeypatch: pytest.MonkeyPatch):
    """Replaces the pipeline by one that answers at once; its `status` and `calls` can be set and read."""
    from samreg.session import Session
    from tests.instant import InstantPipeline

    stand_in = InstantPipeline()
    monkeypatch.setattr(Session, "register", stand_in.register)
    return stand_in


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces the drawing of the report, which takes seconds, by an empty page."""
    from samreg import report

    monkeypatch.setattr(report, "write_report", lambda result, warped, path, *, report: path.write_text("<html>"))
