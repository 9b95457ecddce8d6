"""Rows as CSV, and their summary: one line for each configuration, mean and standard deviation over pairs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from samreg.ablation.grid import text_of, value_of
from samreg.ablation.runs import NUMBERS, TEXTS, UNKNOWN, Row
from samreg.errors import UsageError

WITHOUT_RESULT = ("REFUSED", "ERROR")


@dataclass(frozen=True)
class Column:
    """A measure in the Markdown table.

    Attributes:
        best: +1 if more is better, -1 if less is, 0 if neither.
    """

    name: str
    title: str
    digits: int
    best: int


COLUMNS = (
    Column("dice", "Dice", 3, +1),
    Column("tre_mean_mm", "TRE mean [mm]", 2, -1),
    Column("tre_max_mm", "TRE max [mm]", 2, -1),
    Column("hd95_mm", "HD95 [mm]", 2, -1),
    Column("folding_percent", "folding [%]", 3, -1),
    Column("sd_log_jacobian", "SDlogJ", 3, -1),
    Column("roi_pairs", "ROI pairs", 1, 0),
    Column("seconds", "time [s]", 1, -1),
)


def csv_text(rows: Sequence[Row]) -> str:
    """Rows as CSV: what is not measured is empty, none is `none`."""
    header = list(dict.fromkeys(key for row in rows for key in row))
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_cell(row.get(key, "")) for key in header] for row in rows)
    return file.getvalue()


def _cell(value: Any) -> str:
    return "" if value != value else text_of(value)  # NaN alone differs from itself


def read_rows(path: Path) -> list[Row]:
    """The rows of an `ablation.csv`.

    Raises:
        UsageError: The file cannot be read, or is another table.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, restval="", restkey="")
            header = reader.fieldnames or ()
            if not {*TEXTS, *NUMBERS} <= {*header}:
                raise ValueError("other columns")
            return [{key: _value(key, text) for key, text in row.items()} for row in reader]
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(
            f"'{path}' is not a table that samreg wrote ({error})", "a table that samreg wrote, or no file"
        ) from error


def _value(key: str, text: str) -> Any:
    if key in TEXTS:
        return text
    if key in NUMBERS and not text:
        return UNKNOWN
    return value_of(text)


def summary(rows: Sequence[Row], keys: Sequence[str]) -> list[Row]:
    """A row for the identity, then one for each configuration.

    Args:
        rows: From `run` or `read_rows`.
        keys: What was varied.

    Returns:
        The varied values, `hash`, counts of `runs` and of each status and of each `kind`, and of each measure
        `…_mean`, `…_sd` (sample standard deviation over pairs, NaN for one) and `…_count` (pairs measured).
    """
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(text_of(row[key]) for key in keys), []).append(row)
    return [_identity(rows, keys), *(_configuration(group, keys) for group in groups.values())]


def _identity(rows: Sequence[Row], keys: Sequence[str]) -> Row:
    # Where a pair could not be read in one of its runs, another one knows.
    known = sorted(rows, key=lambda row: row["status"] not in WITHOUT_RESULT)
    pairs = {row["pair"]: {c.name: row.get(f"before_{c.name}", UNKNOWN) for c in COLUMNS} for row in known}
    counts = {"runs": len(pairs), **dict.fromkeys(("pass", "review", "fail", "refused", "error"), 0)}
    name = {**dict.fromkeys(keys, ""), "hash": "identity", **counts, "kinds": ""}
    return {**name, **_moments(pairs.values())}


def _configuration(rows: Sequence[Row], keys: Sequence[str]) -> Row:
    status = [row["status"] for row in rows]
    counts = {word.lower(): status.count(word) for word in ("PASS", "REVIEW", "FAIL", *WITHOUT_RESULT)}
    kinds = [row["kind"] for row in rows if row["kind"]]
    reached = ", ".join(f"{kind} {kinds.count(kind)}" for kind in dict.fromkeys(sorted(kinds)))
    first = {key: rows[0][key] for key in keys}
    return {**first, "hash": rows[0]["hash"], "runs": len(rows), **counts, "kinds": reached, **_moments(rows)}


def _moments(rows: Iterable[Row]) -> Row:
    rows = list(rows)
    out: Row = {}
    for name in (column.name for column in COLUMNS):
        values = np.array([row[name] for row in rows], float)
        values = values[np.isfinite(values)]
        out[f"{name}_mean"] = float(values.mean()) if values.size else UNKNOWN
        out[f"{name}_sd"] = float(values.std(ddof=1)) if values.size > 1 else UNKNOWN
        out[f"{name}_count"] = int(values.size)
    return out


def markdown(rows: Sequence[Row], keys: Sequence[str], base: Mapping[str, Any] | None = None) -> str:
    """The summary as a Markdown document; the best value of each measure is bold. It holds no date.

    Args:
        rows: From `run` or `read_rows`.
        keys: What was varied.
        base: What the head of the document says of the configuration that was varied.
    """
    lines = summary(rows, keys)
    columns = [c for c in COLUMNS if any(line[f"{c.name}_count"] for line in lines)]
    broken = [row for row in rows if row["status"] in WITHOUT_RESULT]
    head = [*keys, "configuration", *(c.title for c in columns), "reached", "PASS / REVIEW / FAIL", "no result"]
    best = {c.name: _best(lines[1:], c) for c in columns}
    body = []
    for n, line in enumerate(lines):
        values = [_shown(line, c, best[c.name]) if n else _shown(line, c, None) for c in columns]
        gate = f"{line['pass']} / {line['review']} / {line['fail']}" if n else ""
        lost = str(line["refused"] + line["error"]) if n else ""
        cells = [text_of(line[key]) for key in keys]
        body.append([*cells, line["hash"], *values, line["kinds"], gate, lost])
    facts = {"samreg": ", ".join(dict.fromkeys(row["version"] for row in rows)), **(base or {})}
    pairs = len({row["pair"] for row in rows})
    parts = [
        "# Ablation",
        " · ".join(f"{name} {text_of(value)}" for name, value in facts.items()),
        f"{pairs} pairs, {len(lines) - 1} configurations, {len(rows)} runs, of which {len(broken)} ended "
        "without a result. The table shows the mean ± the standard deviation over pairs. The best value is **bold**, "
        "among the configurations that could be measured on most pairs.",
        "\n".join(_table(head, body)),
    ]
    if broken:
        reasons = dict.fromkeys(f"- {row['pair']}, {row['hash']}: {row['status']}, {row['reason']}" for row in broken)
        parts += ["Runs without a result:", "\n".join(reasons)]
    return "\n\n".join(parts) + "\n"


def _best(lines: Sequence[Row], column: Column) -> str | None:
    """The best mean as it is shown, among the lines with most pairs; None if all are alike."""
    if not column.best or not lines:
        return None
    most = max(line[f"{column.name}_count"] for line in lines)
    whole = [line for line in lines if most and line[f"{column.name}_count"] == most]
    shown = {f"{line[f'{column.name}_mean']:.{column.digits}f}" for line in whole}
    return (max if column.best > 0 else min)(shown, key=float) if len(shown) > 1 else None


def _shown(line: Row, column: Column, best: str | None) -> str:
    mean, sd = line[f"{column.name}_mean"], line[f"{column.name}_sd"]
    if np.isnan(mean):
        return "–"
    text = f"{mean:.{column.digits}f}"
    spread = "" if np.isnan(sd) else f" ± {sd:.{column.digits}f}"
    return f"**{text}**{spread}" if text == best else f"{text}{spread}"


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    rows = [head, ["---"] * len(head), *body]
    return [f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
