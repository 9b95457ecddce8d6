"""FireANTs: its greedy compositive registration with Adam on a CPU, after its affine if asked."""

import tempfile

import numpy as np
import SimpleITK
from exchange import from_itk, main
from fireants.io.image import BatchedImages, Image
from fireants.registration.affine import AffineRegistration
from fireants.registration.greedy import GreedyRegistration
from fireants.utils.globals import MIN_IMG_SIZE


def register(
    fixed: str,
    moving: str,
    *,
    metric: str,
    kernel: int,
    scales: list[int],
    iterations: list[int],
    rate: float,
    grad_sigma: float,
    warp_sigma: float,
    affine: bool,
) -> np.ndarray:
    """Both images are brought to 0..1 first, as the program's examples do."""
    reference = SimpleITK.ReadImage(fixed)
    if reference.GetDimension() != 3:
        raise SystemExit("FireANTs cannot save the field of a picture")
    a, b = (_image(path) for path in (fixed, moving))
    common = {"fixed_images": a, "moving_images": b, "scales": scales, "progress_bar": False}
    start = None
    if affine:
        linear = AffineRegistration(
            iterations=[200, 100, 50][: len(scales)], optimizer_lr=3e-3, loss_type=metric, **common
        )
        linear.optimize()
        start = linear.get_affine_matrix().detach()
    found = GreedyRegistration(
        iterations=iterations,
        loss_type=metric,
        cc_kernel_size=kernel,
        optimizer_lr=rate,
        smooth_grad_sigma=grad_sigma,
        smooth_warp_sigma=warp_sigma,
        init_affine=start,
        **common,
    )
    found.optimize()
    with tempfile.TemporaryDirectory() as scratch:
        path = f"{scratch}/warp.nii.gz"
        found.save_as_ants_transforms(path)
        field = SimpleITK.ReadImage(path)
        return from_itk(SimpleITK.GetArrayFromImage(_sampled(field, reference, reference.GetSize())))


def _image(path: str) -> BatchedImages:
    image = SimpleITK.RescaleIntensity(SimpleITK.ReadImage(path, SimpleITK.sitkFloat32), 0.0, 1.0)
    size = [max(n, MIN_IMG_SIZE) for n in image.GetSize()]
    return BatchedImages([Image(_sampled(image, image, size), device="cpu")])


def _sampled(image: SimpleITK.Image, space: SimpleITK.Image, size: list[int]) -> SimpleITK.Image:
    """Linear, on so many voxels over the extent of `space`; the program fails on images of fewer than 32 a side."""
    steps = [(n - 1) / (m - 1) for n, m in zip(space.GetSize(), size, strict=True)]
    resampler = SimpleITK.ResampleImageFilter()
    resampler.SetSize(size)
    resampler.SetOutputOrigin(space.GetOrigin())
    resampler.SetOutputDirection(space.GetDirection())
    resampler.SetOutputSpacing([s * step for s, step in zip(space.GetSpacing(), steps, strict=True)])
    resampler.SetInterpolator(SimpleITK.sitkLinear)
    resampler.UseNearestNeighborExtrapolatorOn()
    return resampler.Execute(image)


if __name__ == "__main__":
    main(register)
