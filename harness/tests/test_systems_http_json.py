"""The HTTP client of databases: an answer is read whole, or is an error."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import NodeReply
from harness.systems.http_json import BODY_BYTES_MAX, JsonHttp
from harness.worlds.places import Endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

T = TypeVar("T")
OK = b"HTTP/1.1 200 OK\r\n"
TEST_LIMIT_S = 20.0


class ScriptedServer:
    """Answers each request with the next of its answers, and keeps the requests."""

    def __init__(self, answers: list[bytes], *, hang_up: bool) -> None:
        self._answers = answers
        self._hang_up = hang_up
        self.requests: list[tuple[bytes, Any]] = []
        self.connections = 0
        self.tasks: list[asyncio.Task[Any]] = []

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.tasks.append(task)
        with contextlib.suppress(OSError, EOFError):
            while self._answers:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split()[0])
                body = json.loads(await reader.readexactly(length))
                self.requests.append((head.split(b"\r\n")[0], body))
                writer.write(self._answers.pop(0))
                await writer.drain()
            if not self._hang_up:
                await reader.read()
        writer.close()


@contextlib.asynccontextmanager
async def talking_to(
    *answers: bytes, hang_up: bool = True
) -> AsyncIterator[tuple[JsonHttp, ScriptedServer]]:
    scripted = ScriptedServer(list(answers), hang_up=hang_up)
    server = await asyncio.start_server(scripted.serve, "127.0.0.1", 0)
    http = JsonHttp(Endpoint("127.0.0.1", server.sockets[0].getsockname()[1]))
    try:
        yield http, scripted
    finally:
        await http.close()
        server.close()
        await asyncio.gather(*scripted.tasks)
        await server.wait_closed()


def run(test: Coroutine[Any, Any, T]) -> T:
    async def limited() -> T:
        async with asyncio.timeout(TEST_LIMIT_S):
            return await test

    return asyncio.run(limited())


def with_length(content: bytes) -> bytes:
    return OK + b"Content-Length: %d\r\n\r\n%s" % (len(content), content)


def chunked(content: bytes, size: int, trailer: bytes = b"") -> bytes:
    pieces = [content[i : i + size] for i in range(0, len(content), size)]
    body = b"".join(b"%x;ext=1\r\n%s\r\n" % (len(p), p) for p in pieces)
    head = OK + b"Transfer-Encoding: chunked\r\n\r\n"
    return head + body + b"0\r\n" + trailer + b"\r\n"


@given(
    st.dictionaries(st.text(max_size=20), st.text(max_size=50), max_size=5),
    st.integers(1, 40),
)
@settings(max_examples=settings().max_examples // 4, deadline=None)
def test_an_answer_is_read_with_a_length_or_in_chunks(
    body: dict[str, str], size: int
) -> None:
    content = json.dumps(body).encode()
    answers = [
        with_length(content),
        chunked(content, size),
        chunked(content, size, b"Grpc-Status: 0\r\n"),
    ]

    async def scenario() -> None:
        async with talking_to(*answers, hang_up=False) as (http, server):
            for _ in answers:
                assert await http.post("/v3/kv/put", body) == (200, body)
            assert server.connections == 1
            assert server.requests == [(b"POST /v3/kv/put HTTP/1.1", body)] * 3

    run(scenario())


def test_an_error_status_comes_with_its_body() -> None:
    answer = (
        b'HTTP/1.1 503 Service Unavailable\r\nContent-Length: 12\r\n\r\n{"code": 14}'
    )

    async def scenario() -> None:
        async with talking_to(answer) as (http, _):
            assert await http.post("/", {}) == (503, {"code": 14})

    run(scenario())


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(OK, id="half a head"),
        pytest.param(with_length(b'{"a": 1}')[:-1], id="half a body"),
        pytest.param(chunked(b'{"a": 1}', 4)[:-12], id="half the chunks"),
    ],
)
def test_an_answer_that_breaks_off_leaves_the_outcome_open(answer: bytes) -> None:
    async def scenario() -> None:
        async with talking_to(answer) as (http, _):
            with pytest.raises(NodeReply, match="connection closed") as caught:
                await http.post("/", {})
            assert not caught.value.definite

    run(scenario())


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", id="another protocol"),
        pytest.param(b"HTTP/1.1 OK\r\n\r\n", id="no status"),
        pytest.param(OK + b"\r\n", id="no length"),
        pytest.param(OK + b"Content-Length: -5\r\n\r\n", id="a length below zero"),
        pytest.param(
            OK + b"Content-Length: %d\r\n\r\n" % (BODY_BYTES_MAX + 1), id="too long"
        ),
        pytest.param(
            OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", id="a chunk of size zz"
        ),
        pytest.param(with_length(b"not JSON"), id="no JSON"),
        pytest.param(with_length(b"[" * 90_000), id="too deep"),
        pytest.param(with_length(b"[]"), id="no object"),
        pytest.param(OK + b"X: " + b"y" * 100_000 + b"\r\n\r\n", id="a long header"),
    ],
)
def test_nonsense_leaves_the_outcome_open_and_ends_the_connection(
    answer: bytes,
) -> None:
    async def scenario() -> None:
        good = with_length(b"{}")
        async with talking_to(answer, good, hang_up=False) as (http, server):
            with pytest.raises(NodeReply, match="bad answer") as caught:
                await http.post("/", {})
            assert not caught.value.definite
            assert await http.post("/", {}) == (200, {})
            assert server.connections == 2

    run(scenario())


def test_an_answer_to_a_request_that_was_given_up_is_never_taken_for_another() -> None:
    async def scenario() -> None:
        async with talking_to(b"", with_length(b"{}"), hang_up=False) as (http, server):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await http.post("/first", {})
            assert await http.post("/second", {}) == (200, {})
            assert server.connections == 2

    run(scenario())


def test_a_server_that_is_done_with_a_connection_gets_a_new_one() -> None:
    async def scenario() -> None:
        closing = OK + b"Connection: close\r\nContent-Length: 2\r\n\r\n{}"
        async with talking_to(closing, with_length(b"{}"), hang_up=False) as (http, s):
            await http.post("/", {})
            await http.post("/", {})
            assert s.connections == 2

    run(scenario())


def test_where_nobody_listens_nothing_was_sent() -> None:
    async def scenario() -> None:
        async with talking_to() as (http, _):
            pass
        with pytest.raises(NodeReply, match="refused") as caught:
            await http.post("/", {})
        assert caught.value.definite

    run(scenario())
