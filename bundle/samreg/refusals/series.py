"""Reasons of DICOM: which series, its geometry, its values and its identifiers."""

from __future__ import annotations

from samreg.refusals.group import Group, Refusal

EXPORT_AGAIN = "Export the whole original series again."
CONVERT = "Export the whole original series again, or convert it with a tool that you trust and give NIfTI."
SPLIT = "Split the series, or give a series with only the volume."
AS_FILES = "or register without DICOM objects (samreg register --as-files)"
RENEW = f"Anonymise again with new UIDs, {AS_FILES}."

CHOICE = Group(
    "Choice of the series",
    (
        Refusal(
            "empty-folder",
            "a folder without DICOM images",
            "one series of CT, MR or PET images",
            "Give the folder that holds the series (or the file itself, if the image is not DICOM).",
        ),
        Refusal(
            "several-series",
            "a folder with several series where one is expected, or with more than two and no rule to choose them by",
            "one series, or a fixed and a moving one",
            "Choose with --fixed-series UID and --moving-series UID.",
        ),
        Refusal(
            "no-such-series",
            "a SeriesInstanceUID that no series of the folder has",
            "a SeriesInstanceUID that is there",
            "Choose one from the list.",
        ),
        Refusal(
            "too-few-series",
            "a folder with fewer than two series that can be registered",
            "two series, the fixed and the moving one",
            "Put both series below the folder.",
        ),
        Refusal(
            "no-series-for-role",
            "no series that satisfies the rules for the fixed or the moving image",
            "one that satisfies the rules",
            "Change the rules (`series` of the configuration, or those of the selector), or send the series.",
        ),
        Refusal(
            "no-acquisition-time",
            "series without acquisition times that tell which is later",
            "different acquisition times",
            "Choose with --fixed-series UID and --moving-series UID, or use sub-folders fixed and moving.",
        ),
        Refusal(
            "role-folders",
            "folders named fixed or moving that do not tell which series is fixed and which is moving",
            "one folder named fixed and one named moving, or none of these names",
            "Name the two folders so, rename the others, or choose with --fixed-series UID and "
            "--moving-series UID or with rules for both (series.fixed and series.moving in the configuration).",
        ),
        Refusal(
            "no-files",
            "a series that the selector of an application chose, without files (only operators)",
            "images that were read from files that still exist",
            "Load it with DICOMDataLoaderOperator from a folder that stays until the end.",
        ),
        Refusal(
            "no-common-folder",
            "selected series that have no folder in common (only operators)",
            "both below one input folder",
            "Copy them below one folder.",
        ),
    ),
)

