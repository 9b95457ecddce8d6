"""The operators, one by one, in applications of others."""
# ruff: noqa: E402 (Holoscan needs the CUDA runtime before it is imported)

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from samreg.errors import InputRefused, UsageError
from samreg.io import read_pair
from samreg.sources import Inputs, Sources
from samreg.transforms.files import read_transform
from tests.dicom_series import copy_of, write_small

if not importlib.util.find_spec("holoscan"):
    pytest.skip("the extra 'map' is not installed: pip install '.[map]'", allow_module_level=True)

from app.process import preload_cuda_runtime

preload_cuda_runtime()

from monai.deploy.conditions import CountCondition
from monai.deploy.core import Application, Operator
from monai.deploy.core.domain.dicom_series import DICOMSeries
from monai.deploy.core.domain.dicom_series_selection import SelectedSeries, StudySelectedSeries
from monai.deploy.core.domain.dicom_study import DICOMStudy
from monai.deploy.operators.dicom_data_loader_operator import DICOMDataLoaderOperator
from monai.deploy.operators.dicom_series_selector_operator import DICOMSeriesSelectorOperator

import operators
from operators import DicomWriterOperator, ImageWriterOperator, RegistrationOperator, SelectedSeriesLoaderOperator

ROOT = Path(__file__).parents[2]
RULES = json.dumps(
    {"selections": [{"name": name, "conditions": {"SeriesDescription": name}} for name in ("fixed", "moving")]}
)


def example(given: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "app.examples.selected_series", "-i", str(given), "-o", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "bundle")}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def write_study(folder: Path, **moving: object) -> Path:
    """Two small series in folders that do not say what is what."""
    write_small(folder / "a", description="fixed")
    write_small(folder / "b", seed=1, description="moving", **moving)
    return folder


class App(Application):
    """Of operators that `make` wires; without the arguments of the test."""

    def __init__(self, make) -> None:
        self.make = make
        super().__init__([sys.executable, "app"])

    def compose(self) -> None:
        self.make(self)


class Source(Operator):
    """Emits a value once."""

    def __init__(self, fragment, value, *args, **kwargs) -> None:
        self.value = value
        super().__init__(fragment, CountCondition(fragment, 1), *args, **kwargs)

    def setup(self, spec) -> None:
        spec.output("value")

    def compute(self, op_input, op_output, context) -> None:
        op_output.emit(self.value, "value")


class Sink(Operator):
    """Keeps what it receives."""

    def __init__(self, fragment, kept: list, *args, **kwargs) -> None:
        self.kept = kept
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec) -> None:
        spec.input("value")

    def compute(self, op_input, op_output, context) -> None:
        self.kept.append(op_input.receive("value"))


def selected(folder: Path) -> Inputs:
    """What the SDK's loader and selector and our loader make of a folder."""
    kept: list[Inputs] = []

    def make(app: Application) -> None:
        loader = DICOMDataLoaderOperator(app, CountCondition(app, 1), input_folder=folder, name="loader")
        selector = DICOMSeriesSelectorOperator(app, rules=RULES, all_matched=True, name="selector")
        ours = SelectedSeriesLoaderOperator(app, name="selected")
        app.add_flow(loader, selector, {("dicom_study_list", "dicom_study_list")})
        app.add_flow(selector, ours, {("study_selected_series_list", "study_selected_series_list")})
        app.add_flow(ours, Sink(app, kept, name="sink"), {("inputs", "value")})

    App(make).run()
    (inputs,) = kept
    return inputs


@pytest.mark.slow
def test_the_example_gives_the_transform_of_the_command(study: Path, by_command: Path, tmp_path: Path):
    done = example(study, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    points = np.random.default_rng(0).uniform(-120, 120, (500, 3))
    ours, theirs = (read_transform(f / "transform.h5").map_points(points) for f in (tmp_path / "out", by_command))
    assert np.abs(ours - theirs).max() < 1e-4
    files, expected = ({p.relative_to(f) for p in f.rglob("*")} for f in (tmp_path / "out", by_command))
    assert files == expected
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert "selections 'fixed' and 'moving'" in report["roles"]
    assert "bundle samreg" in done.stderr


def test_the_example_refuses_different_patients_and_writes_nothing(tmp_path: Path):
    write_study(tmp_path / "in", overrides={"PatientID": "ANOTHER"})
    done = example(tmp_path / "in", tmp_path / "out")
    assert done.returncode == 3
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("samreg: "))
    assert "patient" in line
    assert "ANOTHER" not in line
    assert not any((tmp_path / "out").iterdir())
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}


