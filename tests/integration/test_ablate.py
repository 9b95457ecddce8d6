"""`samreg ablate`: from a list of pairs to its tables."""

import json
from pathlib import Path

import numpy as np
import pytest

from samreg import ablation, cli, phantoms
from samreg.errors import InputRefused
from samreg.geometry import Grid
from samreg.io.writing import write_image

GRID = Grid.from_axes((16, 14, 8), (4.0, 4.0, 6.0), (-30, -20, 10))
KEY = "matching.max_pairs"


@pytest.fixture
def phantom_pairs(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "tools"))
    import phantom_pairs

    return phantom_pairs


@pytest.fixture
def pairs(tmp_path: Path, phantom_pairs) -> Path:
    made = [phantoms.pair("rigid", seed=n, fixed_grid=phantoms.grid("axial", 24), rotation_deg=3) for n in range(2)]
    return phantom_pairs.write(tmp_path / "in", made)


def ablate(pairs: Path, out: Path, *options: str) -> int:
    return cli.main(["ablate", str(pairs), "-o", str(out), "--quiet", *options])


def files(out: Path) -> dict[str, str]:
    return {p.name: p.read_text(encoding="utf-8") for p in out.iterdir()}


def test_every_pair_meets_every_configuration(pairs: Path, tmp_path: Path, instant):
    out = tmp_path / "out"
    assert ablate(pairs, out, "--vary", f"{KEY}=1,3,5", "--vary", "transform=rigid,affine", "--seed", "4") == 0
    assert instant.calls == 12
    assert instant.labels == (None, None), "labels that score are not given to the registration"
    rows = ablation.read_rows(out / "ablation.csv")
    assert [(r["pair"], r[KEY], r["transform"], r["seed"]) for r in rows[:2]] == [
        ("phantom-0", 1, "rigid", 4),
        ("phantom-0", 1, "affine", 4),
    ]
    assert {r["status"] for r in rows} == {"PASS"}
    assert {r["roi_pairs"] for r in rows} == {2}
    for r in rows:
        assert 0 < r["dice"] < 1
        assert 0 < r["before_dice"] < 1
        assert r["dice"] != r["before_dice"]
        assert 0 < r["tre_mean_mm"] < r["tre_max_mm"]
        assert r["folding_percent"] == 0
        assert r["hd95_mm"] > 0
        assert r["seconds"] > 0
    assert set(files(out)) == {"ablation.csv", "summary.csv", "ablation.md"}
    assert all(count in files(out)["ablation.md"] for count in ("2 pairs", "6 configurations", "12 runs"))
    assert len(files(out)["summary.csv"].splitlines()) == 8


def test_the_truth_scores_best(pairs: Path, tmp_path: Path, monkeypatch):
    from dataclasses import replace

    from samreg.session import Session
    from tests.instant import instant_result

    truth = phantoms.pair("rigid", seed=0, fixed_grid=phantoms.grid("axial", 24), rotation_deg=3).truth
    monkeypatch.setattr(
        Session, "register", lambda self, fixed, moving, **_: replace(instant_result(fixed, moving), transform=truth)
    )
    row = ablation.run(ablation.read_cases(pairs)[:1])[0]
    assert row["tre_max_mm"] < 1e-3 < row["before_tre_mean_mm"]
    assert row["dice"] > 0.6 > row["before_dice"]


def test_a_run_that_is_there_is_not_repeated(pairs: Path, tmp_path: Path, instant):
    out = tmp_path / "out"
    assert ablate(pairs, out, "--vary", f"{KEY}=1,3") == 0
    before = files(out)
    assert ablate(pairs, out, "--vary", f"{KEY}=1,3") == 0
    assert instant.calls == 4
    assert files(out) == before
    assert ablate(pairs, out, "--vary", f"{KEY}=3,5") == 0
    assert instant.calls == 6
    assert [r[KEY] for r in ablation.read_rows(out / "ablation.csv")] == [1, 3, 1, 3, 5, 5]
    assert "2 configurations, 4 runs" in files(out)["ablation.md"]
    assert ablate(pairs, out, "--vary", f"{KEY}=3,5", "--again") == 0
    assert instant.calls == 10
    assert len(ablation.read_rows(out / "ablation.csv")) == 6


