"""Points in CSV files: x, y, z in LPS mm, or positions in pixels."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import numpy as np

from samreg.errors import InputRefused, UsageError
from samreg.geometry import Grid
from samreg.types import Points

AXES = ("x", "y", "z")
NAMES = ("name", "label", "id")
UNNAMED = ""  # a first column without a name: row numbers, as pandas and BIRL write them
MAX_COORDINATE_MM = 1e5
NUMBERS = {2: "two", 3: "three", 6: "six"}


@dataclass(frozen=True, eq=False)
class PointTable:
    """Points with whatever else stands in their rows.

    Attributes:
        points: [n, 3] LPS mm; [n, 2] for a table read without z.
        header: Column names, or None.
        rows: The cells of each row.
        columns: Position of x, y (and z) in a row.
        lines: Number of the line of the file, from 1, that each row ends in; empty for a table that was not read.
    """

    points: Points
    header: tuple[str, ...] | None
    rows: tuple[tuple[str, ...], ...]
    columns: tuple[int, ...]
    lines: tuple[int, ...] = ()

    @staticmethod
    def read(path: Path, axes: Sequence[str] = AXES, what: str = "LPS mm") -> PointTable:
        """Read a table: the columns x, y, z of its header; without a header, rows of three numbers.

        Args:
            axes: Names of the columns with coordinates.
            what: Unit and frame of the coordinates, for messages.

        Raises:
            UsageError: The file cannot be read or holds no points, a row without a header has not
                exactly as many fields as axes, or a coordinate is missing, not a finite number or beyond 100 m.
        """
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.reader(file)
                read = ((reader.line_num, tuple(cell.strip() for cell in row)) for row in reader)
                numbered = [(line, row) for line, row in read if any(row)]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise UsageError(f"the points '{path}' cannot be read ({error})", "a CSV file") from error
        header = numbered.pop(0)[1] if numbered and _is_header(numbered[0][1], axes) else None
        lines, rows = tuple(line for line, _ in numbered), tuple(row for _, row in numbered)
        meaning = f"{', '.join(axes[:-1])} and {axes[-1]} ({what})"
        columns = tuple(range(len(axes))) if header is None else _columns(header, path, axes, meaning)
        if not rows:
            raise UsageError(f"'{path}' holds no points", f"a row of {meaning} for each point")
        width = len(axes) if header is None else len(header)
        for n, row in numbered:
            # A field too many would shift what is taken for x, y and z.
            if any(row[width:]) or (header is None and len(row) != width):
                raise UsageError(
                    f"row {n} of '{path}' has {len(row)} fields",
                    f"{width} fields, {meaning}, in a file without a header"
                    if header is None
                    else f"{width} fields, as in the header",
                    f"Name the columns in a first row, such as name,{','.join(axes)}" if header is None else "",
                )
        points = _numbers(numbered, columns, path, meaning)
        return PointTable(points, header, rows, columns, lines)

    @staticmethod
    def read_pixels(path: Path, grid: Grid) -> PointTable:
        """Read positions in pixels of an image, and bring them to LPS mm.

        Columns x and y (for a stack also z) count columns, rows (and slices) from 0; whole numbers are
        the centres of pixels.

        Args:
            grid: Of the image.

        Returns:
            A table of two columns (a stack: three) whose `points` are [n, 3] LPS mm.

        Raises:
            UsageError: As `read`.
            InputRefused: `landmark-outside`, a point is more than a pixel beyond the image's border.
        """
        table = PointTable.read(path, AXES[:2] if grid.is_2d else AXES, "pixels")
        ijk = np.zeros((len(table.points), 3))
        ijk[:, : table.points.shape[1]] = table.points
        beyond = ((ijk < -1.5) | (ijk > np.asarray(grid.shape) + 0.5)).any(1)
        if beyond.any():
            point = ", ".join(f"{v:g}" for v in table.points[beyond][0])
            raise InputRefused(
                f"the landmark ({point}) of '{path.name}' lies outside the image's {grid.shape[0]} x {grid.shape[1]} "
                "pixels",
                reason="landmark-outside",
            )
        return replace(table, points=grid.lps(ijk))

    @property
    def names(self) -> dict[str, tuple[str, ...]]:
        """The columns that name the points (`name`, `label`, `id`, as far as there are any)."""
        header = [cell.lower() for cell in self.header or ()]
        found = {name: header.index(name) for name in NAMES if name in header}
        return {name: tuple(row[c] if c < len(row) else "" for row in self.rows) for name, c in found.items()}

    @property
    def row_numbers(self) -> tuple[str, ...] | None:
        """The cells of a first column without a name, if they differ from each other; else None."""
        if self.header is None or self.header[0] != UNNAMED:
            return None
        cells = tuple(row[0] for row in self.rows)
        return cells if len({*cells}) == len(cells) else None

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


def _columns(header: tuple[str, ...], path: Path, axes: Sequence[str], meaning: str) -> tuple[int, ...]:
    names = [name.lower() for name in header]
    missing = [axis for axis in axes if axis not in names]
    if missing:
        raise UsageError(f"the points '{path}' have the columns {', '.join(header)}", f"columns named {meaning}")
    if any(names.count(axis) > 1 for axis in axes):
        raise UsageError(
            f"the points '{path}' have the columns {', '.join(header)}", f"one column {', one '.join(axes)}"
        )
    return tuple(names.index(axis) for axis in axes)


def _is_header(row: tuple[str, ...], axes: Sequence[str]) -> bool:
    """A row without numbers, or with the names of the axes."""
    return {*axes} <= {cell.lower() for cell in row} or not any(map(_reads_as_number, row))


def _numbers(
    numbered: Sequence[tuple[int, tuple[str, ...]]], columns: tuple[int, ...], path: Path, meaning: str
) -> np.ndarray:
    points = np.empty((len(numbered), len(columns)))
    for n, (line, row) in enumerate(numbered):
        cells = [row[c] if c < len(row) else "" for c in columns]
        if not all(map(_is_number, cells)):
            raise UsageError(
                f"row {line} of '{path}' is '{','.join(row)}'",
                f"{NUMBERS[len(columns)]} finite numbers {meaning}",
            )
        points[n] = [float(cell) for cell in cells]
        if np.abs(points[n]).max() > MAX_COORDINATE_MM:
            raise UsageError(
                f"row {line} of '{path}' is '{','.join(row)}'",
                f"coordinates in mm, none beyond {MAX_COORDINATE_MM:.0f}",
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
    order of `fixed`. Else, where both number their rows in a first column without a name, the numbers
    that both have; a landmark of one table alone is left out. Else the order of the rows.

    Raises:
        InputRefused: `landmark-names`, the names differ, repeat or are left out.
    """
    a, b = fixed.names, moving.names
    if not a or not b:
        rows = fixed.row_numbers, moving.row_numbers
        if a or b or rows[0] is None or rows[1] is None:
            return fixed.points, moving.points
        both = [number for number in rows[0] if number in rows[1]]
        return fixed.points[[rows[0].index(n) for n in both]], moving.points[[rows[1].index(n) for n in both]]
    shared = next((name for name in a if name in b), None)
    first, second = (a[shared], b[shared]) if shared else (next(iter(a.values())), next(iter(b.values())))
    for names, role in ((first, "fixed"), (second, "moving")):
        wrong = next((name for name in names if not name or names.count(name) > 1), None)
        if wrong is not None:
            _refuse_names(f"the name '{wrong}' stands twice among the {role} landmarks" if wrong else
                          f"a {role} landmark has no name")  # fmt: skip
    alone = sorted({*first} ^ {*second})
    if alone:
        _refuse_names(f"the landmark '{alone[0]}' is in only one file")
    return fixed.points, moving.points[[second.index(name) for name in first]]


def _refuse_names(got: str) -> NoReturn:
    raise InputRefused(got, reason="landmark-names")
