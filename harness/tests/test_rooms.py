"""No module imports another that imports it, by whatever way, or for types alone.

import-linter holds which room sees which; within a room it looks at nothing.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import networkx as nx

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PACKAGES = ("harness", "workloads", "checkers", "nemesis", "reference_impls")


def modules() -> dict[str, Path]:
    """Every module of ours but those of tests, by name."""
    found = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if "tests" not in parts:
                found[".".join(parts).removesuffix(".__init__")] = path
    return found


def imported(text: str) -> Iterator[str]:
    """The names that a module imports, and the modules that it takes them from."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, "an import relative to its package"
            for alias in node.names:
                yield f"{node.module}.{alias.name}"
                yield node.module


def circles(texts: dict[str, str]) -> list[set[str]]:
    """Modules that import each other in a circle.

    Whoever takes a module from a package needs the module, not the package.
    """
    graph: nx.DiGraph[str] = nx.DiGraph()
    for module, text in texts.items():
        names = [name for name in imported(text) if name in texts and name != module]
        inner = {name.rpartition(".")[0] for name in names}
        graph.add_edges_from((module, name) for name in names if name not in inner)
    return [c for c in nx.strongly_connected_components(graph) if len(c) > 1]


def test_no_modules_import_each_other() -> None:
    texts = {name: path.read_text() for name, path in modules().items()}
    assert len(texts) > 400
    assert circles(texts) == []


def test_a_circle_would_be_seen() -> None:
    texts = {
        "room": "",
        "room.a": "from room import b",
        "room.b": "if TYPE_CHECKING:\n    from room.c import C",
        "room.c": "def late():\n    import room.a",
        "room.d": "from room.a import A",
    }
    assert circles(texts) == [{"room.a", "room.b", "room.c"}]
