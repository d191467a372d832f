"""python tests/house.py: draws minifc's rooms, and who imports whom, as tests/house.svg.

STOREYS says where each module lives. An import that runs upward, or between two rooms of one storey, and a circle of
modules are errors: they are printed, nothing is drawn, and the exit status is 1.
"""

import ast
import html
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DRAWING = Path(__file__).with_suffix(".svg")


@dataclass(frozen=True)
class Room:
    """A folder of minifc/, or the files and folders directly in it that belong together."""

    name: str
    purpose: str
    modules: tuple[str, ...]  # files and folders in minifc/


# From the top down. A room may import rooms of the storeys below its own. None is free space, for arrows to pass.
STOREYS: list[list[Room | None]] = [
    [
        Room(
            "commands",
            "python -m minifc.<command>",
            (
                "train",
                "chat",
                "evaluate",
                "audit",
                "verify",
                "export",
                "export_gguf",
                "pretrain",
                "bench",
                "serve",
                "make",
            ),
        )
    ],
    [
        None,
        Room("serving", "in others' hands", ("serving",)),
    ],
    [
        Room("evaluation", "how good is it", ("evaluation",)),
        Room("loading", "one way in", ("loading", "own_tools")),
    ],
    [
        Room("calling", "letting it act", ("calling",)),
        Room("tuning", "teaching it", ("tuning",)),
    ],
    [
        None,
        None,
        Room("data", "what it learns from", ("data",)),
    ],
    [
        Room("gemma", "the model", ("gemma",)),
        Room("text", "its language", ("text",)),
    ],
    [
        Room(
            "ground floor",
            "what all the others stand on",
            ("errors", "terminal", "files", "gguf", "cli", "hub", "hub_answers", "splits", "packaged", "devices"),
        )
    ],
]
Edge = tuple[str, str]


class HouseError(Exception):
    """An import that runs upward, a circle, or a module without a room."""


def modules(package: Path) -> dict[str, Path]:
    """The modules of minifc by their dotted names, but for minifc itself, which hands out names of all rooms."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if parts:
            found[".".join(parts)] = path
    return found


def imports(path: Path, known: Mapping[str, Path]) -> Iterator[tuple[str, int]]:
    """The modules of minifc that a file imports, each with its line; also those inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise HouseError(f"{_place(path)}:{node.lineno}: a relative import; write minifc.…")
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            root, _, module = name.partition(".")
            while root == "minifc" and module and module not in known:
                module = module.rpartition(".")[0]  # the name of a function or class
            if root == "minifc" and module:
                yield module, node.lineno


def room_imports(package: Path) -> set[Edge]:
    """Who imports whom, as pairs of rooms. Raises HouseError."""
    rooms = {module: room.name for storey in STOREYS for room in filter(None, storey) for module in room.modules}
    height = {room.name: -number for number, storey in enumerate(STOREYS) for room in filter(None, storey)}
    known = modules(package)
    edges: set[Edge] = set()
    graph: dict[str, list[str]] = {}
    for name, path in known.items():
        if name.partition(".")[0] not in rooms:
            raise HouseError(f"{_place(path)}: in no room of STOREYS; give it one")
        room = rooms[name.partition(".")[0]]
        graph[name] = []
        for imported, line in imports(path, known):
            other = rooms[imported.partition(".")[0]]
            if room != other and height[other] >= height[room]:
                way = "upward" if height[other] > height[room] else "beside"
                raise HouseError(f"{_place(path)}:{line}: minifc.{imported}: an import {way}, from {room} to {other}")
            graph[name].append(imported)
            if room != other:
                edges.add((room, other))
    if circle := circle_of(graph):
        raise HouseError(f"a circle of imports: {' -> '.join(circle)}")
    return edges


def circle_of(graph: Mapping[str, list[str]]) -> list[str]:
    """A circle in a graph, its first node again at its end; [] if there is none."""
    done: set[str] = set()

    def walk(node: str, way: list[str]) -> list[str]:
        if node in way:
            return [*way[way.index(node) :], node]
        if node in done:
            return []
        circle = next(filter(None, (walk(other, [*way, node]) for other in graph[node])), [])
        done.add(node)
        return circle

    return next(filter(None, (walk(node, []) for node in graph)), [])


