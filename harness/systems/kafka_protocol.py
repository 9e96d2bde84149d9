"""Kafka's protocol between clients and brokers: the requests that we need.

(Kafka's documentation, "Kafka protocol guide".) One connection, one request at a time.
Each request says whether it left: the caller judges an operation without an answer. The
client's libraries retry and reconnect on their own, which a history can't tell from
what the brokers did.

Requests have the oldest versions that Kafka 4 still answers (KIP-896), which have all
that is needed, and no tagged fields. One has a newer version, too, which brokers answer
that have Kafka's second version of transactions (KIP-890).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from harness.errors import NodeReply
from harness.systems.kafka_records import (
    Producer,
    read_unsigned_varint,
    unsigned_varint,
)
from harness.systems.streams import Streams

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from harness.worlds.places import Endpoint

FRAME_BYTES_MAX: Final = 8 << 20
NO_TAGS: Final = b"\0"

OUT_OF_RANGE: Final = 1
UNKNOWN_TOPIC: Final = 3
NOT_LEADER: Final = 6
TOPIC_EXISTS: Final = 36

ERRORS: Final = {
    -1: "UNKNOWN_SERVER_ERROR",
    1: "OFFSET_OUT_OF_RANGE",
    2: "CORRUPT_MESSAGE",
    3: "UNKNOWN_TOPIC_OR_PARTITION",
    5: "LEADER_NOT_AVAILABLE",
    6: "NOT_LEADER_OR_FOLLOWER",
    7: "REQUEST_TIMED_OUT",
    8: "BROKER_NOT_AVAILABLE",
    9: "REPLICA_NOT_AVAILABLE",
    10: "MESSAGE_TOO_LARGE",
    13: "NETWORK_EXCEPTION",
    14: "COORDINATOR_LOAD_IN_PROGRESS",
    15: "COORDINATOR_NOT_AVAILABLE",
    16: "NOT_COORDINATOR",
    17: "INVALID_TOPIC_EXCEPTION",
    19: "NOT_ENOUGH_REPLICAS",
    20: "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
    35: "UNSUPPORTED_VERSION",
    36: "TOPIC_ALREADY_EXISTS",
    38: "INVALID_REPLICATION_FACTOR",
    41: "NOT_CONTROLLER",
    45: "OUT_OF_ORDER_SEQUENCE_NUMBER",
    46: "DUPLICATE_SEQUENCE_NUMBER",
    47: "INVALID_PRODUCER_EPOCH",
    48: "INVALID_TXN_STATE",
    49: "INVALID_PRODUCER_ID_MAPPING",
    51: "CONCURRENT_TRANSACTIONS",
    56: "KAFKA_STORAGE_ERROR",
    59: "UNKNOWN_PRODUCER_ID",
    87: "INVALID_RECORD",
    90: "PRODUCER_FENCED",
    120: "TRANSACTION_ABORTABLE",
}
"""Code -> its name, of those that are met."""

T = TypeVar("T")


class Api(NamedTuple):
    """A kind of request: its number, and the version that we speak."""

    key: int
    version: int


PRODUCE: Final = Api(0, 3)
FETCH: Final = Api(1, 4)
METADATA: Final = Api(3, 4)
OFFSET_COMMIT: Final = Api(8, 2)
OFFSET_FETCH: Final = Api(9, 1)
FIND_COORDINATOR: Final = Api(10, 1)
API_VERSIONS: Final = Api(18, 0)
CREATE_TOPICS: Final = Api(19, 2)
INIT_PRODUCER_ID: Final = Api(22, 1)
ADD_PARTITIONS_TO_TXN: Final = Api(24, 1)
END_TXN: Final = Api(26, 1)
END_TXN_AND_BUMP: Final = Api(26, 5)


class KafkaError(Exception):
    """An error that a broker answered.

    Attributes:
        code: Its number.
    """

    def __init__(self, code: int) -> None:
        super().__init__(f"Kafka says {ERRORS.get(code, f'error {code}')}")
        self.code = code


class Broker:
    """A connection that is made when needed, and dropped when in doubt."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._streams = Streams(endpoint, server="Kafka")
        self._number = 0

    async def close(self) -> None:
        """Drop the connection without waiting for the other side."""
        await self._streams.close()

    async def ask(
        self,
        api: Api,
        body: bytes,
        read: Callable[[Cursor], T],
        *,
        flexible: bool = False,
    ) -> T:
        """Send a request; returns what `read` finds in the answer.

        Args:
            api: Its kind.
            body: What follows its header.
            read: Reads what follows the header of the answer.
            flexible: Whether headers end in tagged fields; none are sent.

        Raises:
            KafkaError: `read` found an error.
            NodeReply: There is no answer; a definite failure if nothing was sent.
        """
        reader, writer = await self._streams.connected()
        self._number = self._number % 0x7FFFFFFF + 1
        head = number(api.key, 2) + number(api.version, 2) + number(self._number, 4)
        head += text("splitbrain") + (NO_TAGS if flexible else b"")
        writer.write(sized(head + body))
        answered = False
        try:
            answer = answer_to(self._number, await frame(reader))
            if flexible:
                answer.skip_tags()
            found = read(answer)
            answered = True
        except KafkaError:
            answered = True
            raise
        except (OSError, EOFError) as error:
            raise NodeReply(definite=False, text="connection closed") from error
        except (ValueError, asyncio.LimitOverrunError) as error:
            raise NodeReply(definite=False, text=f"bad answer: {error}") from error
        finally:
            # The same after a cancelled call: its answer may still come on this
            # connection, and must not be taken for that of the next request.
            if not answered:
                await self.close()
        return found


