"""Classes of the user's own, as CONTRIBUTING.md teaches them: by the command, the bundle and Python."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from samreg import Config, Session, phantoms, registry
from samreg.cli import main
from samreg.cli_parser import build_parser
from samreg.errors import UsageError
from samreg.io.writing import write_image
from samreg.ladder import EstimatorFailed
from samreg.registry import Entry
from samreg.transforms import Rigid, about_centre
from samreg.transforms.files import read_transform

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
ENCODER, ESTIMATOR, MATCHER = "my_encoder:Brightness", "my_estimator:Centred", "my_matcher:MostAlike"
SHIFT = np.array([9.0, -6.0, 5.0])


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The files that CONTRIBUTING.md shows, where Python finds them."""
    for name, code in re.findall(r"```python file=(\S+)\n(.*?)```", TEXT, re.DOTALL):
        (tmp_path / name).write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT / "bundle")]))
    yield tmp_path
    for name in ("my_encoder", "my_estimator", "my_matcher"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def phantom() -> phantoms.Phantom:
    return phantoms.pair("rigid", fixed_grid=phantoms.grid("axial", 40), rotation_deg=0, translation_mm=12)


@pytest.fixture
def pair(phantom, folder) -> tuple[Path, Path]:
    paths = folder / "fixed.nii.gz", folder / "moving.nii.gz"
    for path, volume in zip(paths, (phantom.fixed, phantom.moving), strict=True):
        write_image(volume.voxels, volume.grid, path)
    return paths


def own(**values) -> Config:
    return Config(transform="rigid", encoder=ENCODER, estimators={"rigid": [ESTIMATOR]}, device="cpu", **values)


def test_python_registers_with_classes_of_ones_own(folder, phantom):
    result = Session(own()).register(phantom.fixed, phantom.moving)
    (step,) = result.steps
    assert (step.estimator, step.outcome, step.rests_on) == (ESTIMATOR, "taken", "the middles of both bodies")
    assert result.provenance["encoder"] == ENCODER
    assert result.provenance["confidences_fitted_on"] is None
    assert phantom.errors_mm(result.transform).mean() < 0.5 * 12
    np.testing.assert_array_equal(result.transform.moving_from_fixed[:3, :3], np.eye(3))


def test_the_command_and_the_bundle_give_what_python_gives(folder, pair, phantom):
    fixed, moving = map(str, pair)
    options = ["--transform", "rigid", "--encoder", ENCODER, "--estimators", ESTIMATOR, "--device", "cpu"]
    assert main(["register", fixed, moving, "-o", str(folder / "command"), "--quiet", *options]) in (0, 4)
    lists = json.dumps({"rigid": [ESTIMATOR]})
    bundle = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(ROOT / "configs" / "inference.yaml")]
    bundle += ["--bundle_root", str(ROOT), "--fixed", fixed, "--moving", moving, "--output_dir", str(folder / "bundle")]
    bundle += ["--transform", "rigid", "--encoder", ENCODER, "--estimators", lists, "--device", "cpu"]
    done = subprocess.run(bundle, capture_output=True, text=True)
    assert done.returncode in (0, 4), done.stderr
    result = Session(own()).register(*pair)
    points = phantom.fixed.grid.points().reshape(-1, 3)
    for door in ("command", "bundle"):
        report = json.loads((folder / door / "report.json").read_text())
        assert [step["estimator"] for step in report["estimators"]] == [ESTIMATOR]
        assert report["provenance"]["encoder"] == ENCODER
        assert report["hashes"]["config"] == result.config.hash
        assert ESTIMATOR in (folder / door / "report.html").read_text()
        written = read_transform(folder / door / "transform.h5")
        np.testing.assert_allclose(written.map_points(points), result.transform.map_points(points), atol=1e-4)


def test_a_matcher_of_ones_own_pairs_the_regions(folder, phantom):
    values = {"encoder": "handcrafted", "estimators": {"rigid": ["rigid-from-pairs"]}, "matching": {"matcher": MATCHER}}
    result = Session(own().with_values(values)).register(phantom.fixed, phantom.moving)
    assert result.kind == "rigid"
    assert phantom.errors_mm(result.transform).mean() < 0.25 * 12
    assert len(result.pairs)
    assert all(pair.similarity == pair.confidence > 0.5 for pair in result.pairs)


