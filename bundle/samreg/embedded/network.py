"""The embedded model: a small promptable network in plain torch, trained on synthesis alone.

Like SAM (Kirillov et al., ICCV 2023) it encodes an image once and answers prompts with three masks each and the
IoU it expects of them. Unlike SAM's, a mask is one product of a query and the pixels' features, so everything mode
costs about as much as the encoder. A head of its own gives embeddings that are alike where two images show the
same place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, grid_sample, interpolate, normalize, pad, scaled_dot_product_attention

POSITIVE, NEGATIVE, CORNER_LOW, CORNER_HIGH, INSIDE, NO_PROMPT = range(6)
MASKS = 3  # of a prompt
EMBEDDING_STRIDE = 4
MASK_STRIDE = 2
_SLOPE = 5.0  # so that a hidden unit can change within a small region


@dataclass(frozen=True)
class Size:
    """Of the network.

    Attributes:
        widths, depths: Channels and residual blocks at strides 2, 4, 8 and 16.
        layers: Transformer layers at stride 16.
        width: Channels of the joined features at strides 16, 8 and 4.
        query_width, query_layers: Of the decoder.
        mask_channels: A query's product with the pixels runs over.
        units: Of a mask's own hidden layer.
        embedding: Channels of the matching head.
    """

    widths: tuple[int, int, int, int] = (32, 64, 128, 192)
    depths: tuple[int, int, int, int] = (1, 2, 2, 2)
    layers: int = 3
    width: int = 96
    query_width: int = 128
    query_layers: int = 2
    mask_channels: int = 32
    units: int = 8
    embedding: int = 64


class FeatureMaps(NamedTuple):
    """Images, ready for prompts.

    Attributes:
        embedding: [b, c, y / 4, x / 4] of unit length, for matching.
        features: [b, c, y / 4, x / 4], what a prompt sees where it points.
        context: [b, cells, c] tokens of the whole image, at stride 16.
        pixels: [b, c, y / 2, x / 2], what a query is multiplied with.
    """

    embedding: Tensor
    features: Tensor
    context: Tensor
    pixels: Tensor


class Prompts(NamedTuple):
    """Prompts of each image.

    Attributes:
        places: [b, p, t, 2] x and y of the points of a prompt, -1 and 1 being the image's edges.
        kinds: int64 [b, p, t]: POSITIVE … NO_PROMPT (a place that does not count).
    """

    places: Tensor
    kinds: Tensor


class Queries(NamedTuple):
    """What a prompt asks the pixels for.

    Attributes:
        weights: [b, p, MASKS, c] of the pixels' features.
        window: [b, p, MASKS, 6] of 1, x, y, x², y², xy: a mask's place and extent.
        hidden: [b, p, MASKS, units, c + 3] of the pixels' features, 1, x and y: a layer of the mask's own, whose
            rectified values ...
        out: [b, p, MASKS, units] ... are added with these weights.
        iou: [b, p, MASKS] expected of each mask, 0..1.
    """

    weights: Tensor
    window: Tensor
    hidden: Tensor
    out: Tensor
    iou: Tensor


class EmbeddedNetwork(nn.Module):
    """See the module.

    Args:
        size: Of the network.
    """

    def __init__(self, size: Size | None = None) -> None:
        super().__init__()
        self.size = size = size or Size()
        w1, w2, w3, w4 = size.widths
        self.stem = nn.Conv2d(1, w1, 3, 2, 1)
        self.stage2 = _stage(w1, w1, size.depths[0], 1)
        self.stage4 = _stage(w1, w2, size.depths[1], 2)
        self.stage8 = _stage(w2, w3, size.depths[2], 2)
        self.stage16 = _stage(w3, w4, size.depths[3], 2)
        self.position = FourierPosition(w4)
        self.transformer = nn.ModuleList(_TransformerLayer(w4) for _ in range(size.layers))
        self.norm16 = nn.LayerNorm(w4)
        self.join16 = nn.Conv2d(w4, size.width, 1)
        self.join8 = _Join(w3, size.width)
        self.join4 = _Join(w2, size.width)
        self.join2 = _Join(w1, size.mask_channels, size.width)
        self.pixels = nn.Conv2d(size.mask_channels, size.mask_channels, 1)
        self.matching = nn.Sequential(
            _Conv3(size.width, size.width),
            nn.GroupNorm(8, size.width),
            nn.GELU(),
            nn.Conv2d(size.width, size.embedding, 1),
        )
        self.decoder = QueryDecoder(size)

    def encode(self, images: Tensor) -> FeatureMaps:
        """Encodes images [b, 1, y, x] of 0..1, with sides that are multiples of 16."""
        at2 = self.stage2(self.stem(images * 2 - 1))
        at4 = self.stage4(at2)
        at8 = self.stage8(at4)
        at16 = self.stage16(at8)
        batch, channels, height, width = at16.shape
        tokens = at16.flatten(2).transpose(1, 2)
        places = grid_places(height, width, images.device)
        tokens = tokens + self.position(places)[None]
        for layer in self.transformer:
            tokens = layer(tokens)
        at16 = self.join16(self.norm16(tokens).transpose(1, 2).reshape(batch, channels, height, width))
        features = self.join4(at4, self.join8(at8, at16))
        return FeatureMaps(
            normalize(_unreduced(self.matching(features)), dim=1),
            features,
            self.decoder.context(at16, places),
            self.pixels(self.join2(at2, features)),
        )

    def decode(self, encoded: FeatureMaps, prompts: Prompts) -> Queries:
        """Queries of prompts, to be multiplied with the pixels by `mask_logits`."""
        return self.decoder(encoded, prompts)

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings [b, c, y / 4, x / 4] of images [b, 1, y, x], for matching."""
        return self.encode(images).embedding


