"""For tools/bench_sam.py, in a process of its own where segment-anything can be imported (see tests/oracle.py):

    python -m tools.time_segment_anything FOLDER PIXELS POINTS_PER_SIDE

writes random weights of ViT-B, a picture, the thresholds, and how long its automatic generator takes.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from segment_anything import SamAutomaticMaskGenerator, SamPredictor
from segment_anything.utils.amg import calculate_stability_score
from segment_anything_oracle import build, picture


@torch.no_grad()
def main(folder: Path, pixels: int, points_per_side: int) -> None:
    """Weights, picture, thresholds, times."""
    sam = build("vit_b", 1024)
    torch.save(sam.state_dict(), folder / "sam.pth")
    grey = picture(pixels, pixels)
    np.save(folder / "picture.npy", grey)
    colour = np.repeat(grey[..., None], 3, -1)
    predictor = SamPredictor(sam)
    predictor.set_image(colour)
    grid = (np.indices((4, 4)).reshape(2, -1).T + 0.5) * (1024 / 4)
    logits, iou, _ = predictor.predict_torch(
        torch.tensor(grid, dtype=torch.float32)[:, None], torch.ones(len(grid), 1), return_logits=True
    )
    # Half of the masks reach the predicted IoU, and half of those the stability.
    good = iou.flatten() >= iou.median()
    thresholds = {
        "pred_iou": float(iou.median()),
        "stability": float(calculate_stability_score(logits.flatten(0, 1)[good], 0.0, 1.0).median()),
    }
    generator = SamAutomaticMaskGenerator(
        sam,
        points_per_side=points_per_side,
        pred_iou_thresh=thresholds["pred_iou"],
        stability_score_thresh=thresholds["stability"],
        box_nms_thresh=1.0,
    )
    started = time.perf_counter()
    generator.predictor.set_image(colour)
    encoder = time.perf_counter() - started
    started = time.perf_counter()
    masks = generator.generate(colour)
    times = {"encoder": encoder, "all": time.perf_counter() - started}
    (folder / "times.json").write_text(json.dumps({"masks": len(masks), "seconds": times, **thresholds}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
