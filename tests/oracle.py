"""Other projects' own code as oracle, in a process of its own.

It needs torchvision, which cannot be imported beside the CPU build of torch from PyPI (its compiled part
is for another build), and in whose presence transformers cannot be imported either. So it lies in a folder
aside (`make test` puts it there), and the two operators that are looked up at import are made by hand.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ORACLE = Path(os.environ.get("SAMREG_ORACLE", Path(sys.prefix) / "oracle"))
START = """
import runpy, sys, torch
library = torch.library.Library("torchvision", "DEF")
library.define("nms(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor")
library.define("qnms(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor")

def nms(boxes, scores, iou_threshold):
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    order, kept = scores.argsort(descending=True, stable=True), []
    while len(order):
        first, rest = order[0], order[1:]
        kept.append(first)
        low = torch.maximum(boxes[first, :2], boxes[rest, :2])
        high = torch.minimum(boxes[first, 2:], boxes[rest, 2:])
        common = (high - low).clamp(min=0).prod(1)
        order = rest[~(common / (area[first] + area[rest] - common) > iou_threshold)]
    return torch.stack(kept) if kept else order

library.impl("nms", nms, "CPU")
import torchvision.extension, torchvision.ops.boxes
torchvision.ops.boxes._assert_has_ops = lambda: None
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__")
"""


def run_beside_torchvision(module: str, *arguments: object, needs: tuple[str, ...] = ()) -> str:
    """Run a module of this folder where the oracles can be imported, and return what it prints.

    The test is skipped where they, or those of `needs`, are not installed.
    """
    for package in ("torchvision", *needs):
        if not (ORACLE / package).is_dir():
            pytest.skip(f"{package} is not installed in {ORACLE} (`make test` installs it)")
    here = Path(__file__).parent
    paths = [ORACLE, here, here.parent, here.parent / "bundle"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    command = [sys.executable, "-c", START, module, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout
