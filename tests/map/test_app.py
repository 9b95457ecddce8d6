"""The MONAI Deploy application, as an orchestrator runs it: a process with two folders."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from samreg.transforms.files import read_transform
from tests.conftest import DOOR_OPTIONS

ROOT = Path(__file__).parents[2]

needs_map = pytest.mark.skipif(
    not importlib.util.find_spec("holoscan"), reason="the extra 'map' is not installed: pip install '.[map]'"
)


def run_app(given: Path, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    paths = {"HOLOSCAN_INPUT_PATH": str(given), "HOLOSCAN_OUTPUT_PATH": str(out)}
    environment = {**os.environ, **paths, "PYTHONPATH": str(ROOT / "bundle")}
    command = [sys.executable, "-m", "app", *options]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def contents(file: Path) -> dict:
    return json.loads(file.read_text(encoding="utf-8"))


def files_in(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


@needs_map
@pytest.mark.slow
def test_the_application_gives_the_transform_of_the_command(study: Path, by_command: Path, tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    done = run_app(study, out, *(text for key, value in DOOR_OPTIONS.items() for text in (f"--{key}", value)))
    assert done.returncode == 0, done.stderr
    assert files_in(out) == files_in(by_command) | {"result.json", "metadata.json"}
    points = np.random.default_rng(0).uniform(-120, 120, (500, 3))
    ours, theirs = (read_transform(folder / "transform.h5").map_points(points) for folder in (out, by_command))
    assert np.abs(ours - theirs).max() < 1e-4
    assert contents(out / "metadata.json") == {"exception": None, "exception_message": None}
    result = contents(out / "result.json")
    assert result["exit_code"] == 0
    assert "sub-folders" in result["roles"]
    assert result["status"] == contents(out / "report.json")["status"]


@needs_map
def test_a_refusal_leaves_the_reason_and_no_dicom(study: Path, tmp_path: Path):
    shutil.copytree(study / "fixed", tmp_path / "in" / "only")
    done = run_app(tmp_path / "in", tmp_path / "out")
    assert done.returncode == 3
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"report.json", "result.json", "metadata.json"}
    reason = contents(tmp_path / "out" / "metadata.json")
    assert reason["exception"] == "InputRefused"
    assert "1 series" in reason["exception_message"]
    assert contents(tmp_path / "out" / "report.json")["error"]["reason"] == "too-few-series"
    assert f"samreg: {reason['exception_message']}" in done.stderr.splitlines()


def test_without_the_extra_the_application_says_how_to_get_it(monkeypatch, capsys):
    from app import __main__

    monkeypatch.setitem(sys.modules, "holoscan", None)  # as where it is not installed
    assert __main__.main([]) == 1
    assert "pip install 'samreg[map]'" in capsys.readouterr().err


@needs_map
def test_without_folders_the_application_ends_with_2(monkeypatch, capsys):
    from app import __main__

    for name in ("HOLOSCAN_INPUT_PATH", "HOLOSCAN_OUTPUT_PATH"):
        monkeypatch.delenv(name, raising=False)
    assert __main__.main([]) == 2
    assert "HOLOSCAN_INPUT_PATH" in capsys.readouterr().err
