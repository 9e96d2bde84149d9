"""RabbitMQ: what each of its answers means, and a real broker that is killed."""

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
from harness.systems import amqp
from harness.systems.rabbitmq import RabbitMQ, RabbitMQClient, needed, remembers
from harness.tests.loopback import LoopbackNodes, eventually, loopback_nodes
from harness.worlds.places import Endpoint, NodePlace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TEST_LIMIT_S = 120.0
QUEUE = find("workload", "queue").factory({})


def op(f: str, value: object = None) -> Op:
    return Op(-1, -1, 1, "invoke", f, value, None)


def frame(kind: int, payload: bytes, channel: int = 1) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def said(method: amqp.Method, arguments: bytes = b"") -> bytes:
    return frame(1, struct.pack(">HH", *method) + arguments)


def confirmed(tag: int = 1) -> bytes:
    return said(amqp.BASIC_ACK, struct.pack(">QB", tag, 0))


def closed(code: int, method: amqp.Method = amqp.CHANNEL_CLOSE) -> bytes:
    return said(method, struct.pack(">H", code) + amqp.short("why") + bytes(4))


def content(body: bytes) -> bytes:
    return frame(2, struct.pack(">HHQH", 60, 0, len(body), 0)) + frame(3, body)


def handed_out(body: bytes) -> bytes:
    got = struct.pack(">QB", 7, 0) + amqp.short("") + amqp.short("queue") + bytes(4)
    return said(amqp.BASIC_GET_OK, got) + content(body)


RETURNED = said(amqp.BASIC_RETURN, struct.pack(">H", 312)) + content(b"5")
EMPTY = said(amqp.BASIC_GET_EMPTY, b"\0")

WELCOME = (
    said(amqp.CONNECTION_START, b"\0\x09"),
    said(amqp.CONNECTION_TUNE, struct.pack(">HIH", 2047, 131_072, 60)),
    said(amqp.CONNECTION_OPEN_OK, b"\0"),
    said(amqp.CHANNEL_OPEN_OK, bytes(4)),
    said(amqp.CONFIRM_SELECT_OK),
)
"""What a broker says while a client logs in."""


class Broker:
    """Answers requests with what it is given, then hangs up; hears acknowledgements."""

    def __init__(self, answers: tuple[bytes, ...], welcome: tuple[bytes, ...]) -> None:
        self.left = list(answers)
        self.welcome = b"".join(welcome)
        self.acknowledged: list[int] = []

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError, EOFError):
            assert await reader.readexactly(8) == amqp.PROTOCOL
            writer.write(self.welcome)
            while True:
                kind, _, size = struct.unpack(">BHI", await reader.readexactly(7))
                payload = (await reader.readexactly(size + 1))[:-1]
                if kind != 1:
                    continue
                method = struct.unpack(">HH", payload[:4])
                if method == amqp.BASIC_ACK:
                    self.acknowledged += struct.unpack(">Q", payload[4:12])
                if method in {amqp.BASIC_PUBLISH, amqp.BASIC_GET}:
                    writer.write(self.left.pop(0))
                    if not self.left:
                        break
        writer.close()


@contextlib.asynccontextmanager
async def answered_by(
    broker: Broker, *, confirms: bool = True
) -> AsyncIterator[RabbitMQClient]:
    server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
    listen = Endpoint("127.0.0.1", server.sockets[0].getsockname()[1])
    client = RabbitMQClient(QUEUE.codec, confirms=confirms, persistent=True)
    try:
        async with asyncio.timeout(TEST_LIMIT_S):
            place = NodePlace("n1", listen, {}, Path(), Path(), {"n1": listen})
            await client.open(place)
            yield client
    finally:
        await client.close()
        server.close()


def invoke(
    asked: Op, *answers: bytes, welcome: tuple[bytes, ...] = WELCOME
) -> tuple[Op, list[int]]:
    """What comes of an operation, and which deliveries were acknowledged."""

    async def one() -> tuple[Op, list[int]]:
        broker = Broker(answers, welcome)
        async with answered_by(broker) as client:
            done = await client.invoke(asked)
            if done.f == "dequeue":
                # The next request follows the acknowledgement on the connection.
                with contextlib.suppress(NodeReply):
                    await client.invoke(op("dequeue"))
            return done, broker.acknowledged

    return asyncio.run(one())


