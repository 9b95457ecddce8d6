"""An anatomy that is a function of space: values and labels at any LPS point.

Two images of it never share an interpolation: each samples the function at its own points.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.transform import Rotation
from torch import Tensor

from samreg.geometry import Grid

Contrast = Literal["same", "inverted", "other"]

AIR = {"CT": -1000.0, "MR": 0.0}
TEXTURE = {"CT": 0.02, "MR": 0.05}  # standard deviation as a share of the range of values
FAT_HU = -90.0


@dataclass(frozen=True)
class Organ:
    """A bent superellipsoid, solid or hollow.

    Attributes:
        name: For a reader.
        centre: [3] LPS, from the body's centre; in the table as fractions of the body's half axes, in mm in use.
        radii: [3] half axes, likewise.
        hu: Its value in a CT.
        power: 2 is an ellipsoid, 4 nearly a box or, long and thin, a tube.
        tilt_deg: Rotation about x, y, z.
        bend: How far the ends of the longest axis curve away, in multiples of the shortest half axis.
        wall: Thickness of a hollow organ in multiples of its shortest half axis; 0 is solid.
    """

    name: str
    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    hu: float
    power: int = 2
    tilt_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)
    bend: float = 0.0
    wall: float = 0.0

    def signed_distance(self, points: Tensor) -> Tensor:
        """Distance [n] to the surface in mm, negative inside, to first order; points [n, 3] from the body's centre."""
        rotation = torch.as_tensor(self._rotation, dtype=points.dtype)
        local = (points - torch.tensor(self.centre, dtype=points.dtype)) @ rotation
        if self.bend:
            shortest, longest = int(np.argmin(self.radii)), int(np.argmax(self.radii))
            local = local.clone()
            along = local[:, longest] / self.radii[longest]
            local[:, shortest] -= self.bend * self.radii[shortest] * (along**2 - 0.5)
        radii = torch.tensor(self.radii, dtype=points.dtype)
        scaled = (local / radii).abs().clamp_min(1e-6)
        level = (scaled**self.power).sum(-1) ** (1 / self.power)
        steepness = ((scaled / level[:, None]) ** (self.power - 1) / radii).norm(dim=-1)
        distance = (level - 1) / steepness
        return distance.abs() - self.wall * min(self.radii) / 2 if self.wall else distance

    @property
    def _rotation(self) -> np.ndarray:
        return Rotation.from_euler("xyz", self.tilt_deg, degrees=True).as_matrix()

    @property
    def reach_mm(self) -> float:
        """Radius of a sphere about the centre that holds the organ."""
        return max(self.radii) * 1.4 + (abs(self.bend) + self.wall) * min(self.radii)


