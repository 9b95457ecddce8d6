"""SimpleITK's demons with symmetric forces, diffeomorphic or additive, on a pyramid of its own."""

import numpy as np
import SimpleITK
from exchange import from_itk, main

FILTERS = {
    "diffeomorphic": SimpleITK.DiffeomorphicDemonsRegistrationFilter,
    "fast symmetric": SimpleITK.FastSymmetricForcesDemonsRegistrationFilter,
}


def register(
    fixed: str,
    moving: str,
    *,
    forces: str,
    levels: list[int],
    iterations: list[int],
    sigma_vox: float,
    update_vox: float,
) -> np.ndarray:
    """Match the histograms, then refine one field from level to level."""
    a, b = (SimpleITK.ReadImage(path, SimpleITK.sitkFloat32) for path in (fixed, moving))
    b = SimpleITK.HistogramMatching(b, a, 256, 15, True)  # levels, points, above the mean alone
    b = _on_grid(b, a)
    field = None
    for level, count in zip(levels, iterations, strict=True):
        small = [_shrunk(image, level) for image in (a, b)]
        demons = FILTERS[forces]()
        demons.SetNumberOfIterations(count)
        demons.SetSmoothDisplacementField(True)
        demons.SetStandardDeviations(sigma_vox)
        demons.SetSmoothUpdateField(update_vox > 0)
        demons.SetUpdateFieldStandardDeviations(max(update_vox, 1e-3))
        if field is None:
            field = demons.Execute(*small)
        else:
            field = SimpleITK.Resample(
                field, small[0], SimpleITK.Transform(), SimpleITK.sitkLinear, 0.0, SimpleITK.sitkVectorFloat64, True
            )
            field = demons.Execute(*small, field)
    return from_itk(SimpleITK.GetArrayFromImage(field))


def _on_grid(image: SimpleITK.Image, reference: SimpleITK.Image) -> SimpleITK.Image:
    """Linear, and continued beyond the image's outer centres, where a resampler would put zero."""
    resampler = SimpleITK.ResampleImageFilter()
    resampler.SetReferenceImage(reference)
    resampler.SetInterpolator(SimpleITK.sitkLinear)
    resampler.UseNearestNeighborExtrapolatorOn()
    return resampler.Execute(image)


def _shrunk(image: SimpleITK.Image, level: int) -> SimpleITK.Image:
    """Along each axis as far as its spacing stays at or below that of the finest axis, times the level."""
    spacing = np.asarray(image.GetSpacing())
    factors = [
        int(max(1, min(level * spacing.min() / s, n // 8))) for s, n in zip(spacing, image.GetSize(), strict=True)
    ]
    smooth = SimpleITK.SmoothingRecursiveGaussian(
        image, [max(1e-3, 0.5 * f * s) if f > 1 else 1e-3 * s for f, s in zip(factors, spacing, strict=True)]
    )
    return SimpleITK.Shrink(smooth, factors)


if __name__ == "__main__":
    main(register)
