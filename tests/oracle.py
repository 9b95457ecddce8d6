"""The authors' own packages, which a test runs in a process of its own.

`make test` installs them beside the environment, not into it: they need torchvision, and transformers
takes another way wherever it finds one.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = Path(os.environ.get("SAMREG_ORACLE", Path(sys.prefix) / "oracle"))

# torchvision's compiled part does not load beside a torch for CPUs from elsewhere; only the schema of
# nms is asked for on import. SAM 2 asks for hydra and iopath, and uses neither here.
_PREAMBLE = """
import sys, types
import torch

_library = torch.library.Library("torchvision", "DEF")
for _name in ("nms", "qnms"):
    _library.define(_name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def _stub(name, **values):
    sys.modules[name] = module = types.ModuleType(name)
    vars(module).update(values)


class _Hydra:
    instance = classmethod(lambda cls: cls())
    is_initialized = lambda self: True


_stub("hydra", initialize_config_module=None)
_stub("hydra.core")
_stub("hydra.core.global_hydra", GlobalHydra=_Hydra)
_stub("iopath")
_stub("iopath.common")
_stub("iopath.common.file_io", g_pathmgr=None)
torch.manual_seed(0)
torch.set_grad_enabled(False)
"""


def needs(*packages: str) -> None:
    """Skip the test if one of the authors' packages is not there."""
    for package in packages:
        if not (FOLDER / package).is_dir():
            pytest.skip(f"{package} is not in {FOLDER.name}/: make test installs it")


def run(code: str, *arguments: object, timeout_s: int = 300) -> str:
    """Runs Python code that may import the authors' packages, samreg and tests; returns what it prints.

    Args:
        code: Sees torch, and `sys.argv[1:]`.
        arguments: For `sys.argv`.
        timeout_s: The test fails beyond it.
    """
    paths = [str(FOLDER), str(ROOT / "bundle"), str(ROOT)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", _PREAMBLE + code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def is_installed(package: str) -> bool:
    """Whether the test's own process can import a package."""
    return importlib.util.find_spec(package) is not None
