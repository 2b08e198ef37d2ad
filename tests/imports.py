"""The arrows between the packages: ``python -m tests.imports`` counts and checks them.

A *room* is what one keeps in mind as one thing: each package and each flat module of the engine,
and the app. An *arrow* leads from one room to another that it imports. The engine's rooms stand on
floors, and an arrow leads down, on the ground also sideways, never up; within the app, the stages'
folders do not know each other.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

FLOORS: tuple[tuple[str, ...], ...] = (
    (
        "errors",
        "storage",
        "seeding",
        "events",
        "hardware",
        "controls",
        "project",
        "settings",
        "config",
    ),
    ("dataset",),
    ("models", "students"),
    ("prototypes",),
    ("captions",),
    ("train",),
    ("synthesize",),
    ("evaluate",),
    ("export",),
    ("pipeline",),
    ("cli",),
    ("bundled",),
)
"""The engine's rooms from the ground up. A room may import those of lower floors and, on the ground
alone, its neighbours."""

STAGES = ("dataset", "prototypes", "captions", "train", "synthesize", "evaluate", "export")


@dataclass(frozen=True)
class Arrow:
    """One import between two modules of the project."""

    source: str
    target: str
    line: int

    def __str__(self) -> str:
        return f"{self.source}:{self.line} imports {self.target}"


def modules() -> dict[str, Path]:
    """Every module of the engine and the app by its dotted name."""
    found = {}
    for top in ("dpd_core", "app"):
        for path in sorted((ROOT / top).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def arrows() -> Iterator[Arrow]:
    """Every import of one module by another, those inside functions and for types included."""
    known = modules()
    for name, path in known.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for target in _targets(node, known):
                if target != name:
                    yield Arrow(name, target, node.lineno)  # type: ignore[attr-defined]


def _targets(node: ast.AST, known: dict[str, Path]) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names if alias.name in known}
    if not isinstance(node, ast.ImportFrom) or node.level or node.module not in known:
        return set()
    module = node.module
    return {
        whole if (whole := f"{module}.{alias.name}") in known else module for alias in node.names
    }


def room(module: str) -> str:
    """The room of a module: ``dpd_core.train``, ``dpd_core.storage``, ``app``."""
    return "app" if module.startswith("app") else folder(module)


def folder(module: str) -> str:
    """The package or flat module of a module: ``dpd_core.train``, ``app.ui`` …"""
    return ".".join(module.split(".")[:2])


def between_folders() -> list[Arrow]:
    """The imports that leave a folder, one for each pair of modules."""
    found = {(a.source, a.target): a for a in arrows() if folder(a.source) != folder(a.target)}
    return list(found.values())


def room_pairs() -> set[tuple[str, str]]:
    """Which room knows which."""
    pairs = {(room(arrow.source), room(arrow.target)) for arrow in arrows()}
    return {(source, target) for source, target in pairs if source != target}


def floor(module: str) -> int | None:
    """The engine's floor on which a module stands; the package itself stands below all."""
    parts = module.split(".")
    if parts[0] != "dpd_core":
        return None
    if len(parts) == 1:
        return -1
    for number, names in enumerate(FLOORS):
        if parts[1] in names:
            return number
    return None


def faults() -> list[str]:
    """What breaks the rules, one line each."""
    found = []
    for arrow in between_folders():
        up, down = floor(arrow.source), floor(arrow.target)
        source, target = arrow.source.split("."), arrow.target.split(".")
        if source[0] == "dpd_core":
            if target[0] == "app":
                found.append(f"{arrow}: the engine knows no app")
            elif target[1:2] == ["bundled"]:
                found.append(f"{arrow}: nothing imports the bundled models' recipe")
            elif up is None and source[1] != "__main__":
                found.append(f"{arrow}: {arrow.source} stands on no floor")
            elif down is None:
                found.append(f"{arrow}: {arrow.target} stands on no floor")
            elif up is not None and (down > up or (down == up and up > 0)):
                found.append(f"{arrow}: upwards")
        elif source[1:2] and target[0] == "app" and target[1:2]:
            stage = source[1] in STAGES
            if stage and target[1] in STAGES:
                found.append(f"{arrow}: a stage's folder knows no other stage's")
            elif source[1] in ("ui", "server") and target[1] in (*STAGES, "shell"):
                found.append(f"{arrow}: upwards")
            elif source[1] == "server" and target[1] == "ui":
                found.append(f"{arrow}: the server knows no page")
    return found + [f"a circle: {' → '.join(circle)}" for circle in circles()]


def circles() -> list[list[str]]:
    """Modules that import each other in a circle, however lazily; one circle for each knot."""
    graph: dict[str, set[str]] = {}
    for arrow in arrows():
        # A package's own __init__ holds no code; importing a module passes through it.
        graph.setdefault(arrow.source, set()).add(arrow.target)
    state: dict[str, int] = {}
    path: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        state[module] = 1
        path.append(module)
        for target in sorted(graph.get(module, ())):
            if state.get(target) == 1:
                found.append([*path[path.index(target) :], target])
            elif target not in state:
                visit(target)
        path.pop()
        state[module] = 2

    for module in sorted(graph):
        if module not in state:
            visit(module)
    return found


def main() -> int:
    """Print the count and what breaks the rules; 1 if anything does."""
    rooms = {name for pair in room_pairs() for name in pair}
    broken = faults()
    if "--quiet" not in sys.argv:
        print(f"{len(rooms)} rooms, {len(room_pairs())} arrows between them")
        print(f"{len(set(map(str, arrows())))} imports of one module by another")
    print("\n".join(broken) or "no arrow upwards, no circle")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
