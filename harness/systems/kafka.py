"""Kafka in KRaft mode: brokers that are controllers, too; one, or a cluster.

Promise (Kafka's documentation, "Replication" and "Message Delivery Semantics"): a
message that was acknowledged under `acks=all` is not lost as long as one replica in
sync is alive, and every consumer reads a partition's messages in the order of their
offsets. Three settings decide what that is worth:

    acks=1               the leader alone has it; a failover loses it
    min_isr=1            so may be the case under acks=all, too
    unclean=yes          a replica that lacks messages may become leader

And Kafka does not wait for its disks: `flush=no`, its default, leaves syncing to the
kernel, as "durability in Kafka does not require syncing data to disk" where replicas
don't lose power together ("Application vs. OS Flush Management"). `flush=yes`
(log.flush.interval.messages=1) syncs each message.

A log is a topic with one partition, made by the first client that sends to it. A client
asks its node who leads a topic, and sends to the leader there, as Kafka's own clients
do; it has no producer id, retries nothing that was sent, and asks anew after an error.
What has no effects is tried again for PATIENCE_S, also as Kafka's clients do, which
wait for leaders. A poll reads up to the high watermark; it waits if there is nothing
(POLL_WAIT_S), and fails if not all of its logs can be read. Committed offsets are those
of a consumer group, whose members nobody manages.

Errors: a send is definite if it never left, or if the broker refused it before it
appended it (REFUSED; the Javadoc of `org.apache.kafka.common.errors`). NOT_LEADER is so
under `acks=1` only: under `all` it also answers a message that was appended, and whose
replicas were awaited when the leader changed. All others leave the outcome open. What
reads, or keeps a group's offsets, changes no log, so it failed.

Transactions: `kafka_transactions`. A transaction that polls does not commit offsets; a
client's places are its own.

A node serves clients and brokers at its own port, and controllers at the port above.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import json
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import msgspec

from harness.errors import (
    TEMPORARILY_UNAVAILABLE,
    HarnessError,
    NodeReply,
    Timeout,
)
from harness.options import OneOf, Whole
from harness.override import override
from harness.registry import Option, Plugin, settings
from harness.systems import cells, kafka_protocol, kafka_records
from harness.systems.java import java
from harness.systems.kafka_protocol import Broker, KafkaError
from harness.systems.kafka_records import NOBODY
from harness.systems.kafka_transactions import Transactions
from harness.systems.services import EVERY
from harness.systems.software import VERSION, Maven, Recipe, Software
from harness.systems.translated import TranslatedClient
from harness.worlds.places import Endpoint, Launch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    from harness.systems.kafka_protocol import Fetched, Metadata
    from harness.systems.system import SystemFactory
    from harness.workload import WireCodec, Workload
    from harness.worlds.places import NodePlace

OPTIONS = (
    Option(
        "acks",
        "all",
        "1: a send is acknowledged by the leader alone; all: by all replicas in sync",
        OneOf("all", "1"),
    ),
    Option("replicas", "3", "of each topic; no more than nodes", Whole(1, 9)),
    Option(
        "min_isr",
        "2",
        "min.insync.replicas: how few may acknowledge; no more than replicas",
        Whole(1, 9),
    ),
    Option(
        "unclean",
        "no",
        "unclean.leader.election.enable: leaders may lack acknowledged messages",
        OneOf("no", "yes"),
    ),
    Option(
        "flush",
        "no",
        "yes: each message is synced to disk before it is acknowledged",
        OneOf("no", "yes"),
    ),
    VERSION,
)

SOURCES = (Path(__file__).parent / "programs/kafka/KafkaNode.java",)

SOFTWARE = Software(
    "kafka",
    (
        Recipe(
            "3.8.0",
            Maven(
                (
                    "org.apache.kafka:kafka_2.13:{version}",
                    "ch.qos.reload4j:reload4j:1.2.25",
                    "org.slf4j:slf4j-reload4j:1.7.36",
                ),
                sources=SOURCES,
            ),
            "classes/KafkaNode.class",
        ),
        *(
            Recipe(
                version,
                Maven(
                    (
                        "org.apache.kafka:kafka_2.13:{version}",
                        "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3",
                    ),
                    sources=SOURCES,
                ),
                "classes/KafkaNode.class",
            )
            for version in ("4.1.0", "4.2.2")
        ),
    ),
)

JVM: Final = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
"""Small brokers that start soon."""

LOG4J: Final = """log4j.rootLogger=INFO, out
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=%d{ISO8601} %-5p %c{1} %m%n
"""
"""Where version 3 logs to."""

LOG4J2: Final = """status=error
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{ISO8601} %-5p %c{1} %m%n
rootLogger.level=INFO
rootLogger.appenderRef.out.ref=out
"""
"""Where version 4 logs to."""

CLUSTER_ID: Final = base64.urlsafe_b64encode(b"splitbrain kafka").decode().rstrip("=")
GROUP: Final = "splitbrain"

REFUSED: Final = frozenset(
    {
        2,  # corrupt message
        10,  # message too large
        17,  # invalid topic
        19,  # not enough replicas
        32,  # invalid timestamp
        35,  # unsupported version
        87,  # invalid record
    }
)
"""Codes of errors that a leader answers in the place of appending."""

REFUSED_AT_ONCE: Final = REFUSED | {
    kafka_protocol.UNKNOWN_TOPIC,
    kafka_protocol.NOT_LEADER,
}
"""The same, where no replicas are awaited."""

READABLE: Final = frozenset({0, kafka_protocol.OUT_OF_RANGE})
"""Codes that answer a read: the log may end before the offset."""

POLL_WAIT_S: Final = 0.2
PATIENCE_S: Final = 0.7
TXN_PATIENCE_S: Final = 3.0
"""Marks of the transaction before may take as long as links are down."""
ATTEMPT_S: Final = 0.7
RETRY_S: Final = 0.1
FETCH_BYTES: Final = 1 << 16
PRODUCE_WAIT_MS: Final = 1500
CONTROL_TIMEOUT_S: Final = 0.5
PREPARE_S: Final = 45.0

Messages = list[list[Any]]
"""[offset, message] each."""

T = TypeVar("T")


class Kafka:
    """Kafka as a `System`.

    Raises:
        UsageError: An option does not exist, or has no such value.
    """

    name = "kafka"
    faults = frozenset({EVERY})
    rungs = frozenset({"switch"})  # One address book for all nodes.
    services = frozenset({"log", "log-txn"})
    usual_nodes = 3
    software = SOFTWARE
    invariants: tuple[str, ...] = ()
    ready_timeout_s = 90.0

    def __init__(self, given: Mapping[str, str]) -> None:
        chosen = settings(self.name, OPTIONS, given)
        self._acks = -1 if chosen["acks"] == "all" else 1
        self._replicas: int = chosen["replicas"]
        self._min_isr: int = chosen["min_isr"]
        self._is_unclean = chosen["unclean"] == "yes"
        self._flushes = chosen["flush"] == "yes"
        self._installed = functools.partial(SOFTWARE.find, chosen["version"])

    def check_installed(self) -> None:
        """Raises NotInstalledError unless there are brokers and a Java to run them."""
        self._installed()
        java()

    def launch(self, place: NodePlace) -> Launch:
        """The command of a broker; its configuration is written anew each time."""
        folder = place.data_dir
        data = folder / "kafka"
        data.mkdir(exist_ok=True)
        (folder / "server.properties").write_text(self._configuration(place, data))
        (folder / "log4j.properties").write_text(LOG4J)
        (folder / "log4j2.properties").write_text(LOG4J2)
        flags = {
            "log4j.configuration": f"file:{folder}/log4j.properties",
            "log4j2.configurationFile": f"{folder}/log4j2.properties",
            "java.io.tmpdir": folder,
            "java.net.preferIPv4Stack": "true",
        }
        argv = [
            java(),
            *JVM,
            *(f"-D{name}={value}" for name, value in flags.items()),
            "KafkaNode",
            str(folder / "server.properties"),
            CLUSTER_ID,
            str(data),
        ]
        return Launch(argv, self._installed().env)

    def _configuration(self, place: NodePlace, data: Path) -> str:
        replicas = min(self._replicas, len(place.cluster))
        min_isr = min(self._min_isr, replicas)
        at, above = place.listen, controller_endpoint(place.listen)
        voters = [
            f"{broker_id(place, name)}@{controller_endpoint(listen)}"
            for name, listen in place.cluster.items()
        ]
        config = {
            "process.roles": "broker,controller",
            "node.id": broker_id(place, place.name),
            "controller.quorum.voters": ",".join(voters),
            "listeners": f"PLAINTEXT://{at},CONTROLLER://{above}",
            "advertised.listeners": f"PLAINTEXT://{at}",
            "listener.security.protocol.map": (
                "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT"
            ),
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": data,
            "auto.create.topics.enable": "false",
            "default.replication.factor": replicas,
            "min.insync.replicas": min_isr,
            "unclean.leader.election.enable": str(self._is_unclean).lower(),
            "offsets.topic.replication.factor": replicas,
            "offsets.topic.num.partitions": 1,
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": min_isr,
            "transaction.state.log.num.partitions": 1,
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": 500,
            # Runs last a minute: what takes Kafka half of one takes a tenth of it here.
            "broker.heartbeat.interval.ms": 300,
            "broker.session.timeout.ms": 3000,
            "replica.lag.time.max.ms": 3000,
            "replica.socket.timeout.ms": 3000,
            "controller.socket.timeout.ms": 3000,
            "request.timeout.ms": 1000,
            "connections.max.idle.ms": 60_000,
            "socket.connection.setup.timeout.ms": 1000,
            "num.network.threads": 2,
            "num.io.threads": 4,
            "log.index.size.max.bytes": 1 << 16,
            "log.retention.ms": -1,
            "log.cleaner.enable": "false",
            **({"log.flush.interval.messages": 1} if self._flushes else {}),
        }
        return "".join(f"{name}={value}\n" for name, value in config.items())

    async def ready(self, place: NodePlace) -> bool:
        """True once the broker serves, and knows that it does.

        So one that restarts is not ready before a quorum of controllers is there.
        """
        known = await asked(place)
        return known is not None and broker_id(place, place.name) in known.brokers

    async def prepare(self, places: Sequence[NodePlace]) -> None:
        """Wait until all brokers know each other, and who coordinates.

        Raises:
            Timeout: It takes too long.
        """
        missing = "no broker answers"
        try:
            async with asyncio.timeout(PREPARE_S):
                while missing:
                    missing = await lacks(places)
                    await asyncio.sleep(RETRY_S if missing else 0)
        except TimeoutError as error:
            text = f"no cluster after {PREPARE_S:.0f} s: {missing}"
            raise Timeout(text) from error

    def client(self, workload: Workload) -> KafkaClient:
        """A client that puts the workload's requests into Kafka's words."""
        return KafkaClient(workload.codec, self._acks, self._replicas)

    async def leader(self, places: Sequence[NodePlace]) -> str | None:
        """The broker that leads the most logs, as the first one that answers says."""
        for place in places:
            if (known := await asked(place)) is None:
                continue
            counts = Counter(
                leader for name, leader in known.leaders.items() if is_log(name)
            )
            names = {broker_id(place, name): name for name in place.cluster}
            led = [
                names[leader] for leader, _ in counts.most_common() if leader in names
            ]
            return led[0] if led else None
        return None


class KafkaClient(TranslatedClient):
    """Requests of a workload, carried out through one broker and those it names.

    Args:
        codec: The workload's codec.
        acks: 1, or -1 for all.
        replicas: Of each topic; no more than brokers.
    """

    def __init__(self, codec: WireCodec, acks: int, replicas: int) -> None:
        super().__init__(codec)
        self._acks = acks
        self._replicas = replicas
        self._place: NodePlace | None = None
        self._brokers: dict[str, Broker] = {}
        self._leaders: dict[str, str] = {}
        self._coordinator: str | None = None
        self._transactions = Transactions(
            f"splitbrain-{uuid.uuid4()}",
            self._find_transactions,
            functools.partial(patiently, patience_s=TXN_PATIENCE_S),
        )

    @override
    async def open(self, place: NodePlace) -> None:
        self._place = place
        self._brokers = {name: Broker(at) for name, at in place.cluster.items()}

    @override
    async def close(self) -> None:
        for broker in self._brokers.values():
            await broker.close()

    @override
    async def answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        match body["type"]:
            case "send":
                offset = await self._send(topic_of(body["key"]), body["msg"])
                return {"type": "send_ok", "offset": offset}
            case "log_txn":
                done = await self._transact(body["txn"], body["offsets"])
                return {"type": "log_txn_ok", "txn": done}
            case "poll":
                return {"type": "poll_ok", "msgs": await self._poll(body["offsets"])}
            case "commit_offsets":
                offsets = {topic_of(k): o for k, o in body["offsets"].items()}
                if offsets:
                    await self._of_group(
                        lambda broker: kafka_protocol.commit_offsets(
                            broker, GROUP, offsets
                        )
                    )
                return {"type": "commit_offsets_ok"}
            case "list_committed_offsets":
                keys = {topic_of(key): key for key in body["keys"]}
                found = await self._of_group(
                    lambda broker: kafka_protocol.committed_offsets(broker, GROUP, keys)
                )
                offsets = {keys[t]: o for t, o in found.items() if t in keys}
                return {"type": "list_committed_offsets_ok", "offsets": offsets}
            case kind:
                text = f"{kind!r:.60} is not supported"
                raise cells.refusal(cells.NOT_SUPPORTED, text)

    async def _send(self, topic: str, message: Any) -> int:
        """The offset of a message, once it is acknowledged.

        Raises:
            NodeReply: It is refused (definite), or nobody knows.
        """
        try:
            return await self._produce(topic, message)
        except KafkaError as error:
            refused = REFUSED if self._acks == -1 else REFUSED_AT_ONCE
            definite = error.code in refused
            raise NodeReply(definite=definite, text=str(error)) from error

    async def _produce(
        self, topic: str, message: Any, *, in_transaction: bool = False
    ) -> int:
        """The offset of a message, once it is acknowledged.

        Raises:
            KafkaError: It is not.
            NodeReply: It never left (definite), or nobody knows.
        """
        leader = await self._leader(topic)
        producer, sequence, name, acks = NOBODY, -1, None, self._acks
        if in_transaction:
            producer, sequence = await self._transactions.add(topic)
            name, acks = self._transactions.name, -1
        batch = kafka_records.encoded(
            [json.dumps(message).encode()],
            now_ms(),
            producer,
            sequence,
            transactional=in_transaction,
        )
        with self._forgetting(topic):
            return await kafka_protocol.produce(
                self._brokers[leader], topic, batch, acks, PRODUCE_WAIT_MS, name
            )

    async def _transact(
        self, asked: Sequence[Sequence[Any]], places: Mapping[str, int]
    ) -> list[list[Any]]:
        """What the parts of a transaction brought, once that is committed or aborted.

        Raises:
            NodeReply: It is aborted, against its wish (definite), or nobody knows.
        """
        await self._transactions.begin()
        places = dict(places)
        done: list[list[Any]] = []
        try:
            for part in asked:
                match part:
                    case ["send", key, message]:
                        topic = topic_of(key)
                        offset = await self._produce(
                            topic, message, in_transaction=True
                        )
                        done.append(["send", key, [offset, message]])
                    case ["poll"]:
                        polled = await self._poll(places, waits=False)
                        places |= {k: m[-1][0] + 1 for k, m in polled.items() if m}
                        done.append(["poll", polled])
                    case _:
                        done.append([*part])
        except (KafkaError, NodeReply) as error:
            await self._transactions.give_up()
            # Nobody has asked for the commit of what was sent.
            raise NodeReply(definite=True, text=str(error)) from error
        if ["abort"] in done:
            await self._transactions.abort()
        else:
            await self._transactions.commit()
        return done

    async def _leader(self, topic: str) -> str:
        """Who leads a topic, which is created if need be.

        Raises:
            NodeReply: Nobody, or nobody knows; a definite failure, as nothing was sent.
        """

        async def find() -> str:
            await self._look_up([topic])
            if topic not in self._leaders:
                replicas = min(self._replicas, len(self._brokers))
                wait_ms = round(ATTEMPT_S * 1000)
                await kafka_protocol.create_topic(self._own(), topic, replicas, wait_ms)
                await self._look_up([topic])
            return self._leader_known(topic)

        if self._leaders.get(topic):
            return self._leaders[topic]
        return await patiently(find)

    def _leader_known(self, topic: str) -> str:
        """Who leads a topic; raises NodeReply if nobody is known to."""
        if leader := self._leaders.get(topic):
            return leader
        text = "no leader is known"
        raise NodeReply(definite=True, text=text, code=TEMPORARILY_UNAVAILABLE)

    async def _look_up(self, topics: Sequence[str]) -> None:
        """Ask who leads topics: "" if nobody does; those unknown are left out."""
        known = await kafka_protocol.metadata(self._own(), topics)
        for topic in topics:
            self._leaders.pop(topic, None)
            if topic in known.leaders:
                self._leaders[topic] = self._name_of(known.leaders[topic])

    async def _poll(
        self, asked: Mapping[str, int], *, waits: bool = True
    ) -> dict[str, Messages]:
        """Messages of logs from offsets on, none left out.

        Args:
            asked: Key -> offset.
            waits: Whether to wait for some if there are none.

        Raises:
            NodeReply: Not all of them can be read; a definite failure.
        """
        keys = {topic_of(key): key for key in asked}
        parts = {topic_of(key): Part([], offset) for key, offset in asked.items()}
        wait_s, is_at_end = 0.0, False
        while not (is_at_end or any(part.messages for part in parts.values())):
            before = parts
            wanted = {topic: part.end for topic, part in parts.items()}
            read = functools.partial(self._read, wanted, wait_s)
            parts = await patiently(read)
            # What there is may all be of aborted transactions, with more behind it.
            is_at_end = parts == before and (bool(wait_s) or not waits)
            wait_s = POLL_WAIT_S if waits else 0.0
        return {keys[topic]: part.messages for topic, part in parts.items()}

    async def _read(self, wanted: Mapping[str, int], wait_s: float) -> dict[str, Part]:
        """What all leaders together have of topics, from offsets on.

        Raises:
            KafkaError, NodeReply: A topic can't be read.
        """
        unknown = [topic for topic in wanted if not self._leaders.get(topic)]
        if unknown:
            await self._look_up(unknown)
        by_leader: dict[str, dict[str, int]] = {}
        parts = {}
        for topic, offset in wanted.items():
            if topic in self._leaders:
                of = by_leader.setdefault(self._leader_known(topic), {})
                of[topic] = offset
            else:
                parts[topic] = Part([], offset)  # nobody has sent to it yet
        if not by_leader:
            await asyncio.sleep(wait_s)
        told = await asyncio.gather(
            *(self._fetch(leader, of, wait_s) for leader, of in by_leader.items()),
            return_exceptions=True,  # each connection is for one request at a time
        )
        for each in told:
            if isinstance(each, BaseException):
                raise each
            parts |= each
        return parts

    async def _fetch(
        self, leader: str, offsets: Mapping[str, int], wait_s: float
    ) -> dict[str, Part]:
        """What one broker has of the topics that it leads.

        Raises:
            KafkaError, NodeReply: One of them can't be read.
        """
        with self._forgetting(*offsets):
            told = await kafka_protocol.fetch(
                self._brokers[leader],
                offsets,
                round(wait_s * 1000),
                FETCH_BYTES,
                committed=True,
            )
            return {
                topic: read_part(fetched_of(told, topic), offset)
                for topic, offset in offsets.items()
            }

    async def _of_group(self, ask: Callable[[Broker], Awaitable[T]]) -> T:
        """What the coordinator of the group answers.

        Raises:
            NodeReply: It doesn't; a definite failure, as no log is changed.
        """

        async def once() -> T:
            coordinator, self._coordinator = self._coordinator, None
            if coordinator is None:
                found = await kafka_protocol.find_coordinator(self._own(), GROUP)
                coordinator = self._name_of(found)
            answer = await ask(self._broker(coordinator))
            self._coordinator = coordinator
            return answer

        return await patiently(once)

    async def _find_transactions(self) -> Broker:
        """The coordinator of transactions; raises KafkaError or NodeReply."""
        name = self._transactions.name
        found = await kafka_protocol.find_coordinator(self._own(), name, of_txn=True)
        return self._broker(self._name_of(found))

    @contextlib.contextmanager
    def _forgetting(self, *topics: str) -> Iterator[None]:
        """Forget who leads topics if this fails, or is cancelled."""
        done = False
        try:
            yield
            done = True
        finally:
            for topic in () if done else topics:
                self._leaders.pop(topic, None)

    def _broker(self, name: str) -> Broker:
        """A broker; raises NodeReply if another one has named one that is none."""
        if name not in self._brokers:
            raise NodeReply(definite=True, text="an unknown broker is named")
        return self._brokers[name]

    def _own(self) -> Broker:
        if self._place is None:
            raise HarnessError("a client was used before it was opened")
        return self._brokers[self._place.name]

    def _name_of(self, number: int) -> str:
        """The name of a broker; empty if there is none of that id."""
        names = list(self._brokers)
        return names[number - 1] if 0 < number <= len(names) else ""


class Part(NamedTuple):
    """What was read of a log.

    Attributes:
        messages: The messages.
        end: The offset to go on from.
    """

    messages: Messages
    end: int


def read_part(fetched: Fetched, offset: int) -> Part:
    """The messages from an offset on, without those of aborted transactions.

    Raises:
        NodeReply: They make no sense; a definite failure, as nothing is written.
    """
    begun = sorted(fetched.aborted, key=lambda each: each[1], reverse=True)
    aborted: set[int] = set()
    messages: Messages = []
    end = offset
    try:
        for batch in kafka_records.decoded(fetched.data):
            while begun and begun[-1][1] <= batch.last:
                aborted.add(begun.pop()[0])
            if batch.kind == "abort":
                aborted.discard(batch.producer)
            is_void = batch.kind == "txn" and batch.producer in aborted
            messages += [
                [at, msgspec.json.decode(value)]
                for at, value in batch.records
                if at >= offset and not is_void
            ]
            end = max(end, batch.last + 1)
    except (ValueError, RecursionError) as error:
        raise NodeReply(definite=True, text=f"bad messages: {error}") from error
    return Part(messages, end)


def fetched_of(told: Mapping[str, Fetched], topic: str) -> Fetched:
    """What was told of a topic.

    Raises:
        KafkaError: An error.
        NodeReply: Nothing; a definite failure, as nothing is written.
    """
    if topic not in told:
        raise NodeReply(definite=True, text="a log is missing in the answer")
    if told[topic].code not in READABLE:
        raise KafkaError(told[topic].code)
    return told[topic]


async def patiently(
    attempt: Callable[[], Awaitable[T]], patience_s: float = PATIENCE_S
) -> T:
    """What an attempt without effects returns, which is repeated until it succeeds.

    Raises:
        NodeReply: It has not succeeded in that time; a definite failure.
    """
    begun = time.monotonic()
    while True:
        try:
            async with asyncio.timeout(ATTEMPT_S):
                return await attempt()
        except (KafkaError, NodeReply, TimeoutError) as error:
            if time.monotonic() - begun > patience_s:
                text = "no answer" if isinstance(error, TimeoutError) else str(error)
                code = error.code if isinstance(error, NodeReply) else None
                raise NodeReply(definite=True, text=text, code=code) from error
        await asyncio.sleep(RETRY_S)


async def asked(place: NodePlace) -> Metadata | None:
    """What a broker knows of the cluster; None if it doesn't answer in time."""
    broker = Broker(place.listen)
    try:
        async with asyncio.timeout(CONTROL_TIMEOUT_S):
            return await kafka_protocol.metadata(broker)
    except (KafkaError, NodeReply, TimeoutError):
        return None
    finally:
        await broker.close()


