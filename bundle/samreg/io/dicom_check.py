"""Is a DICOM series one regular volume? From headers alone, and never by guessing.

highdicom's own check (`get_volume_positions`) has the last word; the checks before it are
stricter where its tolerances are wide (it lets a stack lean by 2.5 degrees), and say what is wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from samreg.errors import InputRefused
from samreg.geometry import Grid
from samreg.io.arrays import MIN_SPACING_MM
from samreg.io.dicom_folder import MULTIFRAME, SUPPORTED, Series, count, is_localizer, localizer, unsupported
from samreg.io.dicom_frames import VARIANTS, Frame, frames_of
from samreg.io.dicom_headers import number, numbers, quiet, text, uid_name
from samreg.io.dicom_values import bits_agree, check_one_contrast, check_values_alike, mixed
from samreg.io.identifiers import frameless, invalid, missing, repeated
from samreg.io.limits import refuse_if_too_large
from samreg.io.patient import Patient
from samreg.refusals.series import CONVERT, EXPORT_AGAIN

# Two slices cannot show that they are evenly spaced.
MIN_SLICES = 3
# Scanners round positions to 0.1 mm or finer, and direction cosines to four digits or more.
POSITION_TOLERANCE_MM = 0.1
POSITION_TOLERANCE_SPACINGS = 0.1
ORIENTATION_TOLERANCE = 5e-4
SPACING_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Stack:
    """A series that is one regular volume.

    Attributes:
        series: Its files.
        frames: Its slices in order of index k.
        grid: i along a row (to the next column), j along a column (to the next row), k along the
            slice normal i x j, so that the axes are right-handed.
    """

    series: Series
    frames: tuple[Frame, ...]
    grid: Grid

    @property
    def is_multiframe(self) -> bool:
        """True for one enhanced object, False for one object per slice."""
        return text(self.frames[0].header, "SOPClassUID") in MULTIFRAME


def check_series(series: Series, *, as_files: bool = False) -> Stack:
    """The slices of a series in order, or the reason why it cannot be registered.

    Args:
        series: From `find_series`.
        as_files: No DICOM object will refer to the images, so that nothing is asked of their identifiers.

    Returns:
        The frames in order along the slice normal, and the grid in LPS mm that they fill.

    Raises:
        InputRefused: With one of the reasons `unsupported-sop-class`, `localizer`, `concatenation`,
            `several-multiframe`, `mixed-sop-class`, `mixed-series`, `mixed-study`, `mixed-patient`,
            `mixed-frame-of-reference`, `ambiguous-frames`, `no-position`, `no-spacing`, `no-matrix`, `mixed-matrix`,
            `mixed-orientation`, `bad-orientation`, `not-greyscale`, `bad-rescale`, `mixed-rescale`,
            `contradictory-pixels`, `size-limit`, `4d`, `duplicate-slices`, `mixed-contrast`, `too-few-slices`,
            `gantry-tilt`, `missing-slices`, `uneven-spacing`; unless `as_files`, also `no-uid`,
            `no-frame-of-reference`, `bad-uid`, `duplicate-uid`.
    """
    with quiet():
        if not as_files:
            _raise(missing(series.headers, series.files))
        _check_objects(series)
        if not as_files:
            _raise(frameless(series.headers) or invalid(series.headers))
        frames = frames_of(series)
        _check_complete(frames)
        _check_alike(frames)
        first = frames[0].header
        rows, columns = int(number(first, "Rows") or 0), int(number(first, "Columns") or 0)
        refuse_if_too_large((columns, rows, len(frames)))
        normal = _normal(frames[0])
        frames.sort(key=lambda f: float(f.position @ normal))  # type: ignore[operator]
        _check_repeats(frames, normal)
        check_one_contrast(frames)
        _check_instance_numbers(series)
        _check_count(frames)
        _check_tilt(frames, normal)
        spacing = _check_spacing(frames, normal)
        _check_with_highdicom(frames)
        if not as_files:
            _raise(repeated(series.headers))
    return Stack(series, tuple(frames), _grid(frames, columns, rows, normal, spacing))


def _check_objects(series: Series) -> None:
    headers = series.headers
    if any(uid not in SUPPORTED for uid in series.sop_classes):
        raise unsupported([uid for uid in series.sop_classes if uid not in SUPPORTED])
    localizers = sum(is_localizer(h) for h in headers)
    if localizers:
        raise localizer(localizers)
    _check_concatenation(series)
    _check_one_series(series)
    if len(headers) > 1 and any(uid in MULTIFRAME for uid in series.sop_classes):
        raise InputRefused(
            f"the series holds {len(headers)} objects, some of them multi-frame", reason="several-multiframe"
        )
    if len(series.sop_classes) > 1:
        names = " and ".join(uid_name(uid) for uid in series.sop_classes)
        raise mixed("mixed-sop-class", names)
    if any(text(h, "StudyInstanceUID") != text(headers[0], "StudyInstanceUID") for h in headers):
        raise InputRefused("the images of the series are from several studies", reason="mixed-study")
    if any(Patient.of(h) != Patient.of(headers[0]) for h in headers[1:]):
        raise InputRefused("the images of the series name several patients", reason="mixed-patient")


def _check_one_series(series: Series) -> None:
    """Two series under one identifier, or none, may lie between each other like one with stripes."""
    for keyword, what in (("Modality", "modalities"), ("SeriesNumber", "series numbers")):
        values = {text(h, keyword) for h in series.headers} - {""}
        if len(values) > 1:
            raise mixed("mixed-series", f"images of {len(values)} {what}")


def _check_concatenation(series: Series) -> None:
    """One object may be stored in parts (PS3.3 C.7.6.16.2.2.4), each of which looks whole."""
    marks = ("ConcatenationUID", "InConcatenationNumber", "SOPInstanceUIDOfConcatenationSource")
    parts = [h for h in series.headers if any(text(h, m) for m in marks) or number(h, "ConcatenationFrameOffsetNumber")]
    if not parts or all(number(h, "InConcatenationTotalNumber") == 1 for h in parts):
        return
    total = number(parts[0], "InConcatenationTotalNumber")
    raise InputRefused(
        f"the series holds {count(len(parts), 'part')} of a concatenation of {f'{total:.0f}' if total else 'unknown'} "
        f"{'parts' if total else 'size'}",
        reason="concatenation",
    )


def _check_complete(frames: Sequence[Frame]) -> None:
    if not frames:
        raise InputRefused(
            "the multi-frame object describes no frames",
            "a functional group for each frame",
            EXPORT_AGAIN,
            reason="no-position",
        )
    _refuse_without(frames, lambda f: f.position is not None, "no-position", "position (ImagePositionPatient)")
    _refuse_without(frames, lambda f: f.orientation is not None, "no-position", "orientation (ImageOrientationPatient)")
    _refuse_without(
        frames,
        lambda f: f.spacing is not None and (f.spacing > MIN_SPACING_MM).all(),
        "no-spacing",
        "pixel spacing (PixelSpacing)",
    )
    _refuse_without(
        frames, lambda f: (number(f.header, "Rows") or 0) >= 1 and (number(f.header, "Columns") or 0) >= 1,
        "no-matrix", "matrix (Rows, Columns)",
    )  # fmt: skip
    _refuse_without(
        frames, lambda f: text(f.header, "PhotometricInterpretation") in ("MONOCHROME1", "MONOCHROME2"),
        "not-greyscale", "greyscale pixels",
    )  # fmt: skip
    _refuse_without(
        frames, lambda f: np.isfinite([f.slope, f.intercept]).all() and f.slope != 0 and not _has_lut(f),
        "bad-rescale", "linear rescale of its values (Rescale Slope and Intercept)",
    )  # fmt: skip
    _refuse_odd_bits(frames)


def _has_lut(frame: Frame) -> bool:
    return "ModalityLUTSequence" in frame.header


def _refuse_without(frames: Sequence[Frame], has: Callable[[Frame], object], reason: str, what: str) -> None:
    lacking = sum(not has(f) for f in frames)
    if lacking:
        raise InputRefused(
            f"a valid {what} is missing in {lacking} of {count(len(frames), 'image')}",
            "a valid one in each image",
            CONVERT,
            reason=reason,
        )


def _refuse_odd_bits(frames: Sequence[Frame]) -> None:
    odd = [f.header for f in frames if not bits_agree(f)]
    if odd:
        high, stored = number(odd[0], "HighBit"), number(odd[0], "BitsStored")
        raise InputRefused(
            f"High Bit is {high:g} and Bits Stored is {stored:g} in {len(odd)} of {count(len(frames), 'image')}",
            "a High Bit one less than Bits Stored",
            reason="contradictory-pixels",
        )


def _check_alike(frames: Sequence[Frame]) -> None:
    uids = {text(f.header, "FrameOfReferenceUID") for f in frames}
    if len(uids) > 1:
        raise mixed("mixed-frame-of-reference", f"{len(uids)} frames of reference")
    sizes = sorted({(int(number(f.header, "Columns") or 0), int(number(f.header, "Rows") or 0)) for f in frames})
    if len(sizes) > 1:
        raise mixed("mixed-matrix", f"images of {' and '.join(f'{c}x{r}' for c, r in sizes)} pixels", "one matrix size")
    spacings = np.array([f.spacing for f in frames])
    if (np.ptp(spacings, axis=0) > SPACING_TOLERANCE * spacings.min(0)).any():
        low, high = spacings.min(), spacings.max()
        raise mixed("mixed-matrix", f"pixel spacings from {low:g} to {high:g} mm", "one pixel spacing")
    if len({text(f.header, "PhotometricInterpretation") for f in frames}) > 1:
        raise mixed("mixed-matrix", "MONOCHROME1 and MONOCHROME2 images", "one photometric interpretation")
    check_values_alike(frames)
    orientations = np.array([f.orientation for f in frames]).reshape(-1, 2, 3)
    off = np.abs(orientations @ orientations.transpose(0, 2, 1) - np.eye(2)).max()
    if off > ORIENTATION_TOLERANCE:
        raise InputRefused(
            f"the image orientation is not two perpendicular unit vectors (off by {off:.2g})",
            f"at most {ORIENTATION_TOLERANCE:g}",
            reason="bad-orientation",
        )
    spread = np.ptp(orientations, axis=0).max()
    if spread > ORIENTATION_TOLERANCE:
        groups = len({tuple(np.round(o, 2).ravel() + 0.0) for o in orientations})
        raise mixed("mixed-orientation", f"slices in {max(2, groups)} orientations")


def _raise(refusal: InputRefused | None) -> None:
    if refusal is not None:
        raise refusal


def _check_repeats(frames: Sequence[Frame], normal: np.ndarray) -> None:
    """Several slices at one place: a 4D series if something tells them apart, else copies."""
    along = _along(frames, normal)
    steps = np.diff(along)
    tolerance = POSITION_TOLERANCE_SPACINGS * (float(np.median(steps[steps > 1e-3])) if (steps > 1e-3).any() else 1.0)
    place = np.concatenate([[0], np.cumsum(steps > min(tolerance, POSITION_TOLERANCE_MM))])
    repeats = Counter(place.tolist())
    repeated = [p for p, n in repeats.items() if n > 1]
    if not repeated:
        return
    groups = [[f for f, q in zip(frames, place, strict=True) if q == p] for p in repeated]
    copies = any(len({f.uid for f in group}) < len(group) for group in groups)
    names = sorted({name for group in groups for name in _differences(group)})
    if not copies and names and 2 * len(repeated) >= len(repeats):
        raise InputRefused(
            f"the series holds {max(repeats.values())} images at the same place, "
            f"which differ in {', '.join(names)} (4D)",
            "one volume",
            "Export one time point, b-value, echo or phase as its own series.",
            reason="4d",
        )
    raise InputRefused(
        f"{count(len(repeated), 'slice position')} of {len(repeats)} hold more than one image",
        reason="duplicate-slices",
    )


def _differences(group: Sequence[Frame]) -> set[str]:
    """Names of what differs between slices at one place."""
    return {name for key, name in VARIANTS.items() if len({f.variants.get(key, "") for f in group}) > 1}


def _check_instance_numbers(series: Series) -> None:
    """Two series under one identifier whose slices lie between each other count their images twice.

    One number in all images says nothing; nor does a number that only some of them state.
    """
    stated = [number(h, "InstanceNumber") for h in series.headers]
    values = set(stated)
    if None not in values and 1 < len(values) <= (len(stated) + 1) // 2:  # one of the two may have a slice more
        raise InputRefused(
            f"{len(stated)} images of the series share {len(values)} instance numbers (InstanceNumber), as two series "
            "between each other do",
            reason="mixed-series",
        )


def _check_count(frames: Sequence[Frame]) -> None:
    if len(frames) < MIN_SLICES:
        raise InputRefused(
            f"the series holds {count(len(frames), 'slice')}",
            f"a volume of at least {MIN_SLICES} slices",
            reason="too-few-slices",
        )


def _check_tilt(frames: Sequence[Frame], normal: np.ndarray) -> None:
    """The stack must run along its normal: no shear, no slice shifted within its plane."""
    positions = np.array([f.position for f in frames])
    in_plane = positions - positions[0] - np.outer((positions - positions[0]) @ normal, normal)
    shift = float(np.linalg.norm(in_plane, axis=1).max())
    run = float(np.ptp(positions @ normal))
    # A rounded orientation leans a long stack by more than a position's rounding.
    if shift > POSITION_TOLERANCE_MM + 1e-4 * run:
        degrees = np.degrees(np.arctan2(shift, max(run, 1e-6)))
        raise _tilted(
            f"the stack leans by {degrees:.1f} degrees (slices shifted by up to {shift:.2f} mm in their plane)"
        )
    tilts = [number(f.header, "GantryDetectorTilt") or 0.0 for f in frames]
    tilt = max(tilts, key=abs)
    if abs(tilt) > 0.5 and abs(normal[2]) > 1 - 1e-6:
        raise _tilted(f"the header states a gantry tilt of {tilt:g} degrees, which the slice orientation does not show")


def _tilted(got: str) -> InputRefused:
    return InputRefused(got, reason="gantry-tilt")


def _check_spacing(frames: Sequence[Frame], normal: np.ndarray) -> float:
    """Distance between slices in mm."""
    along = _along(frames, normal)
    steps = np.diff(along)
    spacing = float(along[-1] - along[0]) / (len(along) - 1)
    ramp = along[0] + spacing * np.arange(len(along))
    tolerance = min(POSITION_TOLERANCE_MM, POSITION_TOLERANCE_SPACINGS * spacing)
    if np.abs(along - ramp).max() > tolerance:
        # Most steps are whole: the median is one slice, and gaps are multiples of it.
        one = float(np.median(steps))
        one = float(steps.min()) if one > 1.5 * steps.min() else one
        multiples = np.round(steps / one)
        if multiples.max() > 1 and np.abs(steps - multiples * one).max() <= POSITION_TOLERANCE_SPACINGS * one:
            raise _missing(int((multiples - 1).sum()), one)
        raise InputRefused(
            f"the distance between slices varies from {steps.min():.3g} to {steps.max():.3g} mm",
            reason="uneven-spacing",
        )
    declared = numbers(frames[0].header, "SpacingBetweenSlices")
    if declared is not None and declared[0] > 0:
        multiple = spacing / float(declared[0])
        if multiple > 1.5 and abs(multiple - round(multiple)) < 0.05:
            raise _missing((round(multiple) - 1) * (len(frames) - 1), float(declared[0]))
    return spacing


def _missing(n: int, spacing: float) -> InputRefused:
    return InputRefused(
        f"the stack with {spacing:.3g} mm between slices lacks {count(n, 'slice')}", reason="missing-slices"
    )


def _check_with_highdicom(frames: Sequence[Frame]) -> None:
    from highdicom.spatial import get_volume_positions

    spacing, _ = get_volume_positions(
        [f.position for f in frames],  # type: ignore[misc]
        frames[0].orientation,  # type: ignore[arg-type]
        atol=2 * POSITION_TOLERANCE_MM,
    )
    if spacing is None:
        raise InputRefused(
            "the slices do not form a regular volume",
            "evenly spaced slices along their normal",
            EXPORT_AGAIN,
            reason="uneven-spacing",
        )


def _along(frames: Sequence[Frame], normal: np.ndarray) -> np.ndarray:
    """Position of each slice along the normal [n] in mm."""
    return np.array([f.position for f in frames]) @ normal


def _normal(frame: Frame) -> np.ndarray:
    row, column = np.asarray(frame.orientation).reshape(2, 3)
    normal = np.cross(row, column)
    return normal / np.linalg.norm(normal)


def _grid(frames: Sequence[Frame], columns: int, rows: int, normal: np.ndarray, spacing: float) -> Grid:
    row = np.asarray(frames[0].orientation)[:3]
    row = row / np.linalg.norm(row)
    # PixelSpacing: first between rows (along a column), then between columns (along a row).
    between_rows, between_columns = np.asarray(frames[0].spacing)
    # The column is made exactly perpendicular: headers round it.
    direction = np.stack([row, np.cross(normal, row), normal], axis=1)
    return Grid.from_axes(
        (columns, rows, len(frames)),
        (between_columns, between_rows, spacing),
        np.asarray(frames[0].position).tolist(),
        direction,
    )
