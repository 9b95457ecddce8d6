"""The registry is cheap to read and every row leads somewhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from samreg.config import Config, configured
from samreg.errors import UsageError
from samreg.registry import ENCODERS, METHODS, PROPOSERS, TABLES, find, find_proposer, load

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "entry", [entry for table in TABLES.values() for entry in table.values()], ids=lambda e: e.target
)
def test_every_row_loads_what_it_names(entry):
    assert isinstance(load(entry), type)
    assert entry.summary


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_a_valid_configuration(name):
    assert configured(method=name).method == name


def test_defaults_of_the_configuration_are_registered():
    config = Config()
    assert config.method in METHODS
    assert config.encoder in ENCODERS
    assert find_proposer(config.proposals.proposer, config.encoder).name in PROPOSERS


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UsageError, match="The proposer 'no-such' is unknown") as error:
        find(PROPOSERS, "no-such", "proposer")
    assert all(name in error.value.expected for name in PROPOSERS)
    assert error.value.exit_code == 2


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_not_loaded(name):
    with pytest.raises(UsageError):
        load(METHODS[name])


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("class Thing(:\n", "SyntaxError"),
        ("1 / 0\n", "ZeroDivisionError: division by zero"),
        ("raise RuntimeError('no licence')\n", "RuntimeError: no licence"),
        ("import sys\nsys.exit('not today')\n", "SystemExit: not today"),
        ("import no_such_module\n", "no_such_module"),
        ("", "no attribute 'Thing'"),
    ],
)
def test_a_module_of_ones_own_that_breaks_off_is_named(tmp_path, monkeypatch, code, said):
    (tmp_path / "breaking.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "breaking", raising=False)
    with pytest.raises(UsageError, match="'breaking:Thing' cannot be imported") as refused:
        load(find(PROPOSERS, "breaking:Thing", "proposer"))
    assert said in refused.value.sentence
    assert "PYTHONPATH" in refused.value.next_step


def test_reading_the_registry_imports_nothing_heavy():
    code = "import sys, samreg.registry; print([m for m in ('torch', 'numpy', 'transformers') if m in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT / "bundle", timeout=60, check=True
    )
    assert run.stdout.strip() == "[]"