def test_a_selection_gives_the_images_that_the_command_reads(tmp_path: Path):
    write_study(tmp_path)
    inputs = selected(tmp_path)
    for ours, theirs in zip((inputs.fixed, inputs.moving), read_pair(tmp_path / "a", tmp_path / "b"), strict=True):
        assert ours.content_hash == theirs.content_hash
        assert ours.source.instances == theirs.source.instances


def test_what_the_loader_of_the_sdk_drops_is_refused_as_by_the_command(tmp_path: Path):
    write_study(tmp_path)
    (tmp_path / "c").mkdir()
    for file in sorted((tmp_path / "b").iterdir()):
        copy_of(file, tmp_path / "c" / file.name, AcquisitionNumber=0, AcquisitionTime="080000")
    with pytest.raises(InputRefused) as caught:
        selected(tmp_path)
    assert caught.value.reason == "4d"


def test_a_missing_slice_is_refused(tmp_path: Path):
    write_study(tmp_path)
    sorted((tmp_path / "a").iterdir())[3].unlink()
    with pytest.raises(InputRefused) as caught:
        selected(tmp_path)
    assert caught.value.reason == "missing-slices"


def selection(*series: tuple[str, str, list]) -> list[StudySelectedSeries]:
    """Of (name, series UID, data sets)."""
    study = StudySelectedSeries(DICOMStudy("1.2"))
    for name, uid, datasets in series:
        one = DICOMSeries(uid)
        for dataset in datasets:
            one.add_sop_instance(dataset)
        study.add_selected_series(SelectedSeries(name, one))
    return [study]


def meant(chosen: list[StudySelectedSeries], **options: object) -> Sources:
    return SelectedSeriesLoaderOperator(App(lambda app: None), name="selected", **options).sources(chosen)


def test_series_of_two_studies_can_be_selected_under_other_names(tmp_path: Path):
    a, b = (write_small(tmp_path / "in" / name) for name in ("a", "b"))
    chosen = selection(("follow-up", "1.1", [dcmread(f) for f in a]))
    chosen += selection(("planning", "1.2", [dcmread(f) for f in b]))
    wanted = meant(chosen, fixed="planning", moving="follow-up", allow_different_patients=True)
    assert (wanted.fixed_series, wanted.moving_series) == ("1.2", "1.1")
    assert (wanted.fixed, wanted.moving) == (tmp_path / "in", tmp_path / "in")
    assert wanted.allow_different_patients


def test_a_missing_or_ambiguous_selection_or_one_without_files_is_refused(tmp_path: Path):
    images = [dcmread(file) for file in write_small(tmp_path)]
    without = [dcmread(file) for file in write_small(tmp_path / "gone")]
    shutil.rmtree(tmp_path / "gone")
    unread = [image.__class__(None, dict(image)) for image in images]
    elsewhere = dcmread(tmp_path / "0001.dcm")
    elsewhere.filename = "/etc/passwd"
    fixed = ("fixed", "1.1", images)
    for chosen, reason, word in [
        ([], "no-series-for-role", "'fixed'"),
        (selection(fixed), "no-series-for-role", "'moving'"),
        (selection(fixed, ("moving", "1.2", images), ("moving", "1.3", images)), "several-series", "1.2, 1.3"),
        (selection(fixed, ("moving", "1.2", [])), "no-files", "'moving'"),
        (selection(fixed, ("moving", "1.2", without)), "no-files", "'moving'"),
        (selection(fixed, ("moving", "1.2", unread)), "no-files", "'moving'"),
        (selection(fixed, ("moving", "1.2", [elsewhere])), "no-common-folder", "one input folder"),
    ]:
        with pytest.raises(InputRefused, match=word) as caught:
            meant(chosen)
        assert caught.value.reason == reason


