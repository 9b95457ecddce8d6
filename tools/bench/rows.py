"""Rows of results in a file of JSON lines, each written as soon as it is done, none done twice."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]
KEY = ("set", "pair", "method", "version", "settings")


class Rows:
    """The rows of a file.

    Args:
        path: Made with the first row.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows = dict(self._read())

    def _read(self) -> Iterator[tuple[str, Row]]:
        lines = self.path.read_text(encoding="utf-8").split("\n") if self.path.is_file() else []
        for line in lines:
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue  # cut off while it was written
            yield key(row), row

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows.values())

    def __getitem__(self, row: Row) -> Row:
        return self._rows[key(row)]

    def __contains__(self, row: object) -> bool:
        return isinstance(row, Mapping) and key(row) in self._rows

    def add(self, row: Row) -> None:
        """Keep a row, in place of one with the same key, and write it at once."""
        self._rows[key(row)] = row
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            # A line that was cut off must not take this one with it.
            if file.tell() and self.path.read_bytes()[-1:] != b"\n":
                file.write(b"\n")
            file.write(f"{json.dumps(row)}\n".encode())
            file.flush()
            os.fsync(file.fileno())


def key(row: Row) -> str:
    """What tells a row from others: set, pair, method, version and settings."""
    return json.dumps([row[name] for name in KEY], sort_keys=True)