def failure(
    asked: Op, *answers: bytes, welcome: tuple[bytes, ...] = WELCOME
) -> NodeReply:
    with pytest.raises(NodeReply) as caught:
        invoke(asked, *answers, welcome=welcome)
    return caught.value


def test_a_message_is_enqueued_once_it_is_confirmed() -> None:
    assert invoke(op("enqueue", 5), confirmed())[0].type == "ok"
    heartbeat = frame(8, b"", channel=0)
    assert invoke(op("enqueue", 5), heartbeat + confirmed())[0].type == "ok"


@pytest.mark.parametrize(
    ("answer", "definite"),
    [
        (RETURNED + confirmed(), True),
        (closed(404), True),
        (closed(406), True),
        (closed(541, amqp.CONNECTION_CLOSE), False),
        (closed(320, amqp.CONNECTION_CLOSE), False),
        (said(amqp.BASIC_NACK, struct.pack(">QB", 1, 0)), False),
        (RETURNED + said(amqp.BASIC_NACK, struct.pack(">QB", 1, 0)), True),
        (RETURNED, False),  # and the connection ends
        (confirmed(2), False),
        (EMPTY, False),
        (said(amqp.BASIC_ACK), False),
        (said(amqp.CHANNEL_CLOSE), False),
        (b"", False),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", False),
        (b"\x01\x00\x01\xff\xff\xff\xff", False),
        (confirmed()[:-1] + b"?", False),
    ],
)
def test_an_enqueue_fails_for_certain_only_if_it_found_no_queue(
    answer: bytes, definite: bool
) -> None:
    assert failure(op("enqueue", 5), answer).definite is definite


def test_an_element_that_comes_out_is_acknowledged() -> None:
    done, acknowledged = invoke(op("dequeue"), handed_out(b"5"), EMPTY)
    assert (done.type, done.value, acknowledged) == ("ok", 5, [7])
    done, acknowledged = invoke(op("dequeue"), EMPTY, EMPTY)
    assert (done.type, done.value, acknowledged) == ("ok", None, [])


@pytest.mark.parametrize(
    ("answer", "definite"),
    [
        (closed(404), True),
        (closed(541, amqp.CONNECTION_CLOSE), False),
        (b"", False),
        (handed_out(b"{"), False),
        (handed_out(b"[" * 100_000), False),
        (handed_out(b"5")[:-3], False),
        (said(amqp.BASIC_GET_OK), False),
        (
            said(amqp.BASIC_GET_OK, bytes(9))
            + frame(2, struct.pack(">HHQ", 60, 0, -1 % 2**64)),
            False,
        ),
        (said(amqp.BASIC_GET_OK, bytes(9)) + frame(2, b""), False),
        (said(amqp.BASIC_GET_OK, bytes(9)) + confirmed(), False),
    ],
)
def test_a_dequeue_without_an_answer_may_have_taken_an_element(
    answer: bytes, definite: bool
) -> None:
    assert failure(op("dequeue"), answer).definite is definite


@pytest.mark.parametrize(
    "welcome",
    [
        (),
        (b"AMQP\0\0\x09\x01",),
        (b"HTTP/1.1 400\r\n\r\n",),
        (WELCOME[0], closed(403, amqp.CONNECTION_CLOSE)),
        WELCOME[:-1],
    ],
)
def test_who_is_not_let_in_has_sent_nothing(welcome: tuple[bytes, ...]) -> None:
    # A broker that says no more hangs up.
    async def one() -> NodeReply:
        async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"".join(welcome))
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        with pytest.raises(NodeReply) as caught:
            await amqp.Amqp(Endpoint(host, port), "guest").connect()
        server.close()
        return caught.value

    assert asyncio.run(one()).definite


def test_without_confirms_a_message_counts_as_enqueued_once_it_is_on_its_way() -> None:
    async def one() -> Op:
        broker = Broker((b"",), WELCOME[:-1])
        async with answered_by(broker, confirms=False) as client:
            return await client.invoke(op("enqueue", 5))

    assert asyncio.run(one()).type == "ok"


