"""SAM weights, embedding geometry and everything mode, on a tiny random SAM."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from samreg import phantoms
from samreg.config import ProposalConfig
from samreg.encoders import create_encoder, pool
from samreg.errors import UsageError
from samreg.geometry import Grid, Volume
from samreg.promptable_models import Masks
from samreg.promptable_models.slices import PromptableSlices, PromptedSlice
from samreg.proposals import create_proposer
from samreg.rois import Roi, RoiSet
from samreg.sam.loading import load_sam
from samreg.sam.model import SamFamilyModel
from tests.tiny_sam import responsive, tiny_sam

IMAGE = 128  # pixels of the tiny model; 8 x 8 cells


@pytest.fixture(scope="module")
def model():
    return tiny_sam(IMAGE)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("sam")
    model.save_pretrained(path)
    return path


@pytest.fixture
def volume() -> Volume:
    rng = np.random.default_rng(0)
    rotation = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1.0]])
    grid = Grid.from_axes((60, 45, 3), (2.0, 2.0, 7.0), (10, -20, 30), rotation)
    return Volume(rng.normal(100, 20, grid.shape).astype(np.float32), grid)


def original_name(name: str) -> str:
    """The name in the published checkpoints, written down independently of the loader's table."""
    fixed = {
        "shared_image_embedding.positional_embedding": "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
        "vision_encoder.pos_embed": "image_encoder.pos_embed",
    }
    if name in fixed:
        return fixed[name]
    prefixes = {
        "vision_encoder.patch_embed.projection.": "image_encoder.patch_embed.proj.",
        "vision_encoder.layers.": "image_encoder.blocks.",
        "vision_encoder.neck.conv1.": "image_encoder.neck.0.",
        "vision_encoder.neck.layer_norm1.": "image_encoder.neck.1.",
        "vision_encoder.neck.conv2.": "image_encoder.neck.2.",
        "vision_encoder.neck.layer_norm2.": "image_encoder.neck.3.",
        "prompt_encoder.point_embed.": "prompt_encoder.point_embeddings.",
        "prompt_encoder.mask_embed.conv1.": "prompt_encoder.mask_downscaling.0.",
        "prompt_encoder.mask_embed.layer_norm1.": "prompt_encoder.mask_downscaling.1.",
        "prompt_encoder.mask_embed.conv2.": "prompt_encoder.mask_downscaling.3.",
        "prompt_encoder.mask_embed.layer_norm2.": "prompt_encoder.mask_downscaling.4.",
        "prompt_encoder.mask_embed.conv3.": "prompt_encoder.mask_downscaling.6.",
        "mask_decoder.transformer.layer_norm_final_attn.": "mask_decoder.transformer.norm_final_attn.",
        "mask_decoder.upscale_conv1.": "mask_decoder.output_upscaling.0.",
        "mask_decoder.upscale_layer_norm.": "mask_decoder.output_upscaling.1.",
        "mask_decoder.upscale_conv2.": "mask_decoder.output_upscaling.3.",
    }
    for ours, theirs in prefixes.items():
        if name.startswith(ours):
            name = theirs + name[len(ours) :]
    if name.startswith(("image_encoder.blocks", "mask_decoder.transformer.layers")):
        name = re.sub(r"\.layer_norm(\d)", r".norm\1", name)
    if "mlps" in name or "iou_prediction_head" in name:
        name = name.replace(".layers.0.", ".layers.1.").replace("proj_in", "layers.0").replace("proj_out", "layers.2")
    return name


def save_original(model, path: Path, **extra) -> Path:
    tied = "prompt_encoder.shared_embedding.positional_embedding"
    tensors = {original_name(n): t.contiguous().clone() for n, t in model.state_dict().items() if n != tied}
    torch.save({**tensors, **extra}, path)
    return path


def test_folder_and_original_checkpoint_give_the_same_model(model, folder, tmp_path):
    pixels = torch.randn(1, 3, IMAGE, IMAGE, generator=torch.Generator().manual_seed(1))
    points = torch.tensor([[[[40.0, 70.0]]]])
    with torch.no_grad():
        expected = model(pixel_values=pixels, input_points=points)
        for weights in (folder, save_original(model, tmp_path / "sam.pth")):
            loaded = load_sam(weights)
            out = loaded.model(pixel_values=pixels, input_points=points)
            torch.testing.assert_close(out.pred_masks, expected.pred_masks, atol=1e-6, rtol=1e-5)
            torch.testing.assert_close(out.iou_scores, expected.iou_scores, atol=1e-6, rtol=1e-5)
            assert re.fullmatch("[0-9a-f]{64}", loaded.weights_hash)


