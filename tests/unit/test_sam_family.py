"""The rows of the SAM family: each loads a tiny checkpoint of its own class, and is told from the others."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from samreg.errors import UsageError
from samreg.sam import identify
from samreg.sam.family import FAMILY, variant
from samreg.sam.identify import MARKER
from samreg.sam.loading import load_sam
from tests import tiny_family
from tests.tiny_family import publish, tiny_sam2, tiny_sam3
from tests.tiny_sam import tiny_sam

ROOT = Path(__file__).parents[2]
SAM3_ENCODER = {"model_type": "sam3_vit_model", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
WITHOUT_TIMM = [name for name in FAMILY if name != "edgetam"]


@pytest.fixture(scope="module")
def sam(tmp_path_factory) -> Path:
    """A folder without a marker, under a name that says nothing."""
    path = tmp_path_factory.mktemp("weights") / "mine"
    tiny_sam().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def sam2(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "mine2"
    tiny_sam2().save_pretrained(path)
    return path


@pytest.mark.parametrize("row", FAMILY.values(), ids=lambda row: row.name)
def test_a_row_says_what_a_user_needs(row):
    assert row.summary
    assert row.licence
    assert row.source.startswith("https://")
    assert row.file or row.hub
    assert row.image_size % 16 == 0
    for digest in row.hashes:
        assert re.fullmatch("[0-9a-f]{64}", digest)


def test_preprocessing_of_the_rows():
    def told(name: str) -> tuple:
        return FAMILY[name].image_size, FAMILY[name].fit, FAMILY[name].normalisation

    assert told("sam-vit-h") == told("sam-hq-vit-l") == told("slimsam-77") == (1024, "pad", "imagenet")
    assert told("mobilesam") == (1024, "pad", "imagenet")
    assert told("medsam") == (1024, "stretch", "unit")
    assert told("sam-med2d") == (256, "stretch", "imagenet")
    assert told("sam2.1-large") == told("sam2-tiny") == told("edgetam") == (1024, "stretch", "imagenet")
    assert told("medsam2") == (512, "stretch", "imagenet")
    assert told("sam3") == (1008, "stretch", "half")


def test_the_family_is_read_without_torch():
    code = "import sys, samreg.sam.family; print([m for m in ('torch', 'numpy', 'transformers') if m in sys.modules])"
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT / "bundle", timeout=60, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("name", WITHOUT_TIMM)
def test_every_row_loads_its_own_class_and_answers_a_prompt(name, tmp_path):
    tiny_family.main(name, tmp_path / "folder")


def test_edgetam_without_timm_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)  # as where it is not installed
    with pytest.raises(UsageError, match="pip install timm torchvision") as error:
        load_sam(edgetam_folder(tmp_path, "timm/repvit_m1.dist_in1k", {"in_chans": 3}))
    assert error.value.reason == "timm-missing"


@pytest.mark.parametrize(
    ("architecture", "arguments"),
    [("hf-hub:someone/something", {}), ("repvit_m1", {"checkpoint_path": "/etc/passwd"})],
)
def test_an_encoder_from_elsewhere_is_refused(tmp_path, architecture, arguments):
    with pytest.raises(UsageError, match="from elsewhere"):
        load_sam(edgetam_folder(tmp_path, architecture, arguments))


def edgetam_folder(path: Path, architecture: str, arguments: dict) -> Path:
    backbone = {"model_type": "timm_wrapper", "architecture": architecture, "model_args": arguments}
    (path / "config.json").write_text(
        json.dumps({"model_type": "edgetam", "vision_config": {"backbone_config": backbone}})
    )
    torch.save({"a": torch.ones(1)}, path / "pytorch_model.bin")
    return path


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "sam2", "vision_config": {"backbone_config": {"model_type": "timm_backbone"}}},
        {"model_type": "sam", "vision_config": {"hidden_size": "wide"}},
        {"model_type": "sam", "vision_config": {"hidden_size": 0}},
        {"model_type": "sam", "vision_config": 3},
        {"model_type": "sam", "prompt_encoder_config": {"patch_size": 0}},
        {"model_type": "sam3_video", "tracker_config": {"vision_config": {"backbone_config": SAM3_ENCODER}}},
        {"model_type": "mobile_sam", "image_size": "large"},
        {"model_type": "mobile_sam", "image_size": 128},
        {"model_type": "bert"},
        {"model_type": ["sam"]},
        [],
    ],
    ids=str,
)
def test_a_configuration_that_does_not_hold_is_one_clear_error(tmp_path, config, sam):
    shutil.copytree(sam, tmp_path / "folder")
    (tmp_path / "folder" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError) as error:
        load_sam(tmp_path / "folder")
    assert error.value.reason == "weights-unreadable"
    assert str(tmp_path) not in error.value.sentence


@pytest.mark.parametrize("tiny", [tiny_sam, tiny_sam2])
def test_prompts_for_images_of_another_size_are_refused(tmp_path, tiny):
    tiny().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["prompt_encoder_config"]["image_size"] *= 2
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="different sizes") as error:
        load_sam(tmp_path)
    assert error.value.reason == "weights-unreadable"


def test_tensors_that_are_not_finite_are_refused(tmp_path):
    model = tiny_sam()
    model.vision_encoder.neck.conv1.weight.data[0, 0] = float("nan")
    model.save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="not finite") as error:
        load_sam(tmp_path)
    assert error.value.reason == "weights-unreadable"


# Which row it is


def test_what_the_user_says_comes_first(sam):
    loaded = load_sam(sam, "medsam")
    assert loaded.variant == dataclasses.replace(FAMILY["medsam"], image_size=128)


def test_an_unknown_variant_is_refused(sam):
    with pytest.raises(UsageError, match="The variant 'no-such' is unknown") as error:
        load_sam(sam, "no-such")
    assert all(name in error.value.expected for name in FAMILY)
    assert variant("sam3").name == "sam3"


def test_a_variant_of_another_architecture_is_refused(sam, sam2):
    for path, name in ((sam, "sam2-tiny"), (sam2, "sam-vit-b"), (sam, "sam-hq-vit-b"), (sam, "mobilesam")):
        with pytest.raises(UsageError) as error:
            load_sam(path, name)
        assert error.value.reason == "variant-contradicted"


def test_a_variant_of_another_published_size_is_refused():
    base = (768, 12)
    for name in ("sam-vit-b", "medsam", "sam-med2d"):
        assert identify.confirmed(Path("a.pth"), (FAMILY[name], "given"), "sam", base).name == name
    for name in ("sam-vit-h", "slimsam-50"):
        with pytest.raises(UsageError, match=f"are a model like sam-vit-b, not {name}"):
            identify.confirmed(Path("a.pth"), (FAMILY[name], "given"), "sam", base)
        # A published name is not as good as the user's word.
        assert identify.confirmed(Path("a.pth"), (FAMILY[name], "name"), "sam", base).name == "sam-vit-b"


def test_the_hash_tells(sam, monkeypatch):
    publish(monkeypatch, "medsam", hub_sha256=load_sam(sam).weights_hash)
    assert load_sam(sam).variant.name == "medsam"
    with pytest.raises(UsageError, match="are the published file of medsam, not sam-vit-b"):
        load_sam(sam, "sam-vit-b")


def test_the_marker_tells_and_must_hold(sam, tmp_path):
    folder = tmp_path / "facebook--sam-vit-base"
    shutil.copytree(sam, folder)
    for text, name in (('{"variant": "slimsam-77"}', "slimsam-77"), ('{"variant": "sam-med2d"}', "sam-med2d")):
        (folder / MARKER).write_text(text)
        assert load_sam(folder).variant.name == name
    for text in ('{"variant": "sam2-tiny"}', '{"variant": "mine"}', '{"variant": []}', "{", "[]"):
        (folder / MARKER).write_text(text)
        with pytest.raises(UsageError):
            load_sam(folder)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("medsam_vit_b.pth", "medsam"),
        ("SAM_ViT_H_4b8939.pth", "sam-vit-h"),
        ("medsam-vit-base", "medsam"),
        ("sam-hq-vit-huge", "sam-hq-vit-h"),
        ("sam2.1_hiera_base_plus.pt", "sam2.1-base-plus"),
        ("sam2-hiera-base-plus", "sam2-base-plus"),
        ("MedSAM2_latest.pt", "medsam2"),
        ("EdgeTAM-hf", "edgetam"),
        ("sam-med2d", "sam-med2d"),
        ("models--Zigeng--SlimSAM-uniform-77/snapshots/9e72a1b", "slimsam-77"),
        ("sam_vit_b.pth", None),
        (".", None),
    ],
)
def test_published_names_tell(path, name, tmp_path):
    found = identify.by_name(tmp_path / path)
    assert (found and found.name) == name


def test_else_the_architecture_tells_and_it_is_said(sam, sam2, caplog):
    with caplog.at_level(logging.INFO, logger="samreg"):
        assert load_sam(sam).variant.name == "sam-vit-b"
        assert load_sam(sam2).variant.name == "sam2.1-tiny"
    assert "weights 'mine' are taken for sam-vit-b by their architecture" in caplog.text


def test_a_guess_between_rows_that_read_other_pixels_is_a_warning(caplog):
    for architecture, encoder, others in (
        ("sam", (768, 12), "medsam or sam-med2d"),
        ("sam", (1280, 32), None),
        ("sam2", (96, 12), "medsam2"),
    ):
        caplog.clear()
        identify.confirmed(Path("best.pth"), (None, "name"), architecture, encoder)
        said = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
        assert [others in text for text in said] == ([True] if others else [])


@pytest.mark.parametrize("row", FAMILY.values(), ids=lambda row: row.name)
def test_the_size_of_the_encoder_tells_the_published_ones(row):
    found = identify.confirmed(Path("a"), (None, "name"), row.architecture, row.encoder)
    assert (found.architecture, found.encoder) == (row.architecture, row.encoder)


# Folders


def test_several_files_of_tensors_are_one_checkpoint(sam, tmp_path):
    whole, folder = load_sam(sam), tmp_path / "folder"
    tiny_sam().save_pretrained(folder, max_shard_size="50KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    loaded = load_sam(folder)
    assert same(loaded.model, whole.model)
    assert loaded.weights_hash != whole.weights_hash
    next(iter(folder.glob("model-*.safetensors"))).unlink()
    with pytest.raises(UsageError, match="lacks files"):
        load_sam(folder)


def test_names_of_files_do_not_lead_out_of_the_folder(sam, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(sam / "config.json", folder)
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": str(sam / "model.safetensors")}})
    )
    with pytest.raises(UsageError, match="lacks files"):
        load_sam(folder)


def test_an_older_folder_holds_a_table_of_torch(sam, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(sam / "config.json", folder)
    torch.save(tiny_sam().state_dict(), folder / "pytorch_model.bin")
    assert same(load_sam(folder).model, load_sam(sam).model)


def test_half_precision_is_read_as_float32(sam, tmp_path):
    tiny_sam().half().save_pretrained(tmp_path)
    loaded = load_sam(tmp_path)
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}


def test_the_video_model_of_sam2_holds_the_image_model(sam2, tmp_path):
    from transformers import Sam2VideoConfig, Sam2VideoModel

    image = load_sam(sam2).model
    values = {k: v for k, v in image.config.to_dict().items() if k.endswith("_config")}
    for part in ("prompt_encoder_config", "mask_decoder_config"):
        values[part].pop("model_type")
    video = Sam2VideoModel(
        Sam2VideoConfig(
            **values, memory_encoder_hidden_size=32, memory_encoder_output_channels=16, memory_attention_hidden_size=32,
            memory_attention_num_layers=1, memory_attention_mlp_hidden_size=32, memory_fuser_embed_dim=32,
            memory_fuser_intermediate_dim=32, mask_downsampler_embed_dim=32,
        )
    )  # fmt: skip
    assert not video.load_state_dict(image.state_dict(), strict=False).unexpected_keys
    video.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "sam2_video"
    assert same(load_sam(tmp_path).model, image)


def test_the_whole_of_sam3_holds_the_tracker(tmp_path):
    """The names of facebook/sam3, written down from the tracker's own by hand."""
    from safetensors.torch import save_file

    tracker = tiny_sam3()
    whole = {"detector_model.text_encoder.weight": torch.ones(2), "tracker_model.memory_encoder.weight": torch.ones(2)}
    for name, tensor in tracker.state_dict().items():
        if name.startswith("vision_encoder.backbone."):
            name = f"detector_model.{name}"
        elif name.startswith("vision_encoder.neck."):
            name = name.replace("vision_encoder.neck.", "tracker_neck.")
        else:
            name = f"tracker_model.{name}"
        whole[name] = tensor.contiguous().clone()
    save_file(whole, tmp_path / "model.safetensors")
    values = tracker.config.to_dict() | {"model_type": "sam3_tracker_video"}
    config = {"model_type": "sam3_video", "tracker_config": values, "detector_config": {"model_type": "sam3"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = load_sam(tmp_path)
    assert loaded.variant.name == "sam3"
    assert same(loaded.model, tracker)


def same(one, other) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
