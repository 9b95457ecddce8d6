"""How each platform calls the application: where the input lies, where the output goes, what is configured.

What the platforms do was read in their documentation and sources; `docs/operate.md` has an example of each.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from samreg.errors import InputRefused, UsageError

SETTINGS = "SAMREG_SETTINGS"  # JSON of settings, for platforms that hand over nothing but variables
FLYWHEEL = Path("flywheel/v0")
MAX_UNPACKED_BYTES = 20 * 1024**3
# Folders that a platform names; the image itself sets those of Holoscan, so they are asked last.
FOLDERS = {
    "mercure": ("MERCURE_IN_DIR", "MERCURE_OUT_DIR"),
    "holoscan": ("HOLOSCAN_INPUT_PATH", "HOLOSCAN_OUTPUT_PATH"),
    "monai": ("MONAI_INPUTPATH", "MONAI_OUTPUTPATH"),
}
KAAPANA = ("WORKFLOW_DIR", "BATCH_NAME", "OPERATOR_IN_DIR", "OPERATOR_OUT_DIR")


@dataclass(frozen=True)
class Call:
    """One study to register.

    Attributes:
        platform: Who calls.
        fixed: The fixed image; without a moving one the folder of both: with sub-folders `fixed` and `moving`, or with
            the series anywhere below.
        out: Folder of the results.
        settings: `method`, `preset`, `fixed_series`, `moving_series`, `allow_different_patients`, and keys of the
            configuration, nested or with dots.
        moving: The moving image, where the platform hands over each by itself.
    """

    platform: str
    fixed: Path
    out: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    moving: Path | None = None


@contextmanager
def called(environ: Mapping[str, str], root: Path = Path("/")) -> Iterator[tuple[Call, ...]]:
    """What the platform asks for; no call at all where none can be told.

    The most specific sign decides: Kaapana's variables, mercure's, a Flywheel folder, then Holoscan's and MONAI's
    variables. What is unpacked for a call lasts as long as the block.

    Args:
        environ: Of the process.
        root: Of the file system.

    Raises:
        UsageError: Settings that cannot be read.
        InputRefused: An archive that cannot be unpacked safely.
    """
    common = _settings_in(environ.get(SETTINGS, ""), SETTINGS)
    if all(environ.get(name) for name in KAAPANA):
        yield tuple(_kaapana(environ, root, common))
    elif environ.get("MERCURE_IN_DIR") is None and (root / FLYWHEEL / "config.json").is_file():
        with TemporaryDirectory(prefix="samreg-") as scratch:
            yield (_flywheel(root / FLYWHEEL, Path(scratch), common),)
    else:
        yield tuple(_by_folders(environ, common))


def _by_folders(environ: Mapping[str, str], common: Mapping[str, Any]) -> Iterator[Call]:
    for platform, (source, target) in FOLDERS.items():
        given, out = environ.get(source), environ.get(target)
        if given and out:
            settings = _mercure_settings(Path(given)) if platform == "mercure" else {}
            yield Call(platform, Path(given), Path(out), {**settings, **common})
            return


def _mercure_settings(folder: Path) -> Mapping[str, Any]:
    """The settings of the module and the rule, in task.json beside the images."""
    task = _json(folder / "task.json") if (folder / "task.json").is_file() else {}
    process = task.get("process") or {}
    processes = process if isinstance(process, list) else [process]  # a rule may run several modules one by one
    settings: dict[str, Any] = {}
    for entry in processes:
        settings |= entry.get("settings") or {}
    return settings


def _kaapana(environ: Mapping[str, str], root: Path, common: Mapping[str, Any]) -> Iterator[Call]:
    """Each item of the batch that holds a study of its own; else the batch as one study."""
    workflow, batch, source, target = (environ[name] for name in KAAPANA)
    folder = root / workflow.lstrip("/")
    items = sorted(p for p in (folder / batch).iterdir() if (p / source).is_dir()) if (folder / batch).is_dir() else []
    whole = [p for p in items if _holds_a_pair(p / source)]
    if whole:
        yield from (Call("kaapana", item / source, item / target, common) for item in whole)
    else:
        yield Call("kaapana", folder / batch, folder / target, common)


def _holds_a_pair(folder: Path) -> bool:
    from samreg.io import find_series

    return len(find_series(folder).candidates) > 1


def _flywheel(folder: Path, scratch: Path, common: Mapping[str, Any]) -> Call:
    """Inputs `fixed` and `moving`, or `study`; each a file, an archive of DICOM files, or a folder."""
    config = _json(folder / "config.json")
    inputs = {}
    for name in ("study", "fixed", "moving"):
        stated = (config.get("inputs") or {}).get(name, {}).get("location", {}).get("path")
        path = Path(stated) if stated else folder / "input" / name
        if path.exists():
            inputs[name] = _unpacked(path, scratch / name)
    chosen = {key: value for key, value in (config.get("config") or {}).items() if value not in ("", None)}
    others = _settings_in(chosen.pop("settings", ""), "settings")
    settings = {**chosen, **others, **common}
    fixed = inputs.get("fixed") or inputs.get("study") or folder / "input"
    return Call("flywheel", fixed, folder / "output", settings, inputs.get("moving"))


def _unpacked(source: Path, scratch: Path) -> Path:
    """The source itself, or where it was unpacked to if it is an archive, or a folder with one archive alone."""
    files = sorted(source.iterdir()) if source.is_dir() else [source]
    if len(files) != 1 or not zipfile.is_zipfile(files[0]):
        return source
    with zipfile.ZipFile(files[0]) as archive:
        total = sum(entry.file_size for entry in archive.infolist())
        if total > MAX_UNPACKED_BYTES:
            raise InputRefused(
                f"'{files[0].name}' holds {total / 1e9:.0f} GB",
                f"at most {MAX_UNPACKED_BYTES / 1e9:.0f} GB",
                "Send one series in each archive.",
                reason="size-limit",
            )
        archive.extractall(scratch)  # leaves out absolute names and those that lead upwards
    return scratch


def _settings_in(text: str, name: str) -> Mapping[str, Any]:
    if not text:
        return {}
    try:
        settings = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"{name} cannot be read ({error.msg})", 'JSON such as {"transform": "rigid"}') from error
    if not isinstance(settings, dict):
        raise UsageError(f"{name} holds a {type(settings).__name__}", 'an object such as {"transform": "rigid"}')
    return settings


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(_settings_in(path.read_text(encoding="utf-8"), path.name))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path.name} cannot be read ({type(error).__name__})", "a JSON file") from error
