"""Tiny models of the authors' own classes, and what samreg makes of their checkpoints (see tests/oracle.py).

python originals.py FOLDER KIND ROWS
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from samreg.sam.converting import convert
from samreg.sam.model import SamFamilyModel

WIDTH = 32
Answer = tuple[list[Tensor], Tensor, Tensor]  # embeddings [c, y, x], masks [3 or 1, y, x] of a point, their scores


def randomised(model: torch.nn.Module) -> Any:
    """The model in eval mode with its parameters and statistics drawn anew."""
    random = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=random)
    for name, values in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            values.copy_(0.5 + torch.rand(values.shape, generator=random))
    return model.train().eval()  # tables that some of them make on that occasion are made anew


def parts(package: Any, encoder: Any, decoder: Any, size: int, width: int) -> Any:
    """The Sam class of segment_anything, or of segment_anything_hq, around an encoder."""
    cells = size // 16
    prompts = package.PromptEncoder(width, (cells, cells), (size, size), 4)
    return randomised(package.Sam(encoder, prompts, decoder, [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]))


def vit(package: Any, size: int) -> Any:
    return package.ImageEncoderViT(
        img_size=size, embed_dim=WIDTH, depth=2, num_heads=2, out_chans=WIDTH, use_rel_pos=True, window_size=4,
        global_attn_indexes=[1], mlp_ratio=2.0, norm_layer=lambda n: torch.nn.LayerNorm(n, eps=1e-6),
    )  # fmt: skip


def decoder_of(package: Any, width: int, kind: str = "MaskDecoder", **more: Any) -> Any:
    transformer = package.TwoWayTransformer(2, width, 8, 48)
    return getattr(package, kind)(transformer_dim=width, transformer=transformer, iou_head_hidden_dim=24, **more)


def sam(size: int = 128) -> Any:
    from segment_anything import modeling

    return parts(modeling, vit(modeling, size), decoder_of(modeling, WIDTH), size, WIDTH)


def sam_hq(size: int = 128) -> Any:
    from segment_anything_hq import modeling

    return parts(
        modeling, vit(modeling, size), decoder_of(modeling, WIDTH, "MaskDecoderHQ", vit_dim=WIDTH), size, WIDTH
    )


def mobile(widths: tuple[int, ...] = (8, 16, 20, 320), depths: tuple[int, ...] = (1, 1, 2, 1)) -> Any:
    """HQ-SAM's copy of the encoder; its input of 1024 pixels, last width and embedding's channels are fixed."""
    from segment_anything import modeling
    from segment_anything_hq.modeling import TinyViT

    encoder = TinyViT(
        img_size=1024, embed_dims=list(widths), depths=list(depths), num_heads=[2, 4, 5, 10],
        window_sizes=[7, 7, 14, 7], drop_path_rate=0.0, layer_lr_decay=0.8,
    )  # fmt: skip
    return parts(modeling, encoder, decoder_of(modeling, 256), 1024, 256)


def sam2(stages: tuple[int, ...] = (1, 2, 7, 2), size: int = 128) -> Any:
    """The published encoders by their stages, eight channels wide."""
    without_hydra()
    from sam2.modeling import memory_attention, memory_encoder
    from sam2.modeling.backbones.hieradet import Hiera
    from sam2.modeling.backbones.image_encoder import FpnNeck, ImageEncoder
    from sam2.modeling.position_encoding import PositionEmbeddingSine
    from sam2.modeling.sam.transformer import RoPEAttention
    from sam2.modeling.sam2_base import SAM2Base

    stages = tuple(stages)
    settings: dict[str, Any] = {  # of the configurations in the authors' package
        (1, 2, 7, 2): {"global_att_blocks": (5, 7, 9), "window_pos_embed_bkg_spatial_size": (7, 7)},
        (1, 2, 11, 2): {"global_att_blocks": (7, 10, 13), "window_pos_embed_bkg_spatial_size": (7, 7)},
        (2, 3, 16, 3): {"num_heads": 2},
        (2, 6, 36, 4): {
            "num_heads": 2,
            "global_att_blocks": (23, 33, 43),
            "window_pos_embed_bkg_spatial_size": (7, 7),
            "window_spec": (8, 4, 16, 8),
        },
    }[stages]
    trunk = Hiera(embed_dim=8, stages=stages, **settings)
    neck = FpnNeck(
        PositionEmbeddingSine(WIDTH), WIDTH, trunk.channel_list, fpn_top_down_levels=[2, 3], fpn_interp_model="nearest"
    )

    def attention(**more: Any) -> Any:
        return RoPEAttention(
            feat_sizes=[8, 8], embedding_dim=WIDTH, num_heads=1, downsample_rate=1, dropout=0.1, **more
        )

    layer = memory_attention.MemoryAttentionLayer(
        "relu", attention(rope_k_repeat=True, kv_in_dim=64), WIDTH, 64, 0.1, False, True, False, attention()
    )
    encoder = memory_encoder.MemoryEncoder(
        64,
        memory_encoder.MaskDownSampler(WIDTH, kernel_size=3, stride=2, padding=1),
        memory_encoder.Fuser(memory_encoder.CXBlock(WIDTH), 1),
        PositionEmbeddingSine(64),
        WIDTH,
    )
    names = (
        "use_mask_input_as_output_without_sam", "directly_add_no_mem_embed", "no_obj_embed_spatial",
        "use_high_res_features_in_sam", "multimask_output_in_sam", "iou_prediction_use_sigmoid",
        "use_obj_ptrs_in_encoder", "add_tpos_enc_to_obj_ptrs", "proj_tpos_enc_in_obj_ptrs", "pred_obj_scores",
        "pred_obj_scores_mlp", "fixed_no_obj_ptr", "use_mlp_for_obj_ptr_proj",
    )  # fmt: skip
    memory = memory_attention.MemoryAttention(WIDTH, True, layer, 1)
    model = SAM2Base(ImageEncoder(trunk, neck, scalp=1), memory, encoder, image_size=size, **dict.fromkeys(names, True))
    return randomised(model)


def without_hydra() -> None:
    """SAM 2's package asks for hydra and iopath on import, and uses neither here."""

    class Hydra:
        instance = classmethod(lambda cls: cls())
        is_initialized = staticmethod(lambda: True)

    for name in ("hydra", "hydra.core", "hydra.core.global_hydra", "iopath", "iopath.common", "iopath.common.file_io"):
        sys.modules.setdefault(name, ModuleType(name))
    vars(sys.modules["hydra"])["initialize_config_module"] = None
    vars(sys.modules["hydra.core.global_hydra"])["GlobalHydra"] = Hydra
    vars(sys.modules["iopath.common.file_io"])["g_pathmgr"] = None


