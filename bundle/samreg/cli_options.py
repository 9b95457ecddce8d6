"""The options that several sub-commands share, and the configuration that they mean."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

from samreg import registry
from samreg.config import Config, TransformChoice, nested, presets, read_values, resolved
from samreg.constraints.inputs import ACCURACY_MM, ConstraintInputs
from samreg.registry import Entry, is_own
from samreg.sam.family import FAMILY

MODELS = f"{', '.join(FAMILY)}; `samreg weights list` describes them"


def add_pair(p: argparse.ArgumentParser) -> None:
    """The two images, and the options that say how they are read."""
    p.add_argument(
        "fixed",
        type=path_of,
        metavar="FIXED",
        help="fixed image: DICOM folder, or file of format NIfTI, NRRD, MetaImage, PNG, JPEG or TIFF",
    )
    p.add_argument(
        "moving",
        type=path_of,
        metavar="MOVING",
        help="moving image, which is aligned to the fixed one; same formats",
    )
    p.add_argument(
        "--fixed-series",
        metavar="UID",
        help="SeriesInstanceUID of the fixed image, needed where its folder holds several series",
    )
    p.add_argument(
        "--moving-series",
        metavar="UID",
        help="SeriesInstanceUID of the moving image, needed where its folder holds several series",
    )
    p.add_argument(
        "--allow-different-patients",
        action="store_true",
        help="accept two series that differ in patient ID, name, birth date or sex (default: they are refused)",
    )
    add_pixel_spacing(p)


def add_pixel_spacing(p: argparse.ArgumentParser) -> None:
    """The pixel spacing of pictures that do not state it."""
    p.add_argument(
        "--pixel-spacing",
        type=_positive,
        nargs=2,
        metavar=("X", "Y"),
        help="distance between pixels in mm along x and y, for pictures (PNG, JPEG, TIFF) that do not state it",
    )


def add_configuration(p: argparse.ArgumentParser) -> None:
    """The options that decide the result; `config_from` reads them."""
    p.add_argument(
        "--method",
        choices=tuple(registry.METHODS),
        help="registration method. The preset of this name gives every value that neither --config nor another option "
        "sets (default hybrid). " + " ".join(f"{entry.name}: {entry.summary}." for entry in registry.METHODS.values()),
    )
    p.add_argument(
        "--transform",
        choices=get_args(TransformChoice),
        help="finest transform to estimate; a coarser one is kept where a finer one is not better (default deformable)",
    )
    _add_choice(
        p, "--encoder", registry.ENCODERS, "model or descriptor whose features regions are matched by", "embedded"
    )
    _add_choice(
        p,
        "--proposer",
        registry.PROPOSERS,
        "how regions are segmented",
        "everything with an encoder that answers prompts, else superpixels",
    )
    _add_choice(p, "--matcher", registry.MATCHERS, "how regions are paired", "prototypes")
    p.add_argument(
        "--estimators",
        type=lambda text: tuple(_known(name.strip(), registry.ESTIMATORS) for name in text.split(",")),
        metavar="NAME,...",
        help=f"estimators to try for the transform, in this order: {', '.join(registry.ESTIMATORS)}, or a "
        "class of your own as module:Class (default: those of the method)",
    )
    p.add_argument(
        "--weights", metavar="PATH", help="file or folder of the weights of the encoder; the encoder sam needs them"
    )
    add_variant(p)
    p.add_argument(
        "--cache",
        metavar="DIR",
        help="folder that keeps the encoded slices, so that later runs on the same images are faster (default: none)",
    )
    p.add_argument(
        "--preset",
        choices=presets(),
        help="another name for --method, after the folder configs/presets; the two must not differ",
    )
    p.add_argument(
        "--config",
        type=path_of,
        metavar="FILE",
        help="YAML or JSON file of the configuration; its values replace those of the preset, and options replace its "
        "values, but a method in it must be that of --method (default: none)",
    )
    p.add_argument(
        "--device",
        type=device_of,
        metavar="auto|cpu|cuda[:N]",
        help="device to compute on; auto takes a GPU where there is one (default auto)",
    )
    p.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="largest number of CPU threads (default: the processors that this process may use)",
    )
    p.add_argument("--seed", type=int, metavar="N", help="seed of the random number generators (default 0)")


def add_constraints(p: argparse.ArgumentParser) -> None:
    """What the transform is asked to respect; `constraints_from` reads them."""
    for role in ("fixed", "moving"):
        p.add_argument(
            f"--{role}-mask",
            type=path_of,
            metavar="FILE",
            help=f"label map in the space of the {role} image; only what lies in its labels takes part (default: all "
            "of the image)",
        )
    p.add_argument(
        "--landmarks",
        type=path_of,
        metavar="PAIRS.csv",
        help="points that correspond, in LPS mm: columns fixed_x, fixed_y, fixed_z, moving_x, moving_y, moving_z, and "
        "optionally accuracy_mm and name; a deformable transform meets each within its accuracy",
    )
    p.add_argument(
        "--landmarks-accuracy",
        type=_positive,
        metavar="MM",
        help=f"accuracy of landmarks whose row states none (default {ACCURACY_MM:g})",
    )
    p.add_argument(
        "--keep-volume",
        type=path_of,
        metavar="FILE",
        help="label map in the space of the moving image; each separate region keeps its volume, such as a lesion",
    )
    p.add_argument(
        "--keep-rigid",
        type=path_of,
        metavar="FILE",
        help="label map in the space of the moving image; each separate region is only turned and shifted, such as a "
        "bone or an implant",
    )


def constraints_from(args: argparse.Namespace) -> ConstraintInputs:
    """The constraints that the options of `add_constraints` mean.

    Raises:
        UsageError: An accuracy without landmarks.
    """
    keys = ("fixed_mask", "moving_mask", "landmarks", "keep_volume", "keep_rigid")
    return ConstraintInputs(**{key: getattr(args, key) for key in keys}, landmarks_accuracy_mm=args.landmarks_accuracy)


def config_from(args: argparse.Namespace, settings: Mapping[str, Any] | None = None) -> Config:
    """The configuration that the options of `add_configuration` mean.

    Args:
        args: The options; they come before the settings.
        settings: `method`, `preset`, and keys of the configuration, nested or with dots, from elsewhere; they come
            before the file.

    Raises:
        UsageError: A configuration that does not hold, or two methods.
    """
    keys = ("transform", "encoder", "weights", "variant", "device", "threads", "cache", "seed")
    options = {key: getattr(args, key) for key in keys}
    if args.proposer is not None:
        options["proposals"] = {"proposer": args.proposer}
    if args.matcher is not None:
        options["matching"] = {"matcher": args.matcher}
    others = nested(settings or {})
    file = {} if args.config is None else read_values(args.config)
    named = {
        "--method": args.method,
        "--preset": args.preset,
        "the setting 'method'": others.pop("method", None),
        "the setting 'preset'": others.pop("preset", None),
        f"the file '{args.config}'": file.get("method"),
    }
    config = resolved(named, file, _stated(others), _stated(options))
    if args.estimators is None:
        return config
    return config.with_values({"estimators": {config.transform: args.estimators}})


def _add_choice(
    p: argparse.ArgumentParser, option: str, table: Mapping[str, Entry], summary: str, default: str
) -> None:
    """An option that takes a name of the registry, or a class of the user's own."""
    names = [name for name in table if name != "labels"]  # those are --fixed-rois and --moving-rois
    p.add_argument(
        option,
        type=lambda text: _known(text, names),
        metavar="NAME",
        help=f"{summary}: {', '.join(names)}, or a class of your own as module:Class (default: {default})",
    )


