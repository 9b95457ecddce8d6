"""Reasons of transforms, landmarks and prompts, of weights, and of the run itself."""

from __future__ import annotations

from samreg.refusals.group import Group, Refusal

AS_COMPOSITE = (
    "If they are parts of one transform, write them as one CompositeTransform, the part applied first last; "
    "otherwise write each into a file of its own."
)

TRANSFORMS = Group(
    "Transforms",
    (
        Refusal("transform-missing", "a transform file that does not exist", "an existing file", "Check the path."),
        Refusal(
            "transform-unreadable",
            "a transform file that is cut or damaged, or that ITK did not write",
            "a whole file written by ITK, SimpleITK, ANTs or 3D Slicer, or a whole NIfTI displacement field",
            "Write or copy the file again.",
        ),
        Refusal(
            "transform-unsupported",
            "a transform that samreg does not support: of another suffix, 2D, a B-spline or velocity field, mirrored, "
            "not in mm",
            "3D matrices that do not mirror, and displacement fields, LPS mm",
            "Write it as one of the transform files that the reference lists.",
        ),
        Refusal(
            "transform-list",
            "a file with a list of several transforms, which does not say what they are together",
            "one transform",
            AS_COMPOSITE,
        ),
        Refusal(
            "unreadable-dicom",
            "a registration or segmentation object that cannot be read",
            "a DICOM object of the kind that is asked for",
            "Export or copy the object again.",
        ),
        Refusal(
            "registration-items",
            "a registration object that relates several moving series, or none",
            "exactly one moving series, related by one matrix or one grid",
            "Export one moving series at a time.",
        ),
        Refusal(
            "deformation-grid",
            "a deformation grid with too few or undefined numbers",
            "three finite numbers for each point of the grid",
            "Export the object again.",
        ),
    ),
)

LANDMARKS = Group(
    "Landmarks",
    (
        Refusal(
            "landmark-count",
            "another number of landmarks in one file than in the other",
            "as many in both files, in the same order",
            "Check the two landmark files.",
        ),
        Refusal(
            "landmark-names",
            "names of landmarks that are missing, repeated, or in only one file",
            "the same names in both files, each once",
            "Correct the names, or leave their column out to match by order.",
        ),
        Refusal(
            "landmark-outside",
            "a landmark outside its image",
            "positions within the image that was registered",
            "Scale the landmarks to this image, or give the image that they were set on.",
        ),
        Refusal(
            "landmark-contradiction",
            "two landmarks at the same place of one image, within their accuracies, and at two places of the other one",
            "landmarks as far apart in both images as their accuracies allow",
            "Correct or remove one of the two, or state a larger accuracy.",
        ),
    ),
)

PROMPTS = Group(
    "Prompts and places (samreg locate)",
    (
        Refusal(
            "point-outside",
            "a point outside the fixed image",
            "LPS millimetres within its field of view",
            "Check the coordinates (RAS values need the signs of x and y changed).",
        ),
        Refusal(
            "box-outside",
            "a box outside the fixed image",
            "LPS millimetres within its field of view",
            "Check the coordinates (RAS values need the signs of x and y changed).",
        ),
        Refusal(
            "box-flat",
            "a box that is thinner than a voxel",
            "two opposite corners",
            "Give corners that differ along both axes of the slices.",
        ),
        Refusal(
            "nothing-at-prompt",
            "a prompt on the background, or where no region is segmented",
            "a prompt on a structure that is smaller than half of the body",
            "Move the prompt, draw a box around the structure, or give the region itself with --roi.",
        ),
        Refusal(
            "no-slice-in-range",
            "a moving image whose nearest slice lies too far from the place of the region",
            "a slice within the range (matching.slice_range_mm)",
            "Give a moving image that covers this place, or a larger range with --config.",
        ),
        Refusal(
            "no-counterpart",
            "a moving image in which no region looks like the one at the prompt",
            "a similarity above the threshold (matching.similarity_threshold) and an area of the same order",
            "Register the images and map the place with `samreg apply-points`, or lower the threshold with --config.",
        ),
        Refusal(
            "no-region",
            "a point under which no paired region lies, or a region that maps to no voxel of the moving image",
            "a place inside a paired region that the moving image shows",
            "Map the point itself with `samreg apply-points`, or give a moving image that covers this place.",
        ),
    ),
)

