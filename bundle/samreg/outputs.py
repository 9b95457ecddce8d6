"""What a run leaves: files of transforms, images, regions, DICOM objects and reports."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from samreg.config import QualityConfig
from samreg.errors import SamregError, UsageError
from samreg.output_folder import DICOM_FILES, PART, RESULT_FILES, OutputFolder
from samreg.prompted import Located
from samreg.result import RegistrationResult
from samreg.threads import in_parallel

log = logging.getLogger(__name__)


def write_outputs(result: RegistrationResult, out: Path) -> dict[str, Any]:
    """Write every file of a result (see `docs/reference.md`) into a folder, whole or not at all.

    Args:
        result: What `samreg.register` returned.
        out: Created, or replaced if it holds earlier results.

    Returns:
        The contents of `report.json`.

    Raises:
        UsageError: The folder holds other files or cannot be written.
        OutputInvalid: A DICOM object does not reproduce the transform when read back.
    """
    with OutputFolder(out) as output:
        report = write_files(result, output.folder)
        output.commit()
    return report


def write_files(result: RegistrationResult, folder: Path) -> dict[str, Any]:
    """Write every file of a result into an existing folder; the contents of `report.json` come back."""
    started = perf_counter()
    warped = write_images(result, folder)
    objects, notes = write_dicom(result, folder)
    timed = replace(result, timings_s={**result.timings_s, "write": perf_counter() - started})
    return write_reports(timed, warped, objects, notes, folder)


def flatten(folder: Path) -> list[Path]:
    """Copy the DICOM objects of a folder of results to its top, for platforms that send only what they find there.

    `dicom/NAME.dcm` becomes `NAME.dcm`, and `moving-N/dicom/NAME.dcm` becomes `moving-N-NAME.dcm`.

    Args:
        folder: Holds all results of a run, verified.

    Returns:
        The copies, in order of their names.
    """
    parts = [(f"{part.name}-", part) for part in folder.iterdir() if PART.fullmatch(part.name)]
    copies = []
    for prefix, place in [("", folder), *parts]:
        for file in (place / "dicom" / name for name in DICOM_FILES):
            if file.is_file():
                copy = folder / f"{prefix}{file.name}"
                part = copy.with_name(f"{copy.name}.part")
                shutil.copyfile(file, part)
                part.replace(copy)
                copies.append(copy)
    return sorted(copies)


def write_images(result: RegistrationResult, folder: Path) -> np.ndarray:
    """Write the transforms, the warped image, the pairs and their label maps.

    Returns:
        The moving image on the fixed grid, float32 [i, j, k].
    """
    from samreg.io.writing import writable_grid, write_image, write_labels
    from samreg.report import write_json
    from samreg.transforms.files import write_transform

    warped = result.warped().voxels

    def write_warped() -> None:
        path = folder / "warped.nii.gz"
        grid = writable_grid(result.fixed.grid, path)
        on_it = warped if grid is result.fixed.grid else result.warped(grid).voxels
        write_image(on_it, grid, path)

    def write_transforms() -> None:  # one after the other: HDF5 may not be called from two threads
        write_transform(result.transform, folder / "transform.h5")
        write_transform(result.inverse, folder / "inverse.h5")

    files: list[Callable[[], object]] = [
        write_warped,
        write_transforms,
        lambda: write_labels(result.pairs.label_map("fixed")[0], result.fixed.grid, folder / "rois_fixed.nii.gz"),
        lambda: write_labels(result.pairs.label_map("moving")[0], result.moving.grid, folder / "rois_moving.nii.gz"),
        lambda: write_json(result.pairs.as_json(), folder / "pairs.json"),
    ]
    in_parallel(lambda write: write(), files)  # most of the time goes into compressing them
    return warped


def write_dicom(result: RegistrationResult, folder: Path) -> tuple[dict[str, str], list[str]]:
    """Write the DICOM objects that this input allows into `folder/dicom`.

    A result that failed its gate gets segmentations alone: a registration object would be used.

    Returns:
        What was written, {"reg": "dicom/reg.dcm", ...}, and a sentence for each object left out. Nothing is written
        for a configuration with `as_files`, or for images that are not both of a DICOM series.

    Raises:
        UsageError: There is a folder `dicom` already.
        OutputInvalid: An object does not reproduce the transform when read back.
    """
    if result.config.as_files:
        note = "No DICOM objects: registered as files (as_files)."
        log.warning("%s", note)
        return {}, [note]
    if result.fixed.source is None or result.moving.source is None:
        return {}, ["No DICOM objects: the input is not a pair of DICOM series."]
    from samreg.dicom_out import write_objects

    try:
        (folder / "dicom").mkdir()
    except FileExistsError as error:
        # Objects of two results must not stand side by side.
        raise UsageError(f"'{folder / 'dicom'}' is there already", "a folder without DICOM objects") from error
    written = write_objects(result, folder / "dicom", registration=result.quality.status != "FAIL")
    return {name: path.relative_to(folder).as_posix() for name, path in written.files.items()}, list(written.notes)


def write_reports(
    result: RegistrationResult, warped: np.ndarray, objects: Mapping[str, str], notes: Iterable[str], folder: Path
) -> dict[str, Any]:
    """Write `report.json` and `report.html`, the last files of a result.

    Args:
        warped: The moving image on the fixed grid, [i, j, k].
        objects: DICOM objects written, by name.
        notes: Sentences for the reader.

    Returns:
        The contents of `report.json`.
    """
    from samreg.report import report_json, write_json, write_report

    files = {name.split(".")[0]: name for name in RESULT_FILES if not name.startswith("report.")}
    warnings = [*loosened(result.config.quality), *_set_upright(result), *notes]
    report = report_json(result, objects={**files, **objects, "report": "report.html"}, warnings=warnings)
    write_report(result, warped, folder / "report.html", report=report)
    write_json(report, folder / "report.json")
    return report


def write_located(located: Located, folder: Path) -> None:
    """Write the answer to a prompt into an existing folder: `locate.json` and a label map of each image."""
    from samreg.io.writing import write_labels
    from samreg.report import write_json

    fixed, moving = located.label_maps()
    write_labels(fixed, located.fixed_grid, folder / "roi_fixed.nii.gz")
    write_labels(moving, located.moving_grid, folder / "roi_moving.nii.gz")
    write_json(located.as_dict(), folder / "locate.json")


def _set_upright(result: RegistrationResult) -> list[str]:
    """A sentence for each image whose outputs lie on another grid than its own, since that is sheared."""
    sides = (
        ("fixed", result.fixed.grid, "warped.nii.gz and rois_fixed.nii.gz lie"),
        ("moving", result.moving.grid, "rois_moving.nii.gz lies"),
    )
    return [
        f"The voxel axes of the {side} image are not perpendicular, which not every reader of NIfTI obeys: {files} on "
        f"the upright grid that covers its field of view."
        for side, grid, files in sides
        if grid.is_sheared
    ]


def loosened(quality: QualityConfig) -> list[str]:
    """A sentence that names the quality limits laxer than the default ones; none if there are none."""
    default = QualityConfig()
    lax = []
    for name in (f.name for f in fields(quality)):
        value, usual = getattr(quality, name), getattr(default, name)
        if (value < usual) if name.startswith("min_") else (value > usual):
            lax.append(f"{name} {value:g} instead of {usual:g}")
    return [f"The quality limits were loosened: {', '.join(lax)}."] if lax else []


def refusal_file(error: SamregError, folder: Path, **context: Any) -> dict[str, Any]:
    """Write `report.json` with the reason into an existing folder; its contents come back."""
    from samreg.report import refusal_json, write_json

    report = refusal_json(error, **context)
    write_json(report, folder / "report.json")
    return report
