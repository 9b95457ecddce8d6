"""REG: the matrix, its type, its direction and its precision; what is written when."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import config, dcmread
from pydicom.dataset import Dataset
from scipy.spatial.transform import Rotation

from samreg.dicom_out import objects as written_objects
from samreg.dicom_out import read_deformable, read_registration, verify_registration, write_objects
from samreg.dicom_out.common import matrix_item, matrix_type
from samreg.errors import InputRefused, OutputInvalid, UsageError
from samreg.geometry import Volume
from samreg.io import read_image
from samreg.phantoms import Patient
from samreg.rois import RoiPairs
from samreg.transforms import Affine, is_orthonormal
from tests.dicom_results import affine, deformable, invented_pairs, result_of, rigid, small_series


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Volume, Volume]:
    folder = tmp_path_factory.mktemp("series")
    return small_series(folder / "fixed", 0), small_series(folder / "moving", 1)


def written_matrix(path: Path) -> tuple[np.ndarray, str]:
    item = dcmread(path).RegistrationSequence[1].MatrixRegistrationSequence[0].MatrixSequence[0]
    values = [float(v) for v in item.FrameOfReferenceTransformationMatrix]
    return np.array(values).reshape(4, 4), item.FrameOfReferenceTransformationMatrixType


def test_the_matrix_takes_moving_points_to_fixed_points(images, tmp_path):
    transform = rigid(images[0])
    objects = write_objects(result_of(*images, transform, kind="rigid"), tmp_path)
    assert set(objects.files) == {"reg", "seg_fixed", "seg_moving"}
    matrix, kind = written_matrix(objects.files["reg"])
    fixed = images[0].grid.lps(np.random.default_rng(0).uniform(0, 5, (20, 3)))
    moving = transform.map_points(fixed)
    np.testing.assert_allclose(moving @ matrix[:3, :3].T + matrix[:3, 3], fixed, atol=1e-6)
    assert kind == "RIGID"
    np.testing.assert_allclose(read_registration(objects.files["reg"]).map_points(fixed), moving, atol=1e-6)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    rotation=st.tuples(*[st.floats(-np.pi, np.pi)] * 3),
    shift=st.tuples(*[st.floats(-2000, 2000)] * 3),
)
def test_sixteen_characters_are_precise_enough_to_stay_rigid(rotation, shift):
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(rotation).as_matrix()
    matrix[:3, 3] = shift
    item = matrix_item(matrix)
    assert all(len(str(v)) <= 16 for v in item.FrameOfReferenceTransformationMatrix)
    read = np.array([float(v) for v in item.FrameOfReferenceTransformationMatrix]).reshape(4, 4)
    assert item.FrameOfReferenceTransformationMatrixType == "RIGID"
    assert is_orthonormal(read[:3, :3])
    points = np.vstack([np.eye(3), -np.eye(3), np.ones(3)]) * 500
    difference = points @ (read - matrix)[:3, :3].T + (read - matrix)[:3, 3]
    assert np.abs(difference).max() < 1e-3


def test_a_matrix_is_called_what_it_is():
    turned = np.eye(4)
    turned[:3, :3] = Rotation.from_euler("xyz", (10, 20, 30), degrees=True).as_matrix()
    assert matrix_type(turned) == "RIGID"
    assert matrix_type(turned @ np.diag([1.1, 0.9, 1.0, 1])) == "RIGID_SCALE"
    assert matrix_type(np.diag([1.1, 0.9, 1.0, 1]) @ turned) == "AFFINE"
    assert matrix_type(turned @ np.diag([1 + 1e-5, 1, 1, 1])) == "RIGID_SCALE"


def test_an_affine_result_is_written_as_affine(images, tmp_path):
    objects = write_objects(result_of(*images, affine(images[0]), kind="affine"), tmp_path)
    assert written_matrix(objects.files["reg"])[1] == "AFFINE"
    assert "dreg" not in objects.files


def test_a_deformable_result_has_its_linear_stage_in_reg_and_all_of_it_in_dreg(images, tmp_path):
    transform, stage = deformable(images[0])
    objects = write_objects(
        result_of(*images, transform, kind="deformable", stages={"rigid": stage, "deformable": transform}), tmp_path
    )
    assert set(objects.files) == {"reg", "dreg", "seg_fixed", "seg_moving"}
    np.testing.assert_allclose(
        read_registration(objects.files["reg"]).moving_from_fixed, stage.moving_from_fixed, atol=1e-9
    )
    moving_item = dcmread(objects.files["reg"]).RegistrationSequence[1].MatrixRegistrationSequence[0]
    assert "Linear stage" in moving_item.FrameOfReferenceTransformationComment
    assert any("linear stage" in note for note in objects.notes)
    assert objects.errors_mm["dreg"] <= 0.1
    assert objects.as_json()["files"]["dreg"] == "dreg.dcm"


def test_one_frame_of_reference_gets_no_reg_but_a_dreg(tmp_path):
    fixed = small_series(tmp_path / "fixed", 0, frame_of_reference_uid="1.2.3.4")
    moving = small_series(tmp_path / "moving", 1, frame_of_reference_uid="1.2.3.4")
    transform = rigid(fixed)
    objects = write_objects(result_of(fixed, moving, transform, kind="rigid"), tmp_path)
    assert set(objects.files) == {"dreg", "seg_fixed", "seg_moving"}
    assert any("No REG" in n and "frame of reference" in n for n in objects.notes)
    assert any("DREG holds the rigid transform" in n for n in objects.notes)
    points = fixed.grid.lps(np.array([[0.0, 0, 0], [6, 5, 3]]))
    np.testing.assert_allclose(
        read_deformable(objects.files["dreg"]).map_points(points), transform.map_points(points), atol=1e-3
    )


def test_a_failed_gate_leaves_segmentations_marked_as_failed_alone(images, tmp_path):
    result = result_of(*images, rigid(images[0]), kind="rigid", status="FAIL")
    objects = write_objects(result, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"seg_fixed.dcm", "seg_moving.dcm"}
    assert any("quality gate" in n for n in objects.notes)
    seg = dcmread(objects.files["seg_fixed"])
    assert seg.ContentLabel == "SEG_FAILED"
    assert "FAILED" in seg.ContentDescription


def test_an_identity_that_passed_its_gate_is_written_as_a_registration(images, tmp_path):
    objects = write_objects(result_of(*images, Affine.identity(), kind="identity"), tmp_path)
    assert set(objects.files) == {"reg", "seg_fixed", "seg_moving"}
    np.testing.assert_allclose(read_registration(objects.files["reg"]).moving_from_fixed, np.eye(4), atol=1e-12)


def test_no_pairs_no_segmentation(images, tmp_path):
    none = RoiPairs(images[0].grid, images[1].grid, ())
    objects = write_objects(result_of(*images, rigid(images[0]), kind="rigid", pairs=none), tmp_path)
    assert set(objects.files) == {"reg"}
    assert any("No SEG" in note for note in objects.notes)


def test_images_without_a_series_are_refused(images, tmp_path):
    result = result_of(*images, rigid(images[0]), kind="rigid")
    with pytest.raises(UsageError, match="moving image does not come from a DICOM series"):
        write_objects(replace(result, moving=replace(result.moving, source=None)), tmp_path)


def test_the_object_belongs_to_the_fixed_study_and_names_both_series(images, tmp_path):
    fixed, moving = images
    result = result_of(fixed, moving, rigid(fixed), kind="rigid")
    ds = dcmread(write_objects(result, tmp_path).files["reg"])
    assert ds.StudyInstanceUID == fixed.source.study_uid != moving.source.study_uid
    assert ds.PatientID == fixed.source.header.PatientID
    assert ds.FrameOfReferenceUID == fixed.frame_of_reference_uid
    own = {s.SeriesInstanceUID: s for s in ds.ReferencedSeriesSequence}
    assert [i.ReferencedSOPInstanceUID for i in own[fixed.source.series_uid].ReferencedInstanceSequence] == [
        uid for _, uid in fixed.source.instances
    ]
    (other,) = ds.StudiesContainingOtherReferencedInstancesSequence
    assert other.StudyInstanceUID == moving.source.study_uid
    assert moving.source.series_uid in {s.SeriesInstanceUID for s in other.ReferencedSeriesSequence}
    assert [i.FrameOfReferenceUID for i in ds.RegistrationSequence] == [
        fixed.frame_of_reference_uid,
        moving.frame_of_reference_uid,
    ]
    codes = [i.MatrixRegistrationSequence[0].RegistrationTypeCodeSequence[0].CodeValue for i in ds.RegistrationSequence]
    assert codes == ["125021", "125024"]


def test_series_of_one_study_need_no_other_study(tmp_path):
    fixed = small_series(tmp_path / "fixed", 0, study_uid="1.2.3")
    moving = small_series(tmp_path / "moving", 1, study_uid="1.2.3")
    ds = dcmread(write_objects(result_of(fixed, moving, rigid(fixed), kind="rigid"), tmp_path).files["reg"])
    assert "StudiesContainingOtherReferencedInstancesSequence" not in ds
    assert {fixed.source.series_uid, moving.source.series_uid} <= {
        s.SeriesInstanceUID for s in ds.ReferencedSeriesSequence
    }


def test_only_fitted_pairs_stand_as_used_segments(images, tmp_path):
    result = result_of(*images, rigid(images[0]), kind="rigid", pairs=invented_pairs(*images, 5))
    objects = write_objects(result, tmp_path)
    fixed, moving = dcmread(objects.files["reg"]).RegistrationSequence
    for item, name in ((fixed, "seg_fixed"), (moving, "seg_moving")):
        (used,) = item.UsedSegmentsSequence
        assert list(used.ReferencedSegmentNumber) == [1, 2, 4, 5]
        assert used.ReferencedSOPInstanceUID == dcmread(objects.files[name]).SOPInstanceUID


def test_every_object_is_marked_unverified_and_says_what_made_it(images, tmp_path):
    transform, stage = deformable(images[0])
    result = result_of(*images, transform, kind="deformable", stages={"rigid": stage})
    series = set()
    for path in write_objects(result, tmp_path).files.values():
        ds = dcmread(path)
        assert ds.ContentLabel.endswith("_UNVERIFIED")
        assert len(ds.ContentLabel) <= 16
        assert "Unverified" in ds.ContentDescription
        assert "REVIEW" in ds.ContentDescription
        assert f"configuration {result.config.hash}" in ds.SoftwareVersions
        assert "not a cleared medical device" in ds.ContributingEquipmentSequence[0].ContributionDescription
        series.add(ds.SeriesInstanceUID)
    assert len(series) == 4
    assert not series & {v.source.series_uid for v in images}


@pytest.mark.parametrize("character_set", ["ISO_IR 192", ["", "ISO 2022 IR 87"], "GB18030"])
def test_names_in_other_scripts_survive(tmp_path, character_set):
    name = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    fixed = small_series(tmp_path / "fixed", 0, patient=Patient(name=name))
    moving = small_series(tmp_path / "moving", 1, patient=Patient(name=name))
    for file in (*fixed.source.files, *moving.source.files):
        ds = dcmread(file)
        ds.decode()
        ds.SpecificCharacterSet = character_set
        ds.save_as(file)
    fixed, moving = (read_image(tmp_path / role) for role in ("fixed", "moving"))
    for path in write_objects(result_of(fixed, moving, rigid(fixed), kind="rigid"), tmp_path).files.values():
        ds = dcmread(path)
        assert ds.SpecificCharacterSet == character_set
        assert str(ds.PatientName) == name


def test_values_that_break_a_rule_identify_but_do_not_describe(tmp_path):
    odd = {"PatientSex": "MALE", "PatientBirthDate": "1970-01-01", "PatientAge": "51", "BodyPartExamined": "Head, neck"}
    fixed = small_series(tmp_path / "fixed", 0)
    moving = small_series(tmp_path / "moving", 1)
    with config.disable_value_validation():
        for file in fixed.source.files:
            ds = dcmread(file)
            for keyword, value in odd.items():
                setattr(ds, keyword, value)
            ds.save_as(file)
        fixed = read_image(tmp_path / "fixed")
    with warnings.catch_warnings():
        # Warnings repeat values of the header.
        warnings.simplefilter("error")
        objects = write_objects(result_of(fixed, moving, rigid(fixed), kind="rigid"), tmp_path)
    for name in ("reg", "seg_fixed"):
        with config.disable_value_validation():
            ds = dcmread(objects.files[name])
            assert (ds.PatientSex, ds.PatientBirthDate) == ("MALE", "1970-01-01")
        assert "PatientAge" not in ds
        assert "BodyPartExamined" not in ds


def code(**values: object) -> Dataset:
    item = Dataset()
    for keyword, value in ({"CodeValue": "1", "CodingSchemeDesignator": "99X", "CodeMeaning": "CT"} | values).items():
        if value is not None:
            setattr(item, keyword, value)
    return item


def issuer(**values: object) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


INCOMPLETE = {
    "no meaning": {"ProcedureCodeSequence": [code(), code(CodeMeaning=None)]},
    "empty meaning": {"ProcedureCodeSequence": [code(CodeMeaning="")]},
    "no value": {"ProcedureCodeSequence": [code(CodeValue=None)]},
    "no scheme": {"ProcedureCodeSequence": [code(CodingSchemeDesignator=None)]},
    "empty item": {"ProcedureCodeSequence": [Dataset()]},
    "too long": {"ProcedureCodeSequence": [code(CodeValue="12345678901234567")]},
    "no number": {"ProcedureCodeSequence": [code(RescaleSlope="1.0")]},
    "nested": {"ProcedureCodeSequence": [code(EquivalentCodeSequence=[code(CodeMeaning=None)])]},
    "other IDs": {"OtherPatientIDsSequence": [issuer(PatientID="2")]},
    "accession": {"IssuerOfAccessionNumberSequence": [issuer(UniversalEntityID="1.2.3")]},
    "deidentification": {"DeidentificationMethodCodeSequence": [code(CodeMeaning=None)]},
}


def with_sequences(folder: Path, seed: int, sequences: dict[str, list[Dataset]]) -> Volume:
    series = small_series(folder, seed)
    for file in series.source.files:
        ds = dcmread(file)
        for keyword, items in sequences.items():
            setattr(ds, keyword, items)
        ds.save_as(file)
        if "RescaleSlope" in sequences.get("ProcedureCodeSequence", [()])[0]:  # becomes no number
            file.write_bytes(file.read_bytes().replace(b"(\x00S\x10DS\x04\x001.0 ", b"(\x00S\x10DS\x04\x00abc "))
    return read_image(folder)


@pytest.mark.parametrize("case", INCOMPLETE)
def test_a_sequence_with_an_incomplete_item_costs_itself_alone(tmp_path, case):
    sequences = {"PatientSpeciesCodeSequence": [code()], **INCOMPLETE[case]}
    fixed, moving = (with_sequences(tmp_path / role, n, sequences) for n, role in enumerate(("fixed", "moving")))
    for path in write_objects(result_of(fixed, moving, rigid(fixed), kind="rigid"), tmp_path).files.values():
        ds = dcmread(path)
        assert ds.PatientSpeciesCodeSequence[0].CodeMeaning == "CT"
        assert not sequences.keys() - {"PatientSpeciesCodeSequence"} & set(ds.dir())


def test_sound_sequences_are_copied_without_private_attributes(tmp_path):
    private = code()
    private.private_block(0x0011, "SOMEBODY", create=True).add_new(0x01, "LO", "secret")
    sound = {
        "ProcedureCodeSequence": [private, code(CodeValue=None, LongCodeValue="12345678901234567")],
        "OtherPatientIDsSequence": [issuer(PatientID="2", TypeOfPatientID="TEXT")],
        "IssuerOfAccessionNumberSequence": [issuer(UniversalEntityID="1.2.3", UniversalEntityIDType="ISO")],
    }
    fixed, moving = (with_sequences(tmp_path / role, n, sound) for n, role in enumerate(("fixed", "moving")))
    for path in write_objects(result_of(fixed, moving, rigid(fixed), kind="rigid"), tmp_path).files.values():
        ds = dcmread(path)
        assert [item.CodeMeaning for item in ds.ProcedureCodeSequence] == ["CT", "CT"]
        assert not any(element.tag.is_private for element in ds.iterall())
        assert ds.OtherPatientIDsSequence[0].PatientID == "2"
        assert ds.IssuerOfAccessionNumberSequence[0].UniversalEntityIDType == "ISO"


def test_a_number_that_is_none_is_left_out(tmp_path):
    fixed, moving = small_series(tmp_path / "fixed", 0), small_series(tmp_path / "moving", 1)
    for file in fixed.source.files:
        ds = dcmread(file)
        ds.PatientSize = "1.0"
        ds.save_as(file)
        file.write_bytes(file.read_bytes().replace(b" \x10DS\x04\x001.0 ", b" \x10DS\x04\x00abc "))
    fixed = read_image(tmp_path / "fixed")
    objects = write_objects(result_of(fixed, moving, rigid(fixed), kind="rigid"), tmp_path)
    assert "PatientSize" not in dcmread(objects.files["reg"])


@pytest.mark.parametrize("name", ["seg_fixed", "seg_moving", "reg", "dreg"])
def test_an_object_is_called_dcm_once_it_passed_its_check(images, tmp_path, monkeypatch, name):
    seen = []

    def check(verify):
        def checked(path, *args):
            seen.append(path.name.partition(".")[0])
            assert path.suffix != ".dcm"
            assert not (tmp_path / f"{seen[-1]}.dcm").exists()
            error = verify(path, *args)
            if seen[-1] == name:
                raise OutputInvalid("not what was meant")
            return error

        return checked

    for verify in (written_objects.verify_registration, written_objects.verify_segmentation):
        monkeypatch.setattr(written_objects, verify.__name__, check(verify))
    transform, stage = deformable(images[0])
    result = result_of(*images, transform, kind="deformable", stages={"rigid": stage, "deformable": transform})
    with pytest.raises(OutputInvalid, match="Not what was meant"):
        write_objects(result, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {f"{before}.dcm" for before in seen[:-1]}


def test_reading_refuses_what_is_no_registration(images, tmp_path):
    with pytest.raises(InputRefused, match="SOP class"):
        read_registration(images[0].source.files[0])
    (tmp_path / "text.dcm").write_text("not DICOM")
    with pytest.raises(InputRefused, match="cannot be read"):
        read_registration(tmp_path / "text.dcm")


def test_a_matrix_in_the_wrong_direction_does_not_pass(images, tmp_path):
    transform = rigid(images[0])
    path = write_objects(result_of(*images, transform, kind="rigid"), tmp_path).files["reg"]
    assert verify_registration(path, transform, *images) < 1e-6
    ds = dcmread(path)
    matrix = ds.RegistrationSequence[1].MatrixRegistrationSequence[0].MatrixSequence[0]
    matrix.FrameOfReferenceTransformationMatrix = [f"{v:.12f}" for v in transform.moving_from_fixed.ravel()]
    ds.save_as(path)
    with pytest.raises(OutputInvalid, match="misses the transform by") as error:
        verify_registration(path, transform, *images)
    assert error.value.reason == "dicom-not-reproducing"


def test_several_matrices_of_foreign_objects_apply_in_their_order(images, tmp_path):
    transform = affine(images[0])
    path = write_objects(result_of(*images, transform, kind="affine"), tmp_path).files["reg"]
    ds = dcmread(path)
    first, second = rigid(images[1]), affine(images[0])
    registration = ds.RegistrationSequence[1].MatrixRegistrationSequence[0]
    registration.MatrixSequence = [matrix_item(first.moving_from_fixed), matrix_item(second.moving_from_fixed)]
    expected = Affine(second.moving_from_fixed @ first.moving_from_fixed).inverse()
    np.testing.assert_allclose(read_registration(ds).moving_from_fixed, expected.moving_from_fixed, atol=1e-9)