async def frame(reader: asyncio.StreamReader) -> bytes:
    """The bytes of one answer; raises ValueError if they are too many."""
    size = int.from_bytes(await reader.readexactly(4), "big", signed=True)
    if not 0 <= size <= FRAME_BYTES_MAX:
        raise ValueError(f"a frame of {size} bytes")
    return await reader.readexactly(size)


def answer_to(request: int, data: bytes) -> Cursor:
    """The answer to a request; raises ValueError if it is that to another one."""
    answer = Cursor(data)
    if answer.number(4) != request:
        raise ValueError("it answers another request")
    return answer


class Cursor:
    """Reads an answer from its beginning on; raises ValueError at its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        """The next bytes."""
        end = self._at + count
        if count < 0 or end > len(self._data):
            raise ValueError("it is cut off")
        found = self._data[self._at : end]
        self._at = end
        return found

    def number(self, size: int) -> int:
        """A number of so many bytes."""
        return int.from_bytes(self.take(size), "big", signed=True)

    def text(self) -> str:
        """A text; an empty one for null."""
        return self.take(max(self.number(2), 0)).decode()

    def bytes(self) -> bytes:
        """Bytes; none for null."""
        return self.take(max(self.number(4), 0))

    def array(self, read: Callable[[], T]) -> list[T]:
        """What `read` finds, so many times as the array has elements."""
        count = self.number(4)
        if count > len(self._data):
            raise ValueError(f"an array of {count} elements")
        return [read() for _ in range(count)]

    def skip_tags(self) -> None:
        """Pass over tagged fields, which nobody here knows."""
        for _ in range(self._unsigned()):
            self._unsigned()
            self.take(self._unsigned())

    def _unsigned(self) -> int:
        found, self._at = read_unsigned_varint(self._data, self._at)
        return found

    def check(self) -> None:
        """Raises KafkaError if the next number is the code of an error."""
        if code := self.number(2):
            raise KafkaError(code)


def number(value: int, size: int) -> bytes:
    """A number of so many bytes."""
    return value.to_bytes(size, "big", signed=True)


def text(value: str | None) -> bytes:
    """A text, or null."""
    if value is None:
        return number(-1, 2)
    data = value.encode()
    return number(len(data), 2) + data


def compact(value: str) -> bytes:
    """A text, in requests with tagged fields."""
    data = value.encode()
    return unsigned_varint(len(data) + 1) + data


def sized(data: bytes) -> bytes:
    """Bytes behind their number."""
    return number(len(data), 4) + data


def array(elements: Iterable[bytes]) -> bytes:
    """An array of elements that are encoded already."""
    found = list(elements)
    return number(len(found), 4) + b"".join(found)


class Metadata(NamedTuple):
    """What a broker knows of the cluster.

    Attributes:
        brokers: The ids of those that serve.
        leaders: Topic -> the id of the broker that leads its only partition, -1 if none
            does; a topic that the broker does not know is not there.
    """

    brokers: frozenset[int]
    leaders: dict[str, int]


async def metadata(broker: Broker, topics: Iterable[str] | None = None) -> Metadata:
    """What a broker knows of some topics, or of all; raises as `Broker.ask` does."""
    names = number(-1, 4) if topics is None else array(map(text, topics))

    def read(answer: Cursor) -> Metadata:
        def broker_id() -> int:
            found = answer.number(4)
            answer.text()
            answer.number(4)
            answer.text()
            return found

        def partition() -> int:
            answer.number(2)
            answer.number(4)
            leader = answer.number(4)
            for _ in range(2):
                answer.array(lambda: answer.number(4))
            return leader

        def topic() -> tuple[int, str, list[int]]:
            code, name, _ = answer.number(2), answer.text(), answer.number(1)
            return code, name, answer.array(partition)

        answer.number(4)
        brokers = frozenset(answer.array(broker_id))
        answer.text()
        answer.number(4)
        found = answer.array(topic)
        leaders = {name: of[0] for code, name, of in found if not code and of}
        return Metadata(brokers, leaders)

    return await broker.ask(METADATA, names + b"\0", read)


async def create_topic(broker: Broker, name: str, replicas: int, wait_ms: int) -> None:
    """Create a topic of one partition, unless it exists; raises as `Broker.ask` does.

    Args:
        broker: Whom to ask; it passes this on to the controller.
        name: The name of the topic.
        replicas: On how many brokers it is to be.
        wait_ms: How long the broker may wait until it is there.
    """
    topic = text(name) + number(1, 4) + number(replicas, 2) + array([]) + array([])

    def read(answer: Cursor) -> None:
        answer.number(4)

        def created() -> int:
            answer.text()
            code = answer.number(2)
            answer.text()
            return code

        for code in answer.array(created):
            if code not in {0, TOPIC_EXISTS}:
                raise KafkaError(code)

    body = array([topic]) + number(wait_ms, 4) + b"\0"
    await broker.ask(CREATE_TOPICS, body, read)


async def find_coordinator(broker: Broker, name: str, *, of_txn: bool = False) -> int:
    """The id of the broker that keeps a group's offsets, or a producer's transactions.

    Raises as `Broker.ask` does.
    """

    def read(answer: Cursor) -> int:
        answer.number(4)
        answer.check()
        answer.text()
        return answer.number(4)

    body = text(name) + number(int(of_txn), 1)
    return await broker.ask(FIND_COORDINATOR, body, read)


async def produce(
    broker: Broker,
    topic: str,
    batch: bytes,
    acks: int,
    wait_ms: int,
    transaction: str | None = None,
) -> int:
    """Append a batch to a topic; raises as `Broker.ask` does.

    Args:
        broker: The leader of the topic.
        topic: Its name.
        batch: The batch, encoded.
        acks: 1: when the leader has it; -1: when all replicas in sync have it.
        wait_ms: How long the broker may wait for replicas.
        transaction: The name under which the producer's transactions go.

    Returns:
        The offset of its first record.
    """
    partition = array([number(0, 4) + sized(batch)])
    body = text(transaction) + number(acks, 2) + number(wait_ms, 4)

    def read(answer: Cursor) -> int:
        def appended() -> int:
            answer.number(4)
            answer.check()
            offset = answer.number(8)
            answer.number(8)
            return offset

        def of_topic() -> list[int]:
            answer.text()
            return answer.array(appended)

        ((offset,),) = answer.array(of_topic)
        return offset

    return await broker.ask(PRODUCE, body + array([text(topic) + partition]), read)


class Fetched(NamedTuple):
    """What a broker has of a topic.

    Attributes:
        code: 0, or the error in its place.
        aborted: Producer's id and first offset, of each aborted transaction in it.
        data: Batches, encoded; the first may begin before the offset asked for.
    """

    code: int
    aborted: list[tuple[int, int]]
    data: bytes


async def fetch(
    broker: Broker,
    offsets: Mapping[str, int],
    wait_ms: int,
    bytes_max: int,
    *,
    committed: bool,
) -> dict[str, Fetched]:
    """What topics have from offsets on; raises as `Broker.ask` does.

    Args:
        broker: The leader of all of these topics.
        offsets: Topic -> offset.
        wait_ms: How long the broker waits if there is nothing.
        bytes_max: How much of each topic is asked for.
        committed: Whether to end at the first transaction that is not over yet.
    """
    topics = [
        text(topic) + array([number(0, 4) + number(offset, 8) + number(bytes_max, 4)])
        for topic, offset in offsets.items()
    ]
    body = number(-1, 4) + number(wait_ms, 4) + number(1, 4)
    body += number(FRAME_BYTES_MAX // 2, 4) + number(int(committed), 1)

    def read(answer: Cursor) -> dict[str, Fetched]:
        def partition() -> Fetched:
            answer.number(4)
            code = answer.number(2)
            answer.take(16)
            aborted = answer.array(lambda: (answer.number(8), answer.number(8)))
            return Fetched(code, aborted, answer.bytes())

        def of_topic() -> tuple[str, Fetched]:
            name = answer.text()
            (found,) = answer.array(partition)
            return name, found

        answer.number(4)
        return dict(answer.array(of_topic))

    return await broker.ask(FETCH, body + array(topics), read)


async def commit_offsets(
    broker: Broker, group: str, offsets: Mapping[str, int]
) -> None:
    """Keep a group's offsets; `broker` coordinates it; raises as `Broker.ask` does."""
    topics = [
        text(topic) + array([number(0, 4) + number(offset, 8) + text(None)])
        for topic, offset in offsets.items()
    ]
    body = text(group) + number(-1, 4) + text("") + number(-1, 8)

    def read(answer: Cursor) -> None:
        def partition() -> None:
            answer.number(4)
            answer.check()

        def topic() -> None:
            answer.text()
            answer.array(partition)

        answer.array(topic)

    await broker.ask(OFFSET_COMMIT, body + array(topics), read)