def without_detours(edges: set[Edge]) -> set[Edge]:
    """The edges of which no path of other edges says the same."""

    def reaches(start: str, end: str) -> bool:
        return any(other == end or reaches(other, end) for node, other in edges if node == start)

    return {(a, b) for a, b in edges if not any(reaches(c, b) for start, c in edges if start == a and c != b)}


WIDTH, MARGIN, BOX, STOREY = 860, 20, 80, 130  # pixels
CHARACTER, LINE = 7, 18  # of small text
STYLE = """
text { font: 14px system-ui, sans-serif; fill: #1f2328 }
.name { font-weight: 600 }
.small { font-size: 12px; fill: #59636e }
rect { fill: #f6f8fa; stroke: #818b98 }
path { stroke: #0969da; stroke-width: 1.5; fill: none }
#head path { fill: #0969da }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc }
  .small { fill: #9198a1 }
  rect { fill: #151b23; stroke: #656c76 }
  path { stroke: #4493f8 }
  #head path { fill: #4493f8 }
}
"""


def draw(package: Path) -> str:
    """The drawing, as SVG. Raises HouseError."""
    edges = without_detours(room_imports(package))
    known = modules(package)
    height = 2 * MARGIN + STOREY * (len(STOREYS) - 1) + BOX
    boxes: dict[str, tuple[float, float, float]] = {}  # left, top, width
    shapes = []
    for number, storey in enumerate(STOREYS):
        width = (WIDTH - MARGIN * (len(storey) + 1)) / len(storey)
        for place, room in enumerate(storey):
            if room:
                box = MARGIN + place * (width + MARGIN), MARGIN + number * STOREY, width
                boxes[room.name] = box
                shapes.append(picture(room, known, *box))
    for above, below in sorted(edges):
        shapes.append(arrow(above, below, edges, boxes))
    title = (
        "The rooms of minifc. An arrow is an import; all run downwards, and one that follows from others is left out."
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
            f'role="img"><title>{title}</title>',
            f"<style>{STYLE}</style>",
            '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            '<path d="M0,0 L8,4 L0,8 Z"/></marker>',
            *shapes,
            "</svg>\n",
        ]
    )


def picture(room: Room, known: Mapping[str, Path], left: float, top: float, width: float) -> str:
    """The box of a room, with its name, its purpose and what is in it."""
    inside = room.modules
    if inside == (room.name,):
        inside = tuple(name.partition(".")[2] for name in known if name.startswith(f"{room.name}."))
    listed = ", ".join(name for name in inside if "." not in name)
    lines = textwrap.wrap(listed, int((width - 24) / CHARACTER), max_lines=2, placeholder=" …")
    shapes = [
        f'<rect x="{left:g}" y="{top:g}" width="{width:g}" height="{BOX}" rx="6"/>',
        f'<text x="{left + 12:g}" y="{top + 25:g}"><tspan class="name">{room.name}</tspan>'
        f'<tspan class="small" dx="10">{html.escape(room.purpose)}</tspan></text>',
    ]
    for number, line in enumerate(lines):
        shapes.append(f'<text class="small" x="{left + 12:g}" y="{top + 48 + LINE * number:g}">{line}</text>')
    return "\n".join(shapes)


def arrow(above: str, below: str, edges: set[Edge], boxes: Mapping[str, tuple[float, float, float]]) -> str:
    """From the lower edge of one room to the upper edge of another; arrows of one room stand side by side."""

    def centre(room: str) -> float:
        return boxes[room][0] + boxes[room][2] / 2

    def port(room: str, other: str, others: list[str]) -> float:
        others = sorted(others, key=centre)
        left, _, width = boxes[room]
        return left + width * (others.index(other) + 1) / (len(others) + 1)

    x1 = port(above, below, [b for a, b in edges if a == above])
    x2 = port(below, above, [a for a, b in edges if b == below])
    y1, y2 = boxes[above][1] + BOX, boxes[below][1]
    return f'<path d="M{x1:g},{y1} C{x1:g},{y1 + 25} {x2:g},{y2 - 25} {x2:g},{y2}" marker-end="url(#head)"/>'


def _place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


if __name__ == "__main__":
    try:
        DRAWING.write_text(draw(ROOT / "minifc"), encoding="utf-8")
    except HouseError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    print(f"{DRAWING.relative_to(ROOT)}: drawn")
