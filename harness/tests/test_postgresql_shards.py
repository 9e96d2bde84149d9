"""Two-phase commit over PostgreSQL servers: what its clients do in which order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from harness.cli import run_command
from harness.errors import NodeReply, UsageError
from harness.systems import postgresql_shards as shards
from harness.tests.test_postgresql import needs_it, places
from workloads.commit import CommitCodec

if TYPE_CHECKING:
    from pathlib import Path

asyncpg = pytest.importorskip("asyncpg")

TXN = [["w", f"k{key}", 1] for key in range(10)]
"""Every one of three nodes owns a part of it."""


class Server:
    """One server, as its connections see it.

    Attributes:
        sent: All that was sent to it.
        failing: The beginning of a statement -> the error that it gives.
        prepared: What is prepared there.
    """

    def __init__(self, log: list[str], name: str) -> None:
        self.name = name
        self.log = log
        self.failing: dict[str, Exception] = {}
        self.prepared: set[str] = set()
        self.coordinated: dict[str, str] = {}

    def _enter(self, sql: str) -> None:
        for beginning, error in self.failing.items():
            if sql.startswith(beginning):
                raise error

    async def execute(self, sql: str, *given: Any) -> str:
        self._enter(sql)
        words = sql.split()
        gid = sql.partition("'")[2].rstrip("'")
        if "PREPARED" in words:
            self.prepared.discard(gid)
            self.log.append(f"{self.name} {words[0].lower()} {gid}")
        elif words[0] == "PREPARE":
            self.prepared.add(gid)
            self.log.append(f"{self.name} prepare {gid}")
        elif sql == shards._COORDINATE:
            if given[0] in self.coordinated:
                return "INSERT 0 0"
            self.coordinated[given[0]] = given[1]
            self.log.append(f"{self.name} decide {given[1]}")
            return "INSERT 0 1"
        return words[0]

    async def fetchval(self, sql: str, *given: Any) -> Any:
        self._enter(sql)
        if sql == shards._IS_PREPARED:
            return 1 if given[0] in self.prepared else None
        return self.coordinated.get(given[0])

    async def fetch(self, sql: str, *_: Any) -> list[dict[str, str]]:
        if sql == shards._PREPARED:
            return [{"gid": gid} for gid in sorted(self.prepared)]
        return []

    def is_closed(self) -> bool:
        return False

    def terminate(self) -> None: ...


class Servers:
    """Three servers, and what was done at them, in order."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.done: list[str] = []
        self.places = places(folder, 3)
        self.by_name = {p.name: Server(self.done, p.name) for p in self.places}

        async def connect(endpoint: Any, *_: Any, **__: Any) -> Server:
            (name,) = [p.name for p in self.places if p.listen == endpoint]
            return self.by_name[name]

        patch.setattr(shards, "connect", connect)

    def ask(self, body: dict[str, Any]) -> dict[str, Any]:
        """The answer that a client of n1 gives."""

        async def asked() -> dict[str, Any]:
            client = shards.ShardsClient(CommitCodec())
            client._place = self.places[0]
            return await client.answer(body)

        return asyncio.run(asked())

    def kinds(self) -> list[str]:
        return [line.split()[1] for line in self.done]


@pytest.fixture
def servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Servers:
    return Servers(tmp_path, monkeypatch)


def transaction() -> dict[str, Any]:
    return {"type": "txn", "id": "t1", "txn": TXN}


def test_all_prepare_then_the_coordinator_decides_then_all_commit(
    servers: Servers,
) -> None:
    assert servers.ask(transaction()) == {"type": "txn_ok", "txn": TXN}
    assert servers.kinds() == [*["prepare"] * 3, "decide", *["commit"] * 3]
    assert "n1 decide commit" in servers.done


def test_one_no_rolls_all_back_and_is_definite(servers: Servers) -> None:
    servers.by_name["n2"].failing["PREPARE"] = asyncpg.SerializationError("lost")
    with pytest.raises(NodeReply, match="voted no: 40001 lost") as caught:
        servers.ask(transaction())
    assert caught.value.definite
    assert servers.kinds() == [*["prepare"] * 2, *["rollback"] * 2]


def test_a_commit_point_that_nobody_knows_of_is_left_to_whoever_comes_next(
    servers: Servers,
) -> None:
    gone = ConnectionResetError("gone")
    servers.by_name["n1"].failing["INSERT INTO coordinated"] = gone
    with pytest.raises(NodeReply) as caught:
        servers.ask(transaction())
    assert not caught.value.definite
    assert servers.kinds() == ["prepare"] * 3, "neither committed nor rolled back"


def test_a_client_that_is_late_finds_that_its_transaction_was_presumed_aborted(
    servers: Servers,
) -> None:
    servers.by_name["n1"].coordinated["t1"] = "abort"
    with pytest.raises(NodeReply, match="presumed that this was aborted") as caught:
        servers.ask(transaction())
    assert caught.value.definite
    assert servers.kinds() == [*["prepare"] * 3, *["rollback"] * 3]


@pytest.mark.parametrize(
    ("decided", "done"),
    [
        ({"t1": "commit"}, ["n1 commit n3 t1"]),
        ({}, ["n3 decide abort", "n1 rollback n3 t1"]),
    ],
)
def test_what_is_in_doubt_is_finished_as_its_coordinator_says_or_else_aborted(
    servers: Servers, decided: dict[str, str], done: list[str]
) -> None:
    servers.by_name["n1"].prepared.add("n3 t1")
    servers.by_name["n3"].coordinated |= decided
    assert servers.ask({"type": "decisions"})["type"] == "decisions_ok"
    assert servers.done == done


def test_what_is_in_doubt_stays_so_while_its_coordinator_is_away(
    servers: Servers,
) -> None:
    servers.by_name["n1"].prepared.add("n3 t1")
    servers.by_name["n3"].failing["INSERT"] = ConnectionResetError("gone")
    servers.ask({"type": "decisions"})
    assert servers.done == []


def test_one_server_has_nobody_to_commit_with() -> None:
    with pytest.raises(UsageError, match="needs 2 nodes or more"):
        shards.PostgreSQLShards({}).check_nodes(["n1"])


@needs_it
@pytest.mark.nightly
@pytest.mark.parametrize("nemesis", ["kill,pause", "power"])
def test_two_phase_commit_bears_faults(tmp_path: Path, nemesis: str) -> None:
    flags = ["--workload", "commit", "--nemesis", nemesis, "--time-limit", "15"]
    results = ["--results", str(tmp_path), "--seed", "3"]
    assert run_command(["run", "postgresql_shards", *flags, *results]) == 0
