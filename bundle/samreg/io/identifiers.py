"""Whether DICOM objects can refer to a series: each identifier is there, is a UID, and no two images share one.

No message repeats a value: what stands in the place of a UID may be a name.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from pydicom.dataset import Dataset

from samreg.errors import InputRefused
from samreg.io.dicom_headers import text

# PS3.5 9.1, but for leading zeros of a component. Scanners and archives in use write them, every reader takes them as
# they stand, and an object must name the images by the UIDs that they have.
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_MAX_LENGTH = 64

KEYWORDS = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")


def is_uid(value: str) -> bool:
    """True for at most 64 characters of digits in components, at least two, divided by dots."""
    return len(value) <= _MAX_LENGTH and _UID.fullmatch(value) is not None


def objection(headers: tuple[Dataset, ...], files: tuple[Path, ...]) -> InputRefused | None:
    """Why DICOM objects cannot refer to the images with these headers; None if they can.

    Returns:
        A refusal with reason `no-uid`, `no-frame-of-reference`, `bad-uid` or `duplicate-uid`.
    """
    return missing(headers, files) or frameless(headers) or invalid(headers) or repeated(headers)


def missing(headers: tuple[Dataset, ...], files: tuple[Path, ...]) -> InputRefused | None:
    """`no-uid`: an image that says not what it is."""
    for header, file in zip(headers, files, strict=True):
        for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
            if not text(header, keyword):
                return no_uid(file, keyword)
    return None


def no_uid(path: Path, keyword: str) -> InputRefused:
    """An image that DICOM objects cannot refer to."""
    return InputRefused(
        f"'{path.name}' has no {keyword}",
        f"a {keyword} in each image, so that DICOM objects can refer to it",
        reason="no-uid",
    )


def frameless(headers: tuple[Dataset, ...]) -> InputRefused | None:
    """`no-frame-of-reference`: positions that a registration object cannot name the space of."""
    lacking = sum(not text(h, "FrameOfReferenceUID") for h in headers)
    if not lacking:
        return None
    return InputRefused(
        f"the frame of reference (FrameOfReferenceUID) is missing in {lacking} of {_images(len(headers))}",
        reason="no-frame-of-reference",
    )


def invalid(headers: tuple[Dataset, ...]) -> InputRefused | None:
    """`bad-uid`: words, or more characters than a UID may have."""
    for keyword in KEYWORDS:
        values = [text(h, keyword) for h in headers]
        wrong = [value for value in values if value and not is_uid(value)]
        if wrong:
            return InputRefused(
                f"the {keyword} of {len(wrong)} of {_images(len(headers))} is no UID "
                f"({max(map(len, wrong))} characters)",
                f"digits and dots, at most {_MAX_LENGTH} characters (PS3.5 9.1), so that DICOM objects can refer to it",
                reason="bad-uid",
            )
    return None


def repeated(headers: tuple[Dataset, ...]) -> InputRefused | None:
    """`duplicate-uid`: images that a reference cannot tell apart."""
    uses = Counter(text(h, "SOPInstanceUID") for h in headers)
    shared = sum(n for uid, n in uses.items() if uid and n > 1)
    if not shared:
        return None
    return InputRefused(
        f"{shared} of {_images(len(headers))} have the SOPInstanceUID of another one", reason="duplicate-uid"
    )


def _images(n: int) -> str:
    return "1 image" if n == 1 else f"{n} images"
