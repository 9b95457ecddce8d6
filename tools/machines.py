"""Whether one pair gives the same answer whatever the processor's arithmetic and the number of threads.

    python tools/machines.py FIXED MOVING [--only NAME …]

Each setting is a process of its own that reads the same files; what it decides and where its transforms take points of
the fixed body is compared with the first. Prints a row for each; ends with 1 if one differs by more than the limits.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
LINEAR_MM = 1e-3  # largest difference of a linear transform in the body
DEFORMABLE_MM = 0.05  # in 95 % of the body

# Oldest arithmetic that the libraries can be told to use, one at a time and all together.
PLAIN = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_CBWR": "COMPATIBLE",
    "OPENBLAS_CORETYPE": "Nehalem",
    "NPY_DISABLE_CPU_FEATURES": "all",  # see `_environment`
}
AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
}
SETTINGS: Mapping[str, Mapping[str, str]] = {
    "as it comes": {},
    "1 thread": {"OMP_NUM_THREADS": "1"},
    "2 threads": {"OMP_NUM_THREADS": "2"},
    **{f"{name}={value}": {name: value} for part in (PLAIN, AVX2) for name, value in part.items()},
    "AVX2, 2 threads": {**AVX2, "OMP_NUM_THREADS": "2"},
    "plain, 1 thread": {**PLAIN, "OMP_NUM_THREADS": "1"},
}


@dataclass(frozen=True)
class Answer:
    """What one setting gave.

    Attributes:
        decided: Kind, status and what every decision was about, without the numbers.
        mapped: Points of the fixed body where each stage takes them, LPS mm, by kind.
        seconds: Of the registration.
    """

    decided: dict[str, object]
    mapped: dict[str, list[list[float]]]
    seconds: float


@dataclass(frozen=True)
class Difference:
    """Of an answer from the first one.

    Attributes:
        same_decisions: Kind, status, and each decision.
        linear_mm: Largest distance of mapped points, rigid and affine stages.
        deformable_mm: 95th percentile, deformable stage; 0 without one.
    """

    same_decisions: bool
    linear_mm: float
    deformable_mm: float

    @property
    def within_limits(self) -> bool:
        """No decision differs, and no transform by more than is allowed."""
        return self.same_decisions and self.linear_mm <= LINEAR_MM and self.deformable_mm <= DEFORMABLE_MM


def answer(fixed: Path, moving: Path, setting: Mapping[str, str]) -> Answer:
    """Register two files in a process of its own under a setting."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "answer.json"
        command = [sys.executable, __file__, str(fixed), str(moving), "--answer", str(out)]
        subprocess.run(command, check=True, env=_environment(setting))
        return Answer(**json.loads(out.read_text(encoding="utf-8")))


def difference(one: Answer, other: Answer) -> Difference:
    """How far two answers are apart."""
    import numpy as np

    apart = {
        kind: np.linalg.norm(np.subtract(points, other.mapped[kind]), axis=-1)
        for kind, points in one.mapped.items()
        if kind in other.mapped
    }
    linear = [float(values.max()) for kind, values in apart.items() if kind != "deformable"]
    deformable = float(np.percentile(apart["deformable"], 95)) if "deformable" in apart else 0.0
    return Difference(one.decided == other.decided, max(linear, default=0.0), deformable)


def _environment(setting: Mapping[str, str]) -> dict[str, str]:
    """The process's own, without what the settings are about, and with this one."""
    ours = {name for each in SETTINGS.values() for name in each}
    environ = {name: value for name, value in os.environ.items() if name not in ours} | dict(setting)
    if environ.get("NPY_DISABLE_CPU_FEATURES") == "all":
        environ["NPY_DISABLE_CPU_FEATURES"] = " ".join(_features_of_numpy())
    environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "bundle"), environ.get("PYTHONPATH", "")])
    return environ


def _features_of_numpy() -> list[str]:
    """Those that NumPy found here and can do without."""
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    return [name for name in __cpu_dispatch__ if __cpu_features__.get(name)]


def _write_answer(fixed: Path, moving: Path, out: Path) -> None:
    from time import perf_counter

    import numpy as np

    import samreg
    from samreg import io
    from samreg.preprocess import body_mask, working_volume

    pair = io.read_pair(fixed, moving)
    started = perf_counter()
    result = samreg.register(*pair)
    seconds = perf_counter() - started
    coarse = working_volume(result.fixed, 4.0)
    points = coarse.grid.lps(np.argwhere(body_mask(coarse)))
    decided = {
        "kind": result.kind,
        "status": result.quality.status,
        "decisions": [re.sub(r"[-+]?\d[-+.\de]*", "…", sentence) for sentence in result.decisions],
        "verdicts": {criterion.name: criterion.verdict for criterion in result.quality.criteria},
        "pairs": len(result.pairs),
    }
    mapped = {kind: transform.map_points(points).tolist() for kind, transform in result.stages.items()}
    out.write_text(json.dumps({"decided": decided, "mapped": mapped, "seconds": seconds}), encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, each row as soon as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fixed", type=Path)
    parser.add_argument("moving", type=Path)
    parser.add_argument("--only", nargs="+", choices=tuple(SETTINGS), metavar="NAME", help="settings beside the first")
    parser.add_argument("--answer", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.answer:
        _write_answer(args.fixed, args.moving, args.answer)
        return 0
    first, *others = SETTINGS
    reference = answer(args.fixed, args.moving, SETTINGS[first])
    print("| setting | decisions | linear [mm] | deformable, 95 % [mm] | time [s] |\n|---|---|---|---|---|")
    print(f"| {first} | {reference.decided['kind']}, {reference.decided['status']} | – | – | {reference.seconds:.1f} |")
    within = True
    for name in args.only or others:
        found = answer(args.fixed, args.moving, SETTINGS[name])
        apart = difference(reference, found)
        within &= apart.within_limits
        same = "the same" if apart.same_decisions else f"**other**: {found.decided}"
        print(
            f"| {name} | {same} | {apart.linear_mm:.1e} | {apart.deformable_mm:.1e} | {found.seconds:.1f} |", flush=True
        )
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