async def committed_offsets(
    broker: Broker, group: str, topics: Iterable[str]
) -> dict[str, int]:
    """A group's offsets, of topics that have one; raises as `Broker.ask` does."""
    asked = [text(topic) + array([number(0, 4)]) for topic in topics]

    def read(answer: Cursor) -> dict[str, int]:
        def partition() -> int:
            answer.number(4)
            offset = answer.number(8)
            answer.text()
            answer.check()
            return offset

        def topic() -> tuple[str, int]:
            name = answer.text()
            (offset,) = answer.array(partition)
            return name, offset

        found = answer.array(topic)
        return {name: offset for name, offset in found if offset >= 0}

    return await broker.ask(OFFSET_FETCH, text(group) + array(asked), read)


async def bumps_epochs(broker: Broker) -> bool:
    """Whether the end of a transaction gives its producer a new epoch (KIP-890).

    Raises as `Broker.ask` does.
    """

    def read(answer: Cursor) -> bool:
        answer.check()
        known = answer.array(lambda: [answer.number(2) for _ in range(3)])
        return any(
            key == END_TXN_AND_BUMP.key and newest >= END_TXN_AND_BUMP.version
            for key, _, newest in known
        )

    return await broker.ask(API_VERSIONS, b"", read)


async def init_producer(broker: Broker, transaction: str, timeout_ms: int) -> Producer:
    """A producer with a new epoch, after its open transaction, if any, is aborted.

    Raises as `Broker.ask` does.

    Args:
        broker: The coordinator of its transactions.
        transaction: The name under which they go.
        timeout_ms: After how long the coordinator aborts one that is left open.
    """

    def read(answer: Cursor) -> Producer:
        answer.number(4)
        answer.check()
        return Producer(answer.number(8), answer.number(2))

    body = text(transaction) + number(timeout_ms, 4)
    return await broker.ask(INIT_PRODUCER_ID, body, read)


