"""One virtual environment for each peer, with the exact versions that the figures belong to."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = {
    "antspy": ("antspyx==0.6.3", "numpy==2.3.5"),
    "convexadam": ("convexadam==0.2.0", "torch==2.13.0", "numpy==2.4.6", "nibabel==5.4.2", "simpleitk==2.5.7"),
    "elastix": ("itk-elastix==0.25.4", "itk==5.4.7", "numpy==2.4.6"),
    "fireants": ("fireants==1.5.0", "torch==2.13.0", "numpy==2.4.6", "simpleitk==2.2.1"),
    "greedy": ("picsl-greedy==1.4.0.3", "simpleitk==2.5.7", "numpy==2.4.6"),
    "niftyreg": ("niftyreg==1.5.70rc1", "nibabel==5.4.2", "numpy==2.4.6"),
    "simpleitk": ("simpleitk==2.5.7", "numpy==2.4.6"),
}
# NiftyReg is compiled as it is installed (a C++ compiler is needed); its build files are older than today's CMake.
BUILD = {"CMAKE_POLICY_VERSION_MINIMUM": "3.5"}


def version(name: str) -> str:
    """The pinned version of the program that an environment is for."""
    return REQUIREMENTS[name][0].partition("==")[2]


def python_of(name: str, folder: Path) -> Path:
    """The interpreter of an environment, which is made first where it is absent.

    Args:
        name: Key of `REQUIREMENTS`.
        folder: That holds all environments.

    Raises:
        RuntimeError: It cannot be made; the message ends with what pip said.
    """
    python = folder / name / "bin" / "python"
    done = folder / name / ".installed"
    wanted = "\n".join(REQUIREMENTS[name])
    if done.is_file() and done.read_text(encoding="utf-8") == wanted:
        return python
    shutil.rmtree(folder / name, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder / name)], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *REQUIREMENTS[name]]
    run = subprocess.run(pip, env={**os.environ, **BUILD}, capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"the environment '{name}' cannot be made: {run.stderr.strip()[-2000:]}")
    done.write_text(wanted, encoding="utf-8")
    return python
