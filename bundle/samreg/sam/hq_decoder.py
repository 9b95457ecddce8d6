"""HQ-SAM's mask decoder (Ke et al., arXiv 2306.01567) on the modules of transformers' SamHQMaskDecoder.

In transformers 5.23 the decoder of SamHQModel upscales the image embedding as it was before the
two-way transformer, rows and columns exchanged, and so gives other masks than the authors' code.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import gelu
from transformers.models.sam_hq.modeling_sam_hq import SamHQMaskDecoder


class HqMaskDecoder(SamHQMaskDecoder):
    """Takes the place of `SamHQModel.mask_decoder`: the same modules, arguments and results."""

    def forward(  # type: ignore[override]
        self,
        image_embeddings: Tensor,
        image_positional_embeddings: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
        multimask_output: bool,
        hq_token_only: bool = False,
        intermediate_embeddings: list[Tensor] | None = None,
        attention_similarity: Tensor | None = None,
        target_embedding: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Masks of prompts.

        Args:
            image_embeddings: [n, c, y, x].
            image_positional_embeddings: [n, c, y, x].
            sparse_prompt_embeddings: [n, p, tokens, c], of p prompts.
            dense_prompt_embeddings: [n, c, y, x].
            multimask_output: Three masks of each prompt, best first; else one.
            hq_token_only: The high-quality mask alone, in place of its sum with SAM's.
            intermediate_embeddings: Of the encoder's global blocks, [n, y, x, width]; the first is used.
            attention_similarity, target_embedding: As transformers passes them on to the attention.

        Returns:
            Logits [n, p, masks, 4 y, 4 x], and the model's own estimate of their IoU [n, p, masks].
        """
        n, p = sparse_prompt_embeddings.shape[:2]
        learned = torch.cat([self.iou_token.weight, self.mask_tokens.weight, self.hq_token.weight])
        tokens = torch.cat([learned.expand(n, p, -1, -1), sparse_prompt_embeddings], dim=2)
        queries, keys = self.transformer(
            point_embeddings=tokens,
            image_embeddings=(image_embeddings + dense_prompt_embeddings).repeat_interleave(p, 0),
            image_positional_embeddings=image_positional_embeddings.repeat_interleave(p, 0),
            attention_similarity=attention_similarity,
            target_embedding=target_embedding,
        )
        attended = keys.transpose(2, 3).reshape(n * p, *image_embeddings.shape[1:])
        fine = gelu(self.upscale_layer_norm(self.upscale_conv1(attended)))
        fine = gelu(self.upscale_conv2(fine))
        finest = self.mask_conv2(gelu(self.mask_norm(self.mask_conv1(fine))))
        finest = finest + self._details(image_embeddings, intermediate_embeddings).repeat_interleave(p, 0)

        count = len(self.output_hypernetworks_mlps)  # SAM's masks: a single one, then the alternatives
        made = queries[:, :, 1 : 2 + count]
        weights = [mlp(made[:, :, k]) for k, mlp in enumerate(self.output_hypernetworks_mlps)]
        masks = torch.einsum("npkc,npcyx->npkyx", torch.stack(weights, 2), fine.unflatten(0, (n, p)))
        best = torch.einsum("npc,npcyx->npyx", self.hq_mask_mlp(made[:, :, count]), finest.unflatten(0, (n, p)))
        scores = self.iou_prediction_head(queries[:, :, 0])
        masks, scores = (masks[:, :, 1:], scores[:, :, 1:]) if multimask_output else (masks[:, :, :1], scores[:, :, :1])
        scores, order = scores.sort(dim=2, descending=True)
        if hq_token_only:
            return best[:, :, None], scores
        return masks.gather(2, order[..., None, None].expand_as(masks)) + best[:, :, None], scores

    def _details(self, image_embeddings: Tensor, intermediate_embeddings: list[Tensor] | None) -> Tensor:
        """[n, c / 8, 4 y, 4 x]: what the high-quality mask takes from the encoder's last and an early block."""
        late = self.encoder_conv2(gelu(self.encoder_norm(self.encoder_conv1(image_embeddings))))
        if not intermediate_embeddings:
            return late
        early = self.compress_vit_conv1(intermediate_embeddings[0].permute(0, 3, 1, 2))
        return late + self.compress_vit_conv2(gelu(self.compress_vit_norm(early)))
