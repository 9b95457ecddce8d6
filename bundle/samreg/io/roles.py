"""Which of two series in a folder is fixed and which is moving."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from pydicom.dataset import Dataset

from samreg.errors import InputRefused
from samreg.io.dicom_folder import Folder, Series, choose_series, count, find_series, listing, several_series
from samreg.io.dicom_headers import quiet, text
from samreg.io.pair import same_series


def find_pair(
    folder: Path | str, *, fixed_series: str | None = None, moving_series: str | None = None
) -> tuple[Series, Series, str]:
    """The fixed and the moving series in a folder, from headers alone.

    The first rule that applies decides: the sub-folders `fixed` and `moving`; else the given
    SeriesInstanceUIDs; else, of exactly two candidates, the one acquired later is fixed.

    Args:
        folder: With the sub-folders, or with two series anywhere below.
        fixed_series, moving_series: SeriesInstanceUIDs; one of them is enough where there are two series.

    Returns:
        The fixed series, the moving series, and one sentence that says which rule decided.

    Raises:
        InputRefused: `several-series`, `too-few-series`, `no-acquisition-time`, `same-series`, or as
            `find_series` and `choose_series`.

    Example:
        fixed, moving, roles = find_pair("study")
    """
    folder = Path(folder)
    parts = [folder / "fixed", folder / "moving"]
    if all(p.is_dir() and not p.is_symlink() for p in parts):
        fixed = choose_series(find_series(parts[0]), fixed_series)
        moving = choose_series(find_series(parts[1]), moving_series)
        return fixed, moving, "Roles by the sub-folders fixed and moving."
    found = find_series(folder)
    if fixed_series or moving_series:
        return _by_uid(found, fixed_series, moving_series)
    return _by_time(*_two(found))


def _by_uid(found: Folder, fixed_series: str | None, moving_series: str | None) -> tuple[Series, Series, str]:
    if fixed_series == moving_series:
        raise same_series("the same series UID for both")
    if fixed_series and moving_series:
        fixed, moving = choose_series(found, fixed_series), choose_series(found, moving_series)
        return fixed, moving, "Roles by the given series UIDs."
    given = choose_series(found, fixed_series or moving_series)
    others = Folder(found.path, tuple(s for s in found.series if s.series_uid != given.series_uid))
    if not others.candidates:
        raise _too_few(found)
    other = choose_series(others)
    if fixed_series:
        return given, other, "Roles by the given series UID of the fixed series; the moving one is the only other."
    return other, given, "Roles by the given series UID of the moving series; the fixed one is the only other."


def _two(found: Folder) -> tuple[Series, Series]:
    candidates = found.candidates
    if len(candidates) > 2:
        raise several_series(candidates, "two series")
    if len(candidates) < 2:
        choose_series(found)  # says why, where nothing can be registered at all
        raise _too_few(found)
    return candidates[0], candidates[1]


def _too_few(found: Folder) -> InputRefused:
    return InputRefused(
        f"the folder holds {count(len(found.candidates), 'series')} that can be registered: {listing(found.series)}",
        "two series, the fixed and the moving one",
        "Put both series below the folder.",
        reason="too-few-series",
    )


def _by_time(a: Series, b: Series) -> tuple[Series, Series, str]:
    for name, read in TIMES.items():
        with quiet():
            times = [_earliest(s, read) for s in (a, b)]
        first, second = times
        if first is None or second is None or (first.tzinfo is None) != (second.tzinfo is None):
            continue
        if first == second:
            break
        fixed, moving = (a, b) if first > second else (b, a)
        return fixed, moving, f"Roles by time: the series acquired later ({name}) is fixed."
    raise InputRefused(
        f"the two series have no acquisition times that tell which is later: {listing((a, b))}",
        "different acquisition times in both",
        "Choose with --fixed-series UID and --moving-series UID, or use sub-folders fixed and moving.",
        reason="no-acquisition-time",
    )


def _earliest(series: Series, read: Callable[[Dataset], datetime | None]) -> datetime | None:
    times = [read(h) for h in series.headers]
    known = [t for t in times if t is not None]
    if len(known) != len(times) or len({t.tzinfo is None for t in known}) != 1:
        return None
    return min(known)


def _date_and_time(kind: str) -> Callable[[Dataset], datetime | None]:
    def read(header: Dataset) -> datetime | None:
        date, time = text(header, f"{kind}Date"), text(header, f"{kind}Time")
        return parse_datetime(date + time) if date and time else None

    return read


TIMES: dict[str, Callable[[Dataset], datetime | None]] = {
    "AcquisitionDateTime": lambda h: parse_datetime(text(h, "AcquisitionDateTime")),
    "AcquisitionDate and AcquisitionTime": _date_and_time("Acquisition"),
    "SeriesDate and SeriesTime": _date_and_time("Series"),
    "StudyDate and StudyTime": _date_and_time("Study"),
}


def parse_datetime(value: str) -> datetime | None:
    """A DICOM date and time (YYYYMMDDHHMM[SS[.F…]][±ZZZZ]); None if it is shorter or damaged."""
    match = re.fullmatch(r"(\d{12})(\d{2})?(?:\.(\d{1,6}))?([+-]\d{4})?", value.strip())
    if not match:
        return None
    minutes, seconds, fraction, zone = match.groups()
    whole, form = minutes + (seconds or "00") + (zone or ""), "%Y%m%d%H%M%S" + ("%z" if zone else "")
    try:
        return datetime.strptime(whole, form) + timedelta(seconds=float(f"0.{fraction or 0}"))
    except ValueError:
        return None
