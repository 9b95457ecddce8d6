"""The documents say what the code does."""

import re
import shlex
import shutil
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


def sections(document: Path) -> dict[str, list[str]]:
    """The Python of each section of a document, by its heading."""
    parts = re.split(r"^## ", document.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = {part.partition("\n")[0]: code_blocks(part, "python") for part in parts}
    return {heading: code for heading, code in found.items() if code}


PYTHON = [
    pytest.param(code, id=f"{document.name}: {heading}")
    for document in DOCUMENTS
    if document.parent.name != "api"
    for heading, code in sections(document).items()
]


@pytest.fixture
def folder(study: Path, tmp_path: Path, monkeypatch) -> Path:
    """The current folder, with the files that the documents name."""
    import nibabel
    import SimpleITK

    from samreg import phantoms
    from samreg.ecosystem import image_as
    from samreg.geometry import Volume

    for role in ("fixed", "moving"):
        shutil.copytree(study / role, tmp_path / role)
    pair = phantoms.pair("rigid", fixed_grid=phantoms.grid("thin", 24), rotation_deg=5)
    nibabel.save(image_as(pair.fixed, "nibabel"), tmp_path / "fixed.nii.gz")
    SimpleITK.WriteImage(image_as(pair.moving, "SimpleITK"), str(tmp_path / "moving.nrrd"))
    implant = Volume((pair.moving_labels == pair.moving_labels.max()).astype(np.uint8), pair.moving.grid)
    nibabel.save(image_as(implant, "nibabel"), tmp_path / "implant.nii.gz")
    point = pair.fixed.grid.centre_lps
    marks = ",".join(f"{x:.3f}" for x in (*point, *pair.truth.map_points(point[None])[0]))
    columns = ",".join(f"{role}_{axis}" for role in ("fixed", "moving") for axis in "xyz")
    (tmp_path / "landmarks.csv").write_text(f"{columns}\n{marks}\n", encoding="utf-8")
    (tmp_path / "PAIRS.csv").write_text("fixed,moving\nfixed.nii.gz,moving.nrrd\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def executed(code: list[str]) -> dict:
    """The names that the blocks of a section leave, one block run after the other."""
    names = {"points_lps_mm": np.zeros((2, 3)), "pairs": [("fixed/", "moving/"), ("fixed.nii.gz", "moving.nrrd")]}
    for block in code:
        exec(block, names)
    return names


@pytest.mark.parametrize("code", PYTHON)
def test_the_python_of_the_documents_runs(code: list[str], folder: Path, instant, no_pictures):
    for package in ("monai", "monai.deploy"):
        if any(f"from {package}." in block for block in code):
            pytest.importorskip(package)
    executed(code)


def test_the_python_of_the_readme_gives_a_result(folder: Path, instant):
    (code,) = sections(ROOT / "README.md").values()
    assert executed(code)["result"].quality.status == "PASS"


def test_the_run_of_the_how_to_writes_what_the_command_writes(folder: Path, instant, no_pictures):
    names = executed(sections(ROOT / "docs" / "how-to.md")["Register many pairs in Python"])
    assert names["report"]["status"] == "PASS"
    assert {"report.json", "transform.h5", "warped.nii.gz"} <= {path.name for path in (folder / "out").iterdir()}


def test_the_python_of_the_how_to_gives_images_of_other_packages(folder: Path, instant):
    import nibabel

    from samreg.ecosystem import read_object

    pytest.importorskip("monai")
    names = executed(sections(ROOT / "docs" / "how-to.md")["Register images that are in memory"])
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
