"""From a prompt to its counterpart, with masks and embeddings that are the phantom's true regions."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from samreg import phantoms
from samreg.config import Config
from samreg.counterparts.by_prompts import Candidate, confidence
from samreg.counterparts.prompted_image import Region
from samreg.encoders import create_encoder
from samreg.errors import InputRefused, UsageError
from samreg.geometry import Grid, Volume
from samreg.locate import Box, GivenRoi, Located, Point, locate
from samreg.rois import Roi
from samreg.sam.model import SamFamilyModel
from tests.tiny_sam import tiny_sam
from tests.true_regions import true_regions

LIVER, STOMACH, SPLEEN, SPINE, COLON = 8, 11, 12, 19, 22


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Config:
    path = tmp_path_factory.mktemp("weights")
    tiny_sam(512).save_pretrained(path)
    return Config(encoder="sam", weights=str(path), device="cpu")


@pytest.fixture(scope="module")
def phantom() -> phantoms.Phantom:
    return phantoms.pair("rigid", fixed_grid=phantoms.grid("axial", 48), rotation_deg=6, translation_mm=10)


@pytest.fixture
def known(phantom):
    with true_regions(labels_by_image(phantom)):
        yield


@pytest.fixture
def encoded(monkeypatch) -> list[int]:
    """How many slices each run of the encoder took."""
    runs: list[int] = []
    inner = SamFamilyModel.encode
    monkeypatch.setattr(SamFamilyModel, "encode", lambda self, p: runs.append(len(p)) or inner(self, p))
    return runs


def labels_by_image(phantom) -> dict[str, np.ndarray]:
    return {
        phantom.fixed.content_hash: phantom.fixed_labels,
        phantom.moving.content_hash: phantom.moving_labels,
    }


def middle_voxel(labels: np.ndarray, label: int) -> np.ndarray:
    """The voxel of a label's greatest slice that is nearest to its centroid there."""
    k = int((labels == label).sum((0, 1)).argmax())
    voxels = np.argwhere(labels[:, :, k] == label)
    i, j = voxels[np.linalg.norm(voxels - voxels.mean(0), axis=1).argmin()]
    return np.array([i, j, k])


def point_in(phantom, label: int) -> Point:
    return Point(phantom.fixed.grid.lps(middle_voxel(phantom.fixed_labels, label)[None])[0])


def share_of(labels: np.ndarray, roi: Roi, label: int) -> float:
    return float((labels[roi.where][roi.box] == label).mean())


@pytest.mark.parametrize("label", [LIVER, STOMACH, SPLEEN, SPINE])
def test_a_point_leads_to_its_counterpart(phantom, known, config, label):
    found = locate(phantom.fixed, phantom.moving, point_in(phantom, label), config)
    assert found.by == "prompts"
    assert share_of(phantom.fixed_labels, found.fixed, label) == 1
    assert share_of(phantom.moving_labels, found.moving, label) == 1
    assert found.fixed.is_2d
    assert found.moving.is_2d
    assert found.similarity > 0.9
    assert 0.5 < found.confidence <= 1
    assert found.details["cycle_iou"] == 1
    # The counterpart lies where the truth says, in the slice and across it.
    grid = phantom.moving.grid
    true = phantom.truth.map_points(point_in(phantom, label).lps_mm[None])[0]
    assert np.linalg.norm(grid.lps(found.moving.centroid_ijk[None])[0] - true) < 35


def test_the_runner_up_is_another_structure(phantom, known, config):
    found = locate(phantom.fixed, phantom.moving, point_in(phantom, SPLEEN), config)
    assert found.runner_up is not None
    assert share_of(phantom.moving_labels, found.runner_up, SPLEEN) == 0
    assert found.details["runner_up_score"] < found.details["score"]
    _, moving = found.label_maps()
    assert (moving == 1).sum() == found.moving.count
    assert (moving == 2).sum() == found.runner_up.count


@pytest.mark.parametrize("range_mm", [10.0, 30.0])
def test_only_the_slices_that_can_hold_it_are_encoded(phantom, known, config, encoded, range_mm):
    config = config.with_values({"matching": {"slice_range_mm": range_mm}})
    point = point_in(phantom, LIVER)
    found = locate(phantom.fixed, phantom.moving, point, config)
    slices = found.details["slices"]
    assert slices["fixed_encoded"] == list(range(found.fixed.start[2], found.fixed.start[2] + 1))
    near = np.abs(np.arange(phantom.moving.grid.shape[2]) - found.fixed.start[2]) * phantom.moving.grid.spacing_mm[2]
    assert slices["moving_encoded"] == np.flatnonzero(near <= range_mm).tolist()
    assert sum(encoded) == 1 + len(slices["moving_encoded"])


