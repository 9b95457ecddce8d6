"""report.html as a file: complete, self-contained, and in agreement with report.json."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from samreg.constraints.measuring import ConstraintReport, KeptRegion
from samreg.errors import UsageError
from samreg.geometry import Volume
from samreg.io import read_image
from samreg.report import report_json, write_report
from tests.dicom_series import write_small
from tests.report_result import head_phantom, plausible_result

HEADINGS = (
    "Images",
    "Before and after",
    "Checkerboard",
    "Difference after",
    "Region pairs",
    "Displacement beyond the rigid part",
    "Jacobian determinant",
    "Quality",
    "Time",
    "Files",
)
VOID_TAGS = {"meta", "link", "img", "input", "br"}


@pytest.fixture(scope="module", autouse=True)
def small_pictures():
    """Pictures of 160 pixels: drawing takes most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("samreg.report.views.PIXELS", 160)
        yield


class Page(HTMLParser):
    """Elements, text by element, and whether every tag is closed in order."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.stack, self.text = [], [], ""
        self.feed(html)
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID_TAGS:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if self.stack and self.stack[-1] not in ("style", "script"):
            self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


def written(tmp_path, result, warped, **changes):
    path = tmp_path / "report.html"
    report = report_json(result, objects={"transform": "transform.h5"}) | changes
    write_report(result, warped, path, report=report)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    return Page(path.read_text(encoding="utf-8")), path


def small_head(**changes):
    return head_phantom(**{"shape": (26, 30, 22), "spacing_mm": (8.0, 8.0, 8.5), **changes})


@pytest.fixture(scope="module")
def bent():
    return plausible_result(small_head(), rois=5)


@pytest.fixture(scope="module")
def page(bent, tmp_path_factory):
    return written(tmp_path_factory.mktemp("bent"), *bent)


def test_every_part_is_there(page):
    found, path = page
    assert all(heading in found.text for heading in HEADINGS)
    assert len([i for i in found.all("input") if i["type"] == "range"]) == 2
    assert path.stat().st_size < 8e6


def test_status_reasons_and_verdicts_are_words(page, bent):
    text = page[0].text
    assert "REVIEW" in text
    assert bent[0].quality.reasons[0] in text
    for criterion in bent[0].quality.criteria:
        assert criterion.measure in text
        assert criterion.asked in text
    assert all(f" {verdict}" in text for verdict in ("met", "not met", "not judged"))
    assert "not a cleared medical device" in text


def test_nothing_is_fetched(page):
    found, path = page
    assert all(i["src"].startswith("data:image/webp;base64,") for i in found.all("img"))
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)|url\((?!#)|@import|https?://""", path.read_text("utf-8"))
    (policy,) = (m["content"] for m in found.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert not any("style" in attrs or any(a.startswith("on") for a in attrs) for _, attrs in found.elements)


def test_every_picture_says_what_it_shows(page):
    found = page[0]
    for image in found.all("img"):
        assert len(image["alt"]) > 8
    assert any("R on the left, A on top" in i["alt"] for i in found.all("img"))
    assert all(i["aria-label"] for i in found.all("input"))


def test_pairs_have_one_number_and_colour_everywhere(page, bent):
    found = page[0]
    colours = {}
    for path in found.all("path"):
        if "data-pair" in path:
            colours.setdefault(path["data-pair"], set()).add(path["stroke"])
            held_out = {str(p.id) for p in bent[0].pairs if p.held_out}
            assert ("held" in path["class"].split()) == (path["data-pair"] in held_out)
    assert set(colours) == {str(p.id) for p in bent[0].pairs}
    assert all(len(c) == 1 for c in colours.values())
    assert found.text.count("held out") >= len(bent[0].pairs.held_out)


def test_numbers_are_those_of_the_json(page):
    text = page[0].text
    assert "0.312" in text
    assert "0.887" in text
    assert re.search(r"Dice of held-out pairs\s*–\s*0\.84", re.sub(r"\s+", " ", text))


def test_the_checks_counted_are_those_that_were_judged(page):
    text = re.sub(r"\s+", " ", page[0].text)
    assert re.search(r"3 of 4\s?checks", text)
    assert "1 could not be" in text
    assert "mirrored left to right" in text


def test_the_series_behind_an_image_is_shown_without_the_patient(tmp_path, bent):
    result, warped = bent
    patient = {"PatientName": "Secret^Person", "PatientID": "SECRET-7", "PatientBirthDate": "19510203"}
    write_small(tmp_path / "in", series_number=407, series_uid="1.2.840.99.123456789012", overrides=patient)
    read = read_image(tmp_path / "in")
    moving = replace(result.moving, source=read.source, notes={"skipped": "1 file skipped, not DICOM"})
    (tmp_path / "out").mkdir()
    found, path = written(tmp_path / "out", replace(result, moving=moving), warped)
    (row,) = re.findall(r"<tr>(?:(?!<tr>).)*\b407\b.*?</tr>", path.read_text("utf-8"), re.DOTALL)
    assert "123456789012" in row
    assert found.text.count("Moving: 1 file skipped, not DICOM") == 1
    assert report_json(replace(result, moving=moving), objects=None)["moving"]["acquired"] in found.text
    assert not any(word in path.read_text("utf-8").lower() for word in ("secret", "^person", "19510203", "1951-02-03"))


def test_words_from_outside_are_escaped(tmp_path, bent):
    result, warped = bent
    evil = "<script>alert(1)</script>"
    result = replace(result, fixed=replace(result.fixed, name=evil), pairs=replace(result.pairs, pairs=()))
    found, _ = written(tmp_path, result, warped, warnings=[evil])
    assert len(found.all("script")) == 1
    assert found.text.count(evil) == 2


def test_what_is_known_stands_once_and_what_is_not_stands_nowhere(tmp_path, bent):
    result, warped = bent
    known = {"method": "hybrid", "variant": None, "encoder": "sam", "precision": "float64"}
    found, _ = written(tmp_path, replace(result, provenance=known), warped)
    assert found.text.count("Method") == 1
    assert "Encodersam" in found.text
    assert "Variant" not in found.text
    assert "null" not in found.text


@pytest.mark.parametrize(
    ("measured", "shown"),
    [(3e-14, "below 0.001 voxel"), (-2e-5, "between −0.001 and 0 voxel"), (0.0, "0 voxel"), (0.12349, "0.1235 voxel")],
)
def test_numbers_are_written_as_a_reader_expects_them(tmp_path, bent, measured, shown):
    result, warped = bent
    criterion = replace(result.quality.criteria[-1], measured=measured)
    quality = replace(result.quality, criteria=(criterion,))
    found, _ = written(tmp_path, replace(result, quality=quality), warped)
    assert shown in found.text


@pytest.mark.parametrize("kind", ["identity", "rigid", "affine"])
def test_every_kind_of_transform_has_its_report(tmp_path, kind):
    found, _ = written(tmp_path, *plausible_result(small_head(), kind=kind, rois=2))
    assert ("Displacement" in found.text) == (kind != "identity")
    assert "Jacobian determinant" not in found.text.replace("Smallest Jacobian determinant", "")
    assert "deformable was requested" in found.text
    assert "Fall-back:" in found.text


def test_no_pairs_no_table(tmp_path):
    found, _ = written(tmp_path, *plausible_result(small_head(), kind="rigid", rois=0, status="FAIL"))
    assert "Region pairs" in found.text  # the count, at the head
    assert not any(e.get("id") == "pairs" for e in found.all("section"))
    assert "Do not use it." in found.text


def test_2d_picture(tmp_path):
    found, _ = written(
        tmp_path, *plausible_result(head_phantom((90, 70, 1), (0.5, 0.5, 1.0)), shift_mm=(3, 2, 0), rois=3)
    )
    assert len([i for i in found.all("img") if i["alt"].startswith("Fixed image")]) == 2  # the row and the fade
    assert "Axial" not in found.text
    sizes = {(i["width"], i["height"]) for i in found.all("img")}
    assert any(int(w) > int(h) for w, h in sizes)


def test_thin_oblique_stack_keeps_its_proportions(tmp_path):
    turn = np.array([[0.9, -0.3, 0.3], [0.3, 0.95, 0.05], [-0.3, 0.05, 0.95]])
    q, r = np.linalg.qr(turn)
    stack = head_phantom((60, 60, 10), (3.0, 3.0, 9.0), q * np.sign(np.diag(r)))
    found, _ = written(tmp_path, *plausible_result(stack, kind="affine", rois=3))
    coronal = next(i for i in found.all("img") if i["alt"].startswith("Fixed image, coronal"))
    assert int(coronal["width"]) / int(coronal["height"]) == pytest.approx(2.0, rel=0.02)
    assert "tilted" in found.text


def test_no_difference_between_modalities(tmp_path, bent):
    result, warped = bent
    other = replace(result, moving=replace(result.moving, modality="US"))
    found, _ = written(tmp_path, other, warped)
    assert "Difference after" not in found.text
    assert "intensities of two modalities" in found.text


def test_images_that_do_not_meet_before_registration(tmp_path):
    far = (0.0, 0.0, 700.0)
    fixed = small_head()
    there = fixed.grid.affine.copy()
    there[:3, 3] += far
    moving = Volume(fixed.voxels, type(fixed.grid)(fixed.grid.shape, there), modality="MR")
    found, _ = written(tmp_path, *plausible_result(fixed, kind="rigid", rois=2, shift_mm=far, moving=moving))
    assert "the two images do not overlap" in found.text


def test_folding_is_told(tmp_path):
    from samreg.transforms import DisplacementField

    result, warped = plausible_result(small_head(), rois=0)
    grid = result.fixed.grid
    wild = 60 * np.sin(grid.points() / 9).astype(np.float32)
    folded = replace(result, transform=DisplacementField(grid, wild), stages={})
    found, _ = written(tmp_path, folded, warped)
    lowest = float(re.search(r"local change of volume, from (-?[\d.]+)", found.text).group(1))
    assert lowest < 0


def test_warped_image_must_be_on_the_fixed_grid(tmp_path, bent):
    result, warped = bent
    with pytest.raises(UsageError, match="warped"):
        write_report(result, warped[1:], tmp_path / "report.html", report=report_json(result, objects=None))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keeps", ["keep-volume", "keep-rigid"])
def test_a_kept_region_is_named_so_that_it_is_found_again(tmp_path, bent, keeps):
    region = KeptRegion(1, 7, "organs.nii.gz", 1500.0, (12.0, -3.5, 88.0), keeps, 1.0, 0.9, 1.1, 0.1, 0.15)
    result, warped = bent
    page, _ = written(tmp_path, replace(result, constraints=ConstraintReport(regions=(region,))), warped)
    assert "7 in organs.nii.gz" in page.text
    assert "12.0, -3.5, 88.0" in page.text
    assert ("Its voxels may still grow or shrink" in page.text) == (keeps == "keep-volume")
