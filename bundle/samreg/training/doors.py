"""Training and evaluation for a door that ends the process: an error is one sentence and an exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from samreg.doors import ending_the_process


def train_or_exit(out: str | Path, device: str = "cpu", **recipe: Any) -> None:
    """`train` with a recipe given by its fields.

    Raises:
        SystemExit: With the exit code of the error.
    """
    from samreg.training.loop import Recipe, train

    with ending_the_process():
        train(out, Recipe(**recipe), device)


def evaluate_or_exit(out: str | Path, **choices: Any) -> None:
    """`evaluate` of the gates.

    Raises:
        SystemExit: With the exit code of the error.
    """
    from samreg.training.evaluation import evaluate

    with ending_the_process():
        evaluate(out, **choices)
