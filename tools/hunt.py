"""Damage files of every format, read them, and tell what came of it.

    python tools/hunt.py [FILE_OR_FOLDER …] [--count N] [--seed N] [--only FORMAT …] [-o OUT]

Without files, small ones in every format are written. Each input is one sound file with one mutation (see
`mutations.py`), read in a process of its own that may take so long and so much memory. What came of it:

    as sound    read, equal to the sound file
    otherwise   read, with other values or another geometry, which a note of the volume may say ("with a note")
    refused     a refusal of samreg
    unnoticed   read otherwise although a checksum covers the byte that was changed
    traceback, hang, crash, memory    what must never be

Ends with 1 if there is one of the last two lines; the inputs of those are kept in OUT.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from hunt_seeds import Seed, seeds_of, write_seeds
from mutations import mutated

ROOT = Path(__file__).parents[1]
OUTCOMES = ("as sound", "otherwise", "with a note", "refused")
FAULTS = ("unnoticed", "traceback", "hang", "crash", "memory")
ADDRESSES = 8 * 2**30  # bytes that the process may address beyond those of its libraries
PIXEL_SPACING_MM = (1.0, 1.0)

Answer = dict[str, Any]


def read_image(path: Path, reference: Path | None) -> Answer:
    """Shape and affine, digest of the voxels, and the notes; what the dry run says must not contradict it."""
    from samreg.errors import InputRefused
    from samreg.io import describe, read_image
    from samreg.io.formats import image_format

    try:
        picture = image_format(path) == "picture"
    except InputRefused:
        picture = False
    options: dict[str, Any] = {"pixel_spacing_mm": PIXEL_SPACING_MM} if picture else {}
    told = describe(path, **options)
    volume = read_image(path, **options)
    if told["refused"] or list(told["size"]) != list(volume.grid.shape):
        raise AssertionError(f"the dry run says {told}, but it was read with {volume.grid}")
    return {
        "numbers": [*volume.grid.shape, *volume.grid.affine.ravel().tolist()],
        "digest": _digest(volume.voxels),
        "notes": sorted(f"{key}: {note}" for key, note in volume.notes.items()),
    }


def read_labels(path: Path, reference: Path | None) -> Answer:
    """Digest of the labels."""
    from samreg.io import read_image, read_labels

    if reference is None:
        raise SystemExit("a label map needs the image that it belongs to")
    return {"numbers": [], "digest": _digest(read_labels(path, read_image(reference))), "notes": []}


def read_transform(path: Path, reference: Path | None) -> Answer:
    """Where some points are taken."""
    from samreg.transforms import read_transform

    points = np.random.default_rng(0).uniform(-40, 40, (40, 3))
    return {"numbers": read_transform(path).map_points(points).ravel().tolist(), "digest": "", "notes": []}


def read_points(path: Path, reference: Path | None) -> Answer:
    """The points and the names."""
    from samreg.tables import PointTable

    table = PointTable.read(path)
    return {"numbers": table.points.ravel().tolist(), "digest": repr(table.names), "notes": []}


def read_configuration(path: Path, reference: Path | None) -> Answer:
    """All keys."""
    from samreg.config import Config

    return {"numbers": [], "digest": repr(sorted(Config.load(path).as_dict().items())), "notes": []}


def read_pairs(path: Path, reference: Path | None) -> Answer:
    """Names, spacings and files."""
    from samreg.ablation.cases import read_cases

    rows = [(c.name, c.pixel_spacing_mm, *(os.path.relpath(p, path.parent) for p in c.paths)) for c in read_cases(path)]
    return {"numbers": [], "digest": repr(rows), "notes": []}


READERS: Mapping[str, Callable[[Path, Path | None], Answer]] = {
    "image": read_image,
    "labels": read_labels,
    "transform": read_transform,
    "points": read_points,
    "configuration": read_configuration,
    "pairs": read_pairs,
}


def _digest(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values)).hexdigest()


def read(reads: str, path: Path, reference: Path | None) -> Answer:
    """What reading gave: `numbers`, `digest` and `notes`; or `refused`, the sentence; or `traceback`."""
    from samreg.errors import SamregError

    try:
        return READERS[reads](path, reference)
    except SamregError as error:
        if not (error.got and error.expected and error.sentence.isprintable() and len(error.sentence) < 4000):
            return {"traceback": f"a refusal that nobody can read: {error.as_dict()!r}"[:4000]}
        return {"refused": error.sentence}
    except MemoryError:
        return {"memory": traceback.format_exc()}
    except Exception:  # noqa: BLE001 (this is what is hunted)
        return {"traceback": traceback.format_exc()}


def outcome(answer: Answer, sound: Answer, *, sealed: bool) -> str:
    """One of `OUTCOMES` or `FAULTS`."""
    for name in ("refused", *FAULTS):
        if name in answer:
            return name
    alike = len(answer["numbers"]) == len(sound["numbers"]) and np.allclose(
        answer["numbers"], sound["numbers"], rtol=1e-7, atol=1e-6
    )
    if alike and answer["digest"] == sound["digest"]:
        return "as sound"
    if set(answer["notes"]) - set(sound["notes"]):
        return "with a note"
    return "unnoticed" if sealed else "otherwise"


def damage(seed: Seed, folder: Path, rng: np.random.Generator) -> str:
    """Write the seed's files into an empty folder, one of them mutated; what was done."""
    files = sorted(path.relative_to(seed.folder) for path in seed.folder.rglob("*") if path.is_file())
    whole = [files[0]] if seed.reads == "pairs" else files
    which = Path(seed.entry) if seed.entry != "." and rng.random() < 0.7 else whole[int(rng.integers(len(whole)))]
    name, data = mutated((seed.folder / which).read_bytes(), seed.family if _has_fields(seed, which) else "", rng)
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        if file == which:
            (folder / file).write_bytes(data)
        else:
            shutil.copyfile(seed.folder / file, folder / file)
    return name


