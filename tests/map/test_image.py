"""The image in its sandbox, where `make map` has built it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from samreg import __version__

ROOT = Path(__file__).parents[2]
IMAGE = f"samreg-map:{__version__}"


def built() -> bool:
    return bool(shutil.which("podman")) and not subprocess.run(["podman", "image", "exists", IMAGE]).returncode


pytestmark = pytest.mark.skipif(not built(), reason=f"there is no image {IMAGE}: make map")


def run(*command: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "tools" / "map" / "run.sh", *command], env={**os.environ, **environ}, capture_output=True, text=True
    )


def test_a_refusal_ends_the_container_with_its_exit_code(study: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    done = run(study / "fixed", tmp_path / "empty", tmp_path / "out", "--log-format", "json")
    assert done.returncode == 3, done.stderr
    assert json.loads(done.stderr.splitlines()[0])["message"] == f"samreg {__version__} starts"
    files = {path.name: path for path in (tmp_path / "out").iterdir()}
    assert set(files) == {"report.json", "result.json", "metadata.json"}
    assert json.loads(files["metadata.json"].read_text())["exception"] == "InputRefused"
    assert {path.stat().st_uid for path in files.values()} == {os.getuid()}


def test_a_folder_that_is_not_there_is_told_before_the_container_starts(study: Path, tmp_path: Path):
    done = run(study / "fixed", tmp_path / "nowhere", tmp_path / "out")
    assert done.returncode == 2
    assert "nowhere" in done.stderr
    assert not (tmp_path / "out").exists()
