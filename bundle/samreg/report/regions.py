"""Outlines of regions on a plane, as SVG paths."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from samreg.geometry import Grid, resample
from samreg.report.views import View
from samreg.rois import Roi, RoiPair

TOLERANCE_PIXELS = 0.35


@dataclass(frozen=True)
class Outline:
    """A region where a plane cuts it, in pixels of the view.

    Attributes:
        pair: Number of its pair.
        path: SVG path data.
        label_x, label_y: Where its number stands.
    """

    pair: int
    path: str
    colour: str
    dashed: bool
    label_x: float
    label_y: float


def colour_of(number: int) -> str:
    """A light colour for a pair's number; neighbouring numbers differ strongly (golden angle)."""
    hue = (0.09 + number * 0.618034) % 1.0
    r, g, b = colorsys.hls_to_rgb(hue, 0.66 if number % 2 else 0.76, 0.92)
    return f"#{round(r * 255):02x}{round(g * 255):02x}{round(b * 255):02x}"


def outlines(view: View, grid: Grid, pairs: Sequence[RoiPair], role: str) -> list[Outline]:
    """The regions of one image (role "fixed" or "moving") that a view cuts, large ones first."""
    found = []
    for pair in sorted(pairs, key=lambda p: -getattr(p, role).count):
        drawn = _outline(view, grid, getattr(pair, role))
        if drawn:
            path, x, y = drawn
            found.append(Outline(pair.id, path, colour_of(pair.id), pair.held_out, x, y))
    return found


def busiest(view: View, grid: Grid, rois: Sequence[Roi], weights: Sequence[float]) -> View:
    """The parallel plane that cuts the most weight of regions; the one nearest to the view's where equal."""
    if not rois:
        return view
    normal = view.grid.direction[:, 2]
    here = float(view.grid.origin_lps @ normal)
    # A region counts where the plane passes the middle half of its box.
    spans = np.array([_span(grid, roi, normal) for roi in rois])
    middle, reach = spans.mean(1), (spans[:, 1] - spans[:, 0]) / 4
    places = np.unique(np.concatenate([middle, [here]]))
    score = ((np.abs(places[:, None] - middle) <= reach) * np.asarray(weights)).sum(1)
    best = places[np.lexsort((np.abs(places - here), -score))[0]]
    point = view.grid.centre_lps + normal * (best - here)
    return view.through(_on_slice(point, grid, normal))


def _on_slice(point: np.ndarray, grid: Grid, normal: np.ndarray) -> np.ndarray:
    """The point moved onto the nearest acquired slice where the grid is parallel to the plane."""
    axis = int(np.argmax(np.abs(grid.direction.T @ normal)))
    if abs(float(grid.direction[:, axis] @ normal)) < 1 - 1e-6:
        return point
    ijk = grid.index(point[None])
    ijk[0, axis] = np.clip(np.round(ijk[0, axis]), 0, grid.shape[axis] - 1)
    return grid.lps(ijk)[0]


def _span(grid: Grid, roi: Roi, normal: np.ndarray) -> tuple[float, float]:
    along = grid.corners(roi.start, roi.shape) @ normal
    return float(along.min()), float(along.max())


def _outline(view: View, grid: Grid, roi: Roi) -> tuple[str, float, float] | None:
    """SVG path of a region on a view and where its number stands; None where the plane misses it."""
    from skimage.measure import approximate_polygon, find_contours

    at = view.grid.index(grid.corners(roi.start, roi.shape))
    if at[:, 2].min() > 0 or at[:, 2].max() < 0:
        return None
    low = np.maximum(np.floor(at[:, :2].min(0)) - 2, 0).astype(int)
    high = np.minimum(np.ceil(at[:, :2].max(0)) + 3, view.grid.shape[:2]).astype(int)
    if (high - low < 2).any():
        return None
    part = view.grid.crop((*low, 0), (*high, 1))
    box = np.pad(roi.box, 1).astype(np.float32)
    start = [n - 1 for n in roi.start]
    stop = [n + m for n, m in zip(start, box.shape, strict=True)]
    share = resample(box, grid.crop(start, stop), part, antialias=False)[:, :, 0]
    if share.max() < 0.5:
        return None
    pieces = []
    for line in find_contours(np.pad(share, 1), 0.5):
        points = approximate_polygon(line - 1 + low, TOLERANCE_PIXELS) + 0.5  # pixel centres lie at a half
        if len(points) >= 4:
            pieces.append("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points[:-1]) + "Z")
    if not pieces:
        return None
    inside = np.argwhere(share >= 0.5)
    # The number stands on the region itself, also where that is a ring.
    spot = inside[np.argmin(((inside - inside.mean(0)) ** 2).sum(1))] + low + 0.5
    return "".join(pieces), float(spot[0]), float(spot[1])
