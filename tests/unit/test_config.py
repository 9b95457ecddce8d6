"""The configuration refuses what it does not know, and its hash follows what decides a result."""

import json
from itertools import pairwise

import pytest

from samreg.config import (
    Config,
    EstimationConfig,
    EstimatorsConfig,
    MatchingConfig,
    ProposalConfig,
    QualityConfig,
    SeriesConfig,
    SeriesRule,
    configured,
    presets,
)
from samreg.errors import UsageError

NULLS = """
method: null
seed: null
matching:
estimation: {smoothness_weight: null, iterations: 7}
series: {several_moving: null, fixed: null}
"""


def test_null_in_a_file_is_not_given(tmp_path):
    (tmp_path / "c.yaml").write_text(NULLS)
    expected = Config(method="samreg", estimation={"iterations": 7})
    assert configured(method="samreg", file=tmp_path / "c.yaml") == expected
    assert Config.load(tmp_path / "c.yaml", Config(method="samreg")) == expected
    assert configured(estimators={"rigid": None, "affine": ["rigid"]}) == Config(estimators={"affine": ["rigid"]})


def test_null_is_a_value_where_the_key_takes_it(tmp_path):
    (tmp_path / "c.yaml").write_text("matching: {similarity_threshold: null}\n")
    assert configured(method="samreg").matching.similarity_threshold == 0.8
    assert configured(method="samreg", file=tmp_path / "c.yaml").matching.similarity_threshold is None


def test_an_unknown_key_is_refused_without_a_value_too(tmp_path):
    (tmp_path / "c.yaml").write_text("matching: {max_pear: null}\n")
    with pytest.raises(UsageError, match=r"'matching\.max_pear' is unknown"):
        configured(file=tmp_path / "c.yaml")


