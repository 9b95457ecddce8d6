"""A file is written as a whole or not at all, whatever becomes of the disk or of the process."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from samreg.errors import InputRefused, OutputInvalid, SamregError, UsageError
from samreg.geometry import Grid
from samreg.io import read_image
from samreg.io.writing import WRITTEN_SUFFIXES, write_image
from samreg.output_folder import OutputFolder
from samreg.report import write_json
from samreg.tables import PointTable
from samreg.transforms import Affine, Composite, DisplacementField, read_transform, write_transform
from samreg.whole_files import alone_in, whole_file, whole_folder
from tests.faults import fill_the_disk, in_another_process

GRID = Grid.from_axes((24, 20, 8), (1, 1, 2))
NOISE = np.random.default_rng(0).normal(size=GRID.shape).astype(np.float32)
VECTORS = np.random.default_rng(0).normal(size=(*GRID.shape, 3)).astype(np.float32)


def image(path: Path) -> None:
    with whole_file(path) as part:
        write_image(NOISE, GRID, part)


def transform(path: Path) -> None:
    made = Composite((Affine(np.eye(4)), DisplacementField(GRID, VECTORS)))
    write_transform(made, path, grid=GRID if ".nii" in path.name else None)


def points(path: Path) -> None:
    table = PointTable(VECTORS.reshape(-1, 3), None, (("", "", ""),) * NOISE.size, (0, 1, 2))
    with whole_file(path) as part:
        table.write(part, table.points)


WRITERS = {
    **{f"image{suffix}": image for suffix in WRITTEN_SUFFIXES},
    **{f"transform{suffix}": transform for suffix in (".h5", ".tfm", ".nii", ".nii.gz")},
    "points.csv": points,
    "report.json": lambda path: write_json({"numbers": list(range(3000))}, path),
}


@pytest.mark.parametrize("name", WRITERS)
class TestFullDisk:
    def test_what_does_not_fit_is_told_and_leaves_nothing(self, tmp_path: Path, name: str):
        WRITERS[name](tmp_path / name)
        size = (tmp_path / name).stat().st_size
        (tmp_path / name).unlink()

        def write(left: int) -> None:
            fill_the_disk(left)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # where libraries complain
            try:
                WRITERS[name](tmp_path / name)
            except (SamregError, OSError):
                os._exit(17)

        # The last bytes are written when the file is closed, where nobody may look at the error any more.
        for left in (0, 10, size // 2, size - 5000, size - 400, size - 20, size - 1):
            if left >= 0:
                assert in_another_process(lambda left=left: write(left)) == 17, f"{left} of {size} bytes"
                assert not list(tmp_path.iterdir())

    def test_what_stood_there_stays(self, tmp_path: Path, name: str):
        (tmp_path / name).write_text("earlier")

        def write() -> None:
            fill_the_disk(10)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            WRITERS[name](tmp_path / name)

        assert in_another_process(write) != 0
        assert (tmp_path / name).read_text() == "earlier"
        assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_refusal_names_the_file_and_the_way_out(tmp_path: Path, monkeypatch):
    import nibabel
    import SimpleITK

    def cutting(write):
        def cut(image, path, **options) -> None:
            write(image, path, **options)
            os.truncate(path, Path(path).stat().st_size - 9)

        return cut

    for package, name in ((SimpleITK, "WriteImage"), (nibabel, "save")):
        monkeypatch.setattr(package, name, cutting(getattr(package, name)))
    with pytest.raises(OutputInvalid, match=r"a\.nrrd.*space"):
        write_image(NOISE, GRID, tmp_path / "a.nrrd")
    with pytest.raises(UsageError, match=r"a\.nii.*cut|a\.nii.*end after.*space"):
        transform(tmp_path / "a.nii")


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path):
    path = tmp_path / "a.txt"
    with whole_file(path) as first, whole_file(path) as second:
        assert first.name == second.name == path.name
        first.write_text("first")
        second.write_text("second")
        assert not path.exists()
    assert path.read_text() == "first", "the later to end, as a whole"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path):
    path = tmp_path / "a.txt"

    def killed() -> None:
        with whole_file(path) as part:
            part.write_text("half")
            os._exit(9)

    assert in_another_process(killed) == 9
    (left,) = tmp_path.iterdir()
    with whole_file(path) as living:
        assert not left.exists()
        living.write_text("whole")
        with whole_file(path) as other:
            other.write_text("other")
        assert living.exists()
    assert path.read_text() == "whole"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_an_error_leaves_what_stood_there(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text("earlier")

    def write() -> None:
        with whole_file(path) as part:
            part.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()
    assert path.read_text() == "earlier"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_appears_when_it_is_whole(tmp_path: Path):
    def fail() -> None:
        with whole_folder(tmp_path / "a") as part:
            (part / "half").touch()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not list(tmp_path.iterdir())
    with whole_folder(tmp_path / "a") as part:
        (part / "whole").touch()
        assert not (tmp_path / "a").exists()
    assert [p.relative_to(tmp_path).as_posix() for p in sorted(tmp_path.rglob("*"))] == ["a", "a/whole"]


def test_one_process_at_a_time_in_a_folder(tmp_path: Path):
    def enter() -> None:
        with alone_in(tmp_path):
            pass

    with alone_in(tmp_path):
        assert in_another_process(enter) == 99
        with pytest.raises(UsageError, match="Another run"):
            enter()
    assert in_another_process(enter) == 0


def test_what_is_read_back_is_what_was_written(tmp_path: Path):
    for name in WRITERS:
        WRITERS[name](tmp_path / name)
    for suffix in WRITTEN_SUFFIXES:
        np.testing.assert_array_equal(read_image(tmp_path / f"image{suffix}").voxels, NOISE)
    for suffix in (".h5", ".tfm", ".nii", ".nii.gz"):
        moved = read_transform(tmp_path / f"transform{suffix}").map_points(GRID.points()[1:-1, 1:-1, 1:-1])
        np.testing.assert_allclose(moved, (GRID.points() + VECTORS)[1:-1, 1:-1, 1:-1], atol=1e-4)


class TestNamesThatAreNoText:
    """As old archives hold them, in Latin-1; ITK ends the process over them."""

    name = os.fsdecode(b"Gr\xf6\xdfe")

    @pytest.mark.parametrize("writer", WRITERS)
    def test_no_output_has_one(self, tmp_path: Path, writer: str):
        def write() -> None:
            with pytest.raises(UsageError, match="UTF-8"):
                WRITERS[writer](tmp_path / f"{self.name}-{writer}")

        assert in_another_process(write) == 0
        assert not list(tmp_path.iterdir())

    def test_nor_has_a_folder_of_results(self, tmp_path: Path):
        with pytest.raises(UsageError, match="UTF-8"):
            OutputFolder(tmp_path / self.name / "out")

    @pytest.mark.parametrize("writer", [name for name in WRITERS if name.startswith(("image", "transform"))])
    def test_inputs_are_read_or_refused(self, tmp_path: Path, writer: str):
        WRITERS[writer](tmp_path / writer)
        odd = tmp_path / f"{self.name}{writer}"
        (tmp_path / writer).rename(odd)

        def look() -> None:
            try:
                read_image(odd) if writer.startswith("image") else read_transform(odd)
            except InputRefused as error:
                os._exit(3 if "UTF-8" in error.got else 98)

        read = writer.endswith((".nii", ".nii.gz", ".tfm"))
        assert in_another_process(look) == (0 if read else 3)
