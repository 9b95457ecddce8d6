"""The folder of results: one run at a time, and nothing left of those that were killed."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from samreg import outputs
from samreg.errors import UsageError
from samreg.output_folder import REGISTRATION, OutputFolder
from samreg.outputs import flatten
from tests.faults import before_renaming, mount_point


@pytest.fixture(params=["beside", "inside"])
def out(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty output folder, whose staging folder stands beside it or in it."""
    folder = tmp_path / "out"
    folder.mkdir()
    if request.param == "inside":
        mount_point(monkeypatch, folder)
    return folder


def write(output: OutputFolder, text: str, *names: str) -> None:
    for name in ("report.json", *names):
        (output.folder / name).parent.mkdir(exist_ok=True)
        (output.folder / name).write_text(text)


def held(out: Path) -> dict[str, str]:
    return {path.relative_to(out).as_posix(): path.read_text() for path in out.rglob("*") if path.is_file()}


def test_a_second_run_into_one_folder_is_refused_and_the_first_is_not_disturbed(out: Path):
    with OutputFolder(out) as first:
        write(first, "first", "dicom/reg.dcm")
        with pytest.raises(UsageError, match="Another run") as told:
            OutputFolder(out)
        assert "another folder" in told.value.next_step
        first.commit()
    assert held(out) == {"report.json": "first", "dicom/reg.dcm": "first"}
    with OutputFolder(out) as second:
        write(second, "second")
        second.commit()
    assert held(out) == {"report.json": "second"}


def test_another_process_is_refused_too(out: Path):
    code = f"from samreg.output_folder import OutputFolder; from pathlib import Path; OutputFolder(Path({str(out)!r}))"
    with OutputFolder(out):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode
    assert "Another run" in done.stderr


def test_a_failed_run_lets_the_next_one_in(out: Path):
    with pytest.raises(ZeroDivisionError), OutputFolder(out):
        raise ZeroDivisionError
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"notes\.txt"):
        OutputFolder(out)
    (out / "notes.txt").unlink()
    with OutputFolder(out):
        pass


def killed(run: Callable[[], None]) -> None:
    """Runs it in another process, which ends there without any tidying."""
    child = os.fork()
    if child == 0:
        try:
            run()
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def hidden(out: Path) -> set[Path]:
    """Folders of runs that did not end, in and beside `out`."""
    return {path for place in (out, out.parent) if place.is_dir() for path in place.iterdir() if path.name[0] == "."}


def test_staging_folders_of_killed_runs_are_removed(out: Path):
    killed(lambda: write(OutputFolder(out), "killed", "dicom/seg_fixed.dcm"))
    (left,) = hidden(out)
    assert held(left)
    names = (f"{left.name[:-8]}mine", f"{left.name}-mine", f".another{left.name}", left.name.replace(".", "X"))
    alike = [out.parent / name for name in names]
    for folder in alike:
        folder.mkdir()
        (folder / "seg_fixed.dcm").touch()
    with OutputFolder(out):
        assert not left.exists()
        assert all((folder / "seg_fixed.dcm").exists() for folder in alike)


def test_a_run_that_is_killed_while_it_replaces_results_leaves_nothing_for_good(tmp_path: Path, monkeypatch):
    out = tmp_path / "out"
    with OutputFolder(out) as output:
        write(output, "first")
        output.commit()

    def run() -> None:
        output = OutputFolder(out)
        write(output, "killed")
        before_renaming(monkeypatch, lambda source: os._exit(0) if source == output.folder else None)
        output.commit()

    killed(run)
    assert hidden(out)
    for text in ("second", "third"):  # what was left is known by the folder that stands there again
        with OutputFolder(out) as output:
            write(output, text)
            output.commit()
        assert held(out) == {"report.json": text}
    assert not hidden(out)