def test_nested_values_are_replaced_and_the_rest_stays():
    config = Config().with_values({"seed": 3, "matching": {"max_pairs": 5}, "proposals": {"min_area_mm2": 12}})
    assert config.seed == 3
    assert config.matching == MatchingConfig(max_pairs=5)
    assert config.proposals.min_area_mm2 == 12.0
    assert isinstance(config.proposals.min_area_mm2, float)
    assert config.estimation == Config().estimation
    assert Config().matching.max_pairs != 5


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"sead": 1}, "'sead'"),
        ({"matching": {"pairs": 1}}, "'matching.pairs'"),
        ({"matching": 3}, "'matching'"),
        ({"matching": {"max_pairs": "five"}}, "'matching.max_pairs'"),
        ({"matching": {"max_pairs": 2.5}}, "'matching.max_pairs'"),
        ({"matching": {"max_pairs": -1}}, "'matching.max_pairs'"),
        ({"matching": {"mutual": 1}}, "'matching.mutual'"),
        ({"matching": {"max_pairs": 0}}, "'matching.max_pairs' is 0"),
        ({"matching": {"similarity_threshold": 80}}, "'matching.similarity_threshold' is 80"),
        ({"matching": {"held_out_share": 25}}, "'matching.held_out_share'"),
        ({"proposals": {"points_per_side": 0}}, "'proposals.points_per_side'"),
        ({"proposals": {"points_per_batch": 0}}, "'proposals.points_per_batch'"),
        ({"proposals": {"pred_iou": 88}}, "'proposals.pred_iou' is 88"),
        ({"proposals": {"stability": 1.01}}, "'proposals.stability'"),
        ({"estimation": {"finest_spacing_mm": 0}}, "'estimation.finest_spacing_mm'"),
        ({"estimation": {"rigid_samples": 0}}, "'estimation.rigid_samples'"),
        ({"seed": True}, "'seed'"),
        ({"transform": "bspline"}, "'transform'"),
        ({"estimation": {"smoothness_weight": None}}, "'estimation.smoothness_weight'"),
        ({"quality": {"mean_error_mm": float("nan")}}, "'quality.mean_error_mm'"),
        ({"quality": {"mean_error_mm": float("inf")}}, "'quality.mean_error_mm'"),
    ],
)
def test_wrong_values_are_refused_by_name(values, named):
    with pytest.raises(UsageError) as refused:
        Config().with_values(values)
    assert named in str(refused.value)
    assert refused.value.expected
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Config(transform="bspline", seed=-5), "'transform' is 'bspline'. Expected one of rigid, affine, def"),
        (lambda: Config(seed=-5), "'seed' is -5. Expected a whole number that is not negative"),
        (lambda: Config(colour=1), "The configuration key 'colour' is unknown. Expected one of as_files,"),
        (lambda: Config(matching={"max_pairs": 0}), "'matching.max_pairs' is 0. Expected a whole number of at least 1"),
        (lambda: Config(matching=QualityConfig()), "'matching' is a QualityConfig. Expected keys and values"),
        (lambda: Config(series={"fixed": {"modality": "("}}), r"'series.fixed.modality' is '\(' .* regular expression"),
        (lambda: Config(method="best"), "The method 'best' is unknown. Expected one of hybrid, pairs, samreg"),
        (lambda: Config(method=3), "'method' is 3. Expected one of hybrid, pairs, samreg"),
        (
            lambda: ProposalConfig(max_overlap=1.5),
            "'proposals.max_overlap' is 1.5. Expected a finite number from 0 to 1",
        ),
        (
            lambda: MatchingConfig(max_pairs=0),
            "'matching.max_pairs' is 0. Expected a whole number of at least 1 or none",
        ),
        (lambda: MatchingConfig(mutual=1), "'matching.mutual' is 1. Expected true or false"),
        (lambda: EstimationConfig(roi_weight="1"), "'estimation.roi_weight' is '1'. Expected a finite number"),
        (lambda: EstimationConfig(roi_weight=True), "'estimation.roi_weight' is True"),
        (lambda: EstimatorsConfig(rigid=[]), "'estimators.rigid' is an empty list. Expected a list of names"),
        (lambda: EstimatorsConfig(rigid="rigid"), "'estimators.rigid' is 'rigid'. Expected a list of names"),
        (
            lambda: EstimatorsConfig(affine=["rigid", ""]),
            r"'estimators.affine\[1\]' is ''. Expected text that is not em",
        ),
        (lambda: EstimatorsConfig(deformable=[1]), r"'estimators.deformable\[0\]' is 1. Expected text"),
        (lambda: QualityConfig(max_error_mm=float("nan")), "'quality.max_error_mm' is nan. Expected a finite number"),
        (lambda: SeriesRule(acquired="first"), "'acquired' is 'first'. Expected one of earliest, latest or none"),
        (lambda: SeriesConfig(several_moving=None), "'series.several_moving' is none. Expected true or false"),
        (lambda: MatchingConfig().with_values({"max_pairs": 0}), "'matching.max_pairs' is 0"),
        (lambda: Config.model_validate([1]), "The configuration is a list. Expected keys and values"),
    ],
)
def test_values_that_cannot_be_are_refused_when_they_are_given(make, said):
    with pytest.raises(UsageError, match=said):
        make()


def test_a_section_with_other_values_keeps_the_rest():
    paper = configured(method="samreg").matching
    assert paper.with_values({"max_pairs": 9}).as_dict() == paper.as_dict() | {"max_pairs": 9}


def test_lists_of_a_file_are_the_estimators_in_their_order(tmp_path):
    (tmp_path / "c.yaml").write_text("estimators: {affine: [b, a, c]}")
    estimators = Config.load(tmp_path / "c.yaml").estimators
    assert estimators.affine == ("b", "a", "c")
    assert estimators.rigid == Config().estimators.rigid


def test_none_is_accepted_where_it_has_a_meaning():
    config = Config().with_values({"weights": None, "matching": {"max_distance_mm": None}})
    assert config.weights is None
    assert config.matching.max_distance_mm is None
    assert Config().with_values({"matching": {"max_distance_mm": 20}}).matching.max_distance_mm == 20.0


def test_the_configuration_is_frozen():
    with pytest.raises(UsageError, match="with_values"):
        Config().seed = 1  # type: ignore[misc]