def test_the_commands_of_the_page_are_commands(folder):
    commands = re.findall(r"```console\nPYTHONPATH=\. samreg (.*?)\n```", TEXT)
    assert len(commands) == 3
    for command in commands:
        build_parser().parse_args(command.split())


@pytest.mark.parametrize("table", ["ENCODERS", "ESTIMATORS"])
def test_a_row_appears_wherever_names_are_listed(folder, monkeypatch, capsys, table):
    entry = Entry("mine", "one of my own making", {"ENCODERS": ENCODER, "ESTIMATORS": ESTIMATOR}[table])
    rows = MappingProxyType({**getattr(registry, table), "mine": entry})
    monkeypatch.setattr(registry, table, rows)
    monkeypatch.setattr(registry, "TABLES", MappingProxyType({**registry.TABLES, table.lower(): rows}))
    assert main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert {"name": "mine", "summary": "one of my own making", "needs_weights": False} in facts[table.lower()]
    with pytest.raises(SystemExit):
        main(["register", "--help"])
    assert "mine" in capsys.readouterr().out


@pytest.mark.parametrize(
    "values",
    [
        {"encoder": "no_such_module:Class"},
        {"encoder": "my_encoder:NoSuchClass"},
        {"estimators": {"rigid": ["no_such_module:Class"]}},
        {"matching": {"matcher": "no_such_module:Class"}},
        {"proposals": {"proposer": "no_such_module:Class"}},
    ],
)
def test_a_class_that_is_not_there_is_refused(folder, phantom, values):
    config = Config(transform="rigid", device="cpu").with_values(values)
    with pytest.raises(UsageError, match="cannot be imported") as refused:
        Session(config).register(phantom.fixed, phantom.moving)
    assert "PYTHONPATH" in refused.value.sentence


@pytest.mark.parametrize(
    ("code", "values"),
    [
        ("class Thing: kind = 'translation'\n", {"estimators": {"rigid": ["thing:Thing"]}}),
        ("class Thing:\n    def __init__(self, colour): pass\n", {"estimators": {"rigid": ["thing:Thing"]}}),
        ("class Thing: pass\n", {"encoder": "thing:Thing"}),
        ("class Thing:\n    def __init__(self, device): pass\n", {"encoder": "thing:Thing"}),
        ("class Thing:\n    def __init__(self, colour): pass\n", {"matching": {"matcher": "thing:Thing"}}),
    ],
)
def test_a_class_that_is_something_else_is_refused(folder, phantom, monkeypatch, code, values):
    (folder / "thing.py").write_text(code)
    monkeypatch.delitem(sys.modules, "thing", raising=False)
    config = Config(transform="rigid", device="cpu", encoder="handcrafted").with_values(values)
    with pytest.raises(UsageError, match="thing:Thing"):
        Session(config).register(phantom.fixed, phantom.moving)


def test_an_estimator_finer_than_what_is_asked_for_is_refused(phantom):
    config = Config(transform="rigid", estimators={"rigid": ["velocity"]}, encoder="handcrafted")
    with pytest.raises(UsageError, match="deformable, is listed where rigid is asked for"):
        Session(config).register(phantom.fixed, phantom.moving)


def test_a_candidate_of_another_kind_than_it_says_is_refused(folder, phantom):
    (folder / "sheared.py").write_text(
        "import numpy as np\nfrom samreg.estimation.base import Candidate\nfrom samreg.transforms import Affine\n"
        "from my_estimator import Centred\n\n\nclass Sheared(Centred):\n    def estimate(self, problem, start):\n"
        "        found = super().estimate(problem, start).transform.moving_from_fixed.copy()\n"
        "        found[0, 0] = 1.02\n        return Candidate(Affine(found), 'a guess')\n"
    )
    result = Session(own().with_values({"estimators": {"rigid": ["sheared:Sheared"]}})).register(
        phantom.fixed, phantom.moving
    )
    assert result.kind == "identity"
    assert result.steps[0].reason == "its transform is not rigid"
    assert result.quality.status != "PASS"