def mask_logits(pixels: Tensor, queries: Queries) -> Tensor:
    """[b, p, masks, y / 2, x / 2] of queries; above 0 inside the mask."""
    batch, prompts, masks = queries.weights.shape[:3]
    height, width = pixels.shape[2:]
    flat = pixels.flatten(2).to(queries.weights.dtype)
    x, y = grid_places(height, width, pixels.device).to(_unreduced(pixels).dtype).unbind(-1)
    one = torch.ones_like(x)
    looks = queries.weights.flatten(1, 2) @ flat
    window = _unreduced(queries.window.flatten(1, 2)) @ torch.stack([one, x, y, x * x, y * y, x * y])
    placed = torch.cat([flat, torch.stack([one, x, y]).to(flat.dtype).expand(batch, -1, -1)], 1)
    units = (queries.hidden.flatten(1, 3) @ placed).relu_()
    units = units.view(batch, prompts * masks, queries.out.shape[-1], height * width)
    joined = (queries.out.flatten(1, 2)[:, :, None] @ units)[:, :, 0]
    return (_unreduced(looks) + _unreduced(joined) + window).view(batch, prompts, masks, height, width)


def grid_places(height: int, width: int, device: torch.device) -> Tensor:
    """[height · width, 2] x and y of cell centres, -1 and 1 being the image's edges."""
    y = (torch.arange(height, device=device) + 0.5) * (2 / height) - 1
    x = (torch.arange(width, device=device) + 0.5) * (2 / width) - 1
    return torch.stack([x.repeat(height), y.repeat_interleave(width)], -1)