def test_weights_hash_is_of_the_file(folder):
    from hashlib import sha256

    assert load_sam(folder).weights_hash == sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_adapters_are_left_out_and_wrapped_tables_are_read(model, tmp_path):
    path = save_original(model, tmp_path / "a.pth", **{"image_encoder.blocks.0.Adapter.spatial.weight": torch.ones(3)})
    torch.save({"model": torch.load(path, weights_only=True)}, path)
    load_sam(path)


class Harmful:
    """Touches a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def broken_weights(kind: str, model, folder: Path, tmp_path: Path) -> Path:
    good = save_original(model, tmp_path / "good.pth")
    path = tmp_path / "bad.pth"
    if kind == "truncated":
        path.write_bytes(good.read_bytes()[:5000])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("<html>404</html>")
    elif kind == "pickled":
        torch.save(Harmful(tmp_path / "touched"), path)
    elif kind == "lacking":
        tensors = torch.load(good, weights_only=True)
        del tensors["mask_decoder.iou_token.weight"]
        torch.save(tensors, path)
    elif kind == "another model":
        torch.save({"conv.weight": torch.ones(3)}, path)
    elif kind == "truncated safetensors":
        path = tmp_path / "folder"
        path.mkdir()
        (path / "config.json").write_text((folder / "config.json").read_text())
        (path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-1000])
    elif kind == "another architecture":
        path = tmp_path / "folder"
        path.mkdir()
        (path / "config.json").write_text(json.dumps({"model_type": "sam2"}))
        (path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    elif kind == "empty folder":
        path = tmp_path / "folder"
        path.mkdir()
    return path


@pytest.mark.parametrize(
    "kind",
    ["missing", "truncated", "empty", "text", "pickled", "lacking", "another model", "truncated safetensors",
     "another architecture", "empty folder"],
)  # fmt: skip
def test_unusable_weights_give_one_clear_error(kind, model, folder, tmp_path):
    with pytest.raises(UsageError) as error:
        load_sam(broken_weights(kind, model, folder, tmp_path))
    assert error.value.reason == "weights-unreadable"
    assert str(tmp_path) not in error.value.sentence
    assert not (tmp_path / "touched").exists()


def test_feature_cells_lie_where_the_model_saw_them(folder, volume):
    """A cell covers 16 pixels of an image whose long side, 120 mm, fills 128 pixels: 15 mm."""
    features = create_encoder("sam", weights=folder).encode(volume)
    assert features.grid.shape == (8, 6, 3)  # 120 x 90 mm in cells of 15 mm
    assert tuple(features.channels.shape) == (16, 8, 6, 3)
    np.testing.assert_allclose(features.grid.spacing_mm, (15, 15, 7))
    # The first cell's centre lies 7.5 mm from the edge of the image, whose first voxel centre lies 1 mm from it.
    np.testing.assert_allclose(volume.grid.index(features.grid.lps(np.zeros((1, 3))))[0], (3.25, 3.25, 0), atol=1e-9)


def test_features_do_not_mix_up_the_axes(folder, volume):
    """A change at one end of i and j moves the features there most."""
    encoder = create_encoder("sam", weights=folder)
    changed = volume.voxels.copy()
    changed[52:, :8, 1] = np.sort(changed[52:, :8, 1], axis=None).reshape(8, 8)  # same window of intensities
    before = encoder.encode(volume).channels.float()
    after = encoder.encode(Volume(changed, volume.grid)).channels.float()
    difference = (after - before).abs().mean(0)
    assert difference[:, :, [0, 2]].max() == 0
    x, y = divmod(int(difference[:, :, 1].argmax()), 6)
    assert x >= 6
    assert y <= 1


def test_each_slice_is_encoded_once_for_features_and_regions(folder, volume):
    encoder = create_encoder("sam", weights=folder)
    slices = []
    encoder.slices.model.model.vision_encoder.register_forward_hook(lambda _, __, out: slices.append(len(out[0])))
    loose = ProposalConfig(proposer="everything", pred_iou=0.0, stability=0.0, points_per_side=3)
    create_proposer("everything", encoder=encoder).propose(volume, np.ones(volume.grid.shape, bool), loose)
    encoder.encode(volume)
    assert sum(slices) == 3


def test_points_and_masks_share_the_slice_geometry(folder, volume):
    """Logits that are a ramp along x come back as a ramp along i that is zero where expected."""
    prompted = PromptableSlices(SamFamilyModel(folder)).of(volume).prompted(0)
    low = IMAGE // 4
    x = torch.arange(low, dtype=torch.float32) + 0.5  # centres of low-resolution pixels, from the image's edge
    ramp = (x - 16.0).expand(24, low)[None]  # zero in the middle of the long side, between i = 29 and 30
    on_slice = prompted.on_voxels(ramp)[0]
    assert on_slice.shape == volume.grid.shape[:2]
    np.testing.assert_allclose((on_slice[29] + on_slice[30]).numpy(), 0, atol=1e-4)
    np.testing.assert_allclose(np.diff(on_slice[2:-2, 0].numpy()), 32 / 60, atol=1e-4)


def test_everything_mode_keeps_its_limits(folder, volume, monkeypatch):
    """The decoder is replaced by one that draws a disc of 20 mm around each point."""

    def discs(self, points_ij, *, min_iou):
        centres = torch.as_tensor((points_ij + 0.5) * (128 / 60 / 4))
        x = torch.arange(IMAGE // 4) + 0.5
        distance = torch.hypot(x - centres[:, 0, None, None], x[:24, None] - centres[:, 1, None, None])
        logits = (10 / 120 * 32 - distance).float()[:, None] * 20  # sharp
        unsure = torch.zeros_like(logits) + 0.5  # as large as the image
        masks = torch.cat([logits, unsure, logits], 1)
        iou = torch.tensor([[0.95, 0.99, 0.5]]).expand(len(logits), 3)
        good = iou >= min_iou
        return Masks(masks[good], iou[good], good.nonzero()[:, 0])

    monkeypatch.setattr(PromptedSlice, "at_points", discs)
    body = np.zeros(volume.grid.shape, bool)
    body[5:55, 5:40] = True
    body[:, :, 2] = False
    config = ProposalConfig(proposer="everything", pred_iou=0.88, stability=0.9, points_per_side=8, min_area_mm2=200)
    rois = create_proposer("everything", encoder=create_encoder("sam", weights=folder)).propose(volume, body, config)
    assert len(rois) > 6
    for roi in rois:
        assert roi.is_2d
        assert roi.start[2] in (0, 1)
        assert 200 <= rois.area_mm2(roi) <= np.pi * 10**2 * 1.1
        assert not (roi.mask(volume.grid.shape) & ~body).any()
    for n, one in enumerate(rois):
        for other in rois.rois[n + 1 :]:
            assert one.overlap(other) <= 0.8 * min(one.count, other.count)
    inner = [r for r in rois if rois.area_mm2(r) > 290]
    assert inner
    for roi in inner:
        assert 0.95 * config.stability - 1e-6 <= roi.score <= 0.95 + 1e-6


def test_prototypes_tell_the_slices_apart(folder, volume):
    encoder = create_encoder("sam", weights=folder)
    mask = np.zeros(volume.grid.shape, bool)
    mask[10:30, 10:30, 0] = True
    rois = RoiSet(volume.grid, (Roi.from_mask(mask), Roi.from_mask(np.roll(mask, 1, 2))))
    features = encoder.encode(volume)
    prototypes = pool(features, rois)
    assert prototypes.shape == (2, 16)
    assert prototypes.dtype == np.float32
    low, high = features.channels[..., 0].float().amin((1, 2)), features.channels[..., 0].float().amax((1, 2))
    assert ((prototypes[0] >= low.numpy()) & (prototypes[0] <= high.numpy())).all()
    assert np.abs(prototypes[0] - prototypes[1]).max() > 1e-4


def test_reduced_precision_is_nearly_the_same_and_kept_apart_in_the_cache(tmp_path: Path):
    responsive(tiny_sam(IMAGE)).save_pretrained(tmp_path)
    volume = phantoms.pair("rigid", fixed_grid=phantoms.grid("picture", 48)).fixed
    by_precision = {}
    for precision in ("auto", "float32", "bfloat16"):
        slices = create_encoder("sam", weights=tmp_path, precision=precision).slices
        encoded = slices.of(volume)
        masks = encoded.prompted(0).at_points(np.array([[20.0, 20.0], [30.0, 12.0]]))
        by_precision[precision] = encoded.embedding(0).float(), masks.logits, encoded.key(0)
    torch.testing.assert_close(by_precision["auto"][:2], by_precision["float32"][:2], rtol=0, atol=0)
    for exact, rounded in zip(by_precision["float32"][:2], by_precision["bfloat16"][:2], strict=True):
        assert 1e-5 < (exact - rounded).norm() / exact.norm() < 0.05
    assert by_precision["float32"][2] != by_precision["bfloat16"][2]