def test_other_images_under_the_same_name_are_another_run(pairs: Path, tmp_path: Path, instant):
    out = tmp_path / "out"
    first, second = (f"phantom-{n}/fixed.nii.gz,phantom-{n}/moving.nii.gz" for n in range(2))
    pairs.write_text(f"fixed,moving\n{first}\n")
    assert ablate(pairs, out) == 0
    pairs.write_text(f"fixed,moving\n{second}\n{first}\n")  # the unnamed pairs move down the list
    assert ablate(pairs, out) == 0
    assert instant.calls == 3
    assert ablate(pairs, out) == 0
    assert instant.calls == 3


def test_an_interrupted_ablation_goes_on(pairs: Path, tmp_path: Path, instant, capsys):
    def interrupt() -> None:
        if instant.calls == 3:
            raise KeyboardInterrupt

    instant.during = interrupt
    assert ablate(pairs, tmp_path / "out", "--vary", f"{KEY}=1,3") == 130
    assert "2 of 4 runs are kept" in capsys.readouterr().err
    assert set(files(tmp_path / "out")) == {"ablation.csv"}
    instant.during = lambda: None
    assert ablate(pairs, tmp_path / "out", "--vary", f"{KEY}=1,3") == 0
    assert instant.calls == 5


def test_refused_and_broken_runs_are_rows(pairs: Path, tmp_path: Path, instant):
    def trouble() -> None:
        if instant.calls == 1:
            raise InputRefused("nothing is seen", "an image", reason="constant-image")
        if instant.calls == 2:
            raise RuntimeError("out of\nmemory")

    instant.during = trouble
    assert ablate(pairs, tmp_path / "out", "--vary", f"{KEY}=1,3,5") == 0
    rows = ablation.read_rows(tmp_path / "out" / "ablation.csv")
    assert [r["status"] for r in rows] == ["REFUSED", "ERROR", *["PASS"] * 4]
    assert "Nothing is seen" in rows[0]["reason"]
    assert "out of memory" in rows[1]["reason"]
    assert all(np.isnan(r["dice"]) and r["before_dice"] > 0 for r in rows[:2])
    assert "6 runs, of which 2 ended without a result" in files(tmp_path / "out")["ablation.md"]


def test_a_run_that_broke_off_runs_again_and_a_refused_one_does_not(pairs: Path, tmp_path: Path, instant):
    def trouble() -> None:
        if instant.calls == 1:
            raise InputRefused("nothing is seen", "an image", reason="constant-image")
        if instant.calls == 2:
            raise MemoryError

    instant.during = trouble
    for calls in (4, 5, 5):
        assert ablate(pairs, tmp_path / "out", "--vary", f"{KEY}=1,3") == 0
        assert instant.calls == calls
    rows = ablation.read_rows(tmp_path / "out" / "ablation.csv")
    assert [r["status"] for r in rows] == ["REFUSED", *["PASS"] * 3]


def test_a_pair_that_cannot_be_read_is_told_in_each_of_its_rows(pairs: Path, tmp_path: Path, instant):
    (pairs.parent / "phantom-0" / "moving.nii.gz").write_bytes(b"no image")
    assert ablate(pairs, tmp_path / "out", "--vary", f"{KEY}=1,3") == 0
    rows = ablation.read_rows(tmp_path / "out" / "ablation.csv")
    assert [r["status"] for r in rows] == ["REFUSED", "REFUSED", "PASS", "PASS"]
    assert instant.calls == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--vary", "matching.max_pears=1"], "max_pears"),
        (["--vary", f"{KEY}=1,-3"], "-3"),
        (["--vary", "encoder=handcrafted,none"], "'encoder'"),
        (["--vary", "encoder=handcrafted,sam"], "without weights"),
        (["--vary", "proposals.proposer=superpixels,labels"], "columns fixed_rois and moving_rois"),
        (
            ["--encoder", "handcrafted", "--vary", "weights=none,no-such"],
            "Weights are given for the encoder 'handcrafted'",
        ),
        (["--vary", f"{KEY}"], "key and its values"),
    ],
)
def test_nothing_runs_before_the_whole_grid_holds(
    pairs: Path, tmp_path: Path, instant, options: list[str], said: str, capsys
):
    assert ablate(pairs, tmp_path / "out", *options) == 2
    assert said in capsys.readouterr().err
    assert instant.calls == 0
    assert not (tmp_path / "out").exists()


