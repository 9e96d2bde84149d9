"""ZooKeeper, one server or an ensemble.

Promise (ZooKeeper Programmer's Guide, "Consistency Guarantees"; ZooKeeper Internals):
updates are linearizable. A read is answered by the server that is asked, from its own
state: it may be stale, but each client sees updates in their one order, so all together
is sequentially consistent. An update that was acknowledged is on the disks of a
majority, unless `forceSync` is off ("ZooKeeper will not require updates to be synced to
the media").

Reads come in three strengths. `local` ones may be stale. `sync` asks the leader first
what the server still lacks; but the leader asks nobody whether it still leads
(ZOOKEEPER-1675), so a read may be stale beside a newer leader. `quorum`, ours, writes
before it reads, in the same session: the write is behind all that was acknowledged, and
a server answers requests of a session in their order.

A register is a node of the tree, and its value is JSON. Compare-and-set and locks
read, decide (`harness.systems.cells`) and set under the version that was read; if it
has changed, all is tried again, TRIES_MAX times.

Errors: those that the leader's checks raise are definite (`jute.REFUSED`). All others,
and a connection that ends after a request was sent, leave the outcome open. A read has
no effects, so it failed.

A node serves clients at its own port, peers at the next, and votes at the one after.
A server that restarts in a minority can't serve, so once a node has served it counts as
ready when it accepts connections.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import json
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from harness.errors import HarnessError, NodeReply
from harness.options import OneOf, Whole
from harness.override import override
from harness.registry import Option, Plugin, settings
from harness.systems import cells
from harness.systems.java import SMALL, java
from harness.systems.jute import (
    ANY_VERSION,
    BAD_VERSION,
    NO_NODE,
    NODE_EXISTS,
    REFUSED,
    Held,
    Session,
    ZooKeeperError,
)
from harness.systems.services import EVERY
from harness.systems.software import VERSION, Maven, Recipe, Software
from harness.systems.translated import TranslatedClient
from harness.worlds.places import Launch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.systems.system import SystemFactory
    from harness.workload import WireCodec, Workload
    from harness.worlds.places import Endpoint, NodePlace

OPTIONS = (
    Option(
        "reads",
        "quorum",
        "local: from the node's own state, may be stale; sync: what the leader had",
        OneOf("quorum", "sync", "local"),
    ),
    Option(
        "force_sync",
        "yes",
        "no: updates are acknowledged before they are on disk",
        OneOf("yes", "no"),
    ),
    Option(
        "tick_ms",
        "200",
        "a tick; leaders and followers give up after 5",
        Whole(10, 10_000),
    ),
    VERSION,
)

SOFTWARE = Software(
    "zookeeper",
    tuple(
        Recipe(
            version,
            Maven(
                (
                    "org.apache.zookeeper:zookeeper:{version}",
                    "io.dropwizard.metrics:metrics-core:4.1.12.1",
                    "org.xerial.snappy:snappy-java:1.1.10.5",
                )
            ),
            "lib/zookeeper-{version}.jar",
        )
        for version in ("3.8.4", "*")
    ),
)

LOGBACK: Final = """<configuration>
  <appender name="console" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%d{ISO8601} %-5p %c{1} %m%n</pattern></encoder>
  </appender>
  <logger name="org.apache.zookeeper.server.NIOServerCnxn" level="ERROR"/>
  <root level="INFO"><appender-ref ref="console"/></root>
