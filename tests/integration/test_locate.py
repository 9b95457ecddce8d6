"""`samreg locate`: what it takes, prints and writes."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from samreg import cli, phantoms
from samreg.io import read_image
from samreg.io.writing import write_image
from samreg.shipped import weights_file
from tests.instant import instant_result
from tests.tiny_sam import tiny_sam
from tests.true_regions import true_regions
from tests.unit.test_io_labels import write_seg

FILES = {"locate.json", "roi_fixed.nii.gz", "roi_moving.nii.gz"}
LIVER = 8


@pytest.fixture
def pair(study: Path) -> list[str]:
    return ["locate", str(study / "fixed"), str(study / "moving"), "--quiet"]


@pytest.fixture
def paired(study: Path):
    """What the stand-in for the pipeline finds in the study."""
    return instant_result(read_image(study / "fixed"), read_image(study / "moving"))


@pytest.fixture
def in_pair(paired) -> list[str]:
    """A point inside the first pair."""
    roi = paired.pairs.pairs[0].fixed
    return ["--point", *(str(c) for c in paired.fixed.grid.lps(roi.centroid_ijk[None])[0])]


def answer(capsys) -> dict:
    return json.loads(capsys.readouterr().out)


def test_locate_prints_the_counterpart_of_a_point(study: Path, instant, capsys):
    fixed = read_image(study / "fixed")
    point = [str(c) for c in fixed.grid.lps(np.array([fixed.grid.shape]) // 4)[0]]  # in the first region
    pair = [str(study / "fixed"), str(study / "moving")]
    assert cli.main(["locate", *pair, "--point", *point, "--quiet"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pair"]["id"] == 1
    assert cli.main(["locate", *pair, "--point", "9999", "0", "0", "--quiet"]) == 3
    assert "outside the fixed image" in capsys.readouterr().err


def test_a_point_keeps_the_fields_it_had(pair, in_pair, instant, capsys):
    assert cli.main([*pair, *in_pair]) == 0
    found = answer(capsys)
    assert {"point_lps_mm", "mapped_point_lps_mm", "status", "reasons", "pair", "kind", "fallbacks"} <= set(found)
    assert found["by"] == "registration"
    assert found["pair"]["id"] == 1
    assert found["fixed"] == found["pair"]["fixed"]
    assert found["moving"] == found["pair"]["moving"]
    assert found["confidence"] == found["pair"]["confidence"]
    assert found["hashes"]["weights"] == hashlib.sha256(weights_file().read_bytes()).hexdigest()


def test_a_failed_registration_is_not_trusted(pair, in_pair, instant, capsys):
    instant.status = "FAIL"
    assert cli.main([*pair, *in_pair]) == 4
    found = answer(capsys)
    assert found["status"] == "FAIL"
    assert found["confidence"] == 0
    assert "must not be used" in found["notes"][0]


@pytest.mark.parametrize("prompt", ["box", "label map", "SEG"])
def test_a_box_or_region_leads_to_what_it_is_mapped_on(prompt, pair, paired, instant, tmp_path, capsys):
    chosen, grid = paired.pairs.pairs[1].fixed, paired.fixed.grid
    if prompt == "box":
        corners = np.array([chosen.start, np.add(chosen.start, chosen.shape) - 1], float)
        options = ["--box", *(str(c) for c in grid.lps(corners).ravel())]
    elif prompt == "label map":
        write_image(paired.pairs.label_map("fixed")[0], grid, tmp_path / "rois.nii.gz")
        options = ["--roi", str(tmp_path / "rois.nii.gz"), "--label", "2"]
    else:
        write_seg(paired.fixed, np.stack([p.fixed.mask(grid.shape) for p in paired.pairs]), tmp_path / "seg.dcm")
        options = ["--roi", str(tmp_path / "seg.dcm"), "--label", "2"]
    assert cli.main([*pair, *options]) == 0
    found = answer(capsys)
    np.testing.assert_allclose(found["fixed"]["centroid_lps_mm"], grid.lps(chosen.centroid_ijk[None])[0], atol=1e-3)
    mapped = paired.transform.map_points(grid.lps(chosen.centroid_ijk[None]))[0]
    assert np.linalg.norm(np.array(found["moving"]["centroid_lps_mm"]) - mapped) < paired.moving.grid.spacing_mm.max()
    assert 0.5 < found["overlap_dice"] == found["confidence"]
    confirming = paired.moving.grid.lps(paired.pairs.pairs[1].moving.centroid_ijk[None])[0]
    np.testing.assert_allclose(found["runner_up"]["centroid_lps_mm"], confirming, atol=1e-3)


def test_a_lesion_within_an_organ_is_whole(pair, paired, instant, tmp_path, capsys):
    """Segments of a SEG may overlap; the one that is asked for is taken from below the others."""
    lesion = paired.pairs.pairs[1].fixed.mask(paired.fixed.grid.shape)
    write_seg(paired.fixed, np.stack([lesion, np.ones_like(lesion)]), tmp_path / "seg.dcm")
    assert cli.main([*pair, "--roi", str(tmp_path / "seg.dcm"), "--label", "1", "-o", str(tmp_path / "out")]) == 0
    np.testing.assert_array_equal(read_image(tmp_path / "out" / "roi_fixed.nii.gz").voxels == 1, lesion)


def test_a_mapped_region_that_nothing_confirms_has_no_confidence(pair, paired, instant, capsys):
    voxels = np.array([[20.0, 20, 3], [22, 22, 4]])
    options = ["--box", *(str(c) for c in paired.fixed.grid.lps(voxels).ravel())]
    assert cli.main([*pair, *options]) == 0
    found = answer(capsys)
    assert found["confidence"] == 0
    assert found["runner_up"] is None
    assert found["overlap_dice"] is None
    assert "confirms the mapped one" in found["notes"][0]


def test_the_answer_is_written_whole(pair, in_pair, instant, tmp_path, capsys):
    out = tmp_path / "out"
    for _ in range(2):  # an earlier answer is replaced
        assert cli.main([*pair, *in_pair, "-o", str(out)]) == 0
        printed = answer(capsys)
        assert {p.name for p in out.iterdir()} == FILES
    assert json.loads((out / "locate.json").read_text(encoding="utf-8")) == printed
    moving = read_image(out / "roi_moving.nii.gz")
    np.testing.assert_allclose(
        moving.grid.lps(np.argwhere(moving.voxels == 1).mean(0)[None])[0],
        printed["moving"]["centroid_lps_mm"],
        atol=1e-3,
    )
    assert set(np.unique(read_image(out / "roi_fixed.nii.gz").voxels)) == {0, 1}


def test_a_refusal_leaves_nothing(pair, instant, tmp_path, capsys):
    assert cli.main([*pair, "--point", "9999", "0", "0", "-o", str(tmp_path / "out")]) == 3
    assert "outside the fixed image" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert instant.calls == 0


def test_other_results_are_not_touched(pair, in_pair, instant, tmp_path, capsys):
    (tmp_path / "report.json").write_text("{}")
    assert cli.main([*pair, *in_pair, "-o", str(tmp_path)]) == 2
    assert "report.json" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--point", "0", "0", "0", "--label", "1"], "--roi"),
        (["--roi", "ROIS"], "--label"),
        (["--roi", "ROIS", "--label", "9"], "label 9"),
    ],
)
def test_wrong_combinations_end_with_2(options, word, pair, paired, instant, tmp_path, capsys):
    write_image(paired.pairs.label_map("fixed")[0], paired.fixed.grid, tmp_path / "rois.nii.gz")
    options = [str(tmp_path / "rois.nii.gz") if o == "ROIS" else o for o in options]
    assert cli.main([*pair, *options]) == 2
    assert word in capsys.readouterr().err
    assert instant.calls == 0


def test_a_promptable_model_answers_without_registering(tmp_path, instant, capsys):
    phantom = phantoms.pair("rigid", fixed_grid=phantoms.grid("axial", 48), rotation_deg=4, translation_mm=10)
    tiny_sam(512).save_pretrained(tmp_path / "weights")
    images = {}
    for role in ("fixed", "moving"):
        volume = getattr(phantom, role)
        write_image(volume.voxels, volume.grid, tmp_path / f"{role}.nii.gz")
        images[read_image(tmp_path / f"{role}.nii.gz").content_hash] = getattr(phantom, f"{role}_labels")
    write_image(phantom.fixed_labels, phantom.fixed.grid, tmp_path / "labels.nii.gz")
    out = tmp_path / "out"
    arguments = ["locate", *(str(tmp_path / f"{role}.nii.gz") for role in ("fixed", "moving")), "--quiet"]
    arguments += ["--roi", str(tmp_path / "labels.nii.gz"), "--label", str(LIVER), "-o", str(out)]
    with true_regions(images):
        assert (
            cli.main([*arguments, "--encoder", "sam", "--weights", str(tmp_path / "weights"), "--device", "cpu"]) == 0
        )
    found = answer(capsys)
    assert instant.calls == 0
    assert found["by"] == "prompts"
    assert found["label"] == LIVER
    assert len(found["hashes"]["weights"]) == 64
    assert {p.name for p in out.iterdir()} == FILES
    moving = read_image(out / "roi_moving.nii.gz").voxels
    assert (phantom.moving_labels[moving == 1] == LIVER).all()
    assert (phantom.moving_labels[moving == 2] != LIVER).all()
    fixed = read_image(out / "roi_fixed.nii.gz").voxels
    np.testing.assert_array_equal(fixed == 1, phantom.fixed_labels == LIVER)
