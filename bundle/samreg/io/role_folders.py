"""Folders named fixed and moving, which say by their names which series is what."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from samreg.errors import InputRefused
from samreg.io.dicom_folder import count, lies_within

NAMES = ("fixed", "moving")


def role_folders(folder: Path, *, within: str | None = None, rules_decide: bool = False) -> tuple[Path, Path] | None:
    """The folders named fixed and moving, in any letter case, anywhere below a folder.

    Args:
        folder: The input. What in it may not be read is passed over (`find_series` refuses it).
        within: As for `find_series`: a folder without any place for files of that pattern does not count.
        rules_decide: Rules say which series is what, where the names of the folders do not.

    Returns:
        The two, or None where there are none of these names, or rules decide in their place.

    Raises:
        InputRefused: `role-folders`, if there are not exactly one of each, beside each other, and no links.
    """
    found: dict[str, list[Path]] = {name: [] for name in NAMES}
    for path in _folders(folder):
        # With a pattern, a folder counts by each of the places in it: itself and the folders below.
        if within is None or lies_within(path.relative_to(folder).as_posix(), within):
            for part in (path,) if within is None else (path, *path.parents):
                if part == folder:
                    break
                if part.name.lower() in NAMES and part not in found[part.name.lower()]:
                    found[part.name.lower()].append(part)
    if not any(found.values()):
        return None
    objection = _objection(found)
    if not objection:
        return found["fixed"][0], found["moving"][0]
    if rules_decide:
        return None
    raise InputRefused(objection, reason="role-folders")


def _objection(found: dict[str, list[Path]]) -> str:
    """Why the folders do not tell the roles, empty if they do. No paths: other folders may be named after patients."""
    if any(len(folders) != 1 for folders in found.values()):
        fixed, moving = (f"{count(len(found[name]), 'folder')} named {name}" for name in NAMES)
        return f"the input holds {fixed} and {moving}"
    links = [name for name in NAMES if found[name][0].is_symlink()]
    if links:
        return f"the folder named {' and the one named '.join(links)} in the input is a symbolic link, not followed"
    a, b = found["fixed"][0], found["moving"][0]
    if a in b.parents or b in a.parents:
        return "of the folders named fixed and moving in the input one lies inside the other"
    return ""


def _folders(folder: Path) -> Iterator[Path]:
    """All folders below, and links that do not lead to a file; in no order, and without those that cannot be read."""
    waiting = [str(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_symlink():
                        if entry.name.lower() in NAMES and not os.path.isfile(entry.path):  # noqa: PTH113 - no errors
                            yield Path(entry.path)
                    elif entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                        yield Path(entry.path)
        except OSError:
            continue
