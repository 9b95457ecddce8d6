"""A velocity or displacement field fitted to ROI pairs and dense features, coarse to fine, in mm."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from samreg.config import EstimationConfig
from samreg.encoders.mind import even_dilation, mind_ssc
from samreg.estimation.patches import RoiPatches, roi_loss
from samreg.geometry import Grid, Volume, index_points, inside, resample, sample
from samreg.preprocess import on_grid
from samreg.transforms import DisplacementField, Transform, VelocityField, integrate_velocity
from samreg.types import Mask

# What a fit moves: a stationary velocity field, whose flow does not fold, or the displacement itself (SAMReg, Eq. 10).
Parametrisation = Literal["velocity", "displacement"]

# Chosen on phantoms (docs/performance.md).
POINTS_PER_ROI = 500  # drawn anew for each step
DENSE_POINTS = 40_000  # likewise
STEP = 0.12  # of the images' spacing that a cell moves at first; longer ones would leap over what is compared
LAST_STEP = 0.1  # of the first
SOFTNESS = 0.4  # of the control spacing: of the masks' edges
LEVELS = ((4, 1.0), (2, 0.5), (1, 0.1))  # times the finest spacing, and the share of the pairs' weight
SQUARINGS = 6  # of the velocity: its flow is that of 64 equal steps
DAMPING = 0.02
KNOWN = 0.99  # share of a sample's neighbourhood that must have values


@dataclass(frozen=True)
class FieldLevel:
    """One resolution.

    Attributes:
        image_mm, control_mm: Spacing of the images and of the velocity's grid.
        softness_mm: Of the masks' edges.
        roi_share: Of the pairs' weight. Pairs catch large displacements; their outlines are too loose to refine.
    """

    image_mm: float
    control_mm: float
    softness_mm: float
    roi_share: float


def levels(config: EstimationConfig, detail: float = 1.0) -> list[FieldLevel]:
    """Three levels, each at half the spacing of the one before.

    Args:
        detail: Divides the spacing of the images, not that of the velocity's grid.
    """
    fine = config.finest_spacing_mm
    return [FieldLevel(f * fine / (2 * detail), f * fine, SOFTNESS * f * fine, share) for f, share in LEVELS]


def fit_field(
    start: Transform,
    fixed: Volume,
    moving: Volume,
    fixed_body: Volume,
    patches: RoiPatches | None,
    config: EstimationConfig,
    *,
    parametrisation: Parametrisation = "velocity",
    detail: float = 1.0,
    seed: int = 0,
    device: str = "cpu",
    on_progress: Callable[[float], None] | None = None,
) -> VelocityField | DisplacementField:
    """The field u of x_moving = start(x_fixed + u(x_fixed)).

    Minimises with Adam the pairs' MSE + Dice, the MIND-SSC distance over the body and λ |∇v|². With the
    parametrisation "displacement" u is fitted itself, and if there is no dense similarity the loss is SAMReg's Eq. 10,
    Σ_k (MSE + Dice) + λ |∇u|²; coarser levels soften the masks' edges, so that regions that do not touch yet attract
    each other. A velocity's flow does not fold; a displacement may.
    The field vanishes at the border of its grid. Sums and the field itself are in double precision: the many small
    steps would enlarge what the last digit of single precision, which depends on the processor, makes of them.

    Args:
        start: Linear transform to begin with.
        fixed_body: Body mask as a volume of 0 and 1.
        patches: The fitted pairs; None or empty: dense similarity alone.
        parametrisation: What is moved.
        detail: How much finer than usual the images are compared; the reach shrinks as much.

    Returns:
        The field in the fixed image's space.
    """
    fitted: Tensor | None = None
    previous: Grid | None = None
    plan = levels(config, detail)
    generator = torch.Generator().manual_seed(seed)
    for number, level in enumerate(plan):
        grid = control_grid(fixed.grid, level.control_mm)
        fitted = _upsampled(fitted, previous, grid, device)
        dense = _DenseTerm.of(start, fixed, moving, fixed_body, level, device) if config.similarity_weight else None
        direct = parametrisation == "displacement"
        steps = _descend(fitted, grid, fixed.grid, start, dense, patches, level, config, generator, direct=direct)
        for step, field in enumerate(steps):
            fitted = field
            if on_progress:
                on_progress((number + (step + 1) / config.iterations) / len(plan))
        previous = grid
    if fitted is None or previous is None:
        raise RuntimeError("no level to fit")
    vectors = fitted.movedim(0, -1).cpu().numpy()
    if parametrisation == "displacement":
        return DisplacementField(previous, vectors)
    return VelocityField(previous, vectors, SQUARINGS)


def control_grid(fixed: Grid, spacing_mm: float) -> Grid:
    """The field's grid: the fixed field of view and two cells more on each side, along the fixed axes.

    Never finer than the image, so thick slices keep their spacing. An axis no longer than one cell gets one
    cell that covers it: what lies along it moves together.
    """
    spacing = np.maximum(fixed.spacing_mm, spacing_mm)
    cells = np.round(fixed.extent_mm / spacing)
    short = cells <= 1
    covering = np.where(short, np.maximum(spacing, 1.01 * fixed.extent_mm), spacing)
    return fixed.recentred(np.where(short, 1, cells + 4).astype(int), covering)


def _descend(
    field: Tensor,
    grid: Grid,
    fixed: Grid,
    start: Transform,
    dense: _DenseTerm | None,
    patches: RoiPatches | None,
    level: FieldLevel,
    config: EstimationConfig,
    generator: torch.Generator,
    *,
    direct: bool,
) -> Iterator[Tensor]:
    """Adam on the velocity or (`direct`) displacement, float64 [3, i, j, k]; yields it after each step."""
    window = _window(grid, field)
    flat = torch.as_tensor(fixed.direction[:, 2]).to(field) if fixed.is_2d else None
    stiffness = torch.eye(3).to(field) if direct else _stiffness(grid).to(field)
    parameter = field.clone().requires_grad_(True)
    step = STEP * level.image_mm
    # Adam moves a cell that nothing pulls by as much as any other, in the direction that the last digit gives it. The
    # damping keeps steps in proportion to gradients where these are small; a mean over the grid falls with its size.
    optimiser = torch.optim.Adam([parameter], lr=step, eps=DAMPING / grid.size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.iterations, LAST_STEP * step)
    for _ in range(config.iterations):
        v = _within_plane(parameter * window, flat)
        u = v if direct else integrate_velocity(v, grid, SQUARINGS)
        loss = config.smoothness_weight * roughness(v, grid, stiffness)
        if dense is not None:
            loss = loss + config.similarity_weight * dense.loss(u, grid, generator)
        if patches is not None and len(patches) and config.roi_weight:
            points = patches.draw(POINTS_PER_ROI, generator)
            mapped = start.map_tensor(_moved(points, u, grid))
            each = roi_loss(*patches.distances(points, mapped), level.softness_mm)
            published = direct and dense is None
            loss = loss + config.roi_weight * pair_loss(each, patches.weights, level.roi_share, as_published=published)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        yield _within_plane(parameter * window, flat).detach()


def pair_loss(each: Tensor, weights: Tensor, roi_share: float, *, as_published: bool) -> Tensor:
    """The pairs' losses [n] as one: their sum (Eq. 10), or their mean on the scale of the dense similarity."""
    total = (each * weights).sum()
    return total if as_published else roi_share * ROI_SCALE * total / weights.sum()


