"""Galera: what its errors mean, when a node begins a cluster, and a real cluster."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from harness.cli import run_command
from harness.errors import NodeReply, NotInstalledError, UsageError
from harness.registry import find
from harness.systems import mariadb
from harness.systems.galera import Galera, GaleraClient
from harness.systems.programs import galera_node
from harness.systems.programs.galera_node import Told, next_step

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

REGISTER = find("workload", "register").factory({})
WAITING = Told(primary=False, serves=False, runs=False, seqno=7)
STARTING = Told(primary=False, serves=False, runs=True, seqno=7)
CUT_OFF = Told(primary=False, serves=True, runs=True, seqno=7)
MAJORITY = Told(primary=True, serves=True, runs=True, seqno=7)
LONG_S = galera_node.NO_MAJORITY_S


@pytest.mark.parametrize(
    "given",
    [
        {"isolation": "chaos"},
        {"sync_wait": "8"},
        {"clients": "last"},
        {"log_bin": "yes"},
    ],
)
def test_options_that_galera_does_not_have_are_refused(given: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="galera"):
        Galera(given)


def test_one_node_is_no_cluster() -> None:
    with pytest.raises(UsageError, match="two nodes or more"):
        Galera({}).check_nodes(["n1"])


# Errors


@pytest.mark.parametrize(
    ("code", "has_majority", "definite"),
    [
        (mariadb.TXN_CONFLICT, True, True),
        (mariadb.TXN_CONFLICT, False, False),
        (11, False, True),
    ],
)
def test_a_conflict_has_failed_for_certain_only_at_a_node_with_a_majority(
    code: int, has_majority: bool, definite: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(self: object, body: Mapping[str, Any]) -> dict[str, Any]:
        raise NodeReply(definite=True, text="1213", code=code)

    async def told(self: object) -> bool:
        return has_majority

    monkeypatch.setattr(mariadb.MariaDBClient, "answer", refused)
    monkeypatch.setattr(GaleraClient, "_has_majority", told)
    client = GaleraClient(REGISTER.codec, only_first=False)
    with pytest.raises(NodeReply) as caught:
        asyncio.run(client.answer({"type": "write", "key": 1, "value": 2}))
    assert caught.value.definite is definite


def test_a_conflict_may_have_happened_if_its_node_does_not_answer_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refused(self: object, body: Mapping[str, Any]) -> dict[str, Any]:
        raise NodeReply(definite=True, text="1213", code=mariadb.TXN_CONFLICT)

    async def lost(self: object) -> object:
        raise NodeReply(definite=True, text="refused")

    monkeypatch.setattr(mariadb.MariaDBClient, "answer", refused)
    monkeypatch.setattr(mariadb.MariaDBClient, "_connected", lost)
    client = GaleraClient(REGISTER.codec, only_first=False)
    with pytest.raises(NodeReply) as caught:
        asyncio.run(client.answer({"type": "write", "key": 1, "value": 2}))
    assert not caught.value.definite


# When a node begins a cluster


def test_a_node_that_comes_back_joins_whoever_has_a_majority() -> None:
    others = {"n2": MAJORITY, "n3": None}
    assert next_step("n1", WAITING, others, 0.0) == "join"
    assert next_step("n1", STARTING, others, 0.0) == "wait"


def test_nobody_begins_anything_while_a_node_does_not_answer() -> None:
    assert next_step("n1", WAITING, {"n2": WAITING, "n3": None}, LONG_S) == "wait"
    assert next_step("n1", CUT_OFF, {"n2": CUT_OFF, "n3": None}, LONG_S) == "wait"


def test_when_all_were_down_the_most_advanced_begins_and_no_other() -> None:
    ahead = WAITING._replace(seqno=8)
    told = {"n1": WAITING, "n2": ahead, "n3": ahead}
    steps = {
        name: next_step(name, own, {n: t for n, t in told.items() if n != name}, 0.0)
        for name, own in told.items()
    }
    assert steps == {"n1": "wait", "n2": "begin", "n3": "wait"}


def test_servers_that_run_have_time_to_find_each_other_again() -> None:
    others = {"n2": WAITING, "n3": WAITING}
    assert next_step("n1", CUT_OFF, others, 0.0) == "wait"
    assert next_step("n1", CUT_OFF, others, LONG_S) == "begin"
    others["n2"] = WAITING._replace(seqno=8)
    assert next_step("n1", CUT_OFF, others, LONG_S) == "wait"


def test_a_server_that_joined_those_who_lost_their_majority_is_ended() -> None:
    others = {"n2": CUT_OFF, "n3": WAITING}
    assert next_step("n1", STARTING, others, 0.0) == "wait"
    assert next_step("n1", STARTING, others, LONG_S) == "give up"


@pytest.mark.parametrize(
    "said", [b"", b"[]", b"[true, true, true, 1, 2]", b"HTTP/1.1 400\r\n\r\n", b"\xff"]
)
def test_a_node_that_answers_with_nonsense_does_not_answer(said: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(said)

        threading.Thread(target=answer, daemon=True).start()
        assert galera_node.ask(listener.getsockname()) is None


def test_data_are_half_copied_if_they_changed_after_the_transfer_began(
    tmp_path: Path,
) -> None:
    marker, table = tmp_path / "sst_in_progress", tmp_path / "db" / "cells.ibd"
    table.parent.mkdir()
    for path in (marker, table):
        path.touch()
    os.utime(marker, (1000, 1000))
    os.utime(table, (999, 999))
    assert not galera_node.is_half_copied(tmp_path, marker)
    os.utime(table, (1001, 1001))
    assert galera_node.is_half_copied(tmp_path, marker)


# A real cluster


def installed() -> None:
    try:
        Galera({}).check_installed()
    except NotInstalledError as error:
        pytest.skip(str(error))


KILL_ALL = """
- at: {time_s: 2}
  fault: {kind: kill, target: [n1, n2, n3]}
  heal: {after_s: 0.2}
"""


def run(results: Path, *flags: str) -> int:
    installed()
    command = ["run", "galera", "--workload", "set", "--seed", "1", *flags]
    return run_command([*command, "--results", str(results)])


@pytest.mark.nightly  # to start three servers takes 10 s
def test_a_cluster_is_found_right_while_nothing_happens(tmp_path: Path) -> None:
    assert run(tmp_path, "--time-limit", "1") == 0


@pytest.mark.nightly  # who begins the cluster anew has to be found out first
def test_a_cluster_whose_nodes_were_all_killed_has_what_it_acknowledged(
    tmp_path: Path,
) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(KILL_ALL)
    assert run(tmp_path, "--plan", str(plan), "--time-limit", "30") == 0
