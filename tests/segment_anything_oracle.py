"""Run in a process of its own, where segment-anything can be imported (see tests/oracle.py):

    python segment_anything_oracle.py KIND FOLDER

writes FOLDER/sam.pth, random weights of the published classes, and FOLDER/answers.npz, what they say.
"""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
from segment_anything import SamAutomaticMaskGenerator, SamPredictor
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from segment_anything.utils.amg import calculate_stability_score

SIZE = 256  # pixels; the width, depth and heads are the published ones
KINDS = {  # width, depth, heads, global layers
    "tiny": (48, 3, 2, [1]),
    "vit_b": (768, 12, 12, [2, 5, 8, 11]),
    "vit_h": (1280, 32, 16, [7, 15, 23, 31]),
}


def build(kind: str, size: int = SIZE) -> Sam:
    """A random SAM of one of the kinds."""
    width, depth, heads, global_layers = KINDS[kind]
    cells = size // 16
    with torch.device("meta"):
        sam = Sam(
            ImageEncoderViT(
                depth=depth, embed_dim=width, img_size=size, mlp_ratio=4, num_heads=heads, patch_size=16,
                norm_layer=partial(torch.nn.LayerNorm, eps=1e-6), qkv_bias=True, use_rel_pos=True, window_size=14,
                global_attn_indexes=global_layers, out_chans=256,
            ),
            PromptEncoder(256, (cells, cells), (size, size), 16),
            MaskDecoder(transformer_dim=256, transformer=TwoWayTransformer(2, 256, 8, 2048)),
            [123.675, 116.28, 103.53],
            [58.395, 57.12, 57.375],
        )  # fmt: skip
    sam.to_empty(device="cpu")
    sam.pixel_mean = torch.tensor([123.675, 116.28, 103.53]).view(-1, 1, 1)
    sam.pixel_std = torch.tensor([58.395, 57.12, 57.375]).view(-1, 1, 1)
    random = torch.Generator().manual_seed(0)
    for name, parameter in [*sam.named_parameters(), *sam.prompt_encoder.pe_layer.named_buffers()]:
        deviation = parameter[0].numel() ** -0.5 if parameter.ndim > 1 and "rel_pos" not in name else 0.1
        deviation *= 3 if name.startswith("mask_decoder.output") else 1
        parameter.data.normal_(0, deviation, generator=random)
        if "norm" in name and name.endswith("weight"):
            parameter.data += 1
    # Predicted IoUs within 0..1, as a configuration can ask for them.
    last = sam.mask_decoder.iou_prediction_head.layers[-1]
    last.weight.data *= 0.1
    last.bias.data = 0.5 + 0.1 * last.bias.data
    return sam.eval()


def picture(width: int, height: int) -> np.ndarray:
    """Grey uint8 [y, x] whose darkest and brightest hundredths are 0 and 255, so that no window changes it."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    waves = sum(np.sin(rng.normal(0, 0.15) * x + rng.normal(0, 0.15) * y + rng.uniform(0, 6)) for _ in range(6))
    low, high = np.percentile(waves, (2, 98))
    return np.clip((waves - low) / (high - low) * 255, 0, 255).astype(np.uint8)


def between(values: np.ndarray, share: float) -> float:
    """A threshold near a quantile, in the middle of the widest gap there: rounding cannot cross it."""
    ordered = np.sort(values[np.isfinite(values)])
    around = slice(int((share - 0.05) * len(ordered)), int((share + 0.05) * len(ordered)) + 2)
    near = ordered[around]
    gap = int(np.diff(near).argmax())
    return float(near[gap : gap + 2].mean())


class Remembering(torch.nn.Module):
    """An image encoder that knows the last image, which the generators would have encoded anew each time."""

    def __init__(self, encoder: ImageEncoderViT) -> None:
        super().__init__()
        self.encoder, self.img_size = encoder, encoder.img_size
        self.last: tuple[torch.Tensor, torch.Tensor] | None = None

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if self.last is None or not torch.equal(self.last[0], image):
            self.last = image, self.encoder(image)
        return self.last[1]


@torch.no_grad()
def main(kind: str, folder: Path) -> None:
    """Weights and answers."""
    sam = build(kind)
    torch.save(sam.state_dict(), folder / "sam.pth")
    sam.image_encoder = Remembering(sam.image_encoder)
    answers: dict[str, np.ndarray] = {}
    for name, (width, height) in {"square": (SIZE, SIZE), "wide": (SIZE, 3 * SIZE // 4)}.items():
        grey = picture(width, height)
        predictor = SamPredictor(sam)
        predictor.set_image(np.repeat(grey[..., None], 3, -1))
        points = (np.indices((5, 4)).reshape(2, -1).T + 0.5) * (width / 5, height / 4)
        masks, iou, _ = predictor.predict_torch(
            torch.tensor(points, dtype=torch.float32)[:, None], torch.ones(len(points), 1), return_logits=True
        )
        grid = (np.indices((8, 8)).reshape(2, -1).T + 0.5) * (width / 8, height / 8)
        every, every_iou, _ = predictor.predict_torch(
            torch.tensor(grid, dtype=torch.float32)[:, None], torch.ones(len(grid), 1), return_logits=True
        )
        thresholds = {
            "pred_iou": between(every_iou.flatten().numpy(), 0.3),
            "stability": between(calculate_stability_score(every.flatten(0, 1), 0.0, 1.0).numpy(), 0.3),
        }
        found = {}
        for max_box_iou in (0.7, 1.0):
            generator = SamAutomaticMaskGenerator(
                sam,
                points_per_side=8,
                pred_iou_thresh=thresholds["pred_iou"],
                stability_score_thresh=thresholds["stability"],
                box_nms_thresh=max_box_iou,
            )
            masks_of = generator.generate(np.repeat(grey[..., None], 3, -1))
            found[f"{name}_generated_{max_box_iou}"] = np.stack([one["segmentation"] for one in masks_of])
        answers |= {
            f"{name}_picture": grey,
            f"{name}_embedding": predictor.get_image_embedding()[0].numpy(),
            f"{name}_points": points,
            f"{name}_logits": masks.numpy(),
            f"{name}_iou": iou.numpy(),
            f"{name}_thresholds": np.array(list(thresholds.values())),
        } | found
    np.savez(folder / "answers.npz", **answers)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
