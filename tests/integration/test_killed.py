"""Processes that are killed or stopped at any moment, fill the disk, or may not write, leave whole results or none."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from samreg.geometry import Grid, Volume
from samreg.io import read_image
from samreg.io.writing import write_image
from samreg.phantoms import write_dicom_series
from samreg.transforms import read_transform
from tests.faults import fill_the_disk, lose_privileges

NAMES = {"transform.h5", "inverse.h5", "warped.nii.gz", "pairs.json", "rois_fixed.nii.gz", "rois_moving.nii.gz"}
NAMES |= {"report.json", "report.html", "dicom/reg.dcm", "dicom/seg_fixed.dcm", "dicom/seg_moving.dcm"}


@pytest.fixture(scope="module")
def server() -> multiprocessing.context.ForkServerContext:
    """Starts processes that have everything imported, and no threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["samreg.cli_commands", "samreg.session", "samreg.dicom_out", "tests.instant"])
    return context


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small series, `fixed` and `moving`, and an image as `image.nii.gz`."""
    folder = tmp_path_factory.mktemp("pair")
    for seed, name in enumerate(("fixed", "moving")):
        voxels = np.random.default_rng(seed).integers(0, 900, (32, 30, 10)).astype(np.float32)
        volume = Volume(voxels, Grid.from_axes(voxels.shape, (2, 2, 3)), modality="MR")
        write_dicom_series(volume, folder / name, frame_of_reference_uid=f"1.2.{seed + 1}")
    write_image(volume.voxels, volume.grid, folder / "image.nii.gz")
    return folder


def _command(arguments: list[str], before: Callable[[], None] | None) -> None:
    """A command in a process of its own, with an instant pipeline; its exit code, or 70 after a traceback."""
    from samreg import cli, report
    from samreg.session import Session
    from tests.instant import InstantPipeline

    os.setpgrp()
    Session.register = InstantPipeline().register
    report.write_report = lambda result, warped, path, *, report: path.write_text("<html>")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    if before is not None:
        before()
    code = 70
    try:
        code = cli.main(arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        os._exit(code)


class Commands:
    """Runs `samreg` in processes of its own."""

    def __init__(self, server: multiprocessing.context.ForkServerContext, pair: Path) -> None:
        self._server, self.pair = server, pair

    def register(self, out: Path) -> list[str]:
        return ["register", str(self.pair / "fixed"), str(self.pair / "moving"), "-o", str(out), "--quiet"]

    def start(self, arguments: list[str], before: Callable[[], None] | None = None):
        process = self._server.Process(target=_command, args=(arguments, before))
        process.start()
        return process

    def run(self, arguments: list[str], before: Callable[[], None] | None = None) -> int:
        process = self.start(arguments, before)
        process.join(60)
        assert process.exitcode is not None, "it hangs"
        return process.exitcode

    def stopped(self, arguments: list[str], number: int, after_s: float) -> int:
        """The exit code of a command that gets this signal after so many seconds, unless it has ended."""
        process = self.start(arguments)
        process.join(after_s)
        if process.exitcode is None:
            os.kill(process.pid, number)
        process.join(60)
        assert process.exitcode is not None, "it hangs"
        return process.exitcode


@pytest.fixture
def commands(server, pair: Path) -> Commands:
    return Commands(server, pair)


def written(out: Path) -> set[str]:
    return {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}


def assert_whole(out: Path) -> None:
    assert written(out) == NAMES
    assert json.loads((out / "report.json").read_text())["status"] == "PASS"
    read_transform(out / "transform.h5")
    read_image(out / "warped.nii.gz")


def moments(count: int, whole_s: float) -> Iterator[float]:
    """Random ones of a run that takes so long."""
    rng = np.random.default_rng(0)
    yield from rng.uniform(0.0, 1.1 * whole_s, count)


@pytest.fixture
def whole_s(commands: Commands, tmp_path: Path) -> float:
    """How long a run takes."""
    for _ in range(2):  # the first imports what the server has not
        started = time.monotonic()
        assert commands.run(commands.register(tmp_path / "timed" / "out")) == 0
    return time.monotonic() - started


@pytest.mark.parametrize("earlier", [False, True], ids=["new", "over earlier results"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_stopped_at_any_moment(commands: Commands, tmp_path: Path, whole_s: float, number: int, earlier):
    out = tmp_path / "a" / "out"
    if earlier:
        assert commands.run(commands.register(out)) == 0
    for after_s in moments(4, whole_s):
        code = commands.stopped(commands.register(out), number, after_s)
        # Killed between two renamings, the earlier results are gone, but never mixed with others, or halves.
        if out.exists() and any(out.iterdir()):
            assert_whole(out)
        else:
            assert code != 0
        if number != signal.SIGKILL and out.parent.exists():
            # A process that is stopped before it can tidy up has written nothing yet.
            assert [p.name for p in out.parent.iterdir() if p.name != "out"] == []
    assert commands.run(commands.register(out)) == 0
    assert_whole(out)
    assert [path.name for path in out.parent.iterdir()] == ["out"], "what killed runs left was not removed"


def test_an_image_whose_writing_is_killed_at_any_moment(commands: Commands, tmp_path: Path, pair: Path):
    assert commands.run(commands.register(tmp_path / "out")) == 0
    image, transform = str(pair / "image.nii.gz"), str(tmp_path / "out" / "transform.h5")
    for name in ("a.nii.gz", "a.nrrd"):
        target = tmp_path / "warped" / name
        target.parent.mkdir(exist_ok=True)
        arguments = ["apply", transform, image, "--reference", image, "-o", str(target)]
        started = time.monotonic()
        assert commands.run(arguments) == 0
        whole = read_image(target).voxels
        for after_s in moments(4, time.monotonic() - started):
            target.unlink(missing_ok=True)
            commands.stopped(arguments, signal.SIGKILL, after_s)
            if target.exists():
                np.testing.assert_array_equal(read_image(target).voxels, whole)
        assert commands.run(arguments) == 0
        assert [path.name for path in target.parent.iterdir()] == [name]
        target.unlink()


class _Disk:
    """A full disk, as a process is told of it before its work."""

    def __init__(self, left: int) -> None:
        self.left = left

    def __call__(self) -> None:
        fill_the_disk(self.left)


def test_a_disk_that_fills_up_at_any_file(commands: Commands, tmp_path: Path):
    out = tmp_path / "a" / "out"
    assert commands.run(commands.register(out)) == 0
    sizes = sorted((out / name).stat().st_size for name in NAMES)
    before = (out / "report.json").read_bytes()
    for left in sorted({0, *(size - 1 for size in sizes)}):
        assert commands.run(commands.register(out), _Disk(left)) in (1, 2), f"{left} bytes"
        assert (out / "report.json").read_bytes() == before
        assert_whole(out)
        assert [path.name for path in out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("there", [True, False], ids=["folder", "parent"])
def test_an_output_that_may_not_be_written(commands: Commands, tmp_path: Path, there: bool):
    place = tmp_path / "place"
    place.mkdir()
    out = place if there else place / "out"
    place.chmod(0o500)
    try:
        assert commands.run(commands.register(out), lose_privileges) == 2
        target = str(place / "a.csv")
        points = tmp_path / "p.csv"
        points.write_text("1,2,3\n")
        (tmp_path / "t.tfm").write_text(IDENTITY)
        apply = ["apply-points", str(tmp_path / "t.tfm"), str(points), "-o", target]
        assert commands.run(apply, lose_privileges) == 2
    finally:
        place.chmod(0o700)
    assert list(place.iterdir()) == []
    assert commands.run(apply) == 0


IDENTITY = """#Insight Transform File V1.0
#Transform 0
Transform: AffineTransform_double_3_3
Parameters: 1 0 0 0 1 0 0 0 1 0 0 0
FixedParameters: 0 0 0
"""


def test_two_processes_into_one_folder(commands: Commands, tmp_path: Path):
    """Both may end well, one after the other; or one is told of the other. What stands there is whole."""
    out = tmp_path / "a" / "out"
    for _ in range(3):
        both = [commands.start(commands.register(out)) for _ in range(2)]
        for process in both:
            process.join(60)
        codes = [process.exitcode for process in both]
        assert 0 in codes
        assert set(codes) <= {0, 2}
        assert_whole(out)
        assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_two_processes_into_one_file(commands: Commands, tmp_path: Path, pair: Path):
    assert commands.run(commands.register(tmp_path / "out")) == 0
    image, transform = str(pair / "image.nii.gz"), str(tmp_path / "out" / "transform.h5")
    target = tmp_path / "warped" / "a.nrrd"
    target.parent.mkdir()
    arguments = ["apply", transform, image, "--reference", image, "-o", str(target)]
    assert commands.run(arguments) == 0
    whole = read_image(target).voxels
    for _ in range(3):
        both = [commands.start(arguments) for _ in range(2)]
        for process in both:
            process.join(60)
        assert [process.exitcode for process in both] == [0, 0]
        np.testing.assert_array_equal(read_image(target).voxels, whole)
        assert [path.name for path in target.parent.iterdir()] == ["a.nrrd"]
