"""WIRE.md's transcripts, replayed: our codec against them, and nodes against them.

Many independent codecs meet here: the harness's (msgspec), the reference runtime's
(json), and those of the starter nodes in seven languages. What the page says is what
all of them do.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import NodeReply
from harness.history import Op
from harness.registry import find
from harness.systems.abilities import Led
from harness.systems.wire import ERRORS, WireClient, WireCounters, decode, encode
from harness.tests import starters
from harness.tests.loopback import eventually, loopback_nodes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.systems.system import System
    from harness.worlds.places import NodePlace

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "WIRE.md").read_text()
TEST_LIMIT_S = 60.0


@dataclass(frozen=True)
class Exchange:
    """A request and its answer, and what they mean; as they stand in WIRE.md."""

    op: Op | None
    request: bytes
    answer: bytes
    outcome: Op | None


def transcripts() -> list[list[Exchange]]:
    blocks = re.findall(r"^```transcript\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    return [[parse(text) for text in block.strip().split("\n\n")] for block in blocks]


def parse(text: str) -> Exchange:
    lines = dict(line.split(" ", 1) for line in text.splitlines())
    op = parse_op(lines["op"]) if "op" in lines else None
    return Exchange(
        op,
        lines[">"].encode(),
        lines["<"].encode(),
        parse_outcome(op, lines["="]) if op is not None else None,
    )


def parse_op(text: str) -> Op:
    f, rest = text.split(" ", 1)
    key, *value = json_sequence(rest)
    return Op(-1, -1, 1, "invoke", f, value[0] if value else None, key)


def parse_outcome(op: Op, text: str) -> Op:
    kind, *value = text.split(" ", 1)
    if kind == "ok":
        return op.ok(json.loads(value[0]))
    return op.fail() if kind == "fail" else op.info()


def json_sequence(text: str) -> Iterator[Any]:
    decoder = json.JSONDecoder()
    while text:
        value, end = decoder.raw_decode(text)
        yield value
        text = text[end:].lstrip()


SESSION, REFUSED, OPEN, LOCK, OPERATOR = transcripts()
WITH_OPS = [SESSION, OPEN, LOCK]


def test_the_page_has_what_these_tests_replay() -> None:
    assert [len(t) for t in (SESSION, REFUSED, OPEN, LOCK)] == [9, 3, 3, 8]
    assert all(e.op is not None for t in WITH_OPS for e in t)
    assert all(e.op is None for e in REFUSED)


def test_the_page_s_table_of_errors_is_ours() -> None:
    rows = re.findall(r"^\| (\d+) \| ([a-z-]+) \| (yes|no) \|$", PAGE, re.MULTILINE)
    assert {(int(code), name, definite == "yes") for code, name, definite in rows} == {
        (error.code, error.name, error.definite) for error in ERRORS.values()
    }


@pytest.mark.parametrize("exchange", [e for t in (*WITH_OPS, REFUSED) for e in t])
def test_both_of_our_codecs_read_and_write_the_page_s_lines(exchange: Exchange) -> None:
    theirs = pytest.importorskip("reference_impls.wire")
    for line in (exchange.request, exchange.answer):
        message, frame = decode(line), theirs.decode(line)
        assert (message.src, message.dest, message.body) == tuple(frame)
        assert json.loads(encode(message)) == json.loads(line)
    request, answer = theirs.decode(exchange.request), theirs.decode(exchange.answer)
    body = {k: v for k, v in answer.body.items() if k != "in_reply_to"}
    written = theirs.encode_reply("n1", request.src, request.body, body)
    assert json.loads(written) == json.loads(exchange.answer)


@pytest.mark.parametrize(
    ("workload", "transcript"),
    [("register", SESSION), ("register", OPEN), ("lock", LOCK)],
    ids=["session", "open outcomes", "lock"],
)
def test_our_client_sends_and_understands_the_page(
    workload: str, transcript: list[Exchange]
) -> None:
    asyncio.run(replay_to_client(workload, transcript))


async def replay_to_client(workload: str, transcript: list[Exchange]) -> None:
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for exchange in transcript:
            heard.append(await reader.readline())
            writer.write(exchange.answer + b"\n")
        await reader.read()
        writer.close()

    client = WireClient(find("workload", workload).factory({}).codec, WireCounters())
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        await client.open(loopback_place(port))
        for exchange in transcript:
            assert exchange.op is not None
            got = await outcome(client, exchange.op)
            assert strip_error(got) == exchange.outcome
    finally:
        await client.close()
        server.close()
        await server.wait_closed()
    assert [json.loads(line) for line in heard] == [
        json.loads(exchange.request) for exchange in transcript
    ]


def loopback_place(port: int) -> NodePlace:
    from harness.worlds.places import Endpoint, NodePlace

    listen = Endpoint("127.0.0.1", port)
    return NodePlace("n1", listen, {}, Path(), Path(), {"n1": listen})


async def outcome(client: WireClient, op: Op) -> Op:
    """What the interpreter would put into the history."""
    try:
        return await client.invoke(op)
    except NodeReply as error:
        return op.fail(error.text) if error.definite else op.info(error.text)


def strip_error(op: Op) -> Op:
    op.error = None
    return op


@pytest.mark.parametrize("node", ["raft", "lmdb", "pysyncobj", "sqlite"])
def test_a_node_answers_as_the_page_says(node: str, tmp_path: Path) -> None:
    if node in {"lmdb", "pysyncobj"}:
        pytest.importorskip(node)
    asyncio.run(replay_to_node(node, tmp_path, [SESSION, REFUSED]))


@pytest.mark.parametrize("language", starters.LANGUAGES)
def test_a_starter_node_answers_as_the_page_says(
    language: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    node = starters.command(language, "register", tmp_path_factory.getbasetemp())
    asyncio.run(replay_to_node(f"launch:{node}", tmp_path, [SESSION, REFUSED]))


@pytest.mark.parametrize("node", ["raft", "multi_paxos", "zab", "sqlite"])
def test_a_lock_service_answers_as_the_page_says(node: str, tmp_path: Path) -> None:
    asyncio.run(replay_to_node(node, tmp_path, [LOCK]))


def test_an_operator_is_answered_as_the_page_says(tmp_path: Path) -> None:
    asyncio.run(replay_to_node("raft", tmp_path, [OPERATOR]))


async def replay_to_node(
    spelled: str, directory: Path, said: list[list[Exchange]]
) -> None:
    name, _, text = spelled.partition(":")
    system = find("system", name).factory(text, {})
    async with (
        asyncio.timeout(TEST_LIMIT_S),
        loopback_nodes(system, 1, directory) as nodes,
    ):
        (place,) = nodes.places.values()
        await leads(system, place)
        for transcript in said:
            reader, writer = await asyncio.open_connection(
                place.listen.host, place.listen.port
            )
            with contextlib.closing(writer):
                for exchange in transcript:
                    writer.write(exchange.request + b"\n")
                    line = await reader.readline()
                    assert comparable(line) == comparable(exchange.answer), nodes.log(
                        place.name
                    )


async def leads(system: System, place: NodePlace) -> None:
    assert isinstance(system, Led)

    async def it_does() -> bool:
        return await system.leader([place]) == place.name

    await eventually(it_does, f"{place.name} leads")


def comparable(line: bytes) -> dict[str, Any]:
    """The message, but for the text of an error, which is for people."""
    message: dict[str, Any] = json.loads(line)
    text = message["body"].pop("text", None)
    assert (text is not None) == (message["body"]["type"] == "error")
    return message
