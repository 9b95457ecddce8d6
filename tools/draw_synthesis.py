"""Draw the page of training samples of docs/pictures: image, regions, image, regions; training above, held out below.

PYTHONPATH=bundle python tools/draw_synthesis.py docs/pictures/synthesis.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from samreg.training.synthesis import HELD_OUT_APPEARANCES, HELD_OUT_SHAPES, Draw, Pairs, Synthesis

SIZE, ROWS, COLUMNS = 112, 4, 2
SEED = 2


def main(out: Path) -> None:
    """Two blocks of pairs on one page."""
    blocks = [Synthesis(), Synthesis(HELD_OUT_SHAPES, HELD_OUT_APPEARANCES)]
    pages = [page(synthesis.draw(Draw(SEED), ROWS * COLUMNS, SIZE)) for synthesis in blocks]
    between = np.ones((8, pages[0].shape[1], 3))
    picture = np.concatenate([pages[0], between, pages[1]])
    out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((picture * 255).astype(np.uint8)).save(out, optimize=True)


def page(pairs: Pairs) -> np.ndarray:
    """[y, x, 3] of all pairs."""
    colours = torch.rand(pairs.within.shape[1], 3, generator=torch.Generator().manual_seed(1)) * 0.8 + 0.2
    rows = []
    for n in range(len(pairs.images)):
        views = []
        for view in range(2):
            grey = pairs.images[n, view][..., None].expand(-1, -1, 3)
            # What both views show keeps its colour; the rest of what is visible is grey.
            shade = torch.where(pairs.matched[n][:, None], colours, 0.35) * pairs.visible[n, view][:, None]
            views += [grey, shade[pairs.labels[n, view]]]
        rows.append(torch.cat(views, 1))
    columns = [torch.cat(rows[n::COLUMNS]) for n in range(COLUMNS)]
    return torch.cat(columns, 1).numpy()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
