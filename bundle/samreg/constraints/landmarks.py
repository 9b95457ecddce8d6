"""Landmarks, as they are read."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from pathlib import Path

import numpy as np

from samreg.constraints.model import Landmarks
from samreg.errors import InputRefused, UsageError
from samreg.geometry import Volume
from samreg.tables import NAMES, UNNAMED, PointTable

AXES = tuple(f"{role}_{axis}" for role in ("fixed", "moving") for axis in "xyz")
ACCURACY = "accuracy_mm"


def read_landmarks(
    given: str | Path | Landmarks | None, accuracy_mm: float, fixed: Volume, moving: Volume
) -> Landmarks | None:
    """The landmarks of two images.

    Args:
        given: As `ConstraintInputs` says; None: nothing is given.
        accuracy_mm: Of rows of a file that state none.
        fixed, moving: The images.

    Raises:
        UsageError: The table cannot be read, has an unknown column, or a row of it is malformed.
        InputRefused: `landmark-outside`, `landmark-contradiction`.
    """
    if given is None:
        return None
    if isinstance(given, Landmarks):
        marks, places = given, tuple(f"'{name}'" for name in given.names)
    else:
        marks, places = _of_file(Path(given), accuracy_mm)
    for role, points, image in (("fixed", marks.fixed, fixed), ("moving", marks.moving, moving)):
        outside = ~image.grid.contains(points)
        if outside.any():
            n = int(outside.argmax())
            place = ", ".join(f"{value:g}" for value in points[n])
            raise InputRefused(
                f"the {role} point ({place}) of the landmark {places[n]} lies outside the {role} image",
                "LPS mm within both images",
                "Correct the point. 3D Slicer shows RAS, whose x and y have the other sign.",
                reason="landmark-outside",
            )
    _refuse_contradiction(marks, places)
    return marks


def _refuse_contradiction(marks: Landmarks, places: Sequence[str]) -> None:
    """Refuse two landmarks that are one place in one image, within their accuracies, and two in the other."""
    for n in range(len(places) - 1):
        allowed = marks.accuracy_mm[n] + marks.accuracy_mm[n + 1 :]
        apart = [np.linalg.norm(points[n + 1 :] - points[n], axis=1) for points in (marks.fixed, marks.moving)]
        wrong = (np.minimum(*apart) < allowed) & (np.abs(apart[0] - apart[1]) > allowed)
        if not wrong.any():
            continue
        m = int(wrong.argmax())
        (near, here), (far, there) = sorted(zip((float(a[m]) for a in apart), ("fixed", "moving"), strict=True))
        raise InputRefused(
            f"the landmarks {places[n]} and {places[n + 1 + m]} lie at the same place of the {here} image "
            f"({near:.3g} mm apart, which their accuracies allow), and {far:.3g} mm apart in the {there} image",
            f"at most {near + allowed[m]:.3g} mm apart there",
            reason="landmark-contradiction",
        )


def _of_file(path: Path, accuracy_mm: float) -> tuple[Landmarks, tuple[str, ...]]:
    """The landmarks of a file, and for messages the name and the row of each."""
    table = PointTable.read(path, AXES)
    if table.header is None:
        raise UsageError(
            f"the landmarks '{path}' have no header", f"a first row that names the columns {', '.join(AXES)}"
        )
    header = [name.lower() for name in table.header]
    _refuse_columns(header, path)
    names = next(iter(table.names.values()), tuple(str(n) for n in range(1, len(table.rows) + 1)))
    accuracy = np.full(len(table.rows), accuracy_mm)
    if ACCURACY in header:
        column = header.index(ACCURACY)
        for n, (row, line) in enumerate(zip(table.rows, table.lines, strict=True)):
            if cell := row[column] if column < len(row) else "":
                accuracy[n] = _accuracy(cell, line, path)
    places = tuple(f"'{name}' (row {line} of '{path.name}')" for name, line in zip(names, table.lines, strict=True))
    return Landmarks(table.points[:, :3], table.points[:, 3:], accuracy, names), places


def _refuse_columns(header: list[str], path: Path) -> None:
    known = (*AXES, ACCURACY, *NAMES)
    wrong = [name for n, name in enumerate(header) if name not in known and not (n == 0 and name == UNNAMED)]
    if wrong:
        raise UsageError(
            f"the landmarks '{path}' have the unknown column '{wrong[0]}'",
            f"no other columns than {', '.join(known)}",
            "Correct its name, or remove it.",
        )
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"the landmarks '{path}' have two columns '{twice}'", "each column once")


def _accuracy(cell: str, line: int, path: Path) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = float("nan")
    if not (isfinite(value) and value > 0):
        raise UsageError(
            f"row {line} of '{path}' has the accuracy '{cell}'", "a length in mm above 0, or an empty field"
        )
    return value