def test_scanner_coordinates_count_only_within_one_frame_of_reference(phantom, config):
    """The moving series was scanned 300 mm further along; its coordinates mean something only in the same frame."""
    affine = phantom.moving.grid.affine.copy()
    affine[2, 3] += 300
    away = replace(phantom.moving, grid=Grid(phantom.moving.grid.shape, affine), frame_of_reference_uid="1.2.3")
    labels = {**labels_by_image(phantom), away.content_hash: phantom.moving_labels}
    point = point_in(phantom, LIVER)
    with true_regions(labels):
        with pytest.raises(InputRefused) as error:
            locate(replace(phantom.fixed, frame_of_reference_uid="1.2.3"), away, point, config)
        assert error.value.reason == "no-slice-in-range"
        found = locate(replace(phantom.fixed, frame_of_reference_uid="1.2.4"), away, point, config)
        same = locate(
            *(replace(v, frame_of_reference_uid="1.2.3") for v in (phantom.fixed, phantom.moving)), point, config
        )
    assert share_of(phantom.moving_labels, found.moving, LIVER) == 1
    assert "middle of the field of view" in found.details["slices"]["paired_by"]
    assert "frame of reference" in same.details["slices"]["paired_by"]


def test_a_box_leads_to_its_counterpart(phantom, known, config):
    k = middle_voxel(phantom.fixed_labels, LIVER)[2]
    voxels = np.argwhere(phantom.fixed_labels[:, :, k] == LIVER)
    corners = np.array([[*(voxels.min(0) - 0.5), k - 2], [*(voxels.max(0) + 0.5), k + 2]])
    found = locate(phantom.fixed, phantom.moving, Box(phantom.fixed.grid.lps(corners)), config)
    assert found.fixed.start[2] == k
    assert share_of(phantom.fixed_labels, found.fixed, LIVER) == 1
    assert share_of(phantom.moving_labels, found.moving, LIVER) == 1


def test_a_region_of_several_slices_is_followed_over_its_extent(phantom, known, config, encoded):
    given = GivenRoi(phantom.fixed_labels == SPINE, SPINE)
    some = given.mask.copy()
    some[:, :, :10] = some[:, :, 15:] = False
    found = locate(phantom.fixed, phantom.moving, GivenRoi(some, SPINE), config)
    assert found.fixed.shape[2] == 5
    assert found.fixed.label == SPINE
    assert 2 <= found.moving.shape[2] <= 5
    assert share_of(phantom.moving_labels, found.moving, SPINE) == 1
    assert found.as_dict()["moving"]["volume_mm3"] > 0
    assert len(found.details["slices"]["fixed_encoded"]) == 1
    assert sum(encoded) < phantom.fixed.grid.shape[2]


def test_flipped_slices_are_followed_the_right_way(phantom, config):
    """The moving image is stored from head to feet: what lies above in the fixed image has lower slice numbers."""
    grid = phantom.fixed.grid
    affine = grid.affine.copy()
    affine[:3, 2] *= -1
    affine[:3, 3] = grid.lps(np.array([[0.0, 0, grid.shape[2] - 1]]))[0]
    flipped = Volume(np.ascontiguousarray(phantom.fixed.voxels[:, :, ::-1]), Grid(grid.shape, affine))
    labels = phantom.fixed_labels[:, :, ::-1]
    some = phantom.fixed_labels == LIVER
    ks = np.flatnonzero(some.any((0, 1)))
    greatest = int(some.sum((0, 1)).argmax())
    some[:, :, :greatest] = False  # goes on upwards alone
    with true_regions({phantom.fixed.content_hash: phantom.fixed_labels, flipped.content_hash: labels}):
        found = locate(phantom.fixed, flipped, GivenRoi(some), config)
    last = found.moving.start[2] + found.moving.shape[2] - 1
    assert found.moving.shape[2] > 1
    assert last == grid.shape[2] - 1 - greatest
    assert found.moving.shape[2] <= ks.max() - greatest + 1


def test_pictures(config):
    phantom = phantoms.pair("rigid", fixed_grid=phantoms.grid("picture", 96), rotation_deg=8, translation_mm=10)
    with true_regions(labels_by_image(phantom)):
        found = locate(phantom.fixed, phantom.moving, point_in(phantom, LIVER), config)
    assert share_of(phantom.moving_labels, found.moving, LIVER) == 1


def test_what_is_not_there_is_refused(phantom, known, config):
    corner = phantom.fixed.grid.lps(np.array([[1.0, 1.0, 12.0]]))[0]
    for prompt, reason in (
        (Point(np.array([9999.0, 0, 0])), "point-outside"),
        (Point(corner), "nothing-at-prompt"),
        (Box(np.array([[9999.0, 0, 0], [9999.0, 10, 10]])), "box-outside"),
        (Box(np.stack([corner, corner])), "box-flat"),
        (Box(phantom.fixed.grid.lps(np.array([[0.0, 0, 12], [6, 6, 12]]))), "nothing-at-prompt"),
    ):
        with pytest.raises(InputRefused) as error:
            locate(phantom.fixed, phantom.moving, prompt, config)
        assert error.value.reason == reason
        assert error.value.next_step


def test_no_similar_region_is_refused(phantom, known, config):
    strict = config.with_values({"matching": {"similarity_threshold": 0.9999}})
    with pytest.raises(InputRefused, match="similarity_threshold") as error:
        locate(phantom.fixed, phantom.moving, point_in(phantom, COLON), strict)
    assert error.value.reason == "no-counterpart"