def test_an_estimator_sees_pairs_under_any_estimate_and_dense_features(folder, phantom):
    (folder / "looking.py").write_text(
        "from samreg.estimation.base import Abstention\nfrom samreg.transforms import Affine\n\n\nclass Looking:\n"
        "    kind = 'rigid'\n    seen = {}\n\n    def estimate(self, problem, start):\n"
        "        self.seen.update(problem=problem, start=start, features=problem.features(problem.fixed.working))\n"
        "        return Abstention('it only looks')\n"
    )
    config = own().with_values({"encoder": "handcrafted", "estimators": {"rigid": ["looking:Looking"]}})
    result = Session(config).register(phantom.fixed, phantom.moving)
    assert result.fallbacks == ("rigid → identity: it only looks",)
    seen = sys.modules["looking"].Looking.seen
    problem, features = seen["problem"], seen["features"]
    assert features.grid.same_as(problem.fixed.working.grid)
    np.testing.assert_array_equal(seen["start"].moving_from_fixed, np.eye(4))
    away = Rigid(about_centre(np.eye(3), np.array([90.0, 0, 0]), np.zeros(3)))
    free, aligned, wrong = (problem.pairs_under(t) for t in (None, phantom.truth, away))
    assert problem.pairs_under(phantom.truth) is aligned  # kept
    assert {p.held_out for p in free} == {p.held_out for p in aligned} == {True, False}
    mapped = phantom.truth.map_points(aligned.fixed.centroids_lps())
    apart_mm = np.linalg.norm(mapped - aligned.moving.centroids_lps(), axis=1)
    assert np.median(apart_mm) < phantom.fixed.grid.spacing_mm.max()
    assert len(wrong) < len(aligned) / 2


MATCHES = "class Thing:\n    def match(self, request): return {}\n"
PROPOSES = "class Thing:\n    def propose(self, volume, body, config, *, on_progress=None): return {}\n"


@pytest.mark.parametrize(
    ("code", "values", "said"),
    [
        (MATCHES.format("[]"), {"matching": {"matcher": "thing:Thing"}}, "The matcher 'thing:Thing' returned a list"),
        (MATCHES.format("1 / 0"), {"matching": {"matcher": "thing:Thing"}}, "The matcher 'thing:Thing' failed"),
        (
            PROPOSES.format("body"),
            {"proposals": {"proposer": "thing:Thing"}},
            "The proposer 'thing:Thing' returned a n",
        ),
        ("class Thing: pass\n", {"matching": {"matcher": "thing:Thing"}}, "it has no method `match`"),
        ("class Thing: pass\n", {"proposals": {"proposer": "thing:Thing"}}, "it has no method `propose`"),
    ],
)
def test_a_matcher_or_proposer_that_answers_something_else_is_named(folder, phantom, monkeypatch, code, values, said):
    (folder / "thing.py").write_text(code)
    monkeypatch.delitem(sys.modules, "thing", raising=False)
    config = Config(transform="rigid", device="cpu", encoder="handcrafted").with_values(values)
    with pytest.raises(UsageError) as refused:
        Session(config).register(phantom.fixed, phantom.moving)
    assert said in refused.value.sentence
    assert "CONTRIBUTING.md" in refused.value.next_step


def test_an_estimator_that_breaks_off_is_named(folder, pair, capsys):
    (folder / "broken.py").write_text("class Broken:\n    kind = 'rigid'\n    def estimate(self, p, s): return 1 / 0\n")
    config = own().with_values({"estimators": {"rigid": ["broken:Broken"]}})
    with pytest.raises(EstimatorFailed, match="'broken:Broken' failed"):
        Session(config).register(*pair)
    options = ["--transform", "rigid", "--estimators", "broken:Broken", "--encoder", "handcrafted", "--quiet"]
    assert main(["register", *map(str, pair), "-o", str(folder / "out"), *options]) == 1
    assert "broken:Broken" in capsys.readouterr().err
    assert not (folder / "out").exists()
