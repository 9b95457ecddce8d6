"""Every file that samreg leaves, and when."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samreg.artefacts.row import Artefact, Condition, Step

if TYPE_CHECKING:
    from samreg.result import RegistrationResult

DICOM = "dicom"  # the sub-folder of the objects


def _from_two_series(result: RegistrationResult) -> bool:
    return result.fixed.source is not None and result.moving.source is not None


def _same_frame(result: RegistrationResult) -> bool:
    fixed, moving = result.fixed.source, result.moving.source
    if fixed is None or moving is None:
        return False
    return bool(fixed.header.FrameOfReferenceUID == moving.header.FrameOfReferenceUID)


# Every DICOM object asks for these.
OBJECTS = (
    Condition(
        "`as_files` is not set",
        lambda result: not result.config.as_files,
        "No DICOM objects are written, because `as_files` is set.",
    ),
    Condition(
        "both images are DICOM series",
        _from_two_series,
        "No DICOM objects are written, because the input is not a pair of DICOM series.",
    ),
)
PAIRED = Condition(
    "regions were paired", lambda result: len(result.pairs) > 0, "No SEG is written, because no regions were paired."
)
# A registration object of a result that failed its gate would be used; an identity within one frame says nothing.
REGISTRATIONS = (
    Condition(
        "the quality gate did not fail",
        lambda result: result.quality.status != "FAIL",
        "No REG and no DREG are written, because the registration failed its quality gate.",
    ),
    Condition(
        "the transform is not the identity within one frame of reference",
        lambda result: not (result.kind == "identity" and _same_frame(result)),
        "No REG and no DREG are written, because the images are already aligned in their common frame of reference.",
    ),
)
TWO_FRAMES = Condition(
    "the frames of reference differ",
    lambda result: not _same_frame(result),
    "No REG is written, because both series have the same frame of reference and a REG relates different ones.",
)
NEEDS_A_GRID = Condition(
    "the transform is deformable or the frames of reference are the same",
    lambda result: result.kind == "deformable" or _same_frame(result),
)


def _table(*rows: Artefact) -> dict[str, Artefact]:
    return {row.key: row for row in rows}


OF_REGISTER = _table(
    Artefact(
        "transform",
        "transform.h5",
        "images",
        "ITK composite transform, fixed points to moving points, LPS mm",
        "samreg.outputs:write_forward",
    ),
    Artefact(
        "inverse",
        "inverse.h5",
        "images",
        "ITK composite transform, moving points to fixed points, LPS mm",
        "samreg.outputs:write_inverse",
    ),
    Artefact(
        "warped",
        "warped.nii.gz",
        "images",
        "the moving image on the fixed grid, float32; voxels outside the moving image are 0, or for CT its least value",
        "samreg.outputs:write_warped",
        grid="fixed",
    ),
    Artefact(
        "pairs",
        "pairs.json",
        "images",
        "`pairs`: `id`, `similarity`, `confidence`, `held_out`, and for `fixed` and `moving` `centroid_lps_mm`, "
        "`area_mm2` or `volume_mm3`, `slices`, and the `label` of a given label map; `overlaps`: where two pairs "
        "overlap, `[winner, loser]`",
        "samreg.outputs:write_pairs",
    ),
    Artefact(
        "rois_fixed",
        "rois_fixed.nii.gz",
        "images",
        "label map on the fixed grid; the number is the pair's `id`",
        "samreg.outputs:write_fixed_rois",
        grid="fixed",
    ),
    Artefact(
        "rois_moving",
        "rois_moving.nii.gz",
        "images",
        "label map on the moving grid; the number is the pair's `id`",
        "samreg.outputs:write_moving_rois",
        grid="moving",
    ),
    # Segmentations come before the registration that refers to them.
    Artefact(
        "seg_fixed",
        f"{DICOM}/seg_fixed.dcm",
        "dicom",
        "Segmentation: the paired regions of the fixed image, segment number = pair `id`",
        "samreg.dicom_out.objects:write_fixed_segmentation",
        "samreg.dicom_out.objects:verify_fixed_segmentation",
        (*OBJECTS, PAIRED),
    ),
    Artefact(
        "seg_moving",
        f"{DICOM}/seg_moving.dcm",
        "dicom",
        "Segmentation: the paired regions of the moving image, segment number = pair `id`",
        "samreg.dicom_out.objects:write_moving_segmentation",
        "samreg.dicom_out.objects:verify_moving_segmentation",
        (*OBJECTS, PAIRED),
    ),
    Artefact(
        "reg",
        f"{DICOM}/reg.dcm",
        "dicom",
        "Spatial Registration: the rigid or affine transform",
        "samreg.dicom_out.objects:write_linear",
        "samreg.dicom_out.objects:verify_linear",
        (*OBJECTS, *REGISTRATIONS, TWO_FRAMES),
    ),
    Artefact(
        "dreg",
        f"{DICOM}/dreg.dcm",
        "dicom",
        "Deformable Spatial Registration",
        "samreg.dicom_out.objects:write_deformable",
        "samreg.dicom_out.objects:verify_deformable",
        (*OBJECTS, *REGISTRATIONS, NEEDS_A_GRID),
    ),
    Artefact(
        "report",
        "report.html",
        "report",
        "the report for a reader, with pictures; one file, needs no network",
        "samreg.outputs:write_page",
    ),
    Artefact("record", "report.json", "report", "see below", "samreg.report:write_json", document=True),
    Artefact(
        "registrations",
        "registrations.json",
        "run",
        "`status` and `reasons` over all, and of each registration its `folder`, `status`, `reasons`, `kind`, `roles` "
        "and `objects`",
        "samreg.report:write_json",
        document=True,
    ),
    Artefact(
        "result",
        "result.json",
        "container",
        "`status`, `reasons`, `kind`, `roles`, `objects`, `exit_code`",
        "samreg.report:write_json",
    ),
    Artefact(
        "metadata",
        "metadata.json",
        "container",
        "`exception` and `exception_message`, null after success",
        "samreg.report:write_json",
    ),
)

OF_LOCATE = _table(
    Artefact(
        "roi_fixed",
        "roi_fixed.nii.gz",
        "locate",
        "label map on the fixed grid; 1 is the region that the prompt means",
        "samreg.outputs:write_fixed_roi",
        grid="fixed",
    ),
    Artefact(
        "roi_moving",
        "roi_moving.nii.gz",
        "locate",
        "label map on the moving grid; 1 is the counterpart, 2 the runner-up",
        "samreg.outputs:write_moving_roi",
        grid="moving",
    ),
    Artefact(
        "answer", "locate.json", "locate", "what the command prints", "samreg.outputs:write_answer", document=True
    ),
)


def of_step(step: Step) -> tuple[Artefact, ...]:
    """The files of a registration that a step writes, in their order."""
    return tuple(row for row in OF_REGISTER.values() if row.step == step)


def write_document(key: str, document: Mapping[str, Any], folder: Path) -> None:
    """Write one of the JSON documents into an existing folder."""
    row = OF_REGISTER[key]
    row.write(document, folder / row.path)
