"""Which series in a folder is fixed and which are moving, by rules, and why each was taken or left."""

from __future__ import annotations

import fnmatch
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from pydicom.dataset import Dataset

from samreg.config import SeriesConfig, SeriesRule
from samreg.errors import InputRefused
from samreg.io.dicom_folder import (
    Folder,
    Series,
    choose_series,
    count,
    find_series,
    listing,
    place,
    several_series,
    with_note,
)
from samreg.io.dicom_headers import quiet, shown_uid, text
from samreg.io.pair import same_series
from samreg.io.role_folders import role_folders

logger = logging.getLogger(__name__)

# What a pattern is searched in is cut to this: headers may hold megabytes.
MAX_SEARCHED = 1024


@dataclass(frozen=True, eq=False)
class Roles:
    """Which series is what.

    Attributes:
        fixed: The one that stays.
        moving: Those that are registered to it, one unless the rules allow several.
        sentence: Which rule decided.
        decisions: Why each series was taken or left, in the order of the files; without free text of the headers.
    """

    fixed: Series
    moving: tuple[Series, ...]
    sentence: str
    decisions: tuple[str, ...]


def find_roles(folder: Path | str, rules: SeriesConfig | None = None, *, as_files: bool = False) -> Roles:
    """The fixed and the moving series in a folder, from headers alone.

    One folder `fixed` and one `moving`, in any letter case and anywhere below, say what is what (see `role_folders`).
    Where there are none, or their names tell nothing and the rules ask something of both roles, every series is looked
    at for both. Of several that satisfy a role's rule, its `acquired` chooses. What is taken for one role is not taken
    for the other. Of two series that suit both roles equally, the one acquired later is fixed. What is still ambiguous
    is refused.

    Args:
        folder: With the sub-folders, or with the series anywhere below.
        rules: What a series must be to take a role; default: anything.
        as_files: As for `find_series`.

    Returns:
        The series of both roles, and why each series was taken or left.

    Raises:
        InputRefused: `role-folders`, `several-series`, `too-few-series`, `no-series-for-role`, `no-acquisition-time`,
            `same-series`, or as `find_series` and `choose_series`.

    Example:
        >>> find_roles("study", SeriesConfig(fixed=SeriesRule(modality="CT"))).moving
    """
    folder, rules = Path(folder), rules or SeriesConfig()
    _refuse_one_uid(rules)
    parts = role_folders(folder, within=rules.within, rules_decide=SeriesRule() not in (rules.fixed, rules.moving))
    if parts:
        a, b = (find_series(part, within=rules.within, root=folder, as_files=as_files) for part in parts)
        return _Choice((folder, folder), a, b, rules).roles("The sub-folders fixed and moving name the two series.")
    found = find_series(folder, within=rules.within, as_files=as_files)
    return _Choice((folder, folder), found, found, rules).roles()


def roles_of(
    fixed: Path | str, moving: Path | str, rules: SeriesConfig | None = None, *, as_files: bool = False
) -> Roles:
    """The fixed series of one folder and the moving series of another, from headers alone.

    As `find_roles` where sub-folders say what is what: each series must satisfy its role's rule, and what is still
    ambiguous is refused. Patterns of folders are relative to the folder of the role.

    Args:
        fixed, moving: Folders with DICOM series, or DICOM files.
        rules: What a series must be to take its role; default: anything.
        as_files: As for `find_series`.

    Returns:
        With the sentence "as given", and what else decided.

    Raises:
        InputRefused: As `find_roles`.

    Example:
        >>> roles_of("study/2024", "study/2020", SeriesConfig(moving=SeriesRule(description="T1"))).moving
    """
    fixed, moving, rules = Path(fixed), Path(moving), rules or SeriesConfig()
    _refuse_one_uid(rules)
    a, b = (find_series(folder, within=rules.within, as_files=as_files) for folder in (fixed, moving))
    return _Choice((fixed, moving), a, b, rules).roles(_given(rules))


def _refuse_one_uid(rules: SeriesConfig) -> None:
    if rules.fixed.series_uid and rules.fixed.series_uid == rules.moving.series_uid:
        raise same_series("the same series UID for both")


def find_pair(
    folder: Path | str,
    *,
    fixed_series: str | None = None,
    moving_series: str | None = None,
    as_files: bool = False,
) -> tuple[Series, Series, str]:
    """The fixed and the moving series in a folder that holds one of each (see `find_roles`).

    Args:
        folder: With folders `fixed` and `moving`, or with two series, anywhere below.
        fixed_series, moving_series: SeriesInstanceUIDs; one of them is enough where there are two series.
        as_files: As for `find_series`.

    Returns:
        The fixed series, the moving series, and one sentence that says which rule decided.

    Example:
        fixed, moving, roles = find_pair("study")
    """
    rules = SeriesConfig(fixed=SeriesRule(series_uid=fixed_series), moving=SeriesRule(series_uid=moving_series))
    roles = find_roles(folder, rules, as_files=as_files)
    return roles.fixed, roles.moving[0], roles.sentence


