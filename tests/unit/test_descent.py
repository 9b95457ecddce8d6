"""The descent of the linear fits, on functions whose minimum is known."""

import numpy as np
import pytest

from samreg.estimation.descent import minimised

STEPS = {"first": 0.1, "longest": 1.0, "converged": 1e-12, "steps": 200}


def test_the_bottom_of_a_curved_valley_is_found():
    """Rosenbrock's function, from (-1, 1); its minimum is at (1, 1)."""
    start = np.array([-1.0, 1.0])

    def valley(moved: np.ndarray) -> tuple[float, np.ndarray]:
        x, y = start + moved
        slope = np.array([-400 * x * (y - x * x) - 2 * (1 - x), 200 * (y - x * x)])
        return float(100 * (y - x * x) ** 2 + (1 - x) ** 2 + 1), slope

    moved, value = minimised(valley, 2, **STEPS)
    np.testing.assert_allclose(start + moved, 1, atol=1e-4)
    assert value == pytest.approx(1)


def test_a_descent_that_is_cut_short_has_gone_down():
    def bowl(at: np.ndarray) -> tuple[float, np.ndarray]:
        weights = np.array([1.0, 30.0, 900.0])
        return float(weights @ (at - 1) ** 2), 2 * weights * (at - 1)

    begin = bowl(np.zeros(3))[0]
    few, many = (minimised(bowl, 3, **{**STEPS, "steps": steps})[1] for steps in (2, 200))
    assert many < 1e-8 < few < begin


def test_no_step_is_longer_than_allowed():
    asked = []

    def slope(at: np.ndarray) -> tuple[float, np.ndarray]:
        asked.append(at.copy())
        return float(-at.sum()), -np.ones(2)

    minimised(slope, 2, first=5.0, longest=1.0, converged=0.0, steps=10)
    assert np.linalg.norm(np.diff(asked, axis=0), axis=1).max() <= 1 + 1e-12


def test_where_nothing_changes_nothing_moves():
    at, value = minimised(lambda at: (3.0, np.zeros(2)), 2, **STEPS)
    assert not at.any()
    assert value == 3.0
