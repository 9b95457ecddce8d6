"""report.json: the contract that other software reads."""

from __future__ import annotations

import json
from dataclasses import replace

import jsonschema
import numpy as np
import pytest
from pydicom.dataset import Dataset

from samreg import __version__
from samreg.constraints.measuring import ConstraintReport, KeptRegion
from samreg.errors import InputRefused, OutputInvalid, UsageError, reading
from samreg.io import read_image
from samreg.report import refusal_json, report_json, schema, write_json
from samreg.report.acquisition import acquired
from tests.dicom_series import write_small
from tests.report_result import head_phantom, plausible_result


@pytest.fixture(scope="module")
def result():
    return plausible_result(head_phantom((24, 28, 20), (8.0, 8.0, 9.0)), kind="rigid", rois=4)[0]


def checked(document):
    validator = jsonschema.Draft202012Validator(schema())
    validator.check_schema(schema())
    validator.validate(document)
    return document


def test_report_says_what_the_result_says(result):
    document = checked(report_json(result, objects={"transform": "transform.h5"}, warnings=["Look twice."]))
    assert document["status"] == "REVIEW"
    assert document["reasons"] == list(result.quality.reasons)
    assert (document["asked"], document["kind"]) == ("deformable", "rigid")
    assert document["fallbacks"] == list(result.fallbacks)
    assert document["pairs"]["total"] == len(result.pairs)
    assert document["pairs"]["held_out"] == len(result.pairs.held_out) >= 1
    assert np.allclose(document["transform"]["matrix"], result.transform.moving_from_fixed)
    assert document["timings_s"]["estimate"] == 21.7
    assert document["versions"] == {"samreg": __version__, "torch": "2.13.0", "numpy": "2.4.6"}
    assert document["hashes"]["config"] == result.config.hash
    assert document["hashes"]["fixed"] == result.fixed.content_hash
    assert document["provenance"] == {"seed": 0}
    assert document["objects"] == {"transform": "transform.h5"}
    assert document["warnings"] == ["Look twice."]
    assert "not a cleared medical device" in document["notice"]


def test_a_kept_region_is_stated_with_its_place_in_the_mask(result):
    region = KeptRegion(1, 7, "organs.nii.gz", 1500.0, (12.0, -3.5, 88.0), "keep-rigid", 1.0, 0.9, 1.1, 0.1, 0.15)
    asked = replace(result, constraints=ConstraintReport(regions=(region,)))
    (stated,) = checked(report_json(asked, objects={}))["constraints"]["regions"]
    assert (stated["label"], stated["mask"], stated["volume_mm3"]) == (7, "organs.nii.gz", 1500.0)
    assert stated["centre_lps_mm"] == [12.0, -3.5, 88.0]


def test_what_was_not_measured_is_null(result):
    document = report_json(result, objects=None)
    assert document["metrics"]["before"]["held_out_dice"] is None
    assert document["metrics"]["after"]["held_out_dice"] == 0.84
    assert [c["measured"] for c in document["criteria"] if c["verdict"] == "not judged"] == [None]


def test_notes_name_their_image_and_thing_once(result):
    same = {"identical": "Both images hold the same voxels: is one a copy of the other?", "patient_check": "skipped"}
    fixed = {"skipped": "1 file skipped, not DICOM", "pixel_spacing": "as given", **same}
    moving = {"pixel_spacing": "as given", **same}
    noted = replace(result, fixed=replace(result.fixed, notes=fixed), moving=replace(result.moving, notes=moving))
    warnings = report_json(noted, objects=None, warnings=["No SEG."])["warnings"]
    assert warnings[0] == "No SEG."
    assert len(warnings) == 6

    def said(text: str) -> list[str]:
        return [warning for warning in warnings if text in warning]

    assert said("skipped, not DICOM") == [w for w in said("1 file") if w.startswith("Fixed: ")]
    assert {w.partition(":")[0] for w in said("ixel spacing as given")} == {"Fixed", "Moving"}
    assert said("same voxels") == [same["identical"]]
    (check,) = said("atient check")
    assert "skipped" in check