</configuration>
"""

TICK = "/splitbrain"
"""The node of the tree that reads of a quorum write to."""

TXN_CONFLICT = 30
TRIES_MAX = 20
CONTROL_TIMEOUT_S = 0.5


class ZooKeeper:
    """ZooKeeper as a `System`.

    Raises:
        UsageError: An option does not exist, or has no such value.
    """

    name = "zookeeper"
    faults = frozenset({EVERY})
    rungs = frozenset({"switch"})  # One address book for all nodes.
    services = frozenset({"register", "cas", "set", "lock"})
    usual_nodes = 3
    software = SOFTWARE
    invariants: tuple[str, ...] = ()
    ready_timeout_s = 30.0

    def __init__(self, given: Mapping[str, str]) -> None:
        chosen = settings(self.name, OPTIONS, given)
        self._reads: str = chosen["reads"]
        self._force_sync: str = chosen["force_sync"]
        self._tick_ms: int = chosen["tick_ms"]
        self._installed = functools.partial(SOFTWARE.find, chosen["version"])
        self._has_served: set[str] = set()

    def check_installed(self) -> None:
        """Raises NotInstalledError unless there are a server and a Java to run it."""
        self._installed()
        java()

    def launch(self, place: NodePlace) -> Launch:
        """The command of a server; its configuration is written anew each time."""
        folder = place.data_dir
        config = {
            "tickTime": self._tick_ms,
            "initLimit": 25,
            "syncLimit": 5,
            "dataDir": folder / "zookeeper",
            "clientPort": place.listen.port,
            "clientPortAddress": place.listen.host,
            "maxClientCnxns": 0,
            "maxSessionTimeout": 60_000,
            "admin.enableServer": "false",
            "4lw.commands.whitelist": "srvr",
        }
        (folder / "zookeeper").mkdir(exist_ok=True)
        if len(place.cluster) > 1:
            for number, (name, listen) in enumerate(place.cluster.items(), 1):
                ports = f"{listen.port + 1}:{listen.port + 2}"
                config[f"server.{number}"] = f"{listen.host}:{ports}"
                if name == place.name:
                    (folder / "zookeeper/myid").write_text(f"{number}\n")
        lines = [f"{name}={value}\n" for name, value in config.items()]
        (folder / "zoo.cfg").write_text("".join(lines))
        (folder / "logback.xml").write_text(LOGBACK)
        flags = {
            "logback.configurationFile": folder / "logback.xml",
            "zookeeper.forceSync": self._force_sync,
            "zookeeper.preAllocSize": 1024,
            # The first snapshot, an empty one, is not synced: without this, a server
            # that loses it with the power refuses to read its logs.
            "zookeeper.snapshot.trust.empty": "true",
            "zookeeper.cnxTimeout": 500,
            "java.io.tmpdir": folder,
            "java.net.preferIPv4Stack": "true",
        }
        argv = [
            java(),
            "-Xmx256m",
            *SMALL,
            *(f"-D{name}={value}" for name, value in flags.items()),
            "org.apache.zookeeper.server.quorum.QuorumPeerMain",
            str(folder / "zoo.cfg"),
        ]
        return Launch(argv, self._installed().env)

    async def ready(self, place: NodePlace) -> bool:
        """True once the server serves; after a restart, once it is reachable."""
        told = await srvr(place.listen)
        if place.name in self._has_served and len(place.cluster) > 1:
            return told is not None
        if told is None or not re.search("^Mode: ", told, re.MULTILINE):
            return False
        self._has_served.add(place.name)
        return True

    def client(self, workload: Workload) -> ZooKeeperClient:
        """A client that puts the workload's requests into ZooKeeper's words."""
        return ZooKeeperClient(workload.codec, self._reads)

    async def leader(self, places: Sequence[NodePlace]) -> str | None:
        """The server that takes itself for the leader, in the highest epoch."""
        told = await asyncio.gather(*(srvr(place.listen) for place in places))
        leaders = [
            (epoch, place.name)
            for place, text in zip(places, told, strict=True)
            if (epoch := epoch_led(text or "")) is not None
        ]
        return max(leaders)[1] if leaders else None


class ZooKeeperClient(TranslatedClient):
    """Requests of a workload, carried out through one server.

    Args:
        codec: The workload's codec.
        reads: The option `reads`.
    """

    def __init__(self, codec: WireCodec, reads: str) -> None:
        super().__init__(codec)
        self._reads = reads
        self._session: Session | None = None

    @override
    async def open(self, place: NodePlace) -> None:
        self._session = Session(place.listen)
        await self._session.connect()

    @override
    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    @override
    async def answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        if self._session is None:
            raise HarnessError("a client was used before it was opened")
        names = cells.cells_of(body)
        if len(names) != 1:
            text = "there are no transactions over several nodes of the tree"
            raise cells.refusal(cells.NOT_SUPPORTED, text)
        for _ in range(TRIES_MAX):
            answer = await self._try(self._session, body, names[0])
            if answer is not None:
                return answer
        text = f"lost against another client {TRIES_MAX} times"
        raise NodeReply(definite=True, text=text, code=TXN_CONFLICT)

    async def _try(
        self, session: Session, body: Mapping[str, Any], name: str
    ) -> dict[str, Any] | None:
        """Carry a request out; None if another client came between."""
        path = path_of(name)
        if body["type"] == "write":
            done = await written(session, path, body["value"], ANY_VERSION)
            if done or await written(session, path, body["value"], None):
                return {"type": "write_ok"}
            return None
        held = await self._read(session, path)
        known = {} if held is None else {name: decoded(held.data)}
        answer, writes = cells.decide(body, known)
        version = None if held is None else held.version
        if writes and not await written(session, path, writes[name], version):
            return None
        return answer

    async def _read(self, session: Session, path: str) -> Held | None:
        """What is at a path, as strong as reads are to be; None if there is nothing.

        Raises:
            NodeReply: It can't be read; a definite failure, as nothing is written.
        """
        try:
            if self._reads == "quorum":
                await touch(session)
            elif self._reads == "sync":
                await session.sync(path)
            return await session.get(path)
        except ZooKeeperError as error:
            if error.code == NO_NODE:
                return None
            raise NodeReply(definite=True, text=str(error)) from error
        except NodeReply as error:
            raise NodeReply(definite=True, text=error.text, code=error.code) from error


async def touch(session: Session) -> None:
    """Write to TICK, which the first one makes; raises as `written` does."""
    for version in (ANY_VERSION, None, ANY_VERSION):
        if await written(session, TICK, None, version):
            return
    raise NodeReply(definite=True, text=f"{TICK} comes and goes")


async def written(session: Session, path: str, value: Any, version: int | None) -> bool:
    """Set what is at a path, if it has that version, or create it, if None.

    Returns:
        Whether it was so.

    Raises:
        NodeReply: It is refused (definite), or nobody knows.
    """
    data = json.dumps(value).encode()
    try:
        if version is None:
            await session.create(path, data)
        else:
            await session.set(path, data, version)
    except ZooKeeperError as error:
        if error.code in {NO_NODE, BAD_VERSION, NODE_EXISTS}:
            return False
        definite = error.code in REFUSED
        raise NodeReply(definite=definite, text=str(error)) from error
    return True


def decoded(data: bytes) -> Any:
    """The value in a node of the tree.

    Raises:
        NodeReply: It is no JSON; a definite failure, as nothing is written.
    """
    try:
        return msgspec.json.decode(data)
    except (ValueError, RecursionError) as error:
        text = f"answered a read with {data!r:.100}"
        raise NodeReply(definite=True, text=text) from error


async def srvr(endpoint: Endpoint) -> str | None:
    """What a server says of itself; None if it can't be reached in time."""
    writer = None
    try:
        async with asyncio.timeout(CONTROL_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
            writer.write(b"srvr")
            return (await reader.read(1 << 16)).decode(errors="replace")
    except OSError:  # TimeoutError is an OSError
        return None
    finally:
        if writer is not None:
            writer.transport.abort()


def epoch_led(told: str) -> int | None:
    """The epoch in what a server says of itself; None if it doesn't lead one."""
    zxid = re.search("^Zxid: 0x([0-9a-f]{1,16})$", told, re.MULTILINE)
    if zxid is None or not re.search("^Mode: leader$", told, re.MULTILINE):
        return None
    return int(zxid[1], 16) >> 32


def path_of(name: str) -> str:
    """Where a cell is in the tree; a name may hold what paths can't."""
    return f"/{base64.urlsafe_b64encode(name.encode()).decode()}"


def zookeeper(_: str, given: Mapping[str, str]) -> ZooKeeper:
    """The system with these options; raises UsageError if one is wrong."""
    return ZooKeeper(given)


PLUGIN: Plugin[SystemFactory] = Plugin(
    "zookeeper",
    "ZooKeeper, one server or an ensemble (Maven Central; needs Java)",
    zookeeper,
    OPTIONS,
)
