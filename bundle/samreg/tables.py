"""Points in CSV files: x, y, z in LPS mm."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samreg.errors import UsageError
from samreg.types import Points

AXES = ("x", "y", "z")


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
        """Read a table: the columns x, y, z of its header, or the first three where it has none.

        Raises:
            UsageError: The file cannot be read, or a coordinate is missing or not a finite number.
        """
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                rows = [tuple(cell.strip() for cell in row) for row in csv.reader(file) if any(map(str.strip, row))]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise UsageError(f"points '{path}' cannot be read ({error})", "a CSV file") from error
        header = rows.pop(0) if rows and not all(map(_is_number, rows[0][:3])) else None
        columns = (0, 1, 2) if header is None else _columns(header, path)
        return PointTable(_numbers(rows, columns, path, 1 if header is None else 2), header, tuple(rows), columns)

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
    return names.index("x"), names.index("y"), names.index("z")


def _numbers(rows: list[tuple[str, ...]], columns: tuple[int, int, int], path: Path, first: int) -> Points:
    points = np.empty((len(rows), 3))
    for n, row in enumerate(rows):
        cells = [row[c] if c < len(row) else "" for c in columns]
        if not all(map(_is_number, cells)):
            raise UsageError(
                f"row {n + first} of '{path}' is '{','.join(row)}'", "three finite numbers x, y, z (LPS mm)"
            )
        points[n] = [float(cell) for cell in cells]
    return points


def _is_number(cell: str) -> bool:
    try:
        return bool(np.isfinite(float(cell)))
    except ValueError:
        return False
