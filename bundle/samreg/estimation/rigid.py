"""The rigid estimate: many starts, coarse to fine, the best by mutual information."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from samreg.estimation.image_pair import ImagePair
from samreg.estimation.linear import MAX_STEPS, LinearKind, refine
from samreg.estimation.mutual_information import PointSamples
from samreg.estimation.search import global_search, tilts
from samreg.geometry import Grid, Volume, transform_points
from samreg.preprocess import mask_on, working_volume
from samreg.threads import in_parallel
from samreg.transforms import about_centre, nearest_rotation
from samreg.types import Matrix4

logger = logging.getLogger(__name__)

TILTS_DEG = (-40.0, -20.0, 20.0, 40.0)
PICTURE_TILTS_DEG = tuple(float(d) for d in range(5, 360, 5))  # a slide may lie any way round
SEARCH_MM, PICTURE_SEARCH_MM = 8.0, 1.0  # vessels of a photograph are a hundredth of its width
MAX_SEARCH_VOXELS = 2e7
FIRST_STEPS = 8  # of every start; then
PURSUED, PURSUED_MIRRORED = 4, 2  # of them go on
DISTINCT_MM = 5.0  # on average over the body: alignments that end nearer to each other are one
ALIKE = 1e-4  # share of a score by which starts may differ and still count as equal: mirror and rotation symmetry

_Ended = tuple[float, Matrix4, str]  # score, matrix, and the origin of its start


@dataclass(frozen=True, eq=False)
class Start:
    """A linear transform to begin with, and where it is from ("edges", "pairs", "given")."""

    origin: str
    moving_from_fixed: Matrix4


@dataclass(frozen=True, eq=False)
class LinearFit:
    """A refined matrix.

    Attributes:
        score: Mutual information at the finest level, in nats (starts compare by it).
        origin: The start that won.
        rivals: Score of the best start that ended elsewhere, relative to this one; 0 if none did, None if
            there was but one.
    """

    moving_from_fixed: Matrix4
    score: float
    origin: str
    rivals: float | None = None


def edge_starts(pair: ImagePair, best: int = 4) -> list[Start]:
    """Starts from a global search on edges, of pictures on what is flattened, over tilts and all translations."""
    picture = pair.fixed.grid.is_2d
    spacing = (PICTURE_SEARCH_MM if picture else SEARCH_MM) * pair.scale
    while _search_size(pair, spacing) > MAX_SEARCH_VOXELS:
        spacing *= 1.25
    fixed, moving = (working_volume(v, spacing if picture else spacing / 2) for v in (pair.fixed, pair.moving))
    fixed_body = mask_on(pair.fixed_body.voxels > 0, pair.fixed_body.grid, fixed.grid)
    moving_body = mask_on(pair.moving_body.voxels > 0, pair.moving_body.grid, moving.grid)
    rotations = tilts(PICTURE_TILTS_DEG if picture else TILTS_DEG, pair.fixed.grid)
    found = global_search(fixed, moving, fixed_body, moving_body, rotations, spacing_mm=spacing, best=best)
    logger.info("The global search reached these correlations: %s.", [round(value, 3) for value, _ in found])
    return [Start("edges", matrix) for _, matrix in found]


def plain_starts(pair: ImagePair) -> list[Start]:
    """The scanner's own coordinates, the bodies' centroids, and the middles of the fields of view."""
    fixed, moving = (centroid(body) for body in (pair.fixed_body, pair.moving_body))
    shifts = {
        "scanner coordinates": np.zeros(3),
        "centroids": moving - fixed,
        "fields of view": pair.moving.grid.centre_lps - pair.fixed.grid.centre_lps,
    }
    return [Start(origin, about_centre(np.eye(3), shift, np.zeros(3))) for origin, shift in shifts.items()]


def fit_rigid(
    pair: ImagePair, starts: Sequence[Start], *, on_progress: Callable[[float], None] | None = None
) -> LinearFit:
    """The best rigid transform from several starts.

    Args:
        starts: At least one; the identity is a sensible one for images of one session.
    """

    distinct = _climbed(starts, pair, PURSUED, on_progress and (lambda share: on_progress(0.6 * share)))[:2]
    middle = pair.middle
    refined = _distinct(_ranked(in_parallel(lambda one: _refined(one, middle, pair), distinct), pair), pair)
    if on_progress:
        on_progress(0.8)
    rivals = refined[1][0] / refined[0][0] if len(refined) > 1 and refined[0][0] > 0 else 0.0
    _, matrix, origin = refined[0]
    fit = fit_linear(pair, matrix, "rigid", origin)
    return LinearFit(fit.moving_from_fixed, fit.score, origin, rivals)


def mirror_ratio(pair: ImagePair, moving_from_fixed: Matrix4) -> float:
    """Best coarse score of the moving image mirrored left to right, relative to that of a found transform.

    A body is much like its mirror image, so an image that was mirrored before it was stored registers well;
    then its mirror image registers better, and the ratio is above 1.
    """
    mirror = about_centre(np.diag([-1.0, 1, 1]), np.zeros(3), pair.moving.grid.centre_lps)
    other = replace(
        pair,
        moving=_mapped(pair.moving, mirror),
        moving_body=_mapped(pair.moving_body, mirror),
    )
    mirrored = _climbed(edge_starts(other, best=2) + plain_starts(other), other, PURSUED_MIRRORED)[0]
    _, found = refine(moving_from_fixed, pair.coarse, "rigid", pair.fixed.grid)
    return mirrored[0] / found if found > 0 else float("inf")


def _climbed(
    starts: Sequence[Start], pair: ImagePair, most: int, on_progress: Callable[[float], None] | None = None
) -> list[_Ended]:
    """Where starts end at the coarsest level, distinct ones, the best first; after a few steps the best go on alone."""
    samples = pair.coarse  # drawn once, before several threads ask for them

    begun = [(0.0, start.moving_from_fixed, start.origin) for start in starts]
    tried = in_parallel(
        lambda one: _refined(one, samples, pair, FIRST_STEPS),
        begun,
        on_progress and (lambda share: on_progress(0.5 * share)),
    )
    pursued = _distinct(_ranked(tried, pair), pair)[:most]
    tried = in_parallel(
        lambda one: _refined(one, samples, pair),
        pursued,
        on_progress and (lambda share: on_progress(0.5 + 0.5 * share)),
    )
    return _distinct(_ranked(tried, pair), pair)


def _refined(one: _Ended, samples: PointSamples, pair: ImagePair, steps: int = MAX_STEPS) -> _Ended:
    """Where the rigid fit ends from there."""
    _, start, origin = one
    matrix, value = refine(start, samples, "rigid", pair.fixed.grid, steps)
    return value, matrix, origin


def _mapped(volume: Volume, matrix: Matrix4) -> Volume:
    return replace(volume, grid=Grid(volume.grid.shape, matrix @ volume.grid.affine))


def fit_linear(pair: ImagePair, start: Matrix4, kind: LinearKind, origin: str) -> LinearFit:
    """A matrix refined at the finest level."""
    matrix, value = refine(start, pair.fine, kind, pair.fixed.grid)
    logger.info("The %s fit from %s reached a mutual information of %.4f nat.", kind, origin, value)
    return LinearFit(matrix, value, origin)


def fit_affine(pair: ImagePair, start: Matrix4) -> LinearFit:
    """The better of the affine fits from a start; of pictures also by way of the coarsest level.

    Sections shrink in staining by more than the fine structure of pictures can show at once.
    """
    starts = {"the start": start}
    if pair.fixed.grid.is_2d:
        starts["the coarsest level"] = refine(start, pair.coarse, "affine", pair.fixed.grid)[0]
    fits = [fit_linear(pair, matrix, "affine", origin) for origin, matrix in starts.items()]
    return max(fits, key=lambda fit: fit.score)


def _search_size(pair: ImagePair, spacing_mm: float) -> float:
    """Voxels of the padded images that the search transforms."""
    sides = [v.grid.extent_mm[list(v.grid.active_axes)] / spacing_mm for v in (pair.fixed, pair.moving)]
    diagonals = [float(np.linalg.norm(side)) for side in sides]
    return sum(diagonals) ** len(sides[0])


def _ranked(ended: list[_Ended], pair: ImagePair) -> list[_Ended]:
    """The best first; of those that score alike the one that moves the body least."""
    points = pair.coarse.points[::50].cpu().numpy()

    def motion(entry: _Ended) -> tuple[float, ...]:
        mapped = transform_points(entry[1], points)
        apart = float(np.linalg.norm(mapped - points, axis=1).mean())
        return (round(apart, 1), *mapped.mean(0).round(1), *entry[1][:3, :3].ravel().round(2))

    left, out = set(range(len(ended))), list[_Ended]()
    while left:
        best = max(ended[n][0] for n in left)
        alike = (n for n in left if ended[n][0] >= best - ALIKE * abs(best))
        first = min(alike, key=lambda n: motion(ended[n]))
        out.append(ended[first])
        left.remove(first)
    return out


def _distinct(ended: list[_Ended], pair: ImagePair) -> list[_Ended]:
    """Entries that take the body's points to different places (more than DISTINCT_MM apart on average)."""
    points = pair.coarse.points[::50].cpu().numpy()
    kept: list[_Ended] = []
    for entry in ended:
        apart = [np.linalg.norm(transform_points(entry[1] - k[1], points), axis=1).mean() for k in kept]
        if all(distance > DISTINCT_MM * pair.scale for distance in apart):
            kept.append(entry)
    return kept


def centroid(body: Volume) -> np.ndarray:
    """Of the voxels of a mask, [3] LPS mm."""
    return body.grid.lps(np.argwhere(body.voxels > 0).mean(0)[None])[0]


def in_plane(matrix: np.ndarray, fixed: Volume, moving: Volume) -> np.ndarray:
    """For single pictures, the part of a rigid matrix within the plane, and the step from plane to plane."""
    if not fixed.grid.is_2d:
        return matrix
    normal = fixed.grid.direction[:, 2]
    within = np.eye(3) - np.outer(normal, normal)
    out = np.eye(4)
    out[:3, :3] = nearest_rotation(within @ matrix[:3, :3] @ within + np.outer(normal, normal))
    centre = fixed.grid.centre_lps
    moved = transform_points(matrix, centre)
    step = normal * (normal @ (moving.grid.centre_lps - centre))
    out[:3, 3] = centre + within @ (moved - centre) + step - out[:3, :3] @ centre
    return out
