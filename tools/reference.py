"""The tables of the documents that the code itself knows: options, configuration, files, report fields, refusals.

python tools/reference.py --write    # put them into docs/reference.md and docs/refusals.md
python tools/reference.py            # exit 1 if a document has other ones
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import generated
from docstrings import parsed

from samreg import artefacts, config, registry, report
from samreg.artefacts import Artefact
from samreg.cli_parser import build_parser
from samreg.ecosystem import PACKAGES
from samreg.refusals import GROUPS
from samreg.sam.family import FAMILY


def documents() -> dict[Path, str]:
    """The text of each document with its generated parts made anew."""
    reference = {
        "options": options(),
        "configuration": configuration(),
        "registry": registry_rows(),
        "family": family_rows(),
        "files": file_rows(artefacts.OF_REGISTER.values(), ("images", "dicom", "report", "run")),
        "files of the container": file_rows(artefacts.OF_REGISTER.values(), ("container",)),
        "files of locate": file_rows(artefacts.OF_LOCATE.values(), ("locate",)),
        "packages": package_rows(),
        "report": report_fields(),
    }
    parts = {"reference.md": reference, "refusals.md": {"refusals": refusals()}}
    return {generated.DOCS / name: generated.with_parts(generated.DOCS / name, part) for name, part in parts.items()}


def options() -> str:
    """The arguments of every sub-command."""
    parts = []
    for name, command in _commands(build_parser(), "samreg"):
        rows = [_option(a) for a in command._actions if not isinstance(a, argparse._HelpAction)]
        parts.append(f"### `{name}`\n\n{command.description}\n\n| argument | meaning |\n|---|---|\n" + "\n".join(rows))
    return "\n\n".join(parts)


def _commands(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """The commands below one, by their whole names; itself where there are none."""
    below = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not below:
        yield name, parser
    for group in below:
        for word, command in group.choices.items():
            yield from _commands(command, f"{name} {word}")


def _option(action: argparse.Action) -> str:
    value = action.metavar
    if action.nargs == 0:
        value = ""
    elif isinstance(value, tuple):
        value = " ".join(value)
    elif action.choices is not None and value is None:
        value = "{" + ",".join(map(str, action.choices)) + "}"
    name = " ".join(filter(None, (", ".join(action.option_strings), value)))
    need = " (required)" if action.required and action.option_strings else ""
    help_text = (action.help or "").replace("|", "\\|")
    return f"| `{name.replace('|', chr(92) + '|')}` | {help_text}{need} |"


def configuration() -> str:
    """Every key of the configuration, its default and its meaning.

    Raises:
        KeyError: A key without a meaning in the docstring of its class.
    """
    rows = ["| key | default | meaning |", "|---|---|---|"]
    rows += _keys(config.Config(), "")
    return "\n".join(rows)


def _keys(part: config.Settings, prefix: str) -> list[str]:
    meanings = parsed(type(part).__doc__).names("Attributes")
    rows = []
    for name in type(part).model_fields:
        value = getattr(part, name)
        if isinstance(value, config.Settings):
            rows += _keys(value, f"{prefix}{name}.")
        else:
            rows.append(f"| `{prefix}{name}` | {_default(value)} | {meanings[name].replace('|', chr(92) + '|')} |")
    return rows


def _default(value: Any) -> str:
    """A value as a file states it."""
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return f"[{', '.join(value)}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def registry_rows() -> str:
    """Methods, encoders, proposers, matchers and estimators."""
    rows = ["| kind | name | what it is | needs weights |", "|---|---|---|---|"]
    for kind, entries in {"methods": registry.METHODS, **registry.TABLES}.items():
        for row in entries.values():
            weights = "yes" if row.needs_weights else "no"
            rows.append(f"| {kind.removesuffix('s')} | `{row.name}` | {row.summary} | {weights} |")
    return "\n".join(rows)


def family_rows() -> str:
    """The SAM family."""
    rows = ["| variant | what it is | input | licence | known hash | published |", "|---|---|---|---|---|---|"]
    for row in FAMILY.values():
        links = [f"[{row.file or 'folder'}]({row.source})"]
        if row.hub and row.file:
            links.append(f"[folder](https://huggingface.co/{row.hub})")
        what = f"{row.summary}. {row.note}".strip() if row.note else row.summary
        known = ", ".join(f"`{digest[:8]}…`" for digest in row.hashes) or "none"
        cells = (f"`{row.name}`", what, row.preprocessing, row.licence, known, ", ".join(links))
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def file_rows(rows: Iterable[Artefact], steps: Sequence[str]) -> str:
    """The files that some steps write."""
    table = ["| file | in `objects` as | written | holds |", "|---|---|---|---|"]
    for row in rows:
        if row.step in steps:
            usual = "for several moving series" if row.step == "run" else "always"
            written = f"if {'; '.join(condition.text for condition in row.when)}" if row.when else usual
            table.append(f"| `{row.path}` | {f'`{row.key}`' if row.listed else ''} | {written} | {row.role} |")
    return "\n".join(table)


def package_rows() -> str:
    """The packages whose images are taken and given back in Python."""
    rows = ["| package | image | transform |", "|---|---|---|"]
    rows += [
        f"| `{p.name}` | {p.images} | {p.transforms or 'none: it has no class for it'} |" for p in PACKAGES.values()
    ]
    return "\n".join(rows)


REPORT = {
    "schema_version": "Version of the schema of this file.",
    "notice": "Statement that the result is the unverified output of an algorithm.",
    "created": "Date and time, UTC.",
    "status": "PASS, REVIEW, FAIL or REFUSED.",
    "reasons": "Why the status is not PASS, one sentence each.",
    "error": "Why the input was refused: `reason` (a stable identifier, [all of them](refusals.md#what-is-refused)), "
    "`got`, `expected`, `next_step`; null otherwise.",
    "exit_code": "Exit code of a refusal; null otherwise.",
    "asked": "The requested transform.",
    "kind": "The transform that was reached: deformable, affine, rigid or identity.",
    "estimators": "The estimators of the method in order: `estimator`, `kind`, `outcome` (taken, refused, abstained, "
    "not needed, not reached), `reason`, `rests_on`, `seconds`.",
    "decisions": "How each candidate was judged against the transform before it: what was measured, its noise, and the "
    "rule that decided.",
    "fallbacks": "One sentence for each fall-back: to a coarser transform, or to fewer points at once (memory full).",
    "method": "Name of the method.",
    "roles": "How the fixed and the moving image were chosen.",
    "series": "Why each series of a study was taken or left, where there was a choice.",
    "fixed": "The fixed image: `name`, `modality`, `shape`, `spacing_mm`, identifiers, `notes`.",
    "moving": "The moving image, with the same fields.",
    "transform": "Direction, frame and unit; `matrix` [4, 4] unless the transform is deformable.",
    "pairs": "Number of pairs, of those held out, and of regions in each image.",
    "criteria": "The quality table: `name`, `measure`, `asked`, `measured`, `unit`, `verdict`, `note`.",
    "constraints": "What the transform was asked to respect, and how far it does: `masks` (of which image); "
    "`landmarks`: `name`, `before_mm`, `residual_mm`, `accuracy_mm`, `met`; `regions`: `keeps`, `number`, "
    "`label` (its value in the mask), `mask` (name of the file, empty for one in memory), `volume_mm3`, "
    "`centre_lps_mm` (in the moving image), `volume_ratio` (after to before; `least_…` and `greatest_…` of a voxel), "
    "`rms_mm` and `most_mm` from the best rigid motion, `met`; null: nothing was asked.",
    "metrics": "Similarity and agreement `before` and `after`.",
    "timings_s": "Seconds by stage.",
    "peak_memory_mb": "Peak memory of the run in MB; of the process where the system measures no run.",
    "device": "Device that the registration ran on.",
    "threads": "Number of CPU threads.",
    "versions": "Versions of samreg and of the packages that decide the result.",
    "hashes": "Hashes of `config`, `weights`, `fixed` and `moving`.",
    "provenance": "What else decides the result; `confidences_fitted_on`: what confidences of pairs were fitted on "
    "(null: not calibrated for this encoder; absent for pairs of given label maps).",
    "objects": "Files that were written: name, and path in the folder.",
    "warnings": "Sentences for the reader.",
}


def report_fields() -> str:
    """The fields of report.json.

    Raises:
        KeyError: A field without a meaning in `REPORT`.
    """
    rows = ["| field | meaning |", "|---|---|"]
    rows += [f"| `{name}` | {REPORT[name]} |" for name in report.schema()["properties"]]
    return "\n".join(rows)


def refusals() -> str:
    """Every reason for which samreg does not go on, by groups."""
    parts = []
    for group in GROUPS:
        rows = [f"### {group.title}", "", "| reason | what it means | expected | what to do |", "|---|---|---|---|"]
        for row in group.refusals:
            cells = [text.replace("|", "\\|") or "see the message" for text in (row.got, row.expected, row.next_step)]
            rows.append(f"| `{row.reason}` | {' | '.join(cells)} |")
        parts.append("\n".join(rows))
    return "\n\n".join(parts)


if __name__ == "__main__":
    sys.exit(generated.main(documents()))
