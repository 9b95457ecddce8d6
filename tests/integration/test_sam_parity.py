"""Against segment-anything itself: the same random weights, the same picture, the same answers."""

from pathlib import Path

import numpy as np
import pytest

from samreg.config import ProposalConfig
from samreg.geometry import Grid, Volume
from samreg.promptable_models.slices import EncodedVolume
from samreg.proposals.everything import Decoding, everything
from samreg.sam.model import SamFamilyModel
from tests.oracle import run_beside_torchvision


@pytest.fixture(
    scope="module",
    params=["tiny", "vit_b", pytest.param("vit_h", marks=pytest.mark.slow)],  # vit_l lies between
)
def answered(request, tmp_path_factory):
    """Our model from the file that segment-anything wrote, and its answers."""
    folder: Path = tmp_path_factory.mktemp(request.param)
    run_beside_torchvision("segment_anything_oracle", request.param, folder)
    model = SamFamilyModel(folder / "sam.pth")
    (folder / "sam.pth").unlink()  # up to 2.5 GB
    return model, np.load(folder / "answers.npz")


@pytest.mark.parametrize("name", ["square", "wide"])
def test_the_answers_of_segment_anything(answered, name: str):
    model, answers = answered
    picture = answers[f"{name}_picture"]
    volume = Volume(picture.T[..., None].astype(np.float32), Grid.from_axes((*picture.T.shape, 1), (1, 1, 1)))
    encoded = EncodedVolume(model, volume)

    embeddings = []
    hook = model.model.vision_encoder.register_forward_hook(lambda _, __, out: embeddings.append(out[0][0].numpy()))
    prompted = encoded.prompted(0)
    hook.remove()
    (embedding,) = embeddings
    np.testing.assert_allclose(embedding, answers[f"{name}_embedding"], atol=1e-4)

    points = answers[f"{name}_points"] - 0.5  # from the picture's edge to voxel indices
    masks = prompted.at_points(points)
    expected = answers[f"{name}_logits"].reshape(-1, *picture.shape)
    np.testing.assert_allclose(masks.iou, answers[f"{name}_iou"].ravel(), atol=1e-4)
    for ours, theirs in zip(prompted.on_voxels(masks.logits).numpy(), expected, strict=True):
        assert iou(ours.T > 0, theirs > 0) >= 0.99
    assert np.ptp((expected > 0).mean((1, 2))) > 0.1  # small masks and large ones

    pred_iou, stability = (float(value) for value in answers[f"{name}_thresholds"])
    for max_box_iou in (0.7, 1.0):
        settings = {"pred_iou": pred_iou, "stability": stability, "max_box_iou": max_box_iou}
        config = ProposalConfig(points_per_side=8, **settings)
        found = everything(prompted, np.ones(picture.T.shape, bool), config, Decoding(config))
        generated = answers[f"{name}_generated_{max_box_iou}"]
        assert len(found) == len(generated)
        ours = found.masks.numpy()
        for mask in generated:
            assert max(iou(mask.T, other) for other in ours) >= 0.99
    assert len(generated) > 20


def iou(one: np.ndarray, two: np.ndarray) -> float:
    union = (one | two).sum()
    return float((one & two).sum() / union) if union else 1.0
