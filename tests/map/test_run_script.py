"""`tools/map/run.sh`: what it refuses, and what it leaves alone, before podman starts."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "map" / "run.sh"
USER = (12345, 12346) if os.getuid() == 0 else (os.getuid(), os.getgid())


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Holds the inputs `fixed` and `moving`, and a stand-in for podman that prints its arguments."""
    for name in ("fixed", "moving", "bin"):
        (tmp_path / name).mkdir()
    podman = tmp_path / "bin" / "podman"
    podman.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    podman.chmod(0o755)
    return tmp_path


def run(place: Path, fixed: Path, moving: Path, out: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{place / 'bin'}:{os.environ['PATH']}", "RUN_AS": f"{USER[0]}:{USER[1]}"}
    return subprocess.run([SCRIPT, fixed, moving, out], env=environment, capture_output=True, text=True)


def owner(path: Path) -> tuple[int, int]:
    return path.stat().st_uid, path.stat().st_gid


def test_a_folder_that_it_makes_belongs_to_the_user_of_the_container(place: Path):
    done = run(place, place / "fixed", place / "moving", place / "new" / "out")
    assert done.returncode == 0, done.stderr
    assert f"{place / 'new' / 'out'}:/var/holoscan/output:rw" in done.stdout.splitlines()
    assert owner(place / "new" / "out") == USER
    assert owner(place / "new") == owner(place)


def test_a_folder_that_is_there_keeps_its_owner(place: Path):
    (place / "out").mkdir()
    before = owner(place / "out")
    assert run(place, place / "fixed", place / "moving", place / "out").returncode == 0
    assert owner(place / "out") == before


def refused(done: subprocess.CompletedProcess[str], *said: str) -> None:
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("samreg: ")
    assert all(words in line for words in said)


@pytest.mark.parametrize("role", ["fixed", "moving", "out"])
def test_a_path_with_a_colon_is_refused(place: Path, role: str):
    paths = {name: place / name for name in ("fixed", "moving", "out")}
    paths[role] = place / "12:30" / role
    if role != "out":
        paths[role].mkdir(parents=True)
    refused(run(place, *paths.values()), f"{place}/12:30/{role}", "colon")
    assert not paths["out"].exists()


@pytest.mark.parametrize("out", ["fixed", "moving", "fixed/out", "moving/a/b", "link/out", "."])
def test_an_output_and_an_input_that_lie_in_each_other_are_refused(place: Path, out: str):
    (place / "link").symlink_to(place / "fixed")
    refused(run(place, place / "fixed", place / "moving", place / out), "contain one another")
    assert not any((place / "fixed").iterdir())


def test_an_output_beside_an_input_of_a_like_name_is_not(place: Path):
    assert run(place, place / "fixed", place / "moving", place / "fixed-out").returncode == 0


def test_an_output_that_is_a_file_is_refused(place: Path):
    (place / "out").touch()
    refused(run(place, place / "fixed", place / "moving", place / "out"), "is a file")
