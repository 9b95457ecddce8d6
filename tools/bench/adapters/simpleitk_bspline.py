"""SimpleITK's free-form deformation by cubic B-splines, refined over three levels, after an affine fit if asked."""

import numpy as np
import SimpleITK
from exchange import from_itk, main


def register(
    fixed: str,
    moving: str,
    *,
    metric: str,
    knots_mm: float,
    levels: list[int],
    iterations: int,
    sampling: float,
    affine: bool,
) -> np.ndarray:
    """Optimise by LBFGS; the mesh is doubled from level to level."""
    a, b = (SimpleITK.ReadImage(path, SimpleITK.sitkFloat32) for path in (fixed, moving))
    start = _affine(a, b, metric, levels) if affine else SimpleITK.Transform(a.GetDimension(), SimpleITK.sitkIdentity)
    extent = np.asarray(a.GetSize()) * a.GetSpacing()
    mesh = [max(1, round(e / knots_mm / 2 ** (len(levels) - 1))) for e in extent]
    spline = SimpleITK.BSplineTransformInitializer(a, mesh, 3)
    method = _method(metric, levels)
    method.SetMetricSamplingPercentage(sampling, 1)
    method.SetMetricSamplingStrategy(method.REGULAR if sampling < 1 else method.NONE)
    method.SetOptimizerAsLBFGS2(numberOfIterations=iterations, deltaConvergenceTolerance=0.01)
    method.SetMovingInitialTransform(start)
    method.SetInitialTransformAsBSpline(spline, inPlace=True, scaleFactors=[2**n for n in range(len(levels))])
    method.Execute(a, b)
    # The points go through the spline first, then through the start.
    found = SimpleITK.CompositeTransform([start, spline])
    field = SimpleITK.TransformToDisplacementField(
        found, SimpleITK.sitkVectorFloat64, a.GetSize(), a.GetOrigin(), a.GetSpacing(), a.GetDirection()
    )
    return from_itk(SimpleITK.GetArrayFromImage(field))


def _affine(a: SimpleITK.Image, b: SimpleITK.Image, metric: str, levels: list[int]) -> SimpleITK.Transform:
    method = _method(metric, levels)
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-4, 200, relaxationFactor=0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    linear = SimpleITK.AffineTransform(a.GetDimension())
    linear.SetCenter(a.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in a.GetSize()]))
    method.SetInitialTransform(linear, inPlace=True)
    method.Execute(a, b)
    return linear


def _method(metric: str, levels: list[int]) -> SimpleITK.ImageRegistrationMethod:
    method = SimpleITK.ImageRegistrationMethod()
    if metric == "mutual information":
        method.SetMetricAsMattesMutualInformation(50)
    else:
        method.SetMetricAsCorrelation()
    method.SetInterpolator(SimpleITK.sitkLinear)
    method.SetShrinkFactorsPerLevel([1] * len(levels))
    method.SetSmoothingSigmasPerLevel([level / 2 if level > 1 else 0 for level in levels])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
    return method


if __name__ == "__main__":
    main(register)
