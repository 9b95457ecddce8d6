"""The comparison with other programs: rows saved and resumed, scores that are right, tables written."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import shift

from samreg.geometry import Grid, Volume
from samreg.transforms import Affine
from tools.bench import environments, methods, peers, sets, table, warps
from tools.bench.measured import measured
from tools.bench.rows import Rows

GRID = Grid.from_axes((24, 20, 16), (1.0, 2.0, 3.0), (5.0, -7.0, 11.0))
MOVED_VOX = (3, 2, 1)
MOVED_MM = GRID.affine[:3, :3] @ MOVED_VOX

FAKE = """
import sys, json, numpy as np, pathlib
fixed, moving, out, settings = sys.argv[1:]
pathlib.Path(r"{calls}").open("a").write(fixed + "\\n")
if json.loads(settings).get("fails"):
    sys.exit("no such luck")
field = np.zeros((24, 20, 16, 3), np.float32)
field[:] = json.loads(settings)["by"]
np.save(out, field)
"""


def block() -> sets.Pair:
    """A block that lies `MOVED_VOX` further on in the moving image."""
    labels = np.zeros(GRID.shape, np.uint8)
    labels[6:14, 5:12, 4:9] = 1
    labels[8:12, 7:10, 5:8] = 2
    moved = shift(labels, MOVED_VOX, order=0)
    points = GRID.lps(np.array([[7.0, 6, 5], [12, 10, 7]]))
    return sets.Pair(
        Volume(labels * 100.0, GRID),
        Volume(moved * 100.0, GRID),
        fixed_labels=labels,
        moving_labels=moved,
        fixed_landmarks=points,
        moving_landmarks=points + MOVED_MM,
        truth=moved_by(MOVED_MM),
    )


def moved_by(mm: np.ndarray) -> Affine:
    matrix = np.eye(4)
    matrix[:3, 3] = mm
    return Affine(matrix)


@pytest.fixture
def calls(tmp_path: Path, monkeypatch) -> Path:
    """A file with a line for each run of the fake peer; one set of two pairs is all there is."""
    called = tmp_path / "calls.txt"
    called.touch()
    (tmp_path / "fake.py").write_text(FAKE.format(calls=called), encoding="utf-8")
    pairs = [("near", block), ("far", block)]
    monkeypatch.setattr(sets, "SETS", {"blocks": sets.PairSet("blocks", "dice", "volume", lambda data: iter(pairs))})
    monkeypatch.setattr(peers, "SETS", sets.SETS)
    monkeypatch.setattr(methods, "ADAPTERS", tmp_path)
    monkeypatch.setattr(environments, "REQUIREMENTS", {"fake": ("fake==1.0",)})
    monkeypatch.setattr(environments, "python_of", lambda name, folder: Path(sys.executable))
    return called


def compared(tmp_path: Path, monkeypatch, *settings: dict, options: tuple[str, ...] = ()) -> list[dict]:
    """Rows after a run of fake peers with these settings."""
    fakes = tuple(methods.Peer(f"fake {n}", "fake", "fake.py", values) for n, values in enumerate(settings))
    monkeypatch.setattr(peers, "PEERS", fakes)
    rows = tmp_path / "rows.jsonl"
    names = [fake.name for fake in fakes]
    arguments = ["--rows", str(rows), "--work", str(tmp_path / "work"), "--methods", *names, *options]
    assert peers.main(arguments) == 0
    return [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]


def test_a_known_translation_is_scored_as_perfect(calls: Path, tmp_path: Path, monkeypatch):
    rows = compared(tmp_path, monkeypatch, {"by": list(MOVED_MM)}, options=("--every", "2"))
    before, found = rows
    assert before["method"] == "before"
    assert before["dice"] < 0.5
    assert before["tre_mm"] == pytest.approx(np.linalg.norm(MOVED_MM))
    assert found["dice"] == found["dice_1"] == found["dice_2"] == 1
    assert found["tre_mm"] == pytest.approx(0, abs=1e-5)
    assert found["error_mm"] == pytest.approx(0, abs=1e-5)
    assert found["hd95_mm"] == 0
    assert found["folding_percent"] == 0
    assert found["cpu_seconds"] > 0
    # Swapped, the fake moves the same way again.
    assert found["inverse_mm"] == pytest.approx(2 * np.linalg.norm(MOVED_MM), rel=0.3)


def test_what_is_done_is_not_done_again(calls: Path, tmp_path: Path, monkeypatch):
    once = compared(tmp_path, monkeypatch, {"by": [0, 0, 0]})
    runs = calls.read_text(encoding="utf-8").count("\n")
    assert runs == 4  # two pairs, each there and back
    assert compared(tmp_path, monkeypatch, {"by": [0, 0, 0]}) == once
    assert calls.read_text(encoding="utf-8").count("\n") == runs
    # Other settings are another row.
    assert len(compared(tmp_path, monkeypatch, {"by": [1, 0, 0]})) == len(once) + 2
    assert calls.read_text(encoding="utf-8").count("\n") == 2 * runs


def test_a_line_that_was_cut_off_spoils_no_other(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    row = {"set": "s", "pair": "p", "method": "m", "version": "1", "settings": {}}
    Rows(path).add(row)
    with path.open("a", encoding="utf-8") as file:
        file.write('{"set": "s", "pai')
    Rows(path).add(row | {"pair": "other"})
    assert [found["pair"] for found in Rows(path)] == ["p", "other"]


def test_a_failure_is_a_row_that_says_why(calls: Path, tmp_path: Path, monkeypatch, capsys):
    rows = compared(tmp_path, monkeypatch, {"fails": True}, options=("--only", "near"))
    assert "no such luck" in rows[-1]["failed"]
    assert "0 (1 failed)" in capsys.readouterr().out


def test_the_tables_are_written_between_their_markers(calls: Path, tmp_path: Path, monkeypatch):
    docs = tmp_path / "docs"
    (docs / "pictures").mkdir(parents=True)
    page = docs / "performance.md"
    page.write_text("before\n<!-- generated: peers -->\nstale\n<!-- end -->\nafter\n", encoding="utf-8")
    for name, value in {"DOCUMENT": page, "PICTURE": docs / "pictures" / "peers.svg", "DOCS": docs}.items():
        monkeypatch.setattr(table, name, value)
    compared(tmp_path, monkeypatch, {"by": list(MOVED_MM)}, {"by": [0, 0, 0]}, options=("--write",))
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "stale" not in text
    assert "| fake 0 | 2 | 1.000 ± 0.000 |" in text
    assert (docs / "pictures" / "peers.svg").read_text(encoding="utf-8").count("<circle") == 6


def test_the_paired_test_needs_pairs_that_both_have():
    ours = {str(n): 0.8 + 0.01 * n for n in range(8)}
    assert table.p_value(ours, {pair: value - 0.05 for pair, value in ours.items()}) < 0.01
    assert np.isnan(table.p_value(ours, {"0": 0.5, "1": 0.5}))


@pytest.mark.parametrize(("mean_mm", "width_mm"), [(4.0, 20.0), (16.0, 40.0)])
def test_a_known_warp_moves_the_body_as_far_as_asked_without_a_fold(mean_mm: float, width_mm: float):
    grid = Grid.from_axes((40, 36, 30), (5.0, 5.0, 5.0))
    body = np.zeros(grid.shape, bool)
    body[6:34, 6:30, 5:25] = True
    warp = warps.radial_warp(grid, body, mean_mm, width_mm, seed=1)
    points = grid.lps(np.argwhere(body).astype(float))
    assert np.linalg.norm(warp.map_points(points) - points, axis=1).mean() == pytest.approx(mean_mm, rel=0.1)
    assert warp.jacobian_determinant(grid).min() > 0
    again = warps.radial_warp(grid, body, mean_mm, width_mm, seed=1)
    assert np.array_equal(again.map_points(points[:50]), warp.map_points(points[:50]))


def test_a_command_is_measured_alone_and_ended_at_its_limit(tmp_path: Path):
    held = np.ones(60_000_000)  # of this process, which must not count
    used = measured([sys.executable, "-c", "print('said')"], str(tmp_path / "log"), 60.0)
    assert used["exit_code"] == 0
    assert used["peak_mb"] < held.nbytes / 2**20
    assert (tmp_path / "log").read_text(encoding="utf-8") == "said\n"
    ended = measured([sys.executable, "-c", "import time; time.sleep(60)"], str(tmp_path / "log"), 0.5)
    assert ended["exit_code"] == -9
