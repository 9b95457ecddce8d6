"""The documents say what the code does."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import samreg
from samreg.cli_parser import build_parser

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def code_blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands() -> list[tuple[str, str]]:
    """(document, line) of every `samreg …` in a shell block."""
    found = []
    for document in DOCUMENTS:
        for block in code_blocks(document.read_text(encoding="utf-8"), "bash"):
            lines = [line.split("#")[0].split("||")[0].strip() for line in block.splitlines()]
            found += [(document.name, line) for line in lines if line.startswith("samreg ")]
    return found


@pytest.mark.parametrize(("document", "line"), commands())
def test_every_command_in_the_documents_is_one_that_samreg_takes(document: str, line: str):
    args = build_parser().parse_args(shlex.split(line)[1:])
    assert callable(args.run)


def test_the_readme_shows_commands():
    assert {line.split()[1] for _, line in commands()} >= {"register", "apply", "apply-points", "evaluate", "locate"}


def test_the_python_of_the_readme_runs(study: Path, instant, monkeypatch):
    (code,) = code_blocks((ROOT / "README.md").read_text(encoding="utf-8"), "python")
    monkeypatch.chdir(study)
    names = {"points_lps_mm": np.zeros((2, 3))}
    exec(code, names)
    assert names["result"].quality.status == "PASS"


def test_the_python_of_the_how_to_about_images_in_memory_runs(instant, tmp_path: Path, monkeypatch):
    import nibabel
    import SimpleITK

    from samreg import phantoms
    from samreg.ecosystem import image_as, read_object

    pytest.importorskip("monai")
    pair = phantoms.pair("rigid", fixed_grid=phantoms.grid("thin", 24), rotation_deg=5)
    nibabel.save(image_as(pair.fixed, "nibabel"), tmp_path / "fixed.nii.gz")
    SimpleITK.WriteImage(image_as(pair.moving, "SimpleITK"), str(tmp_path / "moving.nrrd"))
    text = (ROOT / "docs" / "how-to.md").read_text(encoding="utf-8")
    section = text.partition("## Register images that are in memory")[2].partition("\n## ")[0]
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for code in code_blocks(section, "python"):
        exec(code, names)
    expected = names["result"].warped().voxels
    assert np.array_equal(nibabel.load("warped.nii.gz").get_fdata(), expected)
    inner = (slice(3, -3), slice(3, -3), slice(2, -2))  # beyond the moving image each package has its own values
    for found in (read_object(names["resampled"]).voxels, names["warped"][0, 0].numpy()):
        assert np.corrcoef(found[inner].ravel(), expected[inner].ravel())[0, 1] > 0.99


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_links_lead_somewhere(document: Path):
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), target


def test_make_has_the_targets_that_the_documents_name():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {t for d in DOCUMENTS for t in re.findall(r"\bmake ([a-z]+)\b", d.read_text(encoding="utf-8"))}
    assert {"demo", "check", "test", "bench"} <= named <= targets


def test_the_first_screen_of_the_readme_says_what_it_must():
    first_screen = "\n".join((ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:30])
    for phrase in ("independent implementation", "2405.10879", "Not a cleared medical device", "make demo"):
        assert phrase in first_screen


def test_the_changelog_knows_this_version():
    assert f"## {samreg.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
