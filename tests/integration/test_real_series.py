"""One volunteer's head in three positions: as good as a dedicated rigid tool, beside it in the same run."""

import numpy as np
import pytest
import SimpleITK as sitk

from samreg import io
from samreg.config import Config
from samreg.geometry import Volume
from samreg.metrics import normalised_correlation
from samreg.preprocess import body_mask
from samreg.session import register
from samreg.transforms import Affine, Transform
from tests.shared import DATA

pytestmark = [pytest.mark.shared("decubitus"), pytest.mark.slow]


def correlation(fixed: Volume, moving: Volume, transform: Transform) -> float:
    warped = transform.warp(moving, fixed.grid, outside=np.nan)
    seen = body_mask(fixed) & np.isfinite(warped)
    return normalised_correlation(fixed.voxels[seen], warped[seen])


def peer(fixed: Volume, moving: Volume) -> Affine:
    """SimpleITK's rigid registration by Mattes mutual information, the best of two starts."""
    images = [_as_itk(v) for v in (fixed, moving)]
    found = []
    for start in (sitk.CenteredTransformInitializerFilter.GEOMETRY, sitk.CenteredTransformInitializerFilter.MOMENTS):
        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(50)
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(0.05, 1)
        method.SetInterpolator(sitk.sitkLinear)
        method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-4, 200)
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetShrinkFactorsPerLevel([4, 2, 1])
        method.SetSmoothingSigmasPerLevel([4, 2, 0])
        method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
        initial = sitk.CenteredTransformInitializer(*images, sitk.Euler3DTransform(), start)
        method.SetInitialTransform(initial, inPlace=False)
        transform = method.Execute(*images)
        found.append((method.GetMetricValue(), transform))
    best = min(found, key=lambda entry: entry[0])[1]
    corners = [best.TransformPoint(p) for p in ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))]
    matrix = np.eye(4)
    matrix[:3, 3] = corners[0]
    matrix[:3, :3] = np.array(corners[1:]).T - np.array(corners[0])[:, None]
    return Affine(matrix)


def _as_itk(volume: Volume) -> sitk.Image:
    image = sitk.GetImageFromArray(volume.voxels.transpose(2, 1, 0))
    image.SetSpacing(volume.grid.spacing_mm.tolist())
    image.SetOrigin(volume.grid.origin_lps.tolist())
    image.SetDirection(volume.grid.direction.ravel().tolist())
    return image


def assert_as_good_as_the_peer(fixed: Volume, moving: Volume, rigid: Transform, finest: Transform) -> None:
    """The rigid transform is as good as SimpleITK's, and what replaced it no worse."""
    found = correlation(fixed, moving, rigid)
    assert found >= 0.98 * correlation(fixed, moving, peer(fixed, moving))
    assert correlation(fixed, moving, finest) >= found - 1e-3


def test_as_good_as_a_dedicated_rigid_tool(slices):
    """Of the head lying prone; `test_image.py` asks the same of the container, of the head lying on its right side."""
    fixed, moving = io.read_pair(DATA / "decubitus" / "HFS", DATA / "decubitus" / "HFP")
    result = register(fixed, moving, Config(transform="affine", cache=slices))
    assert result.quality.status == "PASS", result.quality.reasons
    assert_as_good_as_the_peer(fixed, moving, result.stages["rigid"], result.transform)
