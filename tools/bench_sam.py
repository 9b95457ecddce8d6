"""Everything mode and matching of SAM ViT-B, L and H: slices a second, and where the time goes.

    python tools/bench_sam.py                              # every size, on a GPU if there is one
    python tools/bench_sam.py --sizes vit_h --slices 100   # 2 x 100 slices of 512 x 512
    python tools/bench_sam.py --beside                     # ViT-B beside segment-anything's own generator

The models have the published sizes and random weights: what is computed does not depend on their values, but
for how many masks pass the filters. The thresholds lie at the medians, so that half of the masks
reach the predicted IoU, and half of those the stability; none is dropped for resembling another.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from samreg import phantoms
from samreg.config import Config, ProposalConfig
from samreg.device import find_device
from samreg.encoders.models import SamEncoder
from samreg.encoders.pooling import pool
from samreg.geometry import Grid, Volume
from samreg.matching import match, similarity, weigh
from samreg.preprocess import body_mask
from samreg.promptable_models.slices import EncodedVolume, PromptedSlice
from samreg.proposals.everything import Decoding, Everything, everything
from samreg.sam.model import SamFamilyModel

SIZES = {  # width, depth, heads, global layers
    "vit_b": (768, 12, 12, [2, 5, 8, 11]),
    "vit_l": (1024, 24, 16, [5, 11, 17, 23]),
    "vit_h": (1280, 32, 16, [7, 15, 23, 31]),
}
PARTS = ("encoder", "decoder", "filters", "matching")
PIXELS = 512
WARM_UP_POINTS = 4


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--slices", type=int, default=1, help="of each of the two images (default: 1)")
    parser.add_argument("--points-per-side", type=int, default=16, help="default: 16, that is up to 256 points a slice")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--beside", action="store_true", help="ViT-B beside segment-anything, on one picture, on the CPU"
    )
    args = parser.parse_args()
    if args.beside:
        print(beside_segment_anything(args.points_per_side))
        return
    device = torch.device(find_device(args.device))
    print(f"2 × {args.slices} slices of {PIXELS} × {PIXELS} on {named(device)}\n")
    print("| model | points a slice | masks a slice | slices a second |" + "".join(f" {part} [s] |" for part in PARTS))
    print("|---" * (4 + len(PARTS)) + "|")
    for size in args.sizes:
        print(measured(size, args.slices, args.points_per_side, device), flush=True)


def measured(size: str, slices: int, points_per_side: int, device: torch.device) -> str:
    """A row of the table: both images of a pair through everything mode, then matched."""
    with tempfile.TemporaryDirectory() as folder:
        random_sam(size).save_pretrained(folder)
        encoder = SamEncoder(weights=folder, device=device)
    pair = phantoms.pair("rigid", fixed_grid=phantoms.grid("ct", PIXELS), modality="CT", rotation_deg=5)
    middle = pair.fixed.grid.shape[2] // 2
    images = [_slices(volume, middle - slices // 2, slices) for volume in (pair.fixed, pair.moving)]
    warm = _slices(pair.fixed, 0, 1)
    config = with_median_thresholds(encoder.slices.of(warm).prompted(0), warm, points_per_side)
    spent: Counter[str] = Counter()
    points: list[int] = []
    with timed(spent, points, device):
        started = time.perf_counter()
        found = []
        for image in images:
            rois = Everything(encoder.slices).propose(image, body_mask(image), config)
            found.append((rois, clocked(spent, "matching", device, lambda i=image, r=rois: pool(encoder.encode(i), r))))
        (fixed, fixed_prototypes), (moving, moving_prototypes) = found
        alike = clocked(spent, "matching", device, lambda: similarity(fixed_prototypes, moving_prototypes))
        clocked(spent, "matching", device, lambda: match(weigh(fixed, moving, alike, Config().matching)))
        seconds = time.perf_counter() - started
    spent["filters"] = seconds - sum(spent[part] for part in PARTS)
    masks = (len(fixed) + len(moving)) / (2 * slices)
    row = [size, sum(points) // (2 * slices), round(masks), f"{2 * slices / seconds:.3g}"]
    return "| " + " | ".join(map(str, [*row, *(f"{spent[part]:.2f}" for part in PARTS)])) + " |"


def with_median_thresholds(image: PromptedSlice, volume: Volume, points_per_side: int) -> ProposalConfig:
    """Settings under which half of the masks reach the predicted IoU, and half of those the stability."""
    config = ProposalConfig(
        points_per_side=WARM_UP_POINTS, pred_iou=0.0, stability=0.0, max_box_iou=1.0,
        min_area_mm2=0.0, max_area_fraction=1.0, max_overlap=1.0, max_rois=10**6,
    )  # fmt: skip
    found = everything(image, np.ones(volume.grid.shape[:2], bool), config, Decoding(config))
    good = found.iou >= found.iou.median()
    return config.with_values(
        {
            "points_per_side": points_per_side,
            "pred_iou": float(found.iou.median()),
            "stability": float(found.stability[good].median()),
        }
    )


def beside_segment_anything(points_per_side: int) -> str:
    """Both on the same picture, weights, points, thresholds and threads, one after the other."""
    from tests.oracle import run_beside_torchvision

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run_beside_torchvision("tools.time_segment_anything", folder, PIXELS, points_per_side)
        theirs = json.loads((folder / "times.json").read_text())
        grey = np.load(folder / "picture.npy")
        volume = Volume(grey.T[..., None].astype(np.float32), Grid.from_axes((*grey.T.shape, 1), (1, 1, 1)))
        config = ProposalConfig(
            points_per_side=points_per_side, pred_iou=theirs["pred_iou"], stability=theirs["stability"], max_box_iou=1.0
        )
        rows = [("segment-anything", theirs["masks"], theirs["seconds"])]
        for precision in ("float32", "bfloat16"):
            model = SamFamilyModel(folder / "sam.pth", "cpu", precision=precision)
            rows.append((f"samreg, {precision}", *one_picture(model, volume, config)))
    lines = [
        f"ViT-B, one picture of {PIXELS} × {PIXELS}, {points_per_side**2} points, {torch.get_num_threads()} CPU cores",
        "",
        "| | masks that pass | encoder [s] | decoder and filters [s] | all [s] | times as fast |",
        "|---|---|---|---|---|---|",
    ]
    for name, count, took in rows:
        rest, faster = took["all"] - took["encoder"], rows[0][2]["all"] / took["all"]
        lines.append(f"| {name} | {count} | {took['encoder']:.1f} | {rest:.1f} | {took['all']:.1f} | {faster:.1f} |")
    return "\n".join(lines)


def one_picture(model: SamFamilyModel, volume: Volume, config: ProposalConfig) -> tuple[int, dict[str, float]]:
    """How many masks pass the thresholds, and the seconds that takes."""
    body = np.ones(volume.grid.shape[:2], bool)
    decoding = Decoding(config)
    everything(EncodedVolume(model, volume).prompted(0), body, config.with_values({"points_per_side": 2}), decoding)
    started = time.perf_counter()
    image = EncodedVolume(model, volume).prompted(0)
    encoder = time.perf_counter() - started
    found = everything(image, body, config, decoding)
    return len(found), {"encoder": encoder, "all": time.perf_counter() - started}


def random_sam(size: str) -> Any:
    """A transformers SamModel of a published size whose activations have the scale of a trained one's."""
    import transformers

    width, depth, heads, global_layers = SIZES[size]
    vision = {"hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": heads, "mlp_dim": 4 * width}
    config = transformers.SamConfig(vision_config={**vision, "global_attn_indexes": global_layers})
    model = transformers.SamModel(config)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        deviation = parameter[0].numel() ** -0.5 if parameter.ndim > 1 and "rel_pos" not in name else 0.1
        parameter.data.normal_(0, 3 * deviation if "hypernetworks" in name else deviation, generator=generator)
        if "norm" in name and name.endswith("weight"):
            parameter.data += 1
    # Predicted IoUs lie between 0 and 1, as a configuration asks for them.
    last = model.mask_decoder.iou_prediction_head.proj_out
    last.weight.data *= 0.1
    last.bias.data = 0.1 * last.bias.data + 0.5
    return model


