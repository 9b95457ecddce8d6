"""What the embedded model must reach on families that it was not trained on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from samreg.config import MatchingConfig
from samreg.embedded.network import EMBEDDING_STRIDE, EmbeddedNetwork, mask_logits
from samreg.encoders.base import Calibration, Features
from samreg.encoders.pooling import pool
from samreg.estimation.robust import irls, ransac_rigid
from samreg.geometry import Grid
from samreg.matching import match, similarity, weigh
from samreg.rois import Roi, RoiSet
from samreg.training.losses import corresponding_points, embeddings_at
from samreg.training.prompting import draw_tasks
from samreg.training.synthesis.draw import Draw
from samreg.training.synthesis.generator import Pairs, Synthesis
from samreg.transforms import Affine

FIELD_MM = 256.0  # side of every image, whatever its pixels
TOLERANCE_MM = 20.0  # of a pair under a rigid alignment: the two views differ by more than that
REACH_MM = 0.1 * FIELD_MM  # as in the pipeline, of a body that fills the image
NEAR_PX = 4.0
_ROUNDS = 3
_BATCH = 8


@dataclass(frozen=True)
class Gates:
    """Means over pairs of one kind.

    Attributes:
        point_iou, box_iou: Of the best of three masks of a click or a box with the region asked for.
        top1: Share of the regions seen by both views whose counterpart is the default matcher's first choice, with
            embedding, position (under the alignment that the pairs themselves give) and shape.
        top1_embedding: By the embedding alone.
        near: Share of the points, in regions that both views show, whose most similar pixel of the other view lies
            within 4 pixels of their own.
        near_anywhere: The same of points anywhere in the body.
    """

    point_iou: float
    box_iou: float
    top1: float
    top1_embedding: float
    near: float
    near_anywhere: float


def measure(
    network: EmbeddedNetwork,
    synthesis: Synthesis,
    calibration: Calibration,
    *,
    seed: int,
    pairs: int,
    size: int,
    matching: MatchingConfig | None = None,
) -> Gates:
    """The gates on pairs drawn from a synthesis.

    Args:
        network: The model.
        synthesis: Families and contrast.
        calibration: Of the model.
        seed: Of the pairs.
        pairs: How many.
        size: Side of the images in pixels.
        matching: Of the default matcher.
    """
    matching = matching or MatchingConfig()
    values: dict[str, list[float]] = {name: [] for name in Gates.__dataclass_fields__}
    for batch, draw in _batches(synthesis, seed, pairs, size):
        point, box = _prompted(network, draw, batch)
        values["point_iou"] += point
        values["box_iou"] += box
        with torch.no_grad():
            embedding = network(batch.images.flatten(0, 1)[:, None]).view(-1, 2, network.size.embedding, *_cells(size))
        values["near"] += _near(draw, embedding, batch, in_regions=1.0)
        values["near_anywhere"] += _near(draw, embedding, batch, in_regions=0.0)
        for n in range(len(batch.images)):
            with_position, alone = _first_choices(embedding[n], batch, n, matching, calibration)
            values["top1"] += with_position
            values["top1_embedding"] += alone
    return Gates(**{name: float(np.mean(found)) for name, found in values.items()})


def _batches(synthesis: Synthesis, seed: int, pairs: int, size: int) -> Iterator[tuple[Pairs, Draw]]:
    for n in range(-(-pairs // _BATCH)):
        draw = Draw.numbered(seed, n)
        yield synthesis.draw(draw, min(_BATCH, pairs - n * _BATCH), size), draw


def _cells(size: int) -> tuple[int, int]:
    return size // EMBEDDING_STRIDE, size // EMBEDDING_STRIDE


@torch.no_grad()
def _prompted(network: EmbeddedNetwork, draw: Draw, pairs: Pairs) -> tuple[list[float], list[float]]:
    """IoU at all pixels of the best masks, of points and of boxes."""
    tasks = draw_tasks(draw, pairs, 12, full_size=True)
    encoded = network.encode(pairs.images.flatten(0, 1)[:, None])
    logits = mask_logits(encoded.pixels, network.decode(encoded, tasks.prompts))
    size = pairs.images.shape[-1]
    masks = interpolate(logits.flatten(1, 2), size=size, mode="bilinear", align_corners=False).view(
        *logits.shape[:3], size, size
    )
    target = tasks.targets[:, :, :1]
    masks = masks > 0
    iou = (masks & target).sum((3, 4)) / (masks | target).sum((3, 4)).clamp_min(1)
    best, asked = iou.amax(2), tasks.wanted[..., 0]
    return best[asked & ~tasks.is_box].tolist(), best[asked & tasks.is_box].tolist()


@torch.no_grad()
def _near(draw: Draw, embedding: Tensor, pairs: Pairs, *, in_regions: float) -> list[float]:
    """1 for each point of the second view that is found within 4 pixels in the first, 0 for the others."""
    size = pairs.images.shape[-1]
    second, first, valid = corresponding_points(draw, pairs, 64, in_regions)
    of_second = embeddings_at(embedding[:, 1], second)
    fine = interpolate(embedding[:, 0], size=size, mode="bilinear", align_corners=False)
    fine = torch.nn.functional.normalize(fine, dim=1)
    best = (of_second @ fine.flatten(2)).argmax(2)
    found = torch.stack([best % size, best // size], -1) + 0.5
    if in_regions:  # of a pair without any, points are drawn anywhere
        pixel = ((second + 1) * size / 2 - 0.5).round().long()
        label = pairs.labels[:, 1].flatten(1).gather(1, pixel[..., 1] * size + pixel[..., 0])
        valid &= pairs.matched.gather(1, label)
    error = (found - (first + 1) * size / 2).norm(dim=-1)
    return (error[valid] <= NEAR_PX).float().tolist()


def _first_choices(
    embedding: Tensor, pairs: Pairs, n: int, matching: MatchingConfig, calibration: Calibration
) -> tuple[list[float], list[float]]:
    """1 for each region whose first choice is right, 0 for the others: with position and shape, and without."""
    first, second = (regions_of(pairs, n, view) for view in (0, 1))
    common = [name for name in first if name in second and pairs.matched[n, name]]
    if len(first) < 2 or len(second) < 2 or not common:
        return [], []
    rois = [roi_set(regions) for regions in (first, second)]
    prototypes = [pool(features_of(view), found) for view, found in zip(embedding, rois, strict=True)]
    alike = similarity(prototypes[0], prototypes[1], matching.similarity)
    aligned = alignment(rois[0], rois[1], alike, matching, calibration)
    placed = weigh(
        rois[0], rois[1], alike, matching, calibration=calibration, aligned=aligned, max_distance_mm=REACH_MM
    ).score
    rows, columns = list(first), list(second)
    out: tuple[list[float], list[float]] = ([], [])
    for matrix, hits in zip((placed, alike), out, strict=True):
        hits += [float(columns[int(matrix[rows.index(name)].argmax())] == name) for name in common]
    return out


def alignment(
    fixed: RoiSet, moving: RoiSet, alike: np.ndarray, matching: MatchingConfig, calibration: Calibration
) -> Affine | None:
    """What pairs by appearance alone say of the alignment, and then those that lie together under it."""
    free = match(weigh(fixed, moving, alike, matching, calibration=calibration))
    found = ransac_rigid(free.fixed.centroids_lps(), free.moving.centroids_lps(), free.confidences, TOLERANCE_MM)
    if found is None:
        return None
    aligned = Affine(found[0])
    for _ in range(_ROUNDS):
        pairs = match(
            weigh(fixed, moving, alike, matching, calibration=calibration, aligned=aligned, max_distance_mm=REACH_MM)
        )
        if len(pairs) < 4:
            break
        points = pairs.fixed.centroids_lps(), pairs.moving.centroids_lps()
        aligned = Affine(irls(aligned.moving_from_fixed, *points, pairs.confidences, TOLERANCE_MM / 2, kind="affine"))
    return aligned


def regions_of(pairs: Pairs, n: int, view: int) -> dict[int, np.ndarray]:
    """Masks [i, j] of all regions that a view of pair n shows, by name."""
    names = torch.nonzero(pairs.visible[n, view])[:, 0].tolist()
    labels = pairs.labels[n, view].T
    return {name: pairs.within[n, name][labels].numpy() for name in names}


def grid_of(size: int, cells: int = 1) -> Grid:
    """The grid of an image of `size` pixels, or of cells of that many pixels."""
    spacing = FIELD_MM / size * cells
    return Grid.from_axes((size // cells, size // cells, 1), (spacing, spacing, spacing), [spacing / 2, spacing / 2, 0])


def features_of(embedding: Tensor) -> Features:
    """[c, y, x] as features of an image of `FIELD_MM`."""
    cells = embedding.shape[-1]
    return Features(grid_of(cells * EMBEDDING_STRIDE, EMBEDDING_STRIDE), embedding.transpose(1, 2)[..., None])


def roi_set(regions: dict[int, np.ndarray]) -> RoiSet:
    """Masks [i, j] of one image as regions."""
    size = len(next(iter(regions.values())))
    return RoiSet(grid_of(size), tuple(Roi.from_mask(mask[:, :, None]) for mask in regions.values()))
