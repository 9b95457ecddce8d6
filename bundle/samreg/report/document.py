"""`report.json`: one schema for results and refusals; strict JSON (what was not measured is null)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from samreg import __version__
from samreg.errors import SamregError, UsageError
from samreg.report.acquisition import image_json, with_notes
from samreg.whole_files import whole_file

if TYPE_CHECKING:
    from samreg.constraints.measuring import ConstraintReport
    from samreg.result import RegistrationResult

SCHEMA_VERSION = "1.2"
NOTICE = (
    "Unverified output of an algorithm. This software is not a cleared medical device: "
    "a qualified person must check every result before it is used."
)


def report_json(
    result: RegistrationResult, *, objects: Mapping[str, str] | None, warnings: Iterable[str] = ()
) -> dict[str, Any]:
    """The report of a registration.

    Args:
        result: What was found. Of its provenance, "versions" and "hashes" (of "config", "weights",
            "fixed", "moving") have fields of their own; hashes that are missing are computed.
        objects: What was written, e.g. {"transform": "transform.h5", "reg": "dicom/reg.dcm"}.
        warnings: Sentences for the reader; the notes of both images are added.

    Returns:
        Plain JSON values that satisfy `report.schema.json`.
    """
    quality = result.quality
    document = _blank() | {
        "status": quality.status,
        "reasons": list(quality.reasons),
        "asked": result.asked,
        "kind": result.kind,
        "estimators": [asdict(step) | {"seconds": round(step.seconds, 3)} for step in result.steps],
        "decisions": list(result.decisions),
        "fallbacks": list(result.fallbacks),
        "method": result.config.method,
        "roles": result.roles,
        "series": result.series,
        "fixed": image_json(result.fixed),
        "moving": image_json(result.moving),
        "transform": {
            "direction": "fixed points to moving points",
            "frame": "LPS",
            "unit": "mm",
            "matrix": getattr(result.transform, "moving_from_fixed", None),
        },
        "pairs": {
            "total": len(result.pairs),
            "held_out": len(result.pairs.held_out),
            "fixed_rois": len(result.fixed_rois),
            "moving_rois": len(result.moving_rois),
        },
        "criteria": [
            {
                "name": c.name,
                "measure": c.measure,
                "asked": c.asked,
                "measured": c.measured,
                "unit": c.unit,
                "verdict": c.verdict,
                "note": c.note,
            }
            for c in quality.criteria
        ],
        "constraints": None if result.constraints is None else _constraints(result.constraints),
        "metrics": {"before": dict(quality.before), "after": dict(quality.after)},
        "timings_s": {stage: round(float(seconds), 3) for stage, seconds in result.timings_s.items()},
        "peak_memory_mb": round(float(result.peak_memory_mb), 1),
        "device": result.device,
        "threads": result.threads,
        "objects": dict(objects or {}),
        "warnings": with_notes(warnings, result.fixed, result.moving),
    }
    provenance = dict(result.provenance)
    document["versions"] |= provenance.pop("versions", {})
    given = provenance.pop("hashes", {})
    document["hashes"] = {
        "weights": None,
        **given,
        "config": given.get("config") or result.config.hash,
        "fixed": given.get("fixed") or result.fixed.content_hash,
        "moving": given.get("moving") or result.moving.content_hash,
    }
    document["provenance"] = provenance
    return _plain(document)


def _constraints(report: ConstraintReport) -> dict[str, Any]:
    return {
        "masks": list(report.masks),
        "landmarks": [asdict(mark) | {"met": mark.met} for mark in report.landmarks],
        "regions": [asdict(region) | {"met": region.met} for region in report.regions],
    }


def refusal_json(error: SamregError, **context: Any) -> dict[str, Any]:
    """The report of a registration that did not take place.

    Args:
        error: Why; it says what was got, what was expected and the next step.
        context: Fields of the report that are known already (`asked`, `method`, `roles`, `warnings`,
            `versions`, `provenance`, …).

    Raises:
        UsageError: A context that is no field of the report, or one that the refusal itself decides.
    """
    document = _blank()
    decided = {"status", "schema_version", "notice", "error", "exit_code", "reasons"}
    unknown = sorted(set(context) - (set(document) - decided))
    if unknown:
        raise UsageError(
            f"the context has the unknown keys {', '.join(unknown)}",
            f"one of {', '.join(sorted(set(document) - decided))}",
        )
    context["versions"] = document["versions"] | dict(context.get("versions", {}))
    refusal = {
        "status": "REFUSED",
        "reasons": [error.sentence],
        "error": error.as_dict(),
        "exit_code": error.exit_code,
    }
    return _plain(document | context | refusal)


def schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of `report.json`."""
    return json.loads(files("samreg.report").joinpath("report.schema.json").read_text(encoding="utf-8"))


def write_json(document: Mapping[str, Any], path: str | Path) -> None:
    """Strict JSON (UTF-8, never NaN) into a file, which appears only when it is whole."""
    write_whole(json.dumps(_plain(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n", path)


def write_whole(text: str, path: str | Path) -> None:
    """Text into a file, which appears only when it is whole."""
    with whole_file(Path(path)) as part:
        part.write_text(text, encoding="utf-8")


def _blank() -> dict[str, Any]:
    """Every field of the report, as it stands when nothing is known."""
    return {
        "schema_version": SCHEMA_VERSION,
        "notice": NOTICE,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "status": "FAIL",
        "reasons": [],
        "error": None,
        "exit_code": None,
        "asked": None,
        "kind": None,
        "estimators": [],
        "decisions": [],
        "fallbacks": [],
        "method": None,
        "roles": None,
        "series": [],
        "fixed": None,
        "moving": None,
        "transform": None,
        "pairs": None,
        "criteria": [],
        "constraints": None,
        "metrics": {"before": {}, "after": {}},
        "timings_s": {},
        "peak_memory_mb": None,
        "device": None,
        "threads": None,
        "versions": {"samreg": __version__},
        "hashes": {"config": None, "weights": None, "fixed": None, "moving": None},
        "provenance": {},
        "objects": {},
        "warnings": [],
    }


def _plain(value: Any) -> Any:
    """Plain JSON values; a number that is not finite becomes null.

    Raises:
        UsageError: A value that JSON has no word for.
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(v) for v in value]
    raise UsageError(f"the report would hold a {type(value).__name__}", "numbers, text, lists and mappings")
