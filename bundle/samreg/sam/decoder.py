"""The mask decoder of the SAM family, for many prompts of one slice.

The published decoder repeats the image's side of every attention for each prompt. Here that work is
done once a slice (`PreparedSlice`), and projections of all cells of the image are moved to the few tokens:
for a query q, q·(W x) = (Wᵀ q)·x in every cell x, and a weighted mean of W x is W times that of x.
The result is the published one up to rounding. Masks are made only where the predicted IoU is worth it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d, gelu, layer_norm

from samreg.promptable_models import EncodedSlice, Masks

gelu_ = torch.ops.aten.gelu_  # in place, which torch.nn.functional does not have

AT_ONCE_ON_CPU = 2  # prompts; what belongs to them then stays in the processor's cache


@dataclass(frozen=True, eq=False)
class PreparedSlice:
    """What all prompts of a slice share; n cells, c channels, h heads of d channels.

    Attributes:
        shape: Cells along y and x.
        cells: [n, c] embedding with the dense prompt.
        keys, values, queries: [h, d, n], [h, n, d], [h, d, n] of the first layer.
        key_positions: [h, d, n] of each later attention from tokens, the final one last.
        query_positions: [h, d, n] of each later attention from cells.
        fine: `EncodedSlice.fine` in the order of the upscaled cells: [n, 4, c / 4], [n, 16, c / 8].
    """

    shape: tuple[int, int]
    cells: Tensor
    keys: Tensor
    values: Tensor
    queries: Tensor
    key_positions: list[Tensor]
    query_positions: list[Tensor]
    fine: tuple[Tensor, ...]


class Decoder:
    """The decoder of one model.

    Args:
        model: A model of the family, as `samreg.sam.loading` makes it.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._parts = model.mask_decoder
        layers = self._parts.transformer.layers
        self._layers = list(layers)
        for layer in layers:  # as the published models were trained; transformers has 1e-6 for some of them
            for norm in (layer.layer_norm1, layer.layer_norm2, layer.layer_norm3, layer.layer_norm4):
                norm.eps = 1e-5
        self._to_image = [_Attention(layer.cross_attn_token_to_image) for layer in layers]
        self._from_image = [_Attention(layer.cross_attn_image_to_token) for layer in layers]
        self._final = _Attention(self._parts.transformer.final_attn_token_to_image)
        self._upscale = [_Upscaling(self._parts.upscale_conv1), _Upscaling(self._parts.upscale_conv2)]
        self._object_tokens = int(hasattr(self._parts, "obj_score_token"))
        self._refines = hasattr(self._parts, "hq_token")
        self._own_tokens = sum(len(tokens) for tokens in self._own())

    @torch.no_grad()
    def prepare(self, encoded: EncodedSlice) -> PreparedSlice:
        """The part of the work that does not depend on prompts."""
        position = self._model.get_image_wide_positional_embeddings()[0].flatten(1).T
        cells = encoded.embedding.to(position).flatten(1).T + self._model.prompt_encoder.no_mask_embed.weight
        later = self._to_image[1:] + [self._final]
        height, width = encoded.embedding.shape[1:]
        return PreparedSlice(
            (height, width),
            cells,
            keys=_by_head(self._to_image[0].key(cells + position), self._to_image[0].heads),
            values=_by_head(self._to_image[0].value(cells), self._to_image[0].heads).transpose(1, 2),
            queries=_by_head(self._from_image[0].query(cells + position), self._from_image[0].heads),
            key_positions=[_by_head(position @ a.key.weight.T, a.heads) for a in later],
            query_positions=[_by_head(a.query(position), a.heads) for a in self._from_image[1:]],
            fine=tuple(_to_blocks(f.to(position), (height, width)) for f in encoded.fine),
        )

    @torch.no_grad()
    def masks(self, image: PreparedSlice, prompts: Tensor, *, min_iou: float = float("-inf")) -> Masks:
        """Masks of prompts.

        Args:
            image: The slice.
            prompts: [p, t, c] embeddings of the prompt encoder.
            min_iou: A mask of which less is predicted is not made.

        Returns:
            Up to three masks a prompt (HQ-SAM: the best of three, refined), in order of the prompts.
        """
        step = AT_ONCE_ON_CPU if prompts.device.type == "cpu" else len(prompts)
        parts = [self._masks(image, prompts[n : n + step], min_iou) for n in range(0, len(prompts), step)]
        return Masks(
            torch.cat([part.logits for part in parts]),
            torch.cat([part.iou for part in parts]),
            torch.cat([part.prompt + number * step for number, part in enumerate(parts)]),
        )

    def _masks(self, image: PreparedSlice, prompts: Tensor, min_iou: float) -> Masks:
        parts = self._parts
        queries, cells = self._transformed(image, self._tokens(prompts))
        first = self._object_tokens
        iou = parts.iou_prediction_head(queries[:, first])[:, 1:]
        wanted = iou >= min_iou
        if self._refines:
            wanted &= torch.arange(iou.shape[1], device=iou.device) == iou.argmax(1, keepdim=True)
        prompt, which = wanted.nonzero(as_tuple=True)
        used, of_used = prompt.unique(return_inverse=True)
        if not len(used):
            height, width = image.shape
            return Masks(cells.new_zeros(0, 4 * height, 4 * width), iou[prompt, which], prompt)
        fine = self._upscaled(image, cells if len(used) == len(cells) else cells[used])
        mlps = list(parts.output_hypernetworks_mlps)[1:]
        weights = torch.stack([mlp(queries[used, first + 2 + n]) for n, mlp in enumerate(mlps)], 1)
        blocks = torch.baddbmm(fine.new_zeros(1, 1, 1), weights.to(fine), fine.flatten(1, 2).transpose(1, 2))
        logits = _from_blocks(blocks.unflatten(2, fine.shape[1:3]), image.shape)[of_used, which]
        if self._refines:
            logits = logits + self._refinement(image, fine, queries[used, first + 2 + len(mlps)])[of_used]
        return Masks(logits.float(), iou[prompt, which].float(), prompt)

    def _tokens(self, prompts: Tensor) -> Tensor:
        """[p, t, c] the decoder's own tokens, then those of the prompts."""
        own = torch.cat(self._own())
        return torch.cat([own.expand(len(prompts), -1, -1), prompts.to(own)], 1)

    def _own(self) -> list[Tensor]:
        parts = self._parts
        own = [parts.iou_token.weight, parts.mask_tokens.weight]
        if self._object_tokens:
            own.insert(0, parts.obj_score_token.weight)
        if self._refines:
            own.append(parts.hq_token.weight)
        return own

    def _transformed(self, image: PreparedSlice, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The decoder's own tokens [p, t, c] and cells [p, n, c] after the two-way transformer."""
        queries, cells = tokens, image.cells.expand(len(tokens), -1, -1)
        for number, layer in enumerate(self._layers):
            to_image, from_image = self._to_image[number], self._from_image[number]
            attended = queries if number == 0 else queries + tokens
            found = layer.self_attn(attended[None], attended[None], queries[None])[0][0]
            queries = layer.layer_norm1(found if number == 0 else queries + found)
            if number == 0:
                found = to_image.of_shared(queries + tokens, image.keys, image.values)
            else:
                found = to_image.of_cells(queries + tokens, cells, image.key_positions[number - 1])
            queries = layer.layer_norm2(queries + found)
            queries = layer.layer_norm3(queries + layer.mlp(queries))
            scores = from_image.scores_of_cells(
                queries + tokens,
                *((None, image.queries) if number == 0 else (cells, image.query_positions[number - 1])),
            )
            cells = layer.layer_norm4(from_image.added_to_cells(cells, scores, queries))
        # Those of the prompts are not read any more.
        queries, tokens = queries[:, : self._own_tokens], tokens[:, : self._own_tokens]
        queries = queries + self._final.of_cells(queries + tokens, cells, image.key_positions[-1])
        return self._parts.transformer.layer_norm_final_attn(queries), cells

    def _upscaled(self, image: PreparedSlice, cells: Tensor) -> Tensor:
        """[p, n, 16, c / 8]: each cell's 4 x 4 finer ones."""
        half, fine = self._upscale
        at_half, at_fine = image.fine if self._object_tokens else (None, None)
        cells = gelu_(_normalised(self._parts.upscale_layer_norm, _added(half(cells), at_half)))
        return gelu_(_added(fine(cells).flatten(2, 3), at_fine))

    def _refinement(self, image: PreparedSlice, fine: Tensor, token: Tensor) -> Tensor:
        """HQ-SAM's correction of the masks, logits [p, y, x]."""
        parts = self._parts
        hidden = parts.mask_conv1(_from_blocks(fine.permute(0, 3, 1, 2), image.shape))
        hidden = gelu(parts.mask_norm(hidden))
        weights = parts.hq_mask_mlp(token).to(hidden)  # [p, c / 8]
        # The last convolution and the product with the token's weights are one convolution to one channel.
        kernels = torch.einsum("po,oiyx->piyx", weights, parts.mask_conv2.weight.to(hidden))
        out = conv2d(hidden.flatten(0, 1)[None], kernels, padding=1, groups=len(kernels))[0]
        constant = torch.einsum("pc,nsc->pns", weights, image.fine[0] + parts.mask_conv2.bias)
        return out + _from_blocks(constant[:, None], image.shape)[:, 0]


class _Attention:
    """An attention between tokens and cells, its projections by head."""

    def __init__(self, module: Any) -> None:
        self.heads = int(module.num_attention_heads)
        self.query, self.key, self.value = module.q_proj, module.k_proj, module.v_proj
        self.out = module.out_proj if hasattr(module, "out_proj") else module.o_proj
        self.scale = (self.query.out_features // self.heads) ** -0.5

    def of_shared(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """What tokens [p, t, c] find in keys [h, d, n] and values [h, n, d] that all prompts share."""
        prompts, tokens, _ = queries.shape
        q = self._heads_of(self.query(queries) * self.scale).transpose(0, 1)  # [h, p, t, d]
        weights = torch.softmax(q.flatten(1, 2) @ keys, -1)
        found = (weights @ values).unflatten(1, (prompts, tokens))
        return self.out(found.permute(1, 2, 0, 3).flatten(2))

    def of_cells(self, queries: Tensor, cells: Tensor, positions: Tensor) -> Tensor:
        """What tokens [p, t, c] find in the cells [p, n, c] of their own prompt, at positions [h, d, n]."""
        q = self._heads_of(self.query(queries) * self.scale)  # [p, h, t, d]
        # The key's bias adds the same to all cells, so the softmax does not see it.
        by_content = torch.einsum("phtd,hdc->phtc", q, self._by_head(self.key.weight)).flatten(1, 2)
        scores = torch.baddbmm((q @ positions).flatten(1, 2), by_content, cells.transpose(1, 2))
        mean = torch.bmm(torch.softmax(scores, -1), cells).unflatten(1, (self.heads, -1))  # [p, h, t, c]
        found = torch.einsum("phtc,hdc->pthd", mean, self._by_head(self.value.weight)).flatten(2)
        return self.out(found + self.value.bias)

    def scores_of_cells(self, keys: Tensor, cells: Tensor | None, positions: Tensor) -> Tensor:
        """[p, h, t, n] how much each cell [p, n, c] attends to tokens [p, t, c]; sums to 1 over t.

        Args:
            cells: None for the first layer, where `positions` are the whole queries.
            positions: [h, d, n] queries of the cells' positions, with the bias.
        """
        k = self._heads_of(self.key(keys) * self.scale)
        scores = k @ positions
        if cells is not None:
            by_content = torch.einsum("phtd,hdc->phtc", k, self._by_head(self.query.weight)).flatten(1, 2)
            scores = torch.baddbmm(scores.flatten(1, 2), by_content, cells.transpose(1, 2)).view_as(scores)
        return torch.softmax(scores, 2)

    def added_to_cells(self, cells: Tensor, scores: Tensor, values: Tensor) -> Tensor:
        """Cells [p, n, c] plus what they find in tokens [p, t, c]."""
        v = self._heads_of(self.value(values))
        out_by_head = self.out.weight.T.unflatten(0, (self.heads, -1))  # [h, d, c]
        # The scores of a head sum to 1, so every head can bring its share of the bias.
        each = torch.einsum("phtd,hdc->phtc", v, out_by_head) + self.out.bias / self.heads
        return torch.baddbmm(cells, scores.flatten(1, 2).transpose(1, 2), each.flatten(1, 2))

    def _heads_of(self, projected: Tensor) -> Tensor:
        """[p, t, h d] as [p, h, t, d]."""
        return projected.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def _by_head(self, weight: Tensor) -> Tensor:
        """[h d, c] as [h, d, c]."""
        return weight.unflatten(0, (self.heads, -1))


class _Upscaling:
    """A 2 x 2 transposed convolution of stride 2 on channels-last cells [p, ..., c]: [p, ..., 4, o]."""

    def __init__(self, module: Any) -> None:
        self.weight = module.weight.permute(2, 3, 1, 0).flatten(0, 2)[..., None, None]  # [2 2 o, c, 1, 1]
        self.bias = module.bias.repeat(4)

    def __call__(self, cells: Tensor) -> Tensor:
        # As a convolution, which on a CPU adds the bias without another pass through memory; of two rows,
        # since the layout of a single one is not taken for channels-last.
        rows = cells.reshape(1, 2, -1, cells.shape[-1]).permute(0, 3, 1, 2)
        fine = conv2d(rows, self.weight, self.bias).permute(0, 2, 3, 1)
        return fine.reshape(*cells.shape[:-1], 4, -1)


def _by_head(projected: Tensor, heads: int) -> Tensor:
    """[n, h d] as [h, d, n]."""
    return projected.T.unflatten(0, (heads, -1)).contiguous()


def _added(cells: Tensor, more: Tensor | None) -> Tensor:
    return cells if more is None else cells.add_(more)


def _normalised(module: Any, cells: Tensor) -> Tensor:
    return layer_norm(cells, module.normalized_shape, module.weight, module.bias, module.eps)


def _to_blocks(fine: Tensor, shape: tuple[int, int]) -> Tensor:
    """[c, f y, f x] as [y x, f f, c], each level of halves by itself as the upscaling leaves them."""
    height, width = shape
    levels = (fine.shape[1] // height).bit_length() - 1
    split = fine.reshape(fine.shape[0], height, *[2] * levels, width, *[2] * levels)
    rows, columns = range(2, 2 + levels), range(3 + levels, 3 + 2 * levels)
    pairs = [axis for pair in zip(rows, columns, strict=True) for axis in pair]
    return split.permute(1, 2 + levels, *pairs, 0).reshape(height * width, 4**levels, fine.shape[0])


def _from_blocks(blocks: Tensor, shape: tuple[int, int]) -> Tensor:
    """[p, m, y x, 16] as [p, m, 4 y, 4 x]."""
    prompts, masks = blocks.shape[:2]
    height, width = shape
    split = blocks.reshape(prompts, masks, height, width, 2, 2, 2, 2)
    return split.permute(0, 1, 2, 4, 6, 3, 5, 7).reshape(prompts, masks, 4 * height, 4 * width)
