"""The figures of the report: cuts, composites, paired regions, deformation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from samreg.report import pictures
from samreg.report.regions import Outline, busiest, colour_of, outlines
from samreg.report.views import View, body_middle, corresponding, cut, views_of
from samreg.result import RegistrationResult
from samreg.rois import RoiPair, RoiPairs

THUMBNAIL_PIXELS = 112
MAX_THUMBNAILS = 64
MAX_OUTLINES = 24  # of a plane: more numbers cannot be read


@dataclass(frozen=True)
class Arrow:
    """A displacement in pixels of the picture."""

    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True)
class Picture:
    """One picture, ready for the page.

    Attributes:
        src: Data URI.
        letters: At the left, right, top and bottom edge; all empty where unknown.
        bar_mm, bar_percent: Length of the scale bar, and its share of the longer side.
    """

    src: str
    alt: str
    title: str
    width: int
    height: int
    letters: tuple[str, str, str, str]
    bar_mm: float
    bar_percent: float
    outlines: Sequence[Outline] = ()
    arrows: Sequence[Arrow] = ()


@dataclass(frozen=True)
class PairRow:
    """One line of the table of pairs.

    Attributes:
        before_mm, after_mm: Distance between the centroids at the identity and with the transform.
        fixed, moving: Close-ups, None beyond the first `MAX_THUMBNAILS` pairs.
    """

    pair: RoiPair
    colour: str
    size: str
    before_mm: float
    after_mm: float
    fixed: Picture | None
    moving: Picture | None


@dataclass(frozen=True)
class Figures:
    """All figures; each list has one picture for each view."""

    fixed: list[Picture] = field(default_factory=list)
    moving: list[Picture] = field(default_factory=list)
    warped: list[Picture] = field(default_factory=list)
    before: list[Picture] = field(default_factory=list)
    after: list[Picture] = field(default_factory=list)
    checker: list[Picture] = field(default_factory=list)
    difference_before: list[Picture] = field(default_factory=list)
    difference_after: list[Picture] = field(default_factory=list)
    regions_fixed: list[Picture] = field(default_factory=list)
    regions_moving: list[Picture] = field(default_factory=list)
    covered_before: float = 1.0


def draw(result: RegistrationResult, warped: np.ndarray) -> Figures:
    """Fixed, moving and warped in every view, compared in four ways, with their regions.

    Args:
        warped: [i, j, k] the moving image on the fixed grid.
    """
    fixed, moving, transform = result.fixed, result.moving, result.transform
    window, moving_window = pictures.window_of(fixed), pictures.window_of(moving)
    middle = body_middle(fixed)
    views = views_of(fixed, middle)
    counterpart = transform.map_points(middle[None])[0]
    if not moving.grid.contains(counterpart[None])[0]:
        counterpart = body_middle(moving)
    own_views = views_of(moving, counterpart)
    figures = Figures()
    same_scale = _comparable(result)
    covered = 0
    for view, own in zip(views, own_views, strict=True):
        a = window(cut(fixed.voxels, fixed.grid, view.grid))
        before = moving_window(cut(moving.voxels, moving.grid, view.grid))
        after = moving_window(cut(warped, fixed.grid, view.grid))
        mapped = transform.map_points(view.grid.points()[:, :, 0])
        after[~moving.grid.contains(mapped)] = np.nan
        covered += int(np.isfinite(before).sum())
        figures.fixed.append(picture(view, pictures.grey(a), "Fixed image"))
        figures.warped.append(picture(view, pictures.grey(after), "Registered moving image"))
        own_cut = moving_window(cut(moving.voxels, moving.grid, own.grid))
        figures.moving.append(picture(own, pictures.grey(own_cut), "Moving image as acquired"))
        figures.before.append(picture(view, pictures.overlay(a, before), "Fixed and moving before registration"))
        figures.after.append(picture(view, pictures.overlay(a, after), "Fixed and moving after registration"))
        figures.checker.append(picture(view, pictures.checkerboard(a, after), "Checkerboard of fixed and registered"))
        if same_scale:
            for kind, other in (("before", before), ("after", after)):
                drawn = picture(view, pictures.difference(a, other), f"Difference {kind} registration")
                getattr(figures, f"difference_{kind}").append(drawn)
    _draw_regions(figures, result, views, window, moving_window)
    if covered == 0:
        return Figures(**{**figures.__dict__, "covered_before": 0.0})
    return figures


def draw_pairs(result: RegistrationResult) -> list[PairRow]:
    """One row for each pair: close-ups of both regions, size, distance of centroids in mm."""
    pairs, fixed, moving = result.pairs, result.fixed, result.moving
    if not len(pairs):
        return []
    windows = pictures.window_of(fixed), pictures.window_of(moving)
    fixed_at, moving_at = pairs.fixed.centroids_lps(), pairs.moving.centroids_lps()
    before = np.linalg.norm(moving_at - fixed_at, axis=1)
    after = np.linalg.norm(moving_at - result.transform.map_points(fixed_at), axis=1)
    plane = _acquired_plane(result)
    turned = corresponding(plane, result.transform)
    rows = []
    for n, pair in enumerate(pairs):
        close: list[Picture | None] = [None, None]
        if n < MAX_THUMBNAILS:
            side_mm = 1.7 * max(_width_mm(pairs, pair), 12 * plane.pixel_mm)
            for s, (volume, view, at) in enumerate(((fixed, plane, fixed_at[n]), (moving, turned, moving_at[n]))):
                role = "fixed" if s == 0 else "moving"
                near = busiest(view.around(at, side_mm, THUMBNAIL_PIXELS), volume.grid, [getattr(pair, role)], [1.0])
                shade = windows[s](cut(volume.voxels, volume.grid, near.grid))
                drawn = outlines(near, volume.grid, [pair], role)
                close[s] = picture(near, pictures.grey(shade), f"Pair {pair.id} in the {role} image", drawn)
        rows.append(PairRow(pair, colour_of(pair.id), _size(pairs, pair), before[n], after[n], close[0], close[1]))
    return rows


def picture(
    view: View,
    colours: np.ndarray,
    what: str,
    drawn: Sequence[Outline] = (),
    arrows: Sequence[Arrow] = (),
) -> Picture:
    """A picture [w, h, 3] of a view with its letters, scale bar and alternative text."""
    w, h, _ = view.grid.shape
    longest = max(w, h) * view.pixel_mm
    bar = _round_below(longest / 4)
    alt = f"{what}, {view.title.lower()} plane" if view.name != "Image" else what
    if any(view.letters):
        alt += f", {view.letters[0]} on the left, {view.letters[2]} on top"
    return Picture(
        pictures.data_uri(colours),
        alt,
        view.title,
        w,
        h,
        view.letters,
        bar,
        100 * bar / longest,
        drawn,
        arrows,
    )


def _draw_regions(
    figures: Figures,
    result: RegistrationResult,
    views: Sequence[View],
    window: pictures.Window,
    moving_window: pictures.Window,
) -> None:
    """The surest regions on the planes that show most, the moving image cut along the corresponding planes."""
    pairs, fixed, moving = result.pairs, result.fixed, result.moving
    if not len(pairs):
        return
    for view in views:
        here = busiest(view, fixed.grid, [p.fixed for p in pairs], pairs.confidences.tolist())
        there = corresponding(here, result.transform)
        shade = window(cut(fixed.voxels, fixed.grid, here.grid))
        cutting = {outline.pair: outline for outline in outlines(here, fixed.grid, list(pairs), "fixed")}
        shown = {pair.id: pair for pair in [pair for pair in pairs if pair.id in cutting][:MAX_OUTLINES]}
        drawn = [outline for number, outline in cutting.items() if number in shown]
        figures.regions_fixed.append(picture(here, pictures.grey(shade), "Paired regions, fixed image", drawn))
        shade = moving_window(cut(moving.voxels, moving.grid, there.grid))
        drawn = outlines(there, moving.grid, list(shown.values()), "moving")
        figures.regions_moving.append(picture(there, pictures.grey(shade), "Paired regions, moving image", drawn))


def _acquired_plane(result: RegistrationResult) -> View:
    """The view nearest to the acquired slices of the fixed image, in which regions are sharpest."""
    views = views_of(result.fixed, body_middle(result.fixed))
    normal = result.fixed.grid.direction[:, 2]
    return max(views, key=lambda v: abs(float(v.grid.direction[:, 2] @ normal)))


def _width_mm(pairs: RoiPairs, pair: RoiPair) -> float:
    """The longer side of both regions' boxes."""
    return max(
        float((np.asarray(roi.shape) * grid.spacing_mm)[list(grid.active_axes)].max())
        for roi, grid in ((pair.fixed, pairs.fixed_grid), (pair.moving, pairs.moving_grid))
    )


def _size(pairs: RoiPairs, pair: RoiPair) -> str:
    """Sizes of both regions, in one unit: areas where both lie in one slice each."""
    if pair.is_2d:
        sizes = pairs.fixed.area_mm2(pair.fixed), pairs.moving.area_mm2(pair.moving)
        unit, divisor = ("cm²", 100.0) if max(sizes) >= 1000 else ("mm²", 1.0)
    else:
        sizes = pairs.fixed.volume_mm3(pair.fixed), pairs.moving.volume_mm3(pair.moving)
        unit, divisor = ("cm³", 1000.0) if max(sizes) >= 1000 else ("mm³", 1.0)
    return " / ".join(_three_digits(size / divisor) for size in sizes) + f" {unit}"


def _three_digits(value: float) -> str:
    """Three significant digits, also where they are zeros ("9.00"), and all digits before the point."""
    return f"{value:#.3g}".rstrip(".") if value < 1000 else f"{value:.0f}"


def _comparable(result: RegistrationResult) -> bool:
    """A difference of intensities says something only within one modality."""
    return result.fixed.modality == result.moving.modality


def _round_below(value: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is at most `value`."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(m for m in (5, 2, 1) if m * power <= value * (1 + 1e-9)) * power)
