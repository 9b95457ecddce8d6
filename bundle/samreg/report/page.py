"""`report.html`: one file without any external request, for a reader at a desk or on paper."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from samreg.errors import UsageError
from samreg.report.deformation import draw_deformation
from samreg.report.document import write_whole
from samreg.report.figures import draw, draw_pairs
from samreg.result import RegistrationResult
from samreg.transforms import Affine

if TYPE_CHECKING:
    from jinja2 import Template

HEADLINES = {
    "PASS": "Every quality check that could be judged on this input is met.",
    "REVIEW": "A qualified person must review the result before it is used.",
    "FAIL": "The result does not meet the required quality. Do not use it.",
}
METRIC_NAMES = {
    "ncc": "Normalised correlation",
    "mutual_information": "Mutual information, nat",
    "coverage": "Share of the fixed body that the moving image covers",
    "held_out_dice": "Dice of held-out pairs",
    "held_out_distance_mm": "Centroid distance of held-out pairs, mm",
    "dice": "Dice",
    "tre_mm": "Target registration error, mm",
    "hd95_mm": "95 % Hausdorff distance, mm",
}
# Of the provenance, what the page states elsewhere.
STATED_ELSEWHERE = ("method", "confidences_fitted_on")
LEAST_SHOWN = 5e-4
KIND_NAMES = {"identity": "None (identity)", "rigid": "Rigid", "affine": "Affine", "deformable": "Deformable"}


@dataclass(frozen=True)
class Fact:
    """One of the figures at the head of the page."""

    name: str
    value: str
    note: str = ""


def write_report(result: RegistrationResult, warped: np.ndarray, path: Path, *, report: Mapping[str, Any]) -> None:
    """The report as one HTML file.

    Words and numbers come from `report`, so that page and JSON cannot disagree; pictures from the result.

    Args:
        warped: [i, j, k] float32, the moving image on the fixed grid.
        path: The file; it appears only when it is whole.
        report: What `report_json` returned.

    Raises:
        UsageError: `warped` is not on the fixed grid.
    """
    if warped.shape != result.fixed.grid.shape:
        raise UsageError(
            f"the warped image has the shape {warped.shape}", f"the fixed image's shape {result.fixed.grid.shape}"
        )
    style, script = _text("style.css"), _text("script.js")
    html = _template().render(
        report=report,
        headline=_headline(report),
        facts=_facts(result, report),
        figures=draw(result, warped),
        pairs=draw_pairs(result),
        deformation=draw_deformation(result),
        metrics=_metrics(report["metrics"]),
        provenance=_provenance(report["provenance"]),
        kind_names=KIND_NAMES,
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
    )
    write_whole(html, path)


def _headline(report: Mapping[str, Any]) -> str:
    unmet = sum(c["verdict"] == "not met" for c in report["criteria"])
    if report["status"] == "PASS" and unmet:
        checks = "one of the checks" if unmet == 1 else f"{unmet} of the checks"
        return f"The result passes, although {checks} in the section Quality {'is' if unmet == 1 else 'are'} not met."
    return HEADLINES[report["status"]]


def _facts(result: RegistrationResult, report: Mapping[str, Any]) -> list[Fact]:
    asked = "" if report["kind"] == report["asked"] else f"{report['asked']} was requested"
    facts = [Fact("Transform", KIND_NAMES[report["kind"]], asked), *_motion(result)]
    pairs = report["pairs"]
    facts.append(Fact("Region pairs", str(pairs["total"]), f"{pairs['held_out']} held out of the fit"))
    before, after = (report["metrics"][when].get("ncc") for when in ("before", "after"))
    if before is not None and after is not None:
        facts.append(Fact("Correlation", f"{after:.2f}", f"{before:.2f} before"))
    met = sum(c["verdict"] == "met" for c in report["criteria"])
    unjudged = sum(c["verdict"] == "not judged" for c in report["criteria"])
    note = "checks that could be judged" + (f"; {unjudged} could not be" if unjudged else "")
    facts.append(Fact("Checks met", f"{met} of {len(report['criteria']) - unjudged}", note))
    return facts


def _motion(result: RegistrationResult) -> list[Fact]:
    """How far the rigid part turns and moves the middle of the fixed image."""
    rigid = result.transform if result.kind == "rigid" else result.stages.get("rigid")
    if result.kind == "identity" or not isinstance(rigid, Affine):
        return []
    matrix = rigid.moving_from_fixed
    cosine = (np.trace(matrix[:3, :3]) - 1) / 2
    middle = result.fixed.grid.centre_lps[None]
    shift = float(np.linalg.norm(rigid.map_points(middle) - middle))
    angle = float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
    return [Fact("Rigid part", f"{angle:.1f}°", f"and {shift:.1f} mm at the centre of the fixed image")]


def _metrics(metrics: Mapping[str, Mapping[str, float | None]]) -> list[tuple[str, float | None, float | None]]:
    """(name, before, after) in the order in which they were measured."""
    before, after = metrics["before"], metrics["after"]
    keys = list(dict.fromkeys([*before, *after]))
    return [(METRIC_NAMES.get(k, k.replace("_", " ").capitalize()), before.get(k), after.get(k)) for k in keys]


def _provenance(provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name, value) of what has one and stands nowhere else on the page."""
    shown = {k: v for k, v in provenance.items() if v is not None and k not in STATED_ELSEWHERE}
    return [(k.replace("_", " ").capitalize(), v if isinstance(v, str) else json.dumps(v)) for k, v in shown.items()]


def _number(value: float | None) -> str:
    """Four significant digits, a dash for what was not measured; what is nearly zero is called so."""
    if value is None:
        return "–"
    if 0 < abs(value) < LEAST_SHOWN:
        return "below 0.001" if value > 0 else "between −0.001 and 0"
    if isinstance(value, int) or float(value).is_integer():
        return f"{value:.0f}"
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"


@cache
def _template() -> Template:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_text), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = _number
    return environment.get_template("template.html")


def _text(name: str) -> str:
    return files("samreg.report").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """For the content security policy, which then allows this text and nothing else."""
    return "sha256-" + base64.b64encode(sha256(text.encode()).digest()).decode("ascii")
