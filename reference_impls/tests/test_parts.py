"""What holds together cores that are composed of parts, and keeps them apart."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import reference_impls
from reference_impls.mutants import with_part
from reference_impls.raft import Raft
from reference_impls.raft.quorum import Quorum
from reference_impls.zab import Zab

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(reference_impls.__file__).parent
COMPOSED = [Raft, Zab]


@pytest.mark.parametrize("core", COMPOSED)
def test_a_part_is_given_only_parts_that_stand_above_it(core: Any) -> None:
    parts = list(vars(core.parts).values())
    names = {part.__name__ for part in parts}
    above: set[str] = set()
    for part in parts:
        init = getattr(part.__init__, "__annotations__", {})
        assert names & set(init.values()) <= above, part
        above.add(part.__name__)


def test_a_core_with_a_part_has_that_in_place_of_its_own() -> None:
    class Dictatorship(Quorum):
        """One is enough."""

        def majority(self) -> int:
            return 1

    core = with_part(Raft, Dictatorship)
    assert vars(core.parts) == {**vars(Raft.parts), "quorum": Dictatorship}
    assert core.__doc__ == "One is enough."


def test_what_derives_from_no_part_takes_the_place_of_none() -> None:
    with pytest.raises(AssertionError, match="derives from no part"):
        with_part(Zab, Quorum)


def modules() -> dict[str, Path]:
    """Every module of the package, by name."""
    paths = {p: p.relative_to(ROOT.parent).with_suffix("") for p in ROOT.rglob("*.py")}
    return {".".join(p.parts).removesuffix(".__init__"): at for at, p in paths.items()}


def imported(path: Path) -> Iterator[str]:
    """What a file imports, for types only or not, as modules or names in them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_no_module_imports_itself_by_way_of_others_not_even_for_types() -> None:
    known = modules()
    graph = {
        name: {other for other in imported(path) if other in known}
        - {name, "reference_impls"}
        for name, path in known.items()
    }
    for name, others in graph.items():
        # `from reference_impls.raft import log` is about the module, not the package.
        graph[name] = {
            o for o in others if not any(x.startswith(f"{o}.") for x in others)
        }
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as e:
        pytest.fail(f"a circle: {' -> '.join(e.args[1])}")
    assert {*order} >= {*known} - {"reference_impls"}
