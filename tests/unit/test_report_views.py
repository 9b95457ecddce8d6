"""Planes of the report: what is on which side of the screen, at which size."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from samreg.geometry import Grid, Volume
from samreg.report.regions import busiest, colour_of, outlines
from samreg.report.views import body_middle, corresponding, cut, frame_of, letters, views_of
from samreg.rois import Roi, RoiPair
from samreg.transforms import Affine, Rigid, about_centre
from tests.report_result import head_phantom

OBLIQUE = Rotation.from_euler("xyz", [12, -20, 25], degrees=True).as_matrix()
FLIPPED = np.array([[0.0, 0, -1], [-1, 0, 0], [0, 1, 0]])  # any order and sign of the axes

SHAPES = {
    "plain": ((40, 44, 36), (4.0, 4.0, 4.5), np.eye(3)),
    "flipped": ((40, 44, 36), (4.0, 4.0, 4.5), FLIPPED),
    "oblique": ((40, 44, 36), (4.0, 4.0, 4.5), OBLIQUE),
    "thin": ((64, 64, 10), (3.0, 3.0, 9.0), np.eye(3)),
    "oblique thin": ((64, 64, 10), (3.0, 3.0, 9.0), OBLIQUE),
}


@pytest.fixture(scope="module", autouse=True)
def small_pictures():
    """Pictures of 256 pixels: drawing takes most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("samreg.report.views.PIXELS", 256)
        yield


@pytest.fixture(params=SHAPES)
def volume(request):
    shape, spacing, direction = SHAPES[request.param]
    return head_phantom(shape, spacing, direction)


def views(volume):
    return {v.name: v for v in views_of(volume, body_middle(volume))}


def ramp(volume, direction):
    """A volume that grows by one per mm along an LPS direction."""
    values = (volume.grid.points() - volume.grid.centre_lps) @ direction
    return Volume(values.astype(np.float32), volume.grid)


def test_letters_are_what_lies_towards_each_edge(volume):
    towards = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "H": (0, 0, 1), "F": (0, 0, -1)}
    for view in views(volume).values():
        left, right, top, bottom = view.letters
        for axis, low, high in ((0, left, right), (1, top, bottom)):
            for letter in high:  # the values grow towards the letter's edge, and away from the opposite one
                picture = cut(ramp(volume, np.array(towards[letter])).voxels, volume.grid, view.grid)
                assert np.nanmean(np.diff(picture, axis=axis)) > 0
            assert len(low) == len(high) >= 1


def test_radiological_convention(volume):
    found = {name: [letter[0] for letter in view.letters] for name, view in views(volume).items()}
    assert found == {
        "Axial": ["R", "L", "A", "P"],
        "Coronal": ["R", "L", "H", "F"],
        "Sagittal": ["A", "P", "H", "F"],
    }


def test_left_spot_stands_on_the_right_of_the_screen():
    volume = head_phantom(direction=FLIPPED)
    picture = cut(volume.voxels, volume.grid, views(volume)["Axial"].grid)
    spot = np.argwhere(picture > 190).mean(0) / picture.shape
    hole = np.argwhere((picture > 10) & (picture < 50)).mean(0) / picture.shape
    assert spot[0] > 0.6
    assert hole[1] < 0.4


def test_pixels_are_square_and_in_mm(volume):
    for view in views(volume).values():
        assert np.allclose(view.grid.spacing_mm, view.pixel_mm)
        assert np.allclose(view.grid.direction.T @ view.grid.direction, np.eye(3))
        assert np.isclose(np.linalg.det(view.grid.direction), 1)


def test_cut_keeps_physical_proportions():
    """A sphere stays round in a stack of thick slices."""
    volume = head_phantom((80, 80, 10), (2.0, 2.0, 9.0))
    points = volume.grid.points() - volume.grid.centre_lps
    ball = np.clip(36 - np.linalg.norm(points, axis=-1), 0, 9) / 9
    for view in views(volume).values():
        inside = np.argwhere(np.nan_to_num(cut(ball.astype(np.float32), volume.grid, view.grid)) > 0.5)
        extent = (inside.max(0) - inside.min(0)) * view.pixel_mm
        assert abs(extent[0] - extent[1]) < 9


def test_oblique_volume_is_cut_along_the_patient():
    volume = head_phantom(direction=OBLIQUE)
    assert np.allclose(frame_of(volume.grid), np.eye(3))
    for view in views(volume).values():
        assert view.tilt_degrees == pytest.approx(0, abs=1e-3)
        assert view.title == view.name


def test_oblique_thin_stack_is_cut_along_its_slices():
    volume = head_phantom((64, 64, 10), (3.0, 3.0, 9.0), OBLIQUE)
    view = views(volume)["Axial"]
    assert abs(view.grid.direction[:, 2] @ volume.grid.direction[:, 2]) == pytest.approx(1)
    assert "tilted" in view.title
    k = volume.grid.index(view.grid.points().reshape(-1, 3))[:, 2]
    assert np.allclose(k, round(float(k[0])), atol=1e-6)  # on an acquired slice, not between two


def test_cut_reads_a_slab_as_the_whole(volume):
    """The plane of a linear ramp is the ramp, whatever part of the volume was read."""
    direction = np.array([0.3, -0.5, 0.8])
    steep = ramp(volume, direction)
    for view in views(volume).values():
        points = view.grid.points()[:, :, 0]
        found = cut(steep.voxels, volume.grid, view.grid)
        ijk = volume.grid.index(points)
        well_inside = ((ijk >= 1) & (ijk <= np.array(volume.grid.shape) - 2)).all(-1)
        expected = (points - volume.grid.centre_lps) @ direction
        assert well_inside.sum() > 1000
        assert np.allclose(found[well_inside], expected[well_inside], atol=0.05)