WEIGHTS = Group(
    "Weights and names",
    (
        Refusal(
            "unknown-method",
            "a name that no method has",
            "one of the registered names",
            "Choose one that `samreg info` lists.",
        ),
        Refusal(
            "contradictory-methods",
            "different methods from --method, --preset, the configuration file or the settings of a platform",
            "one method",
            "Leave out all but one of them.",
        ),
        Refusal(
            "unknown-encoder",
            "a name that no encoder has",
            "one of the registered names",
            "Choose one that `samreg info` lists.",
        ),
        Refusal(
            "unknown-proposer",
            "a name that no proposer has",
            "one of the registered names",
            "Choose one that `samreg info` lists.",
        ),
        Refusal(
            "unknown-matcher",
            "a name that no matcher has",
            "one of the registered names",
            "Choose one that `samreg info` lists.",
        ),
        Refusal(
            "unknown-estimator",
            "a name that no estimator has",
            "one of the registered names",
            "Choose one that `samreg info` lists.",
        ),
        Refusal(
            "no-such-class",
            "a class of your own (module:Class) that cannot be imported",
            "a class in a module that Python finds",
            "Put the folder of the module into PYTHONPATH.",
        ),
        Refusal(
            "wrong-answer",
            "a proposer or matcher of your own (module:Class) that failed, or that returned something else",
            "regions or pairs of samreg.rois",
            "Correct the class. CONTRIBUTING.md says what it is given and what it returns.",
        ),
        Refusal(
            "own-class",
            "a class of the caller's own (module:Class) in a call of the container, which runs only its own code",
            "a name that `samreg info` lists",
            "Use the command or Python for classes of your own.",
        ),
        Refusal(
            "unknown-variant",
            "a name that no known SAM model has",
            "the name of a known SAM model",
            "Choose one that `samreg weights list` shows.",
        ),
        Refusal(
            "weights-missing",
            "an encoder without its weights, or weights that do not exist",
            "the file or folder of the weights",
            "Check the path. `samreg weights fetch` downloads published weights.",
        ),
        Refusal(
            "weights-unreadable",
            "weights that are damaged, pickled, or of no known model",
            "a model of the SAM family: a Hugging Face folder (config.json, model.safetensors) or an original "
            "checkpoint",
            "Fetch it again (samreg weights fetch), or give another one with --weights.",
        ),
        Refusal(
            "weights-changed",
            "weights whose SHA-256 is not the published one",
            "the published hash",
            "Fetch them again. If they are trained further, rename them, and give --variant to the registration.",
        ),
        Refusal(
            "weights-by-hand",
            "weights that cannot be fetched",
            "a download by hand",
            "Get them from the page that the message names, and give the file or folder with --weights.",
        ),
        Refusal(
            "variant-contradicted",
            "weights of another variant than the one that is given",
            "weights of that variant",
            "Give the variant that they are with --variant, or leave it out.",
        ),
        Refusal(
            "timm-missing",
            "weights that need the package timm, which is not installed",
            "timm, for the encoder of EdgeTAM",
            "Install it with: pip install timm torchvision.",
        ),
        Refusal(
            "download-failed",
            "a download that failed, or that leads to an address without encryption",
            "a connection to that address",
            "Try again, give another address with --url, or carry the file here and use it with --weights.",
        ),
    ),
)

RUN = Group(
    "The run and its outputs",
    (
        Refusal(
            "usage-error",
            "arguments or a configuration that cannot be followed",
            "",
            "Correct the argument or the configuration.",
        ),
        Refusal(
            "wrong-options",
            "options that the application does not have",
            "the options that --help lists",
            "Correct the options.",
        ),
        Refusal(
            "not-whole",
            "an output file that holds less than was written, as on a full disk",
            "a whole file",
            "Free space on the disk and run again.",
        ),
        Refusal(
            "out-of-memory",
            "a device whose memory does not hold the least that the method needs",
            "a device with more free memory",
            "Close other programs on it, choose a smaller model, or give --device cpu.",
        ),
        Refusal(
            "estimator-failed",
            "an estimator that failed, or that returned neither a candidate nor an abstention",
            "a candidate or an abstention",
            "Leave it out of the list of estimators, or correct it.",
        ),
        Refusal(
            "no-dicom-source",
            "DICOM objects asked for images that do not come from DICOM series",
            "two DICOM series",
            "Other formats get transform.h5 instead of DICOM objects.",
        ),
        Refusal(
            "segmentation-misplaced",
            "a segmentation that would lie beside the slices of its image",
            "the image's slices where its series has them, on perpendicular axes",
            "Please report this.",
        ),
        Refusal(
            "dicom-invalid",
            "a written DICOM object that breaks a rule of the standard",
            "a valid object",
            "Please report this.",
        ),
        Refusal(
            "dicom-not-reproducing",
            "a written DICOM object that read back differs from the result",
            "the same transform and the same masks",
            "Please report this.",
        ),
        Refusal(
            "output-invalid",
            "a written file that read back differs from the result",
            "",
            "Please report this.",
        ),
        Refusal(
            "no-report", "operators that ended without a report (only the application)", "one report", "See the log."
        ),
        Refusal("stopped", "a process that was stopped from outside (SIGTERM)", "", "Start it again."),
        Refusal("unexpected", "an unexpected failure", "", "See the log."),
    ),
)
