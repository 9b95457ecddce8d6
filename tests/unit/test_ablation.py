"""The grid, the list of pairs and the tables of `samreg ablate`, without any registration."""

import math
from pathlib import Path

import numpy as np
import pytest

from samreg import ablation
from samreg.ablation.grid import flat, text_of, value_of
from samreg.ablation.runs import NUMBERS, TEXTS
from samreg.config import Config, configured
from samreg.errors import UsageError


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("0.5", 0.5), ("1e-3", 1e-3), ("true", True), ("False", False), ("none", None), ("sam", "sam")],
)
def test_a_value_is_a_number_a_truth_none_or_a_word(text: str, value: object):
    found = value_of(text)
    assert (type(found), found) == (type(value), value)
    assert value_of(text_of(value)) == value


def test_a_grid_is_parsed():
    assert ablation.parse(["matching.max_pairs=1, 3", "transform=rigid"]) == {
        "matching.max_pairs": (1, 3),
        "transform": ("rigid",),
    }


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["matching.max_pairs"], "key and its values"),
        (["=3"], "key and its values"),
        (["seed=1,,2"], "key and its values"),
        (["seed="], "key and its values"),
        (["seed=1", "seed=2"], "'seed' is varied twice"),
    ],
)
def test_a_damaged_grid_is_refused(texts: list[str], said: str):
    with pytest.raises(UsageError, match=said):
        ablation.parse(texts)


def test_every_combination_is_a_configuration():
    vary = {"matching.max_pairs": (1, 3), "matching.link": (True, False), "seed": (0, 1, 2)}
    found = ablation.variants(Config(), vary)
    assert len({v.config.hash for v in found}) == len(found) == 12
    first = found[1]
    assert dict(first.values) == {"matching.max_pairs": 1, "matching.link": True, "seed": 1}
    assert first.config == Config().with_values({"matching": {"max_pairs": 1}, "seed": 1})
    assert first.label == "matching.max_pairs=1, matching.link=true, seed=1"


@pytest.mark.parametrize(
    ("vary", "said"),
    [
        ({"matching.max_pears": (1,)}, "The configuration key 'matching.max_pears' is unknown"),
        ({"matching": (1,)}, "'matching' is 1"),
        ({"seed.x": (1,)}, "'seed'"),
        ({"matching.max_pairs": (1, "many")}, "'matching.max_pairs' is 'many'"),
        ({"transform": ("bspline",)}, "'transform' is 'bspline'"),
        ({"method": ("hybrid", "best")}, "The method 'best' is unknown"),
        ({"matching.similarity_threshold": (1, 1.0)}, "are the same configuration"),
    ],
)
def test_a_grid_that_does_not_hold_is_refused(vary: dict, said: str):
    with pytest.raises(UsageError, match=said):
        ablation.variants(Config(), vary)


def test_a_varied_method_takes_its_preset_and_keeps_what_the_base_changes():
    base = configured(method="samreg", seed=7)
    hybrid, samreg = ablation.variants(base, {"method": ("hybrid", "samreg")})
    assert hybrid.config == configured(method="hybrid", seed=7)
    assert samreg.config == base


def test_a_configuration_is_flattened_to_its_keys():
    values = flat(Config())
    assert values["matching.max_pairs"] == Config().matching.max_pairs
    assert values["weights"] is None
    assert not any(isinstance(value, dict) for value in values.values())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.nii", "b.nii", "la.nii", "lb.nii", "p.csv", "q.csv"):
        (tmp_path / name).touch()
    return tmp_path


def write(folder: Path, text: str) -> Path:
    (folder / "PAIRS.csv").write_text(text, encoding="utf-8")
    return folder / "PAIRS.csv"


def test_pairs_are_read_beside_their_file(folder: Path, monkeypatch):
    monkeypatch.chdir("/")
    header = "\ufeffmoving, fixed,name,fixed_labels,moving_labels,fixed_landmarks,moving_landmarks,pixel_spacing"
    path = write(folder, f"{header}\nb.nii,a.nii,first,la.nii,lb.nii,p.csv,q.csv,0.5 0.25\n\nb.nii,a.nii,,,,,,2\n")
    first, second = ablation.read_cases(path)
    assert (first.name, first.fixed, first.moving) == ("first", folder / "a.nii", folder / "b.nii")
    assert (first.fixed_labels, first.moving_landmarks) == (folder / "la.nii", folder / "q.csv")
    assert (first.pixel_spacing_mm, second.pixel_spacing_mm) == ((0.5, 0.25), (2.0, 2.0))
    assert (second.name, second.fixed_labels, second.fixed_rois) == ("2", None, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has the columns"),
        ("fixed,movin\na.nii,b.nii\n", "has the columns fixed, movin"),
        ("fixed,fixed\na.nii,b.nii\n", "has the columns fixed, fixed"),
        ("fixed,moving,fixed_label\na.nii,b.nii,la.nii\n", r"has the columns .*fixed_label\."),
        ("fixed,moving\n", "holds no pairs"),
        ("fixed,moving\na.nii,\n", "Pair 1 .* no moving image"),
        ("fixed,moving\na.nii,c.nii\n", "c.nii' does not exist"),
        ("fixed,moving\na.nii,b.nii,b.nii\n", "more fields"),
        ("fixed,moving,fixed_labels\na.nii,b.nii,la.nii\n", "labels of only one image"),
        ("fixed,moving,name\na.nii,b.nii,x\nb.nii,a.nii,x\n", "names two pairs 'x'"),
        ("fixed,moving,pixel_spacing\na.nii,b.nii,0\n", "pixel spacing '0'"),
        ("fixed,moving,pixel_spacing\na.nii,b.nii,1 2 3\n", "pixel spacing '1 2 3'"),
        ("fixed,moving,pixel_spacing\na.nii,b.nii,wide\n", "pixel spacing 'wide'"),
    ],
)
def test_damaged_lists_of_pairs_are_refused(folder: Path, text: str, said: str):
    with pytest.raises(UsageError, match=said):
        ablation.read_cases(write(folder, text))


