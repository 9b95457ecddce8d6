"""The pairs of images that methods are compared on, each with what it is scored by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
from skimage.filters import threshold_multiotsu

from samreg import io
from samreg.geometry import Grid, Volume
from samreg.preprocess import body_mask
from samreg.tables import PointTable, paired
from samreg.transforms import Transform
from tools.bench.warps import radial_warp

Kind = Literal["volume", "stack", "picture"]
Measure = Literal["dice", "tre_px", "error_mm"]
PICTURE_MM = 0.01  # of a pixel where the picture states no spacing


@dataclass(frozen=True, eq=False)
class Pair:
    """Two images and what is known about them.

    Attributes:
        fixed, moving: The images, all that a method is given.
        fixed_labels, moving_labels: [i, j, k] integers on the images' grids, equal numbers for equal structures.
        fixed_landmarks, moving_landmarks: [n, 3] LPS mm.
        truth: Fixed points to moving points.
    """

    fixed: Volume
    moving: Volume
    fixed_labels: np.ndarray | None = None
    moving_labels: np.ndarray | None = None
    fixed_landmarks: np.ndarray | None = None
    moving_landmarks: np.ndarray | None = None
    truth: Transform | None = None


@dataclass(frozen=True)
class PairSet:
    """Pairs of one kind.

    Attributes:
        title: For tables.
        measure: What methods are compared by.
        kind: Decides, with `same_contrast`, which settings of a method apply.
        pairs: The pairs of a data folder: names, and functions that read or make them.
    """

    title: str
    measure: Measure
    kind: Kind
    pairs: Callable[[Path], Iterator[tuple[str, Callable[[], Pair]]]]
    same_contrast: bool = True


Named = Iterator[tuple[str, Callable[[], Pair]]]


def _cardiac(data: Path) -> Named:
    frames = ["patient067_frame01", "patient067_frame10"]
    for fixed, moving in (frames, frames[::-1]):
        yield f"{moving[-2:]} to {fixed[-2:]}", partial(_labelled, data / "cardiac", fixed, moving)


def _labelled(folder: Path, fixed: str, moving: str) -> Pair:
    images = [io.read_image(folder / f"{name}.nii.gz") for name in (fixed, moving)]
    labels = [io.read_label_map(folder / f"{name}_gt.nii.gz").voxels for name in (fixed, moving)]
    return Pair(*images, fixed_labels=labels[0], moving_labels=labels[1])


def _hippocampus(data: Path) -> Named:
    images, labels = data / "hippocampus" / "images", data / "hippocampus" / "labels"
    for fixed, moving in pairwise(sorted(path.name for path in images.glob("*.nii.gz"))):
        name = f"{_number(moving)} to {_number(fixed)}"
        yield name, partial(_in_folders, images, labels, fixed, moving)


def _number(name: str) -> str:
    return name.removesuffix(".nii.gz").rpartition("_")[2]


def _in_folders(images: Path, labels: Path, fixed: str, moving: str) -> Pair:
    volumes = [io.read_image(images / name) for name in (fixed, moving)]
    maps = [io.read_label_map(labels / name).voxels for name in (fixed, moving)]
    return Pair(*volumes, fixed_labels=maps[0], moving_labels=maps[1])


def _brain(data: Path) -> Named:
    for moving in ("r16slice_rigid", "r64slice"):
        yield f"{moving} to r16slice", partial(_slices, data / "brain2d", "r16slice", moving)


def _slices(folder: Path, fixed: str, moving: str) -> Pair:
    """Slices of a brain; their labels are three classes of brightness in the head, found in each image alone."""
    images = [_upright(io.read_image(folder / f"{name}.nii.gz")) for name in (fixed, moving)]
    labels = [_tissues(image) for image in images]
    return Pair(*images, fixed_labels=labels[0], moving_labels=labels[1])


def _upright(picture: Volume, pixel_mm: float = 1.0) -> Volume:
    """The same pixels with axes along x and y, so that any program may take them as a picture."""
    return replace(picture, grid=Grid.from_axes(picture.grid.shape, (pixel_mm, pixel_mm, 1.0)))


def _tissues(image: Volume) -> np.ndarray:
    head = body_mask(image)
    classes = np.digitize(image.voxels, threshold_multiotsu(image.voxels[head], 3)) + 1
    return np.where(head, classes, 0).astype(np.uint8)


def _prostate(data: Path) -> Named:
    folder = data / "prostate_mr_us"
    for path in sorted((folder / "fixed_images").glob("*.nii.gz")):
        yield path.name.removesuffix(".nii.gz"), partial(_gland, folder, path.name)


def _gland(folder: Path, name: str) -> Pair:
    images = [io.read_image(folder / f"{side}_images" / name) for side in ("fixed", "moving")]
    masks = []
    for side in ("fixed", "moving"):
        mask = np.asarray(nib.load(folder / f"{side}_labels" / name).dataobj) > 0.5  # type: ignore[attr-defined]
        masks.append(mask if mask.ndim == 4 else mask[..., None])
    known = [n for n in range(1, min(m.shape[3] for m in masks)) if all(m[..., n].any() for m in masks)]
    points = [
        image.grid.lps(np.array([np.argwhere(mask[..., n]).mean(0) for n in known]).reshape(-1, 3))
        for image, mask in zip(images, masks, strict=True)
    ]
    glands = [mask[..., 0].astype(np.uint8) for mask in masks]
    return Pair(*images, *glands, *points)


def _retina(data: Path) -> Named:
    yield "A02_2 to A02_1", partial(_photographs, data / "retina")


def _photographs(folder: Path) -> Pair:
    images = [_upright(io.read_image(folder / f"A02_{n}.jpg", pixel_spacing_mm=(1, 1)), PICTURE_MM) for n in (1, 2)]
    table = np.loadtxt(folder / "control_points_A02_1_2.txt")
    points = [image.grid.lps(np.c_[xy, 0 * xy[:, 0]]) for image, xy in zip(images, np.hsplit(table, 2), strict=True)]
    return Pair(*images, fixed_landmarks=points[0], moving_landmarks=points[1])


def _histology(data: Path) -> Named:
    sections = {
        "lesions": ("Izd2-29-041-w35_HE", "Izd2-29-041-w35_proSPC"),
        "rat-kidney": ("Rat-Kidney_HE", "Rat-Kidney_PanCytokeratin"),
    }
    for name, (one, other) in sections.items():
        folder = data / "histology" / name
        yield f"{name}, {_stain(other)} to {_stain(one)}", partial(_sections, folder, one, other)
        yield f"{name}, {_stain(one)} to {_stain(other)}", partial(_sections, folder, other, one)


def _stain(name: str) -> str:
    return name.rpartition("_")[2]


def _sections(folder: Path, fixed: str, moving: str) -> Pair:
    names = fixed, moving
    images = [_upright(io.read_image(folder / f"{n}.jpg", pixel_spacing_mm=(1, 1)), PICTURE_MM) for n in names]
    tables = [PointTable.read_pixels(folder / f"{n}.csv", i.grid) for n, i in zip(names, images, strict=True)]
    points = paired(*tables)
    return Pair(*images, fixed_landmarks=points[0], moving_landmarks=points[1])


WARPS = ((5.0, 20.0), (15.0, 40.0), (30.0, 80.0))  # mean displacement and width, mm
SEEDS = (11, 23, 47)
NOISE, GAMMA = 0.01, (0.8, 1.25)  # standard deviation over the range; the fixed image's least and greatest gamma
AIR, BRIGHT = -1000.0, 1500.0


def _thorax(mean_mm: float, width_mm: float, data: Path) -> Named:
    for seed in SEEDS:
        yield f"seed {seed}", partial(_warped, data / "ct_thorax.nii.gz", mean_mm, width_mm, seed)


def _warped(path: Path, mean_mm: float, width_mm: float, seed: int) -> Pair:
    """The fixed image is the moving one read through the truth, with noise of its own and another gamma."""
    volume = io.read_image(path)
    truth = radial_warp(volume.grid, body_mask(volume), mean_mm, width_mm, seed)
    rng = np.random.default_rng(seed)
    fixed, moving = truth.warp(volume, volume.grid, outside=AIR), volume.voxels
    images = []
    for voxels, gamma in ((fixed, rng.uniform(*GAMMA)), (moving, 1.0)):
        values = ((voxels - AIR) / (BRIGHT - AIR)).clip(0, 1) ** gamma
        values = values + NOISE * rng.standard_normal(values.shape)
        images.append(Volume((AIR + (BRIGHT - AIR) * values).astype(np.float32), volume.grid, modality="CT"))
    return Pair(*images, truth=truth)


SETS: Mapping[str, PairSet] = {
    "cardiac": PairSet("cardiac cine MR, one patient", "dice", "stack", _cardiac),
    "hippocampus": PairSet("hippocampus MR, between patients", "dice", "volume", _hippocampus),
    "brain2d": PairSet("brain slices", "dice", "picture", _brain),
    "prostate": PairSet("prostate, MR to ultrasound", "dice", "volume", _prostate, same_contrast=False),
    "retina": PairSet("retina photographs", "tre_px", "picture", _retina),
    "histology": PairSet("stained sections", "tre_px", "picture", _histology, same_contrast=False),
    **{
        f"thorax-{mean:.0f}mm": PairSet(
            f"CT thorax, known warps of {mean:.0f} mm mean, {width:.0f} mm wide",
            "error_mm",
            "volume",
            partial(_thorax, mean, width),
        )
        for mean, width in WARPS
    },
}
