"""Where the confidences of pairs come from, in the encoders and in what a run leaves."""

import json
from dataclasses import replace

import jsonschema
import pytest

from samreg.embedded.files import save_network
from samreg.embedded.network import EmbeddedNetwork, Size
from samreg.encoders import create_encoder
from samreg.outputs import write_images
from samreg.report import report_json, schema, write_report
from tests.report_result import head_phantom, plausible_result
from tests.tiny_sam import tiny_sam

KEY = "confidences_fitted_on"
TINY = Size(widths=(8, 16, 16, 24), depths=(1, 1, 1, 1), layers=1, width=16, query_width=32, mask_channels=8)


def test_the_encoders_of_the_library_are_calibrated():
    assert "handcrafted" in create_encoder("handcrafted").calibration.fitted_on
    assert "embedded" in create_encoder("embedded").calibration.fitted_on


def test_a_sam_model_and_a_network_without_a_calibration_are_not(tmp_path):
    tiny_sam(128).save_pretrained(tmp_path / "sam")
    save_network(EmbeddedNetwork(TINY), tmp_path / "network.safetensors", {})
    assert create_encoder("sam", weights=tmp_path / "sam").calibration.fitted_on is None
    assert create_encoder("embedded", weights=tmp_path / "network.safetensors").calibration.fitted_on is None


@pytest.fixture(scope="module")
def result():
    return plausible_result(head_phantom((24, 28, 20), (8.0, 8.0, 9.0)), kind="rigid", rois=4)


@pytest.mark.parametrize(
    ("provenance", "sentence"),
    [
        ({KEY: "phantoms, with a test"}, "The confidences of the pairs were fitted on phantoms, with a test."),
        ({KEY: None}, "The confidences of the pairs are not calibrated for this encoder"),
        ({}, None),
    ],
    ids=["calibrated", "not calibrated", "label maps"],
)
def test_a_run_says_what_its_confidences_were_fitted_on(result, provenance, sentence, tmp_path, monkeypatch):
    monkeypatch.setattr("samreg.report.views.PIXELS", 160)
    found, warped = result
    found = replace(found, provenance={**found.provenance, **provenance})
    report = report_json(found, objects=None)
    jsonschema.validate(report, schema())
    write_images(found, tmp_path)
    write_report(found, warped, tmp_path / "report.html", report=report)
    pairs = json.loads((tmp_path / "pairs.json").read_text(encoding="utf-8"))
    page = " ".join((tmp_path / "report.html").read_text(encoding="utf-8").split())
    for told in (pairs, report["provenance"]):
        assert {key: value for key, value in told.items() if key == KEY} == provenance
    said = page.partition("The confidences of the pairs")
    assert ("".join(said[1:]).startswith(sentence)) if sentence else not said[1]
