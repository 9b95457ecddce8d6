"""The MONAI bundle: its metadata, its configuration, and the door itself."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

import samreg
from samreg import outputs
from samreg.config import configured, presets
from samreg.sources import Sources
from samreg.threads import processors
from samreg.transforms.files import read_transform
from tests.conftest import DOOR_OPTIONS

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"


def metadata() -> dict:
    return json.loads((CONFIGS / "metadata.json").read_text(encoding="utf-8"))


def bundle(folder: Path, config: str, **values: object) -> subprocess.CompletedProcess[str]:
    """`python -m monai.bundle run` from a folder that is not the bundle's."""
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(CONFIGS / config)]
    for key, value in {"bundle_root": ROOT, **values}.items():
        command += [f"--{key}", str(value)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def test_the_metadata_satisfies_the_schema():
    jsonschema = pytest.importorskip("jsonschema")
    rules = json.loads(Path(__file__).with_name("bundle_metadata.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft201909Validator(rules).validate(metadata())


def test_the_metadata_states_the_version_and_the_exact_versions_of_the_project():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.lower().split("==") for line in lines if line and not line.startswith("#"))
    facts = metadata()
    assert facts["version"] == samreg.__version__
    assert facts["version"] in facts["changelog"]
    assert yaml.safe_load((ROOT / "app.yaml").read_text())["application"]["version"] == samreg.__version__
    assert (facts["monai_version"], facts["pytorch_version"]) == (pins["monai"], pins["torch"])
    assert facts["numpy_version"] == pins["numpy"]
    for package, version in facts["required_packages_version"].items():
        assert pins[package.lower()] == version


def test_the_bundle_has_what_the_model_zoo_asks_for():
    for path in (
        "LICENSE",
        "configs/metadata.json",
        "configs/inference.yaml",
        "configs/logging.conf",
        "docs/README.md",
    ):
        assert (ROOT / path).is_file(), path
    keys = yaml.safe_load((CONFIGS / "inference.yaml").read_text(encoding="utf-8"))
    assert {"bundle_root", "device", "network_def", "inferer", "output_dir", "run"} <= set(keys)


def test_the_bundle_can_set_every_source_and_the_options_of_the_command():
    keys = yaml.safe_load((CONFIGS / "inference.yaml").read_text(encoding="utf-8"))
    assert set(Sources.__dataclass_fields__) == set(keys["sources"]) - {"_requires_", "_target_"}
    for part in ("sources", "configuration", "inferer"):
        for value in keys[part].values():
            assert not str(value).startswith("@") or value.removeprefix("@") in keys


def test_the_presets_are_valid_configurations():
    for name in presets():
        assert configured(preset=name).hash


@pytest.mark.slow
def test_the_bundle_gives_the_transform_of_the_command(study: Path, by_command: Path, tmp_path: Path):
    pair = {"fixed": study / "fixed", "moving": study / "moving"}
    done = bundle(tmp_path, "inference.yaml", **pair, output_dir=tmp_path / "out", **DOOR_OPTIONS)
    assert done.returncode == 0, done.stderr
    assert distance_mm(tmp_path / "out", by_command) < 1e-4


@pytest.mark.slow
def test_python_gives_the_transform_of_the_command(study: Path, by_command: Path, tmp_path: Path):
    result = samreg.register(study / "fixed", study / "moving", configured(**DOOR_OPTIONS))
    outputs.write_images(result, tmp_path)
    assert distance_mm(tmp_path, by_command) < 1e-4
    assert result.config.hash == json.loads((by_command / "report.json").read_text())["hashes"]["config"]


def distance_mm(one: Path, other: Path) -> float:
    """Largest distance between where two folders' transforms take points of the scanner."""
    points = np.random.default_rng(0).uniform(-150, 150, (2000, 3))
    a, b = (read_transform(folder / "transform.h5").map_points(points) for folder in (one, other))
    return float(np.linalg.norm(a - b, axis=-1).max())


def test_a_refusal_ends_the_bundle_with_3_and_one_sentence(study: Path, tmp_path: Path):
    same = study / "fixed"
    done = bundle(tmp_path, "inference.yaml", fixed=same, moving=same, output_dir=tmp_path / "out")
    assert done.returncode == 3
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("samreg: "))
    assert "twice" in line
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["report.json"]


@pytest.mark.skipif(processors({}) < 2, reason="one processor: no thread waits for another")
@pytest.mark.parametrize(("policy", "restarts"), [({}, 1), ({"OMP_WAIT_POLICY": "ACTIVE"}, 0)])
def test_the_bundle_starts_again_with_threads_that_sleep(study: Path, tmp_path: Path, monkeypatch, policy, restarts):
    for name in ("OMP_WAIT_POLICY", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in policy.items():
        monkeypatch.setenv(name, value)
    same = study / "fixed"
    done = bundle(tmp_path, "inference.yaml", fixed=same, moving=same, output_dir=tmp_path / "out")
    assert done.returncode == 3
    assert done.stderr.count("starts again") == restarts
    assert "twice" in done.stderr


def test_the_bundle_scores_a_transform(tmp_path: Path):
    from samreg.transforms import Affine
    from samreg.transforms.files import write_transform

    write_transform(Affine.identity(), tmp_path / "t.h5")
    (tmp_path / "a.csv").write_text("0,0,0\n1,1,1\n")
    (tmp_path / "b.csv").write_text("0,0,2\n1,1,3\n")
    choices = {"fixed_landmarks": tmp_path / "a.csv", "moving_landmarks": tmp_path / "b.csv"}
    out = tmp_path / "metrics.json"
    done = bundle(tmp_path, "evaluate.yaml", transform_file=tmp_path / "t.h5", **choices, output_file=out)
    assert done.returncode == 0, done.stderr
    assert json.loads(out.read_text())["landmarks"]["tre_mm"]["mean"] == pytest.approx(2.0)
