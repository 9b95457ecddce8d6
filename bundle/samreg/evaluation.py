"""The accuracy of a transform, measured by label maps or landmarks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samreg.doors import ending_the_process
from samreg.errors import UsageError
from samreg.sources import check_inputs, picture_spacings
from samreg.whole_files import check_file

if TYPE_CHECKING:
    from samreg.transforms import Transform


def evaluate(
    transform: Path | str,
    *,
    fixed_labels: Path | str | None = None,
    moving_labels: Path | str | None = None,
    fixed_landmarks: Path | str | None = None,
    moving_landmarks: Path | str | None = None,
    landmarks_in: str = "mm",
    fixed: Path | str | None = None,
    moving: Path | str | None = None,
    pixel_spacing_mm: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Score a transform by label maps (equal numbers are the same structure), landmarks, or both.

    Args:
        transform: ITK or NIfTI file, fixed points to moving points.
        fixed_labels, moving_labels: Image files.
        fixed_landmarks, moving_landmarks: CSV files; the same names, or the same order.
        landmarks_in: "mm" (LPS) or "pixels" of the images `fixed` and `moving`.
        fixed, moving: The images that landmarks in pixels were set on.
        pixel_spacing_mm: (x, y) of pictures that do not state it, as in the registration.

    Returns:
        `labels` and `landmarks`, as far as they were given, each with `before`, the same for the
        identity; see `samreg.metrics`.

    Raises:
        UsageError: Nothing to score by, something for one image alone, or a path that does not exist.
        InputRefused: A file that cannot be read as what it should be.
    """
    from samreg.transforms import Affine
    from samreg.transforms.files import read_transform

    labels = _both(fixed_labels, moving_labels, "labels")
    landmarks = _both(fixed_landmarks, moving_landmarks, "landmarks")
    images = _both(fixed, moving, "images")
    if labels is None and landmarks is None:
        raise UsageError("neither label maps nor landmarks are given", "label maps or landmarks of both images")
    if landmarks_in not in ("mm", "pixels"):
        raise UsageError(f"the unit of the landmarks is '{landmarks_in}'", "mm or pixels")
    pixels = landmarks is not None and landmarks_in == "pixels"
    if pixels != (images is not None):
        got = (
            "landmarks in pixels are given without images" if pixels else "images are given without landmarks in pixels"
        )
        raise UsageError(
            got,
            "landmarks in pixels together with the images that they lie in",
            "Give --landmarks-in pixels --fixed FIXED --moving MOVING.",
        )
    if pixel_spacing_mm is not None and images is None:
        raise UsageError(
            "a pixel spacing is given and the landmarks are in mm",
            "--landmarks-in pixels",
            "Leave --pixel-spacing out.",
        )
    check_inputs(transform, *(labels or ()), *(landmarks or ()), *(images or ()))
    found = read_transform(transform)
    scores: dict[str, Any] = {"transform": Path(transform).name}
    if labels is not None:
        scores["labels"] = _label_scores(found, *labels) | {"before": _label_scores(Affine.identity(), *labels)}
    if landmarks is not None:
        scores["landmarks"] = _landmark_scores(found, landmarks, images, pixel_spacing_mm)
    return scores


def evaluate_or_exit(out: Path | str, **choices: Any) -> None:
    """`evaluate` into a JSON file, for a door that ends the process.

    Raises:
        SystemExit: With the exit code of the error.
    """
    from samreg.report import write_json

    other = ("landmarks_in", "pixel_spacing_mm")
    with ending_the_process():
        check_file(Path(out), [Path(v) for key, v in choices.items() if v is not None and key not in other])
        write_json(evaluate(**choices), out)


def _both(fixed: Path | str | None, moving: Path | str | None, what: str) -> tuple[Path, Path] | None:
    if fixed is None and moving is None:
        return None
    if fixed is None or moving is None:
        raise UsageError(
            f"{what} of only one image are given", f"{what} of both images", "Give those of the other image too."
        )
    return Path(fixed), Path(moving)


def _label_scores(transform: Transform, fixed: Path, moving: Path) -> dict[str, Any]:
    from samreg import io, metrics

    # Nothing is registered here, so each map may state its own grid.
    a, b = io.read_label_map(fixed), io.read_label_map(moving)
    return metrics.evaluate_labels(transform, a.voxels, a.grid, b.voxels, b.grid)


def _landmark_scores(
    transform: Transform,
    landmarks: tuple[Path, Path],
    images: tuple[Path, Path] | None,
    pixel_spacing_mm: Sequence[float] | None,
) -> dict[str, Any]:
    from samreg import io, metrics
    from samreg.tables import PointTable, paired

    if images is None:
        return metrics.evaluate_landmarks(transform, *paired(*map(PointTable.read, landmarks)))
    spacings = picture_spacings(images, pixel_spacing_mm)
    grids = [io.read_image(p, pixel_spacing_mm=s, as_files=True).grid for p, s in zip(images, spacings, strict=True)]
    tables = [PointTable.read_pixels(path, grid) for path, grid in zip(landmarks, grids, strict=True)]
    scores = metrics.evaluate_landmarks(transform, *paired(*tables), moving_grid=grids[1])
    return scores | {"left_out": max(len(t.points) for t in tables) - scores["count"]}
