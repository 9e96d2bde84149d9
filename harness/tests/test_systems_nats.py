"""NATS: what each of its answers means, and a real server that is killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import NodeReply, NotInstalledError, UsageError
from harness.history import Op
from harness.registry import find
from harness.systems.nats import Nats, NatsClient, cell_subject, request
from harness.tests.loopback import LoopbackNodes, loopback_nodes
from harness.worlds.places import Endpoint, NodePlace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TEST_LIMIT_S = 60.0
CODEC = find("workload", "register").factory({}).codec


def op(f: str, value: object = None, key: object = 1) -> Op:
    return Op(-1, -1, 1, "invoke", f, value, key)


Answer = dict[str, Any] | bytes
"""What a request is answered with: JSON, or bytes in the place of a message."""


@contextlib.asynccontextmanager
async def answered_with(*answers: Answer) -> AsyncIterator[NatsClient]:
    """A client whose server gives these answers to its requests, then hangs up."""
    left = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"INFO {}\r\n")
        with contextlib.suppress(OSError, EOFError):
            while True:
                words = (await reader.readuntil(b"\r\n")).split()
                if words[0] == b"PING":
                    writer.write(b"PING\r\nPONG\r\n")
                if words[0] not in {b"PUB", b"HPUB"}:
                    continue
                await reader.readexactly(int(words[-1]) + 2)
                if not left:
                    break
                answer = left.pop(0)
                if isinstance(answer, dict):
                    text = json.dumps(answer).encode()
                    head = b"MSG %s 1 %d\r\n" % (words[2], len(text))
                    writer.write(head + text + b"\r\n")
                else:
                    writer.write(answer.replace(b" INBOX ", b" %s " % words[2]))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    listen = Endpoint("127.0.0.1", server.sockets[0].getsockname()[1])
    client = NatsClient(CODEC)
    await client.open(NodePlace("n1", listen, {}, Path(), Path(), {"n1": listen}))
    try:
        yield client
    finally:
        await client.close()
        server.close()


def invoke(asked: Op, *answers: Answer) -> Op:
    async def one() -> Op:
        async with answered_with(*answers) as client, asyncio.timeout(TEST_LIMIT_S):
            return await client.invoke(asked)

    return asyncio.run(one())


def held(sequence: int, value: object) -> dict[str, Any]:
    import base64

    data = base64.b64encode(json.dumps(value).encode()).decode()
    return {"message": {"seq": sequence, "data": data}}


STORED = {"stream": "splitbrain", "seq": 7}
NOTHING = {"error": {"code": 404, "err_code": 10037, "description": "no message found"}}
OVERTAKEN = {"error": {"code": 400, "err_code": 10071, "description": "wrong last"}}
NOBODY = b"HMSG INBOX 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"


def test_what_was_stored_and_what_was_found_is_ok() -> None:
    assert invoke(op("write", 5), STORED).type == "ok"
    assert invoke(op("read"), held(3, 5)).value == 5
    assert invoke(op("read"), NOTHING).value is None
    assert invoke(op("cas", [5, 6]), held(3, 5), STORED).type == "ok"


def test_what_was_overtaken_is_tried_anew() -> None:
    with pytest.raises(NodeReply) as caught:
        invoke(op("cas", [5, 6]), held(3, 5), OVERTAKEN, held(4, 9))
    assert (caught.value.definite, caught.value.code) == (True, 22)


@pytest.mark.parametrize(
    ("answer", "definite"),
    [
        (NOBODY, True),
        ({"error": {"code": 503, "err_code": 10008, "description": "later"}}, False),
        ({"stream": "another", "seq": 7}, False),
        ({"stream": "splitbrain", "seq": "7"}, False),
        (b"MSG INBOX 1 3\r\n{{{\r\n", False),
        (b"MSG another 1 2\r\n{}\r\n", False),
        (b"MSG INBOX 1 99999999999\r\n", False),
        (b"-ERR 'Authorization Violation'\r\n", False),
        (b"nonsense\r\n", False),
    ],
)
def test_a_write_fails_for_certain_only_if_nobody_got_it(
    answer: Answer, definite: bool
) -> None:
    with pytest.raises(NodeReply) as caught:
        invoke(op("write", 5), answer)
    assert caught.value.definite is definite


def test_a_write_whose_connection_is_lost_may_have_happened() -> None:
    with pytest.raises(NodeReply, match="connection closed") as caught:
        invoke(op("write", 5))
    assert not caught.value.definite


@pytest.mark.parametrize("answer", [{"message": {}}, {"message": 7}, b"x\r\n", NOBODY])
def test_a_read_that_finds_no_answer_has_failed(answer: Answer) -> None:
    with pytest.raises(NodeReply) as caught:
        invoke(op("read"), answer)
    assert caught.value.definite


def test_what_is_no_nats_server_is_told() -> None:
    async def other() -> None:
        async def serve(_: object, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n")
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        listen = Endpoint("127.0.0.1", server.sockets[0].getsockname()[1])
        place = NodePlace("n1", listen, {}, Path(), Path(), {"n1": listen})
        with pytest.raises(NodeReply, match="no NATS server"):
            await NatsClient(CODEC).open(place)
        assert not await Nats({}).ready(place)
        server.close()

    asyncio.run(other())


def test_subjects_hold_any_name_and_requests_count_bytes() -> None:
    for name in ('key/"a b.c*>"', "key/1", 'key/"\u00e9"'):
        token = cell_subject(name).removeprefix("splitbrain.cell.")
        assert not set(token) & set(" .*>"), name
    sent = request("s", "i", "\u00e9", {"A": "1"})
    head, _, rest = sent.partition(b"\r\n")
    assert head.split()[-1] == b"%d" % (len(rest) - 2)


@pytest.mark.parametrize("sync", ["never", "0s", "10", "2h", "always "])
def test_a_sync_interval_that_nats_does_not_have_is_refused(sync: str) -> None:
    with pytest.raises(UsageError, match="sync"):
        Nats({"sync": sync})


def test_a_server_keeps_what_it_acknowledged_when_it_is_killed(tmp_path: Path) -> None:
    system = find("system", "nats").factory("", {})
    try:
        system.check_installed()
    except NotInstalledError as error:
        pytest.skip(str(error))

    async def scenario(nodes: LoopbackNodes) -> None:
        await system.prepare(list(nodes.places.values()))
        client = system.client(find("workload", "register").factory({}))
        await client.open(nodes.places["n1"])
        assert (await client.invoke(op("read"))).value is None
        await client.invoke(op("write", {"any": ["JSON", None, "\u00e9"]}))
        await client.invoke(op("cas", [{"any": ["JSON", None, "\u00e9"]}, 6]))
        with pytest.raises(NodeReply) as caught:
            await client.invoke(op("cas", [5, 7]))
        assert (caught.value.definite, caught.value.code) == (True, 22)
        await client.close()
        nodes.kill("n1")
        await nodes.start("n1")
        await client.open(nodes.places["n1"])
        assert (await client.invoke(op("read"))).value == 6
        await client.close()

    async def limited() -> None:
        async with (
            asyncio.timeout(TEST_LIMIT_S),
            loopback_nodes(system, 1, tmp_path) as nodes,
        ):
            await scenario(nodes)

    asyncio.run(limited())