def test_given_regions_reach_the_registration_and_need_no_proposer(tmp_path: Path, instant):
    labels = np.zeros(GRID.shape, np.uint8)
    labels[4:8, 4:8, 2:5] = 3
    rng = np.random.default_rng(0)
    for side in ("fixed", "moving"):
        write_image(rng.uniform(1, 9, GRID.shape).astype(np.float32), GRID, tmp_path / f"{side}.nii.gz")
        write_image(labels, GRID, tmp_path / f"{side}_rois.nii.gz")
    header = "fixed,moving,fixed_rois,moving_rois"
    (tmp_path / "P.csv").write_text(f"{header}\n{','.join(f'{name}.nii.gz' for name in header.split(','))}\n")
    assert ablate(tmp_path / "P.csv", tmp_path / "out", "--vary", "proposals.proposer=labels") == 0
    np.testing.assert_array_equal(instant.labels[0], labels)
    (row,) = ablation.read_rows(tmp_path / "out" / "ablation.csv")
    assert (row["status"], row["pair"]) == ("PASS", "1")
    assert np.isnan(row["dice"])


def test_labels_are_scored_on_their_own_grids(tmp_path: Path, instant):
    rng = np.random.default_rng(0)
    fine = Grid.from_axes((32, 28, 8), (2.0, 2.0, 6.0), (-31, -21, 10))
    labels = np.zeros(fine.shape, np.uint8)
    labels[8:20, 8:20, 2:6] = 1
    for side in ("fixed", "moving"):
        write_image(rng.uniform(1, 9, GRID.shape).astype(np.float32), GRID, tmp_path / f"{side}.nii.gz")
        write_image(labels, fine, tmp_path / f"{side}_labels.nii.gz")
    header = "fixed,moving,fixed_labels,moving_labels"
    (tmp_path / "P.csv").write_text(f"{header}\n{','.join(f'{name}.nii.gz' for name in header.split(','))}\n")
    (row,) = ablation.run(tmp_path / "P.csv")
    assert row["before_dice"] == 1.0
    assert 0 < row["dice"] < 1


def test_a_dry_run_prints_the_grid_and_writes_nothing(pairs: Path, tmp_path: Path, instant, capsys):
    assert ablate(pairs, tmp_path / "out", "--vary", f"{KEY}=1,3", "--dry-run") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["pairs"] == ["phantom-0", "phantom-1"]
    assert [c[KEY] for c in said["configurations"]] == [1, 3]
    assert (said["runs"], said["missing"]) == (4, 4)
    assert not (tmp_path / "out").exists()
    assert instant.calls == 0


def test_progress_and_result_are_told(pairs: Path, tmp_path: Path, instant, capsys):
    out = tmp_path / "out"
    assert cli.main(["ablate", str(pairs), "-o", str(out), "--vary", f"{KEY}=1,3"]) == 0
    said = capsys.readouterr()
    (line,) = (line for line in said.err.splitlines() if "2 of 4" in line)
    assert "phantom-0" in line
    assert f"{KEY}=3" in line
    assert "4 runs" in said.out
    assert str(out / "ablation.md") in said.out


def test_a_folder_that_must_not_be_used_is_refused(pairs: Path, tmp_path: Path, instant, capsys):
    (tmp_path / "file").touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "ablation.csv").write_text("a,b\n1,2\n")
    for name, said in (("file", "is a file"), ("other", "is not a table that samreg wrote")):
        assert ablate(pairs, tmp_path / name, "--vary", f"{KEY}=1") == 2
        assert said in capsys.readouterr().err
    pairs = pairs.rename(pairs.parent / "summary.csv")
    assert ablate(pairs, pairs.parent, "--vary", f"{KEY}=1") == 2
    assert "is the input" in capsys.readouterr().err
    assert instant.calls == 0


def test_two_real_registrations(tmp_path: Path, phantom_pairs):
    grid = phantoms.grid("picture", 48)
    pairs = phantom_pairs.write(tmp_path / "in", [phantoms.pair("rigid", fixed_grid=grid, rotation_deg=4)])
    assert ablate(pairs, tmp_path / "out", "--transform", "rigid", "--vary", f"{KEY}=6,48", "--device", "cpu") == 0
    rows = ablation.read_rows(tmp_path / "out" / "ablation.csv")
    assert max(r["dice"] for r in rows) > rows[0]["before_dice"]
    assert all(r["roi_pairs"] > 0 for r in rows)
