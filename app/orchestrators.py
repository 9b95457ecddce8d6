"""How each platform calls the application: where the input lies, where the output goes, what is configured.

What the platforms do was read in their documentation and sources; `docs/operate.md` has an example of each.
"""

from __future__ import annotations

import errno
import glob
import json
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from samreg.config import merged, nested
from samreg.errors import InputRefused, SamregError, UsageError

SETTINGS = "SAMREG_SETTINGS"  # JSON of settings, for platforms that hand over nothing but variables
FLYWHEEL = Path("flywheel/v0")
MODULE = "samreg"  # what the name of our module in mercure holds, where a rule runs several
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
        wrong: Why the call cannot be followed, None if it can. Its output folder then gets the reason.
    """

    platform: str
    fixed: Path
    out: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    moving: Path | None = None
    wrong: SamregError | None = None


@contextmanager
def called(
    environ: Mapping[str, str],
    root: Path = Path("/"),
    *,
    source: Path | None = None,
    target: Path | None = None,
) -> Iterator[tuple[Call, ...]]:
    """What is asked for; no call at all where none can be told.

    The most specific sign decides: a source and a target by option, Kaapana's variables, mercure's, a Flywheel folder,
    then Holoscan's and MONAI's variables. What is unpacked for a call lasts as long as the block.

    Args:
        environ: Of the process.
        root: Of the file system.
        source, target: Folders that options name; one alone takes the place of the platform's.

    Raises:
        UsageError: A platform has named one of its two folders alone.
    """

    def common() -> Mapping[str, Any]:
        return _settings_in(environ.get(SETTINGS, ""), SETTINGS)

    if source and target:
        yield (_followed(Call("options", source, target), common),)
    elif all(environ.get(name) for name in KAAPANA):
        yield tuple(_kaapana(environ, root, common))
    elif environ.get("MERCURE_IN_DIR") is None and (root / FLYWHEEL / "config.json").is_file():
        with TemporaryDirectory(prefix="samreg-") as scratch:
            yield (_replaced(_flywheel(root / FLYWHEEL, Path(scratch), common), source, target),)
    else:
        yield tuple(_replaced(call, source, target) for call in _by_folders(environ, common))


Settings = Callable[[], Mapping[str, Any]]


def _followed(call: Call, *sources: Settings) -> Call:
    """The call with its settings, of which later ones come before earlier ones, or with why they cannot be read."""
    settings: dict[str, Any] = {}
    try:
        for read in sources:
            settings = merged(settings, nested(read()))
    except SamregError as error:
        return replace(call, wrong=error)
    return replace(call, settings=settings)


def _replaced(call: Call, source: Path | None, target: Path | None) -> Call:
    """A call with the one folder that an option names."""
    if source:
        call = replace(call, fixed=source, moving=None)
    return replace(call, out=target) if target else call


def _by_folders(environ: Mapping[str, str], common: Settings) -> Iterator[Call]:
    for platform, names in FOLDERS.items():
        given, out = (environ.get(name) for name in names)
        if given and out:
            own: list[Settings] = [partial(_mercure_settings, Path(given))] if platform == "mercure" else []
            yield _followed(Call(platform, Path(given), Path(out)), *own, common)
            return
        if given or out:
            raise UsageError(f"only {names[0] if given else names[1]} is set", f"{names[0]} and {names[1]}")


def _mercure_settings(folder: Path) -> Mapping[str, Any]:
    """The settings of the module and the rule, in task.json beside the images."""
    if not (folder / "task.json").is_file():
        return {}
    process = _json(folder / "task.json").get("process") or {}
    if isinstance(process, list):  # the rule runs several modules one by one
        several = [_group(entry, "process", "task.json") for entry in process]
        ours = [entry for entry in several if MODULE in str(entry.get("module_name", "")).lower()]
        if len(several) != 1 and len(ours) != 1:
            raise UsageError(
                f"'task.json' names {len(several)} modules, {len(ours)} of them with '{MODULE}' in the name",
                "one module with this name",
                "Name the module so in mercure.",
            )
        process = several[0] if len(several) == 1 else ours[0]
    settings = _group(process, "process", "task.json").get("settings") or {}
    return _group(settings, "settings", "task.json")


def _kaapana(environ: Mapping[str, str], root: Path, common: Settings) -> Iterator[Call]:
    """Each item of the batch, if one holds a study of its own; else the batch as one study."""
    workflow, batch, source, target = (environ[name] for name in KAAPANA)
    folder = root / workflow.lstrip("/")
    items = sorted(p for p in (folder / batch).iterdir() if (p / source).is_dir()) if (folder / batch).is_dir() else []
    if any(_holds_a_pair(p / source) for p in items):
        for item in items:
            yield _followed(Call("kaapana", item / source, item / target), common)
    else:
        # The results of other operators lie in the same tree.
        within: dict[str, Any] = {"series": {"within": f"*/{glob.escape(source)}"}}
        yield _followed(Call("kaapana", folder / batch, folder / target), lambda: within, common)


def _holds_a_pair(folder: Path) -> bool:
    from samreg.io import find_series

    try:
        return len(find_series(folder).candidates) > 1
    except InputRefused:
        return False


def _flywheel(folder: Path, scratch: Path, common: Settings) -> Call:
    """Inputs `fixed` and `moving`, or `study`; each a file, an archive of DICOM files, or a folder."""
    call = Call("flywheel", folder / "input", folder / "output")
    try:
        config = _json(folder / "config.json")
        inputs = _gear_inputs(config, folder, scratch)
    except SamregError as error:
        return replace(call, wrong=error)
    source = inputs.get("fixed") or inputs.get("study") or folder / "input"
    return _followed(replace(call, fixed=source, moving=inputs.get("moving")), lambda: _gear_settings(config), common)


def _gear_inputs(config: Mapping[str, Any], folder: Path, scratch: Path) -> dict[str, Path]:
    stated = _group(config.get("inputs") or {}, "inputs", "config.json")
    inputs = {}
    for name in ("study", "fixed", "moving"):
        entry = _group(stated.get(name) or {}, name, "config.json")
        place = _group(entry.get("location") or {}, "location", "config.json").get("path")
        path = Path(str(place)) if place else folder / "input" / name
        if path.exists():
            inputs[name] = _unpacked(path, scratch / name)
    if "moving" in inputs and "fixed" not in inputs:
        raise UsageError("the input 'moving' is given without 'fixed'", "both, or 'study' with both series")
    return inputs


def _gear_settings(config: Mapping[str, Any]) -> Mapping[str, Any]:
    chosen = {
        key: value
        for key, value in _group(config.get("config") or {}, "config", "config.json").items()
        if value not in ("", None)
    }
    others = chosen.pop("settings", "")
    if not isinstance(others, str):
        raise UsageError(f"'settings' in config.json is a {type(others).__name__}", "text with JSON")
    return merged(nested(chosen), nested(_settings_in(others, "settings")))


def _unpacked(source: Path, scratch: Path) -> Path:
    """The source itself, or where it was unpacked to if it is an archive, or a folder of nothing but archives."""
    files = sorted(source.iterdir()) if source.is_dir() else [source]
    if not files or not all(zipfile.is_zipfile(path) for path in files):
        return source
    for number, path in enumerate(files):
        _unpack(path, scratch / str(number))
    return scratch


def _unpack(archive: Path, target: Path) -> None:
    target.mkdir(parents=True)
    free = shutil.disk_usage(target).free
    try:
        with zipfile.ZipFile(archive) as file:
            total = sum(entry.file_size for entry in file.infolist())
            if total > free:
                raise _no_room(total, free)
            file.extractall(target)  # leaves out absolute names and those that lead upwards
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise _no_room(total, free) from error
        raise InputRefused(
            f"an archive cannot be unpacked ({type(error).__name__})", reason="unreadable-archive"
        ) from error


def _no_room(needed: int, free: int) -> InputRefused:
    return InputRefused(
        f"an archive holds {needed / 1e9:.1f} GB, and the folder for temporary files has {free / 1e9:.1f} GB",
        "an archive that fits",
        "Send one series in each archive, or give /tmp more room.",
        reason="size-limit",
    )


def _settings_in(text: str, name: str) -> Mapping[str, Any]:
    if not text:
        return {}
    try:
        settings = json.loads(text)
    except (ValueError, RecursionError) as error:
        why = getattr(error, "msg", type(error).__name__)
        raise UsageError(f"'{name}' cannot be read ({why})", 'JSON such as {"transform": "rigid"}') from error
    if not isinstance(settings, dict):
        raise UsageError(f"'{name}' holds a {type(settings).__name__}", 'an object such as {"transform": "rigid"}')
    return settings


def _group(value: Any, key: str, file: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"'{key}' in '{file}' holds a {type(value).__name__}", "an object")
    return value


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(_settings_in(path.read_text(encoding="utf-8"), path.name))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"'{path.name}' cannot be read ({type(error).__name__})", "a JSON file") from error
