"""The table of files: a new file is a row and a writer, and everything that deals with files knows it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from samreg import artefacts
from samreg.artefacts import Artefact, Condition
from samreg.dicom_out.objects import Objects
from samreg.errors import OutputInvalid
from samreg.output_folder import LOCATED, REGISTRATION
from samreg.outputs import Images, flatten
from samreg.run import run
from samreg.sources import Sources
from tests.dicom_series import write_small
from tests.faults import mount_point

HERE = __name__
PASSED = Condition("PASS", lambda result: result.quality.status == "PASS", "No doubts: the result did not pass.")
DOUBTS = Artefact("doubts", "doubts.json", "images", "how sure each pair is", f"{HERE}:write_doubts", when=(PASSED,))
CONTOURS = Artefact(
    "contours",
    "dicom/contours.dcm",
    "dicom",
    "the contours",
    f"{HERE}:write_contours",
    f"{HERE}:verify_contours",
    artefacts.OBJECTS,
)


def write_doubts(images: Images, path: Path) -> None:
    path.write_text(json.dumps([pair.confidence for pair in images.result.pairs]))


def write_contours(objects: Objects, path: Path) -> None:
    path.write_text(objects.fixed.series_uid)


def verify_contours(objects: Objects, path: Path) -> None:
    if path.read_text() != objects.fixed.series_uid:
        raise OutputInvalid("other contours than were written")


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows more."""
    for row in (DOUBTS, CONTOURS):
        monkeypatch.setitem(artefacts.OF_REGISTER, row.key, row)


@pytest.fixture
def pair(tmp_path: Path) -> Sources:
    """Two small DICOM series, each of its own frame of reference."""
    for seed, name in enumerate(("fixed", "moving")):
        write_small(tmp_path / name, seed=seed)
    return Sources(tmp_path / "fixed", tmp_path / "moving")


def written(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("rows", "no_pictures")
@pytest.mark.parametrize("mounted", [False, True])
def test_a_row_and_a_writer_are_all_that_a_new_file_asks_for(pair, tmp_path, instant, monkeypatch, mounted):
    out = tmp_path / "out"
    if mounted:
        out.mkdir()
        mount_point(monkeypatch, out)
    report = run(pair, out)
    assert {"doubts.json", "dicom/contours.dcm"} <= written(out)
    assert json.loads((out / "doubts.json").read_text()) == [0.8, 0.8]
    assert report["objects"]["doubts"] == "doubts.json"
    assert report["objects"]["contours"] == "dicom/contours.dcm"
    assert json.loads((out / "report.json").read_text())["objects"] == report["objects"]
    # The next run knows them for files of an earlier one, and takes them away.
    instant.status = "FAIL"
    report = run(pair, out)
    assert "doubts.json" not in written(out)
    assert "doubts" not in report["objects"]
    assert PASSED.otherwise in report["warnings"]


@pytest.mark.usefixtures("rows", "no_pictures")
def test_a_new_object_is_copied_for_platforms_that_look_at_the_top_alone(pair, tmp_path, instant):
    run(pair, tmp_path / "out")
    assert tmp_path / "out" / "contours.dcm" in flatten(tmp_path / "out")
    assert REGISTRATION.hold(Path("moving-3-contours.dcm"))
    run(pair, tmp_path / "out")
    assert "contours.dcm" not in written(tmp_path / "out")


@pytest.mark.usefixtures("rows", "no_pictures")
def test_what_its_verifier_refuses_is_not_written(pair, tmp_path, instant, monkeypatch):
    monkeypatch.setattr(f"{HERE}.write_contours", lambda objects, path: path.write_text("something else"))
    with pytest.raises(OutputInvalid, match="Other contours"):
        run(pair, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_its_row_a_file_is_somebody_elses():
    assert not REGISTRATION.hold(Path("doubts.json"))
    assert not REGISTRATION.hold(Path("dicom/contours.dcm"))


@pytest.mark.parametrize("table", [artefacts.OF_REGISTER, artefacts.OF_LOCATE], ids=["register", "locate"])
def test_every_row_has_the_functions_that_it_names(table):
    for row in table.values():
        assert row.role
        assert all(callable(function) for function in row.functions)


def test_the_conditions_of_a_row_are_told_in_words():
    conditions = [condition for row in artefacts.OF_REGISTER.values() for condition in row.when]
    assert conditions
    assert all(condition.text for condition in conditions)


@pytest.mark.parametrize("results", [REGISTRATION, LOCATED], ids=["register", "locate"])
def test_a_folder_of_results_is_known_by_its_documents(results):
    assert results.documents
    assert all(results.hold(Path(name)) for name in results.documents)
