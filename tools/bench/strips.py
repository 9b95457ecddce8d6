"""A picture of results: a panel for each set, a row for each method, a dot for each pair, a bar at the mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

LEFT, WIDTH, ROW, TOP, GAP, COLUMNS = 170, 300, 22, 40, 56, 2
OURS, OTHERS = "#d1495b", "#1b6ca8"


def draw_strips(panels: Mapping[str, Mapping[str, Mapping[str, float]]], ours: Sequence[str]) -> str:
    """An SVG.

    Args:
        panels: Values by pair, by method, by the panel's title.
        ours: Methods in another colour.
    """
    parts: list[str] = []
    top, bottom = 0, 0
    for number, (title, methods) in enumerate(panels.items()):
        column = number % COLUMNS
        if column == 0:
            top = bottom
        parts += _panel(title, methods, ours, column * (LEFT + WIDTH + 30), top + TOP)
        bottom = max(bottom, top + TOP + ROW * len(methods) + GAP)
    width = min(COLUMNS, max(1, len(panels))) * (LEFT + WIDTH + 30)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {bottom}" font-family="sans-serif" '
    return "\n".join([f'{head}font-size="12">', '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>\n"])


def _panel(title: str, methods: Mapping[str, Mapping[str, float]], ours: Sequence[str], x: int, y: int) -> list[str]:
    values = [value for found in methods.values() for value in found.values()]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    scale = WIDTH / (high - low) if high > low else 0.0
    left, height = x + LEFT, ROW * len(methods)
    parts = [
        f'<text x="{left}" y="{y - 10}" font-weight="bold">{escape(title)}</text>',
        f'<rect x="{left - 6}" y="{y}" width="{WIDTH + 12}" height="{height}" fill="none" stroke="#999"/>',
        f'<text x="{left}" y="{y + height + 16}">{low:.3g}</text>',
        f'<text x="{left + WIDTH}" y="{y + height + 16}" text-anchor="end">{high:.3g}</text>',
    ]
    for number, (method, found) in enumerate(methods.items()):
        middle = y + ROW * number + ROW / 2
        colour = OURS if method in ours else OTHERS
        parts.append(f'<text x="{left - 12}" y="{middle + 4:.0f}" text-anchor="end">{escape(method)}</text>')
        at = [left + scale * (value - low) for value in found.values()]
        parts += [f'<circle cx="{c:.1f}" cy="{middle}" r="2.5" fill="{colour}" fill-opacity="0.5"/>' for c in at]
        mean = float(np.mean(at))
        parts.append(f'<path d="M{mean:.1f} {middle - 8}v16" stroke="{colour}" stroke-width="2.5"/>')
    return parts