def test_the_hash_follows_what_decides_the_result_alone():
    base = Config()
    assert base.hash == Config().with_values({}).hash
    assert len(base.hash) == 12
    assert base.hash == base.with_values({"device": "cuda:1", "weights": "/somewhere/else"}).hash
    changes = [
        {"seed": 1},
        {"transform": "rigid"},
        {"matching": {"max_pairs": 5}},
        {"estimation": {"smoothness_weight": 0.2}},
    ]
    assert len({base.hash, *(base.with_values(c).hash for c in changes)}) == 5


def test_equal_numbers_of_other_type_have_the_same_hash():
    assert (
        Config().with_values({"proposals": {"min_area_mm2": 40}}).hash
        == Config().with_values({"proposals": {"min_area_mm2": 40.0}}).hash
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", "seed: 7\nmatching:\n  max_pairs: 9\n"),
        ("a.json", json.dumps({"seed": 7, "matching": {"max_pairs": 9}})),
    ],
)
def test_files_are_read_over_a_base(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    config = Config.load(path, base=Config().with_values({"transform": "rigid"}))
    assert (config.seed, config.matching.max_pairs, config.transform) == (7, 9, "rigid")


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "", "\x00"])
def test_files_that_are_no_configuration_are_refused(tmp_path, text):
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError):
        Config.load(path)


@pytest.mark.parametrize(
    "text",
    [
        "seed: " + "[" * 3000, "seed: 2001-99-99", "seed: " + "9" * 5000, "cache_gb: " + "9" * 400,
        "seed: 0x" + "f" * 6000,
        "cache_gb: !!float x", "seed: !!int x", "as_files: !!bool x", "seed: !!timestamp x", "seed: &a [*a]",
        "series: {fixed: {modality: '" + "(" * 2000 + ")" * 2000 + "'}}", 'encoder: ["\\e[31m"]', "~: 1", "seed: \0",
    ],
    ids=lambda text: text[:24].replace("\0", "NUL"),
)  # fmt: skip
def test_what_the_library_of_yaml_leaves_to_python_is_refused(tmp_path, text):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UsageError) as caught:
        Config.load(tmp_path / "c.yaml")
    assert caught.value.expected
    assert len(caught.value.sentence) < 3000


@pytest.mark.parametrize(
    "text", ["seed: 1\nseed: 2", '{"seed": 1, "seed": 1}', "matching: {max_pairs: 3, max_pairs: 5}"]
)
def test_a_key_that_stands_twice_is_refused(tmp_path, text):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"line \d.*'(seed|max_pairs)' stands twice"):
        Config.load(tmp_path / "c.yaml")


def test_lists_within_each_other_are_not_spelled_out(tmp_path):
    """Nine of nine of nine …: the file is short, and its values would fill the memory."""
    inner = [f"&{b} [{', '.join(9 * [f'*{a}'])}]" for a, b in pairwise("abcdefghij")]
    lists = ", ".join(["&a [1, 1]", *inner])
    (tmp_path / "c.yaml").write_text(f"seed: [{lists}]")
    with pytest.raises(UsageError, match="'seed' is a list"):
        Config.load(tmp_path / "c.yaml")


@pytest.mark.parametrize("key", ["seed", "threads", "cache_gb"])
def test_whole_numbers_that_no_program_can_count_to_are_refused(key):
    with pytest.raises(UsageError, match=f"'{key}'.*63"):
        Config().with_values({key: 2**64})


def test_an_absent_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        Config.load(tmp_path / "absent.yaml")


def test_every_preset_is_a_configuration_and_the_papers_values_stand_in_its_own():
    for name in presets():
        assert configured(preset=name).method == name
    paper = configured(preset="samreg")
    assert (paper.proposals.min_area_px, paper.proposals.max_area_px) == (200, 7000)
    assert paper.proposals.max_overlap == 0.8
    assert (paper.proposals.pred_iou, paper.proposals.stability) == (None, None)  # each model has a scale of its own
    matching = paper.matching
    assert (matching.similarity, matching.similarity_threshold, matching.assignment) == ("normalised", 0.8, "greedy")
    assert (matching.slice_pairing, matching.slice_range, matching.position_weight) == ("index", 11, 0)
    assert paper.estimators.deformable[0] == "displacement"  # Eq. 10, from the identity
