"""The `samreg` command: what can be asked. What is done stands in `cli_commands`."""

from __future__ import annotations

import argparse
import errno
import json
import logging
import re
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, get_args

from samreg import __version__
from samreg.config import Config, TransformChoice, nested, presets, read_values, resolved
from samreg.errors import SamregError
from samreg.registry import Entry, is_own
from samreg.sam.family import FAMILY

_WEIGHTS = "samreg.cli_weights"
FULL = (errno.ENOSPC, errno.EDQUOT)

EXIT_CODES = """\
exit codes:
  0  done
  1  unexpected failure
  2  wrong arguments
  3  input refused; the reason and the next step are on stderr (of register also in report.json)
  4  registered, but the quality gate failed; outputs are kept and marked, no DICOM registration is written

Not a cleared medical device: a qualified person must check every result before it is used."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments without the program's name; default those of the process.

    Returns:
        The exit code (see `EXIT_CODES`).
    """
    args = build_parser().parse_args(argv)
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        with _logging(args):
            return _run(args)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _run(args: argparse.Namespace) -> int:
    try:
        return int(args.run(args))
    except SamregError as error:
        sys.stderr.write(f"samreg: {error.sentence}\n")
        return error.exit_code
    except (OSError, MemoryError) as error:
        logging.getLogger(__name__).info("failed", exc_info=True)
        sys.stderr.write(f"samreg: {_plain_failure(error, getattr(args, 'out', None))}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("samreg: interrupted; nothing was written.\n")
        return 130
    except _Stopped:
        why = SamregError("the process was stopped from outside (SIGTERM)", reason="stopped")
        sys.stderr.write(f"samreg: {why.sentence}\n")
        raise


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command and its sub-commands."""
    parser = argparse.ArgumentParser(
        prog="samreg",
        description="Register two medical images by their paired regions of interest.",
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
    p = _command(commands, "register", "find the transform between two images, and write it with its report")
    _add_pair(p)
    p.add_argument("-o", "--out", type=_path, required=True, metavar="OUT", help="folder of the results")
    add_configuration(p)
    p.add_argument("--fixed-rois", type=_path, metavar="FILE", help="label map on the fixed grid")
    p.add_argument(
        "--moving-rois", type=_path, metavar="FILE", help="label map on the moving grid; equal numbers are pairs"
    )
    p.add_argument(
        "--as-files",
        action="store_true",
        help="write everything but the DICOM objects; series without sound identifiers are registered too",
    )
    p.add_argument("--dry-run", action="store_true", help="say from headers alone what would be done; write nothing")
    _add_talk(p)


def _add_apply(commands: Any) -> None:
    p = _command(commands, "apply", "warp a moving image onto the fixed grid")
    _add_transform(p)
    p.add_argument("image", type=_path, metavar="IMAGE", help="moving image or label map")
    p.add_argument("--reference", type=_path, required=True, metavar="FIXED", help="image whose grid the result has")
    p.add_argument("-o", "--out", type=_path, required=True, metavar="OUT", help="image file (.nii.gz, .nrrd, .mha)")
    p.add_argument(
        "--interpolation",
        choices=("linear", "nearest"),
        default="linear",
        help="nearest for label maps",
    )
    _add_pixel_spacing(p)
    _add_talk(p)


def _add_apply_points(commands: Any) -> None:
    p = _command(commands, "apply-points", "map fixed points (LPS mm) to moving points")
    _add_transform(p)
    p.add_argument(
        "points", type=_path, metavar="POINTS.csv", help="columns x, y, z among others; without a header, these three"
    )
    p.add_argument("-o", "--out", type=_path, required=True, metavar="OUT.csv", help="the mapped points, same layout")
    _add_talk(p)


def _add_evaluate(commands: Any) -> None:
    p = _command(commands, "evaluate", "score a transform by label maps or landmarks")
    _add_transform(p)
    p.add_argument("--fixed-labels", type=_path, metavar="A", help="label map of the fixed image")
    p.add_argument("--moving-labels", type=_path, metavar="B", help="label map of the moving image, same numbers")
    p.add_argument("--fixed-landmarks", type=_path, metavar="CSV", help="columns x, y, z, and name")
    p.add_argument(
        "--moving-landmarks", type=_path, metavar="CSV", help="the same names; without names, the same order"
    )
    p.add_argument(
        "--landmarks-in", choices=("mm", "pixels"), default="mm",
        help="LPS mm, or pixels counted from 0 (columns x, y; a stack also z) of the images below",
    )  # fmt: skip
    p.add_argument("--fixed", type=_path, metavar="FIXED", help="image that the fixed landmarks were set on in pixels")
    p.add_argument("--moving", type=_path, metavar="MOVING", help="likewise for the moving landmarks")
    _add_pixel_spacing(p)
    p.add_argument("-o", "--out", type=_path, required=True, metavar="metrics.json", help="the scores")
    _add_talk(p)


def _add_locate(commands: Any) -> None:
    p = _command(commands, "locate", "find the counterpart of a point, a box or a region of the fixed image")
    _add_pair(p)
    prompt = p.add_mutually_exclusive_group(required=True)
    prompt.add_argument("--point", type=float, nargs=3, metavar=("X", "Y", "Z"), help="LPS mm, inside the region")
    prompt.add_argument(
        "--box",
        type=float,
        nargs=6,
        metavar=("X0", "Y0", "Z0", "X1", "Y1", "Z1"),
        help="LPS mm, two opposite corners around the region",
    )
    prompt.add_argument("--roi", type=_path, metavar="FILE", help="label map on the fixed grid, or DICOM SEG")
    p.add_argument("--label", type=int, metavar="N", help="the region's number in --roi, if that holds several")
    p.add_argument("-o", "--out", type=_path, metavar="OUT", help="folder for the answer and its label maps")
    add_configuration(p)
    _add_talk(p)


def _add_ablate(commands: Any) -> None:
    p = _command(commands, "ablate", "register a list of pairs with a grid of configurations, and compare them")
    p.add_argument(
        "pairs",
        type=_path,
        metavar="PAIRS.csv",
        help="columns fixed, moving; name, fixed_labels, moving_labels, fixed_landmarks, moving_landmarks (these "
        "score), fixed_rois, moving_rois (these are given), pixel_spacing; paths relative to the file",
    )
    p.add_argument(
        "--vary",
        action="append",
        default=[],
        metavar="KEY=V1,V2,...",
        help="a configuration key and its values; given several times, every combination runs",
    )
    p.add_argument("-o", "--out", type=_path, required=True, metavar="OUT", help="folder of the tables")
    add_configuration(p)
    p.add_argument("--again", action="store_true", help="repeat the runs that OUT/ablation.csv already holds")
    p.add_argument("--dry-run", action="store_true", help="say what would be run; write nothing")
    _add_talk(p)


def _add_weights(commands: Any) -> None:
    group = commands.add_parser(
        "weights", help="list, fetch, verify and convert SAM weights", description="The weights of the SAM family."
    )
    actions = group.add_subparsers(dest="action", required=True, metavar="ACTION")
    p = _command(actions, "list", "say which models there are, their licences, and where they are published", _WEIGHTS)
    p.add_argument("--json", action="store_true", help="for machines")

    p = _command(actions, "verify", "load weights, and compare their hash with the published one", _WEIGHTS)
    p.add_argument("path", type=_path, metavar="PATH", help="file or folder")
    _add_variant(p)
    p.add_argument("--json", action="store_true", help="for machines")

    p = _command(actions, "convert", "write an original checkpoint as a Hugging Face folder", _WEIGHTS)
    p.add_argument("source", type=_path, metavar="SRC", help="file or folder")
    p.add_argument("out", type=_path, metavar="DST", help="folder that does not exist yet")
    _add_variant(p)

    p = _command(actions, "fetch", "download weights from where they are published", _WEIGHTS)
    p.add_argument("name", choices=tuple(FAMILY), metavar="NAME", help="row of the SAM family")
    p.add_argument("-o", "--out", type=_path, required=True, metavar="DIR", help="folder to put them in")
    p.add_argument(
        "--url", metavar="URL", help="the file at another place (https, file); of a repository, the folder of its files"
    )
    p.add_argument("--quiet", action="store_true", help="no progress")


def _add_variant(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--variant", choices=tuple(FAMILY), metavar="NAME", help="row of the SAM family (default: told from the file)"
    )


def _add_info(commands: Any) -> None:
    p = _command(commands, "info", "say which methods, encoders, presets and weights there are")
    p.add_argument("--json", action="store_true", help="for machines")


def _add_selftest(commands: Any) -> None:
    p = _command(commands, "selftest", "register a phantom with a known motion, and check the result")
    p.add_argument("--device", type=_device, default="auto", metavar="auto|cpu|cuda[:N]", help="default auto")
    p.add_argument("--json", action="store_true", help="for machines")


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


def _add_pair(p: argparse.ArgumentParser) -> None:
    p.add_argument("fixed", type=_path, metavar="FIXED", help="DICOM folder, NIfTI, NRRD, MetaImage, PNG, JPEG or TIFF")
    p.add_argument("moving", type=_path, metavar="MOVING", help="the image to bring onto the fixed one")
    p.add_argument("--fixed-series", metavar="UID", help="SeriesInstanceUID, where the folder holds several")
    p.add_argument("--moving-series", metavar="UID", help="likewise for the moving folder")
    p.add_argument(
        "--allow-different-patients",
        action="store_true",
        help="do not refuse a pair whose patient ID, name, birth date or sex differ",
    )
    _add_pixel_spacing(p)


def _add_pixel_spacing(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--pixel-spacing", type=_positive, nargs=2, metavar=("X", "Y"), help="mm, for pictures that do not state it"
    )


def add_configuration(p: argparse.ArgumentParser) -> None:
    """The options that decide the result; `config_from` reads them."""
    from samreg import registry

    p.add_argument(
        "--method",
        choices=tuple(registry.METHODS),
        help="registration method; the preset of the same name sets every value that the file and the other options "
        "leave open (default hybrid)",
    )
    p.add_argument("--transform", choices=get_args(TransformChoice), help="finest transform (default deformable)")
    _add_choice(p, "--encoder", registry.ENCODERS, "features that regions are matched by")
    _add_choice(p, "--proposer", registry.PROPOSERS, "what finds the regions")
    _add_choice(p, "--matcher", registry.MATCHERS, "what pairs the regions")
    p.add_argument(
        "--estimators",
        type=lambda text: tuple(_known(name, registry.ESTIMATORS) for name in text.split(",")),
        metavar="NAME,...",
        help=f"estimators that are tried for the transform, in this order, in place of the method's "
        f"({', '.join(registry.ESTIMATORS)}, or module:Class)",
    )
    p.add_argument("--weights", metavar="PATH", help="file or folder of the encoder's weights")
    _add_variant(p)
    p.add_argument("--cache", metavar="DIR", help="keep what a model makes of a slice here for the next time")
    p.add_argument("--preset", choices=presets(), help="another name for --method; two different names are refused")
    p.add_argument(
        "--config",
        type=_path,
        metavar="FILE",
        help="YAML or JSON file whose values replace those of the preset; a method in it must be that of --method",
    )
    p.add_argument("--device", type=_device, metavar="auto|cpu|cuda[:N]", help="where to compute (default auto)")
    p.add_argument(
        "--threads", type=int, metavar="N", help="at most so many on a CPU (default: the processors there are for it)"
    )
    p.add_argument("--seed", type=int, metavar="N", help="of the random choices (default 0)")


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


def _add_choice(p: argparse.ArgumentParser, option: str, table: Mapping[str, Entry], summary: str) -> None:
    """An option that takes a name of the registry, or a class of the user's own."""
    names = [name for name in table if name != "labels"]  # those are --fixed-rois and --moving-rois
    p.add_argument(
        option,
        type=lambda text: _known(text, names),
        metavar="NAME",
        help=f"{summary} ({', '.join(names)}, or module:Class)",
    )


def _known(name: str, names: Iterable[str]) -> str:
    if name not in names and not is_own(name):
        raise argparse.ArgumentTypeError(f"'{name}' is not one of {', '.join(names)}, or module:Class")
    return name


def _stated(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def say(values: Any) -> None:
    """Print values as JSON."""
    sys.stdout.write(json.dumps(values, indent=1, ensure_ascii=False) + "\n")


def _add_transform(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "transform", type=_path, metavar="TRANSFORM", help="ITK .h5, .tfm, .txt or .mat, or NIfTI displacement field"
    )


def _add_talk(p: argparse.ArgumentParser) -> None:
    group = p.add_mutually_exclusive_group()
    group.add_argument("--quiet", action="store_true", help="errors alone")
    group.add_argument("--verbose", action="store_true", help="say what is done, and where an unexpected failure arose")


def _path(text: str) -> Path:
    if not text.strip():
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(text)


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is not a length in mm")
    return value


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"'{text}' is not auto, cpu, cuda or cuda:N")
    return text


@contextmanager
def _logging(args: argparse.Namespace) -> Iterator[None]:
    # Undone at the end: whoever calls `main` in its own process keeps its own logging.
    level = logging.WARNING
    if getattr(args, "quiet", False):
        level = logging.ERROR
    elif getattr(args, "verbose", False):
        level = logging.INFO
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("samreg: %(message)s"))
    logger = logging.getLogger("samreg")
    before = logger.handlers[:], logger.propagate, logger.level
    logger.handlers[:], logger.propagate = [handler], False
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.handlers[:], logger.propagate = before[0], before[1]
        logger.setLevel(before[2])


def _plain_failure(error: OSError | MemoryError, out: Path | None) -> str:
    if isinstance(error, MemoryError):
        return "out of memory. Close other programs, or register images of fewer voxels."
    if error.errno in FULL and out is not None:
        return (
            f"'{out}' cannot be written: its disk is full ({error.strerror}). Make space there, or choose another "
            "place with -o."
        )
    where = f" '{error.filename}'" if error.filename else ""
    return f"{error.strerror or error}{where}. Run again with --verbose to see where."


class _Stopped(SystemExit):
    """Ended by a signal."""


def _terminate(number: int, frame: FrameType | None) -> None:
    # Ends by way of an exception, so that temporary files are cleared away.
    raise _Stopped(128 + number)


if __name__ == "__main__":
    raise SystemExit(main())
