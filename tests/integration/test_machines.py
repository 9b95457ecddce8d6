"""One answer on every machine: whatever the arithmetic of the processor, and the number of threads."""

import importlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from samreg import evidence, ladder, phantoms
from samreg.config import Config
from samreg.evidence import Evidence, Measure
from samreg.io.writing import write_image
from samreg.session import register

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def machines():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "tools"))
        yield importlib.import_module("machines")


def written(phantom: phantoms.Phantom, folder: Path) -> tuple[Path, Path]:
    paths = folder / "fixed.nii.gz", folder / "moving.nii.gz"
    for path, volume in zip(paths, (phantom.fixed, phantom.moving), strict=True):
        write_image(volume.voxels, volume.grid, path)
    return paths


PAIRS = {
    "volume": lambda: phantoms.pair("deformable", fixed_grid=phantoms.grid("axial", 40), rotation_deg=12),
    "inverted": lambda: phantoms.pair("deformable", fixed_grid=phantoms.grid("oblique", 48), contrast="inverted"),
    "picture": lambda: phantoms.pair("deformable", fixed_grid=phantoms.grid("picture", 64)),
    "thin": lambda: phantoms.pair("deformable", fixed_grid=phantoms.grid("thin", 96), peak_mm=6, rotation_deg=2),
    "rigid": lambda: phantoms.pair("rigid", fixed_grid=phantoms.grid("axial", 32)),
    "identity": lambda: phantoms.pair("identity", fixed_grid=phantoms.grid("axial", 32)),
}
KINDS = {"rigid": "rigid", "identity": "identity"}  # all others: deformable
# All that the libraries can be told, at once; `tools/machines.py` tells them one thing at a time.
OLDEST, NEWER = "plain, 1 thread", "AVX2, 2 threads"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["volume", "picture"])
def test_two_generations_of_processors_give_the_same_answer(machines, tmp_path, name):
    paths = written(PAIRS[name](), tmp_path)
    one, other = (machines.answer(*paths, machines.SETTINGS[setting]) for setting in (OLDEST, NEWER))
    apart = machines.difference(one, other)
    assert apart.within_limits, apart


@pytest.mark.slow
def test_a_pair_of_real_size_gives_the_same_answer(machines, tmp_path):
    grid = phantoms.grid("thin", 256)  # as large as a cine of the heart
    paths = written(phantoms.pair("deformable", fixed_grid=grid, peak_mm=6, rotation_deg=2), tmp_path)
    reference = machines.answer(*paths, machines.SETTINGS["2 threads"])  # of the processor as it is
    assert reference.decided["kind"] == "deformable"
    apart = machines.difference(reference, machines.answer(*paths, machines.SETTINGS[OLDEST]))
    assert apart.within_limits, apart


def shifted(measure: Measure, by: float) -> Measure:
    return replace(measure, parts=measure.parts + by)


@pytest.mark.slow
@pytest.mark.parametrize("name", PAIRS)
def test_no_decision_flips_when_a_piece_of_evidence_moves_by_its_noise(monkeypatch, name):
    seen = []

    def recorded(finer: Evidence, coarser: Evidence, terms: evidence.Terms, **rules) -> evidence.Decision:
        seen.append((finer, coarser, {"terms": terms, **rules}))
        return evidence.decide(finer, coarser, terms, **rules)

    monkeypatch.setattr(ladder, "decide", recorded)
    phantom = PAIRS[name]()
    result = register(phantom.fixed, phantom.moving)
    assert result.kind == KINDS.get(name, "deformable")
    assert len(seen) >= 2
    for finer, coarser, rules in seen:
        decided = evidence.decide(finer, coarser, **rules).finer
        for piece in ("closeness", "information", "correlation", "likeness"):
            noise = getattr(finer, piece).gain_over(getattr(coarser, piece)).noise
            for by in (-noise, noise):
                moved = replace(finer, **{piece: shifted(getattr(finer, piece), by)})
                assert evidence.decide(moved, coarser, **rules).finer == decided, (piece, by, rules)
        for by in (-evidence.COVERAGE_NOISE, evidence.COVERAGE_NOISE):
            moved = replace(finer, coverage=finer.coverage + by)
            assert evidence.decide(moved, coarser, **rules).finer == decided
    assert "within noise" not in {criterion.verdict for criterion in result.quality.criteria}


def test_the_same_run_twice_is_equal_to_the_last_bit():
    phantom = phantoms.pair("deformable", fixed_grid=phantoms.grid("thin", 48), peak_mm=6, rotation_deg=2)
    one, other = (register(phantom.fixed, phantom.moving, Config(threads=2)) for _ in range(2))
    points = phantom.fixed.grid.points()
    np.testing.assert_array_equal(one.transform.map_points(points), other.transform.map_points(points))
    assert [p.confidence for p in one.pairs] == [p.confidence for p in other.pairs]
    assert one.decisions == other.decisions
