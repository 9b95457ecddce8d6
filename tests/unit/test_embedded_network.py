"""The embedded network: shapes, prompts, places, export, and its file."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from safetensors.torch import save_file

from samreg.embedded import network as net
from samreg.embedded.files import FORMAT, load_network, save_network
from samreg.embedded.prompts import box_prompts, point_prompts
from samreg.errors import UsageError

TINY = net.Size(widths=(8, 16, 16, 24), depths=(1, 1, 1, 1), layers=1, width=16, query_width=32, mask_channels=8)


@pytest.fixture(scope="module")
def network() -> net.EmbeddedNetwork:
    torch.manual_seed(0)
    return net.EmbeddedNetwork(TINY).eval()


def test_the_shipped_size_is_small():
    count = sum(p.numel() for p in net.EmbeddedNetwork().parameters())
    assert count <= 6_000_000
    assert 4 * count <= 20e6


@pytest.mark.parametrize(("height", "width"), [(64, 64), (96, 160), (256, 256)])
@torch.no_grad()
def test_any_size_that_is_a_multiple_of_16(network, height, width):
    encoded = network.encode(torch.rand(2, 1, height, width))
    queries = network.decode(encoded, point_prompts(torch.zeros(2, 5, 2)))
    assert encoded.embedding.shape == (2, 64, height // 4, width // 4)
    assert torch.allclose(encoded.embedding.norm(dim=1), torch.ones(2, height // 4, width // 4), atol=1e-4)
    assert net.mask_logits(encoded.pixels, queries).shape == (2, 5, 3, height // 2, width // 2)
    assert queries.iou.shape == (2, 5, 3)
    assert ((queries.iou >= 0) & (queries.iou <= 1)).all()


@torch.no_grad()
def test_prompts_do_not_know_of_each_other(network):
    """A prompt has the same answer alone, among others, and with places that do not count."""
    encoded = network.encode(torch.rand(1, 1, 64, 64))
    places = torch.tensor([[[0.2, -0.4], [-0.5, 0.5], [0.9, 0.9]]])
    together = net.mask_logits(encoded.pixels, network.decode(encoded, point_prompts(places)))
    alone = net.mask_logits(encoded.pixels, network.decode(encoded, point_prompts(places[:, 1:2])))
    assert torch.allclose(together[:, 1:2], alone, atol=1e-3)
    padded = net.Prompts(
        torch.cat([places[:, 1:2, None], torch.full((1, 1, 3, 2), 0.7)], 2),
        torch.tensor([[[net.POSITIVE, *[net.NO_PROMPT] * 3]]]),
    )
    assert torch.allclose(net.mask_logits(encoded.pixels, network.decode(encoded, padded)), alone, atol=1e-3)


@torch.no_grad()
def test_a_window_is_a_quadratic_around_its_middle(network):
    """bias - |A (p - anchor - shift)|², written out for one window, whatever the image."""
    shape, bias = torch.tensor([0.1, -0.2, 0.3, -0.4, 0.5]), 1.5
    same = copy.deepcopy(network)
    for heads in (same.decoder.to_window, same.decoder.to_weights):
        heads.second.zero_()
        heads.second_bias.zero_()
    same.decoder.to_window.second_bias[:] = shape
    same.decoder.to_weights.second_bias[:, -1] = bias
    queries = same.decode(same.encode(torch.rand(1, 1, 64, 64)), point_prompts(torch.tensor([[[0.25, -0.5]]])))
    x, y = 0.7, -0.1
    a, c = shape[2].exp(), shape[3].exp()
    dx, dy = x - 0.35, y + 0.7
    expected = bias - (a * dx + 0.5 * a * dy) ** 2 - (c * dy) ** 2
    at_place = queries.window @ torch.tensor([1, x, y, x * x, y * y, x * y])
    assert torch.allclose(at_place, expected.expand(1, 1, net.MASKS), atol=1e-5)


def test_boxes_point_at_their_corners_and_inside():
    prompts = box_prompts(torch.tensor([[[-0.5, -0.2]]]), torch.tensor([[[0.5, 0.6]]]))
    assert prompts.kinds[0, 0, :2].tolist() == [net.CORNER_LOW, net.CORNER_HIGH]
    assert prompts.places[0, 0, 0].tolist() == pytest.approx([-0.5, -0.2])
    assert prompts.places[0, 0, 1].tolist() == pytest.approx([0.5, 0.6])
    assert prompts.places[0, 0, 2].tolist() == pytest.approx([0.0, 0.2])
    inside = prompts.places[0, 0, 2:]
    assert ((inside > torch.tensor([-0.5, -0.2])) & (inside < torch.tensor([0.5, 0.6]))).all()


@torch.no_grad()
def test_the_network_can_be_traced_and_exported(network):
    image = torch.rand(1, 1, 64, 64)
    expected = network(image)
    traced = torch.jit.trace(network, image)
    assert torch.allclose(traced(image), expected, atol=1e-4)
    exported = torch.export.export(network, (image,)).module()
    assert torch.allclose(exported(image), expected, atol=1e-4)


def test_a_file_gives_the_network_back(network, tmp_path):
    digest = save_network(network, tmp_path / "a.safetensors", {"steps": 7})
    read, about, hash_of_file = load_network(tmp_path / "a.safetensors")
    assert (about, hash_of_file) == ({"steps": 7}, digest)
    assert read.size == TINY
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        assert torch.equal(read(image), network(image))
    assert not list(tmp_path.glob("*.part"))


def test_other_files_are_refused(network, tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        load_network(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors")
    with pytest.raises(UsageError, match="cannot be read"):
        load_network(tmp_path / "text.safetensors")
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(UsageError, match="of format None"):
        load_network(tmp_path / "other.safetensors")
    header = {"format": FORMAT, "size": json.dumps({}), "about": "{}"}
    save_file({"a": torch.zeros(2)}, tmp_path / "lacking.safetensors", header)
    with pytest.raises(UsageError, match="cannot be read"):
        load_network(tmp_path / "lacking.safetensors")
    broken = net.EmbeddedNetwork(TINY)
    broken.stem.weight.data[0] = float("nan")
    save_network(broken, tmp_path / "nan.safetensors", {})
    with pytest.raises(UsageError, match="not finite"):
        load_network(tmp_path / "nan.safetensors")
