"""A training's log, and how far confidences can be relied on, as pictures (SVG)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

_CURVES = (  # title, and the lines of the log that it shows
    ("loss by term", ("mask", "correction", "prototype", "region", "dense", "iou")),
    ("IoU of the best of three masks, training families", ("point_iou", "box_iou")),
)
_COLOURS = ("#1b6ca8", "#d1495b", "#3a7d44", "#b07c00", "#6a4c93", "#5f6b6d")
_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 640, 220, 56, 34, 64
_LEGEND = 150
_SIDE = 260
_POINTS = 160  # of a curve; each is the mean of what lies between it and the next


def read_log(path: Path) -> list[dict[str, float]]:
    """The lines of a log, without one that is cut off."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            continue  # the machine went away while it was written
    return lines


def draw_curves(log: Sequence[dict[str, float]]) -> str:
    """An SVG of the losses and scores over the steps.

    Args:
        log: Of `read_log`.
    """
    parts: list[str] = []
    for number, (title, names) in enumerate(_CURVES):
        parts += _curves(log, title, names, _TOP + number * (_HEIGHT + _GAP))
    return _svg(_LEFT + _WIDTH + _LEGEND, _TOP + len(_CURVES) * (_HEIGHT + _GAP), parts)


def draw_reliability(panels: Mapping[str, Sequence[tuple[float, float, int]]]) -> str:
    """An SVG of precision against confidence; the circles' areas go by the number of pairs.

    Args:
        panels: Mean confidence, precision and number of pairs of each step of confidence, by title.
    """
    parts: list[str] = []
    for number, (title, steps) in enumerate(panels.items()):
        left = _LEFT + number * (_SIDE + _GAP)
        parts += _panel(left, _TOP, _SIDE, _SIDE, title, top_mark="1", right_mark="confidence 1")
        parts.append(f'<line x1="{left}" y1="{_TOP + _SIDE}" x2="{left + _SIDE}" y2="{_TOP}" stroke="#bbb"/>')
        most = max((count for _, _, count in steps), default=1)
        for confidence, precision, count in steps:
            x, y = left + _SIDE * confidence, _TOP + _SIDE * (1 - precision)
            radius = 3 + 9 * (count / most) ** 0.5
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{_COLOURS[0]}" fill-opacity="0.6"/>'
            )
    return _svg(_LEFT + len(panels) * (_SIDE + _GAP), _TOP + _SIDE + _GAP, parts)


def _svg(width: float, height: float, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">'
    )
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>"]) + "\n"


def _panel(
    left: float, top: float, width: float, height: float, title: str, *, top_mark: str, right_mark: str
) -> list[str]:
    """A frame with a title; both axes begin at 0, and what they end at is written there."""
    bottom, right = top + height, left + width
    return [
        f'<text x="{left}" y="{top - 10}" font-weight="bold">{title}</text>',
        f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="none" stroke="#999"/>',
        f'<text x="{left}" y="{bottom + 18}">0</text>',
        f'<text x="{right}" y="{bottom + 18}" text-anchor="end">{right_mark}</text>',
        f'<text x="{left - 6}" y="{top + 10}" text-anchor="end">{top_mark}</text>',
        f'<text x="{left - 6}" y="{bottom}" text-anchor="end">0</text>',
    ]


def _curves(log: Sequence[dict[str, float]], title: str, names: Sequence[str], top: float) -> list[str]:
    curves = {name: _curve(log, name) for name in names}
    curves = {name: curve for name, curve in curves.items() if len(curve)}
    if not curves:
        return []
    last = max(curve[-1, 0] for curve in curves.values())
    most = max(float(curve[:, 1].max()) for curve in curves.values())
    out = _panel(_LEFT, top, _WIDTH, _HEIGHT, title, top_mark=f"{most:.2f}", right_mark=f"{last:.0f} steps")
    for n, (name, curve) in enumerate(curves.items()):
        x = _LEFT + curve[:, 0] / max(last, 1) * _WIDTH
        y = top + _HEIGHT - curve[:, 1] / max(most, 1e-9) * _HEIGHT
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
        out.append(f'<polyline points="{points}" fill="none" stroke="{_COLOURS[n]}" stroke-width="1.5"/>')
        label = f"{name.replace('_', ' ')} {curve[-1, 1]:.3f}"
        out.append(f'<text x="{_LEFT + _WIDTH + 8}" y="{top + 14 + 16 * n}" fill="{_COLOURS[n]}">{label}</text>')
    return out


def _curve(log: Sequence[dict[str, float]], name: str) -> np.ndarray:
    """[p, 2] steps and means."""
    found = np.array([(line["step"], line[name]) for line in log if np.isfinite(line.get(name, np.nan))])
    if not len(found):
        return found
    parts = np.array_split(found, min(_POINTS, len(found)))
    return np.array([part.mean(0) for part in parts])
