"""Minimising a smooth function of a few parameters (BFGS).

With so few parameters the matrices are tiny. SciPy hands them to a library whose threads then wait in a loop, and take
more of the processors than the function itself.

Source: Nocedal and Wright, Numerical Optimization, 2nd edition, chapter 6.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

ENOUGH = 1e-4  # share of the decrease that the slope promises
SHORTER = 0.1, 0.5  # share of a step that did too little, which the next try keeps
TRIES = 20  # of one step, each shorter
CURVED = 1e-10  # least share of a change of slope that lies along the step

Function = Callable[[np.ndarray], tuple[float, np.ndarray]]  # of parameters [p]: value, and slope [p]


def minimised(
    function: Function, count: int, *, first: float, longest: float, converged: float, steps: int
) -> tuple[np.ndarray, float]:
    """The parameters of a nearby minimum, from zero.

    Args:
        function: Gives value and slope.
        count: Of parameters.
        first: Length of the first step that is tried.
        longest: Length of any step.
        converged: Share of the value by which it changes from step to step at the end.
        steps: At most.

    Returns:
        Parameters [p] and value.
    """
    at, (value, slope) = np.zeros(count), function(np.zeros(count))
    inverse = np.eye(count) * (first / max(float(np.linalg.norm(slope)), float(np.finfo(float).tiny)))
    for n in range(steps):
        step = -inverse @ slope
        if step @ slope >= 0:  # rounding
            break
        step = step * min(1.0, longest / float(np.linalg.norm(step)))
        reached = _decreased(function, at, value, slope, step)
        if reached is None:
            break
        step, there, new = reached
        change = new - slope
        along = float(step @ change)
        if along > CURVED * np.linalg.norm(step) * np.linalg.norm(change):
            if n == 0:
                inverse = np.eye(count) * (along / float(change @ change))
            turn = np.eye(count) - np.outer(step, change) / along
            inverse = turn @ inverse @ turn.T + np.outer(step, step) / along
        gained = value - there
        at, value, slope = at + step, there, new
        if gained <= converged * abs(value):
            break
    return at, value


def _decreased(
    function: Function, at: np.ndarray, value: float, slope: np.ndarray, step: np.ndarray
) -> tuple[np.ndarray, float, np.ndarray] | None:
    """The step or a part of it that decreases the value enough, with value and slope there; None where none does."""
    for _ in range(TRIES):
        there, new = function(at + step)
        promised = float(step @ slope)
        if there <= value + ENOUGH * promised:
            return step, there, new
        least = -promised / (2 * (there - value - promised))  # of the parabola through what is known
        step = step * min(max(least, SHORTER[0]), SHORTER[1])
    return None
