"""The folder of results: one run at a time, and nothing left of those that were killed."""

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from samreg import outputs
from samreg.errors import UsageError
from samreg.output_folder import REGISTRATION, OutputFolder
from samreg.outputs import flatten


@pytest.fixture(params=["beside", "inside"])
def out(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty output folder, whose staging folder stands beside it or in it."""
    folder = tmp_path / "out"
    folder.mkdir()
    if request.param == "inside":
        monkeypatch.setattr(Path, "is_mount", lambda self: self == folder)
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
        with pytest.raises(UsageError, match="another run is writing to output folder") as told:
            OutputFolder(out)
        assert told.value.next_step == "Wait for it, or choose another folder"
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
    assert "another run is writing to output folder" in done.stderr


def test_a_failed_run_lets_the_next_one_in(out: Path):
    with pytest.raises(ZeroDivisionError), OutputFolder(out):
        raise ZeroDivisionError
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"notes\.txt"):
        OutputFolder(out)
    (out / "notes.txt").unlink()
    with OutputFolder(out):
        pass


def test_staging_folders_of_killed_runs_are_removed(out: Path):
    stale = [out / ".samreg-01234567", *(out.parent / f".out.samreg-89abcdef{end}" for end in ("", "-old"))]
    others = [out.parent / name for name in (".out.samreg-mine", ".other.samreg-01234567", ".outXsamreg-01234567")]
    for folder in (*stale, *others):
        folder.mkdir()
        (folder / "seg_fixed.dcm").touch()
    with OutputFolder(out):
        assert not any(folder.exists() for folder in stale)
        assert all((folder / "seg_fixed.dcm").exists() for folder in others)


def test_staging_folders_of_runs_that_live_are_not_removed(tmp_path: Path):
    out = tmp_path / "out"
    with OutputFolder(out) as first, OutputFolder(out) as second:
        write(first, "first", "dicom/dreg.dcm")
        first.commit()
        with OutputFolder(out) as third:
            write(second, "second")
            with pytest.raises(UsageError, match="another run"):
                second.commit()
            write(third, "third", "dicom/reg.dcm")
            third.commit()
        assert held(out) == {"report.json": "third", "dicom/reg.dcm": "third"}
        second.commit()
    assert held(out) == {"report.json": "second"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_of_two_runs_into_a_new_folder_the_later_one_wins_as_a_whole(tmp_path: Path, monkeypatch):
    out = tmp_path / "out"
    with OutputFolder(out) as first, OutputFolder(out) as second:
        write(first, "first", "dicom/dreg.dcm")
        write(second, "second", "dicom/reg.dcm")
        first.commit()
        exists = Path.exists
        answers = iter([False])  # the first came between the question and the renaming
        monkeypatch.setattr(Path, "exists", lambda self: next(answers, True) if self == out else exists(self))
        second.commit()
        monkeypatch.undo()
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
    rename = Path.rename
    with OutputFolder(out) as output:

        def failing(self, target):
            if self == output.folder:
                raise OSError(5, "Input/output error")
            return rename(self, target)

        write(output, "second")
        monkeypatch.setattr(Path, "rename", failing)
        with pytest.raises(OSError, match="Input/output"):
            output.commit()
    assert held(out) == {"report.json": "first"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_without_locks_the_work_goes_on_and_nothing_is_removed(out: Path, monkeypatch):
    def none(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", none)
    stale = out.parent / ".out.samreg-01234567"
    stale.mkdir()
    with OutputFolder(out) as output:
        write(output, "ours")
        output.commit()
    assert held(out) == {"report.json": "ours"}
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
