"""Windows, colours and composites of the report."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from samreg.geometry import Grid, Volume
from samreg.report import pictures

RNG = np.random.default_rng(0)


def volume(values, modality):
    values = np.asarray(values, np.float32)
    return Volume(values, Grid.from_axes(values.shape, (1, 1, 1)), modality=modality)


def test_ct_abdomen_has_a_soft_tissue_window():
    hu = np.full((20, 20, 10), -1000.0)
    hu[4:16, 4:16] = 40
    window = pictures.window_of(volume(hu, "CT"))
    assert window(np.array([-1000.0, 40, 1200])) == pytest.approx([0, 0.5, 1])


def test_ct_thorax_shows_its_lungs():
    hu = np.full((20, 20, 10), -1000.0)
    hu[2:18, 2:18] = 40
    hu[5:15, 4:16] = -800
    window = pictures.window_of(volume(hu, "CT"))
    lung, air = window(np.array([-800.0, -1000.0]))
    assert lung > air + 0.1


def test_mr_window_withstands_hot_voxels_and_much_air():
    mr = np.zeros((30, 30, 30))
    mr[12:18, 12:18, 12:18] = RNG.uniform(200, 800, (6, 6, 6))
    mr[0, 0, :2] = 50_000
    window = pictures.window_of(volume(mr, "MR"))
    assert window.low == 0
    assert 600 < window.high < 2000


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_a_constant_image_has_a_window(value):
    window = pictures.window_of(volume(np.full((3, 3, 3), value), "MR"))
    assert window.high > window.low


def test_agreement_is_grey_and_disagreement_is_coloured():
    same = np.array([[0.0, 0.5, 1.0]])
    mixed = pictures.overlay(same, same).astype(int)
    assert np.ptp(mixed, axis=-1).max() <= 1
    only_fixed = pictures.overlay(np.ones((1, 1)), np.zeros((1, 1)))[0, 0].astype(int)
    only_moving = pictures.overlay(np.zeros((1, 1)), np.ones((1, 1)))[0, 0].astype(int)
    assert only_fixed[0] > only_fixed[2] + 100
    assert only_moving[2] > only_moving[0] + 100


def test_difference_is_dark_where_equal_and_signed_elsewhere():
    fixed, other = np.array([[0.5, 0.2, 0.8]]), np.array([[0.5, 0.8, 0.2]])
    equal, brighter, darker = pictures.difference(fixed, other)[0].astype(int)
    assert equal.max() < 40
    assert brighter[0] > brighter[2] + 100
    assert darker[2] > darker[0] + 100


def test_checkerboard_takes_from_both_in_turn():
    board = pictures.checkerboard(np.zeros((64, 32)), np.ones((64, 32)))[..., 0]
    assert board[0, 0] == 0
    assert board[8, 0] == board[0, 8] == 255
    assert board[8, 8] == 0
    assert board.mean() == pytest.approx(127.5)


@pytest.mark.parametrize("make", [pictures.overlay, pictures.checkerboard, pictures.difference])
def test_what_no_image_covers_has_its_own_tone(make):
    nothing = np.full((8, 8), np.nan)
    assert (make(nothing, nothing) == pictures.VOID).all()
    assert (pictures.grey(nothing) == pictures.VOID).all()
    assert (pictures.tinted(nothing, np.ones((8, 8, 3))) == pictures.VOID).all()


def test_ramps_end_in_round_numbers():
    assert pictures.magnitude_ramp(7.3).values[-1] == pytest.approx(8)
    assert pictures.magnitude_ramp(0.21).values[-1] == pytest.approx(0.3)
    assert pictures.magnitude_ramp(0.0).values[-1] == pytest.approx(0.1)
    magnitudes, growths = (
        [float(word) for _, word in ramp.marks] for ramp in (pictures.magnitude_ramp(3.9), pictures.jacobian_ramp(0.9))
    )
    assert magnitudes == sorted(magnitudes)
    assert (magnitudes[0], magnitudes[-1]) == (0, 4)
    assert all(value == round(value) for value in magnitudes)
    assert growths == sorted(growths)
    assert 1 in growths
    assert growths[0] == pytest.approx(1 / growths[-1], rel=0.01)


def test_jacobian_colours_tell_growth_from_shrinkage():
    ramp = pictures.jacobian_ramp(0.2)
    shrinks, keeps, grows = ramp(np.array([[-0.2, 0.0, 0.2]]))[0]
    assert shrinks[2] > shrinks[0] + 0.3
    assert grows[0] > grows[2] + 0.3
    assert np.ptp(keeps) < 0.01


def test_data_uri_holds_the_picture_upright():
    colours = np.zeros((40, 20, 3), np.uint8)
    colours[30:, :5] = 255  # right, top
    head, data = pictures.data_uri(colours).split(",")
    assert head == "data:image/webp;base64"
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert image.shape == (20, 40, 3)
    assert image[2, 35].min() > 200
    assert image[15, 5].max() < 50


def test_enlarged_keeps_the_field_of_view():
    coarse = np.add.outer(np.arange(8.0), np.zeros(6))
    fine = pictures.enlarged(coarse, (80, 60))
    assert fine.shape == (80, 60)
    assert fine[5:-5, 0] == pytest.approx((np.arange(5, 75) + 0.5) / 10 - 0.5)