def test_one_series_in_both_roles_is_refused(tmp_path: Path):
    write_small(tmp_path, description="fixed and moving")
    with pytest.raises(InputRefused) as caught:
        selected(tmp_path)
    assert caught.value.reason == "same-series"


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    write_study(tmp_path / "in")
    return Inputs(*read_pair(tmp_path / "in" / "a", tmp_path / "in" / "b"))


def test_registration_and_dicom_writer_do_without_the_others(inputs: Inputs, instant, tmp_path: Path):
    def make(app: Application) -> None:
        registration = RegistrationOperator(app, name="registration")
        writer = DicomWriterOperator(app, output_folder=str(tmp_path / "new" / "out"), name="dicom")
        app.add_flow(Source(app, inputs, name="source"), registration, {("value", "inputs")})
        app.add_flow(registration, writer, {("result", "result")})

    App(make).run()
    written = {path.relative_to(tmp_path / "new").as_posix() for path in (tmp_path / "new").rglob("*.dcm")}
    assert {"out/dicom/reg.dcm", "out/dicom/seg_fixed.dcm"} <= written
    with pytest.raises(UsageError, match="dicom"):
        App(make).run()


def test_the_warped_image_reaches_an_operator_of_somebody_else(inputs: Inputs, instant, tmp_path: Path):
    kept: list[np.ndarray] = []

    def make(app: Application) -> None:
        registration = RegistrationOperator(app, name="registration")
        writer = ImageWriterOperator(app, output_folder=tmp_path / "out", name="images")
        app.add_flow(Source(app, inputs, name="source"), registration, {("value", "inputs")})
        app.add_flow(registration, writer, {("result", "result")})
        app.add_flow(writer, Sink(app, kept, name="sink"), {("warped", "value")})

    App(make).run()
    (warped,) = kept
    assert isinstance(warped, np.ndarray)
    assert (warped.shape, warped.dtype) == (inputs.fixed.voxels.shape, np.float32)
    assert (tmp_path / "out" / "transform.h5").is_file()


@pytest.mark.parametrize("name", ["DicomWriterOperator", "ImageWriterOperator"])
def test_a_folder_that_vanishes_while_the_application_runs_is_not_made_again(
    name: str, inputs: Inputs, instant, tmp_path: Path
):
    instant.during = lambda: shutil.rmtree(tmp_path / "out", ignore_errors=True)

    def make(app: Application) -> None:
        registration = RegistrationOperator(app, name="registration")
        writer = getattr(operators, name)(app, output_folder=tmp_path / "out", name="writer")
        app.add_flow(Source(app, inputs, name="source"), registration, {("value", "inputs")})
        app.add_flow(registration, writer, {("result", "result")})

    with pytest.raises((OSError, UsageError), match="out"):
        App(make).run()
    assert not (tmp_path / "out").exists()


def make_operator(name: str) -> Operator:
    given = {"SeriesLoaderOperator": {"sources": Sources("in")}}
    options = given.get(name, {"output_folder": "out"} if "Writer" in name else {})
    return getattr(operators, name)(App(lambda app: None), name="one", **options)


@pytest.mark.parametrize("name", operators.__all__)
def test_the_documents_name_the_ports_and_arguments_of_an_operator(name: str):
    spec = make_operator(name).spec
    parameters = inspect.signature(getattr(operators, name).__init__).parameters.values()
    arguments = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    page = (ROOT / "docs" / "operators.md").read_text(encoding="utf-8")
    (section,) = re.findall(rf"^## {name}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    rows = set(re.findall(r"^\| (input|output|argument) \| `(\w+)` \|", section, re.MULTILINE))
    ports = {("input", port) for port in spec.inputs} | {("output", port) for port in spec.outputs}
    assert rows == ports | {("argument", argument) for argument in arguments}
    described = inspect.getdoc(getattr(operators, name))
    for port in [*spec.inputs, *spec.outputs]:
        assert re.search(rf"^    {port}: ", described, re.MULTILINE), port
