"""A method is its preset: every door that names one gets the same values, and keeps those that were given beside it."""

import argparse
import copy
import json
import pickle
from pathlib import Path

import pytest
import yaml

from app.orchestrators import called
from samreg.cli_options import add_configuration, config_from
from samreg.config import Config, MatchingConfig, SeriesConfig, configured, preset_file, presets
from samreg.errors import UsageError
from samreg.registry import METHODS

ROOT = Path(__file__).parents[2]
PAPER = configured(method="samreg")


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_configuration(parser)
    return parser.parse_args(words)


def by_container(settings: dict, *words: str) -> Config:
    """As the application resolves the settings of a platform beside its own options."""
    environ = {"SAMREG_SETTINGS": json.dumps(settings)}
    with called(environ, source=ROOT / "configs", target=ROOT / "no-such-folder") as calls:
        (call,) = calls
        assert call.wrong is None
        return config_from(parsed(*words), call.settings)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "c.yaml").write_text("method: samreg\n", encoding="utf-8")
    return tmp_path / "c.yaml"


@pytest.mark.parametrize("name", METHODS)
def test_every_door_resolves_a_method_to_the_same_values(name: str, tmp_path: Path):
    (tmp_path / "c.yaml").write_text(f"method: {name}\n", encoding="utf-8")
    (tmp_path / "c.json").write_text(json.dumps({"method": name}), encoding="utf-8")
    found = {
        "python": Config(method=name),
        "with_values": Config().with_values({"method": name}),
        "YAML": configured(file=tmp_path / "c.yaml"),
        "JSON": Config.load(tmp_path / "c.json"),
        "configured(method)": configured(method=name),
        "configured(preset)": configured(preset=name),
        "--method": config_from(parsed("--method", name)),
        "--preset": config_from(parsed("--preset", name)),
        "--config": config_from(parsed("--config", str(tmp_path / "c.yaml"))),
        "all options": config_from(parsed("--method", name, "--preset", name, "--config", str(tmp_path / "c.yaml"))),
        "container, method": by_container({"method": name}),
        "container, preset": by_container({"preset": name}),
        "container, option": by_container({}, "--method", name),
    }
    assert {config.hash for config in found.values()} == {configured(method=name).hash}, found
    stated = yaml.safe_load(preset_file(name).read_text(encoding="utf-8"))
    assert Config(**stated).hash == configured(method=name).hash
    assert stated["method"] == configured(method=name).method == name


def test_methods_differ_and_each_has_its_preset():
    assert set(presets()) == set(METHODS)
    assert len({configured(method=name).hash for name in METHODS}) == len(METHODS)


def test_the_bundle_asks_for_a_method_where_python_does():
    keys = yaml.safe_load((ROOT / "configs" / "inference.yaml").read_text(encoding="utf-8"))["configuration"]
    assert keys["_target_"] == "samreg.configured"
    assert {"method", "preset", "file"} <= set(keys)


def test_the_defaults_of_each_section_are_those_of_the_default_method():
    """A stage that is used by itself does what it does in a registration."""
    config = Config()
    for name, section in Config.sections().items():
        assert getattr(config, name) == section(), name


@pytest.mark.parametrize(
    "start",
    [
        lambda: Config(matching=MatchingConfig(max_pairs=5), seed=3),
        lambda: Config(matching={"max_pairs": 5}, seed=3),
        lambda: Config().with_values({"matching": {"max_pairs": 5}, "seed": 3}),
        lambda: Config(method="pairs").with_values({"matching": MatchingConfig(max_pairs=5), "seed": 3}),
        lambda: pickle.loads(pickle.dumps(Config(matching={"max_pairs": 5}, seed=3))),
        lambda: copy.deepcopy(Config(matching={"max_pairs": 5}, seed=3)),
    ],
)
def test_what_was_given_survives_a_change_of_method(start):
    config = start().with_values({"method": "samreg"})
    assert config == configured(method="samreg", seed=3, matching={"max_pairs": 5})
    assert config.matching.slice_pairing == PAPER.matching.slice_pairing == "index"
    assert config.with_values({"method": "hybrid"}) == Config(matching={"max_pairs": 5}, seed=3)


def test_a_given_value_that_equals_the_default_survives_too():
    assert Config(matching={"link": True}, method="samreg").matching.link
    assert Config(matching={"link": True}).with_values({"method": "samreg"}).matching.link


def test_a_section_of_another_configuration_brings_the_values_of_its_preset():
    config = Config(matching=PAPER.matching)
    assert config.matching == PAPER.matching
    assert config.estimation == Config().estimation


def test_a_section_replaces_what_was_given_of_it_and_a_mapping_changes_it():
    config = Config(series={"within": "a"})
    assert config.with_values({"series": {"several_moving": True}}).series.within == "a"
    assert config.with_values({"series": SeriesConfig(several_moving=True)}).series.within is None


def test_configurations_are_equal_by_their_values():
    assert Config(seed=0) == Config()
    assert hash(Config(seed=0)) == hash(Config())
    assert Config(method="samreg", matching={"max_pairs": 5}) == PAPER
    assert pickle.loads(pickle.dumps(PAPER)) == copy.copy(PAPER) == PAPER
    assert Config() != PAPER


@pytest.mark.parametrize(
    ("resolve", "said"),
    [
        (lambda file: configured(method="samreg", preset="hybrid"), "'samreg' by method, 'hybrid' by preset"),
        (lambda file: configured(method="pairs", file=file), "'pairs' by method, 'samreg' by the file '.*c.yaml'"),
        (
            lambda file: config_from(parsed("--method", "samreg", "--preset", "pairs")),
            "'samreg' by --method, 'pairs' by",
        ),
        (
            lambda file: config_from(parsed("--preset", "hybrid", "--config", str(file))),
            "'hybrid' by --preset, 'samreg'",
        ),
        (lambda file: by_container({"method": "hybrid"}, "--config", str(file)), "'hybrid' by the setting 'method'"),
        (
            lambda file: by_container({"preset": "hybrid"}, "--method", "pairs"),
            "'pairs' by --method, 'hybrid' by the se",
        ),
        (
            lambda file: by_container({"method": "hybrid", "preset": "pairs"}),
            "'hybrid' by the setting 'method', 'pairs'",
        ),
    ],
)
def test_different_methods_are_refused_as_contradictory(resolve, said: str, file: Path):
    with pytest.raises(UsageError, match=said) as refused:
        resolve(file)
    assert refused.value.reason == "contradictory-methods"
    assert refused.value.expected == "one method"


def test_options_win_over_settings_these_over_the_file_and_the_file_over_the_preset(tmp_path: Path):
    path = tmp_path / "c.yaml"
    path.write_text("method: samreg\nseed: 1\ntransform: affine\nthreads: 2\nmatching: {max_pairs: 9}\n")
    settings = {"seed": 2, "transform": "rigid", "matching.slice_range": 3}
    config = by_container(settings, "--config", str(path), "--seed", "4")
    assert (config.method, config.seed, config.transform, config.threads) == ("samreg", 4, "rigid", 2)
    assert (config.matching.max_pairs, config.matching.slice_range, config.matching.link) == (9, 3, False)
