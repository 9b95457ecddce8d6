"""The semantic validator: a sound object has no finding, each fault has its own."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from samreg.dicom_out import validate, write_objects
from samreg.geometry import Volume
from tests.dicom_results import deformable, result_of, small_series


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Volume, Volume]:
    folder = tmp_path_factory.mktemp("series")
    return small_series(folder / "fixed", 0), small_series(folder / "moving", 1)


@pytest.fixture(scope="module")
def files(images: tuple[Volume, Volume], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    transform, stage = deformable(images[0])
    result = result_of(*images, transform, kind="deformable", stages={"rigid": stage})
    return dict(write_objects(result, tmp_path_factory.mktemp("objects")).files)


def rules(ds: Dataset, images: tuple[Volume, Volume]) -> set[tuple[str, str]]:
    return {(f.severity, f.rule) for f in validate(ds, *images)}


@pytest.mark.parametrize("name", ["reg", "dreg", "seg_fixed", "seg_moving"])
def test_sound_objects_have_no_finding(files, images, name):
    assert validate(files[name], *images) == []
    assert validate(files[name]) == []


def moving_item(ds: Dataset) -> Dataset:
    return ds.RegistrationSequence[1]


def matrix(ds: Dataset) -> Dataset:
    return moving_item(ds).MatrixRegistrationSequence[0].MatrixSequence[0]


def grid(ds: Dataset) -> Dataset:
    return ds.DeformableRegistrationSequence[0].DeformableRegistrationGridSequence[0]


def scaled(ds: Dataset) -> None:
    matrix(ds).FrameOfReferenceTransformationMatrix[0] = 1.5


def mirrored(ds: Dataset) -> None:
    matrix(ds).FrameOfReferenceTransformationMatrix = np.diag([-1.0, 1, 1, 1]).ravel().tolist()


def bottom_row(ds: Dataset) -> None:
    matrix(ds).FrameOfReferenceTransformationMatrix[12] = 0.1


def fixed_not_identity(ds: Dataset) -> None:
    item = ds.RegistrationSequence[0].MatrixRegistrationSequence[0].MatrixSequence[0]
    item.FrameOfReferenceTransformationMatrix[3] = 5


def forget_other_study(ds: Dataset) -> None:
    del ds.StudiesContainingOtherReferencedInstancesSequence


def forget_references(ds: Dataset) -> None:
    del ds.StudiesContainingOtherReferencedInstancesSequence, ds.ReferencedSeriesSequence


def own_study_among_others(ds: Dataset) -> None:
    ds.StudiesContainingOtherReferencedInstancesSequence[0].StudyInstanceUID = ds.StudyInstanceUID


def two_matrices(ds: Dataset) -> None:
    sequence = moving_item(ds).MatrixRegistrationSequence[0].MatrixSequence
    sequence.append(sequence[0])


REG_FAULTS: list[tuple[str, Callable[[Dataset], None]]] = [
    ("two-items", lambda ds: ds.RegistrationSequence.pop(0)),
    ("frames", lambda ds: setattr(moving_item(ds), "FrameOfReferenceUID", ds.FrameOfReferenceUID)),
    ("frames", lambda ds: setattr(moving_item(ds), "FrameOfReferenceUID", "1.2.3")),
    ("one-matrix", two_matrices),
    ("matrix-type", scaled),
    ("determinant", mirrored),
    ("matrix-values", bottom_row),
    ("fixed-identity", fixed_not_identity),
    ("no-references", forget_other_study),
    ("no-references", forget_references),
    ("other-study", own_study_among_others),
    ("bad-uid", lambda ds: setattr(ds, "StudyInstanceUID", "anonymized")),
    ("attribute-missing", lambda ds: delattr(ds, "ContentLabel")),
    ("attribute-missing", lambda ds: setattr(ds, "ContentLabel", "")),
    ("attribute-missing", lambda ds: delattr(ds, "PatientBirthDate")),
    ("attribute-missing", lambda ds: delattr(matrix(ds), "FrameOfReferenceTransformationMatrixType")),
]


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_a_word_for_the_frame_of_reference_is_found_though_the_image_has_it_too(files, images):
    ds = dcmread(files["reg"])
    moving_item(ds).FrameOfReferenceUID = "anonymized"
    moving = replace(images[1], frame_of_reference_uid="anonymized")
    assert ("error", "bad-uid") in rules(ds, (images[0], moving))


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI", "ignore:The value length")
@pytest.mark.parametrize(("rule", "spoil"), REG_FAULTS)
def test_each_fault_of_a_reg_is_found(files, images, rule, spoil):
    ds = dcmread(files["reg"])
    spoil(ds)
    assert ("error", rule) in rules(ds, images)


def short_grid(ds: Dataset) -> None:
    grid(ds).VectorGridData = grid(ds).VectorGridData[:-12]


def undefined(ds: Dataset) -> None:
    grid(ds).VectorGridData = np.full(3, np.nan, "<f4").tobytes() + grid(ds).VectorGridData[12:]


def elsewhere(ds: Dataset) -> None:
    grid(ds).ImagePositionPatient = [500, 500, 500]


DREG_FAULTS: list[tuple[str, Callable[[Dataset], None]]] = [
    ("no-grid", lambda ds: delattr(ds.DeformableRegistrationSequence[0], "DeformableRegistrationGridSequence")),
    ("grid-length", short_grid),
    ("grid-geometry", lambda ds: setattr(grid(ds), "GridResolution", [5.0, 0.0, 5.0])),
    ("not-finite", undefined),
    ("grid-extent", elsewhere),
    ("one-item", lambda ds: ds.DeformableRegistrationSequence.append(ds.DeformableRegistrationSequence[0])),
    ("frames", lambda ds: setattr(ds.DeformableRegistrationSequence[0], "SourceFrameOfReferenceUID", "1.2")),
    ("attribute-missing", lambda ds: delattr(ds, "DeviceSerialNumber")),
]


@pytest.mark.parametrize(("rule", "spoil"), DREG_FAULTS)
def test_each_fault_of_a_dreg_is_found(files, images, rule, spoil):
    ds = dcmread(files["dreg"])
    spoil(ds)
    assert ("error", rule) in rules(ds, images)


def test_folds_and_oblique_grids_are_warned_of(files, images):
    ds = dcmread(files["dreg"])
    vectors = np.random.default_rng(0).normal(0, 30, len(grid(ds).VectorGridData) // 4).astype("<f4")
    grid(ds).VectorGridData = vectors.tobytes()
    assert ("warning", "folding") in rules(ds, images)
    grid(ds).ImageOrientationPatient = [0, 1, 0, -1, 0, 0]
    assert ("warning", "oblique-grid") in rules(ds, images)


def another_image(ds: Dataset) -> None:
    reference = ds.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]
    old, new = reference.ReferencedSOPInstanceUID, "1.2.3.4.5"
    reference.ReferencedSOPInstanceUID = new
    for frame in ds.PerFrameFunctionalGroupsSequence:
        source = frame.DerivationImageSequence[0].SourceImageSequence[0]
        if source.ReferencedSOPInstanceUID == old:
            source.ReferencedSOPInstanceUID = new


SEG_FAULTS: list[tuple[str, Callable[[Dataset], None]]] = [
    ("segment-numbers", lambda ds: setattr(ds.SegmentSequence[0], "SegmentNumber", 9)),
    ("segment-frames", lambda ds: ds.SegmentSequence.pop()),
    ("frame-count", lambda ds: setattr(ds, "NumberOfFrames", 1)),
    ("pixel-length", lambda ds: setattr(ds, "PixelData", ds.PixelData[:-2])),
    ("frames", lambda ds: setattr(ds, "FrameOfReferenceUID", "1.2")),
    ("bad-uid", lambda ds: setattr(ds.ReferencedSeriesSequence[0], "SeriesInstanceUID", "1.2." + "3" * 72)),
    ("no-references", lambda ds: delattr(ds, "ReferencedSeriesSequence")),
    ("no-references", another_image),
]


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI", "ignore:The value length")
@pytest.mark.parametrize(("rule", "spoil"), SEG_FAULTS)
def test_each_fault_of_a_seg_is_found(files, images, rule, spoil):
    ds = dcmread(files["seg_moving"])
    spoil(ds)
    assert ("error", rule) in rules(ds, images)


def test_an_image_is_no_object_of_ours(images):
    (finding,) = validate(images[0].source.files[0])
    assert (finding.severity, finding.rule) == ("error", "sop-class")