# MIND distances are a tenth of what MSE + Dice losses are; equal weights then mean equal say.
ROI_SCALE = 0.1


@dataclass(frozen=True, eq=False)
class _DenseTerm:
    """MIND-SSC of both images on one grid of the fixed space, the moving one pulled through `start`."""

    points: Tensor  # float64 [n, 3] LPS mm, the body of the fixed image
    features: Tensor  # [c, n] of the fixed image
    moving: Tensor  # [c, i, j, k]
    known: Tensor  # [1, i, j, k] 1 where the moving image has values
    grid: Grid

    @staticmethod
    def of(
        start: Transform, fixed: Volume, moving: Volume, fixed_body: Volume, level: FieldLevel, device: str
    ) -> _DenseTerm:
        spacing = np.maximum(fixed.grid.spacing_mm, level.image_mm)
        grid = fixed.grid.with_spacing(spacing)
        fixed_image = on_grid(fixed, grid)
        smooth = on_grid(moving, moving.grid.with_spacing(np.maximum(moving.grid.spacing_mm, level.image_mm)))
        low = float(moving.voxels.min())
        warped = torch.as_tensor(start.warp(smooth, grid, outside=low), device=device)
        ones = Volume(np.ones(smooth.grid.shape, np.float32), smooth.grid)
        known = torch.as_tensor(start.warp(ones, grid, outside=0.0), device=device)
        body: Mask = resample(fixed_body.voxels, fixed_body.grid, grid, mode="nearest", outside=0) > 0
        dilation = even_dilation(grid)
        features = mind_ssc(torch.as_tensor(fixed_image.voxels, device=device)[None], dilation=dilation)
        where = torch.as_tensor(body, device=device)
        points = torch.as_tensor(grid.lps(np.argwhere(body)), device=device)
        return _DenseTerm(points, features[:, where], mind_ssc(warped[None], dilation=dilation), known[None], grid)

    def loss(self, u: Tensor, control: Grid, generator: torch.Generator) -> Tensor:
        """Mean squared MIND difference over random body points that fall inside the moving image."""
        chosen = torch.randint(len(self.points), (min(DENSE_POINTS, len(self.points)),), generator=generator)
        chosen = chosen.to(self.points.device)
        ijk = index_points(self.grid, _moved(self.points[chosen], u, control))
        valid = inside(ijk, self.grid.shape) & (sample(self.known, ijk.detach())[0] > KNOWN)
        difference = ((sample(self.moving, ijk) - self.features[:, chosen]).double() ** 2).mean(0)
        return (difference * valid).sum() / valid.sum().clamp_min(1)


