"""Redis Cluster: which node a request goes to, and a real cluster that fails over."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import NodeReply, NotInstalledError, UsageError
from harness.history import Op
from harness.registry import find
from harness.systems.redis_cluster import (
    PRIMARIES,
    SLOTS,
    RedisCluster,
    RedisClusterClient,
    owner_in,
    slot_of,
)
from harness.tests.loopback import LoopbackNodes, eventually, loopback_nodes
from harness.worlds.places import Endpoint, NodePlace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

TEST_LIMIT_S = 60.0
CODEC = find("workload", "register").factory({}).codec
BANK = find("workload", "bank").factory({}).codec
OK = b"+OK\r\n"


def op(f: str, value: object = None, key: object = 1) -> Op:
    return Op(-1, -1, 1, "invoke", f, value, key)


class FakeNode:
    """Gives these answers to commands, one after the other, then hangs up.

    `{owner}` in an answer stands for the endpoint of the next node.
    """

    def __init__(self, *answers: str | bytes) -> None:
        self._left = list(answers)
        self.asked: list[list[str]] = []
        self.owner = ""

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError, EOFError, ValueError):
            while True:
                words = []
                for _ in range(int((await reader.readline())[1:])):
                    length = int((await reader.readline())[1:])
                    words.append((await reader.readexactly(length + 2))[:-2].decode())
                self.asked.append(words)
                if not self._left:
                    break
                answer = self._left.pop(0)
                if isinstance(answer, str):
                    answer = answer.format(owner=self.owner).encode()
                writer.write(answer)
        writer.close()


@contextlib.asynccontextmanager
async def a_client_of(
    *nodes: FakeNode, wait: int = 0, codec: Any = CODEC
) -> AsyncIterator[RedisClusterClient]:
    """A client that is connected to the first of these nodes."""
    servers = [await asyncio.start_server(node.serve, "127.0.0.1", 0) for node in nodes]
    listens = [Endpoint("127.0.0.1", s.sockets[0].getsockname()[1]) for s in servers]
    for i, node in enumerate(nodes):
        node.owner = str(listens[(i + 1) % len(nodes)])
    cluster = {f"n{i}": listen for i, listen in enumerate(listens, 1)}
    client = RedisClusterClient(codec, wait)
    await client.open(NodePlace("n1", listens[0], {}, Path(), Path(), cluster))
    try:
        async with asyncio.timeout(TEST_LIMIT_S):
            yield client
    finally:
        await client.close()
        for server in servers:
            server.close()


def failure_of(asked: Op, *nodes: FakeNode, wait: int = 0) -> NodeReply:
    """How an operation fails."""

    async def one() -> NodeReply:
        async with a_client_of(*nodes, wait=wait) as client:
            with pytest.raises(NodeReply) as caught:
                await client.invoke(asked)
            return caught.value

    return asyncio.run(one())


def test_slots_are_those_of_the_specification() -> None:
    assert slot_of("123456789") == 0x31C3  # Appendix A
    assert slot_of("{user1000}.following") == slot_of("{user1000}.followers")
    assert slot_of("foo{}{bar}") != slot_of("")
    assert slot_of("foo{{bar}}zap") == slot_of("{bar")
    assert slot_of("foo{bar}{zap}") == slot_of("bar")
    assert slot_of("foo{bar") != slot_of("bar")
    assert {slot_of(str(i)) // (SLOTS // 8) for i in range(1000)} == set(range(8))


def test_only_a_whole_redirection_names_an_owner() -> None:
    assert owner_in("MOVED 3999 10.0.0.1:6379") == Endpoint("10.0.0.1", 6379)
    for text in ("", "MOVED", "MOVED 1 :x", "MOVED 1 x", "ASK 1 a:1", "MOVED 1 a:1 b"):
        assert owner_in(text) is None, text


def test_a_client_follows_a_redirection_and_remembers_it() -> None:
    first, second = FakeNode("-MOVED 1 {owner}\r\n"), FakeNode(OK, OK)

    async def scenario() -> None:
        async with a_client_of(first, second) as client:
            for value in (5, 6):
                assert (await client.invoke(op("write", value))).type == "ok"

    asyncio.run(scenario())
    assert len(first.asked) == 1
    assert [words[:2] for words in second.asked] == [["SET", "key/1"]] * 2


def test_a_client_that_was_sent_elsewhere_amid_a_transaction_begins_anew() -> None:
    queued = b"+QUEUED\r\n"
    held = b"*1\r\n$3\r\n[7]\r\n"
    first = FakeNode(OK, held, OK, queued, "-MOVED 1 {owner}\r\n")
    second = FakeNode(OK, held, OK, queued, b"*1\r\n+OK\r\n")
    codec = find("workload", "set").factory({}).codec

    async def scenario() -> None:
        async with a_client_of(first, second, codec=codec) as client:
            assert (await client.invoke(op("add", 8))).type == "ok"

    asyncio.run(scenario())
    commands = ["WATCH", "EVAL", "MULTI", "SET", "EXEC"]
    assert [words[0] for words in first.asked] == commands
    assert [words[0] for words in second.asked] == commands
    assert second.asked[3][-1] == "[7, 8]"


def test_a_client_forgets_an_owner_that_fails() -> None:
    first = FakeNode("-MOVED 1 {owner}\r\n", OK)
    second = FakeNode(b"-CLUSTERDOWN The cluster is down\r\n")

    async def scenario() -> None:
        async with a_client_of(first, second) as client:
            with pytest.raises(NodeReply, match="CLUSTERDOWN") as caught:
                await client.invoke(op("write", 5))
            assert caught.value.definite
            assert (await client.invoke(op("write", 6))).type == "ok"

    asyncio.run(scenario())
    assert [words[-1] for words in first.asked] == ["5", "6"]


def test_nodes_that_send_a_client_to_and_fro_fail_it_for_certain() -> None:
    moved = "-MOVED 1 {owner}\r\n"
    error = failure_of(op("write", 5), FakeNode(*[moved] * 9), FakeNode(*[moved] * 9))
    assert (error.definite, error.code) == (True, 11)
    assert "redirections" in error.text


def test_a_client_goes_to_no_host_that_is_no_node() -> None:
    error = failure_of(op("write", 5), FakeNode(b"-MOVED 1 192.0.2.1:80\r\n"))
    assert error.definite
    assert error.text.startswith("MOVED")


def test_a_write_that_too_few_replicas_have_may_be_lost() -> None:
    answers = (b":0\r\n", b"-ERR something\r\n", b"-READONLY it is one\r\n")
    for node in (*(FakeNode(OK, answer) for answer in answers), FakeNode(OK)):
        error = failure_of(op("write", 5), node, wait=1)
        assert not error.definite, error.text
        assert [words[0] for words in node.asked] == ["SET", "WAIT"]

    async def scenario() -> None:
        node = FakeNode(b":1\r\n", b":1\r\n", b"*1\r\n$1\r\n6\r\n")
        async with a_client_of(node, wait=1) as client:
            assert (await client.invoke(op("cas", [5, 6]))).type == "ok"
            assert (await client.invoke(op("read"))).value == 6
        assert [words[0] for words in node.asked] == ["EVAL", "WAIT", "EVAL"]

    asyncio.run(scenario())


def test_a_transaction_over_several_keys_is_refused() -> None:
    node = FakeNode()
    transfer = {"from": "account-0", "to": "account-1", "amount": 1}

    async def scenario() -> None:
        async with a_client_of(node, codec=BANK) as client:
            with pytest.raises(NodeReply, match="several owners") as caught:
                await client.invoke(op("transfer", transfer, 0))
            assert (caught.value.definite, caught.value.code) == (True, 10)

    asyncio.run(scenario())
    assert not node.asked


@pytest.mark.parametrize(
    "given", [{"wait": "-1"}, {"failover": "maybe"}, {"node_timeout_ms": "0"}]
)
def test_options_that_a_cluster_does_not_have_are_refused(
    given: dict[str, str],
) -> None:
    with pytest.raises(UsageError, match="redis_cluster"):
        RedisCluster(given)


def test_fewer_nodes_than_primaries_are_refused() -> None:
    for count in (1, 2):
        with pytest.raises(UsageError, match="--nodes 3 or more"):
            RedisCluster({}).check_nodes(["n"] * count)
    RedisCluster({}).check_nodes(["n"] * 3)


def run(
    count: int,
    folder: Path,
    scenario: Callable[[LoopbackNodes], Awaitable[None]],
    **options: str,
) -> None:
    system = find("system", "redis_cluster").factory("", options)
    try:
        system.check_installed()
    except NotInstalledError as error:
        pytest.skip(str(error))

    async def limited() -> None:
        async with (
            asyncio.timeout(TEST_LIMIT_S),
            loopback_nodes(system, count, folder) as nodes,
        ):
            await system.prepare(list(nodes.places.values()))
            await scenario(nodes)

    asyncio.run(limited())


async def clients_of(
    nodes: LoopbackNodes, names: Sequence[str]
) -> list[RedisClusterClient]:
    made: list[RedisClusterClient] = []
    for name in names:
        client: Any = nodes.system.client(find("workload", "register").factory({}))
        await client.open(nodes.places[name])
        made.append(client)
    return made


async def written(client: RedisClusterClient, value: int, key: int) -> bool:
    with contextlib.suppress(NodeReply):
        await client.invoke(op("write", value, key))
        return True
    return False


def test_every_node_of_a_real_cluster_serves_every_key(tmp_path: Path) -> None:
    async def scenario(nodes: LoopbackNodes) -> None:
        first, *_, last = clients = await clients_of(nodes, list(nodes.places))
        keys = range(12)
        assert {slot_of(f"key/{k}") * PRIMARIES // SLOTS for k in keys} == {0, 1, 2}
        for key in keys:
            assert (await last.invoke(op("read", None, key))).value is None
            await first.invoke(op("write", key, key))
            await last.invoke(op("cas", [key, key + 100], key))
            with pytest.raises(NodeReply) as caught:
                await first.invoke(op("cas", [key, 7], key))
            assert (caught.value.definite, caught.value.code) == (True, 22)
        for client in clients:
            for key in keys:
                assert (await client.invoke(op("read", None, key))).value == key + 100
            await client.close()

    run(4, tmp_path, scenario)


@pytest.mark.nightly  # a failover takes its time
def test_a_replica_takes_over_from_a_primary_that_is_killed(tmp_path: Path) -> None:
    async def scenario(nodes: LoopbackNodes) -> None:
        key = next(k for k in range(99) if slot_of(f"key/{k}") < SLOTS // PRIMARIES)
        clients = await clients_of(nodes, ["n2", "n3", "n4"])
        await clients[0].invoke(op("write", 5, key))
        nodes.kill("n1")
        for client in clients:

            async def serves(client: RedisClusterClient = client) -> bool:
                return await written(client, 6, key)

            await eventually(serves, "n4 serves what n1 had", TEST_LIMIT_S)
        await nodes.start("n1")
        (old,) = await clients_of(nodes, ["n1"])

        async def follows() -> bool:
            with contextlib.suppress(NodeReply):
                return bool((await old.invoke(op("read", None, key))).value == 6)
            return False

        await eventually(follows, "n1 sends clients to n4", TEST_LIMIT_S)
        for client in (*clients, old):
            await client.close()

    run(6, tmp_path, scenario, node_timeout_ms="500")