class QueryDecoder(nn.Module):
    """Prompt tokens look at the image, and become queries."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        width = size.query_width
        self.masks = nn.Parameter(torch.randn(MASKS, width) * 0.5)
        self.kinds = nn.Parameter(torch.randn(NO_PROMPT + 1, width) * 0.5)
        self.seen = nn.Linear(size.width, width)
        self.seen_fine = nn.Linear(size.mask_channels, width)
        self.alike = nn.Linear(size.mask_channels, MASKS * size.mask_channels)
        self.position = FourierPosition(width)
        self.of_image = nn.Conv2d(size.width, width, 1)
        self.norm_context = nn.LayerNorm(width)
        self.layers = nn.ModuleList(_QueryLayer(width) for _ in range(size.query_layers))
        self.norm = nn.LayerNorm(width)
        self.to_weights = _MaskHeads(width, size.mask_channels + 1)
        self.to_window = _MaskHeads(width, 5)
        self.units = size.units
        self.to_units = _MaskHeads(width, size.units * (size.mask_channels + 4))
        self.to_iou = _MaskHeads(width, 1)

    def context(self, at16: Tensor, places: Tensor) -> Tensor:
        """[b, cells, c] tokens of images from features [b, c, y, x] at cells of these places."""
        return self.norm_context(self.of_image(at16).flatten(2).transpose(1, 2) + self.position(places)[None])

    def forward(self, encoded: FeatureMaps, prompts: Prompts) -> Queries:
        batch, count = prompts.kinds.shape[:2]
        counts = prompts.kinds != NO_PROMPT
        fine = _read(encoded.pixels, prompts.places)
        tokens = self.seen(_read(encoded.features, prompts.places)) + self.seen_fine(fine)
        tokens = tokens + self.kinds[prompts.kinds] + self.position(prompts.places)
        weight = (counts & (prompts.kinds != NEGATIVE))[..., None].to(prompts.places.dtype)
        anchor = (prompts.places * weight).sum(2) / weight.sum(2).clamp_min(1)  # [b, p, 2]
        # Mask tokens know what is pointed at from the start.
        pooled = (tokens * weight).sum(2, keepdim=True) / weight.sum(2, keepdim=True).clamp_min(1)
        tokens = torch.cat([self.masks.expand(batch, count, -1, -1) + pooled, tokens], 2)
        valid = torch.cat([counts.new_ones(batch, count, MASKS), counts], 2)
        for layer in self.layers:
            tokens = layer(tokens, valid, encoded.context)
        out = self.norm(tokens[:, :, :MASKS])
        weights = self.to_weights(out)
        # A mask starts as what looks like the places pointed at.
        pointed = (fine * weight).sum(2) / weight.sum(2).clamp_min(1)
        looks = weights[..., :-1] + self.alike(pointed).unflatten(-1, (MASKS, -1))
        window = _window(_unreduced(self.to_window(out)), _unreduced(weights[..., -1]), anchor[:, :, None])
        hidden, joined = self.to_units(out).unflatten(-1, (self.units, -1)).split([looks.shape[-1] + 3, 1], -1)
        hidden = _about(hidden, anchor[:, :, None, None])
        return Queries(looks, window, hidden, joined[..., 0], _unreduced(self.to_iou(out)[..., 0]).sigmoid())


def _unreduced(tensor: Tensor) -> Tensor:
    """Out of the reduced precision of autocast; float32 and float64 stay what they are."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def _read(features: Tensor, places: Tensor) -> Tensor:
    """[b, p, t, c] of features [b, c, y, x] at places [b, p, t, 2]."""
    features = _unreduced(features)
    where = places.flatten(1, 2)[:, :, None].to(features.dtype)
    read = grid_sample(features, where, padding_mode="border", align_corners=False)
    return read[..., 0].transpose(1, 2).unflatten(1, places.shape[1:3])


def _window(shape: Tensor, bias: Tensor, anchor: Tensor) -> Tensor:
    """bias - |A (p - anchor - shift)|² as factors of 1, x, y, x², y², xy; A is triangular.

    Args:
        shape: [..., 5] shift x, y, logarithms of A's diagonal, and its other entry.
        bias: [...].
        anchor: [..., 2].
    """
    centre = anchor + shape[..., :2]
    a, c = shape[..., 2].clamp(-3, 4).exp(), shape[..., 3].clamp(-3, 4).exp()
    b = shape[..., 4] * a
    cx, cy = centre.unbind(-1)
    # A (p - c) = (a (x - cx) + b (y - cy), c (y - cy))
    xx, yy, xy = a * a, b * b + c * c, 2 * a * b
    constant = bias - (xx * cx * cx + yy * cy * cy + xy * cx * cy)
    return torch.stack([constant, 2 * xx * cx + xy * cy, 2 * yy * cy + xy * cx, -xx, -yy, -xy], -1)


def _about(hidden: Tensor, anchor: Tensor) -> Tensor:
    """Weights [..., c + 3] of features, 1, x and y, these counted from the anchor [..., 2], as weights of x and y."""
    features, bias, slope = hidden.split([hidden.shape[-1] - 3, 1, 2], -1)
    slope = _SLOPE * slope
    return torch.cat([features, bias - (slope * anchor.to(slope.dtype)).sum(-1, keepdim=True), slope], -1)