def row(pair: str, pairs: int, status: str = "PASS", **numbers: float) -> ablation.Row:
    config = Config().with_values({"matching": {"max_pairs": pairs}})
    name = {"pair": pair, "hash": config.hash, "version": "0", "status": status, "kind": "rigid", "reason": ""}
    if status in ablation.WITHOUT_RESULT:
        name |= {"kind": "", "reason": "the image, it seems, is empty"}
    return {**dict.fromkeys(TEXTS, ""), **dict.fromkeys(NUMBERS, math.nan), **name, **numbers, **flat(config)}


ROWS = [
    row("p", 1, dice=0.5, tre_mean_mm=3.0, before_dice=0.25, before_tre_mean_mm=9.0),
    row("p", 3, dice=0.75, tre_mean_mm=2.0, before_dice=0.25, before_tre_mean_mm=9.0),
    row("p", 9, dice=0.9, tre_mean_mm=1.0, before_dice=0.25, before_tre_mean_mm=9.0),
    row("q", 1, "REVIEW", dice=0.7, before_dice=0.35),
    row("q", 3, "FAIL", dice=0.85, before_dice=0.35),
    row("q", 9, "REFUSED"),
]
KEY = "matching.max_pairs"


def test_the_table_reads_back(tmp_path: Path):
    (tmp_path / "t.csv").write_text(ablation.csv_text(ROWS), encoding="utf-8")
    found = ablation.read_rows(tmp_path / "t.csv")
    assert ablation.csv_text(found) == ablation.csv_text(ROWS)
    for old, new in zip(ROWS, found, strict=True):
        np.testing.assert_equal(new, old)
        assert {key: type(value) for key, value in new.items()} == {key: type(value) for key, value in old.items()}


@pytest.mark.parametrize("text", ["", "pair,dice\np,0.5\n"])
def test_another_table_is_not_read(tmp_path: Path, text: str):
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="not a table that samreg wrote"):
        ablation.read_rows(tmp_path / "t.csv")


def test_a_summary_is_mean_and_standard_deviation_over_pairs():
    identity, one, three, nine = ablation.summary(ROWS, [KEY])
    assert (identity["hash"], identity[KEY], identity["runs"]) == ("identity", "", 2)
    assert identity["dice_mean"] == pytest.approx(0.3)
    assert (one[KEY], three[KEY], nine[KEY]) == (1, 3, 9)
    assert (one["dice_mean"], one["dice_sd"], one["dice_count"]) == pytest.approx((0.6, 0.1 * 2**0.5, 2))
    assert (one["tre_mean_mm_mean"], one["tre_mean_mm_count"]) == (3.0, 1)
    assert math.isnan(one["tre_mean_mm_sd"])
    assert math.isnan(one["hd95_mm_mean"])
    assert [three[k] for k in ("runs", "pass", "review", "fail", "refused", "error")] == [2, 1, 0, 1, 0, 0]
    assert [nine[k] for k in ("runs", "pass", "refused", "kinds")] == [2, 1, 1, "rigid 1"]


def test_markdown_marks_the_best_among_those_with_most_pairs_and_says_what_broke_off():
    text = ablation.markdown(ROWS, [KEY], {"seed": 0})
    assert text == ablation.markdown(ROWS, [KEY], {"seed": 0})
    assert all(count in text for count in ("2 pairs", "3 configurations", "6 runs, of which 1 "))
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("|")}
    # Dice 0.9 is of one pair alone; the other measure was taken of one pair in all three.
    assert "**0.800** ± 0.071" in lines["3"]
    assert "| 0.900 | **1.00** |" in lines["9"]
    assert "HD95" not in text
    assert "samreg 0 · seed 0" in text
    (line,) = (line for line in text.splitlines() if "REFUSED" in line)
    assert ROWS[5]["hash"] in line
    assert "the image, it seems, is empty" in line


def test_nothing_is_best_where_all_are_alike():
    same = [row("p", 1, folding_percent=0.0), row("p", 3, folding_percent=0.0)]
    assert "**0.000**" not in ablation.markdown(same, [KEY])