def _moved(points: Tensor, u: Tensor, grid: Grid) -> Tensor:
    """Points [..., 3] moved by a displacement [3, i, j, k] on a grid."""
    return points + sample(u, index_points(grid, points)).movedim(0, -1)


def roughness(v: Tensor, grid: Grid, stiffness: Tensor) -> Tensor:
    """Mean squared gradient of a field [3, i, j, k] mm, per mm; `stiffness` [3, 3] weights directions."""
    weighted = torch.einsum("ab,bijk->aijk", stiffness, v)
    total = v.new_zeros(())
    for axis, spacing in enumerate(grid.spacing_mm):
        if grid.shape[axis] > 1:
            total = total + (weighted.diff(dim=axis + 1) / float(spacing)).square().sum(0).mean()
    return total


def _stiffness(grid: Grid) -> Tensor:
    """[3, 3] factor on the velocity in the smoothness term: motion across thick slices costs more.

    Through-plane motion is seen less well by as much as the slices are thicker than the pixels.
    """
    factor = np.clip(grid.spacing_mm / grid.spacing_mm.min(), 1, 4)
    return torch.as_tensor(grid.direction @ np.diag(factor) @ grid.direction.T)


def _window(grid: Grid, like: Tensor) -> Tensor:
    """1 within, 0 on the outermost layer of the grid."""
    window = torch.ones(grid.shape).to(like)
    for axis in grid.active_axes:
        window.select(axis, 0).zero_()
        window.select(axis, grid.shape[axis] - 1).zero_()
    return window


def _within_plane(v: Tensor, normal: Tensor | None) -> Tensor:
    """A field [3, i, j, k] without its part along a normal [3]; for a stack (None) the field itself."""
    if normal is None:
        return v
    return v - normal[:, None, None, None] * torch.einsum("c,cijk->ijk", normal, v)


def _upsampled(velocity: Tensor | None, source: Grid | None, target: Grid, device: str) -> Tensor:
    if velocity is None or source is None:
        return torch.zeros(3, *target.shape, dtype=torch.float64, device=device)
    ijk = torch.as_tensor(source.index(target.points()), device=device)
    return sample(velocity, ijk, outside=0.0)


def margin_mm(config: EstimationConfig) -> float:
    """How far around a region its patch must reach for the softest level."""
    return 4 * max(level.softness_mm for level in levels(config))
