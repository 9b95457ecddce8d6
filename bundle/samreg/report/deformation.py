"""Maps of the deformation: displacement with arrows, Jacobian determinant, each with its colour bar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from samreg.report import pictures
from samreg.report.figures import Arrow, Picture, picture
from samreg.report.views import View, body_middle, cut, views_of
from samreg.result import RegistrationResult
from samreg.transforms import Transform

ARROWS = 14  # along the longer side of a picture


@dataclass(frozen=True)
class ColourBar:
    """A scale beside a map: stops as (percent, colour), marks as (percent, word)."""

    stops: Sequence[tuple[float, str]]
    marks: Sequence[tuple[float, str]]


@dataclass(frozen=True)
class DeformationFigure:
    """Maps of the displacement, and of the Jacobian determinant where it varies."""

    displacement: Sequence[Picture]
    displacement_bar: ColourBar
    largest_mm: float
    arrow_scale: float
    beyond_rigid: bool
    jacobian: Sequence[Picture] = ()
    jacobian_bar: ColourBar | None = None
    jacobian_range: tuple[float, float] | None = None


def draw_deformation(result: RegistrationResult) -> DeformationFigure | None:
    """Displacement and Jacobian determinant on the fixed image; None for the identity.

    Where a rigid stage is known, the displacement shown is what goes beyond it, in the fixed
    image's frame: a turned patient would otherwise hide it.
    """
    if result.kind == "identity":
        return None
    rigid = result.stages.get("rigid") if result.kind != "rigid" else None
    views = views_of(result.fixed, body_middle(result.fixed))
    window = pictures.window_of(result.fixed)
    shades = [window(cut(result.fixed.voxels, result.fixed.grid, v.grid)) for v in views]
    coarse = [v.coarse(128) for v in views]
    moved = [_displacement(result.transform, rigid, v.grid.points()[:, :, 0]) for v in coarse]
    lengths = [np.linalg.norm(m, axis=-1) for m in moved]
    shown = _within(result, coarse, lengths)
    ramp = pictures.magnitude_ramp(float(np.percentile(shown, 99.5)))
    widest = max(v.pixel_mm * max(v.grid.shape) for v in views)
    scale = _arrow_scale(float(np.percentile(shown, 99.5)), widest / ARROWS)
    maps = []
    for view, part, vectors, length, shade in zip(views, coarse, moved, lengths, shades, strict=True):
        coloured = pictures.tinted(shade, ramp(pictures.enlarged(length, shade.shape)))
        arrows = _arrows(view, part, vectors, scale)
        maps.append(picture(view, coloured, "Displacement in mm", arrows=arrows))
    figure = DeformationFigure(maps, _bar(ramp), float(shown.max()), scale, rigid is not None)
    return _with_jacobian(figure, result, views, coarse, shades) if result.kind == "deformable" else figure


def _with_jacobian(
    figure: DeformationFigure,
    result: RegistrationResult,
    views: Sequence[View],
    coarse: Sequence[View],
    shades: Sequence[np.ndarray],
) -> DeformationFigure:
    determinants = [result.transform.jacobian_determinant(part.grid)[:, :, 0] for part in coarse]
    everywhere = _within(result, coarse, determinants)
    ramp = pictures.jacobian_ramp(float(np.percentile(np.abs(_log2(everywhere)), 99.5)))
    maps = []
    for view, jacobian, shade in zip(views, determinants, shades, strict=True):
        fine = pictures.enlarged(jacobian, shade.shape)
        folded = fine <= 0
        colours = ramp(_log2(fine))
        colours[folded] = np.array(pictures.FOLDED) / 255
        # Where nothing changes the anatomy stays as it is.
        strength = 0.8 * np.sqrt(np.clip(np.abs(_log2(fine)) / ramp.values[-1], 0, 1))
        maps.append(picture(view, pictures.tinted(shade, colours, strength), "Jacobian determinant"))
    extremes = float(everywhere.min()), float(everywhere.max())
    return replace(figure, jacobian=maps, jacobian_bar=_bar(ramp), jacobian_range=extremes)


def _within(result: RegistrationResult, planes: Sequence[View], maps: Sequence[np.ndarray]) -> np.ndarray:
    """The values [n] of maps where the fixed image is: beyond it a displacement field may end."""
    grid = result.fixed.grid
    return np.concatenate([m[grid.contains(p.grid.points()[:, :, 0])] for p, m in zip(planes, maps, strict=True)])


def _log2(determinant: np.ndarray) -> np.ndarray:
    return np.log2(np.maximum(determinant, 1e-3))


def _displacement(transform: Transform, rigid: Transform | None, points: np.ndarray) -> np.ndarray:
    mapped = transform.map_points(points)
    return (rigid.inverse().map_points(mapped) if rigid else mapped) - points


def _arrows(view: View, part: View, vectors: np.ndarray, scale: float) -> list[Arrow]:
    """In-plane arrows on a lattice, `scale` times their true length; very short ones are left out."""
    step = max(1, max(part.grid.shape) // ARROWS)
    offset = step // 2
    starts = view.pixels(part.grid.points()[offset::step, offset::step, 0]) + 0.5
    inplane = vectors[offset::step, offset::step] @ view.grid.direction[:, :2] * (scale / view.pixel_mm)
    return [
        Arrow(*(round(float(v), 1) for v in (x, y, x + u, y + v)))
        for (x, y), (u, v) in zip(starts.reshape(-1, 2), inplane.reshape(-1, 2), strict=True)
        if np.hypot(u, v) > 4
    ]


def _arrow_scale(longest_mm: float, room_mm: float) -> float:
    """A round factor at which the longest arrow about fills the distance between two."""
    wanted = room_mm / max(longest_mm, 1e-3)
    return float(max((f for f in (0.1, 0.2, 0.5, 1, 2, 5, 10) if f <= wanted * 1.5), default=0.1))


def _bar(ramp: pictures.Ramp) -> ColourBar:
    stops = [
        (100 * ramp.fraction(v), "#" + "".join(f"{c:02x}" for c in colour))
        for v, colour in zip(ramp.values, ramp.colours, strict=True)
    ]
    return ColourBar(stops, [(100 * ramp.fraction(v), word) for v, word in ramp.marks])
