"""WireClient against nodes that behave, and against nodes that don't."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import HarnessError, NodeReply, Timeout
from harness.history import Op
from harness.systems import wire
from harness.systems.wire import (
    CONTROL_NAME,
    FLOOD_BYTES_MAX,
    LINE_BYTES_MAX,
    Connection,
    WireClient,
    WireCounters,
    call,
)
from harness.worlds.places import Endpoint, NodePlace

T = TypeVar("T")
Line = bytes
Answer = Callable[[dict[str, Any], asyncio.StreamWriter], Awaitable[None]]
"""What a scripted node does with a request."""

TEST_LIMIT_S = 20.0


class EchoCodec:
    """Sends the operation's value, and takes what comes back for its result."""

    def request(self, op: Op) -> dict[str, Any]:
        return {"type": "echo", "echo": op.value}

    def completion(self, op: Op, body: Mapping[str, Any]) -> Op:
        if body.get("type") != "echo_ok":
            raise NodeReply(definite=False, text="not an echo")
        return op.ok(body["echo"])

    def on_error(self, op: Op, error: NodeReply) -> Op | None:
        return op.ok(None) if error.code == 20 else None


class ScriptedNode:
    """A node in this process that answers as the test says."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._writers: list[asyncio.StreamWriter] = []
        self.requests: list[dict[str, Any]] = []
        self.connections = 0
        self.heard = asyncio.Event()
        self.place = place_at(0)

    async def listen(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", port, limit=2 * LINE_BYTES_MAX
        )
        self.place = place_at(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.connections += 1
        self._writers.append(writer)
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                request = json.loads(line)
                self.requests.append(request)
                self.heard.set()
                await self._answer(request, writer)
        writer.close()


def place_at(port: int) -> NodePlace:
    listen = Endpoint("127.0.0.1", port)
    nowhere = Path("nowhere")
    return NodePlace("n1", listen, {}, nowhere, nowhere, {"n1": listen})


def reply(request: dict[str, Any], **changes: Any) -> Line:
    """The line that answers an echo, or an altered one."""
    body = {
        "type": "echo_ok",
        "echo": request["body"]["echo"],
        "in_reply_to": request["body"]["msg_id"],
        **changes,
    }
    message = {"src": "n1", "dest": body.pop("dest", request["src"]), "body": body}
    return json.dumps(message).encode() + b"\n"


async def echo(request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    writer.write(reply(request))


def says(*lines: Line | Callable[[dict[str, Any]], Line]) -> Answer:
    """Answers each request with these lines."""

    async def answer(request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        for line in lines:
            writer.write(line(request) if callable(line) else line)

    return answer


def op(value: Any, process: int = 3) -> Op:
    return Op(-1, -1, process, "invoke", "echo", value)


@contextlib.asynccontextmanager
async def talking_to(
    answer: Answer,
) -> AsyncIterator[tuple[WireClient, ScriptedNode, WireCounters]]:
    counters = WireCounters()
    node = ScriptedNode(answer)
    await node.listen()
    client = WireClient(EchoCodec(), counters)
    await client.open(node.place)
    try:
        yield client, node, counters
    finally:
        await client.close()
        await node.close()


def run(test: Coroutine[Any, Any, T]) -> T:
    async def limited() -> T:
        async with asyncio.timeout(TEST_LIMIT_S):
            return await test

    return asyncio.run(limited())


def counted(counters: WireCounters) -> dict[str, int]:
    return {name: n for name, n in counters.as_json().items() if n}


def test_an_answer_completes_its_operation() -> None:
    async def scenario() -> None:
        async with talking_to(echo) as (client, node, counters):
            assert await client.invoke(op("hello")) == op("hello").ok("hello")
            assert (await client.invoke(op(2, process=13))).value == 2
            assert [r["src"] for r in node.requests] == ["c3", "c13"]
            assert [r["dest"] for r in node.requests] == ["n1", "n1"]
            assert [r["body"]["msg_id"] for r in node.requests] == [1, 2]
            assert node.connections == 1
            assert counted(counters) == {}

    run(scenario())


def test_answers_find_their_requests_in_any_order() -> None:
    held: list[dict[str, Any]] = []

    async def backwards(request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        held.append(request)
        if len(held) == 5:
            for earlier in reversed(held):
                writer.write(reply(earlier))

    async def scenario() -> None:
        async with talking_to(backwards) as (client, _, counters):
            done = await asyncio.gather(*(client.invoke(op(i, i)) for i in range(5)))
            assert [d.value for d in done] == list(range(5))
            assert counted(counters) == {}

    run(scenario())


@pytest.mark.parametrize(("code", "definite"), [(11, True), (13, False), (4711, False)])
def test_an_error_says_by_its_code_whether_it_is_definite(
    code: int, definite: bool
) -> None:
    async def scenario() -> None:
        refuse = says(lambda r: reply(r, type="error", code=code, text="no"))
        async with talking_to(refuse) as (client, _, counters):
            with pytest.raises(NodeReply, match="no") as caught:
                await client.invoke(op(1))
            assert caught.value.definite is definite
            assert counted(counters) == {}

    run(scenario())


def test_an_error_that_the_workload_takes_for_an_answer_is_one() -> None:
    async def scenario() -> None:
        missing = says(lambda r: reply(r, type="error", code=20))
        async with talking_to(missing) as (client, _, _counters):
            assert await client.invoke(op(1)) == op(1).ok(None)

    run(scenario())


def test_a_node_that_is_not_there_is_a_definite_failure() -> None:
    async def scenario() -> None:
        async with talking_to(echo) as (client, node, _):
            await node.close()
            with pytest.raises(NodeReply) as caught:
                await WireClient(EchoCodec(), WireCounters()).open(node.place)
            assert caught.value.definite
            # One that is open already: what it sends may have arrived, until it learns
            # that the connection is gone. From then on nothing leaves.
            definite = await refusals(client, 2)
            assert definite[-1] is True

    run(scenario())


async def refusals(client: WireClient, count: int) -> list[bool]:
    definite = []
    for _ in range(count):
        with pytest.raises(NodeReply) as caught:
            await client.invoke(op(1))
        definite.append(caught.value.definite)
    return definite


def test_a_connection_lost_while_waiting_leaves_the_outcome_open() -> None:
    async def hang_up(_: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async def scenario() -> None:
        async with talking_to(hang_up) as (client, _, counters):
            with pytest.raises(NodeReply, match="connection closed") as caught:
                await client.invoke(op(1))
            assert not caught.value.definite
            assert counted(counters) == {}

    run(scenario())


def test_a_client_connects_again_when_its_connection_was_lost() -> None:
    async def hang_up_once(
        request: dict[str, Any], writer: asyncio.StreamWriter
    ) -> None:
        if request["body"]["echo"] == "die":
            writer.transport.abort()
        else:
            writer.write(reply(request))

    async def scenario() -> None:
        async with talking_to(hang_up_once) as (client, node, _):
            with pytest.raises(NodeReply):
                await client.invoke(op("die"))
            assert (await client.invoke(op("live"))).value == "live"
            assert node.connections == 2

    run(scenario())


async def give_up(client: WireClient, value: Any, after_s: float = 0.01) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(after_s):
            await client.invoke(op(value))


def test_an_answer_after_its_request_was_given_up_is_late_and_nothing_else() -> None:
    held: list[dict[str, Any]] = []

    async def one_behind(request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        held.append(request)
        if len(held) == 3:
            for earlier in held:
                writer.write(reply(earlier))

    async def scenario() -> None:
        async with talking_to(one_behind) as (client, _, counters):
            await give_up(client, "first")
            await give_up(client, "second")
            assert (await client.invoke(op("third"))).value == "third"
            assert counted(counters) == {"late": 2}

    run(scenario())


def test_an_answer_that_comes_when_its_client_has_left_is_still_late() -> None:
    to_answer: asyncio.Queue[Callable[[], None]] = asyncio.Queue()

    async def later(request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        await to_answer.put(lambda: writer.write(reply(request)))

    async def scenario() -> None:
        async with talking_to(later) as (client, _, counters):
            await give_up(client, "first")
            await give_up(client, "second")
            await client.close()
            for _ in range(2):
                (await to_answer.get())()
            await asyncio.gather(*wire._lingering)
            assert counted(counters) == {"late": 2}

    run(scenario())


def test_a_client_that_left_does_not_wait_for_ever_for_what_it_is_owed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wire, "LINGER_S", 0.02)

    async def scenario() -> None:
        async with talking_to(says()) as (client, _, counters):
            await give_up(client, 1)
            await client.close()
            await asyncio.gather(*wire._lingering)
            assert counted(counters) == {}

    run(scenario())


def test_a_request_that_is_given_up_as_its_answer_arrives_is_still_accounted_for() -> (
    None
):
    async def scenario() -> None:
        async with talking_to(says()) as (client, node, counters):
            task = asyncio.ensure_future(client.invoke(op(1)))
            await node.heard.wait()
            connection = client._connection
            assert isinstance(connection, Connection)
            task.cancel()
            connection.data_received(reply(node.requests[0]))
            with pytest.raises(asyncio.CancelledError):
                await task
            connection.data_received(reply(node.requests[0]))
            assert counted(counters) == {"late": 1, "duplicate": 1}

    run(scenario())


def test_a_second_answer_is_a_duplicate_and_the_first_counts() -> None:
    async def scenario() -> None:
        twice = says(reply, lambda r: reply(r, echo="other"))
        async with talking_to(twice) as (client, _, counters):
            assert (await client.invoke(op(1))).value == 1
            assert (await client.invoke(op(2))).value == 2
            assert counters.duplicate >= 1
            assert set(counted(counters)) == {"duplicate"}

    run(scenario())


@pytest.mark.parametrize(
    "stray",
    [
        pytest.param(lambda r: reply(r, in_reply_to=99), id="a request to come"),
        pytest.param(lambda r: reply(r, in_reply_to=0), id="no such number"),
        pytest.param(lambda r: reply(r, in_reply_to=True), id="no number at all"),
        pytest.param(lambda r: reply(r, in_reply_to=None), id="nothing"),
        pytest.param(lambda r: reply(r, in_reply_to=[1]), id="a list"),
        pytest.param(lambda r: reply(r, dest="c4"), id="another client"),
    ],
)
def test_an_answer_to_nothing_is_unknown(stray: Callable[[Any], Line]) -> None:
    async def scenario() -> None:
        async with talking_to(says(stray, reply)) as (client, _, counters):
            assert (await client.invoke(op("mine"))).value == "mine"
            assert counted(counters) == {"unknown": 1}

    run(scenario())


@pytest.mark.parametrize(
    ("garbage", "counts"),
    [
        (b"listening on 7000\n", {"malformed": 1}),
        (b"\n\n\n", {"malformed": 3}),
        (b"\x00\xff\x80\n", {"malformed": 1}),
        (b'{"src": "n1"}\n', {"malformed": 1}),
        (b"x" * (LINE_BYTES_MAX + 1) + b"\n", {"oversize": 1}),
    ],
)
def test_garbage_is_counted_and_passed_over(
    garbage: bytes, counts: dict[str, int]
) -> None:
    async def scenario() -> None:
        async with talking_to(says(garbage, reply)) as (client, _, counters):
            assert (await client.invoke(op(1))).value == 1
            assert counted(counters) == counts

    run(scenario())


@settings(max_examples=settings().max_examples // 2, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=8))
def test_no_garbage_keeps_an_answer_from_arriving(garbage: list[bytes]) -> None:
    async def scenario() -> None:
        lines = [piece + b"\n" for piece in garbage]
        async with talking_to(says(*lines, reply)) as (client, _, counters):
            assert (await client.invoke(op(1))).value == 1
            assert counters.malformed + counters.unknown >= len(garbage)

    run(scenario())


@pytest.mark.parametrize(
    "unit",
    [
        pytest.param(b"\n", id="empty lines"),
        pytest.param(b"x" * 65_536, id="a line without end"),
        pytest.param(
            b'{"src": "n1", "dest": "c3", "body": {"in_reply_to": 99}}\n', id="answers"
        ),
        pytest.param(b'"' + b"y" * 500_000 + b'"\n', id="long lines"),
    ],
)
def test_a_flood_closes_the_connection_and_does_not_stall_the_loop(
    unit: bytes,
) -> None:
    async def flood(_: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        block = unit * max(1, 1_000_000 // len(unit))
        for _megabyte in range(64):
            writer.write(block)
            await writer.drain()

    async def scenario() -> None:
        async with talking_to(flood) as (client, _, counters):
            with pytest.raises(NodeReply, match="nobody waits for") as caught:
                await client.invoke(op(1))
            assert not caught.value.definite
            assert counters.flood == 1
            assert counters.flood_bytes > FLOOD_BYTES_MAX
            # Cut off soon after the limit, not after all of the 64 MB.
            assert counters.flood_bytes < 2 * FLOOD_BYTES_MAX

    began = time.process_time()
    run(scenario())
    assert time.process_time() - began < TEST_LIMIT_S / 4


def test_a_wanted_answer_fills_the_allowance_again() -> None:
    chatter = b"x" * (FLOOD_BYTES_MAX // 5) + b"\n"

    async def scenario() -> None:
        async with talking_to(says(chatter, reply)) as (client, node, counters):
            for i in range(12):
                assert (await client.invoke(op(i))).value == i
            assert node.connections == 1
            assert counters.flood == 0

    run(scenario())


def test_closing_never_raises_whatever_was_before() -> None:
    async def scenario() -> None:
        await WireClient(EchoCodec(), WireCounters()).close()
        async with talking_to(says()) as (client, _, _counters):
            waiting = asyncio.ensure_future(client.invoke(op(1)))
            await asyncio.sleep(0)
            await client.close()
            await client.close()
            with pytest.raises(NodeReply) as caught:
                await waiting
            assert not caught.value.definite

    run(scenario())


def test_a_client_that_was_never_opened_is_our_own_mistake() -> None:
    async def scenario() -> None:
        with pytest.raises(HarnessError, match="before it was opened"):
            await WireClient(EchoCodec(), WireCounters()).invoke(op(1))

    run(scenario())


def test_a_value_too_long_for_a_line_is_never_sent() -> None:
    async def scenario() -> None:
        async with talking_to(echo) as (client, node, _):
            with pytest.raises(HarnessError, match="longer than a line"):
                await client.invoke(op("x" * LINE_BYTES_MAX))
            assert (await client.invoke(op(1))).value == 1
            assert [r["body"]["msg_id"] for r in node.requests] == [1]

    run(scenario())


def test_a_single_question_has_a_connection_of_its_own() -> None:
    async def scenario() -> None:
        async with talking_to(echo) as (_, node, counters):
            question = {"type": "echo", "echo": "?"}
            answer = await call(node.place, question, 5.0, counters)
            assert answer["echo"] == "?"
            assert node.requests[-1]["src"] == CONTROL_NAME
            assert node.connections == 2

    run(scenario())


def test_a_question_that_nobody_answers_times_out() -> None:
    async def scenario() -> None:
        async with talking_to(says()) as (_, node, _counters):
            with pytest.raises(Timeout, match="n1 did not answer status"):
                await call(node.place, {"type": "status"}, 0.05)

    run(scenario())


def test_a_question_that_is_refused_is_the_node_s_error() -> None:
    async def scenario() -> None:
        refuse = says(lambda r: reply(r, type="error", code=10, text="no status"))
        async with talking_to(refuse) as (_, node, _counters):
            with pytest.raises(NodeReply, match="no status"):
                await call(node.place, {"type": "status", "echo": 0}, 5.0)

    run(scenario())