def test_beyond_the_volume_is_nan(volume):
    for view in views(volume).values():
        inside = volume.grid.contains(view.grid.points()[:, :, 0])
        picture = cut(volume.voxels, volume.grid, view.grid)
        assert (np.isnan(picture) != ~inside).mean() < 0.001
    far = views(volume)["Axial"].through(volume.grid.centre_lps + [0, 0, 900.0])
    assert np.isnan(cut(volume.voxels, volume.grid, far.grid)).all()


def test_a_picture_without_a_patient_has_no_letters():
    flat = head_phantom((60, 40, 1), (0.5, 0.5, 1.0))
    (view,) = views_of(flat, body_middle(flat))
    assert view.letters == ("", "", "", "")
    picture = cut(flat.voxels, flat.grid, view.grid)
    assert np.isfinite(picture).all()
    assert picture.shape[0] > picture.shape[1]
    # As in the file: neither mirrored nor turned.
    thumb = cut(flat.voxels, flat.grid, view.coarse(60).grid)
    assert np.corrcoef(thumb.ravel(), flat.voxels.ravel())[0, 1] > 0.999
    assert np.corrcoef(thumb[::-1].ravel(), flat.voxels.ravel())[0, 1] < 0.99


def test_letters_of_tilted_axes():
    assert letters(np.array([1.0, 0, 0])) == "L"
    assert letters(np.array([0.1, -0.99, 0])) == "A"
    assert letters(np.array([0.64, 0.77, 0])) == "PL"
    assert letters(np.array([0.5, 0.5, -0.7])) == "FL"


def test_body_middle_is_in_the_body():
    volume = head_phantom()
    shifted = Volume(np.roll(volume.voxels, 4, axis=0), volume.grid, modality="MR")
    moved = body_middle(shifted) - body_middle(volume)
    assert np.allclose(moved, [4 * 4.0, 0, 0], atol=5)
    empty = Volume(np.zeros((4, 4, 4), np.float32), volume.grid.crop((0, 0, 0), (4, 4, 4)))
    assert np.allclose(body_middle(empty), empty.grid.centre_lps)


def test_corresponding_plane_shows_the_same_anatomy():
    fixed = head_phantom()
    turn = Rotation.from_rotvec([0.2, -0.1, 0.7]).as_matrix()
    rigid = Rigid(about_centre(turn, np.array([14.0, 3, -6]), fixed.grid.centre_lps))
    moving = Volume(rigid.inverse().warp(fixed, fixed.grid.padded(40)), fixed.grid.padded(40))
    for view in views(fixed).values():
        there = corresponding(view, rigid)
        a, b = cut(fixed.voxels, fixed.grid, view.grid), cut(moving.voxels, moving.grid, there.grid)
        seen = np.isfinite(a) & np.isfinite(b)
        assert seen.mean() > 0.9
        assert np.corrcoef(a[seen], b[seen])[0, 1] > 0.97
        assert np.allclose(rigid.map_points(view.grid.centre_lps[None]), there.grid.centre_lps, atol=1e-6)


def test_outlines_lie_around_the_region():
    volume = head_phantom()
    mask = np.zeros(volume.grid.shape, bool)
    mask[10:20, 30:42, 15:25] = True
    pair = RoiPair(7, Roi.from_mask(mask), Roi.from_mask(mask), 0.9, 0.8, held_out=True)
    box = volume.grid.lps(np.array([[9.5, 29.5, 0], [19.5, 41.5, 0]]))
    view = views(volume)["Axial"].through(volume.grid.lps(np.array([[0.0, 0, 20]]))[0])
    (outline,) = outlines(view, volume.grid, [pair], "fixed")
    numbers = np.array([float(n) for n in outline.path.replace("M", " ").replace("L", " ").replace("Z", " ").split()])
    corners = numbers.reshape(-1, 2) - 0.5
    expected = np.sort(view.pixels(box), axis=0)
    assert np.allclose(corners.min(0), expected[0], atol=1.5)
    assert np.allclose(corners.max(0), expected[1], atol=1.5)
    assert (expected[0] < (outline.label_x, outline.label_y)).all()
    assert ((outline.label_x, outline.label_y) < expected[1]).all()
    assert outline.pair == 7
    assert outline.dashed
    assert outline.colour == colour_of(7)
    missed = view.through(volume.grid.lps(np.array([[0.0, 0, 30]]))[0])
    assert outlines(missed, volume.grid, [pair], "fixed") == []
    assert outlines(busiest(missed, volume.grid, [pair.fixed], [1.0]), volume.grid, [pair], "fixed")


def test_neighbouring_numbers_have_unlike_colours():
    rgb = np.array([[int(colour_of(n)[i : i + 2], 16) for i in (1, 3, 5)] for n in range(1, 41)], float)
    assert np.linalg.norm(np.diff(rgb, axis=0), axis=1).min() > 60
    assert (rgb.max(1) > 200).all()  # legible on a dark picture


def test_identity_corresponds_to_itself():
    volume = head_phantom()
    for view in views(volume).values():
        assert corresponding(view, Affine.identity()).grid.same_as(view.grid)


def test_grid_of_a_close_up():
    volume = head_phantom()
    view = views(volume)["Sagittal"]
    point = volume.grid.centre_lps + [3.0, 5.0, 7.0]
    near = view.around(point, 40.0, 80)
    assert np.allclose(near.grid.centre_lps, point)
    assert near.pixel_mm == pytest.approx(0.5)
    assert isinstance(near.grid, Grid)
