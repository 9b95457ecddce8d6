"""TinyViT, the image encoder of MobileSAM (Wu et al., arXiv 2207.10666; Zhang et al., arXiv 2306.14289).

Four stages: convolutions, then attention within windows; the input shrinks by 4 at the start and by
2 into the second and the third stage. Modules are named as in the published checkpoint. Batch
normalisation uses its stored statistics: the model is for evaluation alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, pad, scaled_dot_product_attention
from transformers.modeling_outputs import BaseModelOutput


@dataclass(frozen=True)
class Shape:
    """Sizes of a TinyViT; a tuple has a number for each stage.

    Attributes:
        widths: Channels.
        depths: Blocks.
        heads: Of attention; the first stage has none.
        windows: Side of a window in cells; likewise.
        expansion, mlp: How many times wider the inside of a convolution block and of an MLP is.
        channels: Of the embedding.
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    windows: tuple[int, ...]
    expansion: int = 4
    mlp: int = 4
    channels: int = 256


class TinyViT(nn.Module):
    """The encoder: [n, 3, y, x] to [n, channels, y / 16, x / 16]."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        first = shape.widths[0]
        start = _Convolution(3, first // 2, 3, stride=2), nn.GELU(), _Convolution(first // 2, first, 3, stride=2)
        self.patch_embed = nn.ModuleDict({"seq": nn.Sequential(*start)})
        last = len(shape.widths) - 1
        self.layers = nn.ModuleList(_Stage(shape, n, shrink=n < last - 1) for n in range(last + 1))
        self.neck = nn.Sequential(
            nn.Conv2d(shape.widths[-1], shape.channels, 1, bias=False),
            _ChannelNorm(shape.channels),
            nn.Conv2d(shape.channels, shape.channels, 3, padding=1, bias=False),
            _ChannelNorm(shape.channels),
        )

    def forward(self, pixel_values: Tensor, **_: Any) -> BaseModelOutput:
        """The embedding of an image, as transformers' encoders give it."""
        x = self.patch_embed["seq"](pixel_values)
        for stage in self.layers:
            x = stage(x)
        return BaseModelOutput(last_hidden_state=self.neck(x))


class _Stage(nn.Module):
    """Blocks, and the step to the next stage; the last but one keeps the resolution."""

    def __init__(self, shape: Shape, n: int, *, shrink: bool) -> None:
        super().__init__()
        width = shape.widths[n]
        if n == 0:
            blocks: list[nn.Module] = [_ConvolutionBlock(width, shape.expansion) for _ in range(shape.depths[n])]
        else:
            window = shape.windows[n], shape.heads[n]
            blocks = [_AttentionBlock(width, *window, shape.mlp) for _ in range(shape.depths[n])]
        self.blocks = nn.ModuleList(blocks)
        self.downsample = None
        if n + 1 < len(shape.widths):
            self.downsample = _Step(width, shape.widths[n + 1], stride=2 if shrink else 1)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class _Convolution(nn.Module):
    """A convolution that keeps the resolution (but for its stride), and batch normalisation."""

    def __init__(self, given: int, made: int, side: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.c = nn.Conv2d(given, made, side, stride, side // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(made)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.c(x))


class _Bottleneck(nn.Module):
    """1 x 1, 3 x 3 within each channel, 1 x 1, with GELU between."""

    def __init__(self, given: int, inside: int, made: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = _Convolution(given, inside, 1)
        self.conv2 = _Convolution(inside, inside, 3, stride=stride, groups=inside)
        self.conv3 = _Convolution(inside, made, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(gelu(self.conv2(gelu(self.conv1(x)))))


class _ConvolutionBlock(_Bottleneck):
    def __init__(self, width: int, expansion: int) -> None:
        super().__init__(width, width * expansion, width)

    def forward(self, x: Tensor) -> Tensor:
        return gelu(x + super().forward(x))


class _Step(_Bottleneck):
    """From one stage to the next."""

    def __init__(self, given: int, made: int, *, stride: int) -> None:
        super().__init__(given, made, made, stride=stride)


class _AttentionBlock(nn.Module):
    """Attention within windows, a 3 x 3 convolution within each channel, an MLP."""

    def __init__(self, width: int, window: int, heads: int, mlp: int) -> None:
        super().__init__()
        self.attn = _Attention(width, window, heads)
        self.local_conv = _Convolution(width, width, 3, groups=width)
        self.mlp = _Mlp(width, width * mlp)

    def forward(self, x: Tensor) -> Tensor:
        x = self.local_conv(x + self.attn(x))
        return x + self.mlp(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _Attention(nn.Module):
    """Attention among the cells of a window, with a learned bias for each offset |Δy|, |Δx|."""

    offsets: Tensor

    def __init__(self, width: int, window: int, heads: int) -> None:
        super().__init__()
        self.window, self.heads = window, heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window**2))
        cells = torch.cartesian_prod(torch.arange(window), torch.arange(window))
        apart = (cells[:, None] - cells[None]).abs()
        self.register_buffer("offsets", apart[..., 0] * window + apart[..., 1], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, y, x] to the same shape; what fills the last windows is zero and takes part."""
        n, width, rows, columns = x.shape
        side = self.window
        x = pad(x, (0, -columns % side, 0, -rows % side))
        down, across = x.shape[2] // side, x.shape[3] // side
        x = x.view(n, width, down, side, across, side).permute(0, 2, 4, 3, 5, 1).reshape(-1, side**2, width)
        query, key, value = self.qkv(self.norm(x)).unflatten(-1, (self.heads, 3, -1)).permute(3, 0, 2, 1, 4)
        x = scaled_dot_product_attention(query, key, value, attn_mask=self.attention_biases[:, self.offsets])
        x = self.proj(x.transpose(1, 2).flatten(2))
        x = x.view(n, down, across, side, side, width).permute(0, 5, 1, 3, 2, 4)
        return x.reshape(n, width, down * side, across * side)[:, :, :rows, :columns]


class _Mlp(nn.Module):
    def __init__(self, width: int, inside: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, inside)
        self.fc2 = nn.Linear(inside, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(gelu(self.fc1(self.norm(x))))


class _ChannelNorm(nn.Module):
    """Layer normalisation over the channels of [n, c, y, x]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        x = layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, eps=1e-6)
        return x.permute(0, 3, 1, 2)