SERIES = Group(
    "DICOM series: one regular volume",
    (
        Refusal(
            "unsupported-sop-class",
            "objects of another kind than the expected one (Secondary Capture, RTSTRUCT, ultrasound …)",
            "CT, MR or PET images, classic or enhanced; as label map a DICOM SEG",
            "Give an object of the expected kind.",
        ),
        Refusal(
            "localizer",
            "localizer images in the series",
            "the slices of one volume",
            "Remove the localizers, or give another series.",
        ),
        Refusal(
            "mixed-sop-class",
            "images of several SOP classes or modalities in one series",
            "images of one kind",
            SPLIT,
        ),
        Refusal("mixed-study", "images of several studies in one series", "one study", EXPORT_AGAIN),
        Refusal("mixed-patient", "images of several patients in one series", "one patient", EXPORT_AGAIN),
        Refusal(
            "mixed-series",
            "images of several series under one SeriesInstanceUID, as their modalities, series numbers or instance "
            "numbers tell",
            "the images of one series",
            SPLIT,
        ),
        Refusal(
            "several-multiframe",
            "several multi-frame objects, or one among other images",
            "one multi-frame object, or one object per slice",
            "Give a folder with the one object to register.",
        ),
        Refusal(
            "concatenation",
            "parts of a concatenation (a multi-frame object in several files)",
            "one whole multi-frame object",
            "Export it as one object, or as one object for each slice.",
        ),
        Refusal(
            "ambiguous-frames",
            "a functional group of a multi-frame object with several items",
            "one item, as each functional group has",
            CONVERT,
        ),
        Refusal(
            "no-position",
            "images without a valid position or orientation, or a multi-frame object that describes no frames",
            "a position and an orientation of each image (ImagePositionPatient, ImageOrientationPatient)",
            CONVERT,
        ),
        Refusal("no-matrix", "images without a valid matrix (Rows, Columns)", "a valid one in each image", CONVERT),
        Refusal(
            "bad-orientation",
            "an image orientation that is not two perpendicular unit vectors",
            "two perpendicular unit vectors",
            EXPORT_AGAIN,
        ),
        Refusal(
            "mixed-orientation",
            "slices in several orientations",
            "parallel slices",
            SPLIT,
        ),
        Refusal(
            "mixed-frame-of-reference",
            "images in several frames of reference",
            "one frame of reference",
            SPLIT,
        ),
        Refusal(
            "mixed-matrix",
            "images of several sizes, pixel spacings or photometric interpretations",
            "one matrix size, pixel spacing and photometric interpretation",
            SPLIT,
        ),
        Refusal(
            "duplicate-slices",
            "several images at one position, which nothing tells apart",
            "one image at each position",
            "Remove the copies, or export the series again.",
        ),
        Refusal(
            "too-few-slices",
            "too few slices for a volume",
            "a volume of at least 3 slices",
            "Give the folder with all slices; a single picture can be given as PNG or TIFF with a pixel spacing.",
        ),
        Refusal("missing-slices", "gaps in the stack of slices", "a stack without gaps", EXPORT_AGAIN),
        Refusal(
            "uneven-spacing",
            "distances between slices that vary",
            "evenly spaced slices",
            "Resample the series to a regular volume and give that.",
        ),
        Refusal(
            "gantry-tilt",
            "slices that are not stacked along their normal (a tilted gantry)",
            "slices stacked along their normal",
            "Resample the series to a regular volume (a tilt correction) and give that.",
        ),
    ),
)

VALUES = Group(
    "DICOM series: values",
    (
        Refusal(
            "bad-rescale",
            "a rescale that is incomplete, is not a number, has slope 0, or is a table (Modality LUT)",
            "a linear rescale in each image, or none",
            CONVERT,
        ),
        Refusal(
            "mixed-rescale",
            "a rescale of values in only some images, or values in several units",
            "a Rescale Slope and Intercept in each image, or in none, and one unit of values",
            EXPORT_AGAIN,
        ),
        Refusal(
            "mixed-contrast",
            "images of several b-values, echoes or parts of a complex image (magnitude, phase) in one volume",
            "images of one b-value, one echo and one part",
            SPLIT,
        ),
        Refusal(
            "contradictory-pixels",
            "pixels that contradict their header: High Bit, Bits Stored, number of bytes, size of the compressed "
            "stream",
            "pixels as the header describes them",
            CONVERT,
        ),
        Refusal(
            "undecodable-pixels",
            "pixels that are damaged, or in a transfer syntax that cannot be decoded",
            "whole pixels in a transfer syntax that can be decoded",
            "Export the series again, uncompressed if possible.",
        ),
    ),
)

IDENTIFIERS = Group(
    "DICOM identifiers",
    (
        Refusal(
            "no-uid",
            "an image without a SOP, Study or Series Instance UID",
            "one of each in every image, so that DICOM objects can refer to it",
            f"Anonymise again with new UIDs instead of empty ones, {AS_FILES}.",
        ),
        Refusal(
            "bad-uid",
            "identifiers that are not UIDs",
            "digits and dots, at most 64 characters (PS3.5 9.1), so that DICOM objects can refer to it",
            RENEW,
        ),
        Refusal(
            "duplicate-uid",
            "images that share a SOPInstanceUID",
            "an own SOPInstanceUID in each image, so that DICOM objects can refer to it",
            RENEW,
        ),
        Refusal(
            "no-frame-of-reference",
            "images without a frame of reference (FrameOfReferenceUID)",
            "a frame of reference in each image, so that DICOM objects can refer to it",
            f"Export the whole original series again, {AS_FILES}.",
        ),
        Refusal(
            "as-files",
            "the setting `as_files`, given to the application, which leaves the DICOM objects out",
            "DICOM objects, which platforms call the container for",
            "Register such series with samreg register --as-files.",
        ),
    ),
)
