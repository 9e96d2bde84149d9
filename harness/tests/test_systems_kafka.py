"""Kafka: what each of its answers means, its records, and a real broker."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import NodeReply, NotInstalledError, UsageError
from harness.history import Op
from harness.registry import find
from harness.systems import kafka_protocol as protocol
from harness.systems.kafka import Kafka, KafkaClient, read_part, topic_of
from harness.systems.kafka_protocol import Fetched, array, number, sized, text
from harness.systems.kafka_records import Producer, crc32c, decoded, encoded
from harness.tests.loopback import LoopbackNodes, loopback_nodes
from harness.worlds.places import Endpoint, NodePlace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

TEST_LIMIT_S = 60.0
KAFKA = find("workload", "kafka")

Answers = dict[protocol.Api, list[bytes]]
"""Kind of request -> the bodies that it is answered with, the last one for ever; an
empty one hangs up."""


def op(f: str, value: object = None) -> Op:
    return Op(-1, -1, 1, "invoke", f, value)


def metadata(leader: int = 1, code: int = 0) -> bytes:
    """The answer of a broker, n1, that knows the log x, unless it has a code."""
    broker = number(1, 4) + text("anywhere") + number(9, 4) + text(None)
    copies = array([number(1, 4)])
    partition = number(0, 2) + number(0, 4) + number(leader, 4) + copies + copies
    topic = number(code, 2) + text(topic_of("x")) + b"\0"
    topic += array([] if code else [partition])
    return number(0, 4) + array([broker]) + text("c") + number(1, 4) + array([topic])


def produced(code: int, offset: int = 7) -> bytes:
    partition = number(0, 4) + number(code, 2) + number(offset, 8) + number(-1, 8)
    return array([text(topic_of("x")) + array([partition])]) + number(0, 4)


def fetched(code: int, data: bytes = b"") -> bytes:
    partition = number(0, 4) + number(code, 2) + number(9, 8) + number(9, 8)
    partition += array([]) + sized(data)
    return number(0, 4) + array([text(topic_of("x")) + array([partition])])


def coordinator(code: int, broker: int = 1) -> bytes:
    told = number(code, 2) + text(None) + number(broker, 4) + text("h") + number(9, 4)
    return number(0, 4) + told


@contextlib.asynccontextmanager
async def answered_with(answers: Answers, acks: int = -1) -> AsyncIterator[KafkaClient]:
    """A client whose broker, n1, answers so."""
    left = {api: list(bodies) for api, bodies in answers.items()}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                request = await protocol.frame(reader)
                key = protocol.Api(
                    int.from_bytes(request[:2]), int.from_bytes(request[2:4])
                )
                bodies = left[key]
                body = bodies.pop(0) if len(bodies) > 1 else bodies[0]
                if not body:
                    break
                writer.write(sized(request[4:8] + body))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    listen = Endpoint("127.0.0.1", server.sockets[0].getsockname()[1])
    client = KafkaClient(KAFKA.factory({}).codec, acks, 3)
    await client.open(NodePlace("n1", listen, {}, Path(), Path(), {"n1": listen}))
    try:
        yield client
    finally:
        await client.close()
        server.close()


def invoke(asked: Op, answers: Answers, acks: int = -1) -> Op:
    async def one() -> Op:
        async with (
            asyncio.timeout(TEST_LIMIT_S),
            answered_with(answers, acks) as client,
        ):
            return await client.invoke(asked)

    return asyncio.run(one())


def answer(body: Mapping[str, Any], answers: Answers) -> dict[str, Any]:
    async def one() -> dict[str, Any]:
        async with asyncio.timeout(TEST_LIMIT_S), answered_with(answers) as client:
            return await client.answer(body)

    return asyncio.run(one())


SEND = op("send", [["send", "x", 5]])


@pytest.mark.parametrize(
    ("code", "acks", "definite"),
    [
        (19, -1, True),  # too few replicas in sync, before it is appended
        (20, -1, False),  # the same, after it was appended
        (7, -1, False),  # replicas were awaited in vain
        (6, -1, False),  # the leader may have changed while they were awaited
        (6, 1, True),
        (3, 1, True),
        (10, 1, True),
        (56, 1, False),  # the disk failed
        (-1, -1, False),
        (999, 1, False),
    ],
)
def test_a_send_fails_for_certain_only_if_the_leader_did_not_append_it(
    code: int, acks: int, definite: bool
) -> None:
    told = {protocol.METADATA: [metadata()], protocol.PRODUCE: [produced(code)]}
    with pytest.raises(NodeReply, match="Kafka says") as caught:
        invoke(SEND, told, acks)
    assert caught.value.definite is definite


@pytest.mark.parametrize(
    "said", [b"", b"\0", produced(0)[:-5], produced(0, -3), array([])]
)
def test_a_send_without_an_answer_that_makes_sense_is_open(said: bytes) -> None:
    told = {protocol.METADATA: [metadata()], protocol.PRODUCE: [said]}
    with pytest.raises(NodeReply) as caught:
        invoke(SEND, told)
    assert not caught.value.definite


def test_a_send_creates_its_topic() -> None:
    name = text(topic_of("x"))
    for code in (0, protocol.TOPIC_EXISTS):
        created = number(0, 4) + array([name + number(code, 2) + text(None)])
        told = {
            protocol.METADATA: [metadata(code=protocol.UNKNOWN_TOPIC), metadata()],
            protocol.CREATE_TOPICS: [created],
            protocol.PRODUCE: [produced(0)],
        }
        assert invoke(SEND, told).value == [["send", "x", [7, 5]]]


@pytest.mark.parametrize("said", [b"", b"\0", metadata(leader=-1), metadata(leader=9)])
def test_a_send_without_a_leader_never_left(said: bytes) -> None:
    with pytest.raises(NodeReply) as caught:
        invoke(SEND, {protocol.METADATA: [said], protocol.PRODUCE: [b""]})
    assert caught.value.definite


def test_a_poll_brings_what_is_there_from_the_offset_on() -> None:
    batch = encoded([b"1", b'"two"', b"3"], 0)
    told = {protocol.METADATA: [metadata()], protocol.FETCH: [fetched(0, batch)]}
    body = {"type": "poll", "offsets": {"x": 1}}
    assert answer(body, told)["msgs"] == {"x": [[1, "two"], [2, 3]]}


def test_a_poll_looks_for_the_leader_again_until_it_finds_it() -> None:
    told = {
        protocol.METADATA: [metadata(leader=-1), metadata()],
        protocol.FETCH: [fetched(protocol.NOT_LEADER), fetched(0, encoded([b"1"], 0))],
    }
    body = {"type": "poll", "offsets": {"x": 0}}
    assert answer(body, told)["msgs"] == {"x": [[0, 1]]}


def test_a_poll_of_a_log_that_is_shorter_or_unknown_brings_nothing() -> None:
    body = {"type": "poll", "offsets": {"x": 3}}
    short = {
        protocol.METADATA: [metadata()],
        protocol.FETCH: [fetched(protocol.OUT_OF_RANGE)],
    }
    assert answer(body, short)["msgs"] == {"x": []}
    unknown = {protocol.METADATA: [metadata(code=protocol.UNKNOWN_TOPIC)]}
    assert answer(body, unknown)["msgs"] == {"x": []}
    assert answer({"type": "poll", "offsets": {}}, {})["msgs"] == {}


@pytest.mark.parametrize(
    "said",
    [
        b"",
        fetched(56),
        fetched(0, bytes(100)),
        fetched(0, encoded([b"{"], 0)),
        fetched(0, encoded([b"[" * 100_000], 0)),
        fetched(0, encoded([b"1"], 0).replace(b"1", b"2")),
        number(0, 4) + array([]),
    ],
)
def test_a_poll_that_can_t_read_a_log_has_failed(said: bytes) -> None:
    told = {protocol.METADATA: [metadata()], protocol.FETCH: [said]}
    with pytest.raises(NodeReply) as caught:
        answer({"type": "poll", "offsets": {"x": 0}}, told)
    assert caught.value.definite


def test_offsets_are_committed_and_listed_at_the_coordinator() -> None:
    name = text(topic_of("x"))
    done = array([name + array([number(0, 4) + number(0, 2)])])
    told = {
        protocol.FIND_COORDINATOR: [coordinator(15), coordinator(0)],
        protocol.OFFSET_COMMIT: [done],
    }
    body = {"type": "commit_offsets", "offsets": {"x": 4}}
    assert answer(body, told) == {"type": "commit_offsets_ok"}
    for offset, expected in ((4, {"x": 4}), (-1, {})):
        held = number(0, 4) + number(offset, 8) + text("") + number(0, 2)
        told[protocol.OFFSET_FETCH] = [array([name + array([held])])]
        listed = answer({"type": "list_committed_offsets", "keys": ["x"]}, told)
        assert listed["offsets"] == expected


def test_a_coordinator_that_nobody_knows_is_a_failure() -> None:
    told = {protocol.FIND_COORDINATOR: [coordinator(0, 12)]}
    with pytest.raises(NodeReply, match="unknown broker") as caught:
        answer({"type": "list_committed_offsets", "keys": ["x"]}, told)
    assert caught.value.definite


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=20), st.booleans())
def test_what_is_written_is_read(values: list[bytes], transactional: bool) -> None:
    batch = encoded(values, 9, Producer(3, 1), 0, transactional=transactional)
    (found,) = decoded(batch + batch[:-1])
    assert found.records == list(enumerate(values))
    assert (found.last, found.producer) == (len(values) - 1, 3)
    assert found.kind == ("txn" if transactional else "data")


def test_the_checksum_is_castagnoli_s() -> None:
    assert crc32c(b"123456789") == 0xE3069283, "the check value of RFC 3720's CRC32C"


@given(st.binary(max_size=200), st.integers(0, 90), st.booleans())
def test_bytes_that_are_no_records_are_refused(
    noise: bytes, at: int, repaired: bool
) -> None:
    batch = bytearray(encoded([b"1", b"22"], 0))
    batch[at : at + len(noise)] = noise
    if repaired:
        batch[17:21] = crc32c(bytes(batch[21:])).to_bytes(4)
    with contextlib.suppress(ValueError):
        list(decoded(bytes(batch)))
    with contextlib.suppress(NodeReply):
        read_part(Fetched(0, [], bytes(batch)), 0)


def test_messages_of_aborted_transactions_are_not_read() -> None:
    def at(offset: int, batch: bytes) -> bytes:
        return number(offset, 8) + batch[8:]

    def mark(offset: int, producer: int, kind: int) -> bytes:
        body = bytearray(encoded([b""], 0, Producer(producer, 0))[21:])
        body[1] = 0x30  # of a transaction, and a mark
        key = number(0, 2) + number(kind, 2)
        record = b"\0\0\0" + b"\x08" + key + b"\0\0"
        body[40:] = bytes([2 * len(record)]) + record
        data = bytes(body)
        head = number(offset, 8) + number(9 + len(data), 4) + number(-1, 4) + b"\2"
        return head + crc32c(data).to_bytes(4) + data

    def txn(offset: int, producer: int) -> bytes:
        value = json.dumps(offset).encode()
        batch = encoded([value], 0, Producer(producer, 0), 0, transactional=True)
        return at(offset, batch)

    data = txn(0, 8) + txn(1, 9) + mark(2, 8, 0) + txn(3, 8) + mark(4, 9, 1)
    data += at(5, encoded([b"5"], 0)) + mark(6, 8, 1)
    kinds = [batch.kind for batch in decoded(data)]
    assert kinds == ["txn", "txn", "abort", "txn", "commit", "data", "commit"]
    part = read_part(Fetched(0, [(8, 0)], data), 0)
    assert part.messages == [[1, 1], [3, 3], [5, 5]]
    assert part.end == 7


@pytest.mark.parametrize(
    "given_", [{"acks": "0"}, {"min_isr": "0"}, {"flush": "maybe"}, {"version": "a b"}]
)
def test_options_that_kafka_does_not_have_are_refused(given_: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="kafka"):
        Kafka(given_)


def transaction(code: int, *, bumps: bool = False, again: bytes = b"") -> Answers:
    """The answers of a broker that coordinates; the first to the end has a code.

    `again` answers the end from then on.
    """
    kinds = array([number(26, 2) + number(0, 2) + number(5 if bumps else 4, 2)])
    added = array([text(topic_of("x")) + array([number(0, 4) + number(0, 2)])])
    ended = number(0, 4) + number(code, 2)
    told = {
        protocol.METADATA: [metadata()],
        protocol.FIND_COORDINATOR: [coordinator(0)],
        protocol.API_VERSIONS: [number(0, 2) + kinds],
        protocol.INIT_PRODUCER_ID: [number(0, 6) + number(8, 8) + number(0, 2)],
        protocol.ADD_PARTITIONS_TO_TXN: [number(0, 4) + added],
        protocol.PRODUCE: [produced(0)],
        protocol.END_TXN: [ended, again or ended],
    }
    if bumps:
        told[protocol.END_TXN_AND_BUMP] = [
            b"\0" + ended + number(8, 8) + number(1, 2) + b"\0"
        ]
    return told


def transact(told: Answers, *parts: list[Any]) -> dict[str, Any]:
    body = {"type": "log_txn", "txn": [["send", "x", 5], *parts], "offsets": {}}
    return answer(body, told)


@pytest.mark.parametrize("bumps", [False, True])
def test_a_transaction_tells_what_its_parts_brought(bumps: bool) -> None:
    for last in ([], [["abort"]]):
        told = transact(transaction(0, bumps=bumps), ["poll"], *last)
        assert told["txn"] == [["send", "x", [7, 5]], ["poll", {}], *last]


@pytest.mark.parametrize("code", [47, 48, 49, 90, 120])
def test_a_commit_fails_for_certain_if_the_first_answer_refuses_it(code: int) -> None:
    with pytest.raises(NodeReply, match="Kafka says") as caught:
        transact(transaction(code))
    assert caught.value.definite


@pytest.mark.parametrize("code", [15, 16, -1])
def test_a_refusal_of_a_commit_asked_for_again_leaves_it_open(code: int) -> None:
    refusal = number(0, 4) + number(48, 2)
    with pytest.raises(NodeReply, match="INVALID_TXN_STATE") as caught:
        transact(transaction(code, again=refusal))
    assert not caught.value.definite


def test_a_commit_waits_for_the_transaction_before() -> None:
    refusal = number(0, 4) + number(48, 2)
    assert transact(transaction(51, again=number(0, 6)))["type"] == "log_txn_ok"
    with pytest.raises(NodeReply) as caught:
        transact(transaction(51, again=refusal))
    assert caught.value.definite, "not yet is no answer that leaves it open"


@pytest.mark.parametrize("said", [b"", produced(-1), produced(7)])
def test_a_transaction_that_never_came_to_its_commit_has_failed(said: bytes) -> None:
    with pytest.raises(NodeReply) as caught:
        transact(transaction(0) | {protocol.PRODUCE: [said]})
    assert caught.value.definite


def run(
    count: int, folder: Path, scenario: Callable[[LoopbackNodes], Awaitable[None]]
) -> None:
    system = Kafka({})
    try:
        system.check_installed()
    except NotInstalledError as error:
        pytest.skip(str(error))

    async def limited() -> None:
        async with (
            asyncio.timeout(TEST_LIMIT_S * 4),
            loopback_nodes(system, count, folder) as nodes,
        ):
            await scenario(nodes)

    asyncio.run(limited())


def test_a_broker_keeps_what_it_acknowledged_when_it_is_killed(tmp_path: Path) -> None:
    async def scenario(nodes: LoopbackNodes) -> None:
        system, place = nodes.system, nodes.places["n1"]
        assert isinstance(system, Kafka)
        await system.prepare([place])
        client = system.client(KAFKA.factory({}))
        await client.open(place)
        messages = {"any": ["JSON", None, "\u00e9"]}
        for offset, message in enumerate((1, messages)):
            sent = await client.answer({"type": "send", "key": "x/y", "msg": message})
            assert sent["offset"] == offset
        await client.answer({"type": "commit_offsets", "offsets": {"x/y": 1}})
        assert await system.leader([place]) == "n1"
        nodes.kill("n1")
        with pytest.raises(NodeReply):
            await client.answer({"type": "poll", "offsets": {"x/y": 0}})
        await nodes.start("n1")
        await system.prepare([place])
        polled = await client.answer({"type": "poll", "offsets": {"x/y": 0}})
        assert polled["msgs"] == {"x/y": [[0, 1], [1, messages]]}
        listed = {"type": "list_committed_offsets", "keys": ["x/y", "z"]}
        assert (await client.answer(listed))["offsets"] == {"x/y": 1}
        await client.close()

    run(1, tmp_path, scenario)


def test_messages_of_a_transaction_are_polled_if_it_is_committed(
    tmp_path: Path,
) -> None:
    async def scenario(nodes: LoopbackNodes) -> None:
        system, place = nodes.system, nodes.places["n1"]
        assert isinstance(system, Kafka)
        await system.prepare([place])
        client = system.client(KAFKA.factory({"txn": "true"}))
        await client.open(place)

        async def sent(message: int, *parts: list[str]) -> None:
            txn = [["send", "x", message], ["send", "y", message], *parts]
            await client.answer({"type": "log_txn", "txn": txn, "offsets": {}})

        for message in (1, 3):
            await sent(message)
            await sent(message + 1, ["abort"])
        polled: dict[str, list[int]] = {"x": [], "y": []}
        offsets = {"x": 0, "y": 0}
        # A commit is acknowledged before the logs have its marks.
        while any(messages[-1:] != [3] for messages in polled.values()):
            told = await client.answer({"type": "poll", "offsets": offsets})
            for key, messages in told["msgs"].items():
                polled[key] += [message for _, message in messages]
                offsets[key] = max([offsets[key], *(at + 1 for at, _ in messages)])
        assert polled == {"x": [1, 3], "y": [1, 3]}
        await client.close()

    run(1, tmp_path, scenario)
