"""Registration programs beside samreg, on the same pairs, by the same score, on the same processors.

    python -m tools.bench.peers --sets cardiac hippocampus --every 16
    python -m tools.bench.peers --methods samreg greedy --ours "samreg=--transform deformable" --write

Each peer lives in an environment of its own, which is made when it is first needed. Each row is saved as soon as it is
done, and never done twice: a run that was stopped goes on where it was. Run it from the repository's root.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from samreg.geometry import Volume
from samreg.io.writing import write_image
from tools.bench.methods import ROOT, Before, Method, Ours, Outcome, Settings, images_of
from tools.bench.peer_table import PEERS
from tools.bench.rows import Rows
from tools.bench.score import score
from tools.bench.sets import SETS, Pair, PairSet
from tools.bench.table import document, tables

FOLDER = Path(os.environ.get("SAMREG_PEERS", ROOT / "build" / "peers"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, and print or write the tables."""
    args = _parser().parse_args(arguments)
    ours = [Ours(*_named(text)) for text in args.ours] or [Ours("samreg")]
    methods: list[Method] = [Before(), *ours, *(replace(peer, folder=args.environments) for peer in PEERS)]
    unknown = {*(args.methods or ())} - {method.name for method in methods}
    if unknown:
        raise SystemExit(f"unknown methods: {', '.join(sorted(unknown))}; there are {_names(methods)}")
    chosen = [m for m in methods if args.methods is None or m.name in args.methods or isinstance(m, Before)]
    rows = Rows(args.rows)
    if not args.tables_only:
        for name in args.sets:
            compare(name, SETS[name], chosen, rows, args)
    wanted = [row for row in rows if row["set"] in args.sets]
    text, picture = tables(wanted, SETS, [method.name for method in ours])
    print(text)
    if args.write:
        document(text, picture)
    return 0


def compare(name: str, pair_set: PairSet, methods: Sequence[Method], rows: Rows, args: argparse.Namespace) -> None:
    """Do what is missing of a set, pair by pair."""
    listed = [entry for entry in pair_set.pairs(args.data) if args.only in entry[0]][:: args.every]
    for number, (pair_name, read) in enumerate(listed):
        missing: list[tuple[Method, dict[str, Any]]] = []
        for method in methods:
            settings = dict(method.settings(pair_set))
            row: dict[str, Any] = {"set": name, "pair": pair_name, "method": method.name, "version": method.version}
            row["settings"] = settings
            if row not in rows or (args.again and "failed" in rows[row]):
                missing.append((method, row))
        if not missing:
            continue
        pair = read()
        with_inverse = bool(args.inverse_every) and number % args.inverse_every == 0
        folder = args.work / name / pair_name.replace(" ", "-")
        for method, row in missing:
            print(
                f"{name} {number + 1}/{len(listed)}, {pair_name}: {method.name} … ", end="", file=sys.stderr, flush=True
            )
            started = time.perf_counter()
            row = row | run(method, row["settings"], pair, folder / method.name.replace(" ", "-"), with_inverse, args)
            rows.add(row)
            value = row.get(pair_set.measure)
            said = f"{value:.3f}" if value is not None else row.get("failed", "not scored")
            print(f"{said} ({time.perf_counter() - started:.0f} s)", file=sys.stderr, flush=True)


def run(
    method: Method, settings: Settings, pair: Pair, folder: Path, with_inverse: bool, args: argparse.Namespace
) -> dict[str, Any]:
    """Register a pair, and swapped if asked, and score it; the cost is that of the first alone."""
    shutil.rmtree(folder, ignore_errors=True)
    outcome = _registered(method, settings, pair.fixed, pair.moving, folder / "forward", args)
    cost = {key: value for key, value in outcome.usage.items() if key != "exit_code"}
    if outcome.transform is None:
        return {"failed": outcome.note, **cost}
    backward = None
    if with_inverse:
        backward = _registered(method, settings, pair.moving, pair.fixed, folder / "backward", args).transform
    scores = score(pair, outcome.transform, backward)
    if not args.keep:
        shutil.rmtree(folder, ignore_errors=True)
    return {**scores, **cost, **({"note": outcome.note} if outcome.note else {})}


def _registered(
    method: Method, settings: Settings, fixed: Volume, moving: Volume, folder: Path, args: argparse.Namespace
) -> Outcome:
    folder.mkdir(parents=True)
    for volume, file in zip((fixed, moving), images_of(folder), strict=True):
        _write(volume, file)
    return method.register(folder, fixed.grid, settings, args.threads, args.limit)


def _write(volume: Volume, path: Path) -> None:
    if not volume.grid.is_2d:
        write_image(volume.voxels.astype(np.float32), volume.grid, path)
        return
    # Two dimensions: programs built on ITK take a volume of one slice for a volume.
    x, y = volume.grid.spacing_mm[:2]
    nib.save(nib.Nifti1Image(volume.voxels[:, :, 0].astype(np.float32), np.diag([-x, -y, 1, 1])), path)  # type: ignore[attr-defined]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of the images")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--methods", nargs="+", metavar="NAME", help=f"default all: samreg, {_names(PEERS)}")
    parser.add_argument(
        "--ours",
        action="append",
        default=[],
        metavar="NAME=OPTIONS",
        help='samreg with options of `samreg register`, such as "fast=--preset features"; may be repeated',
    )
    parser.add_argument("--every", type=int, default=1, metavar="N", help="every Nth pair of a set alone")
    parser.add_argument("--only", default="", metavar="TEXT", help="pairs alone whose name holds this")
    parser.add_argument("--inverse-every", type=int, default=1, metavar="N", help="register every Nth pair swapped too")
    parser.add_argument("--again", action="store_true", help="do again what failed")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--limit", type=float, default=3600.0, metavar="SECONDS", help="wall time of one registration")
    parser.add_argument("--environments", type=Path, default=FOLDER, help="folder of the environments (SAMREG_PEERS)")
    parser.add_argument("--rows", type=Path, default=ROOT / "build" / "peers.jsonl", help="file of the rows")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "peers-work", help="folder for files in use")
    parser.add_argument("--keep", action="store_true", help="keep those files")
    parser.add_argument("--tables-only", action="store_true", help="register nothing")
    parser.add_argument("--write", action="store_true", help="write tables and picture into docs/")
    return parser


def _named(text: str) -> tuple[str, tuple[str, ...]]:
    name, _, options = text.partition("=")
    return name, tuple(shlex.split(options))


def _names(methods: Sequence[Method]) -> str:
    return ", ".join(f"'{method.name}'" for method in methods)


if __name__ == "__main__":
    sys.exit(main())
