"""elastix: its default parameter maps, affine and B-spline."""

import contextlib
import tempfile

import itk
import numpy as np
from exchange import from_itk, main


def register(
    fixed: str, moving: str, *, metric: str, knots_mm: float, levels: int, iterations: int, samples: int, affine: bool
) -> np.ndarray:
    """Maps as `elastix` proposes them, with the values that are given."""
    a, b = (itk.imread(path, itk.F) for path in (fixed, moving))
    parameters = itk.ParameterObject.New()
    for name in (["affine"] if affine else []) + ["bspline"]:
        found = parameters.GetDefaultParameterMap(name, levels, knots_mm)
        found["MaximumNumberOfIterations"] = [str(iterations)]
        found["NumberOfSpatialSamples"] = [str(samples)]
        found["NewSamplesEveryIteration"] = ["true"]
        found["ErodeMask"] = ["false"]
        if name == "affine":
            found["AutomaticTransformInitialization"] = ["false"]
        elif metric:
            found["Metric"] = [metric]
        parameters.AddParameterMap(found)
    _, transform = itk.elastix_registration_method(a, b, parameter_object=parameters, log_to_console=False)
    # transformix leaves a file in the current folder.
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        field = itk.transformix_deformation_field(b, transform)
    vectors = from_itk(itk.array_from_image(field))
    if tuple(vectors.shape[:-1]) != tuple(itk.size(a)):
        raise SystemExit(f"the field has the shape {vectors.shape}, the fixed image {tuple(itk.size(a))}")
    return vectors


if __name__ == "__main__":
    main(register)
