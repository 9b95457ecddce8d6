"""The writers of a result: transforms, images, regions, DICOM objects and reports."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from time import perf_counter
from typing import Any

import numpy as np

from samreg import artefacts
from samreg.config import QualityConfig
from samreg.counterparts import Located
from samreg.errors import SamregError, UsageError
from samreg.geometry import Volume
from samreg.io.writing import writable_grid, write_image, write_labels
from samreg.output_folder import OutputFolder
from samreg.result import RegistrationResult
from samreg.threads import in_parallel
from samreg.transforms.files import write_transform
from samreg.whole_files import whole_file

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
    parts = [(f"{part.name}-", part) for part in folder.iterdir() if artefacts.is_part(part.name)]
    copies = []
    for prefix, place in [("", folder), *parts]:
        for row in artefacts.of_step("dicom"):
            if (place / row.path).is_file():
                copy = folder / f"{prefix}{row.name}"
                with whole_file(copy, called=f"{copy.name}.part") as part:
                    shutil.copyfile(place / row.path, part)
                copies.append(copy)
    return sorted(copies)


@dataclass(frozen=True, eq=False)
class Images:
    """What the writers of transforms and images of one result share.

    Attributes:
        warped: The moving image on the fixed grid.
    """

    result: RegistrationResult
    warped: Volume


def write_images(result: RegistrationResult, folder: Path) -> np.ndarray:
    """Write the transforms, the warped image, the pairs and their label maps.

    Returns:
        The moving image on the fixed grid, float32 [i, j, k].
    """
    images = Images(result, result.warped())
    rows = [row for row in artefacts.of_step("images") if row.unmet(result) is None]
    in_parallel(lambda row: row.write(images, folder / row.path), rows)  # most of the time goes into compressing them
    return images.warped.voxels


_HDF5 = Lock()  # it may not be called from two threads


def write_forward(images: Images, path: Path) -> None:
    """The transform, fixed points to moving points."""
    with _HDF5:
        write_transform(images.result.transform, path)


def write_inverse(images: Images, path: Path) -> None:
    """The inverse, moving points to fixed points."""
    with _HDF5:
        write_transform(images.result.inverse, path)


def write_warped(images: Images, path: Path) -> None:
    """The moving image on the fixed grid, or the upright one where its own cannot be written."""
    own = images.warped.grid
    grid = writable_grid(own, path)
    warped = images.warped if grid is own else images.result.warped(grid)
    write_image(warped.voxels, grid, path)


def write_pairs(images: Images, path: Path) -> None:
    """What each pair is, and what their confidences were fitted on (None: not calibrated; of given labels nothing)."""
    from samreg.report import write_json

    key = "confidences_fitted_on"
    provenance = images.result.provenance
    fitted_on = {key: provenance[key]} if key in provenance else {}
    write_json({**fitted_on, **images.result.pairs.as_json()}, path)


def write_fixed_rois(images: Images, path: Path) -> None:
    """The paired regions of the fixed image."""
    write_labels(images.result.pairs.label_map("fixed")[0], images.result.fixed.grid, path)


def write_moving_rois(images: Images, path: Path) -> None:
    """The paired regions of the moving image."""
    write_labels(images.result.pairs.label_map("moving")[0], images.result.moving.grid, path)


def write_dicom(result: RegistrationResult, folder: Path) -> tuple[dict[str, str], list[str]]:
    """Write the DICOM objects that this input allows.

    A result that failed its gate gets segmentations alone: a registration object would be used.

    Returns:
        What was written, {"reg": "dicom/reg.dcm", ...}, and a sentence for each object left out. Nothing is written
        for a configuration with `as_files`, or for images that are not both of a DICOM series.

    Raises:
        UsageError: There is a folder `dicom` already.
        OutputInvalid: An object does not reproduce the transform when read back.
    """
    if unmet := next((condition for condition in artefacts.OBJECTS if not condition.holds(result)), None):
        if result.config.as_files:
            log.warning("%s", unmet.otherwise)
        return {}, [unmet.otherwise]
    from samreg.dicom_out import write_objects

    try:
        (folder / artefacts.DICOM).mkdir()
    except FileExistsError as error:
        # Objects of two results must not stand side by side.
        raise UsageError(f"'{folder / artefacts.DICOM}' is there already", "a folder without DICOM objects") from error
    written = write_objects(result, folder / artefacts.DICOM)
    return {name: path.relative_to(folder).as_posix() for name, path in written.files.items()}, list(written.notes)


@dataclass(frozen=True, eq=False)
class Page:
    """What the writer of the page needs.

    Attributes:
        warped: The moving image on the fixed grid, [i, j, k].
        report: The contents of `report.json`.
    """

    result: RegistrationResult
    warped: np.ndarray
    report: Mapping[str, Any]


def write_reports(
    result: RegistrationResult, warped: np.ndarray, objects: Mapping[str, str], notes: Iterable[str], folder: Path
) -> dict[str, Any]:
    """Write the report for machines and the one for readers, the last files of a result.

    Args:
        warped: The moving image on the fixed grid, [i, j, k].
        objects: DICOM objects written, by name.
        notes: Sentences for the reader.

    Returns:
        The contents of `report.json`.
    """
    from samreg.report import report_json

    images, pages = artefacts.of_step("images"), artefacts.of_step("report")
    left_out = [unmet.otherwise for row in images if (unmet := row.unmet(result)) and unmet.otherwise]
    files = {row.key: row.path for row in images if row.unmet(result) is None}
    report = report_json(
        result,
        objects={**files, **objects, **{row.key: row.path for row in pages if row.listed}},
        warnings=[*loosened(result.config.quality), *_set_upright(result), *dict.fromkeys(left_out), *notes],
    )
    for row in pages:
        if not row.document:
            row.write(Page(result, warped, report), folder / row.path)
    artefacts.write_document("record", report, folder)
    return report


def write_page(page: Page, path: Path) -> None:
    """The report for a reader."""
    from samreg.report import write_report

    write_report(page.result, page.warped, path, report=page.report)


def write_located(located: Located, folder: Path) -> None:
    """Write the answer to a prompt into an existing folder: a label map of each image, and what was found."""
    for row in artefacts.OF_LOCATE.values():
        row.write(located, folder / row.path)


def write_fixed_roi(located: Located, path: Path) -> None:
    """The region that the prompt means."""
    write_labels(located.label_maps()[0], located.fixed_grid, path)


def write_moving_roi(located: Located, path: Path) -> None:
    """Its counterpart and the runner-up."""
    write_labels(located.label_maps()[1], located.moving_grid, path)


def write_answer(located: Located, path: Path) -> None:
    """What was found."""
    from samreg.report import write_json

    write_json(located.as_dict(), path)


def _set_upright(result: RegistrationResult) -> list[str]:
    """A sentence for each image whose outputs lie on another grid than its own, since that is sheared."""
    sentences = []
    for role, grid in (("fixed", result.fixed.grid), ("moving", result.moving.grid)):
        if grid.is_sheared:
            names = [row.path for row in artefacts.of_step("images") if row.grid == role and row.unmet(result) is None]
            files = f"{' and '.join(names)} {'lies' if len(names) == 1 else 'lie'}"
            sentences.append(
                f"The voxel axes of the {role} image are not perpendicular, and not every reader of NIfTI supports "
                f"that. {files} on the perpendicular grid that covers its field of view."
            )
    return sentences


def loosened(quality: QualityConfig) -> list[str]:
    """A sentence that names the quality limits laxer than the default ones; none if there are none."""
    default = QualityConfig()
    lax = []
    for name in QualityConfig.model_fields:
        value, usual = getattr(quality, name), getattr(default, name)
        if (value < usual) if name.startswith("min_") else (value > usual):
            lax.append(f"{name} {value:g} instead of {usual:g}")
    return [f"These quality limits are laxer than the default ones: {', '.join(lax)}."] if lax else []


def refusal_file(error: SamregError, folder: Path, **context: Any) -> dict[str, Any]:
    """Write `report.json` with the reason into an existing folder; its contents come back."""
    from samreg.report import refusal_json

    report = refusal_json(error, **context)
    artefacts.write_document("record", report, folder)
    return report
