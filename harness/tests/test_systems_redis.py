"""Redis: what each of its answers means, and a real server, alone and with replicas."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import NodeReply, UsageError
from harness.history import Op
from harness.registry import find
from harness.systems.redis import Redis, RedisClient, held_in
from harness.tests.loopback import LoopbackNodes, eventually, loopback_nodes
from harness.worlds.places import Endpoint, NodePlace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

TEST_LIMIT_S = 60.0
CODEC = find("workload", "register").factory({}).codec
BANK = find("workload", "bank").factory({}).codec

needs_redis = pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="redis-server is not on PATH"
)


def op(f: str, value: object = None, key: object = 1) -> Op:
    return Op(-1, -1, 1, "invoke", f, value, key)


@contextlib.asynccontextmanager
async def answered_with(*answers: bytes) -> AsyncIterator[RedisClient]:
    """A client whose server answers commands with these bytes, then hangs up."""
    left = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                words = []
                for _ in range(int((await reader.readline())[1:])):
                    length = int((await reader.readline())[1:])
                    words.append((await reader.readexactly(length + 2))[:-2])
                writer.write(left.pop(0) if left else b"")
                if not left:
                    break
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    listen = Endpoint("127.0.0.1", server.sockets[0].getsockname()[1])
    client = RedisClient(CODEC, "return 1")
    await client.open(place(listen))
    try:
        yield client
    finally:
        await client.close()
        server.close()


def place(listen: Endpoint) -> NodePlace:
    from pathlib import Path

    return NodePlace("n1", listen, {}, Path(), Path(), {"n1": listen})


def invoke(asked: Op, *answers: bytes) -> Op:
    async def one() -> Op:
        async with answered_with(*answers) as client, asyncio.timeout(TEST_LIMIT_S):
            return await client.invoke(asked)

    return asyncio.run(one())


@pytest.mark.parametrize(
    ("answer", "definite"),
    [
        (b"-READONLY You can't write against a read only replica.\r\n", True),
        (b"-NOREPLICAS Not enough good replicas to write.\r\n", True),
        (b"-LOADING Redis is loading the dataset in memory\r\n", True),
        (b"-MISCONF Errors writing to the AOF file\r\n", True),
        (b"-ERR something that we have never seen\r\n", False),
        (b"$5\r\n", False),  # and the connection ends amid the answer
        (b"?nonsense\r\n", False),
    ],
)
def test_a_write_fails_for_certain_only_if_redis_refused_it(
    answer: bytes, definite: bool
) -> None:
    with pytest.raises(NodeReply) as caught:
        invoke(op("write", 5), answer)
    assert caught.value.definite is definite


def test_a_write_whose_connection_is_lost_may_have_happened() -> None:
    with pytest.raises(NodeReply, match="connection closed") as caught:
        invoke(op("write", 5))
    assert not caught.value.definite


def test_a_read_that_finds_no_answer_has_failed() -> None:
    for answers in ((), (b"*2\r\n$1\r\n1\r\n$1\r\n2\r\n",), (b"*1\r\n$1\r\n{\r\n",)):
        with pytest.raises(NodeReply) as caught:
            invoke(op("read"), *answers)
        assert caught.value.definite, answers


def test_compare_and_set_says_what_it_found() -> None:
    assert invoke(op("cas", [1, 2]), b":1\r\n").type == "ok"
    for answer, code in ((b":0\r\n", 22), (b":-1\r\n", 20)):
        with pytest.raises(NodeReply) as caught:
            invoke(op("cas", [1, 2]), answer)
        assert (caught.value.definite, caught.value.code) == (True, code)
    with pytest.raises(NodeReply) as caught:
        invoke(op("cas", [1, 2]), b":7\r\n")
    assert not caught.value.definite


def test_what_is_answered_to_a_read_has_to_fit() -> None:
    assert held_in([b"5", None], ["a", "b"]) == {"a": 5}
    for told in (None, [b"5"], 7, [b"\xff", b"1"]):
        with pytest.raises(NodeReply) as caught:
            held_in(told, ["a", "b"])
        assert caught.value.definite


@pytest.mark.parametrize(
    "given", [{"appendfsync": "sometimes"}, {"min_replicas": "-1"}, {"fsync": "no"}]
)
def test_options_that_redis_does_not_have_are_refused(given: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="redis"):
        Redis(given)


def test_two_nodes_are_refused_as_they_can_not_fail_over() -> None:
    with pytest.raises(UsageError, match="--nodes 1, or 3"):
        Redis({}).check_nodes(["n1", "n2"])


def run(
    count: int, folder: Path, scenario: Callable[[LoopbackNodes], Awaitable[None]]
) -> None:
    async def limited() -> None:
        system = find("system", "redis").factory("", {})
        async with (
            asyncio.timeout(TEST_LIMIT_S),
            loopback_nodes(system, count, folder) as nodes,
        ):
            await scenario(nodes)

    asyncio.run(limited())


async def client_of(nodes: LoopbackNodes, name: str, codec: Any = CODEC) -> RedisClient:
    client: RedisClient = nodes.system.client(find("workload", "register").factory({}))  # type: ignore[assignment]  # redis' are
    client._codec = codec
    await client.open(nodes.places[name])
    return client


@needs_redis
def test_a_server_keeps_what_it_acknowledged_when_it_is_killed(tmp_path: Path) -> None:
    async def scenario(nodes: LoopbackNodes) -> None:
        client = await client_of(nodes, "n1")
        assert (await client.invoke(op("read"))).value is None
        await client.invoke(op("write", {"any": ["JSON", None, "\u00e9"]}))
        await client.invoke(op("cas", [{"any": ["JSON", None, "\u00e9"]}, 6]))
        with pytest.raises(NodeReply) as caught:
            await client.invoke(op("cas", [5, 7]))
        assert (caught.value.definite, caught.value.code) == (True, 22)
        bank = await client_of(nodes, "n1", BANK)
        await bank.invoke(op("open", 100, 0))
        transfer = {"from": "account-0", "to": "account-1", "amount": 40}
        await bank.invoke(op("transfer", transfer, 0))
        with pytest.raises(NodeReply) as caught:
            await bank.invoke(op("transfer", {**transfer, "amount": 101}, 0))
        assert (caught.value.definite, caught.value.code) == (True, 14)
        for each in (client, bank):
            await each.close()
        nodes.kill("n1")
        with pytest.raises(NodeReply, match="refused"):
            await client.open(nodes.places["n1"])
        await nodes.start("n1")
        await client.open(nodes.places["n1"])
        assert (await client.invoke(op("read"))).value == 6
        await client.close()

    run(1, tmp_path, scenario)


@needs_redis
def test_two_transactions_at_once_do_not_lose_each_other(tmp_path: Path) -> None:
    async def scenario(nodes: LoopbackNodes) -> None:
        clients = [await client_of(nodes, "n1", BANK) for _ in range(4)]
        await clients[0].invoke(op("open", 1_000, 0))
        transfer = {"from": "account-0", "to": "account-1", "amount": 1}

        async def pay(client: RedisClient) -> int:
            paid = 0
            for _ in range(25):
                with contextlib.suppress(NodeReply):  # lost against others, often
                    await client.invoke(op("transfer", transfer, 0))
                    paid += 1
            return paid

        paid = sum(await asyncio.gather(*map(pay, clients)))
        balances = (await clients[0].invoke(op("read", None, 0))).value
        assert balances["account-1"] == paid > 0
        assert balances["account-0"] == 1_000 - paid
        for client in clients:
            await client.close()

    run(1, tmp_path, scenario)


@needs_redis
@pytest.mark.nightly  # Sentinels take their time
def test_replicas_refuse_and_a_sentinel_replaces_a_primary_that_is_killed(
    tmp_path: Path,
) -> None:
    async def scenario(nodes: LoopbackNodes) -> None:
        system, places = nodes.system, list(nodes.places.values())
        assert isinstance(system, Redis)
        assert await system.leader(places) == "n1"
        replica = await client_of(nodes, "n2")

        async def refuses() -> bool:
            with pytest.raises(NodeReply) as caught:
                await replica.invoke(op("read"))
            assert caught.value.definite
            return "read only replica" in caught.value.text

        await eventually(refuses, "n2 is a replica")
        await replica.close()
        nodes.kill("n1")

        async def another_leads() -> bool:
            return await system.leader(places[1:]) in {"n2", "n3"}

        await eventually(another_leads, "another node leads", TEST_LIMIT_S)
        await nodes.start("n1")
        old = await client_of(nodes, "n1")

        async def is_replica() -> bool:
            with contextlib.suppress(NodeReply):
                await old.invoke(op("write", 1))
                return False
            return await system.leader(places) in {"n2", "n3"}

        await eventually(is_replica, "n1 comes back as a replica", TEST_LIMIT_S)
        await old.close()

    run(3, tmp_path, scenario)