def _has_fields(seed: Seed, file: Path) -> bool:
    return seed.entry in (".", str(file))


class Worker:
    """A process that reads what it is told to, and is replaced when it does not answer.

    Args:
        timeout_s: For one input.
        memory_gb: That one input may take.
        log: Where its standard error goes.
    """

    def __init__(self, timeout_s: float, memory_gb: float, log: Path) -> None:
        self._timeout_s, self._memory_gb, self._log = timeout_s, memory_gb, log
        self._process: subprocess.Popen[str] | None = None

    def read(self, seed: Seed, path: Path) -> Answer:
        """As `read`; or `hang`, `crash` or `memory`, with what the process said."""
        process = self._process or self._start()
        jobs, answers = cast("tuple[IO[str], IO[str]]", (process.stdin, process.stdout))
        job = {"reads": seed.reads, "path": str(path), "reference": seed.reference and str(seed.reference)}
        jobs.write(json.dumps(job) + "\n")
        jobs.flush()
        ready, _, _ = select.select([answers], [], [], self._timeout_s)
        line = answers.readline() if ready else ""
        if line:
            answer: Answer = json.loads(line)
            if answer.get("memory"):
                self.close()
            return answer
        self.close()
        said = self._log.read_text(encoding="utf-8", errors="replace")[-4000:]
        return {"crash": f"exit code {process.returncode}\n{said}"} if ready else {"hang": said or "no answer"}

    def _start(self) -> subprocess.Popen[str]:
        environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}
        environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "bundle"), environ.get("PYTHONPATH", "")])
        command = [sys.executable, "-W", "ignore", __file__, "--worker", str(self._memory_gb)]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environ
            )
        if not cast("IO[str]", self._process.stdout).readline():
            raise RuntimeError(f"the reading process does not start: {self._log.read_text(encoding='utf-8')}")
        return self._process

    def close(self) -> None:
        """End the process; the next input gets another one."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                with contextlib.suppress(OSError):
                    stream.close()  # type: ignore[union-attr]
        self._process = None


def work(memory_gb: float) -> int:
    """The reading process: a job a line in, an answer a line out."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nothing that a library prints stands between the answers
    import highdicom  # noqa: F401 (imported late by the readers, and not on their account)
    import PIL.Image
    import SimpleITK  # noqa: F401

    import samreg.ablation.cases
    import samreg.io  # noqa: F401

    PIL.Image.init()
    limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + ADDRESSES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        job = json.loads(line)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        answer = read(job["reads"], Path(job["path"]), job["reference"] and Path(job["reference"]))
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        if grown * 1024 > memory_gb * 10**9:
            answer = {"memory": f"{grown / 2**20:.1f} GiB were taken"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    return 0


def hunt(
    seeds: Sequence[Seed],
    count: int,
    seed: int,
    out: Path,
    *,
    jobs: int,
    timeout_s: float,
    memory_gb: float,
    keep: Sequence[str] = FAULTS,
) -> Iterator[tuple[Seed, int, str]]:
    """Each input's seed, number and outcome, as they come; inputs with one of the outcomes `keep` are kept in `out`."""
    local = threading.local()
    workers: list[Worker] = []
    out.mkdir(parents=True, exist_ok=True)

    def worker() -> Worker:
        if not hasattr(local, "worker"):
            local.worker = Worker(timeout_s, memory_gb, out / f".said-{threading.get_ident()}")
            workers.append(local.worker)
        return local.worker

    def one(number: int) -> tuple[Seed, int, str]:
        chosen = seeds[number % len(seeds)]
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "input"
            place.mkdir()
            done = damage(chosen, place, np.random.default_rng([seed, number]))
            answer = worker().read(chosen, place / chosen.entry)
            plain = {"flip", "zero", "noise", "cut", "append", "delete", "duplicate", "number"}
            got = outcome(answer, sound[chosen.format], sealed=chosen.sealed and done in plain)
            if got in keep:
                kept = out / f"{got}-{chosen.format.replace(' ', '-')}-{number}"
                shutil.rmtree(kept, ignore_errors=True)
                shutil.copytree(place, kept)
                (out / f"{kept.name}.txt").write_text(f"{done}\n{answer.get(got, answer)}\n", encoding="utf-8")
        return chosen, number, got

    try:
        with ThreadPoolExecutor(jobs) as pool:
            sound = {s.format: worker().read(s, s.folder / s.entry) for s in seeds}
            for name, answer in sound.items():
                if "digest" not in answer:
                    raise SystemExit(f"{name} is not sound: {answer}")
            yield from pool.map(one, range(count))
    finally:
        for each in workers:
            each.close()
        for log in out.glob(".said-*"):
            log.unlink()


def table(counts: Mapping[str, Counter[str]]) -> str:
    """Markdown: a row for each format."""
    names = (*OUTCOMES, *FAULTS)
    total: Counter[str] = sum(counts.values(), Counter())
    lines = [f"| format | inputs | {' | '.join(names)} |", f"|---|{'---|' * (len(names) + 1)}"]
    for row, found in [*counts.items(), ("all", total)]:
        lines.append(f"| {row} | {found.total()} | {' | '.join(str(found[name]) for name in names)} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Hunt, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", type=Path, nargs="*", help="sound files, or folders of one DICOM series each")
    parser.add_argument("--count", type=int, default=10_000, help="inputs (default 10000)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed makes the same inputs (default 0)")
    parser.add_argument("--only", nargs="+", default=(), metavar="FORMAT", help="parts of the names of formats")
    parser.add_argument("--jobs", type=int, default=1, help="processes that read side by side (default 1)")
    parser.add_argument("--timeout", type=float, default=20.0, help="seconds for one input (default 20)")
    parser.add_argument("--memory", type=float, default=1.0, help="GB for one input (default 1)")
    parser.add_argument("--keep", nargs="+", choices=OUTCOMES, default=(), help="keep inputs with these outcomes too")
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "build" / "hunt", help="where faults are kept")
    parser.add_argument("--worker", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.worker is not None:
        return work(args.worker)
    sys.path.insert(0, str(ROOT / "bundle"))
    with tempfile.TemporaryDirectory() as folder:
        seeds = seeds_of(args.paths, Path(folder)) if args.paths else write_seeds(Path(folder), args.only)
        counts: dict[str, Counter[str]] = {s.format: Counter() for s in seeds}
        shown = time.monotonic()
        limits: dict[str, Any] = {
            "jobs": args.jobs,
            "timeout_s": args.timeout,
            "memory_gb": args.memory,
            "keep": (*FAULTS, *args.keep),
        }
        for chosen, number, got in hunt(seeds, args.count, args.seed, args.out, **limits):
            counts[chosen.format][got] += 1
            if got in FAULTS:
                sys.stderr.write(f"\r{got}: {chosen.format}, input {number}\n")
            if time.monotonic() - shown > 1 or number == args.count - 1:
                shown = time.monotonic()
                sys.stderr.write(f"\r{number + 1} of {args.count}")
                sys.stderr.flush()
    sys.stderr.write("\n")
    print(table(counts))
    return 1 if any(found[name] for found in counts.values() for name in FAULTS) else 0


if __name__ == "__main__":
    sys.exit(main())