@contextmanager
def timed(spent: Counter[str], points: list[int], device: torch.device) -> Iterator[None]:
    """Within the block the time in encoder and decoder is added up, and the points are noted."""
    encode, prepare, masks = SamFamilyModel.encode, SamFamilyModel.prepare, SamFamilyModel.masks_at_points

    def counted(model: SamFamilyModel, image: Any, at: Any, **options: Any) -> Any:
        points.append(len(at))
        return clocked(spent, "decoder", device, lambda: masks(model, image, at, **options))

    SamFamilyModel.encode = lambda *a: clocked(spent, "encoder", device, lambda: encode(*a))  # type: ignore
    SamFamilyModel.prepare = lambda *a: clocked(spent, "decoder", device, lambda: prepare(*a))  # type: ignore
    SamFamilyModel.masks_at_points = counted  # type: ignore
    try:
        yield
    finally:
        SamFamilyModel.encode, SamFamilyModel.prepare = encode, prepare  # type: ignore
        SamFamilyModel.masks_at_points = masks  # type: ignore


def clocked(spent: Counter[str], part: str, device: torch.device, work: Callable[[], Any]) -> Any:
    """Do it, and add its seconds."""
    started = _now(device)
    out = work()
    spent[part] += _now(device) - started
    return out


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def named(device: torch.device) -> str:
    """The machine in words."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, bfloat16"
    return f"{torch.get_num_threads()} CPU cores, float32"


def _slices(volume: Volume, first: int, count: int) -> Volume:
    grid = volume.grid.crop((0, 0, first), (*volume.grid.shape[:2], first + count))
    return Volume(volume.voxels[:, :, first : first + count], grid)


if __name__ == "__main__":
    sys.exit(main())
