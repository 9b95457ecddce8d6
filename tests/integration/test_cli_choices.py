"""The arguments, configurations and names that commands take."""

import json
from pathlib import Path

import pytest

from samreg import cli, registry
from samreg.config import Config, configured, presets


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["register", "a"],
        ["register", "a", "b", "-o", "c", "--transform", "bspline"],
        ["register", "a", "b", "-o", "c", "--device", "gpu"],
        ["register", "a", "b", "-o", "c", "--pixel-spacing", "0", "1"],
        ["register", "a", "b", "-o", "c", "--encoder", "no-such"],
        ["register", "a", "b", "-o", "c", "--quiet", "--verbose"],
        ["locate", "a", "b", "--point", "1", "2"],
        ["locate", "a", "b"],
        ["locate", "a", "b", "--box", "1", "2", "3"],
        ["locate", "a", "b", "--point", "1", "2", "3", "--roi", "c"],
    ],
)
def test_wrong_arguments_end_with_2(arguments: list[str]):
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2


def test_a_wrong_configuration_ends_with_2(study: Path, tmp_path: Path, capsys):
    (tmp_path / "c.yaml").write_text("matching: {max_pears: 5}\n")
    pair = [str(study / "fixed"), str(study / "moving")]
    arguments = ["register", *pair, "-o", str(tmp_path / "out"), "--config", str(tmp_path / "c.yaml")]
    assert cli.main(arguments) == 2
    assert "max_pears" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "line"), [("seed: 1\nmatching: {a: [\n", 3), ("seed: 1\n  transform: rigid\n", 2)])
def test_a_configuration_that_is_no_yaml_is_one_sentence(tmp_path: Path, text: str, line: int, capsys):
    (tmp_path / "c.yaml").write_text(text)
    arguments = ["register", str(tmp_path), str(tmp_path), "-o", str(tmp_path / "out")]
    assert cli.main([*arguments, "--config", str(tmp_path / "c.yaml")]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert f"line {line}, column" in sentence


def test_options_win_over_the_file_and_the_file_over_the_preset(tmp_path: Path):
    (tmp_path / "c.yaml").write_text("seed: 7\ntransform: affine\nestimation: {weight_by_confidence: true}\n")
    config = configured(method="samreg", file=tmp_path / "c.yaml", transform="rigid", seed=None)
    assert (config.method, config.seed, config.transform, config.estimation.weight_by_confidence) == (
        "samreg",
        7,
        "rigid",
        True,
    )


def test_methods_and_presets_are_the_same_thing():
    assert set(registry.METHODS) == set(presets())
    for name in registry.METHODS:
        assert configured(method=name) == configured(preset=name)
        assert configured(preset=name).method == name
    assert configured(method="hybrid") == Config()


def test_info_says_what_can_be_chosen(capsys):
    assert cli.main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [e["name"] for e in facts["encoders"]] == list(registry.ENCODERS)
    assert [e["name"] for e in facts["methods"]] == list(registry.METHODS)
    assert facts["presets"] == list(presets())
    assert cli.main(["info"]) == 0
    assert "sam" in capsys.readouterr().out
