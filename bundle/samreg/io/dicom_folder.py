"""Which DICOM series lie in a folder, from their headers alone."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import MediaStorageDirectoryStorage

from samreg.errors import InputRefused
from samreg.io.dicom_headers import (
    DAMAGE,
    is_dicom,
    lacks_prefix,
    number,
    quiet,
    read_header,
    shown_modality,
    shown_uid,
    text,
    texts,
    uid_name,
)
from samreg.io.identifiers import no_uid

MAX_FILES = 100_000

CLASSIC = {
    "1.2.840.10008.5.1.4.1.1.2": "CT Image Storage",
    "1.2.840.10008.5.1.4.1.1.4": "MR Image Storage",
    "1.2.840.10008.5.1.4.1.1.128": "Positron Emission Tomography Image Storage",
}
MULTIFRAME = {
    "1.2.840.10008.5.1.4.1.1.2.1": "Enhanced CT Image Storage",
    "1.2.840.10008.5.1.4.1.1.2.2": "Legacy Converted Enhanced CT Image Storage",
    "1.2.840.10008.5.1.4.1.1.4.1": "Enhanced MR Image Storage",
    "1.2.840.10008.5.1.4.1.1.4.4": "Legacy Converted Enhanced MR Image Storage",
    "1.2.840.10008.5.1.4.1.1.130": "Enhanced PET Image Storage",
    "1.2.840.10008.5.1.4.1.1.128.1": "Legacy Converted Enhanced PET Image Storage",
}
SUPPORTED = CLASSIC | MULTIFRAME


@dataclass(frozen=True, eq=False)
class Series:
    """The files of one series, not yet checked.

    Attributes:
        headers: Data sets before their pixels, in order of the file names.
        files: Where they are.
        notes: What the folder's reader skipped.
    """

    headers: tuple[Dataset, ...]
    files: tuple[Path, ...]
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def series_uid(self) -> str:
        """SeriesInstanceUID of the first file; empty where it has none."""
        return text(self.headers[0], "SeriesInstanceUID")

    @property
    def modality(self) -> str:
        """Modality of the first file ("CT"); empty where it has none."""
        return text(self.headers[0], "Modality")

    @property
    def sop_classes(self) -> tuple[str, ...]:
        """SOP class UIDs that occur, sorted."""
        return tuple(sorted({text(h, "SOPClassUID") for h in self.headers}))

    @property
    def is_localizer(self) -> bool:
        """True if every image says that it is a localizer."""
        return all(is_localizer(h) for h in self.headers)

    @property
    def is_candidate(self) -> bool:
        """False for what can never be registered: reports, structure sets, captures, localizers.

        A damaged header without a SOP class stays a candidate, so that it is refused, not ignored.
        """
        return any(uid in SUPPORTED or not uid for uid in self.sop_classes) and not self.is_localizer

    @property
    def line(self) -> str:
        """One line for lists: modality, images, series number, UID.

        No description: it is free text that may hold names, and refusals travel.
        """
        with quiet():
            series_number = number(self.headers[0], "SeriesNumber")
        numbered = "no series number" if series_number is None else f"series number {series_number:.0f}"
        uid = self.series_uid
        shown = shown_uid(uid)
        named = f"UID {uid}" if shown == uid else shown
        return f"{shown_modality(self.modality)}, {count(len(self.headers), 'image')}, {numbered}, {named}"


@dataclass(frozen=True, eq=False)
class Folder:
    """What lies in a folder and its sub-folders.

    Attributes:
        path: The folder.
        series: All DICOM series, in order of their first file.
        skipped: Number of files that are not DICOM (or a DICOMDIR).
        links: Number of symbolic links, which are not followed.
        within: Pattern of the folders that were looked at; None: all.
    """

    path: Path
    series: tuple[Series, ...]
    skipped: int = 0
    links: int = 0
    within: str | None = None

    @property
    def candidates(self) -> tuple[Series, ...]:
        """The series that could be registered."""
        return tuple(s for s in self.series if s.is_candidate)

    @property
    def skipped_sentence(self) -> str:
        """What was skipped, or an empty text."""
        parts = []
        if self.skipped:
            parts.append(f"{count(self.skipped, 'file')} skipped, not DICOM")
        if self.links:
            parts.append(f"{count(self.links, 'symbolic link')} not followed")
        return "; ".join(parts)


def is_localizer(header: Dataset) -> bool:
    """True if ImageType names a localizer or scout."""
    return bool({"LOCALIZER", "SCOUT"} & {v.upper() for v in texts(header, "ImageType")})


def count(n: int, thing: str) -> str:
    """'1 image', '2 images', '2 series'."""
    return f"{n} {thing}" if n == 1 or thing.endswith("series") else f"{n} {thing}s"


def place(path: Path, root: Path) -> str:
    """The folder of a file relative to the input, "." for the input itself, as patterns see it."""
    return "." if path == root else path.parent.relative_to(root).as_posix()


def lies_within(place: str, pattern: str) -> bool:
    """Whether a folder, or one above it, has a name of this pattern."""
    return any(fnmatch.fnmatch(str(part), pattern) for part in (PurePosixPath(place), *PurePosixPath(place).parents))


def find_series(
    folder: Path | str, *, within: str | None = None, root: Path | None = None, as_files: bool = False
) -> Folder:
    """The DICOM series in a folder and its sub-folders, from headers alone.

    Files without the DICOM prefix are counted and skipped; symbolic links inside the folder are
    counted and not followed. A file of zero bytes is a lost image, not junk. A single file is taken
    as a folder with that file alone.

    Args:
        folder: Folder, or one DICOM file.
        within: Pattern (`*`, `?`) of a file's folder, or of one above it, relative to `root`. Files elsewhere are not
            looked at, as if they were not there (a folder that may not be read is refused wherever it is: what lies
            in it is unknown).
        root: What `within` is relative to; default: `folder`.
        as_files: No DICOM object will refer to the images. Those without a SeriesInstanceUID are then one series,
            and where the SOP class is missing it is that of the file meta information.

    Returns:
        All series of the folder, and how many files were skipped.

    Raises:
        InputRefused: `no-such-path`; `no-permission`; `unreadable-file` if a DICOM file's header is damaged, a
            file is empty, or one among others lacks the DICOM prefix; `no-uid` if a DICOM file has no
            SeriesInstanceUID; `size-limit` if there are more than `MAX_FILES` files.
    """
    folder = Path(folder)
    root = folder if root is None else root
    if not folder.exists():
        raise InputRefused(f"'{folder.name}' does not exist", reason="no-such-path")
    groups: dict[str, list[tuple[Dataset, Path]]] = {}
    skipped = links = 0
    headless: Path | None = None
    paths = _walk(folder) if folder.is_dir() else iter([folder])
    if within is not None:
        paths = (path for path in paths if lies_within(place(path, root), within))
    for n, path in enumerate(paths):
        if n >= MAX_FILES:
            raise InputRefused(
                f"the folder holds more than {MAX_FILES} files",
                "the files of one study",
                "Give the folder of one study or series.",
                reason="size-limit",
            )
        if path.is_symlink() and path != folder:
            links += 1
        elif not path.is_file() or not _readable(path):
            skipped += 1
            headless = path if headless is None and path.is_file() and lacks_prefix(path) else headless
        else:
            header, stored_as = _header(path)
            if stored_as == MediaStorageDirectoryStorage:
                skipped += 1
            elif not text(header, "SeriesInstanceUID") and not (as_files and not _cut(header)):
                raise _unreadable(path) if _cut(header) else no_uid(path, "SeriesInstanceUID")
            else:
                if as_files and stored_as and not text(header, "SOPClassUID"):
                    header.SOPClassUID = stored_as
                groups.setdefault(text(header, "SeriesInstanceUID"), []).append((header, path))
    if groups and headless is not None:
        # One image among many, stripped of its prefix: at the end of a stack nobody would miss it.
        raise _unreadable(headless, "looks like a DICOM image, but lacks the prefix DICM of a DICOM file")
    found = Folder(folder, (), skipped, links, within)
    notes = {"skipped": found.skipped_sentence} if found.skipped_sentence else {}
    series = tuple(Series(tuple(h for h, _ in g), tuple(p for _, p in g), notes) for g in groups.values())
    return replace(found, series=series)


def _cut(header: Dataset) -> bool:
    """True if the header ends before its SeriesInstanceUID: elements come in order of their tags."""
    return max(header.keys(), default=0) < (tag_for_keyword("SeriesInstanceUID") or 0)


def _walk(folder: Path) -> Iterator[Path]:
    """Everything below a folder that is not itself a folder, sorted; links are not followed."""
    waiting = [(folder, True)]  # the next one last; without recursion, however deep the folders are nested
    while waiting:
        path, is_folder = waiting.pop()
        if is_folder:
            waiting += reversed(_entries(path))
        else:
            yield path


def _entries(folder: Path) -> list[tuple[Path, bool]]:
    """What lies in a folder, sorted, and whether it is a folder itself."""
    try:
        return [(path, path.is_dir() and not path.is_symlink()) for path in sorted(folder.iterdir())]
    except PermissionError as error:
        raise forbidden(folder) from error
    except OSError as error:
        raise _unreadable(folder) from error


def _readable(path: Path) -> bool:
    try:
        empty = path.stat().st_size == 0
        readable = is_dicom(path)
    except PermissionError as error:
        raise forbidden(path) from error
    except OSError as error:
        raise _unreadable(path) from error
    if empty:
        raise _unreadable(path, "is empty (0 bytes)")
    return readable


def _header(path: Path) -> tuple[Dataset, str]:
    """The header of a file, and the SOP class that its file meta states."""
    try:
        with quiet():
            header = read_header(path)
            return header, str(header.file_meta.get("MediaStorageSOPClassUID", ""))
    except DAMAGE as error:
        raise _unreadable(path) from error


def forbidden(path: Path) -> InputRefused:
    """What the user of this process has no right to read."""
    return InputRefused(f"'{path.name}' may not be read by the user with uid {os.geteuid()}", reason="no-permission")


def _unreadable(path: Path, why: str = "cannot be read") -> InputRefused:
    # A damaged slice must not be skipped: at the end of a stack nobody would miss it.
    return InputRefused(
        f"'{path.name}' {why}",
        "a whole file that may be read",
        "Export the series again, or remove the file if it does not belong to it.",
        reason="unreadable-file",
    )


def choose_series(folder: Folder, series_uid: str | None = None) -> Series:
    """The one series to register from a folder.

    Args:
        folder: From `find_series`.
        series_uid: SeriesInstanceUID to take; None if there is but one candidate.

    Returns:
        The series, with a note on those that hold no image to register.

    Raises:
        InputRefused: `empty-folder`, `no-such-series`, `several-series`, or, where nothing in the
            folder can be registered, `unsupported-sop-class` or `localizer`.
    """
    if not folder.series:
        skipped = f" ({folder.skipped_sentence})" if folder.skipped_sentence else ""
        where = f" in folders like '{folder.within}'" if folder.within is not None else ""
        raise InputRefused(f"the folder holds no DICOM images{where}{skipped}", reason="empty-folder")
    if series_uid:
        for series in folder.series:
            if series.series_uid == series_uid:
                return series
        raise InputRefused(
            f"the folder holds no series {shown_uid(series_uid)}; it holds {listing(folder.series)}",
            reason="no-such-series",
        )
    candidates = folder.candidates
    if len(candidates) == 1:
        return with_note(candidates[0], folder)
    if len(candidates) > 1:
        raise several_series(candidates, "one series")
    if all(s.is_localizer for s in folder.series):
        raise localizer(sum(len(s.headers) for s in folder.series))
    raise unsupported([uid for s in folder.series for uid in s.sop_classes])


def listing(series: Sequence[Series]) -> str:
    """Up to ten series in one line."""
    lines = [f"({n}) {s.line}" for n, s in enumerate(series[:10], 1)]
    return "; ".join(lines + ([f"and {len(series) - 10} more"] if len(series) > 10 else []))


def several_series(candidates: Sequence[Series], expected: str) -> InputRefused:
    """More candidates than asked for."""
    return InputRefused(
        f"the folder holds {count(len(candidates), 'series')}: {listing(candidates)}", expected, reason="several-series"
    )


def unsupported(sop_classes: Sequence[str]) -> InputRefused:
    """Objects that are not images of a volume."""
    names = sorted({uid_name(uid) for uid in sop_classes})
    return InputRefused(
        f"the series holds {', '.join(names)}",
        "CT, MR or PET images, classic or enhanced",
        "Give the series of original images.",
        reason="unsupported-sop-class",
    )


def localizer(n: int) -> InputRefused:
    """Localizer images in the place of a volume, or inside it."""
    return InputRefused(f"the series holds {count(n, 'localizer image')}", reason="localizer")


def with_note(series: Series, folder: Folder) -> Series:
    """A series that says how many others of its folder could not have been meant."""
    others = sum(not s.is_candidate and s is not series for s in folder.series)
    if not others:
        return series
    note = {"other_series": f"{count(others, 'series')} without registrable images left aside"}
    return Series(series.headers, series.files, {**series.notes, **note})