# Fractions of the body's half axes; x to the patient's left, y to the back, z to the head.
# Later rows are drawn over earlier ones. Nothing here is symmetric.
TORSO = (
    Organ("muscle", (0.0, 0.0, 0.0), (0.90, 0.88, 0.98), 50, power=4),
    Organ("ribs", (0.0, 0.02, 0.45), (0.80, 0.80, 0.52), 420, wall=0.08),
    Organ("right lung", (-0.44, -0.05, 0.52), (0.30, 0.50, 0.42), -820, tilt_deg=(0, 8, 0)),
    Organ("left lung", (0.42, 0.02, 0.57), (0.25, 0.45, 0.36), -760, tilt_deg=(0, -12, 0)),
    Organ("heart wall", (0.14, -0.28, 0.42), (0.25, 0.27, 0.22), 110, tilt_deg=(0, 0, 35)),
    Organ("heart chamber", (0.17, -0.27, 0.42), (0.14, 0.17, 0.13), 330, tilt_deg=(0, 0, 35)),
    Organ("trachea", (0.03, 0.12, 0.72), (0.05, 0.06, 0.22), -950, power=4),
    Organ("liver", (-0.36, -0.12, -0.12), (0.42, 0.50, 0.28), 140, tilt_deg=(0, 15, 10)),
    Organ("tumour", (-0.50, -0.02, -0.10), (0.10, 0.11, 0.10), 20),
    Organ("gallbladder", (-0.22, -0.50, -0.28), (0.09, 0.13, 0.14), -5, tilt_deg=(30, 0, 0)),
    Organ("stomach", (0.38, -0.38, -0.06), (0.21, 0.22, 0.25), 15, bend=0.8),
    Organ("spleen", (0.60, 0.30, -0.05), (0.14, 0.24, 0.26), 190, bend=-0.5, tilt_deg=(0, 10, 20)),
    Organ("pancreas", (0.08, 0.00, -0.24), (0.28, 0.09, 0.10), 100, bend=1.0),
    Organ("left kidney", (0.40, 0.44, -0.40), (0.15, 0.18, 0.24), 260, tilt_deg=(0, 12, 0)),
    Organ("renal pelvis", (0.36, 0.42, -0.41), (0.06, 0.08, 0.11), 30),
    Organ("right kidney", (-0.38, 0.46, -0.52), (0.13, 0.15, 0.20), 250, tilt_deg=(0, -15, 0)),
    Organ("vena cava", (-0.13, 0.30, -0.10), (0.07, 0.06, 0.80), 170, power=4, bend=0.7),
    Organ("aorta", (0.09, 0.36, 0.05), (0.07, 0.08, 0.90), 360, power=4, bend=-0.6),
    Organ("spine", (0.0, 0.62, 0.0), (0.14, 0.15, 0.96), 480, power=4),
    Organ("spinal canal", (0.0, 0.69, 0.0), (0.05, 0.05, 0.96), 25, power=4),
    Organ("bowel", (-0.12, -0.48, -0.56), (0.32, 0.14, 0.14), -40, bend=1.2, tilt_deg=(0, 0, -15)),
    Organ("colon", (0.50, -0.15, -0.52), (0.13, 0.15, 0.30), -300, wall=0.5, tilt_deg=(10, 0, 0)),
    Organ("bladder", (0.04, -0.30, -0.82), (0.26, 0.24, 0.12), 5),
    Organ("left hip", (0.46, 0.24, -0.80), (0.26, 0.13, 0.13), 560, bend=0.8, tilt_deg=(0, 25, 0)),
    Organ("right hip", (-0.44, 0.20, -0.77), (0.22, 0.12, 0.15), 520, bend=-0.6, tilt_deg=(0, -20, 0)),
)