class _Choice:
    """Narrows down what can be fixed and what moving, and keeps the reasons."""

    def __init__(self, roots: tuple[Path, Path], for_fixed: Folder, for_moving: Folder, rules: SeriesConfig) -> None:
        self.roots, self.rules = dict(zip(("fixed", "moving"), roots, strict=True)), rules
        self.one_folder = for_fixed is for_moving
        self.pools = {"fixed": for_fixed, "moving": for_moving}
        self.why: dict[tuple[str, str], str] = {}  # by role and series
        self.fixed = self._matching("fixed", rules.fixed)
        self.moving = self._matching("moving", rules.moving)

    def roles(self, sentence: str = "") -> Roles:
        """The choice, or why there is none."""
        self._narrow()
        by_time = ""
        if len(self.fixed) == 2 and set(map(id, self.fixed)) == set(map(id, self.moving)):
            later, earlier, by_time = _by_time(*self.fixed)
            self.fixed, self.moving = [later], [earlier]
        fixed = self._only("fixed", self.fixed)
        if self.rules.several_moving and self.moving:
            moving = tuple(self.moving)
        else:
            moving = (self._only("moving", self.moving),)
        sentence = sentence or by_time or _sentence(self.rules)
        decisions = self._decisions(fixed, moving, sentence)
        for decision in decisions:
            logger.info("%s", decision)
        return Roles(fixed, moving, sentence, decisions)

    def _matching(self, role: str, rule: SeriesRule) -> list[Series]:
        pool = self.pools[role]
        matching = []
        for series in [choose_series(pool, rule.series_uid)] if rule.series_uid else pool.series:
            named = series.series_uid == rule.series_uid
            misfit = (
                _misfit(series, rule, self.roots[role])
                if series.is_candidate or named
                else "it holds no images of a volume"
            )
            if misfit:
                self.why[role, series.series_uid] = misfit
            else:
                matching.append(series)
        return matching

    def _narrow(self) -> None:
        several = self.rules.several_moving
        self.fixed = self._by_acquisition("fixed", self.fixed, self.rules.fixed)
        for _ in range(2):
            if len(self.fixed) == 1:
                self.moving = self._without(self.moving, self.fixed, "moving")
            elif len(self.moving) == 1 and not several:
                self.fixed = self._without(self.fixed, self.moving, "fixed")
            self.moving = self._by_acquisition("moving", self.moving, self.rules.moving)

    def _without(self, some: list[Series], taken: Sequence[Series], role: str) -> list[Series]:
        shared = self.one_folder or self.rules.several_moving  # folders that are given may overlap
        uids = {series.series_uid for series in taken} if shared else set()
        self.why |= {(role, uid): "it has the other role" for uid in uids}
        return [series for series in some if series.series_uid not in uids]

    def _by_acquisition(self, role: str, some: list[Series], rule: SeriesRule) -> list[Series]:
        if rule.acquired is None or len(some) < 2:
            return some
        name, times = _comparable(some)
        pick = max if rule.acquired == "latest" else min
        chosen = [series for series, time in zip(some, times, strict=True) if time == pick(times)]
        if len(chosen) > 1:
            raise _no_time(chosen)
        for series in some:
            if series is not chosen[0]:
                self.why[role, series.series_uid] = f"it is not the {rule.acquired} ({name})"
        return chosen

    def _only(self, role: str, some: list[Series]) -> Series:
        pool = self.pools[role]
        if len(some) == 1:
            return some[0] if self.one_folder else with_note(some[0], pool)
        if len(some) > 1:
            everything = len(some) == len(pool.candidates)
            raise several_series(some, "two series" if everything and self.one_folder else f"one {role} series")
        if len(pool.candidates) < (2 if self.one_folder else 1):
            if not pool.candidates:
                choose_series(pool)  # says why nothing can be registered at all
            raise _too_few(pool)
        raise InputRefused(
            f"no series can be the {role} one: " + "; ".join(self._reasons(role, pool)),
            f"one that satisfies the rule ({_conditions(getattr(self.rules, role)) or 'any'})",
            "Change series." + role + " in the configuration, or send the series.",
            reason="no-series-for-role",
        )

    def _reasons(self, role: str, pool: Folder) -> list[str]:
        known = [f"{s.line} ({self.why[role, s.series_uid]})" for s in pool.series if (role, s.series_uid) in self.why]
        return known[:10] + ([f"and {len(known) - 10} more"] if len(known) > 10 else [])

    def _decisions(self, fixed: Series, moving: Sequence[Series], sentence: str) -> tuple[str, ...]:
        taken = {_key(fixed): "fixed", **{_key(series): "moving" for series in moving}}
        out = []
        for key, series in {_key(s): s for pool in self.pools.values() for s in pool.series}.items():
            role = taken.get(key)
            if role:
                why = _conditions(getattr(self.rules, role)) or sentence.rstrip(".")
                out.append(f"taken as {role}: {series.line}: {why}")
                continue
            reasons = {f"not {r}: {why}": None for (r, uid), why in self.why.items() if uid == series.series_uid}
            out.append(f"left: {series.line}: {', '.join(reasons) or 'not asked for'}")
        return tuple(out)


