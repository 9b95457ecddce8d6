"""Tables of the rows: mean ± standard deviation, and a paired test of ours against each other method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from scipy.stats import wilcoxon

from tools.bench.rows import Row
from tools.bench.sets import PairSet
from tools.bench.strips import draw_strips
from tools.generated import DOCS, with_parts

DOCUMENT = DOCS / "performance.md"
PICTURE = DOCS / "pictures" / "peers.svg"
LEAST_PAIRS = 6  # below, no outcome of Wilcoxon's test is significant
COLUMNS: Mapping[str, tuple[str, int]] = {  # heading and decimals
    "dice": ("Dice", 3),
    "hd95_mm": ("HD95 [mm]", 2),
    "tre_mm": ("landmarks [mm]", 2),
    "tre_px": ("landmarks [pixels]", 1),
    "error_mm": ("true error [mm]", 2),
    "correlation": ("correlation", 3),
    "folding_percent": ("folding [%]", 3),
    "sd_log_jacobian": ("SDlogJ", 3),
    "inverse_mm": ("inverse [mm]", 2),
    "cpu_seconds": ("CPU [s]", 1),
    "seconds": ("wall [s]", 1),
    "peak_mb": ("memory [MB]", 0),
}
MEASURES = {
    "dice": ("dice", "hd95_mm", "tre_mm"),
    "tre_px": ("tre_px",),
    "error_mm": ("error_mm",),
}
ALWAYS = ("folding_percent", "sd_log_jacobian", "inverse_mm", "cpu_seconds", "seconds", "peak_mb")


def tables(rows: Iterable[Row], sets: Mapping[str, PairSet], ours: Sequence[str]) -> tuple[str, str]:
    """Markdown tables, one a set, and an SVG of every pair's result.

    Args:
        rows: Of `Rows`; of each pair and method the last counts.
        sets: By name; they decide the order and the measure.
        ours: Names of our own methods; the first is tested against the others.
    """
    by_set: dict[str, dict[str, dict[str, Row]]] = {}
    for row in rows:
        by_set.setdefault(row["set"], {}).setdefault(row["method"], {})[row["pair"]] = row
    parts, panels = [], {}
    for name in (name for name in sets if name in by_set):
        parts.append(_table(sets[name], by_set[name], ours))
        measure = sets[name].measure
        values = {method: _values(found, measure) for method, found in by_set[name].items()}
        panels[f"{sets[name].title}: {COLUMNS[measure][0]}"] = {k: v for k, v in values.items() if v}
    return "\n\n".join(parts), draw_strips(panels, ours)


def document(text: str, picture: str) -> None:
    """Write tables and picture into the documents."""
    image = f"![Every pair's result, by method]({PICTURE.relative_to(DOCS)})"
    written = with_parts(DOCUMENT, {"peers": f"\n{text}\n\n{image}\n"})
    DOCUMENT.write_text(written, encoding="utf-8")
    PICTURE.write_text(picture, encoding="utf-8")


def p_value(ours: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Wilcoxon's signed-rank test on the pairs that both have; NaN for fewer than `LEAST_PAIRS`."""
    both = sorted({*ours} & {*other})
    differences = np.array([ours[pair] - other[pair] for pair in both])
    if len(both) < LEAST_PAIRS:
        return float("nan")
    return float(wilcoxon(differences).pvalue) if differences.any() else 1.0


def _table(pair_set: PairSet, methods: Mapping[str, Mapping[str, Row]], ours: Sequence[str]) -> str:
    known = {key for found in methods.values() for row in found.values() for key in row}
    shown = [key for key in (*MEASURES[pair_set.measure], *ALWAYS) if key in known]
    pairs = len({pair for found in methods.values() for pair in found})
    first = next((name for name in ours if name in methods), None)
    test = f" | p, beside {first}" if first else ""
    head = f"| method | pairs | {' | '.join(COLUMNS[key][0] for key in shown)}{test} |"
    rule = "|---" * (head.count("|") - 1) + "|"
    lines = [f"**{pair_set.title}**, {pairs} pair{'s' * (pairs > 1)}:", "", head, rule]
    for method, found in methods.items():
        failed = sum("failed" in row for row in found.values())
        count = f"{len(found) - failed}" + (f" ({failed} failed)" if failed else "")
        cells = [_spread(list(_values(found, key).values()), COLUMNS[key][1]) for key in shown]
        if first:
            measured = [_values(methods[name], pair_set.measure) for name in (first, method)]
            cells.append("" if method == first else _said(p_value(*measured)))
        lines.append(f"| {method} | {count} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _values(found: Mapping[str, Row], key: str) -> dict[str, float]:
    return {pair: row[key] for pair, row in found.items() if key in row}


def _spread(values: Sequence[float], decimals: int) -> str:
    if not values:
        return "–"
    mean = f"{np.mean(values):.{decimals}f}"
    return f"{mean} ± {np.std(values, ddof=1):.{decimals}f}" if len(values) > 1 else mean


def _said(p: float) -> str:
    return "–" if np.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"
