"""The fit to ROI pairs: samreg's beside a displacement at every voxel fitted by 10,000 steps of Adam.

    python tools/bench_fit.py                       # pictures, volumes, and a disc that moves
    python tools/bench_fit.py --parts disc --iterations 2000

About half of a phantom's organs are given as pairs (Case 1 of SAMReg), the others score. The plain fit is
written here from the equations (Huang et al., arXiv 2405.10879, Eq. 10) and from what the released code is
known to do: identity as the start, one displacement for each voxel in normalised units, Adam with a rate of
1e-3, 10,000 iterations. Its smoothness term in those units has no effect, so it is shown without one and with
the weight that suits it best.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from samreg import metrics, phantoms
from samreg.config import EstimationConfig, configured
from samreg.estimation.deformable import fit_field, margin_mm
from samreg.estimation.patches import RoiPatches
from samreg.geometry import Grid, Volume
from samreg.matching import match_labels
from samreg.rois import RoiPairs, RoiSet
from samreg.session import register
from samreg.transforms import Affine, DisplacementField, Transform
from samreg.types import Labels, Mask

RATE = 1e-3
STRONG = 100.0  # weight of pairs whose outlines are exact, beside which smoothness hardly counts


@dataclass(frozen=True, eq=False)
class Scene:
    """Two label maps, some labels of which are given as pairs.

    Attributes:
        given: Numbers of the labels that are fitted; all others score.
        body: [i, j, k] on the fixed grid, where folding is counted.
        truth: Fixed to moving points.
    """

    fixed: Volume
    moving: Volume
    fixed_labels: Labels
    moving_labels: Labels
    given: tuple[int, ...]
    body: Mask
    truth: Transform

    def labels(self, *, given: bool) -> tuple[Labels, Labels]:
        """Both label maps with the given labels alone, or with the others."""
        first, second = (
            np.where(np.isin(labels, self.given) == given, labels, 0)
            for labels in (self.fixed_labels, self.moving_labels)
        )
        return first, second

    @property
    def pairs(self) -> RoiPairs:
        """The given labels as ROI pairs, all with confidence 1."""
        fixed, moving = self.labels(given=True)
        return match_labels(RoiSet.from_labels(fixed, self.fixed.grid), RoiSet.from_labels(moving, self.moving.grid))


# What is inside or around an organ goes with it, and the muscle around all of them takes no part: the outline
# of a given organ must not be the outline of one that scores.
NEITHER = ("muscle",)
GIVEN = (
    "right lung", "heart wall", "heart chamber", "liver", "tumour", "spleen", "left kidney", "renal pelvis", "spine",
    "spinal canal", "bladder", "left hip",
)  # fmt: skip


def phantom_scene(grid: Grid, seed: int, peak_mm: float) -> Scene:
    """A deformed phantom; about half of its organs are given, the other half scores."""
    phantom = phantoms.pair("deformable", seed=seed, fixed_grid=grid, peak_mm=peak_mm)
    number = {name: n for n, name in enumerate(phantom.names, 1)}
    maps = [
        np.where(np.isin(labels, [number[name] for name in NEITHER]), 0, labels)
        for labels in (phantom.fixed_labels, phantom.moving_labels)
    ]
    seen = {*np.unique(maps[0])} & {*np.unique(maps[1])}
    given = tuple(number[name] for name in GIVEN if number[name] in seen)
    return Scene(phantom.fixed, phantom.moving, maps[0], maps[1], given, phantom.body, phantom.truth)


def disc_scene(shift_px: float, radius_px: float = 10.0, size: int = 200) -> Scene:
    """A disc that moves along i, in pictures of 1 mm pixels."""
    grid = Grid.from_axes((size, size, 1), (1.0, 1.0, 1.0))
    i, j = np.mgrid[:size, :size]
    middle = (size - 1) / 2

    def disc(at: float) -> np.ndarray:
        return (np.hypot(i - at, j - middle) <= radius_px)[..., None].astype(np.uint8)

    fixed, moving = disc(middle - shift_px / 2), disc(middle + shift_px / 2)
    shift = np.eye(4)
    shift[0, 3] = shift_px
    images = (Volume(labels.astype(np.float32), grid) for labels in (fixed, moving))
    return Scene(*images, fixed, moving, (1,), np.ones(grid.shape, bool), Affine(shift))


def plain_fit(scene: Scene, iterations: int, smoothness: float = 0.0) -> DisplacementField:
    """A displacement at every voxel of the fixed grid that minimises Σ (MSE + Dice) of the pairs + λ |∇u|².

    Args:
        smoothness: λ on the gradient in voxels per voxel.

    Raises:
        ValueError: The images have different grids, which the released code does not know.
    """
    grid = scene.fixed.grid
    if not grid.same_as(scene.moving.grid):
        raise ValueError("the plain fit asks for one grid of both images")
    axes = list(grid.active_axes)
    shape = [grid.shape[a] for a in axes]
    fixed, moving = (_masks(labels, scene.given, shape) for labels in scene.labels(given=True))
    u = torch.zeros(*shape, len(axes), requires_grad=True)  # normalised units, along i, j, k
    steps = [(2 * torch.arange(n) + 1) / n - 1 for n in shape]
    here = torch.stack(torch.meshgrid(*steps, indexing="ij"), -1)
    half = torch.tensor(shape) / 2  # voxels in a normalised unit
    optimiser = torch.optim.Adam([u], lr=RATE)
    for _ in range(iterations):
        warped = grid_sample(moving[None], (here + u).flip(-1)[None], align_corners=False)[0].flatten(1)
        loss = (mse(warped, fixed) + dice_loss(warped, fixed)).sum()
        if smoothness:
            loss = loss + smoothness * roughness(u * half)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    vectors = np.zeros((*shape, 3))
    vectors[..., axes] = (u * half).detach().numpy()
    lps = vectors.reshape(*grid.shape, 3) @ grid.affine[:3, :3].T
    return DisplacementField(grid, lps)


def _masks(labels: Labels, numbers: Iterable[int], shape: list[int]) -> Tensor:
    """[label, ...] 0 or 1."""
    return torch.stack([torch.as_tensor(labels.reshape(shape) == n).float() for n in numbers])


def mse(warped: Tensor, fixed: Tensor) -> Tensor:
    """Mean squared difference [n] of masks [n, m]."""
    return ((warped - fixed.flatten(1)) ** 2).mean(1)


def dice_loss(warped: Tensor, fixed: Tensor) -> Tensor:
    """One less the overlap [n] of masks [n, m]."""
    fixed = fixed.flatten(1)
    return 1 - 2 * (warped * fixed).sum(1) / (warped.sum(1) + fixed.sum(1)).clamp_min(1e-6)


def roughness(u: Tensor) -> Tensor:
    """Mean squared gradient of a field [..., c] in voxels."""
    return torch.stack([u.diff(dim=axis).square().sum(-1).mean() for axis in range(u.ndim - 1)]).sum()


def our_fit(scene: Scene, roi_weight: float) -> Transform:
    """samreg's velocity field on the same pairs, from the identity, without the images."""
    config = EstimationConfig(similarity_weight=0.0, roi_weight=roi_weight)
    patches = RoiPatches.of(scene.pairs, margin_mm(config))
    body = Volume(scene.body.astype(np.uint8), scene.fixed.grid)
    return fit_field(Affine.identity(), scene.fixed, scene.moving, body, patches, config)