def _key(series: Series) -> tuple[str, Path]:
    """One for each series, also of folders that overlap, and of series that share a UID which is none."""
    return series.series_uid, series.files[0].resolve()


def _misfit(series: Series, rule: SeriesRule, root: Path) -> str:
    """Why a series cannot take a role, empty if it can. Values of free text are not repeated: they may hold names."""
    header = series.headers[0]
    for name, keyword in (("modality", "Modality"), ("description", "SeriesDescription"), ("protocol", "ProtocolName")):
        pattern = getattr(rule, name)
        if pattern is not None and not re.search(pattern, text(header, keyword)[:MAX_SEARCHED], re.I):
            return f"its {name} does not match '{pattern}'"
    places = {place(path, root) for path in series.files} if rule.folder is not None else set()
    if not all(fnmatch.fnmatch(where, rule.folder or "") for where in places):
        return f"it is not in the folder '{rule.folder}'"
    return ""


def _conditions(rule: SeriesRule) -> str:
    """What a rule asks, in words."""
    named = {name: getattr(rule, name) for name in ("modality", "description", "protocol", "folder")}
    named["series_uid"] = rule.series_uid and shown_uid(rule.series_uid)
    words = [f"{name.replace('_', ' ')} '{value}'" for name, value in named.items() if value is not None]
    return ", ".join(words + ([f"acquired {rule.acquired}"] if rule.acquired else []))


def _sentence(rules: SeriesConfig) -> str:
    fixed, moving = (_named_alone(rule) and bool(rule.series_uid) for rule in (rules.fixed, rules.moving))
    if fixed and moving:
        return "The series UIDs that were given name the fixed and the moving series."
    if fixed and rules.moving == SeriesRule():
        return "The series UID that was given names the fixed series. The moving series is the only other one."
    if moving and rules.fixed == SeriesRule():
        return "The series UID that was given names the moving series. The fixed series is the only other one."
    return "The rules of the configuration name the fixed and the moving series."


def _named_alone(rule: SeriesRule) -> bool:
    """Whether a rule asks for nothing but a series UID."""
    return rule.with_values({"series_uid": None}) == SeriesRule()


def _given(rules: SeriesConfig) -> str:
    if rules.fixed == rules.moving == SeriesRule():
        return "as given"
    named_alone = all(_named_alone(rule) for rule in (rules.fixed, rules.moving))
    return "as given, by series UID" if named_alone else "as given, by the rules of the configuration"


def _too_few(found: Folder) -> InputRefused:
    return InputRefused(
        f"the folder holds {count(len(found.candidates), 'series')} that can be registered: {listing(found.series)}",
        reason="too-few-series",
    )


def _by_time(a: Series, b: Series) -> tuple[Series, Series, str]:
    name, (first, second) = _comparable((a, b))
    if first == second:
        raise _no_time((a, b))
    fixed, moving = (a, b) if first > second else (b, a)
    return fixed, moving, f"The series acquired later ({name}) is the fixed one."


def _comparable(some: Sequence[Series]) -> tuple[str, list[datetime]]:
    """The first kind of time that all of them state, and their earliest of it."""
    for name, read in TIMES.items():
        with quiet():
            times = [_earliest(series, read) for series in some]
        known = [time for time in times if time is not None]
        if len(known) == len(some) and len({time.tzinfo is None for time in known}) == 1:
            return name, known
    raise _no_time(some)


def _no_time(some: Sequence[Series]) -> InputRefused:
    return InputRefused(
        f"the series have no acquisition times that tell which is later: {listing(some)}", reason="no-acquisition-time"
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
        return _in_its_zone(date + time, header) if date and time else None

    return read


def _in_its_zone(value: str, header: Dataset) -> datetime | None:
    """A time with its own zone, else the one of the header; None if the header's is damaged, for then it is unknown."""
    time, offset = parse_datetime(value), text(header, "TimezoneOffsetFromUTC")
    if time is None or time.tzinfo is not None or not offset:
        return time
    return parse_datetime(value + offset) if re.fullmatch(r"[+-]\d{4}", offset) else None


TIMES: dict[str, Callable[[Dataset], datetime | None]] = {
    "AcquisitionDateTime": lambda h: _in_its_zone(text(h, "AcquisitionDateTime"), h),
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
