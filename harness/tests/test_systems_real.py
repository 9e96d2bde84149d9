"""The third parties for real, on loopback: operations, a killed leader, a restart."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import pytest

from harness.errors import NodeReply, NotInstalledError
from harness.history import Op
from harness.registry import find
from harness.systems import services
from harness.systems.abilities import Installed, Led
from harness.tests.loopback import LoopbackNodes, eventually, loopback_nodes

if TYPE_CHECKING:
    from pathlib import Path

    from harness.systems.client import Client
    from harness.systems.system import System

TEST_LIMIT_S = 90.0
CALL_LIMIT_S = 2.0

SYSTEMS: dict[str, dict[str, str]] = {
    "raft": {},
    "etcd": {},
    "hashicorp_raft": {},
    "ratis": {},
    "raft_rs": {},
    "pysyncobj": {"reads": "log"},
}
"""Name -> options under which reads are linearizable."""


def installed(name: str, options: dict[str, str]) -> System:
    """The system, if this machine has all that runs it; skips the test otherwise."""
    system: System = find("system", name).factory("", options)
    if isinstance(system, Installed):
        try:
            system.check_installed()
        except NotInstalledError as error:
            pytest.skip(str(error))
    return system


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_real_cluster_keeps_its_registers_when_its_leader_is_killed(
    name: str, tmp_path: Path
) -> None:
    system = installed(name, SYSTEMS[name])

    async def limited() -> None:
        async with (
            asyncio.timeout(TEST_LIMIT_S),
            loopback_nodes(system, 3, tmp_path) as nodes,
        ):
            await lives_through_a_kill(nodes)

    asyncio.run(limited())


async def lives_through_a_kill(nodes: LoopbackNodes) -> None:
    n1, n2, n3 = [await open_client(nodes, name) for name in nodes.places]
    await until_ok(n1, op("write", 1, 1))
    assert (await until_ok(n2, op("read", 1))).value == 1
    assert (await until_ok(n3, op("read", 2))).value is None
    await cas_succeeds(n3)
    with pytest.raises(NodeReply) as caught:
        await n2.invoke(op("cas", 1, [9, 9]))
    assert caught.value.definite
    for client in (n1, n2, n3):
        await client.close()
    if "bank" in services.served(nodes.system):
        await transacts(nodes)

    leader = await find_leader(nodes)
    victim = await open_client(nodes, leader)
    nodes.kill(leader)
    with pytest.raises(NodeReply):
        await victim.invoke(op("write", 1, 90))
    with pytest.raises(NodeReply, match="refused") as caught:
        await victim.invoke(op("write", 1, 92))
    assert caught.value.definite

    survivor = await open_client(nodes, next(n for n in nodes.places if n != leader))
    await until_ok(survivor, op("write", 1, 4))
    await survivor.close()
    await nodes.start(leader)
    assert (await until_ok(victim, op("read", 1))).value == 4
    assert await find_leader(nodes) in nodes.places
    await victim.close()


async def transacts(nodes: LoopbackNodes) -> None:
    """Several keys at once, seen from elsewhere; and one that can't be done."""
    n1, n2 = [await open_client(nodes, name, "bank") for name in ("n1", "n2")]
    await until_ok(n1, op("open", 0, 100))
    account = {"from": "account-0", "to": "account-1", "amount": 40}
    with pytest.raises(NodeReply) as caught:
        await n1.invoke(op("transfer", 0, {**account, "amount": 101}))
    assert (caught.value.definite, caught.value.code) == (True, 14)
    await until_ok(n1, op("transfer", 0, account))
    balances = (await until_ok(n2, op("read", 0))).value
    # One that was not answered in time may have happened beside the one that was.
    moved = balances["account-1"]
    assert moved in {40, 80}
    assert balances["account-0"] == 100 - moved
    for client in (n1, n2):
        await client.close()


def op(f: str, key: int, value: object = None) -> Op:
    return Op(-1, -1, 1, "invoke", f, value, key)


async def open_client(
    nodes: LoopbackNodes, name: str, workload: str = "register"
) -> Client:
    client = nodes.system.client(find("workload", workload).factory({}))
    await client.open(nodes.places[name])
    return client


async def until_ok(client: Client, op: Op) -> Op:
    """Again and again until it succeeds: a cluster needs time to elect a leader.

    Only for operations that may well happen more than once.
    """
    outcomes: list[Op] = []

    async def succeeds() -> bool:
        try:
            async with asyncio.timeout(CALL_LIMIT_S):
                outcomes.append(await client.invoke(op))
        except (NodeReply, TimeoutError):
            return False
        return True

    await eventually(succeeds, f"{op.f} {op.key} {op.value}", TEST_LIMIT_S)
    return outcomes[-1]


async def cas_succeeds(client: Client) -> None:
    """On a new register each time: one that timed out may have happened."""
    keys = itertools.count(100)

    async def succeeds() -> bool:
        key = next(keys)
        await until_ok(client, op("write", key, "old"))
        try:
            async with asyncio.timeout(CALL_LIMIT_S):
                await client.invoke(op("cas", key, ["old", "new"]))
        except (NodeReply, TimeoutError):
            return False
        return bool((await until_ok(client, op("read", key))).value == "new")

    await eventually(succeeds, "a cas succeeds", TEST_LIMIT_S)


async def find_leader(nodes: LoopbackNodes) -> str:
    found: list[str] = []
    system = nodes.system
    assert isinstance(system, Led)

    async def somebody_leads() -> bool:
        leader = await system.leader(list(nodes.places.values()))
        if leader is not None:
            found.append(leader)
        return leader is not None

    await eventually(somebody_leads, "somebody leads")
    return found[-1]


def test_a_lock_of_etcd_with_a_lease_goes_to_another_once_its_client_is_gone(
    tmp_path: Path,
) -> None:
    system = installed("etcd", {"locks": "lease", "lease_ttl_s": "1"})

    async def limited() -> None:
        async with (
            asyncio.timeout(TEST_LIMIT_S),
            loopback_nodes(system, 1, tmp_path) as nodes,
        ):
            first, second = [await open_client(nodes, "n1", "lock") for _ in range(2)]
            old = (await until_ok(first, op("acquire", 1))).value
            with pytest.raises(NodeReply) as caught:
                await second.invoke(op("acquire", 1))
            assert (caught.value.definite, caught.value.code) == (True, 22)
            await first.close()
            new = (await until_ok(second, op("acquire", 1))).value
            assert new > old
            with pytest.raises(NodeReply) as caught:
                await second.invoke(op("use", 1, old))
            assert (caught.value.definite, caught.value.code) == (True, 22)
            await second.invoke(op("use", 1, new))
            await second.invoke(op("release", 1, new))
            assert (await second.invoke(op("acquire", 1))).value > new
            await second.close()

    asyncio.run(limited())