class Anatomy:
    """A torso of fat, about 25 organs and a fine texture, that fills a field of view.

    Args:
        grid: Field of view to fill; a single slice shows organs of the whole torso.
        seed: Varies place, size, tilt and (for MR) the values of the organs, and the texture.
        voxel_mm: The finest in-plane spacing that must resolve the texture; edges are as soft as this.
    """

    def __init__(self, grid: Grid, seed: int = 0, voxel_mm: float | None = None) -> None:
        rng = np.random.default_rng(seed)
        self.voxel_mm = float(np.sort(grid.spacing_mm)[1]) if voxel_mm is None else voxel_mm
        self.centre_lps = grid.centre_lps
        self.half_axes_mm, flat = _half_axes(grid)
        self.body = Organ("body", (0.0, 0.0, 0.0), _triple(self.half_axes_mm), FAT_HU, power=3)
        self.organs = tuple(_placed(organ, self.half_axes_mm, flat, rng) for organ in TORSO)
        self._waves = self._texture_waves(rng, 10)
        # MR values: evenly spaced levels in an order of their own for each of two sequences.
        levels = np.linspace(200, 1000, len(TORSO) + 1)
        self._mr = {"same": rng.permutation(levels), "other": rng.permutation(levels)}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the organs; the label of an organ is its position plus one."""
        return tuple(organ.name for organ in self.organs)

    def values_of(self, modality: str, contrast: Contrast) -> np.ndarray:
        """Mean value of fat and of each organ [1 + n] in this contrast."""
        if modality == "CT":
            values = np.array([FAT_HU, *(organ.hu for organ in self.organs)])
            if contrast == "other":
                values = values[np.argsort(self._mr["other"])]
        else:
            values = self._mr["other" if contrast == "other" else "same"]
        return values.max() + values.min() - values if contrast == "inverted" else values

    def render(self, points_lps: Tensor, modality: str, contrast: Contrast) -> tuple[Tensor, Tensor]:
        """Values [n] float32 and labels [n] uint8 (0 outside every organ) at LPS points [n, 3]."""
        values, air = self.values_of(modality, contrast), AIR[modality]
        p = (points_lps - torch.as_tensor(self.centre_lps)).float()
        softness = 0.35 * self.voxel_mm
        body = torch.sigmoid(-self.body.signed_distance(p) / softness)
        image = torch.full((p.shape[0],), air, dtype=torch.float32)
        labels = torch.zeros(p.shape[0], dtype=torch.uint8)
        near = torch.nonzero(body > 1e-3)[:, 0]
        p, body = p[near], body[near]
        tissue = torch.full((p.shape[0],), float(values[0]))
        number = torch.zeros(p.shape[0], dtype=torch.uint8)
        for n, (organ, value) in enumerate(zip(self.organs, values[1:], strict=True), 1):
            at, distance = _near(organ, p, 4 * softness)
            share = torch.sigmoid(-distance / softness)
            tissue[at] += share * (float(value) - tissue[at])
            number[at[distance < 0]] = n
        sign = -1 if contrast == "inverted" else 1
        tissue += self._texture(p) * float(sign * TEXTURE[modality] * np.ptp(values))
        image[near] += body * (tissue - air)
        labels[near] = torch.where(body > 0.5, number, torch.zeros_like(number))
        return image, labels

    def inside(self, points_lps: Tensor) -> Tensor:
        """True [n] for LPS points [n, 3] in the body."""
        return self.body.signed_distance((points_lps - torch.as_tensor(self.centre_lps)).float()) < 0

    def _texture_waves(self, rng: np.random.Generator, count: int) -> tuple[Tensor, Tensor]:
        """Wave vectors [3, 2 n] (radians per mm) and phases [2 n]: carriers and what bends them."""
        longest = 0.5 * float(self.half_axes_mm.max())
        wavelengths = np.geomspace(6 * self.voxel_mm, max(longest, 12 * self.voxel_mm), count)
        directions = rng.normal(size=(2, count, 3))
        directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
        carriers = directions[0] * (2 * np.pi / wavelengths)[:, None]
        benders = directions[1] * (2 * np.pi / (5 * wavelengths))[:, None]
        phases = rng.uniform(0, 2 * np.pi, 2 * count)
        return torch.tensor(np.vstack([carriers, benders]).T).float(), torch.tensor(phases).float()

    def _texture(self, points: Tensor) -> Tensor:
        """A sum of bent waves from 6 voxels to a quarter of the body, standard deviation about one."""
        vectors, phases = self._waves
        count = vectors.shape[1] // 2
        total = torch.zeros(points.shape[0])
        for n in range(count):
            bender = torch.sin(points @ vectors[:, count + n] + phases[count + n])
            total += torch.sin(points @ vectors[:, n] + 1.5 * bender + phases[n])
        return total * (2 / count) ** 0.5


def _near(organ: Organ, points: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """Positions of the points that can lie in the organ or `margin` beyond it, and their distances."""
    offset = points - torch.tensor(organ.centre, dtype=points.dtype)
    at = torch.nonzero((offset * offset).sum(-1) < (organ.reach_mm + margin) ** 2)[:, 0]
    return at, organ.signed_distance(points[at])


def _half_axes(grid: Grid) -> tuple[np.ndarray, int | None]:
    """Half axes [3] of the body along L, P, S in mm, and the LPS axis across a single slice."""
    _, axis_of = linear_sum_assignment(-np.abs(grid.direction))
    half = np.array([0.42, 0.35, 0.43]) * grid.extent_mm[axis_of]
    if not grid.is_2d:
        return half, None
    flat = int(np.flatnonzero(axis_of == 2)[0])
    half[flat] = np.delete(half, flat).mean()
    return half, flat


def _placed(organ: Organ, half_axes: np.ndarray, flat: int | None, rng: np.random.Generator) -> Organ:
    """A row of the table in mm, varied by the seed."""
    centre = np.array(organ.centre) + rng.normal(0, 0.015, 3)
    radii = np.array(organ.radii) * np.exp(rng.normal(0, 0.06, 3))
    tilt = np.array(organ.tilt_deg) + rng.normal(0, 3, 3)
    if flat is not None:
        centre[flat] *= 0.2
    return replace(
        organ,
        centre=_triple(centre * half_axes),
        radii=_triple(radii * half_axes),
        tilt_deg=_triple(tilt),
    )


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    a, b, c = (float(v) for v in values)
    return a, b, c
