"""Reasons of files and folders, of any image, of the pair, and of label maps."""

from __future__ import annotations

from samreg.refusals.group import Group, Refusal

NO_ORIENTATION = "Write the file again with a tool that keeps orientation and spacing (3D Slicer, SimpleITK)."

FILES = Group(
    "Files and folders",
    (
        Refusal("no-such-path", "a path that does not exist", "a file or a folder", "Check the path."),
        Refusal(
            "no-permission",
            "a file or folder that the user of the process may not read",
            "files and folders that this user may read",
            "Change their permissions, or run as another user.",
        ),
        Refusal(
            "unknown-format",
            "a file whose name ends as none of the formats does, and that is not DICOM",
            "a DICOM folder or file, NIfTI, NRRD, MetaImage, PNG, JPEG or TIFF",
            "Convert it to one of them.",
        ),
        Refusal(
            "unreadable-file",
            "a file that is empty, cut, damaged, of another format than its name says, or (NIfTI, NRRD, MetaImage) "
            "longer than its header says",
            "a whole file",
            "Write or copy the file again.",
        ),
        Refusal(
            "unreadable-archive",
            "an archive that cannot be unpacked (only the application)",
            "whole ZIP archives without a password",
            "Send it again.",
        ),
        Refusal(
            "outside-folder",
            "the header points at a data file outside its folder",
            "the data beside the header",
            "Put both files into one folder and name the data without a path.",
        ),
        Refusal(
            "size-limit",
            "an image with too many voxels, a folder with too many files, or an archive that does not fit on the disk",
            "at most 524,288,000 voxels in an image, and 100,000 files in a folder",
            "Crop the image or lower its resolution; give the folder of one study or series.",
        ),
    ),
)

IMAGES = Group(
    "Images",
    (
        Refusal(
            "no-orientation",
            "a file that states no orientation, none that says where the patient's left, back and head are, or a "
            "degenerate one",
            "an orientation in the header: an sform or a qform (NIfTI), 'space' and 'space directions' (NRRD), "
            "'TransformMatrix' (MetaImage)",
            NO_ORIENTATION,
        ),
        Refusal(
            "no-spacing",
            "images or a picture without the distance between pixels, or a picture with a resolution that nobody "
            "measured (a default of screens and printers)",
            "the distance between voxels, above 0 along each axis",
            f"{NO_ORIENTATION[:-1]}; for a picture give it with --pixel-spacing X Y.",
        ),
        Refusal(
            "unknown-unit",
            "a header that states lengths in something that is no unit of length",
            "a unit of length (nm, um, mm, cm, dm, m, in)",
            "Write the file again in mm, or correct the unit in its header; for a picture give the distance between "
            "pixels with --pixel-spacing X Y.",
        ),
        Refusal(
            "4d",
            "several volumes in one file or series (time points, b-values, echoes, phases), or several pages",
            "one volume of at most three dimensions",
            "Write one of them to its own file or series.",
        ),
        Refusal(
            "not-greyscale",
            "voxels that are colours, vectors or complex numbers",
            "one real number in each voxel",
            "Convert the image to greyscale.",
        ),
        Refusal(
            "non-finite-voxels",
            "voxels that are NaN or infinite",
            "a number in each voxel",
            "Replace them with the background's value.",
        ),
        Refusal(
            "too-small",
            "an image with very few voxels",
            "at least 8 voxels along two axes",
            "Give the whole image.",
        ),
        Refusal(
            "constant-image",
            "an image with the same value everywhere",
            "an image that shows something",
            "Check the export of this series.",
        ),
    ),
)

PAIR = Group(
    "The pair",
    (
        Refusal(
            "different-patients",
            "two series that differ in patient ID, its issuer, name, birth date or sex",
            "two series of one patient",
            "Check that the right series were given; to register them nevertheless, give --allow-different-patients.",
        ),
        Refusal(
            "no-patient-id",
            "two series of which neither has a patient ID",
            "the same patient ID in both",
            "Fill in the patient ID; to register them nevertheless, give --allow-different-patients.",
        ),
        Refusal(
            "same-series",
            "the same image as fixed and as moving image",
            "two different images",
            "Give the other image as fixed or moving.",
        ),
        Refusal(
            "mixed-dimensions",
            "a single picture and a volume",
            "two volumes or two pictures",
            "Give the whole volume, or a slice of it as a picture.",
        ),
    ),
)

LABELS = Group(
    "Label maps",
    (
        Refusal(
            "no-labels",
            "a label map file without a label",
            "at least one label above 0",
            "Check that the right file was given.",
        ),
        Refusal(
            "empty-labels",
            "a label map without labels, given in Python",
            "at least one label that is not 0",
            "Check that the right label map was given.",
        ),
        Refusal(
            "not-labels",
            "fractions, negative numbers or shares of white in place of labels",
            "whole numbers from 0",
            "Threshold probabilities first, and write the labels as integers in greyscale.",
        ),
        Refusal(
            "label-limit",
            "labels in a floating-point type that cannot tell numbers of their size apart",
            "numbers below 2^24 in float32 and 2^53 in float64, or an integer type",
            "Write the label map with integers (int32, or int64 beyond 2147483647).",
        ),
        Refusal(
            "other-grid",
            "a label map on another grid than its image",
            "the image's grid",
            "Resample the labels to the image with nearest-neighbour interpolation (3D Slicer: Resample Image "
            "(BRAINS); SimpleITK: Resample(labels, image, interpolator=sitkNearestNeighbor)).",
        ),
        Refusal(
            "other-frame-of-reference",
            "a DICOM segmentation in another frame of reference than the image, or for an image without one",
            "the frame of reference of the image",
            "Give the segmentation of this series, or labels as NIfTI on its grid.",
        ),
        Refusal(
            "several-files",
            "a folder with several files in place of a label map",
            "one DICOM SEG",
            "Give the file itself.",
        ),
        Refusal(
            "mask-outside",
            "a mask of which more than 5 % lies outside of its image, or all of it",
            "a mask in the space of its image",
            "Check that the mask belongs to this image, and that its header places it there. Crop the mask of a larger "
            "field of view to the image.",
        ),
        Refusal(
            "too-many-regions",
            "a mask of what keeps its shape or volume that falls into very many separate regions",
            "at most 100 regions",
            "Remove specks from the mask: keep its large parts, or close its gaps.",
        ),
        Refusal(
            "no-common-label",
            "two label maps that share no label",
            "the same number for the same structure in both",
            "Renumber one of the label maps.",
        ),
        Refusal(
            "label",
            "a label map with several labels and no choice among them, or a chosen label that is not there",
            "one of its labels",
            "Choose it with --label N.",
        ),
    ),
)
