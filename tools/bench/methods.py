"""What is compared: peers with their settings, and samreg by its command."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

import samreg
from samreg.geometry import Grid
from samreg.transforms import Affine, DisplacementField, Transform
from samreg.transforms.files import read_transform
from tools.bench import environments
from tools.bench.measured import measured
from tools.bench.sets import PairSet

ROOT = Path(__file__).parents[2]
ADAPTERS = Path(__file__).parent / "adapters"
Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What one registration gave.

    Attributes:
        transform: Fixed points to moving points; None where there is none.
        usage: As `measured` returns it.
        note: What a reader of the row should know ("refused"), or why there is no transform.
    """

    transform: Transform | None
    usage: dict[str, float]
    note: str = ""


class Method(Protocol):
    """Anything that registers the images `fixed.nii.gz` and `moving.nii.gz` of a folder."""

    @property
    def name(self) -> str:
        """In rows and tables."""

    @property
    def version(self) -> str:
        """Of the program."""

    def settings(self, pair_set: PairSet) -> Settings:
        """That apply to the pairs of a set; they are part of a row's key."""

    def register(self, folder: Path, grid: Grid, settings: Settings, threads: int, limit_s: float) -> Outcome:
        """Register the two images of a folder, in which it may write; the grid is that of the fixed one."""


@dataclass(frozen=True)
class Peer:
    """A program of others, run by an adapter in its own environment.

    Attributes:
        name: In rows and tables.
        environment: Key of `environments.REQUIREMENTS`.
        adapter: File in `adapters/`.
        base: Settings for every pair.
        special: What differs, by the kind of the set, or by "other contrast"; later entries win.
        folder: Of all environments.
    """

    name: str
    environment: str
    adapter: str
    base: Settings
    special: Mapping[str, Settings] = field(default_factory=dict)
    folder: Path = ROOT / "build" / "peers"

    @property
    def version(self) -> str:
        """Of the peer's package."""
        return environments.version(self.environment)

    def settings(self, pair_set: PairSet) -> Settings:
        """The base, and what is special to the set."""
        of_set = {pair_set.kind} if pair_set.same_contrast else {pair_set.kind, "other contrast"}
        chosen = dict(self.base)
        for name, values in self.special.items():
            chosen |= values if name in of_set else {}
        return chosen

    def register(self, folder: Path, grid: Grid, settings: Settings, threads: int, limit_s: float) -> Outcome:
        """Run the adapter and read the field that it leaves."""
        python = environments.python_of(self.environment, self.folder)
        found, log = folder / "displacement.npy", folder / "log.txt"
        files = [str(path) for path in (*images_of(folder), found)]
        command = [str(python), str(ADAPTERS / self.adapter), *files, json.dumps(settings)]
        usage = measured(command, str(log), limit_s, _threads(threads))
        if not found.is_file():
            return Outcome(None, usage, _last_line(log, usage))
        return Outcome(_field(found, grid), usage)


@dataclass(frozen=True)
class Ours:
    """`samreg register`, with the options that are given."""

    name: str
    options: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """Of samreg, and a digest of its sources, since a version of work in progress says little."""
        digest = hashlib.sha256()
        for path in sorted((*(ROOT / "bundle").rglob("*.py"), *(ROOT / "configs").rglob("*.yaml"))):
            digest.update(path.read_bytes())
        return f"{samreg.__version__}+{digest.hexdigest()[:8]}"

    def settings(self, pair_set: PairSet) -> Settings:
        """The options."""
        return {"options": list(self.options)}

    def register(self, folder: Path, grid: Grid, settings: Settings, threads: int, limit_s: float) -> Outcome:
        """Run the command; what it refuses leaves the images as they lie, which is what a user is left with."""
        log, result = folder / "log.txt", folder / "result"
        command = [sys.executable, "-m", "samreg", "register", *map(str, images_of(folder)), "-o", str(result)]
        options = [*settings["options"], "--threads", str(threads), "--quiet"]
        usage = measured([*command, *options], str(log), limit_s, _threads(threads))
        if (result / "transform.h5").is_file():
            report = json.loads((result / "report.json").read_text(encoding="utf-8"))
            return Outcome(read_transform(result / "transform.h5"), usage, report["status"])
        if usage["exit_code"] == 3:
            return Outcome(Affine.identity(), usage, "refused")
        return Outcome(None, usage, _last_line(log, usage))


class Before:
    """The images as they lie."""

    name = "before"
    version = ""

    def settings(self, pair_set: PairSet) -> Settings:
        """None."""
        return {}

    def register(self, folder: Path, grid: Grid, settings: Settings, threads: int, limit_s: float) -> Outcome:
        """The identity."""
        return Outcome(Affine.identity(), {})


def images_of(folder: Path) -> tuple[Path, Path]:
    """Fixed and moving image."""
    return folder / "fixed.nii.gz", folder / "moving.nii.gz"


def _threads(count: int) -> dict[str, str]:
    names = ("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return dict.fromkeys(names, str(count))


def _field(path: Path, grid: Grid) -> DisplacementField:
    vectors = np.load(path)
    if vectors.ndim == 3:  # of a picture
        vectors = np.pad(vectors, ((0, 0), (0, 0), (0, 1)))[:, :, None]
    return DisplacementField(grid, vectors)


def _last_line(log: Path, usage: Mapping[str, float]) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.is_file() else []
    said = [line.strip() for line in lines if line.strip()]
    return f"exit code {usage['exit_code']:.0f}: {said[-1][:300] if said else 'nothing was said'}"
