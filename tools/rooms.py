"""The rooms of the library (its modules and sub-packages) and who imports whom, drawn from the imports.

python tools/rooms.py --write    # put the diagram and the table into docs/architecture.md
python tools/rooms.py            # exit 1 if the document is out of date
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import generated
from docstrings import parsed

LIBRARY = generated.ROOT / "bundle" / "samreg"
# The order that the house keeps: a module imports only from rooms above its own, or from its own row. It is finer than
# the layers of the diagram, since it also says which of two rooms that do not import each other yet may do so.
ORDER = (
    ("errors", "refusals", "types", "shipped", "metadata"),
    ("threads", "whole_data"),
    ("doors", "whole_files"),
    ("artefacts",),
    ("output_folder", "stopwatch", "memory"),
    ("geometry",),
    ("transforms",),
    ("rois",),
    ("registry",),
    ("config", "device"),
    ("phantoms", "tables"),
    ("io",),
    ("ecosystem",),
    ("preprocess",),
    ("constraints",),
    ("promptable_models",),
    ("sam", "embedded"),
    ("availability",),
    ("encoders",),
    ("proposals",),
    ("matching",),
    ("estimation",),
    ("metrics",),
    ("evidence", "result"),
    ("constraint_checks", "quality"),
    ("own_answers",),
    ("regions",),
    ("pairing",),
    ("ladder",),
    ("examiner",),
    ("dicom_out",),
    ("report",),
    ("sources",),
    ("image_arguments",),
    ("pipeline",),
    ("counterparts",),
    ("outputs",),
    ("session",),
    ("locate",),
    ("run",),
    ("ablation", "evaluation", "selftest", "training"),
    ("cli", "cli_commands", "cli_options", "cli_parser", "cli_progress", "cli_weights", "logs"),
    ("__main__",),
)
Graph = Mapping[str, set[str]]


def documents() -> dict[Path, str]:
    """The text of docs/architecture.md with its generated parts made anew."""
    path = generated.DOCS / "architecture.md"
    return {path: generated.with_parts(path, parts(rooms()))}


def parts(graph: Graph) -> dict[str, str]:
    """The diagram and the table.

    Args:
        graph: The rooms that each room imports.

    Raises:
        SystemExit: Rooms import each other in a circle.
    """
    try:
        floors = layers(graph)
    except CycleError as error:
        raise SystemExit(f"rooms import each other in a circle: {' → '.join(reversed(error.args[1]))}") from error
    return {"rooms": diagram(graph, floors), "table": table(graph)}


def modules() -> list[Path]:
    """The source files of the library, without the one that gives it its name."""
    return sorted(path for path in LIBRARY.rglob("*.py") if path != LIBRARY / "__init__.py")


def room_of(path: Path) -> str:
    """The room that a source file belongs to."""
    return path.relative_to(LIBRARY).parts[0].removesuffix(".py")


def rooms() -> dict[str, set[str]]:
    """The rooms that each room imports at run time, at the top of a file or inside a function."""
    graph: dict[str, set[str]] = {room_of(path): set() for path in modules()}
    for path in modules():
        found = {room for name in imports(path) if (room := imported_room(name)) in graph}
        graph[room_of(path)] |= found - {room_of(path)}
    return graph


def imported_room(name: str) -> str:
    """The room of an imported module ("samreg.io.pair"); empty for a module of another package."""
    package, _, rest = name.partition(".")
    return rest.split(".")[0] if package == "samreg" else ""


def imports(path: Path, typing_too: bool = False) -> set[str]:
    """Full names of what a file imports, at its top or inside functions.

    Args:
        path: Source file.
        typing_too: Also what stands under `if TYPE_CHECKING:`.

    Raises:
        ValueError: A relative import, which the library does not use.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if not typing_too:
        tree = _WithoutTyping().visit(tree)
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"{path} has a relative import in line {node.lineno}")
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


class _WithoutTyping(ast.NodeTransformer):
    """Drops `if TYPE_CHECKING:`, which nothing imports at run time."""

    def visit_If(self, node: ast.If) -> ast.AST:
        return ast.Pass() if ast.unparse(node.test) == "TYPE_CHECKING" else self.generic_visit(node)


def layers(graph: Graph) -> list[list[str]]:
    """The rooms in layers: each room imports from layers above its own alone, and stands as high as that allows.

    Raises:
        CycleError: There are no such layers.
    """
    sorter = TopologicalSorter(graph)
    sorter.prepare()
    found = []
    while sorter.is_active():
        ready = sorter.get_ready()
        found.append(sorted(ready))
        sorter.done(*ready)
    return found


def reduced(graph: Graph) -> dict[str, set[str]]:
    """The same graph without the arrows that follow from others (a → b → c makes a → c superfluous)."""

    @cache
    def below(room: str) -> set[str]:
        return graph[room].union(*map(below, graph[room]))

    return {room: direct - set().union(*map(below, direct)) for room, direct in graph.items()}


def diagram(graph: Graph, floors: list[list[str]]) -> str:
    """A Mermaid diagram: an arrow from each room to those that import it, as long as there are layers between."""
    level = {room: n for n, floor in enumerate(floors) for room in floor}
    lines = ["```mermaid", "flowchart TB"]
    for floor in floors:
        lines += [f'    {_node(room)}["{room}"]' for room in floor]
    direct = reduced(graph)
    for floor in floors:
        for room in floor:
            lines += [
                f"    {_node(source)} {'-' * (1 + level[room] - level[source])}> {_node(room)}"
                for source in sorted(direct[room], key=lambda name: (level[name], name))
            ]
    return "\n".join([*lines, "```"])


def _node(room: str) -> str:
    """Identifier in Mermaid, in which `end` and others are words of the language."""
    return f"room_{room.strip('_')}"


def table(graph: Graph) -> str:
    """What each room does, by the first sentence of its source, and what it builds on directly; in the order kept."""
    direct = reduced(graph)
    rows = ["| row | room | what it does | builds on |", "|---|---|---|---|"]
    for number, row in enumerate(ORDER, 1):
        for room in row:
            source = ", ".join(f"`{name}`" for name in sorted(direct[room])) or "nothing"
            rows.append(f"| {number} | `{room}` | {purpose(room)} | {source} |")
    return "\n".join(rows)


def purpose(room: str) -> str:
    """The first paragraph of a room's docstring, in one line.

    Raises:
        SystemExit: There is none.
    """
    package = LIBRARY / room / "__init__.py"
    path = package if package.exists() else LIBRARY / f"{room}.py"
    text = parsed(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))).text
    if not text:
        raise SystemExit(f"{path} has no docstring")
    return " ".join(text.split("\n\n")[0].split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(generated.main(documents()))
