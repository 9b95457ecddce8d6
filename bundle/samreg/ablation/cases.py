"""The list of image pairs, and what each is judged by."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, fields
from hashlib import sha256
from pathlib import Path

import numpy as np

from samreg.errors import UsageError
from samreg.geometry import Volume
from samreg.sources import Inputs, check_inputs
from samreg.transforms import Transform
from samreg.types import Mask, Points


@dataclass(frozen=True)
class Case:
    """One pair of images.

    Attributes:
        name: Stands in the tables; each once.
        fixed, moving: DICOM folders, image files or pictures.
        fixed_labels, moving_labels: Label maps that score the result; the registration does not see them.
        fixed_landmarks, moving_landmarks: CSV files of points (LPS mm) that score the result.
        fixed_rois, moving_rois: Label maps that the registration is given (Case 1).
        pixel_spacing_mm: (x, y) of pictures that do not state it.
    """

    name: str
    fixed: Path
    moving: Path
    fixed_labels: Path | None = None
    moving_labels: Path | None = None
    fixed_landmarks: Path | None = None
    moving_landmarks: Path | None = None
    fixed_rois: Path | None = None
    moving_rois: Path | None = None
    pixel_spacing_mm: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        check_inputs(*self.paths)
        for what in ("labels", "landmarks", "rois"):
            if (getattr(self, f"fixed_{what}") is None) != (getattr(self, f"moving_{what}") is None):
                raise UsageError(f"pair '{self.name}' has {what} of only one image", f"{what} of both, or of neither")

    @property
    def paths(self) -> list[Path]:
        """Every path that is read."""
        values = (getattr(self, f.name) for f in fields(self) if f.name not in ("name", "pixel_spacing_mm"))
        return [Path(value) for value in values if value is not None]

    @property
    def hash(self) -> str:
        """Twelve hex digits that tell it from a case of other files, whatever the names."""
        values = [getattr(self, f.name) for f in fields(self) if f.name != "name"]
        texts = [str(Path(value).absolute()) if isinstance(value, Path | str) else str(value) for value in values]
        return sha256("\n".join(texts).encode()).hexdigest()[:12]


COLUMNS = tuple("pixel_spacing" if f.name == "pixel_spacing_mm" else f.name for f in fields(Case))


def read_cases(path: Path | str) -> tuple[Case, ...]:
    """The pairs of a CSV file: columns fixed, moving, and any other of `COLUMNS`; paths relative to the file.

    A pair without a name is called by its place in the list, from 1.

    Raises:
        UsageError: The file cannot be read, a column is unknown or missing, a name stands twice, a
            path does not exist, or labels, landmarks or regions are given for one image alone.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True, restkey="", restval="")
            header = tuple(name.strip() for name in reader.fieldnames or ())
            reader.fieldnames = list(header)
            rows = [row for row in reader if any(row.values())]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"the list of pairs '{path}' cannot be read ({error})", "a CSV file") from error
    wrong = [name for name in header if name not in COLUMNS or header.count(name) > 1]
    if wrong or not {"fixed", "moving"} <= {*header}:
        raise UsageError(
            f"the list of pairs '{path}' has the columns {', '.join(header) or '(none)'}",
            f"fixed, moving, and any of {', '.join(c for c in COLUMNS if c not in ('fixed', 'moving'))}, each once",
        )
    if not rows:
        raise UsageError(f"'{path}' holds no pairs", "a row for each pair of images")
    cases = tuple(_case(row, n, path) for n, row in enumerate(rows, 1))
    names = [case.name for case in cases]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"'{path}' names two pairs '{twice}'", "each name once")
    return cases


def _case(row: Mapping[str, str], number: int, path: Path) -> Case:
    if row.get(""):
        raise UsageError(f"pair {number} of '{path}' has more fields than there are columns", "a field for each column")
    cells = {key: value.strip() for key, value in row.items() if key and value.strip()}
    for role in ("fixed", "moving"):
        if role not in cells:
            raise UsageError(f"pair {number} of '{path}' has no {role} image", "a fixed and a moving image")
    name = cells.pop("name", str(number))
    spacing = _spacing(cells.pop("pixel_spacing", ""), number, path)
    return Case(name, **{key: path.parent / cell for key, cell in cells.items()}, pixel_spacing_mm=spacing)


def _spacing(text: str, number: int, path: Path) -> tuple[float, float] | None:
    if not text:
        return None
    try:
        values = [float(word) for word in text.split()]
    except ValueError:
        values = []
    if len(values) not in (1, 2) or not all(0 < value < float("inf") for value in values):
        raise UsageError(
            f"pair {number} of '{path}' has the pixel spacing '{text}'", "one or two lengths in mm: 0.5 0.5"
        )
    return values[0], values[-1]


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """What a transform of one pair is judged by, and nothing that the registration sees.

    Attributes:
        fixed: The fixed image; folding is counted in its body.
        labels: Label maps of the fixed and the moving image, each on its own grid, or None.
        landmarks: Points [n, 3] in LPS mm of the fixed and the moving image, or None.
    """

    fixed: Volume
    body: Mask
    labels: tuple[Volume, Volume] | None
    landmarks: tuple[Points, Points] | None

    @staticmethod
    def of(case: Case, inputs: Inputs) -> GroundTruth:
        """Reads what the case names.

        Raises:
            InputRefused: A file that cannot be read as what it should be.
        """
        from samreg.preprocess import body_mask
        from samreg.tables import PointTable, paired

        labels = landmarks = None
        if case.fixed_labels is not None and case.moving_labels is not None:
            labels = _labels(case.fixed_labels, inputs.fixed), _labels(case.moving_labels, inputs.moving)
        if case.fixed_landmarks is not None and case.moving_landmarks is not None:
            landmarks = paired(PointTable.read(case.fixed_landmarks), PointTable.read(case.moving_landmarks))
        return GroundTruth(inputs.fixed, body_mask(inputs.fixed), labels, landmarks)

    def measures(self, transform: Transform) -> dict[str, float]:
        """Mean Dice and HD95 (mm) of the labels, TRE (mm), folding (% of the body), SDlogJ; NaN where not given."""
        from samreg import metrics

        dice = hd95 = mean = largest = float("nan")
        if self.labels is not None:
            a, b = self.labels
            scores = metrics.evaluate_labels(transform, a.voxels, a.grid, b.voxels, b.grid)["mean"]
            dice, hd95 = scores["dice"], scores["hd95_mm"]
        if self.landmarks is not None:
            errors = metrics.target_registration_error_mm(transform, *self.landmarks)
            mean, largest = float(np.mean(errors)), float(np.max(errors))
        jacobian = metrics.jacobian_measures(transform.jacobian_determinant(self.fixed.grid), self.body)
        return {
            "dice": dice,
            "tre_mean_mm": mean,
            "tre_max_mm": largest,
            "hd95_mm": hd95,
            "folding_percent": 100 * jacobian["folding_share"],
            "sd_log_jacobian": jacobian["sd_log_jacobian"],
        }


def _labels(path: Path, image: Volume) -> Volume:
    """A label map on the grid it states itself; pictures and DICOM SEG lie on their image's."""
    from samreg.io import read_label_map, read_labels
    from samreg.io.formats import image_format

    if image_format(path) in ("picture", "DICOM"):
        return Volume(read_labels(path, image), image.grid)
    return read_label_map(path)
