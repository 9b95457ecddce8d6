"""The sub-commands of `samreg` and their arguments. What they do stands in `cli_commands` and `cli_weights`."""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import Any

from samreg import __version__
from samreg.cli_options import (
    MODELS,
    add_configuration,
    add_constraints,
    add_pair,
    add_pixel_spacing,
    add_transform,
    add_variant,
    add_verbosity,
    device_of,
    path_of,
)
from samreg.sam.family import FAMILY

_WEIGHTS = "samreg.cli_weights"

EXIT_CODES = """\
exit codes:
  0  The command succeeded.
  1  The command failed unexpectedly.
  2  The arguments or the configuration are wrong.
  3  The input was refused. The reason and the next step stand on stderr, and for register also in report.json.
  4  The images were registered, but the result failed its quality gate. The outputs are kept and marked. No DICOM
     registration object is written.

samreg is not a cleared medical device. A qualified person must check every result before it is used."""


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command and its sub-commands."""
    parser = argparse.ArgumentParser(
        prog="samreg",
        description="Register two medical images by pairs of corresponding regions of interest (ROI pairs).",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"samreg {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_register(commands)
    _add_apply(commands)
    _add_apply_points(commands)
    _add_evaluate(commands)
    _add_locate(commands)
    _add_ablate(commands)
    _add_weights(commands)
    _add_info(commands)
    _add_selftest(commands)
    return parser


def _add_register(commands: Any) -> None:
    p = _command(commands, "register", "estimate the transform between two images, and write it with a report")
    add_pair(p)
    p.add_argument("-o", "--out", type=path_of, required=True, metavar="OUT", help="output folder for the results")
    add_configuration(p)
    p.add_argument(
        "--fixed-rois",
        type=path_of,
        metavar="FILE",
        help="label map on the grid of the fixed image; its regions are used in place of segmented ones (default: the "
        "proposer segments both images)",
    )
    p.add_argument(
        "--moving-rois",
        type=path_of,
        metavar="FILE",
        help="label map on the grid of the moving image; regions with the same number in both label maps are pairs",
    )
    add_constraints(p)
    p.add_argument(
        "--as-files",
        action="store_true",
        help="write no DICOM objects; DICOM series without valid identifiers are then accepted",
    )
    p.add_argument(
        "--dry-run",
        action="store_true",
        help="read only the headers (where constraints are given, the images and these too), print as JSON what would "
        "be registered, and write nothing",
    )
    add_verbosity(p)


def _add_apply(commands: Any) -> None:
    p = _command(commands, "apply", "warp a moving image onto the grid of the fixed image")
    add_transform(p)
    p.add_argument("image", type=path_of, metavar="IMAGE", help="moving image, or label map of the moving image")
    p.add_argument(
        "--reference",
        type=path_of,
        required=True,
        metavar="FIXED",
        help="fixed image; the output lies on its grid",
    )
    p.add_argument(
        "-o",
        "--out",
        type=path_of,
        required=True,
        metavar="OUT",
        help="output image file (.nii.gz, .nrrd or .mha)",
    )
    p.add_argument(
        "--interpolation",
        choices=("linear", "nearest"),
        default="linear",
        help="interpolation of voxel values; use nearest for label maps (default linear)",
    )
    add_pixel_spacing(p)
    add_verbosity(p)


def _add_apply_points(commands: Any) -> None:
    p = _command(commands, "apply-points", "map points of the fixed image to points of the moving image (LPS mm)")
    add_transform(p)
    p.add_argument(
        "points",
        type=path_of,
        metavar="POINTS.csv",
        help="points of the fixed image in LPS mm: columns x, y, z, and any other columns; a file without a header has "
        "these three columns",
    )
    p.add_argument(
        "-o",
        "--out",
        type=path_of,
        required=True,
        metavar="OUT.csv",
        help="output file: the mapped points in the same columns",
    )
    add_verbosity(p)


def _add_evaluate(commands: Any) -> None:
    p = _command(commands, "evaluate", "measure the accuracy of a transform by label maps or landmarks")
    add_transform(p)
    p.add_argument("--fixed-labels", type=path_of, metavar="FILE", help="label map of the fixed image")
    p.add_argument(
        "--moving-labels",
        type=path_of,
        metavar="FILE",
        help="label map of the moving image, with the same numbers",
    )
    p.add_argument(
        "--fixed-landmarks",
        type=path_of,
        metavar="CSV",
        help="landmarks of the fixed image: columns x, y, z and optionally name",
    )
    p.add_argument(
        "--moving-landmarks",
        type=path_of,
        metavar="CSV",
        help="landmarks of the moving image, matched by name, or by order where the files have no names",
    )
    p.add_argument(
        "--landmarks-in", choices=("mm", "pixels"), default="mm",
        help="unit of the landmarks: LPS mm, or pixels counted from 0 in the images that --fixed and --moving name "
        "(columns x and y, in a volume also z) (default mm)",
    )  # fmt: skip
    p.add_argument("--fixed", type=path_of, metavar="FIXED", help="fixed image, needed for landmarks in pixels")
    p.add_argument("--moving", type=path_of, metavar="MOVING", help="moving image, needed for landmarks in pixels")
    add_pixel_spacing(p)
    p.add_argument(
        "-o", "--out", type=path_of, required=True, metavar="metrics.json", help="output file for the measures"
    )
    add_verbosity(p)


def _add_locate(commands: Any) -> None:
    p = _command(
        commands,
        "locate",
        "find the region of the moving image that corresponds to a point, a box or a region of the fixed image",
    )
    add_pair(p)
    prompt = p.add_mutually_exclusive_group(required=True)
    prompt.add_argument(
        "--point",
        type=float,
        nargs=3,
        metavar=("X", "Y", "Z"),
        help="point inside the region, in LPS mm of the fixed image",
    )
    prompt.add_argument(
        "--box",
        type=float,
        nargs=6,
        metavar=("X0", "Y0", "Z0", "X1", "Y1", "Z1"),
        help="two opposite corners of a box around the region, in LPS mm of the fixed image",
    )
    prompt.add_argument(
        "--roi",
        type=path_of,
        metavar="FILE",
        help="the region itself: label map on the grid of the fixed image, or DICOM SEG",
    )
    p.add_argument(
        "--label", type=int, metavar="N", help="number of the region in --roi (default: the only one that it holds)"
    )
    p.add_argument(
        "-o",
        "--out",
        type=path_of,
        metavar="OUT",
        help="output folder for the answer and its label maps (default: the answer is only printed)",
    )
    add_configuration(p)
    add_verbosity(p)


def _add_ablate(commands: Any) -> None:
    p = _command(
        commands,
        "ablate",
        "register a list of image pairs with several configurations, and compare the results in a table",
    )
    p.add_argument(
        "pairs",
        type=path_of,
        metavar="PAIRS.csv",
        help="list of image pairs: columns fixed and moving, and any of name, fixed_labels, moving_labels, "
        "fixed_landmarks, moving_landmarks (by which results are scored), fixed_rois, moving_rois (label maps that the "
        "registration uses), pixel_spacing (mm); paths are relative to this file",
    )
    p.add_argument(
        "--vary",
        action="append",
        default=[],
        metavar="KEY=V1,V2,...",
        help="configuration key and the values to compare; with several --vary every combination is registered",
    )
    p.add_argument("-o", "--out", type=path_of, required=True, metavar="OUT", help="output folder for the tables")
    add_configuration(p)
    p.add_argument("--again", action="store_true", help="repeat the registrations that OUT/ablation.csv already holds")
    p.add_argument("--dry-run", action="store_true", help="print as JSON what would be registered, and write nothing")
    add_verbosity(p)


def _add_weights(commands: Any) -> None:
    group = commands.add_parser(
        "weights",
        help="list, fetch, verify and convert the weights of SAM models",
        description="List, fetch, verify and convert the weights of SAM models.",
    )
    actions = group.add_subparsers(dest="action", required=True, metavar="ACTION")
    p = _command(actions, "list", "list the known models, their licences and where they are published", _WEIGHTS)
    p.add_argument("--json", action="store_true", help="print JSON")

    p = _command(actions, "verify", "load weights, and compare their SHA-256 with the published one", _WEIGHTS)
    p.add_argument("path", type=path_of, metavar="PATH", help="file or folder of the weights")
    add_variant(p)
    p.add_argument("--json", action="store_true", help="print JSON")

    p = _command(actions, "convert", "write an original checkpoint as a Hugging Face folder", _WEIGHTS)
    p.add_argument("source", type=path_of, metavar="SRC", help="original checkpoint, a file or folder")
    p.add_argument("out", type=path_of, metavar="DST", help="output folder, which must not exist yet")
    add_variant(p)

    p = _command(actions, "fetch", "download published weights, and check their SHA-256", _WEIGHTS)
    p.add_argument("name", choices=tuple(FAMILY), metavar="NAME", help=f"model: {MODELS}")
    p.add_argument("-o", "--out", type=path_of, required=True, metavar="DIR", help="output folder for the weights")
    p.add_argument(
        "--url",
        metavar="URL",
        help="download from this address (https:// or file://), which is that of the file, or of the folder of a "
        "Hugging Face repository (default: where the weights are published)",
    )
    p.add_argument("--quiet", action="store_true", help="show no progress")


def _add_info(commands: Any) -> None:
    p = _command(commands, "info", "list the methods, encoders, presets and installed weights")
    p.add_argument("--json", action="store_true", help="print JSON")


def _add_selftest(commands: Any) -> None:
    p = _command(commands, "selftest", "register a phantom with a known transform, and check the result")
    p.add_argument(
        "--device",
        type=device_of,
        default="auto",
        metavar="auto|cpu|cuda[:N]",
        help="device to compute on; auto takes a GPU where there is one (default auto)",
    )
    p.add_argument("--json", action="store_true", help="print JSON")


def _command(commands: Any, name: str, summary: str, module: str = "samreg.cli_commands") -> argparse.ArgumentParser:
    p: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=f"{summary[0].upper()}{summary[1:]}."
    )
    p.set_defaults(run=_lazily(module, name.replace("-", "_")))
    return p


def _lazily(module: str, name: str) -> Any:
    """A command by its name; its module, and with it torch, loads when the command runs."""

    def run(args: argparse.Namespace) -> int:
        return int(getattr(import_module(module), name)(args))

    return run