def test_other_requests_than_a_queue_s_are_refused() -> None:
    class Codec(type(QUEUE.codec)):  # type: ignore[misc]
        def request(self, _: Op) -> dict[str, object]:
            return {"type": "txn", "txn": [["r", 1, None]]}

    async def one() -> NodeReply:
        async with answered_by(Broker((), WELCOME)) as client:
            client._codec = Codec(None)
            with pytest.raises(NodeReply) as caught:
                await client.invoke(op("dequeue"))
            return caught.value

    assert asyncio.run(one()).code == 10


@pytest.mark.parametrize(
    "given", [{"queue": "lossy"}, {"confirms": "perhaps"}, {"net_ticktime_s": "0"}]
)
def test_options_that_rabbitmq_does_not_have_are_refused(given: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="rabbitmq"):
        RabbitMQ(given)


def test_a_broker_gets_what_its_applications_need_and_nothing_else(
    tmp_path: Path,
) -> None:
    needs = {"rabbit": "kernel,\n ra", "ra": "aten,kernel", "aten": "", "web": "rabbit"}
    for name, others in needs.items():
        ebin = tmp_path / f"{name}-1.2" / "ebin"
        ebin.mkdir(parents=True)
        (ebin / f"{name}.app").write_text(f"{{applications, [{others}]}}")
    (tmp_path / "README").touch()
    assert [path.name for path in needed(tmp_path)] == [
        "rabbit-1.2",
        "ra-1.2",
        "aten-1.2",
    ]
    (tmp_path / "aten-1.2/ebin/aten.app").unlink()
    with pytest.raises(NotInstalledError, match="aten"):
        needed(tmp_path)


def test_a_replica_is_remembered_once_its_name_is_in_a_plain_file(
    tmp_path: Path,
) -> None:
    listen = Endpoint("127.0.0.1", 7400)
    place = NodePlace("n1", listen, {}, tmp_path, tmp_path / "log", {"n1": listen})
    folder = tmp_path / "mnesia/rabbit@127.0.0.1/quorum/rabbit@127.0.0.1"
    folder.mkdir(parents=True)
    names = folder / "names.dets"
    assert not remembers(place)
    names.write_bytes(bytes(99))
    assert not remembers(place)
    names.write_bytes(bytes(99) + b"%2F_queue" + bytes(9))
    assert remembers(place)
    names.rename(folder / "others")
    names.symlink_to(folder / "others")
    assert not remembers(place)


@pytest.mark.parametrize(
    "queue", ["quorum", pytest.param("classic", marks=pytest.mark.nightly)]
)
def test_a_broker_keeps_what_it_confirmed_when_it_is_killed_at_once(
    queue: str, tmp_path: Path
) -> None:
    system = RabbitMQ({"queue": queue})
    try:
        system.check_installed()
    except NotInstalledError as error:
        pytest.skip(str(error))

    async def scenario(nodes: LoopbackNodes) -> None:
        await system.prepare(list(nodes.places.values()))
        client = system.client(QUEUE)
        await client.open(nodes.places["n1"])
        assert (await client.invoke(op("dequeue"))).value is None
        for value in (1, 2, 3):
            assert (await client.invoke(op("enqueue", value))).type == "ok"
        assert (await client.invoke(op("dequeue"))).value == 1
        await client.close()
        nodes.kill("n1")
        with pytest.raises(NodeReply, match="refused"):
            await client.open(nodes.places["n1"])
        await nodes.start("n1")
        await client.open(nodes.places["n1"])
        left = []

        async def is_drained() -> bool:
            # What was acknowledged may come again.
            with contextlib.suppress(NodeReply):
                left.append((await client.invoke(op("dequeue"))).value)
            return {2, 3} <= set(left)

        await eventually(is_drained, "2 and 3 come out", TEST_LIMIT_S)
        await client.close()

    async def limited() -> None:
        async with (
            asyncio.timeout(2 * TEST_LIMIT_S),
            loopback_nodes(system, 1, tmp_path) as nodes,
        ):
            await scenario(nodes)

    asyncio.run(limited())