class _MaskHeads(nn.Module):
    """Each mask token [..., MASKS, c] through two layers of its own."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(MASKS, width, width) / math.sqrt(width))
        self.first_bias = nn.Parameter(torch.zeros(MASKS, width))
        self.second = nn.Parameter(torch.randn(MASKS, width, out) * (0.3 / math.sqrt(width)))
        self.second_bias = nn.Parameter(torch.zeros(MASKS, out))

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = gelu(torch.einsum("bpmc,mcd->bpmd", tokens, self.first) + self.first_bias)
        return torch.einsum("bpmc,mcd->bpmd", hidden, self.second) + self.second_bias


class FourierPosition(nn.Module):
    """Sines and cosines of places [..., 2] -> [..., channels], and a learned mix of them."""

    def __init__(self, channels: int, bands: int = 6) -> None:
        super().__init__()
        self.frequencies: Tensor
        self.register_buffer("frequencies", math.pi / 2 * 2.0 ** torch.arange(bands), persistent=False)
        self.mix = nn.Linear(4 * bands, channels)

    def forward(self, places: Tensor) -> Tensor:
        angles = (places[..., None] * self.frequencies).flatten(-2)
        return self.mix(torch.cat([angles.sin(), angles.cos()], -1))


class _QueryLayer(nn.Module):
    """Tokens of a prompt look at each other, then at the image."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_self, self.norm_cross, self.norm_mlp = (nn.LayerNorm(width) for _ in range(3))
        self.among = _Attention(width)
        self.image = _Attention(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, tokens: Tensor, valid: Tensor, context: Tensor) -> Tensor:
        batch, prompts, count, width = tokens.shape
        flat = tokens.flatten(0, 1)
        normed = self.norm_self(flat)
        flat = flat + self.among(normed, normed, valid.flatten(0, 1)[:, None, None])
        joined = flat.view(batch, prompts * count, width)
        joined = joined + self.image(self.norm_cross(joined), context)
        joined = joined + self.mlp(self.norm_mlp(joined))
        return joined.view(batch, prompts, count, width)


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, queries: Tensor, others: Tensor, mask: Tensor | None = None) -> Tensor:
        q = self.query(queries).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.key_value(others).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out(scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2))


class _TransformerLayer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_self, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = _Attention(width, heads=6)
        self.mlp = nn.Sequential(nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        normed = self.norm_self(tokens)
        tokens = tokens + self.attention(normed, normed)
        return tokens + self.mlp(self.norm_mlp(tokens))


class _Conv3(nn.Conv2d):
    """A convolution with 3 × 3 weights that keeps the size.

    In double precision torch copies the image nine times over before it multiplies. Here, without gradients, each of
    the nine weight matrices is multiplied with the padded image as it lies in memory, from another place on: the same
    sums, in half the time.
    """

    def __init__(self, before: int, width: int) -> None:
        super().__init__(before, width, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        if features.dtype != torch.float64 or torch.is_grad_enabled() or self.bias is None:
            return super().forward(features)
        height, width = features.shape[2:]
        rows = pad(features, (1, 1, 1, 2)).flatten(2)  # of width + 2; the last row is read beyond, never kept
        length = height * (width + 2)
        out = self.bias[:, None].repeat(len(features), 1, length)
        for one, image in zip(out, rows, strict=True):
            for y, x in product(range(3), repeat=2):
                start = y * (width + 2) + x
                one.addmm_(self.weight[:, :, y, x], image[:, start : start + length])
        return out.unflatten(-1, (height, width + 2))[..., :width]


class _Block(nn.Module):
    """Two convolutions beside what they change."""

    def __init__(self, width: int) -> None:
        super().__init__()
        last = _Conv3(width, width)
        nn.init.zeros_(last.weight)
        self.body = nn.Sequential(
            nn.GroupNorm(8, width),
            nn.GELU(),
            _Conv3(width, width),
            nn.GroupNorm(8, width),
            nn.GELU(),
            last,
        )

    def forward(self, features: Tensor) -> Tensor:
        return features + self.body(features)


def _stage(before: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    parts: list[nn.Module] = [_Block(width) for _ in range(blocks)]
    if stride > 1:
        parts.insert(0, nn.Conv2d(before, width, 3, stride, 1))
    return nn.Sequential(*parts)


class _Join(nn.Module):
    """Fine features with coarse ones brought to their size."""

    def __init__(self, fine: int, width: int, coarse: int | None = None) -> None:
        super().__init__()
        self.of_fine = nn.Conv2d(fine, width, 1)
        self.of_coarse = nn.Conv2d(coarse, width, 1) if coarse else nn.Identity()
        self.mix = nn.Sequential(
            nn.GroupNorm(8, width), nn.GELU(), _Conv3(width, width), nn.GroupNorm(8, width), nn.GELU()
        )

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        raised = interpolate(self.of_coarse(coarse), scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.mix(self.of_fine(fine) + raised)