def test_a_region_whose_counterpart_was_removed_is_not_trusted(phantom, known, config):
    """Without the spleen in the moving image the answer is another organ, no more like it than the runner-up."""
    labels = phantom.moving_labels.copy()
    labels[labels == SPLEEN] = 1
    with true_regions({**labels_by_image(phantom), phantom.moving.content_hash: labels}):
        found = locate(phantom.fixed, phantom.moving, point_in(phantom, SPLEEN), config)
    assert found.similarity < 0.8
    assert found.confidence < 0.2


def test_given_regions_must_fit(phantom, config):
    with pytest.raises(UsageError, match="shape"):
        locate(phantom.fixed, phantom.moving, GivenRoi(np.ones((3, 3, 3), bool)), config)
    with pytest.raises(UsageError, match="empty"):
        GivenRoi(np.zeros((3, 3, 3), bool))
    labels = np.zeros((3, 3, 3), int)
    labels[0], labels[1] = 4, 7
    assert GivenRoi.from_labels(labels, 7).mask.sum() == 9
    with pytest.raises(UsageError, match=r"4, 7.*--label"):
        GivenRoi.from_labels(labels)
    with pytest.raises(UsageError, match="label 5"):
        GivenRoi.from_labels(labels, 5)
    with pytest.raises(UsageError, match="numbers"):
        Point(np.zeros(2))


def test_a_picture_and_a_volume_are_refused(phantom, config):
    flat = Volume(phantom.moving.voxels[:, :, :1], phantom.moving.grid.crop((0, 0, 0), (48, 48, 1)))
    with pytest.raises(InputRefused) as error:
        locate(phantom.fixed, flat, point_in(phantom, LIVER), config)
    assert error.value.reason == "mixed-dimensions"


@pytest.mark.parametrize("max_area_fraction", [0.5, 1.0])
def test_the_plain_random_model_answers_or_refuses(phantom, config, max_area_fraction):
    """What such a model segments means nothing; what comes back must still be whole."""
    config = config.with_values({"proposals": {"max_area_fraction": max_area_fraction}})
    given = GivenRoi(phantom.fixed_labels == LIVER)
    for prompt in (point_in(phantom, LIVER), Box(phantom.fixed.grid.corners()[[0, 7]]), given):
        found = outcome(phantom.fixed, phantom.moving, prompt, config)
        if isinstance(found, Located):
            assert 0 <= found.confidence <= 1
            assert found.moving.mask(phantom.moving.grid.shape).any()
            json.dumps(found.as_dict(), allow_nan=False)
        else:
            assert found in ("nothing-at-prompt", "no-counterpart")


def outcome(*arguments) -> Located | str:
    """The answer, or the reason of the refusal."""
    try:
        return locate(*arguments)
    except InputRefused as error:
        return error.reason


def test_the_provenance_names_weights_configuration_and_images(phantom, known, config):
    answer = locate(phantom.fixed, phantom.moving, point_in(phantom, LIVER), config).as_dict()
    assert answer["point_lps_mm"]
    assert (answer["encoder"], answer["variant"], answer["precision"]) == ("sam", "sam-vit-b", "float32")
    assert answer["hashes"] == {
        "config": config.hash,
        "weights": create_encoder("sam", weights=config.weights).weights_hash,
        "fixed": phantom.fixed.content_hash,
        "moving": phantom.moving.content_hash,
    }


def candidate(similarity: float, cycle: float) -> Candidate:
    roi = Roi((0, 0, 0), (1, 1, 1), b"\x80")
    return Candidate(Region(roi, np.ones(2), 1.0), similarity, similarity, cycle)


def test_confidence_grows_with_similarity_cycle_and_margin():
    sure = confidence(candidate(1.0, 1.0), None, 0.65)
    assert sure == 1
    assert confidence(candidate(0.8, 1.0), None, 0.65) < sure
    assert confidence(candidate(1.0, 0.5), None, 0.65) == pytest.approx(0.5)
    assert confidence(candidate(1.0, 1.0), candidate(1.0, 1.0), 0.65) == pytest.approx(0.5)
    assert 0.5 < confidence(candidate(1.0, 1.0), candidate(0.95, 1.0), 0.65) < 1
    assert confidence(candidate(1.0, 0.0), None, 0.65) == 0


def test_a_region_that_drifts_from_slice_to_slice_is_trusted_less():
    mask = np.ones((2, 2, 1), bool)
    best = Candidate(Region(Roi.from_mask(mask), np.ones(3), 4.0), similarity=0.99, likeness=0.99, cycle_iou=1.0)
    sure = confidence(best, None, 0.65)
    assert confidence(best, None, 0.65, weakest_slice=1.0) == sure > 0.9
    assert confidence(best, None, 0.65, weakest_slice=0.825) == pytest.approx(sure / 2)
    assert confidence(best, None, 0.65, weakest_slice=0.65) == 0