def test_an_image_says_which_series_it_is(result, tmp_path):
    write_small(tmp_path, series_number=7, series_uid="1.2.3", overrides={"PatientName": "Secret^Person"})
    document = checked(report_json(replace(result, moving=read_image(tmp_path)), objects=None))
    assert document["moving"]["series_number"] == 7
    assert document["moving"]["series_uid"] == "1.2.3"
    assert document["moving"]["acquired"].startswith("20")
    assert document["fixed"]["acquired"] is None
    assert "Secret" not in json.dumps(document)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"AcquisitionDate": "20240312", "AcquisitionTime": "101500.25"}, "2024-03-12 10:15:00"),
        ({"AcquisitionDateTime": "20240312101500+0100"}, "2024-03-12 10:15:00+01:00"),
        ({"SeriesDate": "20240312", "SeriesTime": "1015"}, "2024-03-12 10:15:00 (series)"),
        ({"StudyDate": "20240312"}, "2024-03-12 (study)"),
        ({"AcquisitionDate": "", "PatientBirthDate": "19700101"}, None),
    ],
)
def test_date_and_time_of_acquisition(values, said):
    header = Dataset()
    for keyword, value in values.items():
        setattr(header, keyword, value)
    assert acquired(header) == said


def test_a_deformable_transform_has_no_matrix():
    bent = plausible_result(head_phantom((16, 18, 14), (12.0, 12.0, 13.0)), rois=0)[0]
    assert checked(report_json(bent, objects=None))["transform"]["matrix"] is None


def test_numpy_values_in_provenance_become_plain(result):
    odd = replace(result, provenance={"scale": np.float32(2.5), "shape": np.array([1, 2]), "worst": np.float64("inf")})
    assert report_json(odd, objects=None)["provenance"] == {"scale": 2.5, "shape": [1, 2], "worst": None}


def test_what_json_cannot_say_is_an_error(result):
    with pytest.raises(UsageError, match="object"):
        report_json(replace(result, provenance={"thing": object()}), objects=None)


def test_refusal_has_the_same_fields_and_the_reason(result):
    error = InputRefused(
        "the moving series has a gap after slice 7",
        "evenly spaced slices",
        "Export the series again.",
        reason="missing-slices",
    )
    document = checked(refusal_json(error, asked="rigid", roles="as given", versions={"torch": "2.13.0"}))
    assert set(document) == set(report_json(result, objects=None))
    assert document["status"] == "REFUSED"
    assert document["reasons"] == [error.sentence]
    assert document["error"]["reason"] == "missing-slices"
    assert document["error"]["next_step"] == "Export the series again."
    assert document["exit_code"] == 3
    assert document["asked"] == "rigid"
    assert document["objects"] == {}
    assert document["versions"] == {"samreg": __version__, "torch": "2.13.0"}


def test_refusal_of_one_of_the_images_says_which():
    with pytest.raises(InputRefused) as caught, reading("moving"):
        raise InputRefused("the folder is empty", reason="empty-folder")
    document = checked(refusal_json(caught.value))
    assert document["error"]["role"] == "moving"
    assert document["error"]["got"] == "the folder is empty"
    assert document["reasons"][0].startswith("Moving image: the folder is empty. Expected")
    assert str(caught.value) == caught.value.sentence


def test_refusal_keeps_the_exit_code_of_the_error():
    assert checked(refusal_json(UsageError("no such preset")))["exit_code"] == 2
    assert checked(refusal_json(OutputInvalid("reg.dcm does not reproduce the transform")))["exit_code"] == 1


@pytest.mark.parametrize("context", [{"colour": "red"}, {"status": "PASS"}])
def test_refusal_takes_no_other_context(context):
    with pytest.raises(UsageError):
        refusal_json(InputRefused("an empty folder", reason="empty-folder"), **context)


def test_file_is_strict_json_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "report.json"
    document = refusal_json(InputRefused("the folder 'größe' is empty", reason="empty-folder")) | {
        "provenance": {"share": float("nan")}
    }
    write_json(document, path)

    def refuse(word):
        raise AssertionError(word)

    read = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    assert read["provenance"]["share"] is None
    assert "größe" in read["reasons"][0]
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


def test_schema_refuses_a_report_without_a_verdict(result):
    document = report_json(result, objects=None)
    for broken in (
        {**document, "status": "FINE"},
        {**document, "error": {"reason": "r", "got": "g", "expected": "", "next_step": ""}},
        {k: v for k, v in document.items() if k != "criteria"},
        {**document, "criteria": [{**document["criteria"][0], "verdict": "maybe"}]},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, schema())
