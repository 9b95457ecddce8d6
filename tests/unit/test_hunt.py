"""A few hundred damaged files of every format; `tools/hunt.py` makes as many as one likes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(ROOT / "tools"))
    import hunt
    import hunt_seeds
    import mutations

COUNT = 14  # of each format
# Decoders in other languages may end the process; these are read in a process of their own.
ELSEWHERE = ("DICOM RLE", "DICOM JPEG-LS", "DICOM JPEG 2000", "transform .h5")


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, hunt_seeds.Seed]:
    return {seed.format: seed for seed in hunt_seeds.write_seeds(tmp_path_factory.mktemp("seeds"))}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in hunt_seeds.FORMATS if name not in ELSEWHERE])
def test_damage_is_refused_or_read_as_far_as_it_can_be_told(seeds, tmp_path: Path, name: str):
    seed = seeds[name]
    sound = hunt.read(seed.reads, seed.folder / seed.entry, seed.reference)
    assert "digest" in sound
    for number in range(COUNT):
        place = tmp_path / str(number)
        place.mkdir()
        done = hunt.damage(seed, place, np.random.default_rng([16, number]))
        answer = hunt.read(seed.reads, place / seed.entry, seed.reference)
        got = hunt.outcome(answer, sound, sealed=seed.sealed and done in mutations.BYTES)
        assert got in hunt.OUTCOMES, f"{done}, number {number}: {answer}"


def test_the_tool_ends_well_where_it_finds_nothing(tmp_path: Path, capsys):
    assert hunt.main(["--count", "24", "--seed", "3", "--only", *ELSEWHERE, "-o", str(tmp_path)]) == 0
    assert "| all | 24 |" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_fault_is_told_and_its_input_kept(tmp_path: Path, monkeypatch, capsys):
    """Of a reader that ends the process, hangs, raises, and reads."""
    seed = hunt_seeds.write_seeds(tmp_path / "seeds", ["points"])[0]
    sound = hunt.read("points", seed.folder / seed.entry, None)
    answers = iter([sound, {"crash": "exit code -11"}, {"hang": "no answer"}, {"traceback": "KeyError"}, sound])
    monkeypatch.setattr(hunt.Worker, "read", lambda self, seed, path: next(answers))
    out = tmp_path / "out"
    assert hunt.main([str(seed.folder / seed.entry), "--count", "4", "-o", str(out)]) == 1
    assert "| 4 | 1 | 0 | 0 | 0 | 0 | 1 | 1 | 1 | 0 |" in capsys.readouterr().out
    kept = {path.name.split("-")[0] for path in out.iterdir()}
    assert kept == {"crash", "hang", "traceback"}
    assert (out / "crash-a.csv-0" / "a.csv").is_file()
    assert "exit code -11" in (out / "crash-a.csv-0.txt").read_text()


def test_the_worker_is_replaced_after_a_crash_and_a_hang(tmp_path: Path):
    (tmp_path / "p.csv").write_text("1,2,3\n")
    worker = hunt.Worker(timeout_s=0.5, memory_gb=1.0, log=tmp_path / "log")
    try:
        seed = hunt_seeds.Seed("points", tmp_path, "p.csv", "points")
        assert "numbers" in worker.read(seed, tmp_path / "p.csv")
        os.mkfifo(tmp_path / "fifo.csv")  # whose reading waits for a writer
        assert "hang" in worker.read(seed, tmp_path / "fifo.csv")
        # A label map without its image ends the process.
        assert "crash" in worker.read(hunt_seeds.Seed("labels", tmp_path, "p.csv", "labels"), tmp_path / "p.csv")
    finally:
        worker.close()


def test_the_same_seed_makes_the_same_inputs(seeds):
    for name, seed in seeds.items():
        data = sorted(path for path in seed.folder.rglob("*") if path.is_file())[0].read_bytes()
        for number in range(6):
            one, two = (mutations.mutated(data, seed.family, np.random.default_rng(number)) for _ in range(2))
            assert one == two, name
