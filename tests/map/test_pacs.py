"""From an archive through the application and back to an archive, by the ways that hospitals have."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from samreg import phantoms
from tests.dicom_series import write_small
from tests.map.test_app import run_app
from tests.map.test_image import built
from tests.map.test_image import run as run_image
from tests.orthanc import Archive, orthanc

pytestmark = pytest.mark.slow
web = pytest.importorskip("dicomweb_client.api", reason="dicomweb-client is not installed (extra dev)")

BACKEND = pytest.param("container", marks=pytest.mark.container) if built() else "app"
PATIENT = phantoms.Patient("PACS-7", "Jörgensen^Åse", "19580214", "F")
MODALITIES = {"reg": "REG", "dreg": "REG", "seg_fixed": "SEG", "seg_moving": "SEG"}


@dataclass(frozen=True)
class Run:
    """The objects that the application wrote, and the study of each of the two series it was given."""

    objects: Mapping[str, Path]
    studies: Mapping[str, str]

    def of_study(self, side: str) -> dict[str, str]:
        """Series and modality of the objects that belong into the study of a side."""
        mine = {"seg_moving"} if side == "moving" else MODALITIES.keys() - {"seg_moving"}
        return {dcmread(self.objects[name]).SeriesInstanceUID: MODALITIES[name] for name in mine}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """Holds two studies of one patient, each in a frame of reference of its own, and one of somebody else."""
    folder = tmp_path_factory.mktemp("scanner")
    phantom = phantoms.pair("deformable", fixed_grid=phantoms.grid("axial", 32), rotation_deg=12)
    phantoms.write_dicom_study(phantom, folder, patient=PATIENT)
    write_small(folder / "somebody")
    with orthanc(tmp_path_factory.mktemp("archive"), dicomweb=True) as archive:
        archive.c_store(sorted(folder.rglob("*.dcm")))
        yield archive


@pytest.fixture(scope="module", params=[BACKEND])
def run(request: pytest.FixtureRequest, archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The patient's two series found by QIDO-RS, fetched by WADO-RS and registered; the later one is fixed."""
    if request.param == "app" and not importlib.util.find_spec("holoscan"):
        pytest.skip("there is neither the image (make map) nor the extra 'map'")
    given, out = tmp_path_factory.mktemp("given"), tmp_path_factory.mktemp("run") / "out"
    found = series_of(archive, PatientID=PATIENT.id, Modality="MR")
    moving, fixed = sorted(found, key=lambda series: series.StudyDate)
    for name, series in (("fixed", fixed), ("moving", moving)):
        fetch(archive, series, given / name)
    if request.param == "container":
        done = run_image(given / "fixed", given / "moving", out, "--device", "cpu")
    else:
        done = run_app(given, out, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    objects = {path.stem: path for path in (out / "dicom").iterdir()}
    assert objects.keys() == MODALITIES.keys()
    return Run(objects, {"fixed": fixed.StudyInstanceUID, "moving": moving.StudyInstanceUID})


def client(archive: Archive):
    return web.DICOMwebClient(archive.dicomweb)


def series_of(archive: Archive, study_uid: str | None = None, **filters: str) -> list[Dataset]:
    """What QIDO-RS says of the series of a study, or of all."""
    return [Dataset.from_json(entry) for entry in client(archive).search_for_series(study_uid, search_filters=filters)]


def fetch(archive: Archive, series: Dataset, folder: Path) -> None:
    folder.mkdir()
    for image in client(archive).retrieve_series(series.StudyInstanceUID, series.SeriesInstanceUID):
        image.save_as(folder / f"{image.SOPInstanceUID}.dcm")


def stow(archive: Archive, paths: list[Path]) -> None:
    answer = client(archive).store_instances([dcmread(path) for path in paths])
    assert not answer.get("FailedSOPSequence")
    assert len(answer.ReferencedSOPSequence) == len(paths)


@pytest.fixture(scope="module", params=["STOW-RS", "C-STORE"])
def home(request: pytest.FixtureRequest, run: Run, archive: Archive, tmp_path_factory) -> Iterator[Archive]:
    """An archive that the objects were sent to: by STOW-RS to where the images are, by C-STORE to an empty one."""
    paths = list(run.objects.values())
    if request.param == "STOW-RS":
        stow(archive, paths)
        yield archive
        return
    with orthanc(tmp_path_factory.mktemp("empty"), dicomweb=True) as empty:
        empty.c_store(paths)
        yield empty


def test_the_archive_returns_the_objects_unchanged_and_lists_them_under_patient_and_study(
    run: Run, home: Archive, archive: Archive
):
    for path in run.objects.values():
        sent = dcmread(path)
        uids = sent.StudyInstanceUID, sent.SeriesInstanceUID, sent.SOPInstanceUID
        assert client(home).retrieve_instance(*uids) == sent
        if home is archive:  # an association carries no file header: the receiver writes one of its own
            assert home.file(sent.SOPInstanceUID) == path.read_bytes()
    for side, study_uid in run.studies.items():
        listed = [series for series in series_of(home, study_uid) if series.Modality != "MR"]
        assert {series.SeriesInstanceUID: series.Modality for series in listed} == run.of_study(side)
        for series in listed:
            patient = (series.PatientID, series.PatientName, series.PatientBirthDate, series.PatientSex)
            assert patient == (PATIENT.id, PATIENT.name, PATIENT.birth_date, PATIENT.sex)


@pytest.mark.parametrize("home", ["STOW-RS"], indirect=True)
def test_every_instance_that_the_objects_refer_to_is_in_the_archive(run: Run, home: Archive):
    filters = {"PatientID": PATIENT.id}
    held = {Dataset.from_json(e).SOPInstanceUID for e in client(home).search_for_instances(search_filters=filters)}
    for path in run.objects.values():
        pointed = {e.value for e in dcmread(path).iterall() if e.keyword == "ReferencedSOPInstanceUID"}
        assert pointed
        assert pointed <= held