def _known(name: str, names: Iterable[str]) -> str:
    if name not in names and not is_own(name):
        raise argparse.ArgumentTypeError(f"'{name}' is not one of {', '.join(names)}, or module:Class")
    return name


def _stated(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def add_transform(p: argparse.ArgumentParser) -> None:
    """A transform file."""
    p.add_argument(
        "transform",
        type=path_of,
        metavar="TRANSFORM",
        help="transform file from fixed to moving points: ITK (.h5, .tfm, .txt, .mat) or NIfTI displacement "
        "field (.nii, .nii.gz)",
    )


def add_variant(p: argparse.ArgumentParser) -> None:
    """The SAM model that weights are of."""
    p.add_argument(
        "--variant",
        choices=tuple(FAMILY),
        metavar="NAME",
        help=f"SAM model that the weights are of (default: recognised from the file): {MODELS}",
    )


def add_verbosity(p: argparse.ArgumentParser) -> None:
    """How much is printed."""
    group = p.add_mutually_exclusive_group()
    group.add_argument("--quiet", action="store_true", help="print only errors, neither progress nor a summary")
    group.add_argument(
        "--verbose", action="store_true", help="also print each step, and the traceback of an unexpected failure"
    )


def path_of(text: str) -> Path:
    """A path that an option names.

    Raises:
        ArgumentTypeError: The text names none.
    """
    if not text.strip():
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(text)


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is not a length in mm")
    return value


def device_of(text: str) -> str:
    """A device that an option names: auto, cpu or cuda[:N].

    Raises:
        ArgumentTypeError: The text names none.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"'{text}' is not auto, cpu, cuda or cuda:N")
    return text
