"""The rooms of the house: who may import whom, and what the wheel ships."""

import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest
import rooms
from packaging.requirements import Requirement
from rooms import LIBRARY, imported_room, imports, modules, room_of

from samreg.registry import ESTIMATORS

ROOT = Path(__file__).parents[2]

RANK = {room: rank for rank, row in enumerate(rooms.ORDER) for room in row}
FORBIDDEN = ("holoscan", "monai.deploy", "operators", "app")


def test_a_module_imports_from_rooms_above_alone():
    wrong = []
    for path in modules():
        for name in imports(path):
            if RANK.get(imported_room(name), -1) > RANK[room_of(path)]:
                wrong.append(f"{path.relative_to(LIBRARY)} imports {name}")
    assert not wrong


def test_every_room_has_a_row():
    assert rooms.rooms().keys() == RANK.keys()


def test_no_rooms_import_each_other_in_a_circle():
    floors = rooms.layers(rooms.rooms())
    assert sorted(room for floor in floors for room in floor) == sorted(RANK)


def test_a_circle_is_told_by_its_rooms():
    with pytest.raises(SystemExit, match=r"a → b → c → a|b → c → a → b|c → a → b → c"):
        rooms.parts({"a": {"b"}, "b": {"c"}, "c": {"a"}})


def test_the_diagram_leaves_out_what_follows_from_other_arrows():
    graph = {"a": set(), "b": {"a"}, "c": {"a", "b"}, "d": {"a"}}
    assert rooms.reduced(graph) == {"a": set(), "b": {"a"}, "c": {"b"}, "d": {"a"}}
    assert rooms.layers(graph) == [["a"], ["b", "d"], ["c"]]


def test_imports_for_types_alone_are_no_arrows(tmp_path: Path):
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from samreg.io import Roles\n"
    (tmp_path / "a.py").write_text(source + "def f():\n    import samreg.rois\n")
    assert {imported_room(name) for name in imports(tmp_path / "a.py")} == {"", "rois"}
    assert {imported_room(name) for name in imports(tmp_path / "a.py", typing_too=True)} == {"", "rois", "io"}


# A room in the first column reaches a module whose name starts as in the second by the registry alone.
BY_THE_REGISTRY = (
    ("matching", "samreg.proposals."),
    ("matching", "samreg.encoders.models"),
    ("proposals", "samreg.sam"),
    ("proposals", "samreg.embedded"),
    ("counterparts", "samreg.sam"),
    ("counterparts", "samreg.embedded"),
    *(
        (room, f"{module}.")
        for room in ("pipeline", "ladder", "examiner", "session", "run")
        for module in sorted({entry.target.partition(":")[0] for entry in ESTIMATORS.values()})
    ),
)


@pytest.mark.parametrize(("room", "module"), BY_THE_REGISTRY)
def test_what_the_registry_lists_is_reached_by_the_registry(room: str, module: str):
    wrong = {name for path in modules() if room_of(path) == room for name in imports(path) if name.startswith(module)}
    assert {name for name in wrong if not name.startswith(f"{module}base.")} == set()


def test_the_core_never_imports_what_stands_above_the_library():
    for path in modules():
        for name in imports(path, typing_too=True):
            assert not any(name == f or name.startswith(f + ".") for f in FORBIDDEN), f"{path} imports {name}"


@pytest.mark.parametrize("arguments", [["--help"], ["info", "--json"], ["register", "--help"], ["weights", "list"]])
def test_the_command_answers_without_torch(arguments: list[str]):
    code = (
        "import sys\nfrom samreg import cli\n"
        "try:\n    cli.main(sys.argv[1:])\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'monai', 'pydicom', 'SimpleITK', 'transformers', 'scipy', 'skimage'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_wheel_ships_samreg_alone(tmp_path: Path):
    setuptools = pytest.importorskip("setuptools")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    find = settings["packages"]["find"]
    packages = setuptools.find_packages(where=str(ROOT / find["where"][0]), include=find["include"])
    assert packages
    assert {name.split(".")[0] for name in packages} == {"samreg"}
    # Every folder with code is a package, or the wheel would leave it out.
    assert {p.parent.relative_to(ROOT / "bundle").as_posix().replace("/", ".") for p in LIBRARY.rglob("*.py")} == set(
        packages
    )


def test_data_of_the_package_is_shipped():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    patterns = settings["package-data"]["samreg"]
    shipped = {p for pattern in patterns for p in LIBRARY.glob(pattern)}
    data = {p for p in LIBRARY.rglob("*") if p.is_file() and p.suffix != ".py" and "__pycache__" not in p.parts}
    assert data == shipped


def test_the_library_states_ranges_and_the_constraints_a_version_in_each():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    exact = {pin.name: next(iter(pin.specifier)) for pin in pins}
    assert all(specifier.operator == "==" for specifier in exact.values())
    for text in project["dependencies"]:
        assert {s.operator for s in Requirement(text).specifier} == {">=", "<"}, text
    for text in chain(project["dependencies"], *project["optional-dependencies"].values()):
        wanted = Requirement(text)
        if wanted.name != project["name"]:
            assert wanted.specifier.contains(exact[wanted.name].version), text


def test_no_extra_is_empty():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert all(project["optional-dependencies"].values())


def test_the_library_works_without_the_packages_that_it_does_not_need():
    code = """
import sys
from importlib import import_module
from importlib.abc import MetaPathFinder
from pkgutil import walk_packages

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("monai", "fire", "itk", "torchio", "holoscan"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
import samreg
for module in walk_packages(samreg.__path__, "samreg."):
    if not module.name.endswith("__main__"):
        import_module(module.name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_each_file_of_tests_has_a_name_of_its_own():
    """Of two with one name in two folders, pytest runs one."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
