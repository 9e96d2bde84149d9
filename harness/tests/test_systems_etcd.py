"""etcd's logs: what a watch tells, and logs in a real member."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import NodeReply, NotInstalledError
from harness.history import Op
from harness.registry import find
from harness.systems.etcd_watch import Watch, puts_in
from harness.tests.loopback import LoopbackNodes, loopback_nodes
from harness.worlds.places import Endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from harness.systems.etcd import EtcdClient

TEST_LIMIT_S = 60.0
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def line(*puts: tuple[int, Any], **more: Any) -> bytes:
    """What the gateway says of puts of these values at these revisions."""
    events = []
    for revision, value in puts:
        data = base64.b64encode(json.dumps(value).encode()).decode()
        events.append({"kv": {"mod_revision": str(revision), "value": data}})
    return json.dumps({"result": {"header": {}, "events": events, **more}}).encode()


def chunks(text: bytes, size: int = 7) -> bytes:
    """A text in small chunks, without the last one."""
    parts = [text[i : i + size] for i in range(0, len(text), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)


@contextlib.asynccontextmanager
async def a_watch(said: bytes, revision: int = 0) -> AsyncIterator[tuple[Watch, Any]]:
    """A watch whose member says this and hangs up, and what it was asked for."""
    asked: dict[str, Any] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"POST /v3/watch ")
        length = int(head.lower().split(b"content-length:")[1].split()[0])
        asked.update(json.loads(await reader.readexactly(length)))
        writer.write(said)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    listen = Endpoint("127.0.0.1", server.sockets[0].getsockname()[1])
    watch = Watch(listen, "log/1", revision)
    try:
        async with asyncio.timeout(TEST_LIMIT_S):
            await watch.begin()
            yield watch, asked
    finally:
        await watch.close()
        server.close()


def test_a_watch_tells_puts_in_the_order_in_which_they_come() -> None:
    created = line(created=True)
    said = b"\n".join([created, line((3, "a"), (5, "b")), line((9, "c")), b""])

    async def scenario() -> None:
        async with a_watch(STREAM + chunks(said), 2) as (watch, asked):
            assert await watch.until(1) == []
            assert await watch.until(4) == [[3, "a"], [5, "b"]]
            assert watch.revision == 6
            assert await watch.until(9) == [[9, "c"]]
            assert await watch.until(9) == []
        key = base64.b64encode(b"log/1").decode()
        assert asked == {"create_request": {"key": key, "start_revision": 2}}

    asyncio.run(scenario())


def test_a_watch_of_everything_does_not_begin_with_what_comes_next() -> None:
    async def scenario() -> None:
        async with a_watch(STREAM + chunks(line((2, 1)) + b"\n")) as (watch, asked):
            assert await watch.until(2) == [[2, 1]]
        assert asked["create_request"]["start_revision"] == 1

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "said",
    [
        b"",
        STREAM,
        STREAM + b"0\r\n\r\n",
        STREAM + chunks(line((3, 1))),
        STREAM + chunks(line(canceled=True, compact_revision="7") + b"\n"),
        STREAM + chunks(b'{"error": {"message": "no"}}\n'),
        STREAM + chunks(b"[]\n"),
        STREAM + b"fffffff\r\n",
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"nonsense\r\n\r\n",
    ],
)
def test_a_watch_that_ends_or_is_none_fails_for_certain(said: bytes) -> None:
    async def scenario() -> None:
        async with a_watch(said) as (watch, _):
            with pytest.raises(NodeReply, match="the watch") as caught:
                await watch.until(3)
            assert caught.value.definite

    asyncio.run(scenario())


def test_only_puts_are_told_and_all_else_is_refused() -> None:
    assert puts_in(line((3, {"any": ["JSON", None]}))) == [[3, {"any": ["JSON", None]}]]
    assert puts_in(line(created=True)) == []
    assert puts_in(b'{"result": {"events": [{"type": "DELETE", "kv": {}}]}}') == []
    for bad in (
        *(b"{", b"7", b"{}", b'{"result": 7}', b'{"result": {"events": 7}}'),
        b'{"result": {"events": [{"kv": {"mod_revision": "x", "value": "MQ=="}}]}}',
        b'{"result": {"events": [{"kv": {"mod_revision": "3", "value": "{"}}]}}',
        b'{"result": {"events": [{"kv": {"mod_revision": "3"}}]}}',
    ):
        with pytest.raises(ValueError, match=r".") as caught:
            puts_in(bad)
        assert not isinstance(caught.value, LookupError), bad


def op(f: str, value: object = None, process: int = 1) -> Op:
    return Op(-1, -1, process, "invoke", f, value, None)


def test_logs_of_a_real_member_are_polled_from_where_a_client_stopped(
    tmp_path: Path,
) -> None:
    system = find("system", "etcd").factory("", {})
    try:
        system.check_installed()
    except NotInstalledError as error:
        pytest.skip(str(error))
    workload = find("workload", "kafka").factory({})

    async def opened(nodes: LoopbackNodes) -> EtcdClient:
        client: Any = nodes.system.client(workload)
        await client.open(nodes.places["n1"])
        return client  # type: ignore[no-any-return]

    async def send(client: EtcdClient, key: str, *messages: int) -> list[list[int]]:
        sent = []
        for message in messages:
            done = await client.invoke(op("send", [["send", key, message]]))
            sent.append(done.value[0][2])
        return sent

    async def polled(client: EtcdClient, process: int = 1) -> Any:
        return (await client.invoke(op("poll", [["poll"]], process))).value[0][1]

    async def scenario(nodes: LoopbackNodes) -> None:
        client, sender = await opened(nodes), await opened(nodes)
        await client.invoke(op("assign", ["1", "2"]))
        assert await polled(client) == {"1": [], "2": []}
        first, other = await send(sender, "1", 7, 8), await send(sender, "2", 9)
        assert await polled(client) == {"1": first, "2": other}
        then = await send(sender, "1", 10)
        assert await polled(client) == {"1": then, "2": []}
        await client.invoke(op("commit"))
        last = await send(sender, "1", 11)

        late = await opened(nodes)
        await late.invoke(op("assign", ["1"], 2))
        assert await polled(late, 2) == {"1": [*then, *last]}, "from what was committed"
        nodes.kill("n1")
        with pytest.raises(NodeReply) as caught:
            await polled(client)
        assert caught.value.definite
        await nodes.start("n1")
        assert await polled(client) == {"1": last, "2": []}
        for each in (client, sender, late):
            await each.close()

    async def limited() -> None:
        async with (
            asyncio.timeout(TEST_LIMIT_S),
            loopback_nodes(system, 1, tmp_path) as nodes,
        ):
            await scenario(nodes)

    asyncio.run(limited())
