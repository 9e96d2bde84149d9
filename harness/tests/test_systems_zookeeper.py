"""ZooKeeper: what each of its answers means, and a real server."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.errors import NodeReply, NotInstalledError, UsageError
from harness.history import Op
from harness.registry import find
from harness.systems import jute
from harness.systems.zookeeper import ZooKeeper, ZooKeeperClient, epoch_led
from harness.tests.loopback import LoopbackNodes, loopback_nodes
from harness.worlds.places import Endpoint, NodePlace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

TEST_LIMIT_S = 60.0
REGISTER = find("workload", "register").factory({})
INTRODUCED = jute.buffer(struct.pack(">iiq", 0, 40_000, 7) + jute.buffer(bytes(16)))
STAT = bytes(68)


def op(f: str, value: object = None, key: object = 1) -> Op:
    return Op(-1, -1, 1, "invoke", f, value, key)


def answer(code: int, body: bytes = b"", xid: int | None = None) -> tuple[bytes, int]:
    return struct.pack(">qi", 5, code) + body, 0 if xid is None else xid


@contextlib.asynccontextmanager
async def answered_with(
    *answers: tuple[bytes, int] | bytes, hello: bytes = INTRODUCED, reads: str = "local"
) -> AsyncIterator[ZooKeeperClient]:
    """A client whose server answers requests with these, then hangs up.

    An answer is a frame without its xid, which is that of the request if it is given
    as 0; or it is bytes, which are sent as they are.
    """
    left = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):
            await jute.frame(reader)
            writer.write(hello)
            while left:
                request = await jute.frame(reader)
                said = left.pop(0)
                if isinstance(said, tuple):
                    rest, xid = said
                    number = struct.pack(">i", xid) if xid else request[:4]
                    said = jute.buffer(number + rest)
                writer.write(said)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    listen = Endpoint("127.0.0.1", server.sockets[0].getsockname()[1])
    client = ZooKeeperClient(REGISTER.codec, reads)
    try:
        await client.open(NodePlace("n1", listen, {}, Path(), Path(), {"n1": listen}))
        yield client
    finally:
        await client.close()
        server.close()


def invoke(
    asked: Op, *answers: tuple[bytes, int] | bytes, hello: bytes = INTRODUCED
) -> Op:
    async def one() -> Op:
        async with (
            asyncio.timeout(TEST_LIMIT_S),
            answered_with(*answers, hello=hello) as client,
        ):
            return await client.invoke(asked)

    return asyncio.run(one())


@pytest.mark.parametrize(
    ("said", "definite"),
    [
        (answer(-8), True),
        (answer(-125), True),
        (answer(-1), False),
        (answer(-112), False),
        (answer(-4), False),
        (answer(0, xid=99), False),
        (b"\x00\x00\x00\x02hi", False),
        (b"\xff\xff\xff\xff", False),
        (b"\x00\x00\x01\x00", False),  # and the connection ends amid the answer
    ],
)
def test_a_write_fails_for_certain_only_if_the_leader_refused_it(
    said: tuple[bytes, int] | bytes, definite: bool
) -> None:
    with pytest.raises(NodeReply) as caught:
        invoke(op("write", 5), said)
    assert caught.value.definite is definite


def test_a_write_creates_what_is_not_there_yet() -> None:
    assert invoke(op("write", 5), answer(-101), answer(0)).type == "ok"
    again = (answer(-101), answer(-110), answer(0))
    assert invoke(op("write", 5), *again).type == "ok"


def test_a_compare_and_set_that_lost_against_another_reads_again() -> None:
    five, six = (answer(0, jute.buffer(text) + STAT) for text in (b"5", b"6"))
    assert invoke(op("cas", [5, 7]), five, answer(-103), five, answer(0)).type == "ok"
    with pytest.raises(NodeReply) as caught:
        invoke(op("cas", [5, 7]), five, answer(-103), six)
    assert (caught.value.definite, caught.value.code) == (True, 22)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        answer(-112),
        answer(0, b"\0\0"),
        answer(0, b"\0\0\0\x0912"),
        answer(0, jute.buffer(b"5")),
        answer(0, jute.buffer(b"{") + STAT),
    ],
)
def test_a_read_that_finds_no_answer_has_failed(said: tuple[bytes, int]) -> None:
    with pytest.raises(NodeReply) as caught:
        invoke(op("read"), said)
    assert caught.value.definite


def test_a_read_of_a_quorum_is_not_taken_for_an_empty_one_if_its_write_fails() -> None:
    async def one(*said: tuple[bytes, int]) -> Op:
        async with (
            asyncio.timeout(TEST_LIMIT_S),
            answered_with(*said, reads="quorum") as client,
        ):
            return await client.invoke(op("read"))

    five = answer(0, jute.buffer(b"5") + STAT)
    made = [answer(-101), answer(0)]
    assert asyncio.run(one(*made, five)).value == 5
    assert asyncio.run(one(answer(-101), answer(-110), answer(0), five)).value == 5
    with pytest.raises(NodeReply) as caught:
        asyncio.run(one(answer(-101), answer(-110), answer(-101)))
    assert caught.value.definite


@pytest.mark.parametrize("hello", [b"", b"\0\0\0\x01a", b"HTTP/1.1 400\r\n\r\n"])
def test_who_is_not_introduced_has_sent_nothing(hello: bytes) -> None:
    with pytest.raises(NodeReply) as caught:
        invoke(op("write", 5), hello=hello)
    assert caught.value.definite


def test_only_a_leader_has_an_epoch_that_it_leads() -> None:
    assert epoch_led("Zxid: 0x300000007\nMode: leader\n") == 3
    for told in ("", "Zxid: 0x300000007\nMode: follower\n", "Zxid: x\nMode: leader\n"):
        assert epoch_led(told) is None


@pytest.mark.parametrize(
    "given", [{"reads": "fresh"}, {"force_sync": "maybe"}, {"tick_ms": "0"}]
)
def test_options_that_zookeeper_does_not_have_are_refused(
    given: dict[str, str],
) -> None:
    with pytest.raises(UsageError, match="zookeeper"):
        ZooKeeper(given)


def run(
    count: int, folder: Path, scenario: Callable[[LoopbackNodes], Awaitable[None]]
) -> None:
    system = ZooKeeper({})
    try:
        system.check_installed()
    except NotInstalledError as error:
        pytest.skip(str(error))

    async def limited() -> None:
        async with (
            asyncio.timeout(TEST_LIMIT_S),
            loopback_nodes(system, count, folder) as nodes,
        ):
            await scenario(nodes)

    asyncio.run(limited())


def test_a_server_keeps_what_it_acknowledged_when_it_is_killed(tmp_path: Path) -> None:
    async def scenario(nodes: LoopbackNodes) -> None:
        client = nodes.system.client(REGISTER)
        await client.open(nodes.places["n1"])
        assert (await client.invoke(op("read"))).value is None
        await client.invoke(op("write", {"any": ["JSON", None, "\u00e9"]}))
        await client.invoke(op("cas", [{"any": ["JSON", None, "\u00e9"]}, 6]))
        with pytest.raises(NodeReply) as caught:
            await client.invoke(op("cas", [5, 7]))
        assert (caught.value.definite, caught.value.code) == (True, 22)
        await client.close()
        nodes.kill("n1")
        with pytest.raises(NodeReply, match="refused"):
            await client.open(nodes.places["n1"])
        await nodes.start("n1")
        await client.open(nodes.places["n1"])
        assert (await client.invoke(op("read"))).value == 6
        await client.close()

    run(1, tmp_path, scenario)
