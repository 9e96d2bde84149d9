"""Clusters that have to be prepared once, and nodes of several roles."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from harness import registry
from harness.cli import run_command
from harness.errors import NodeReply, Timeout
from harness.registry import Plugin
from harness.systems.raft import OPTIONS, SERVICES
from harness.systems.reference import ReferenceSystem
from harness.systems.wire import call

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from harness.systems.wire import WireClient
    from harness.workload import Workload
    from harness.worlds.places import NodePlace


class Tables(ReferenceSystem):
    """Raft that needs a schema before it is any use, and where n1 is special."""

    def __init__(self, doing: Callable[[Tables, NodePlace], Awaitable[None]]) -> None:
        super().__init__("raft", OPTIONS, {}, SERVICES)
        self.name = "tables"
        self.seen: list[str] = []
        self._doing = doing

    async def prepare(self, places: Sequence[NodePlace]) -> None:
        self.seen.append(" ".join(place.name for place in places))
        await self._doing(self, places[0])

    def role(self, place: NodePlace) -> str:
        return "router" if place.name == "n1" else "store"

    def client(self, workload: Workload) -> WireClient:
        self.seen.append("client")
        return super().client(workload)


async def writes_a_schema(system: Tables, place: NodePlace) -> None:
    schema = {"type": "write", "key": "schema", "value": 1}
    for _ in range(100):
        with suppress(NodeReply, Timeout):
            await call(place, schema, 1.0, system.counters, system.dial)
            return
        await asyncio.sleep(0.05)
    raise AssertionError("nobody came to lead")


async def is_refused(system: Tables, place: NodePlace) -> None:
    raise NodeReply(definite=True, text=f"{place.name} has no room")


async def waits_for_ever(system: Tables, place: NodePlace) -> None:
    await asyncio.Event().wait()


async def has_a_bug(system: Tables, place: NodePlace) -> None:
    raise KeyError(place.name)


def ran(
    monkeypatch: pytest.MonkeyPatch,
    results: Path,
    doing: Callable[[Tables, NodePlace], Awaitable[None]],
) -> tuple[int, Tables]:
    """The exit status of a short simulated run, and the system that was run."""
    system = Tables(doing)
    plugin = Plugin("tables", "raft with tables", lambda _text, _options: system)
    find = registry.find

    def found(kind: str, name: str) -> Plugin[Any]:
        return plugin if (kind, name) == ("system", "tables") else find(kind, name)

    monkeypatch.setattr(registry, "find", found)
    limits = ["--world", "sim", "--nodes", "3", "--time-limit", "3", "--rate", "20"]
    faults = ["--nemesis", "kill", "--seed", "1"]
    status = run_command(["run", "tables", *limits, *faults, "--results", str(results)])
    return status, system


def told(results: Path, name: str) -> Any:
    return json.loads((results / "latest" / name).read_text())


def test_a_cluster_is_prepared_once_and_before_any_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, system = ran(monkeypatch, tmp_path, writes_a_schema)
    assert status == 0
    assert system.seen[:2] == ["n1 n2 n3", "client"]
    assert system.seen.count("n1 n2 n3") == 1
    roles = {"n1": "router", "n2": "store", "n3": "store"}
    assert told(tmp_path, "run.json")["roles"] == roles
    lines = (tmp_path / "latest" / "faults.jsonl").read_text().splitlines()
    notes = [json.loads(line)["title"] for line in lines]
    assert "roles: n1 router, n2 store, n3 store" in notes
    assert any(title.startswith("kill") for title in notes), "it was no quiet run"


@pytest.mark.parametrize(
    ("doing", "why"),
    [
        (is_refused, "tables could not be prepared: n1 has no room"),
        (waits_for_ever, "tables could not be prepared: it took more than 60 s"),
    ],
)
def test_a_cluster_that_won_t_be_prepared_makes_the_run_unknown(
    doing: Any, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, system = ran(monkeypatch, tmp_path, doing)
    assert status == 2
    assert "client" not in system.seen
    verdict = told(tmp_path, "verdict.json")
    assert (verdict["verdict"], verdict["reason"]) == ("unknown", why)
    assert verdict["harness"]["ok"]


def test_a_bug_while_preparing_is_the_harness_side_s_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, system = ran(monkeypatch, tmp_path, has_a_bug)
    assert status == 255
    assert "client" not in system.seen
    assert told(tmp_path, "run.json")["errors"] == [
        "tables could not be prepared: KeyError: 'n1'"
    ]
    assert "has_a_bug" in (tmp_path / "latest" / "errors.jsonl").read_text()
