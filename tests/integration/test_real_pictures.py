"""Stained sections and brain slices: the landmark error falls, beside what it was without a transform."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from samreg import cli, io
from samreg.config import Config
from samreg.geometry import Volume
from samreg.metrics import normalised_correlation
from samreg.preprocess import body_mask
from samreg.session import register
from samreg.transforms import Affine, Transform
from tests.shared import DATA

SPACING = ("--pixel-spacing", "0.01", "0.01")  # any: BIRL states none, and errors count in pixels

sections = pytest.mark.shared("histology")
slices = pytest.mark.shared("brain2d")


@dataclass(frozen=True)
class Sections:
    """Two sections of one tissue in two stains, without their suffixes."""

    folder: str
    fixed: str
    moving: str

    def files(self, suffix: str) -> list[str]:
        return [str(DATA / "histology" / self.folder / f"{name}{suffix}") for name in (self.fixed, self.moving)]

    @property
    def reversed(self) -> "Sections":
        return Sections(self.folder, self.moving, self.fixed)


LESION = Sections("lesions", "Izd2-29-041-w35_HE", "Izd2-29-041-w35_proSPC")
KIDNEY = Sections("rat-kidney", "Rat-Kidney_HE", "Rat-Kidney_PanCytokeratin")


def landmark_scores(pair: Sections, out: Path, transform: str) -> dict:
    code = cli.main(["register", *pair.files(".jpg"), "-o", str(out), *SPACING, "--transform", transform, "--quiet"])
    assert code == 0
    options = ["--landmarks-in", "pixels", *SPACING, "-o", str(out.with_suffix(".json")), "--quiet"]
    for side, image, landmarks in zip(("fixed", "moving"), pair.files(".jpg"), pair.files(".csv"), strict=True):
        options += [f"--{side}", image, f"--{side}-landmarks", landmarks]
    assert cli.main(["evaluate", str(out / "transform.h5"), *options]) == 0
    return json.loads(out.with_suffix(".json").read_text())["landmarks"]


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory):
    """`landmark_scores`, of each pair and transform once."""
    return cache(lambda pair, transform: landmark_scores(pair, tmp_path_factory.mktemp("pair") / "out", transform))


@sections
@pytest.mark.parametrize(
    ("pair", "transform", "before", "after"),
    [
        (LESION, "rigid", 76.4, 9.0),  # the best rigid transform of the landmarks themselves: 7.2
        (LESION, "deformable", 76.4, 9.0),
        (LESION.reversed, "deformable", 76.4, 9.0),
        (KIDNEY, "affine", 28.0, 6.0),  # the best affine one: 4.5
        (KIDNEY, "deformable", 28.0, 6.0),
    ],
    ids=["lesion-rigid", "lesion", "lesion-reversed", "kidney-affine", "kidney"],
)
def test_landmarks_of_stained_sections_come_together(scored, pair, transform, before, after):
    scores = scored(pair, transform)
    assert scores["before"]["tre_px"]["mean"] == pytest.approx(before, abs=0.1)
    assert scores["tre_px"]["mean"] < after
    assert scores["tre_px"]["max"] < 0.5 * scores["before"]["tre_px"]["max"]
    assert scores["relative_tre"]["median"] < 0.006


@sections
def test_landmarks_without_a_counterpart_are_left_out_and_counted(scored):
    scores = scored(KIDNEY, "affine")
    assert (scores["count"], scores["left_out"]) == (69, 2)


def correlation(fixed: Volume, moving: Volume, transform: Transform) -> float:
    warped = transform.warp(moving, fixed.grid, outside=np.nan)
    seen = body_mask(fixed) & np.isfinite(warped)
    return normalised_correlation(fixed.voxels[seen], warped[seen])


@slices
@pytest.mark.parametrize(
    ("moving", "transform", "least"),
    [
        ("r16slice_rigid", "rigid", 0.99),
        ("r16slice_rigid", "deformable", 0.99),
        ("r64slice", "affine", 0.55),
        ("r64slice", "deformable", 0.70),
    ],
)
def test_brain_slices_come_together(moving, transform, least):
    fixed_image, moving_image = io.read_pair(DATA / "brain2d/r16slice.nii.gz", DATA / f"brain2d/{moving}.nii.gz")
    result = register(fixed_image, moving_image, Config(transform=transform))
    assert result.quality.status == "PASS", result.quality.reasons
    reached = correlation(fixed_image, moving_image, result.transform)
    assert reached > least
    unmoved = correlation(fixed_image, moving_image, Affine.identity())
    assert np.isnan(unmoved) or reached > unmoved + 0.1  # NaN: without a transform the two do not overlap