async def add_to_transaction(
    broker: Broker, transaction: str, producer: Producer, topic: str
) -> None:
    """Let the transaction have a topic, before anything is sent to that.

    `broker` coordinates it; raises as `Broker.ask` does.
    """

    def read(answer: Cursor) -> None:
        def partition() -> None:
            answer.number(4)
            answer.check()

        def of_topic() -> None:
            answer.text()
            answer.array(partition)

        answer.number(4)
        answer.array(of_topic)

    topics = array([text(topic) + array([number(0, 4)])])
    body = text(transaction) + _encoded(producer) + topics
    await broker.ask(ADD_PARTITIONS_TO_TXN, body, read)


async def end_transaction(
    broker: Broker,
    transaction: str,
    producer: Producer,
    *,
    commits: bool,
    bumps: bool,
) -> Producer:
    """Commit a transaction, or abort it; raises as `Broker.ask` does.

    Args:
        broker: Its coordinator.
        transaction: The name under which it goes.
        producer: Whose it is.
        commits: Whether to commit it.
        bumps: Whether `bumps_epochs`.

    Returns:
        The producer of the next transaction.
    """
    name = compact(transaction) if bumps else text(transaction)
    body = name + _encoded(producer) + number(int(commits), 1)

    def read(answer: Cursor) -> Producer:
        answer.number(4)
        answer.check()
        if not bumps:
            return producer
        return Producer(answer.number(8), answer.number(2))

    if not bumps:
        return await broker.ask(END_TXN, body, read)
    return await broker.ask(END_TXN_AND_BUMP, body + NO_TAGS, read, flexible=True)


def _encoded(producer: Producer) -> bytes:
    return number(producer.number, 8) + number(producer.epoch, 2)
