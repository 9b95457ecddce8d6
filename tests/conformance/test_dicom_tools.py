"""dciodvfy finds no error in our objects; Orthanc and dcmtk store and return them unchanged."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from samreg.dicom_out import write_objects
from samreg.geometry import Grid, Volume
from samreg.io import read_image
from samreg.phantoms import Patient
from tests.dicom_results import as_series, deformable, result_of
from tests.orthanc import Archive, free_port, orthanc, tool
from tests.shared import DATA

NAMES = ("reg", "dreg", "seg_fixed", "seg_moving")


def written(fixed: Volume, moving: Volume, folder: Path) -> dict[str, Path]:
    transform, stage = deformable(fixed)
    result = result_of(fixed, moving, transform, kind="deformable", stages={"rigid": stage})
    return dict(write_objects(result, folder).files)


def random_series(folder: Path, modality: str, seed: int, **options: object) -> Volume:
    # 39 x 37 pixels: frames of the segmentation do not end on whole bytes.
    grid = Grid.from_axes((39, 37, 9), (3.0, 3.25, 8.0), (-60.5, -70.25, 11.125))
    voxels = np.random.default_rng(seed).integers(0, 1000, grid.shape).astype(np.float32)
    return as_series(Volume(voxels, grid, modality=modality), folder, **options)


DECUBITUS = pytest.param("decubitus", marks=pytest.mark.shared("decubitus"))


@pytest.fixture(scope="module", params=["mr", "ct-other-words", "no-body-part", DECUBITUS])
def objects(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "decubitus":
        return written(*(read_image(DATA / "decubitus" / name) for name in ("HFP", "HFS")), folder)
    options: dict[str, object] = {}
    if request.param == "ct-other-words":
        options["patient"] = Patient(name="山田^太郎=Ямада^Таро")
    if request.param == "no-body-part":
        options["overrides"] = {"BodyPartExamined": None, "StudyID": None, "AccessionNumber": None}
    modality = "CT" if request.param.startswith("ct") else "MR"
    fixed, moving = (random_series(folder / n, modality, s, **options) for n, s in (("fixed", 0), ("moving", 1)))
    return written(fixed, moving, folder)


@pytest.mark.parametrize("name", NAMES)
def test_dciodvfy_finds_no_error(objects: dict[str, Path], name: str):
    run = subprocess.run([tool("dciodvfy"), "-new", str(objects[name])], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert "Error" not in run.stdout + run.stderr
    # Attributes that the source lacks are stated as empty, as the standard asks; names are the source's.
    unknown = ("Laterality", "needed to build DICOMDIR", "Retired Person Name form")
    warnings = [line for line in run.stderr.splitlines() if line.startswith("Warning")]
    assert all(any(word in line for word in unknown) for line in warnings), warnings


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    with orthanc(tmp_path_factory.mktemp("orthanc")) as archive:
        yield archive


def test_orthanc_returns_the_objects_byte_for_byte(objects: dict[str, Path], archive: Archive):
    for path in objects.values():
        stored = json.loads(archive.rest("/instances", path.read_bytes()))
        assert stored["Status"] in ("Success", "AlreadyStored")
        assert archive.rest(f"/instances/{stored['ID']}/file") == path.read_bytes()


def test_orthanc_takes_the_objects_by_network_and_files_them_under_their_study(
    objects: dict[str, Path], archive: Archive
):
    archive.c_store(objects.values())
    for path in objects.values():
        sent = dcmread(path)
        study = json.loads(archive.rest(f"/instances/{archive.id_of(sent.SOPInstanceUID)}/study"))
        assert study["MainDicomTags"]["StudyInstanceUID"] == sent.StudyInstanceUID
        assert study["PatientMainDicomTags"]["PatientID"] == sent.PatientID


def test_dcmtk_receives_the_objects_unchanged(objects: dict[str, Path], tmp_path: Path):
    port = free_port()
    receiver = subprocess.Popen([tool("storescp"), "-od", str(tmp_path), "+uf", str(port)], stderr=subprocess.DEVNULL)
    try:
        send = [tool("storescu"), "-R", "127.0.0.1", str(port), *(str(p) for p in objects.values())]
        for _ in range(50):
            if subprocess.run(send, capture_output=True, timeout=60).returncode == 0:
                break
            time.sleep(0.1)
    finally:
        receiver.terminate()
        receiver.wait(10)
    received = {dcmread(p).SOPInstanceUID: dcmread(p) for p in tmp_path.iterdir()}
    for path in objects.values():
        sent = dcmread(path)
        assert received[sent.SOPInstanceUID] == sent


def test_dcmdump_reads_every_element(objects: dict[str, Path]):
    for path in objects.values():
        run = subprocess.run([tool("dcmdump"), str(path)], capture_output=True, text=True, timeout=60)
        assert run.returncode == 0
        assert not run.stderr
        assert "Unverified algorithm output" in run.stdout
