"""The embedded model in its place: prompts on voxels, everything mode, and what happens without it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from samreg import shipped
from samreg.availability import check_config
from samreg.config import Config, ProposalConfig, configured
from samreg.embedded.files import load_network, save_network
from samreg.embedded.network import EmbeddedNetwork, Size
from samreg.encoders import create_encoder, pool
from samreg.encoders.models import EmbeddedEncoder
from samreg.errors import UsageError
from samreg.geometry import Grid, Volume
from samreg.matching import similarity
from samreg.preprocess import cut_along, displaced, for_slices
from samreg.proposals import create_proposer
from samreg.proposals.everything import Candidates
from samreg.session import register
from samreg.shipped import weights_file
from samreg.transforms import Affine, Rigid, about_centre

TINY = Size(widths=(8, 16, 16, 24), depths=(1, 1, 1, 1), layers=1, width=16, query_width=32, mask_channels=8)
ROOT = Path(__file__).parents[2]
CENTRE = np.array([75.5, 99.25, 8.0])  # of the image
DISCS = ((34, 40, 14, 0.9), (84, 44, 10, 0.35), (70, 92, 18, 0.7))  # i, j, radius, intensity


@pytest.fixture(scope="module")
def encoder() -> EmbeddedEncoder:
    return create_encoder("embedded")


def image(shift: tuple[int, int] = (0, 0), *, invert: bool = False) -> Volume:
    """Two slices of discs in a body, on 128 x 120 pixels of 1.5 mm, with grain."""
    i, j = np.meshgrid(np.arange(128), np.arange(120), indexing="ij")
    body = ((i - 62 - shift[0]) / 55) ** 2 + ((j - 62 - shift[1]) / 52) ** 2 < 1
    values = np.where(body, 0.55, 0.05)
    for a, b, radius, value in DISCS:
        values[np.hypot(i - a - shift[0], j - b - shift[1]) < radius] = value
    if invert:
        values = np.where(body, 1.0 - values, values)
    grain = np.random.default_rng(0).normal(0, 0.015, (128, 120, 2))
    grid = Grid.from_axes((128, 120, 2), (1.5, 1.5, 6.0), (-20.0, 10.0, 5.0))
    return Volume((1000 * (values[..., None] + grain)).astype(np.float32), grid)


def disc(number: int, shift: tuple[int, int] = (0, 0)) -> np.ndarray:
    i, j = np.meshgrid(np.arange(128), np.arange(120), indexing="ij")
    a, b, radius, _ = DISCS[number]
    return np.hypot(i - a - shift[0], j - b - shift[1]) < radius


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_the_card_names_the_hash_of_the_weights():
    _, _, digest = load_network(weights_file())
    assert digest in (ROOT / "models" / "embedded.md").read_text(encoding="utf-8")
    assert weights_file().stat().st_size <= 20e6


def test_features_are_of_unit_length_on_cells_of_four_pixels(encoder):
    features = encoder.encode(image())
    assert features.channels.shape == (64, 32, 30, 2)
    norms = features.channels.float().norm(dim=0)
    np.testing.assert_allclose(norms, 1.0, atol=5e-3)
    np.testing.assert_allclose(features.grid.spacing_mm, (6.0, 6.0, 6.0))
    np.testing.assert_allclose(features.grid.origin_lps, (-20 + 1.5 * 1.5, 10 + 1.5 * 1.5, 5.0))


@pytest.mark.parametrize("number", range(len(DISCS)))
def test_a_click_and_a_box_give_the_disc(encoder, number):
    prompted = encoder.slices.of(image()).prompted(0)
    a, b, radius, _ = DISCS[number]
    for masks in (
        prompted.at_points(np.array([[a, b]])),
        prompted.in_boxes(np.array([[a - radius, b - radius, a + radius, b + radius]])),
    ):
        found = Candidates.on_voxels(prompted, masks.logits, masks.iou)
        best = found.masks[int(found.iou.argmax())].numpy()
        assert iou(best, disc(number)) > 0.8


def test_a_click_beside_the_body_is_not_trusted(encoder):
    prompted = encoder.slices.of(image()).prompted(0)
    inside = prompted.at_points(np.array([[34, 40]])).iou.max()
    outside = prompted.at_points(np.array([[3, 116]])).iou.max()
    assert outside < 0.5 * inside


def test_everything_mode_finds_the_discs(encoder):
    volume = image()
    rois = create_proposer("everything", encoder).propose(volume, np.ones(volume.grid.shape, bool), ProposalConfig())
    for number in range(len(DISCS)):
        found = [iou(roi.mask(volume.grid.shape)[:, :, 0], disc(number)) for roi in rois if roi.start[2] == 0]
        assert max(found) > 0.8


@pytest.mark.parametrize("invert", [False, True])
def test_the_same_region_of_another_image_is_most_alike(encoder, invert):
    shift = (5, -7)
    fixed, moving = image(), image(shift, invert=invert)
    sets = []
    for volume, moved in ((fixed, (0, 0)), (moving, shift)):
        masks = [disc(n, moved)[..., None] & np.array([True, False]) for n in range(len(DISCS))]
        sets.append(pool(encoder.encode(volume), rois_of(volume, masks)))
    assert similarity(*sets).argmax(1).tolist() == [0, 1, 2]


def rois_of(volume: Volume, masks: list[np.ndarray]):
    from samreg.rois import Roi, RoiSet

    return RoiSet(volume.grid, tuple(Roi.from_mask(mask) for mask in masks))


def test_another_file_of_the_model_can_be_given(tmp_path):
    digest = save_network(EmbeddedNetwork(), tmp_path / "mine.safetensors", {})
    assert create_encoder("embedded", weights=tmp_path / "mine.safetensors").weights_hash == digest


@pytest.fixture
def models(monkeypatch, tmp_path) -> Path:
    """The folder where the library looks for its own models, empty."""
    home = shipped.home
    monkeypatch.setattr(shipped, "home", lambda name: tmp_path if name == "models" else home(name))
    return tmp_path


def test_damaged_weights_are_refused_and_not_replaced(models):
    whole = (ROOT / "models" / "embedded.safetensors").read_bytes()
    (models / "embedded.safetensors").write_bytes(whole[:5000])
    with pytest.raises(UsageError, match="cannot be read"):
        register(image(), image((3, 0)), Config())


@pytest.mark.parametrize(
    "header",
    [
        {"about": None},
        {"about": "{"},
        {"about": "[1]"},
        {"about": '{"calibration": {"x": 1}}'},
        {"about": '{"calibration": 5}'},
        {"size": "[]"},
        {"size": None},
    ],
)
def test_a_damaged_header_is_refused(header, tmp_path):
    path = tmp_path / "mine.safetensors"
    save_network(EmbeddedNetwork(TINY), path, {})
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        kept = {**file.metadata(), **header}
    save_file(tensors, path, {name: text for name, text in kept.items() if text is not None})
    with pytest.raises(UsageError):
        create_encoder("embedded", weights=path)


def test_without_the_weights_everything_mode_is_refused_before_anything_is_read(models):
    with pytest.raises(UsageError, match="weights are not installed"):
        check_config(configured(proposals={"proposer": "everything"}))


def test_a_variant_is_of_a_sam_model():
    with pytest.raises(UsageError, match="for the encoder 'embedded'"):
        check_config(Config(weights=str(weights_file()), variant="medsam"))


def test_what_the_model_reads_has_pixels_of_one_size_and_few_slices():
    grid = Grid.from_axes((60, 40, 100), (2.0, 3.0, 1.0))
    volume = Volume(np.random.default_rng(0).normal(size=grid.shape).astype(np.float32), grid)
    read = for_slices(volume, 2.5, 25)
    np.testing.assert_allclose(read.grid.spacing_mm, (2.5, 2.5, 4.0))
    assert read.grid.shape == (48, 48, 25)
    np.testing.assert_allclose(read.grid.centre_lps, grid.centre_lps, atol=1e-6)
    assert for_slices(read, 2.5, 25) is read


def turned(degrees: float) -> Affine:
    angle = np.deg2rad(degrees)
    rotation = np.eye(3)
    rotation[1:, 1:] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return Rigid(about_centre(rotation, np.zeros(3), CENTRE))


def test_the_cut_shows_what_the_fixed_slices_show():
    """A field that is linear in LPS, cut along turned slices, has at each voxel the value of its place."""
    fixed = Grid.from_axes((30, 28, 10), (2.0, 2.0, 5.0), (-20, -10, 0))
    grid = Grid.from_axes((90, 90, 110), (2.0, 2.0, 2.0), (-60, -60, -90))
    slope = np.array([0.3, -0.2, 0.5])
    places = grid.lps(np.argwhere(np.ones(grid.shape, bool)))
    moving = Volume((places @ slope).reshape(grid.shape).astype(np.float32), grid)
    aligned = turned(25.0)
    cut = cut_along(moving, fixed, aligned)
    ijk = np.array([[3, 4, 2], [20, 15, 7]])
    there = aligned.map_points(fixed.lps(ijk))
    np.testing.assert_allclose(cut.grid.lps(ijk), there, atol=1e-6)
    np.testing.assert_allclose(cut.voxels[tuple(ijk.T)], there @ slope, atol=1e-2)


def test_slices_that_lie_there_already_are_left_alone():
    volume = image()
    assert cut_along(volume, volume.grid, turned(0.5)) is volume
    assert cut_along(volume, volume.grid, turned(8.0)) is not volume


def test_a_displaced_image_has_its_voxels_where_they_were():
    volume = image()
    moved = displaced(volume)
    assert moved.grid.shape[0] > volume.grid.shape[0]
    ijk = np.array([[40, 50, 1]])
    at = np.round(moved.grid.index(volume.grid.lps(ijk))[0]).astype(int)
    assert not np.array_equal(at, ijk[0])
    assert moved.voxels[tuple(at)] == volume.voxels[tuple(ijk[0])]
