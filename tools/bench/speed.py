"""Time and peak memory of the whole chain, from paths to a folder of results.

    python -m tools.bench.speed                                   # small phantom and 512 x 512 x 150 phantom CT
    python -m tools.bench.speed --fixed FIXED --moving MOVING     # a pair of one's own
    … --beside                                              # that pair also beside one busy process a processor

Each run is a process of its own, so that its peak memory is its own. Run it from the repository's root.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tools.bench.measured import measured

LIMIT_S = 3600.0
HEADER = (
    "| pair | transform | status | time [s] | of the processors [s] | peak memory [MB] "
    "| true error mean / largest [mm] | stages [s] |\n|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Run:
    """What one registration took."""

    name: str
    transform: str
    seconds: float
    cpu_seconds: float
    peak_mb: float
    status: str
    stages: dict[str, float]
    error_mm: str = ""


def main() -> int:
    """Print the table, each row as soon as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fixed", type=Path, help="image of your own")
    parser.add_argument("--moving", type=Path, help="image of your own")
    parser.add_argument("--phantoms", nargs="*", choices=("small", "ct"), default=None, help="default both, or none")
    parser.add_argument("--transforms", nargs="+", default=["rigid", "deformable"])
    parser.add_argument("--beside", action="store_true", help="measure also beside one busy process a processor")
    parser.add_argument("--keep", type=Path, help="keep the results in this folder")
    args = parser.parse_args()
    names = args.phantoms if args.phantoms is not None else ([] if args.fixed else ["small", "ct"])
    print(HEADER, flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or Path(scratch)
        if args.fixed and args.moving:
            for transform in args.transforms:
                out = folder / f"given-{transform}"
                print(row(measure("given", args.fixed, args.moving, transform, out)), flush=True)
                if args.beside:
                    with busy_processors():
                        beside = folder / f"given-{transform}-beside"
                        print(
                            row(measure("given, beside others", args.fixed, args.moving, transform, beside)), flush=True
                        )
        for name in names:
            for run in _phantom_runs(name, args.transforms, folder):
                print(row(run), flush=True)
    return 0


@contextmanager
def busy_processors() -> Iterator[None]:
    """One process a processor that never waits."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in os.sched_getaffinity(0)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def _phantom_runs(name: str, transforms: list[str], folder: Path) -> Iterator[Run]:
    from samreg import phantoms

    modality = "CT" if name == "ct" else "MR"
    grid = phantoms.grid("ct" if name == "ct" else "axial")
    phantom = phantoms.pair("deformable", fixed_grid=grid, modality=modality)
    fixed, moving = phantoms.write_dicom_study(phantom, folder / name)
    for transform in transforms:
        out = folder / f"{name}-{transform}"
        yield replace(measure(name, fixed, moving, transform, out), error_mm=_error(phantom, out))


def _error(phantom: object, out: Path) -> str:
    from samreg.transforms.files import read_transform

    if not (out / "transform.h5").is_file():
        return ""
    errors = phantom.errors_mm(read_transform(out / "transform.h5"), seen_only=True)  # type: ignore[attr-defined]
    return f"{errors.mean():.2f} / {errors.max():.2f}"


def measure(name: str, fixed: Path, moving: Path, transform: str, out: Path) -> Run:
    """Run `samreg register` once, in a process of its own."""
    command = [sys.executable, "-m", "samreg", "register", str(fixed), str(moving), "-o", str(out)]
    used = measured([*command, "--transform", transform, "--quiet"], os.devnull, LIMIT_S)
    done = used["exit_code"] in (0, 4)  # 4: registered, but the gate failed
    report = json.loads((out / "report.json").read_text(encoding="utf-8")) if done else {}
    status = report.get("status", "failed")
    cost = used["seconds"], used["cpu_seconds"], used["peak_mb"]
    return Run(name, transform, *cost, status, report.get("timings_s", {}))


def row(run: Run) -> str:
    """One run as a row of the Markdown table."""
    stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in run.stages.items())
    numbers = f"{run.seconds:.1f} | {run.cpu_seconds:.1f} | {run.peak_mb:.0f} | {run.error_mm or '–'}"
    return f"| {run.name} | {run.transform} | {run.status} | {numbers} | {stages} |"


if __name__ == "__main__":
    sys.exit(main())
