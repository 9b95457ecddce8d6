"""What the sub-commands of `samreg` do: each calls the library and writes. Returns the exit code."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from samreg import __version__, evaluation
from samreg.artefacts import OF_REGISTER
from samreg.availability import check_config
from samreg.cli import say
from samreg.cli_options import config_from, constraints_from
from samreg.cli_progress import ProgressLine
from samreg.config import Config, presets
from samreg.errors import InputRefused, UsageError
from samreg.output_folder import LOCATED, OutputFolder, Results
from samreg.run import GATE_FAILED, Door, exit_code, plan, run
from samreg.shipped import home
from samreg.sources import Sources, check_inputs, picture_spacings, read
from samreg.whole_files import check_file, whole_file

if TYPE_CHECKING:
    from samreg.counterparts import Prompt
    from samreg.geometry import Volume

REFUSED = InputRefused.exit_code


def register(args: Namespace) -> int:
    """Load, register and write; or say what would be done."""
    config = config_from(args)
    config = config.with_values({"as_files": config.as_files or args.as_files})
    sources = Sources(
        args.fixed,
        args.moving,
        fixed_rois=args.fixed_rois,
        moving_rois=args.moving_rois,
        constraints=constraints_from(args),
        **_pair_options(args),
    )
    if args.dry_run:
        planned = plan(sources, args.out, config)
        say(planned)
        return REFUSED if planned["refused"] else 0
    with _progress(args) as on_progress:
        report = run(sources, args.out, config, Door(on_progress=on_progress))
    if not args.quiet:
        _summary(report, args.out)
    return exit_code(report)


def apply(args: Namespace) -> int:
    """Warp an image onto the grid of another."""
    from samreg import io
    from samreg.io.writing import check_image_name, writable_grid, write_image
    from samreg.transforms.files import read_transform

    inputs = (args.transform, args.image, args.reference)
    check_inputs(*inputs)
    check_image_name(args.out)
    check_file(args.out, inputs)
    spacings = picture_spacings((args.image, args.reference), args.pixel_spacing)
    transform = read_transform(args.transform)
    nearest = args.interpolation == "nearest"
    read = io.read_for_nearest if nearest else io.read_image
    # An image is written, so nothing is asked of a series' identifiers.
    image = read(args.image, pixel_spacing_mm=spacings[0], as_files=True)
    reference = io.read_image(args.reference, pixel_spacing_mm=spacings[1], as_files=True)
    outside = 0.0 if nearest else min(0.0, float(image.voxels.min()))
    grid = writable_grid(reference.grid, args.out)
    if grid is not reference.grid:
        sys.stderr.write(
            f"samreg: The voxel axes of '{args.reference.name}' are not perpendicular, and not every reader of NIfTI "
            "supports that. The output lies on the perpendicular grid that covers its field of view. Files of "
            "type .nrrd and .mha keep the axes.\n"
        )
    warped = transform.warp(image, grid, interpolation=args.interpolation, outside=outside)
    with whole_file(args.out) as path:
        write_image(warped, grid, path)
    return 0


def apply_points(args: Namespace) -> int:
    """Map fixed points to moving points."""
    from samreg.tables import PointTable
    from samreg.transforms.files import read_transform

    check_inputs(args.transform, args.points)
    check_file(args.out, (args.transform, args.points))
    table = PointTable.read(args.points)
    mapped = read_transform(args.transform).map_points(table.points)
    with whole_file(args.out) as path:
        table.write(path, mapped)
    return 0


def evaluate(args: Namespace) -> int:
    """Score a transform by label maps, landmarks, or both."""
    from samreg.report import write_json

    keys = ("fixed_labels", "moving_labels", "fixed_landmarks", "moving_landmarks", "fixed", "moving")
    given = {key: getattr(args, key) for key in keys}
    check_file(args.out, [args.transform, *(path for path in given.values() if path is not None)])
    scores = evaluation.evaluate(
        args.transform, **given, landmarks_in=args.landmarks_in, pixel_spacing_mm=args.pixel_spacing
    )
    write_json({"samreg": __version__, **scores}, args.out)
    if not args.quiet:
        sys.stdout.write("\n".join(_gain(scores)) + "\n")
    return 0


def _gain(scores: dict[str, Any]) -> Iterator[str]:
    """The scores in words, each without the transform and with it."""
    if labels := scores.get("labels"):
        before, after = labels["before"]["mean"], labels["mean"]
        yield f"labels, mean of {len(labels['labels'])}: before → after"
        yield f"  Dice                 {before['dice']:.3f} → {after['dice']:.3f}"
        yield f"  HD95 [mm]            {before['hd95_mm']:.2f} → {after['hd95_mm']:.2f}"
    if landmarks := scores.get("landmarks"):
        before = landmarks["before"]
        yield f"landmark error, {landmarks['count']} landmarks: before → after"
        for key, unit, scale in (("tre_mm", "mm", 1), ("tre_px", "pixels", 1), ("relative_tre", "% of diagonal", 100)):
            for name, value in landmarks.get(key, {}).items():
                yield f"  {name + ' [' + unit + ']':<22} {scale * before[key][name]:.4g} → {scale * value:.4g}"


def locate(args: Namespace) -> int:
    """Print the region that a prompt means, and its counterpart; with --out, write them too."""
    from samreg import outputs
    from samreg.session import Session

    if args.label is not None and args.roi is None:
        raise UsageError(
            "--label is given without --roi", "a label together with its label map", "Give the label map with --roi."
        )
    config = config_from(args)
    inputs = [path for path in (args.fixed, args.moving, args.roi) if path is not None]
    check_inputs(*inputs)
    check_config(config)
    with _output_folder(args.out, inputs, LOCATED) as output:
        # An answer is no DICOM object, so nothing is asked of the series' identifiers.
        images = read(Sources(args.fixed, args.moving, **_pair_options(args)), config.with_values({"as_files": True}))
        with _progress(args) as on_progress:
            prompt = _prompt(args, images.fixed)
            located = Session(config).locate(images.fixed, images.moving, prompt, on_progress=on_progress)
        if output is not None:
            outputs.write_located(located, output.folder)
            output.commit()
    answer = located.as_dict()
    say(answer)
    return GATE_FAILED if answer.get("status") == "FAIL" else 0


def _prompt(args: Namespace, fixed: Volume) -> Prompt:
    """What `locate` was asked for, in the fixed image."""
    from samreg import io
    from samreg.counterparts import Box, GivenRoi, Point

    if args.point is not None:
        return Point(np.array(args.point))
    if args.box is not None:
        return Box(np.array(args.box))
    return GivenRoi.from_labels(io.read_labels(args.roi, fixed, args.label), args.label)


def _output_folder(
    out: Path | None, inputs: list[Path], results: Results
) -> AbstractContextManager[OutputFolder | None]:
    return nullcontext() if out is None else OutputFolder(out, inputs, results)


def ablate(args: Namespace) -> int:
    """Register every pair with every configuration, and write the tables; or say what would be run."""
    from samreg import ablation

    plan = ablation.planned(args.pairs, config_from(args), ablation.parse(args.vary))
    folder = ablation.AblationFolder(args.out, [args.pairs, *(path for case in plan.cases for path in case.paths)])
    if args.dry_run:
        say({**plan.as_json(), "missing": folder.missing(plan, again=args.again), "out": str(args.out)})
        return 0
    try:
        with _progress(args) as on_progress:
            rows = folder.run(plan, again=args.again, on_progress=on_progress)
    except KeyboardInterrupt:
        kept = len(plan) - folder.missing(plan)
        sys.stderr.write(
            f"samreg: The command was interrupted. {kept} of {len(plan)} runs are kept in {args.out / ablation.RUNS}.\n"
        )
        return 130
    if not args.quiet:
        broken = sum(row["status"] in ablation.WITHOUT_RESULT for row in rows)
        lost = f" {broken} of them ended without a result." if broken else ""
        sys.stdout.write(f"{len(rows)} runs are done.{lost} The table is {args.out / ablation.TABLE}.\n")
    return 0


def info(args: Namespace) -> int:
    """Print what is there: methods, encoders, presets, weights."""
    from samreg import registry

    facts = facts_of_this_installation()
    if args.json:
        say(facts)
        return 0
    lines = [f"samreg {facts['version']}"]
    for kind in ("methods", *registry.TABLES):
        lines += ["", f"{kind}:"]
        width = max(len(entry["name"]) for entry in facts[kind]) + 2
        for entry in facts[kind]:
            lines.append(f"  {entry['name']:<{width}}{entry['summary']}{' (needs weights)' * entry['needs_weights']}")
    lines += ["", f"SAM family: {', '.join(facts['sam_family'])}"]
    lines += [f"presets: {', '.join(facts['presets'])}"]
    weights = ", ".join(w["file"] for w in facts["weights"])
    lines += [f"weights: {weights or 'none; the encoder embedded is replaced by handcrafted'}"]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def selftest(args: Namespace) -> int:
    """Say whether this installation works; 1 if not."""
    from samreg.selftest import check

    outcome = check(args.device)
    if args.json:
        say(outcome.as_dict())
    else:
        said = "works" if outcome.passed else f"DOES NOT WORK (status {outcome.status})"
        lines = [f"samreg {outcome.version} {said}: true error {outcome.error_mm} mm, at most {outcome.limit_mm} mm"]
        lines += [f"{outcome.encoder} encoder on {outcome.device}, {outcome.seconds} s", *outcome.fallbacks]
        sys.stdout.write("\n".join(lines) + "\n")
    return 0 if outcome.passed else 1


def facts_of_this_installation() -> dict[str, Any]:
    """Version, registry rows, presets and weights; needs neither torch nor weights."""
    from samreg import registry
    from samreg.sam.family import FAMILY

    def rows(entries: Any) -> list[dict[str, Any]]:
        return [{"name": e.name, "summary": e.summary, "needs_weights": e.needs_weights} for e in entries.values()]

    models = home("models")
    weights = sorted(p for p in models.rglob("*") if p.suffix in (".safetensors", ".pth", ".pt"))
    return {
        "version": __version__,
        "methods": rows(registry.METHODS),
        **{kind: rows(table) for kind, table in registry.TABLES.items()},
        "sam_family": list(FAMILY),
        "presets": list(presets()),
        "weights": [{"file": p.relative_to(models).as_posix(), "bytes": p.stat().st_size} for p in weights],
        "configuration": Config().hash,
    }


def _pair_options(args: Namespace) -> dict[str, Any]:
    return {
        "fixed_series": args.fixed_series,
        "moving_series": args.moving_series,
        "allow_different_patients": args.allow_different_patients,
        "pixel_spacing_mm": tuple(args.pixel_spacing) if args.pixel_spacing else None,
    }


def _summary(report: dict[str, Any], out: Path) -> None:
    for entry in report.get("registrations", [report]):
        reasons = f": {' '.join(entry['reasons'])}" if entry["reasons"] else ""
        page = out / entry.get("folder", "") / OF_REGISTER["report"].path
        made = f"{entry['kind']} transform, report in {page}" if entry["kind"] else "nothing was registered"
        sys.stdout.write(f"{entry['status']}{reasons}\n{made}\n")


@contextmanager
def _progress(args: Namespace) -> Iterator[Callable[[str, float], None] | None]:
    if args.quiet:
        yield None
        return
    line = ProgressLine()
    try:
        yield line
    finally:
        line.close()