async def lacks(places: Sequence[NodePlace]) -> str:
    """What a cluster lacks before it serves; empty if it lacks nothing."""
    for place in places:
        known = await asked(place)
        if known is None or len(known.brokers) < len(places):
            number = len(known.brokers) if known else 0
            return f"{place.name} knows {number} of {len(places)} brokers"
    broker = Broker(places[0].listen)
    try:
        async with asyncio.timeout(CONTROL_TIMEOUT_S):
            for of_txn in (False, True):
                await kafka_protocol.find_coordinator(broker, GROUP, of_txn=of_txn)
    except (KafkaError, NodeReply, TimeoutError) as error:
        return f"no coordinator: {error}"
    finally:
        await broker.close()
    return ""


def broker_id(place: NodePlace, name: str) -> int:
    """The id of a node's broker and controller."""
    return list(place.cluster).index(name) + 1


def controller_endpoint(listen: Endpoint) -> Endpoint:
    """Where a node's controller listens."""
    return Endpoint(listen.host, listen.port + 1)


def topic_of(key: str) -> str:
    """The topic of a log; a key may hold what topics' names can't."""
    return f"log-{base64.urlsafe_b64encode(str(key).encode()).decode().rstrip('=')}"


def is_log(topic: str) -> bool:
    """Whether a topic is a log of ours."""
    return topic.startswith("log-")


def now_ms() -> int:
    """The time that is written into messages."""
    return round(time.time() * 1000)


def kafka(_: str, given: Mapping[str, str]) -> Kafka:
    """The system with these options; raises UsageError if one is wrong."""
    return Kafka(given)


PLUGIN: Plugin[SystemFactory] = Plugin(
    "kafka",
    "Kafka in KRaft mode, one broker or a cluster (Maven Central; needs Java)",
    kafka,
    OPTIONS,
)