def test_staging_folders_of_runs_that_live_are_not_removed(tmp_path: Path):
    out = tmp_path / "out"
    with OutputFolder(out) as first, OutputFolder(out) as second:
        write(first, "first", "dicom/dreg.dcm")
        first.commit()
        with OutputFolder(out) as third:
            write(second, "second")
            with pytest.raises(UsageError, match="Another run"):
                second.commit()
            write(third, "third", "dicom/reg.dcm")
            third.commit()
        assert held(out) == {"report.json": "third", "dicom/reg.dcm": "third"}
        second.commit()
    assert held(out) == {"report.json": "second"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_of_two_runs_into_a_new_folder_the_later_one_wins_as_a_whole(tmp_path: Path, monkeypatch):
    """Even if the first puts its results there when the second, which found no folder, is about to do so."""
    out = tmp_path / "out"
    with OutputFolder(out) as first, OutputFolder(out) as second:
        write(first, "first", "dicom/dreg.dcm")
        write(second, "second", "dicom/reg.dcm")

        def overtake(source: Path) -> None:
            if source == second.folder and first.folder.exists():
                first.commit()

        before_renaming(monkeypatch, overtake)
        second.commit()
        assert not first.folder.exists(), "the first came in between"
    assert held(out) == {"report.json": "second", "dicom/reg.dcm": "second"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_files_of_others_that_came_meanwhile_are_not_lost(out: Path):
    with OutputFolder(out) as output:
        write(output, "ours")
        (out / "notes.txt").write_text("mine")
        if output.folder.parent == out:
            output.commit()
        else:
            with pytest.raises(UsageError, match=r"notes\.txt"):
                output.commit()
    assert held(out)["notes.txt"] == "mine"


def test_a_failure_to_put_results_in_place_leaves_the_earlier_ones(tmp_path: Path, monkeypatch):
    out = tmp_path / "out"
    with OutputFolder(out) as output:
        write(output, "first")
        output.commit()
    with OutputFolder(out) as output:

        def fail(source: Path) -> None:
            if source == output.folder:
                raise OSError(5, "Input/output error")

        write(output, "second")
        before_renaming(monkeypatch, fail)
        with pytest.raises(OSError, match="Input/output"):
            output.commit()
    assert held(out) == {"report.json": "first"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_without_locks_the_work_goes_on_and_nothing_is_removed(out: Path, monkeypatch):
    def none(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", none)
    killed(lambda: write(OutputFolder(out), "killed"))
    (stale,) = hidden(out)
    with OutputFolder(out) as output:
        write(output, "ours")
        output.commit()
    assert (out / "report.json").read_text() == "ours"
    assert stale.is_dir()


def open_files() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir() if path.is_dir()}


def test_no_descriptor_stays_open(out: Path):
    before = open_files()
    with OutputFolder(out) as output:
        write(output, "ours")
        output.commit()
    (out / "notes.txt").touch()
    with pytest.raises(UsageError):
        OutputFolder(out)
    assert open_files() == before


def test_a_staging_folder_that_vanished_is_not_made_again(tmp_path: Path):
    with OutputFolder(tmp_path / "out") as output:
        output.folder.rmdir()
        with pytest.raises(FileNotFoundError):
            output.clear()
        with pytest.raises(FileNotFoundError):
            outputs.refusal_file(UsageError("nothing"), output.folder)
        with pytest.raises(FileNotFoundError):
            output.commit()
    assert not any(tmp_path.iterdir())


def test_objects_are_copied_to_the_top_and_replaced_like_other_results(out: Path):
    with OutputFolder(out) as output:
        write(output, "first", "dicom/reg.dcm", "dicom/seg_fixed.dcm")
        (output.folder / "dicom" / "half.dcm.part").touch()
        for number in (1, 12):
            (output.folder / f"moving-{number}" / "dicom").mkdir(parents=True)
            (output.folder / f"moving-{number}" / "dicom" / "dreg.dcm").write_text(f"moving {number}")
        copies = flatten(output.folder)
        (output.folder / "dicom" / "half.dcm.part").unlink()
        output.commit()
    names = ["moving-1-dreg.dcm", "moving-12-dreg.dcm", "reg.dcm", "seg_fixed.dcm"]
    assert [path.name for path in copies] == names
    assert sorted(path.name for path in out.glob("*.dcm")) == names
    assert (out / "moving-12-dreg.dcm").read_text() == "moving 12"
    assert (out / "reg.dcm").read_text() == "first"
    with OutputFolder(out) as output:
        write(output, "second")
        output.commit()
    assert held(out) == {"report.json": "second"}
    assert not (out / "moving-1").exists()


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("reg.dcm", True),
        ("seg_moving.dcm", True),
        ("moving-1-dreg.dcm", True),
        ("moving-2/dicom/reg.dcm", True),
        ("scan.dcm", False),
        ("moving-0-reg.dcm", False),
        ("moving-1-scan.dcm", False),
        ("moving-1-report.json", False),
        ("moving-1-dicom/reg.dcm", False),
        ("reg.dcm.part", False),
    ],
)
def test_what_may_stand_in_a_folder_of_results(name: str, ours: bool):
    assert REGISTRATION.hold(Path(name)) == ours
