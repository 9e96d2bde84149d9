"""Systems and checkers are asked for abilities, never for a member by its name."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness import registry
from harness.errors import UsageError
from harness.faults import Nemesis
from harness.systems import abilities
from harness.systems.system import System
from harness.workload import Workload

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
ROOMS = ("harness", "workloads", "checkers", "nemesis")

VOCABULARY = (
    "systems/abilities.py",
    "systems/client.py",
    "systems/system.py",
    "verdict.py",
    "workload/interface.py",
)
"""Modules of the kernel whose protocols plug-ins implement."""

ABILITIES = {
    "etcd": "Administered Installable Installed Led",
    "launch": "Administered Clocked Counted Led LogLed",
    "lmdb": "Administered Clocked Counted Installed Led Scaled Sized",
    "postgresql": "Cast Installable Installed Led Scaled Sized",
    "pysyncobj": "Administered Clocked Counted Installed Led",
    "raft": (
        "Administered Clocked Counted Explorable Inspected Joining Led Logged "
        "Momentous Mutable Simulated Sized Worded"
    ),
    "sqlite": "Administered Clocked Counted Led Scaled Sized",
}
"""What some systems are, each by the members of its class alone."""


def probing_modules() -> Iterator[tuple[str, ast.Module]]:
    """What people run, tests left out, and may probe: path and syntax tree."""
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            text = path.read_text()
            if "tests" not in path.parts and ("getattr(" in text or "hasattr(" in text):
                yield str(path.relative_to(ROOT)), ast.parse(text)


def members_of_protocols(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and any(
            isinstance(base, ast.Name) and base.id == "Protocol" for base in node.bases
        ):
            for statement in node.body:
                if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield statement.name
                elif isinstance(statement, ast.AnnAssign):
                    assert isinstance(statement.target, ast.Name)
                    yield statement.target.id


def probes(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Where an object is asked for a member by its name: line and name."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Name(id="getattr" | "hasattr"),
                args=[_, ast.Constant(value=str(name)), *_],
            ):
                yield node.lineno, name
            case _:
                pass


def test_no_member_of_a_protocol_is_looked_for_by_its_name() -> None:
    members = {
        name
        for module in VOCABULARY
        for name in members_of_protocols(
            ast.parse((ROOT / "harness" / module).read_text())
        )
    }
    assert {"mutate", "on_disk", "leader", "presume_end", "requires"} <= members
    found = [
        f"{path}:{line}: {name}"
        for path, tree in probing_modules()
        for line, name in probes(tree)
        if name in members
    ]
    assert not found


def known() -> dict[str, type[Any]]:
    named = vars(abilities).items()
    return {
        name: value
        for name, value in named
        if isinstance(value, type) and value.__module__ == abilities.__name__
    }


@pytest.mark.parametrize("name", ABILITIES)
def test_a_system_has_the_abilities_whose_members_it_has(name: str) -> None:
    plugin = registry.find("system", name)
    system = plugin.factory("true" if plugin.adapter else "", {})
    abilities.check(system, System, name)
    has = {ability for ability, of in known().items() if isinstance(system, of)}
    assert has == set(ABILITIES[name].split())


def test_what_lacks_a_member_of_its_kind_is_refused_in_one_line() -> None:
    class Old:
        name = "old"
        faults = frozenset[str]()

        def launch(self) -> None:
            """As it was in another version."""

    old: Any = Old()
    with pytest.raises(UsageError, match="old is no system: it lacks client, inv"):
        abilities.check(old, System, "old")
    with pytest.raises(UsageError, match=r"old is no workload: it lacks .*, requires$"):
        abilities.check(old, Workload, "old")
    with pytest.raises(UsageError, match="old is no nemesis: it lacks background, dra"):
        abilities.check(old, Nemesis, "old")
