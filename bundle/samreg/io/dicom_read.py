"""Voxels of a checked DICOM series."""

from __future__ import annotations

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels import pixel_array
from pydicom.uid import JPEGLSTransferSyntaxes, JPEGTransferSyntaxes

from samreg.errors import InputRefused
from samreg.geometry import SourceSeries, Volume
from samreg.io.dicom_check import Stack, check_series
from samreg.io.dicom_folder import Series
from samreg.io.dicom_frames import Frame
from samreg.io.dicom_headers import DAMAGE, MODALITIES, number, quiet, text, uid_name
from samreg.io.dicom_pixels import (
    refuse_incomplete,
    refuse_other_size,
    refuse_rest,
    refuse_surplus,
    refuse_torn,
    within_stored_bits,
)
from samreg.io.identifiers import objection
from samreg.io.limits import refuse_if_not_finite
from samreg.whole_data import DamagedDataError

END_OF_IMAGE = b"\xff\xd9"


def read_series(series: Series, *, as_files: bool = False) -> Volume:
    """The volume of a DICOM series.

    The modality rescale of each slice is applied; MONOCHROME1 keeps its values (no inversion for
    display), as do real world value maps (not applied).

    Args:
        series: From `find_series`.
        as_files: No DICOM object will refer to the images, so that nothing is asked of their identifiers.

    Returns:
        Volume with i along a row, j along a column, k along the slice normal (right-handed), LPS mm.
        Its `source` lists one instance and one file for each slice in order of k. An enhanced
        multi-frame series is one instance and one file; `source.frames` then holds the frame number
        of each slice. Either way `[dcmread(f) for f in source.files]` is what
        `highdicom.seg.Segmentation(source_images=...)` takes. Where nothing can refer to the images (see
        `samreg.io.identifiers`; with `as_files`), it is None like the frame of reference, and a note says why.

    Raises:
        InputRefused: As `check_series`, and `undecodable-pixels`, `contradictory-pixels`, `non-finite-voxels`.
    """
    stack = check_series(series, as_files=as_files)
    with quiet():
        voxels = _voxels(stack)
    refuse_if_not_finite(voxels)
    header = stack.frames[0].header
    frames = stack.frames[:1] if stack.is_multiframe else stack.frames
    nameless = objection(series.headers, series.files)
    source = (
        None
        if nameless
        else SourceSeries(
            header=header,
            instances=tuple((text(f.header, "SOPClassUID"), text(f.header, "SOPInstanceUID")) for f in frames),
            files=tuple(f.file for f in frames),
            frames=tuple(f.index + 1 for f in stack.frames) if stack.is_multiframe else (),
        )
    )
    modality = series.modality if series.modality in MODALITIES else None
    return Volume(
        voxels,
        stack.grid,
        name=f"{modality or 'DICOM'} series, {stack.grid.shape[2]} slices",
        modality=modality,
        frame_of_reference_uid=text(header, "FrameOfReferenceUID") if source else None,
        source=source,
        notes=_notes(stack, nameless),
    )


def _notes(stack: Stack, nameless: InputRefused | None) -> dict[str, str]:
    notes = dict(stack.series.notes)
    if nameless is not None:
        why = "images lack a UID" if nameless.reason == "no-uid" else nameless.got  # which would name a file
        notes["identifiers"] = f"no DICOM object can refer to it: {why}"
    if stack.series.modality in ("CT", "PT") and not any(f.rescaled for f in stack.frames):
        notes["rescale"] = "no Rescale Slope and Intercept, so its stored values are taken as they are"
    return notes


def _voxels(stack: Stack) -> np.ndarray:
    """float32 [i, j, k]; one file's pixels in memory at a time."""
    voxels = np.empty(stack.grid.shape, np.float32)
    whole: np.ndarray | None = None
    for k, frame in enumerate(stack.frames):
        if whole is None or not stack.is_multiframe:
            whole = _stored_values(frame, k, stack)
        # DICOM stores [row, column], and so [j, i].
        voxels[:, :, k] = (whole[frame.index].astype(np.float64) * frame.slope + frame.intercept).T
    return voxels


def _stored_values(frame: Frame, k: int, stack: Stack) -> np.ndarray:
    """Stored values of one file [frames, rows, columns]."""
    try:
        dataset = dcmread(frame.file)
        refuse_rest(dataset, frame.file)
        refuse_incomplete(dataset)
        refuse_torn(dataset)
        _refuse_truncated(dataset)
        refuse_surplus(dataset)
        refuse_other_size(dataset)
        values = within_stored_bits(pixel_array(dataset, correct_unused_bits=False), dataset)
    except DAMAGE as error:
        why = str(error) if isinstance(error, DamagedDataError) else type(error).__name__
        raise _undecodable(k, stack, why) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of a decoder written in Rust; it is no Exception
            raise
        raise _undecodable(k, stack, "the decoder failed") from error
    values = values if values.ndim == 3 else values[None]
    frames = len(stack.frames) if stack.is_multiframe else 1
    if values.shape != (frames, stack.grid.shape[1], stack.grid.shape[0]):
        raise _undecodable(k, stack, f"decoded to {values.shape}")
    return values


def _refuse_truncated(dataset: Dataset) -> None:
    """A JPEG or JPEG-LS stream cut short decodes without an error, its end filled with rubbish.

    The other decoders notice by themselves.
    """
    if dataset.file_meta.TransferSyntaxUID not in (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes):
        return
    frames = int(number(dataset, "NumberOfFrames") or 1)
    for stream in generate_frames(dataset.PixelData, number_of_frames=frames):
        if not stream.rstrip(b"\x00").endswith(END_OF_IMAGE):
            raise DamagedDataError("a compressed image has no end")


def _undecodable(k: int, stack: Stack, why: str) -> InputRefused:
    total = stack.grid.shape[2]
    syntax = text(stack.frames[k].header.file_meta, "TransferSyntaxUID")
    name = uid_name(syntax) if syntax else "unknown"
    which = "the object" if stack.is_multiframe else f"slice {k + 1} of {total}"
    file = stack.frames[k].file.name
    return InputRefused(
        f"the pixels of {which} ('{file}') cannot be decoded ({name}: {why})", reason="undecodable-pixels"
    )
