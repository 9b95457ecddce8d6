"""MIND-SSC and the handcrafted features."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from samreg.encoders import Features, create_encoder, mind_ssc, pool
from samreg.errors import UsageError
from samreg.geometry import Grid, Volume, gaussian_smooth
from samreg.registry import ENCODERS
from samreg.rois import Roi, RoiSet


def picture(*shape: int) -> torch.Tensor:
    return gaussian_smooth(torch.rand(1, *shape, generator=torch.Generator().manual_seed(0)), (1, 1, 1))


def channel_by_hand(image: np.ndarray, at: tuple[int, int, int], one, other) -> float:
    """Mean squared difference of the 3 x 3 x 3 patches at two offsets from a voxel, away from borders."""
    patches = []
    for offset in (one, other):
        i, j, k = np.add(at, offset)
        patches.append(image[i - 1 : i + 2, j - 1 : j + 2, k - 1 : k + 2])
    return float(((patches[0] - patches[1]) ** 2).mean())


def test_values_follow_the_definition():
    image = picture(16, 15, 14)
    features = mind_ssc(image, radius=1, dilation=2).double()
    raw = image[0].double().numpy()
    corners = [s * 2 * np.eye(3, dtype=int)[a] for a in range(3) for s in (1, -1)]
    edges = [(p, q) for n, p in enumerate(corners) for q in corners[n + 1 :] if p @ q == 0]
    assert len(edges) == 12
    ratios = []
    for at in ((6, 7, 5), (8, 6, 8)):
        distances = np.array([channel_by_hand(raw, at, p, q) for p, q in edges])
        distances -= distances.min()
        # Order of the channels and V are ours to choose: the exponents must be the distances up to one factor.
        exponents = np.sort(-torch.log(features[(slice(None), *at)]).numpy())
        expected = np.sort(distances)
        ratios.append(exponents[-1] / expected[-1])
        np.testing.assert_allclose(exponents, expected * ratios[-1], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(exponents.mean(), 1, rtol=1e-3)  # V is the mean of the distances


@pytest.mark.parametrize("shape", [(20, 18, 16), (30, 24, 1), (20, 18, 5), (1, 20, 20)])
@pytest.mark.parametrize(("gain", "offset"), [(-1, 0), (3.5, -7), (-1000, 1e4)])
def test_contrast_does_not_matter(shape, gain, offset):
    image = picture(*shape)
    torch.testing.assert_close(mind_ssc(gain * image + offset), mind_ssc(image), atol=2e-3, rtol=0)


def test_channels_by_number_of_axes():
    assert mind_ssc(picture(12, 11, 10)).shape == (12, 12, 11, 10)
    assert mind_ssc(picture(12, 11, 1)).shape == (4, 12, 11, 1)
    assert mind_ssc(picture(12, 11, 5), dilation=(2, 2, 0)).shape == (4, 12, 11, 5)
    assert mind_ssc(picture(12, 11, 2), dilation=(2, 2, 1)).shape == (12, 12, 11, 2)


def test_a_dilation_of_zero_and_a_flat_patch_keep_to_the_slice():
    image = picture(16, 16, 3)
    alone = mind_ssc(image[..., 1:2], radius=0)
    stacked = mind_ssc(image, radius=0, dilation=(2, 2, 0))[..., 1:2]
    # The same distances; V's limits come from the whole image, so compare where they do not bind.
    assert (alone - stacked).abs().median() < 1e-3


def test_constant_image_gives_ones_and_noise_does_not():
    assert (mind_ssc(torch.full((1, 8, 8, 8), 7.0)) == 1).all()
    features = mind_ssc(torch.rand(1, 12, 12, 12))
    assert torch.isfinite(features).all()
    assert features.max() <= 1
    assert features.mean() < 0.7


def test_features_move_with_the_image():
    image = picture(24, 20, 16)
    moved = mind_ssc(image.roll((3, -2), (1, 2)))
    expected = mind_ssc(image).roll((3, -2), (1, 2))
    torch.testing.assert_close(moved[:, 8:-8, 6:-6, 4:-4], expected[:, 8:-8, 6:-6, 4:-4], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("image", "options"),
    [
        (torch.rand(8, 8, 8), {}),
        (torch.rand(2, 8, 8, 8), {}),
        (torch.zeros(1, 8, 8, 8, dtype=torch.int16), {}),
        (torch.rand(1, 8, 1, 1), {}),
        (torch.rand(1, 8, 8, 8), {"dilation": -1}),
        (torch.rand(1, 8, 8, 8), {"radius": -1}),
        (torch.rand(1, 8, 8, 8), {"dilation": (1, 2)}),
    ],
)
def test_wrong_input_is_refused(image, options):
    with pytest.raises(UsageError):
        mind_ssc(image, **options)


def stack(shape=(40, 36, 12), spacing=(2.0, 2.0, 5.0)) -> Volume:
    grid = Grid.from_axes(shape, spacing, (5, -3, 11))
    return Volume(picture(*shape)[0].numpy() * 500 + 20, grid)


@pytest.mark.parametrize(("shape", "channels"), [((40, 36, 12), 16), ((40, 36, 5), 16), ((40, 36, 1), 8)])
def test_handcrafted_lies_on_the_grid_of_the_volume(shape, channels):
    volume = stack(shape)
    features = create_encoder("handcrafted").encode(volume)
    assert features.grid is volume.grid
    assert features.channels.shape == (channels, *shape)
    assert features.channels.dtype == torch.float32
    assert torch.isfinite(features.channels).all()


def test_handcrafted_does_not_depend_on_the_scale_of_intensity():
    volume = stack()
    scaled = Volume(volume.voxels * 12 - 1000, volume.grid)
    encode = create_encoder("handcrafted").encode
    torch.testing.assert_close(encode(scaled).channels, encode(volume).channels, atol=2e-2, rtol=0)


def test_constant_image_has_finite_features():
    volume = stack()
    channels = create_encoder("handcrafted").encode(Volume(np.zeros_like(volume.voxels), volume.grid)).channels
    assert torch.isfinite(channels).all()


def test_encoders_are_chosen_by_name():
    with pytest.raises(UsageError, match="The encoder 'no-such' is unknown") as error:
        create_encoder("no-such")
    assert all(name in error.value.expected for name in ENCODERS)
    with pytest.raises(UsageError, match="without weights"):
        create_encoder("sam")
    with pytest.raises(UsageError, match="Weights are given for the encoder 'handcrafted'"):
        create_encoder("handcrafted", weights="sam.pth")
    assert create_encoder("handcrafted").weights_hash is None


def test_features_must_fit_their_grid():
    with pytest.raises(UsageError):
        Features(Grid.from_axes((3, 4, 5), (1, 1, 1)), torch.zeros(2, 5, 4, 3))


def test_prototype_is_the_mean_on_the_same_grid():
    volume = stack()
    features = create_encoder("handcrafted").encode(volume)
    mask = np.random.default_rng(0).random(volume.grid.shape) > 0.7
    prototype = pool(features, RoiSet(volume.grid, (Roi.from_mask(mask),)))
    np.testing.assert_allclose(prototype[0], features.channels[:, torch.from_numpy(mask)].mean(1), atol=1e-5)


def test_prototype_weights_coarse_cells_by_the_share_that_is_filled():
    fine = Grid.from_axes((8, 8, 2), (1, 1, 1))
    coarse = Grid.from_axes((2, 2, 2), (4, 4, 1), (1.5, 1.5, 0))  # 4 x 4 x 1 voxels a cell
    features = Features(coarse, torch.arange(8.0).reshape(1, 2, 2, 2))
    mask = np.zeros(fine.shape, bool)
    mask[2:5, 1:2, 0] = True  # two voxels in cell (0, 0, 0), one in cell (1, 0, 0)
    one = np.zeros(fine.shape, bool)
    one[7, 7, 1] = True
    prototypes = pool(features, RoiSet(fine, (Roi.from_mask(mask), Roi.from_mask(one))))
    np.testing.assert_allclose(prototypes[:, 0], [(0 * 2 + 4 * 1) / 3, 7])


def test_prototype_follows_oblique_and_flipped_grids():
    angle = np.radians(30)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, -1.0]])
    cells = Grid.from_axes((9, 9, 9), (2, 2, 2), (-8, -8, 8), turn)
    features = Features(cells, torch.from_numpy(cells.points()).movedim(-1, 0).float())  # each cell holds its place
    grid = Grid.from_axes((30, 30, 30), (0.4, 0.4, 0.4), cells.centre_lps - 6)
    mask = np.zeros(grid.shape, bool)
    mask[5:21, 9:25, 7:23] = True
    rois = RoiSet(grid, (Roi.from_mask(mask),))
    np.testing.assert_allclose(pool(features, rois)[0], rois.centroids_lps()[0], atol=0.3)


def test_region_beside_the_features_is_refused():
    features = Features(Grid.from_axes((2, 2, 2), (1, 1, 1)), torch.zeros(1, 2, 2, 2))
    far = RoiSet(Grid.from_axes((2, 2, 2), (1, 1, 1), (50, 0, 0)), (Roi.from_mask(np.ones((2, 2, 2), bool)),))
    with pytest.raises(UsageError, match="outside"):
        pool(features, far)