def save(model: Any, path: Path, *, under: str | None = None, **more: Tensor) -> Path:
    """The model as its authors save it: a table of tensors, for some under a key."""
    tensors = {**model.state_dict(), **more}
    torch.save({under: tensors} if under else tensors, path)
    return path


@torch.no_grad()
def answer_of(model: Any, pixels: Tensor, point: Tensor) -> Answer:
    """What an original model makes of an image [1, 3, y, x] and a point [2] (x, y) in its pixels."""
    prompt = point[None, None], torch.ones(1, 1, dtype=torch.int)
    if hasattr(model, "sam_mask_decoder"):
        fine, half, coarse = model.forward_image(pixels)["backbone_fpn"]
        coarse = coarse + model.no_mem_embed.transpose(1, 2)[..., None]
        sparse, dense = model.sam_prompt_encoder(prompt, None, None)
        dense_pe = model.sam_prompt_encoder.get_dense_pe()
        masks, scores, *_ = model.sam_mask_decoder(coarse, dense_pe, sparse, dense, True, False, [fine, half])
        return [coarse[0], half[0], fine[0]], masks[0], scores[0]
    out = model.image_encoder(pixels)
    embedding, early = out if isinstance(out, tuple) else (out, None)
    sparse, dense = model.prompt_encoder(prompt, None, None)
    decoder, dense_pe = model.mask_decoder, model.prompt_encoder.get_dense_pe()
    more = (False, early) if hasattr(decoder, "hf_token") else ()
    masks, scores = decoder(embedding, dense_pe, sparse, dense, True, *more)
    return [embedding[0]], masks[0], scores[0]


def answer_of_ours(model: SamFamilyModel, pixels: Tensor, point: Tensor) -> Answer:
    """The same of a model that samreg loaded."""
    encoded = model.encode_pixels(pixels)[0]
    fine = encoded.fine if len(encoded.fine) == 2 else ()  # HQ-SAM's is not the encoder's alone
    masks = model.masks_at_points(model.prepare(encoded), point[None])
    return [encoded.embedding, *fine], masks.logits, masks.iou


def differences(model: Any, ours: SamFamilyModel) -> list[float]:
    """Greatest differences of embeddings, masks and scores, as a share of the greatest value of each."""
    pixels = torch.randn(1, 3, ours.image_size, ours.image_size, generator=torch.Generator().manual_seed(1))
    point = torch.tensor([0.3, 0.6]) * ours.image_size
    a, b = answer_of(model, pixels, point), answer_of_ours(ours, pixels, point)
    pairs = [*zip(a[0], b[0], strict=True), (a[1], b[1]), (a[2], b[2])]
    return [float((one - other).abs().max() / one.abs().max()) for one, other in pairs]


def main(folder: str, kind: str, rows: str) -> None:
    """Prints, for each of `rows`, its variant, image size and differences, and those of what is converted.

    Args:
        folder, kind: Where models are saved, and the function here that makes them.
        rows: JSON list of a file's name and the settings of its model; of these, "convert" is the name under which
            it is saved and converted.
    """
    for file, settings in json.loads(rows):
        under, adapters = settings.pop("under", None), settings.pop("adapters", False)
        source = settings.pop("convert", "")
        model = globals()[kind](**settings)
        more = {"image_encoder.blocks.0.Adapter.channel.0.weight": torch.ones(3)} if adapters else {}
        paths = [save(model, Path(folder) / file, under=under, **more)]
        if source:
            paths.append(Path(folder) / f"{source} converted")
            convert(save(model, Path(folder) / source, under=under, **more), paths[1])
        read = [SamFamilyModel(path) for path in paths]
        found = [[ours.variant.name, ours.image_size, differences(model, ours)] for ours in read]
        sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
