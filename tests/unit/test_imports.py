"""The rooms of the house: who may import whom, and what the wheel ships."""

import ast
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "bundle" / "samreg"

# A module imports only from rooms above its own (or its own).
ROOMS = (
    ("errors", "refusals", "types", "shipped", "metadata"),
    ("threads", "whole_data"),
    ("doors",),
    ("output_folder",),
    ("geometry",),
    ("transforms",),
    ("rois",),
    ("config", "device"),
    ("registry",),
    ("phantoms", "tables"),
    ("io",),
    ("ecosystem",),
    ("preprocess",),
    ("promptable",),
    ("sam", "embedded"),
    ("encoders",),
    ("proposals",),
    ("matching",),
    ("prompted",),
    ("estimation",),
    ("metrics",),
    ("evidence", "result"),
    ("quality",),
    ("dicom_out",),
    ("report",),
    ("outputs",),
    ("images", "reading"),
    ("pipeline",),
    ("locate",),
    ("workflow",),
    ("ablation", "evaluation", "selftest", "training"),
    ("cli", "cli_commands", "cli_progress", "cli_weights", "logs"),
    ("__main__",),
)
RANK = {room: rank for rank, rooms in enumerate(ROOMS) for room in rooms}
FORBIDDEN = ("holoscan", "monai.deploy", "operators", "app")


def room_of(path: Path) -> str:
    return path.relative_to(LIBRARY).parts[0].removesuffix(".py")


def modules() -> list[Path]:
    return sorted(p for p in LIBRARY.rglob("*.py") if p != LIBRARY / "__init__.py")


def imports(path: Path, typing_too: bool = False) -> set[str]:
    """Full names of the modules that a file imports, at its top or inside functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if not typing_too:
        tree = WithoutTyping().visit(tree)
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


class WithoutTyping(ast.NodeTransformer):
    """Drops `if TYPE_CHECKING:`, which nothing imports at run time."""

    def visit_If(self, node: ast.If) -> ast.AST:
        return ast.Pass() if ast.unparse(node.test) == "TYPE_CHECKING" else self.generic_visit(node)


def test_a_module_imports_from_rooms_above_alone():
    wrong = []
    for path in modules():
        for name in imports(path):
            room = name.removeprefix("samreg.").split(".")[0]
            if name.startswith("samreg.") and RANK.get(room, -1) > RANK[room_of(path)]:
                wrong.append(f"{path.relative_to(LIBRARY)} imports {name}")
    assert not wrong


def test_every_module_has_a_room():
    assert {room_of(path) for path in modules()} <= set(RANK)


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
