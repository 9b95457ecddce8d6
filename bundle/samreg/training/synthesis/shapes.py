"""Scenes: which label lies at a place. Shapes are functions of the place, so every view of a scene is crisp."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from samreg.training.synthesis.draw import Draw, sample

ShapeFamily = Literal["ellipses", "shells", "tubes", "noise", "voronoi", "nested", "bodies", "lobes"]

BODY = 1  # label of the ground that everything else is painted on; 0 is the outside
CELLS = 14  # of a partition
OBJECTS = 24
TUBES = 3
_TUBE_POINTS = 9
_LOBES = (2, 3, 4, 5)
_NESTED = 5  # doublings of the depth, more than there are objects
_TRIED = 6  # places for an object, to overlap less
RADIUS = (0.05, 0.5)  # of an object, of half the image's side
CHANGED = 0.15  # share of the objects that are missing in one view, or elsewhere

_FIRST_CELL = 2
_FIRST_TUBE = _FIRST_CELL + CELLS
_FIRST_OBJECT = _FIRST_TUBE + 2 * TUBES
LABELS = _FIRST_OBJECT + 3 * OBJECTS  # of an object: its ground, its core, and where it lies in the second view


@dataclass(frozen=True, eq=False)
class Scene:
    """Labels of both views.

    Attributes:
        labels: int64 [b, 2, y, x]; 0 outside.
        within: bool [b, LABELS, LABELS], [r, l] true where label l is part of region r. A region is named by a
            label, and consists of that label and all that lies in it.
        parent: int64 [b, LABELS]: the label that a label lies in, to choose contrasts by.
        regions: bool [b, LABELS]: what is a region at all, not mere ground.
        matched: bool [b, LABELS]: the region is the same in both views.
    """

    labels: Tensor
    within: Tensor
    parent: Tensor
    regions: Tensor
    matched: Tensor


def draw_scene(draw: Draw, places: Tensor, families: tuple[ShapeFamily, ...]) -> Scene:
    """Scenes of shapes of these families.

    Args:
        places: [b, 2, y, x, 2] of the pixels of both views.
        families: Each sample is made of some of them.
    """
    batch = len(places)
    flat = _warped(draw, places.flatten(0, 1))
    x, y = flat[..., 0], flat[..., 1]
    painter = _Painter(batch, x.shape, draw.device)
    painter.ground(_body(draw, batch, x, y, "bodies" in families))
    _paint_partition(draw, painter, flat, families)
    if "tubes" in families:
        _paint_tubes(draw, painter, x, y)
    _paint_objects(draw, painter, x, y, families)
    return painter.scene()


class _Painter:
    """Labels so far; what is painted later lies on top."""

    def __init__(self, batch: int, shape: torch.Size, device: torch.device) -> None:
        self.batch = batch
        self.labels = torch.zeros(shape, dtype=torch.int64, device=device)  # both views of a sample in a row
        self.parent = torch.full((batch, LABELS), BODY, dtype=torch.int64, device=device)
        self.parent[:, :2] = 0
        self.regions = torch.zeros(batch, LABELS, dtype=torch.bool, device=device)
        self.matched = torch.ones(batch, LABELS, dtype=torch.bool, device=device)
        self._rows = torch.arange(batch, device=device)

    def ground(self, inside: Tensor) -> None:
        self.labels[inside] = BODY
        self.regions[:, BODY] = True

    def paint(self, label: Tensor, where: Tensor, *, onto: Tensor | None = None) -> None:
        """Labels [b] or a map where true [2b, y, x], never outside the body; `onto`: within this label [b] alone."""
        where = where & (self.labels > 0)
        if onto is not None:
            ancestors = self.parent.gather(1, self.labels.view(self.batch, -1)).view_as(self.labels)
            target = _for_views(onto)[:, None, None]
            where = where & ((self.labels == target) | (ancestors == target) | (target == BODY))
        value = label if label.ndim == 3 else _for_views(label)[:, None, None]
        self.labels = torch.where(where, value, self.labels)

    def relate(self, label: Tensor | int, parent: Tensor | int) -> None:
        self.parent[self._rows, label] = torch.as_tensor(parent, device=self.labels.device)
        self.regions[self._rows, label] = True

    def scene(self) -> Scene:
        within = torch.eye(LABELS, device=self.labels.device).expand(self.batch, -1, -1).clone()
        within.scatter_(1, self.parent[:, None], 1.0)
        for _ in range(_NESTED):
            within = ((within @ within) > 0).float()
        within[:, 0], within[:, :, 0] = 0, 0
        labels = self.labels.view(self.batch, 2, *self.labels.shape[1:])
        return Scene(labels, within > 0, self.parent, self.regions, self.matched)


def _for_views(values: Tensor) -> Tensor:
    """[b, ...] once for each view: [2b, ...]."""
    return values.repeat_interleave(2, 0)


def _warped(draw: Draw, places: Tensor) -> Tensor:
    """The places [2b, y, x, 2] shaken by smooth fields, the same in both views, so that no outline is regular."""
    batch = len(places) // 2
    out = places
    for cells, strength in ((5, 0.1), (12, 0.035)):
        field = draw.field(batch, 2, cells) * draw.uniform(0, strength, batch, 1, 1, 1)
        out = out + sample(_for_views(field), places).movedim(1, -1)
    return out


def _body(draw: Draw, batch: int, x: Tensor, y: Tensor, outlined: bool) -> Tensor:
    """[2b, y, x] inside the body: a rounded outline in two of three samples, everything in the others."""
    half = _for_views(draw.uniform(0.55, 0.95, batch, 2))[..., None, None]
    power = _for_views(draw.uniform(1.6, 4, batch))[:, None, None]
    centre = _for_views(draw.uniform(-0.12, 0.12, batch, 2))[..., None, None]
    distance = ((x - centre[:, 0]).abs() / half[:, 0]) ** power + ((y - centre[:, 1]).abs() / half[:, 1]) ** power
    everywhere = _for_views(~draw.chance(2 / 3, batch))[:, None, None]
    return (distance < 1) | everywhere if outlined else torch.ones_like(x, dtype=torch.bool)


def _paint_partition(draw: Draw, painter: _Painter, places: Tensor, families: tuple[ShapeFamily, ...]) -> None:
    """Cells that fill the body: Voronoi, or the greatest of noise fields that each favour a place."""
    kinds = [family for family in ("noise", "voronoi") if family in families]
    if not kinds:
        return
    batch = painter.batch
    count = draw.integers(3, CELLS + 1, batch)
    seeds = draw.uniform(-1, 1, batch, CELLS, 2)
    noise = torch.zeros(batch, dtype=torch.bool, device=draw.device)
    if kinds == ["noise"]:
        noise[:] = True
    elif len(kinds) == 2:
        noise = draw.chance(0.5, batch)
    scores = -(places[:, None] - _for_views(seeds)[:, :, None, None]).square().sum(-1)
    bumps = sample(_for_views(draw.field(batch, CELLS, 6)), places)
    scores = scores * torch.where(_for_views(noise), 1.0, 4.0)[:, None, None, None]
    scores = scores + bumps * _for_views(noise * 0.45)[:, None, None, None]
    beyond = torch.arange(CELLS, device=draw.device) >= count[:, None]
    scores = scores.masked_fill(_for_views(beyond)[:, :, None, None], -math.inf)
    has_cells = draw.chance(0.55 if {"ellipses", "lobes", "nested"} & set(families) else 1.0, batch)
    greatest, cell = scores[:, 0], torch.zeros_like(painter.labels)
    for n in range(1, CELLS):  # ten times as quick as argmax over the middle axis
        cell = torch.where(scores[:, n] > greatest, n, cell)
        greatest = torch.maximum(greatest, scores[:, n])
    painter.paint(cell + _FIRST_CELL, _for_views(has_cells)[:, None, None].expand_as(painter.labels))
    for n in range(CELLS):
        painter.regions[:, _FIRST_CELL + n] = has_cells & (n < count)


def _paint_tubes(draw: Draw, painter: _Painter, x: Tensor, y: Tensor) -> None:
    """Bent tubes of even width, some with a wall."""
    batch = painter.batch
    along = torch.linspace(0, 1, _TUBE_POINTS, device=draw.device)[:, None]
    for n in range(TUBES):
        present = draw.chance(0.35, batch)
        ends = draw.uniform(-0.8, 0.8, batch, 3, 1, 2)
        curve = (1 - along) ** 2 * ends[:, 0] + 2 * along * (1 - along) * ends[:, 1] + along**2 * ends[:, 2]
        radius = draw.log_uniform(0.03, 0.1, batch)
        inner = torch.where(draw.chance(0.4, batch), draw.uniform(0.4, 0.75, batch), 0.0)
        distance = _distance_to_curve(x, y, _for_views(curve)) / _for_views(radius)[:, None, None]
        shown = _for_views(present)[:, None, None]
        wall = _FIRST_TUBE + 2 * n
        rows = torch.full((batch,), wall, device=draw.device)
        painter.paint(rows, (distance < 1) & shown)
        painter.paint(rows + 1, (distance < _for_views(inner)[:, None, None]) & shown)
        painter.relate(wall, BODY)
        painter.relate(wall + 1, wall)


def _distance_to_curve(x: Tensor, y: Tensor, curve: Tensor) -> Tensor:
    """[n, y, x] distance to polylines [n, points, 2]."""
    nearest = torch.full_like(x, math.inf)
    for start, end in zip(curve.unbind(1)[:-1], curve.unbind(1)[1:], strict=True):
        step = (end - start)[..., None, None]
        dx, dy = x - start[:, 0, None, None], y - start[:, 1, None, None]
        share = ((dx * step[:, 0] + dy * step[:, 1]) / step.square().sum(1)).clamp(0, 1)
        nearest = torch.minimum(nearest, (dx - share * step[:, 0]) ** 2 + (dy - share * step[:, 1]) ** 2)
    return nearest.sqrt()


def _paint_objects(draw: Draw, painter: _Painter, x: Tensor, y: Tensor, families: tuple[ShapeFamily, ...]) -> None:
    """Star-shaped objects, great ones first: with a core (shells), inside another (nested), with lobes."""
    batch = painter.batch
    solid = bool({"ellipses", "lobes", "nested", "shells"} & set(families))
    if not solid:
        return
    count = (4 + (OBJECTS - 3) * draw.uniform(0, 1, batch) ** 1.5).long()  # few more often than many
    radius = draw.log_uniform(*RADIUS, batch, OBJECTS).sort(1, descending=True).values
    centre = torch.zeros(batch, OBJECTS, 2, device=draw.device)
    lobed = "lobes" in families and not {"ellipses", "shells", "nested"} & set(families)
    for n in range(OBJECTS):
        present = n < count
        parent = torch.full((batch,), BODY, device=draw.device)
        place = _free_place(draw, centre[:, :n], radius[:, : n + 1])
        centre[:, n] = place
        if n and ("nested" in families or "lobes" in families):
            inside = draw.chance(0.4, batch)
            host = draw.integers(0, n, batch)
            offset = draw.uniform(-0.6, 0.6, batch, 2) * radius.gather(1, host[:, None])
            nested_place = centre.gather(1, host[:, None, None].expand(-1, 1, 2))[:, 0] + offset
            place = torch.where(inside[:, None], nested_place, place)
            centre[:, n] = place
            smaller = radius[:, n] < 0.7 * radius.gather(1, host[:, None])[:, 0]
            parent = torch.where(inside & smaller, _FIRST_OBJECT + 3 * host, parent)
        label = torch.full((batch,), _FIRST_OBJECT + 3 * n, device=draw.device)
        hidden, moved = _changes(draw, batch)
        place_by_view = torch.stack([place, torch.where(moved[:, None], draw.uniform(-0.8, 0.8, batch, 2), place)], 1)
        shown = torch.stack([present & (hidden != 1), present & (hidden != 2)], 1).flatten()
        reach = _reach(draw, x, y, place_by_view.flatten(0, 1), radius[:, n], lobed)
        where = (reach < 1) & shown[:, None, None]
        elsewhere = torch.stack([torch.zeros_like(moved), moved], 1).flatten()[:, None, None]
        painter.paint(label, where & ~elsewhere, onto=parent)
        painter.paint(label + 2, where & elsewhere)
        painter.relate(label, parent)
        painter.relate(label + 2, BODY)
        painter.matched[:, _FIRST_OBJECT + 3 * n] = (hidden == 0) & ~moved
        painter.matched[:, _FIRST_OBJECT + 3 * n + 2] = False
        if "shells" in families or "lobes" in families:
            inner = torch.where(draw.chance(0.3, batch) & (radius[:, n] > 0.12), draw.uniform(0.35, 0.85, batch), 0.0)
            core = (reach < _for_views(inner)[:, None, None]) & shown[:, None, None] & ~elsewhere
            painter.paint(label + 1, core, onto=label)
            painter.relate(label + 1, label)
            painter.matched[:, _FIRST_OBJECT + 3 * n + 1] = (hidden == 0) & ~moved


def _free_place(draw: Draw, others: Tensor, radius: Tensor) -> Tensor:
    """[b, 2] the one of some places that is furthest from the outlines of earlier objects, or just anyone."""
    batch, count = others.shape[:2]
    tried = draw.uniform(-0.85, 0.85, batch, _TRIED, 2)
    if not count:
        return tried[:, 0]
    gap = ((tried[:, :, None] - others[:, None]).norm(dim=-1) - 0.8 * radius[:, None, :count]).amin(2)
    best = torch.where(draw.chance(0.8, batch), gap.argmax(1), 0)
    return tried[torch.arange(batch, device=tried.device), best]


def _changes(draw: Draw, batch: int) -> tuple[Tensor, Tensor]:
    """[b] view in which an object is missing (1, 2; 0: none), and whether it lies elsewhere in the second."""
    which = draw.integers(1, 3, batch)
    changed = draw.chance(CHANGED, batch)
    moved = changed & draw.chance(0.35, batch)
    return torch.where(changed & ~moved, which, 0), moved


def _reach(draw: Draw, x: Tensor, y: Tensor, centre: Tensor, radius: Tensor, lobed: bool) -> Tensor:
    """[2b, y, x] distance from the centres [2b, 2] in units of the outline's: below 1 inside."""
    batch = len(radius)
    turn = draw.uniform(0, math.pi, batch)
    flat = draw.log_uniform(0.4, 1.0, batch)
    cos, sin = (_for_views(v)[:, None, None] for v in (turn.cos() / radius, turn.sin() / radius))
    dx, dy = x - centre[:, 0, None, None], y - centre[:, 1, None, None]
    u, v = cos * dx + sin * dy, (cos * dy - sin * dx) / _for_views(flat)[:, None, None]
    distance = (u.square() + v.square()).sqrt()
    if not lobed:
        return distance
    angle = torch.atan2(v, u)
    outline = torch.ones_like(distance)
    for lobes in _LOBES:
        height, phase = draw.normal(batch).clamp(-1.5, 1.5) * (0.4 / lobes), draw.uniform(0, 2 * math.pi, batch)
        outline = outline + _for_views(height)[:, None, None] * (lobes * angle + _for_views(phase)[:, None, None]).cos()
    return distance / outline.clamp_min(0.25)
