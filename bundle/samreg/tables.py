"""Points in CSV files: x, y, z in LPS mm."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from samreg.errors import InputRefused, UsageError
from samreg.types import Points

AXES = ("x", "y", "z")
NAMES = ("name", "label", "id")
MAX_COORDINATE_MM = 1e5


@dataclass(frozen=True, eq=False)
class PointTable:
    """Points with whatever else stands in their rows.

    Attributes:
        points: [n, 3] LPS mm.
        header: Column names, or None.
        rows: The cells of each row.
        columns: Position of x, y, z in a row.
    """

    points: Points
    header: tuple[str, ...] | None
    rows: tuple[tuple[str, ...], ...]
    columns: tuple[int, int, int]

    @staticmethod
    def read(path: Path) -> PointTable:
        """Read a table: the columns x, y, z of its header; without a header, rows of three numbers.

        Raises:
            UsageError: The file cannot be read or holds no points, a row without a header has not
                exactly three fields, or a coordinate is missing, not a finite number or beyond 100 m.
        """
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                rows = [tuple(cell.strip() for cell in row) for row in csv.reader(file) if any(map(str.strip, row))]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise UsageError(f"points '{path}' cannot be read ({error})", "a CSV file") from error
        header = rows.pop(0) if rows and _is_header(rows[0]) else None
        columns = (0, 1, 2) if header is None else _columns(header, path)
        if not rows:
            raise UsageError(f"'{path}' holds no points", "a row of x, y, z (LPS mm) for each point")
        width = 3 if header is None else len(header)
        for n, row in enumerate(rows, 1 if header is None else 2):
            # A field too many would shift what is taken for x, y and z.
            if any(row[width:]) or (header is None and len(row) != width):
                raise UsageError(
                    f"row {n} of '{path}' has {len(row)} fields",
                    "three, x, y and z (LPS mm), where there is no header" if header is None else f"{width}, as above",
                    "Name the columns in a first row, such as name,x,y,z" if header is None else "",
                )
        return PointTable(_numbers(rows, columns, path, 1 if header is None else 2), header, tuple(rows), columns)

    @property
    def names(self) -> dict[str, tuple[str, ...]]:
        """The columns that name the points (`name`, `label`, `id`, as far as there are any)."""
        header = [cell.lower() for cell in self.header or ()]
        found = {name: header.index(name) for name in NAMES if name in header}
        return {name: tuple(row[c] if c < len(row) else "" for row in self.rows) for name, c in found.items()}

    def write(self, path: Path, points: Points) -> None:
        """Write the same table with other points [n, 3]."""
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            if self.header is not None:
                writer.writerow(self.header)
            for row, point in zip(self.rows, points, strict=True):
                cells = list(row)
                for column, value in zip(self.columns, point, strict=True):
                    cells[column] = f"{value:.6f}"
                writer.writerow(cells)


def _columns(header: tuple[str, ...], path: Path) -> tuple[int, int, int]:
    names = [name.lower() for name in header]
    missing = [axis for axis in AXES if axis not in names]
    if missing:
        raise UsageError(f"points '{path}' have the columns {', '.join(header)}", "columns named x, y and z (LPS mm)")
    if any(names.count(axis) > 1 for axis in AXES):
        raise UsageError(f"points '{path}' have the columns {', '.join(header)}", "one column x, one y and one z")
    return names.index("x"), names.index("y"), names.index("z")


def _is_header(row: tuple[str, ...]) -> bool:
    """A row without numbers, or with the names of the axes."""
    return {*AXES} <= {cell.lower() for cell in row} or not any(map(_reads_as_number, row))


def _numbers(rows: list[tuple[str, ...]], columns: tuple[int, int, int], path: Path, first: int) -> Points:
    points = np.empty((len(rows), 3))
    for n, row in enumerate(rows):
        cells = [row[c] if c < len(row) else "" for c in columns]
        if not all(map(_is_number, cells)):
            raise UsageError(
                f"row {n + first} of '{path}' is '{','.join(row)}'", "three finite numbers x, y, z (LPS mm)"
            )
        points[n] = [float(cell) for cell in cells]
        if np.abs(points[n]).max() > MAX_COORDINATE_MM:
            raise UsageError(
                f"row {n + first} of '{path}' is '{','.join(row)}'", f"mm, none beyond {MAX_COORDINATE_MM:.0f}"
            )
    return points


def _is_number(cell: str) -> bool:
    return _reads_as_number(cell) and bool(np.isfinite(float(cell)))


def _reads_as_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def paired(fixed: PointTable, moving: PointTable) -> tuple[Points, Points]:
    """The points [n, 3] of two tables, row by row the same landmark.

    Where both tables name their points (a column `name`, `label` or `id`), the names decide, in the
    order of `fixed`; else the order of the rows.

    Raises:
        InputRefused: `landmark-names`, the names differ, repeat or are left out.
    """
    a, b = fixed.names, moving.names
    if not a or not b:
        return fixed.points, moving.points
    shared = next((name for name in a if name in b), None)
    first, second = (a[shared], b[shared]) if shared else (next(iter(a.values())), next(iter(b.values())))
    for names, side in ((first, "fixed"), (second, "moving")):
        wrong = next((name for name in names if not name or names.count(name) > 1), None)
        if wrong is not None:
            _refuse_names(f"the name '{wrong}' stands twice among the {side} landmarks" if wrong else
                          f"a {side} landmark has no name")  # fmt: skip
    alone = sorted({*first} ^ {*second})
    if alone:
        _refuse_names(f"the landmark '{alone[0]}' is in one file alone")
    return fixed.points, moving.points[[second.index(name) for name in first]]


def _refuse_names(got: str) -> NoReturn:
    raise InputRefused(
        got,
        "the same names in both files, each once",
        "Correct the names, or leave their column out to match by order",
        reason="landmark-names",
    )