def our_chain(scene: Scene, roi_weight: float, *, dense: bool) -> Transform:
    """samreg from rigid to deformable on the same given labels; `dense` adds the images' similarity."""
    values = {"device": "cpu", "estimation": {"roi_weight": roi_weight}, "matching": {"held_out_share": 0.0}}
    config = configured(method="hybrid" if dense else "pairs", **values)
    first, second = scene.labels(given=True)
    result = register(scene.fixed, scene.moving, config, fixed_labels=first, moving_labels=second)
    return result.transform


@dataclass(frozen=True)
class Score:
    """Of one fit on one scene."""

    given_dice: float
    held_out_dice: float
    error_mm: float
    folding_percent: float
    sd_log_jacobian: float
    seconds: float


def score(scene: Scene, fit: Callable[[], Transform]) -> Score:
    """Run a fit and measure what it gives."""
    started = time.process_time()
    transform = fit()
    seconds = time.process_time() - started
    grid = scene.fixed.grid
    dice = {
        given: metrics.evaluate_labels(transform, first, grid, second, scene.moving.grid)["mean"]["dice"]
        for given, (first, second) in ((given, scene.labels(given=given)) for given in (True, False))
    }
    points = grid.lps(np.argwhere(scene.body).astype(float))
    error = np.linalg.norm(transform.map_points(points) - scene.truth.map_points(points), axis=-1).mean()
    jacobian = metrics.jacobian_measures(transform.jacobian_determinant(grid), scene.body)
    folding = 100 * jacobian["folding_share"]
    return Score(dice[True], dice[False], float(error), folding, jacobian["sd_log_jacobian"], seconds)


