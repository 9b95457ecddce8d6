"""Several moving series against one fixed: a registration object for each, of its own frame of reference."""

from pathlib import Path

import pytest
from pydicom import dcmread

from samreg import phantoms
from samreg.config import Config
from samreg.run import run
from samreg.sources import Sources
from samreg.transforms.files import read_transform

ROTATIONS = (6.0, 12.0)


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[phantoms.Phantom]]:
    """The results, and the phantoms in the order of their folders."""
    folder = tmp_path_factory.mktemp("several")
    pairs = [
        phantoms.pair("rigid", fixed_grid=phantoms.grid("thin", 64), rotation_deg=angle, translation_mm=8)
        for angle in ROTATIONS
    ]
    phantoms.write_dicom_series(pairs[0].fixed, folder / "study" / "planning", description="Planning")
    for number, pair in enumerate(pairs, 1):
        phantoms.write_dicom_series(pair.moving, folder / "study" / f"day{number}", description=f"Day {number}")
    rules = {"fixed": {"description": "planning"}, "moving": {"description": "day"}, "several_moving": True}
    config = Config().with_values({"transform": "rigid", "device": "cpu", "series": rules})
    document = run(Sources(folder / "study"), folder / "out", config)
    assert [entry["folder"] for entry in document["registrations"]] == ["moving-1", "moving-2"]
    assert document["status"] == "PASS", document
    return folder, pairs


@pytest.mark.parametrize("number", [1, 2])
def test_each_has_the_transform_of_its_own_series(registered, number: int):
    folder, pairs = registered
    out = folder / "out" / f"moving-{number}"
    assert pairs[number - 1].errors_mm(read_transform(out / "transform.h5")).mean() < 0.5


@pytest.mark.parametrize("number", [1, 2])
def test_each_object_refers_to_its_own_frame(registered, number: int):
    folder, _ = registered
    reg = dcmread(folder / "out" / f"moving-{number}" / "dicom" / "reg.dcm")
    fixed, moving = (
        dcmread(next((folder / "study" / name).iterdir()), stop_before_pixels=True)
        for name in ("planning", f"day{number}")
    )
    assert reg.FrameOfReferenceUID == fixed.FrameOfReferenceUID
    frames = {item.FrameOfReferenceUID for item in reg.RegistrationSequence}
    assert frames == {fixed.FrameOfReferenceUID, moving.FrameOfReferenceUID}
