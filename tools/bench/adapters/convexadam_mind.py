"""ConvexAdam on MIND-SSC descriptors: 3D volumes, both brought to one grid with near-cubic voxels, and back."""

import nibabel as nib
import numpy as np
from convexAdam.convex_adam_MIND import convex_adam_pt
from exchange import main
from scipy.ndimage import map_coordinates

LEAST_CELLS = 3  # of the coarse grid along each axis


def register(
    fixed: str, moving: str, *, grid_sp: int, disp_hw: int, lambda_weight: float, niter: int, cubic: bool
) -> np.ndarray:
    """Register with the package's defaults but for what is given.

    The package counts in voxels of one grid, and fails on few slices: stacks are cut into thinner ones, between which
    the images are interpolated, where `cubic` says so.
    """
    a, b = nib.load(fixed), nib.load(moving)
    if len(a.shape) != 3:
        raise SystemExit("convexAdam takes volumes alone")
    spacing = np.asarray(a.header.get_zooms()[:3], float)
    finer = spacing / spacing.min() if cubic else np.ones(3)
    least = (grid_sp * LEAST_CELLS - 1) / (np.asarray(a.shape) - 1)
    finer = np.maximum(finer, least)
    shape = np.floor((np.asarray(a.shape) - 1) * finer).astype(int) + 1
    working = a.affine @ np.diag([*(1 / finer), 1])
    images = [_sampled(image, np.linalg.inv(image.affine) @ working, shape) for image in (a, b)]
    voxels = convex_adam_pt(
        *images, grid_sp=grid_sp, disp_hw=disp_hw, lambda_weight=lambda_weight, selected_niter=niter, device=_cpu()
    )
    on_fixed = np.stack(np.meshgrid(*map(np.arange, a.shape), indexing="ij")) * finer[:, None, None, None]
    field = np.stack([map_coordinates(voxels[..., c], on_fixed, order=1, mode="nearest") for c in range(3)], -1)
    return field @ working[:3, :3].T * [-1, -1, 1]


def _sampled(image: nib.Nifti1Image, to_index: np.ndarray, shape: np.ndarray) -> np.ndarray:
    points = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij")).reshape(3, -1)
    index = to_index[:3, :3] @ points + to_index[:3, 3:]
    return map_coordinates(image.get_fdata(dtype=np.float32), index, order=1, mode="nearest").reshape(shape)


def _cpu():
    import torch

    return torch.device("cpu")


if __name__ == "__main__":
    main(register)