def phantom_table(name: str, scenes: list[Scene], iterations: int, weights: list[float]) -> list[str]:
    """Rows of every method on these scenes: means."""
    methods: dict[str, Callable[[Scene], Transform]] = {"identity": lambda scene: Affine.identity()}
    for weight in weights:
        methods[f"plain Adam, λ {weight:g}"] = lambda scene, w=weight: plain_fit(scene, iterations, w)  # type: ignore[misc]
    for weight in (1.0, STRONG):
        methods[f"samreg, the fit alone, roi_weight {weight:g}"] = lambda scene, w=weight: our_fit(scene, w)  # type: ignore[misc]
    for weight in (1.0, STRONG):
        methods[f"samreg, pairs alone from rigid on, roi_weight {weight:g}"] = (
            lambda scene, w=weight: our_chain(scene, w, dense=False)  # type: ignore[misc]
        )
    methods["samreg, with dense similarity (default)"] = lambda scene: our_chain(scene, 1.0, dense=True)
    rows = []
    for title, method in methods.items():
        scores = [score(scene, lambda s=scene, m=method: m(s)) for scene in scenes]  # type: ignore[misc]
        given, held, error, folding, sd, seconds = np.array([[*vars(s).values()] for s in scores]).mean(0)
        rows.append(
            f"| {name} | {title} | {given:.3f} | {held:.3f} | {error:.2f} | {folding:.2f} | {sd:.3f} | {seconds:.1f} |"
        )
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


HEAD = """\
| scene | fit | Dice, given labels | Dice, held-out labels | true error [mm] | folding [%] | SDlogJ | CPU time [s] |
|---|---|---|---|---|---|---|---|"""
DISC_HEAD = """\
| disc of radius 10 px moves by | plain Adam: Dice, true error [px] | samreg, the fit alone, roi_weight 100: likewise |
|---|---|---|"""


def disc_table(shifts: list[float], iterations: int) -> list[str]:
    """Whether each fit finds a disc that moves further and further."""
    rows = []
    for shift in shifts:
        scene = disc_scene(shift)
        scene = replace(scene, body=scene.fixed_labels > 0)
        fits = (
            score(scene, lambda s=scene: plain_fit(s, iterations)),
            score(scene, lambda s=scene: our_fit(s, STRONG)),
        )  # type: ignore[misc]
        rows.append(f"| {shift:g} px | " + " | ".join(f"{f.given_dice:.3f}, {f.error_mm:.1f}" for f in fits) + " |")
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--parts", nargs="+", choices=("picture", "volume", "disc"), default=["picture", "volume", "disc"]
    )
    parser.add_argument("--iterations", type=int, default=10_000, help="of the plain fit")
    parser.add_argument("--seeds", type=int, default=3, help="phantoms of each kind")
    parser.add_argument("--weights", type=float, nargs="+", default=[0.0, 1.0, 10.0, 30.0], help="λ of the plain fit")
    parser.add_argument("--peak-mm", type=float, default=15.0, help="largest displacement of the phantoms")
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    args = parser.parse_args()
    rows = []
    for part, grid in (("picture", phantoms.grid("picture", 128)), ("volume", phantoms.grid("isotropic", 36))):
        if part in args.parts:
            scenes = [phantom_scene(grid, seed, args.peak_mm) for seed in range(args.seeds)]
            rows += phantom_table(part, scenes, args.iterations, args.weights)
    tables = ["\n".join([HEAD, *rows])] if rows else []
    if "disc" in args.parts:
        tables.append("\n".join([DISC_HEAD, *disc_table([5, 10, 20, 30, 40, 60], args.iterations)]))
    text = "\n\n".join(tables) + "\n"
    if args.out:
        args.out.write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
