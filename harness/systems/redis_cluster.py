"""Redis Cluster: three primaries that own the slots, and replicas that take over.

Promise (redis.io, "Redis cluster specification"): every key is in one of 16384 slots,
and every slot has one owner, which carries out one command at a time. There is no more
than that: replication is asynchronous, and "there is always a window of time when it is
possible to lose writes during partitions" ("Write safety").

- A primary that is cut off goes on to acknowledge writes until it has not reached a
  majority of the primaries for `node_timeout_ms`. Its replica is elected by then or
  soon after, and what the old primary acknowledged is dropped when it comes back.
- A primary that is killed may not have sent its last writes to its replica.

`wait` has each write followed by WAIT for so many replicas. "WAIT does not make Redis a
strongly consistent store" (redis.io, WAIT): what was not replicated in time is there
for others to read until a failover drops it, and a primary that is cut off answers
reads. With `failover=off` (`cluster-replica-no-failover`) no replica takes over: each
slot has the same owner for ever, and is as linearizable as a single server.

The first three nodes are the primaries, and the others replicate them in turn. All of
them are started empty; `prepare` deals out the slots, introduces the nodes to each
other and waits until all agree. A restarted node finds its place in its `nodes.conf`.
Slots never move otherwise. The cluster's bus is at the port above the clients'.

Clients ask the node that they are connected to, and follow its word on who owns a slot
(MOVED), which carries out nothing; they remember that until it fails. A request that
is about several keys may be about several owners, and is refused.

Errors: as those of a single server (`harness.systems.redis`). MOVED, CLUSTERDOWN,
TRYAGAIN, CROSSSLOT and ASK are answered in the place of carrying a command out, EXEC
included, and are definite. If WAIT fails or counts too few replicas, the write is there
and may be lost: indefinite.
"""

from __future__ import annotations

import asyncio
import binascii
import contextlib
import functools
from typing import TYPE_CHECKING, Any, Final

from harness.errors import (
    TEMPORARILY_UNAVAILABLE,
    NodeReply,
    Timeout,
    UsageError,
)
from harness.options import OneOf, Whole
from harness.override import override
from harness.registry import Option, Plugin, settings
from harness.systems import cells
from harness.systems.redis import (
    APPENDFSYNC,
    CONTROL_TIMEOUT_S,
    MIN_REPLICAS,
    READ_ON_PRIMARY,
    SOFTWARE,
    RedisClient,
    ask,
    error_of,
    replicating,
    server,
)
from harness.systems.resp import Resp, ServerError
from harness.systems.services import EVERY
from harness.systems.software import BINARY, VERSION
from harness.worlds.places import Endpoint, Launch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.systems.resp import Answer
    from harness.systems.system import SystemFactory
    from harness.workload import WireCodec, Workload
    from harness.worlds.places import NodePlace

OPTIONS = (
    APPENDFSYNC,
    MIN_REPLICAS,
    Option(
        "node_timeout_ms",
        "1000",
        "silence after which a node counts as failed",
        Whole(50, 3_600_000),
    ),
    Option(
        "failover",
        "on",
        "whether a replica takes over from a primary that failed",
        OneOf("on", "off"),
    ),
    Option(
        "wait",
        "0",
        "replicas that must have a write before it is acknowledged (WAIT)",
        Whole(0, 100),
    ),
    VERSION,
    BINARY,
)

PRIMARIES: Final = 3
"""As many as Redis Cluster needs for one of them to be replaced."""

SLOTS: Final = 16384
REDIRECTIONS_MAX: Final = 5
"""Owners that one request follows; nodes that disagree may send it to and fro."""

WAIT_MS: Final = 500
PREPARE_S: Final = 30.0


class RedisCluster:
    """Redis Cluster as a `System`.

    Raises:
        UsageError: An option does not exist, or has no such value.
    """

    name = "redis_cluster"
    faults = frozenset({EVERY})
    rungs = frozenset({"switch"})  # One address book for all nodes.
    services = frozenset({"register", "cas", "set", "counter", "queue", "lock"})
    usual_nodes = 2 * PRIMARIES
    software = SOFTWARE
    invariants: tuple[str, ...] = ()
    ready_timeout_s = 10.0

    def __init__(self, given: Mapping[str, str]) -> None:
        chosen = settings(self.name, OPTIONS, given)
        self._appendfsync: str = chosen["appendfsync"]
        self._min_replicas: int = chosen["min_replicas"]
        self._node_timeout_ms: int = chosen["node_timeout_ms"]
        self._no_failover = "yes" if chosen["failover"] == "off" else "no"
        self._wait: int = chosen["wait"]
        self._installed = functools.partial(
            SOFTWARE.find, chosen["version"], chosen["binary"]
        )

    def check_installed(self) -> None:
        """Raises NotInstalledError unless there is a server."""
        self._installed()

    def check_nodes(self, nodes: Sequence[str]) -> None:
        """Raises UsageError for fewer nodes than primaries."""
        if len(nodes) < PRIMARIES:
            raise UsageError(
                f"redis_cluster: {PRIMARIES} nodes own the slots, and others replicate "
                f"them (--nodes {PRIMARIES} or more; {2 * PRIMARIES} give each a "
                "replica)"
            )

    def launch(self, place: NodePlace) -> Launch:
        """A server, which keeps what it knows of the cluster in `nodes.conf`."""
        found = self._installed()
        config = {
            **server(place, self._appendfsync),
            **replicating(place, self._min_replicas),
            "cluster-enabled": "yes",
            "cluster-config-file": "nodes.conf",
            "cluster-port": str(bus_port(place.listen)),
            "cluster-announce-ip": place.listen.host,
            "cluster-node-timeout": str(self._node_timeout_ms),
            "cluster-replica-no-failover": self._no_failover,
            # A slot without an owner is no reason not to serve the others.
            "cluster-require-full-coverage": "no",
            "cluster-allow-replica-migration": "no",
        }
        flags = [word for name, v in config.items() for word in (f"--{name}", v)]
        return Launch([str(found.program), *flags], found.env)

    async def ready(self, place: NodePlace) -> bool:
        """True once the server answers; it may still wait to hear from the others."""
        return await ask(place.listen, "PING") == b"PONG"

    async def prepare(self, places: Sequence[NodePlace]) -> None:
        """Deal out the slots, and have all nodes know each other.

        Raises:
            NodeReply: A node refuses.
            Timeout: They don't agree in time.
        """
        primaries = [place.listen for place in places[:PRIMARIES]]
        bounds = [SLOTS * i // PRIMARIES for i in range(PRIMARIES + 1)]
        ids = {}
        for epoch, place in enumerate(places, 1):
            ids[place.listen] = await told(place.listen, "CLUSTER", "MYID")
            await told(place.listen, "CLUSTER", "SET-CONFIG-EPOCH", epoch)
        for i, primary in enumerate(primaries):
            first, last = bounds[i], bounds[i + 1] - 1
            await told(primary, "CLUSTER", "ADDSLOTSRANGE", first, last)
        for place in places[1:]:
            to = place.listen
            meet = ("CLUSTER", "MEET", to.host, to.port, bus_port(to))
            await told(primaries[0], *meet)
        try:
            async with asyncio.timeout(PREPARE_S):
                await asyncio.gather(*(agrees(p.listen, len(places)) for p in places))
                for i, place in enumerate(places[PRIMARIES:]):
                    followed = ids[primaries[i % PRIMARIES]]
                    await told(place.listen, "CLUSTER", "REPLICATE", followed)
                await asyncio.gather(
                    *(follows(place.listen) for place in places[PRIMARIES:]),
                )
        except TimeoutError as error:
            text = f"the nodes did not become a cluster within {PREPARE_S:.0f} s"
            raise Timeout(text) from error

    def client(self, workload: Workload) -> RedisClusterClient:
        """A client that finds the owner of a key."""
        return RedisClusterClient(workload.codec, self._wait)


class RedisClusterClient(RedisClient):
    """Requests of a workload, carried out by the owners of their keys.

    Args:
        codec: The workload's codec.
        wait: Replicas that must have a write before it is acknowledged.
    """

    def __init__(self, codec: WireCodec, wait: int) -> None:
        super().__init__(codec, READ_ON_PRIMARY)
        self._wait = wait
        self._connections: dict[Endpoint, Resp] = {}
        self._owners: dict[int, Endpoint] = {}
        self._known: frozenset[Endpoint] = frozenset()
        self._listen: Endpoint | None = None

    @override
    async def open(self, place: NodePlace) -> None:
        self._known = frozenset(place.cluster.values())
        self._listen = place.listen
        await self._turn_to(place.listen).connect()

    @override
    async def close(self) -> None:
        for connection in self._connections.values():
            await connection.close()

    @override
    async def answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        names = cells.cells_of(body)
        if len(names) != 1:
            text = "a cluster has no transactions over keys of several owners"
            raise cells.refusal(cells.NOT_SUPPORTED, text)
        answer = await self._answered_by_owner(body, slot_of(names[0]))
        if self._wait and not cells.is_read(body):
            await self._replicated()
        return answer

    async def _answered_by_owner(
        self, body: Mapping[str, Any], slot: int
    ) -> dict[str, Any]:
        """The answer of whoever owns a slot; a redirection has no effect."""
        assert self._listen is not None, "it was opened"
        for _ in range(REDIRECTIONS_MAX):
            self._turn_to(self._owners.get(slot, self._listen))
            try:
                return await super().answer(body)
            except NodeReply as error:
                owner = owner_in(error.text) if error.definite else None
                if owner not in self._known:
                    if error.code == TEMPORARILY_UNAVAILABLE:
                        self._owners.pop(slot, None)
                    raise
                self._owners[slot] = owner
        text = f"no owner of slot {slot} after {REDIRECTIONS_MAX} redirections"
        raise NodeReply(definite=True, text=text, code=TEMPORARILY_UNAVAILABLE)

    async def _replicated(self) -> None:
        """Wait until enough replicas have what this connection wrote.

        Raises:
            NodeReply: They may not have it. Always indefinite.
        """
        try:
            count = await self._command("WAIT", self._wait, WAIT_MS)
        except NodeReply as error:
            raise NodeReply(definite=False, text=error.text) from error
        if not isinstance(count, int) or count < self._wait:
            text = f"WAIT counted {count!r:.60} of {self._wait} replicas"
            raise NodeReply(definite=False, text=text)

    def _turn_to(self, endpoint: Endpoint) -> Resp:
        """Have commands go to that node from now on."""
        resp = self._connections.setdefault(endpoint, Resp(endpoint))
        self._resp = resp
        return resp


def slot_of(name: str) -> int:
    """The slot of a key: by what is in its first braces, if there is something."""
    _, _, rest = name.partition("{")
    tag, closed, _ = rest.partition("}")
    hashed = tag if tag and closed else name
    return binascii.crc_hqx(hashed.encode(), 0) % SLOTS


def owner_in(text: str) -> Endpoint | None:
    """Where an error says that a slot's owner is: `MOVED 3999 10.0.0.1:6379`."""
    words = text.split()
    if len(words) != 3 or words[0] != "MOVED":
        return None
    host, _, port = words[2].rpartition(":")
    return Endpoint(host, int(port)) if port.isdecimal() else None


def bus_port(listen: Endpoint) -> int:
    """Where a node listens to the others: the port above the clients'."""
    return listen.port + 1


async def told(endpoint: Endpoint, *words: str | int) -> str:
    """What a node answers to a command of an operator.

    Raises:
        NodeReply: It refuses, or does not answer.
    """
    resp = Resp(endpoint)
    try:
        async with asyncio.timeout(CONTROL_TIMEOUT_S * 10):
            answer = await resp.command(*words)
    except ServerError as error:
        raise error_of(error) from error
    except TimeoutError as error:
        text = f"{endpoint} did not answer {words[0]}"
        raise NodeReply(definite=False, text=text) from error
    finally:
        await resp.close()
    return text_of(answer)


def text_of(answer: Answer) -> str:
    """An answer that is a text."""
    return answer.decode(errors="replace") if isinstance(answer, bytes) else ""


async def agrees(endpoint: Endpoint, count: int) -> None:
    """Wait until a node knows so many nodes, and that all slots have an owner."""
    wanted = {
        "cluster_state:ok",
        f"cluster_slots_ok:{SLOTS}",
        f"cluster_known_nodes:{count}",
        f"cluster_size:{PRIMARIES}",
    }
    await shows(endpoint, wanted, "CLUSTER", "INFO")
    # A handshake that isn't through counts as a node, under a name that isn't its own.
    while "handshake" in await told(endpoint, "CLUSTER", "NODES"):  # noqa: ASYNC110
        await asyncio.sleep(0.02)


async def follows(endpoint: Endpoint) -> None:
    """Wait until a replica has all that its primary has."""
    wanted = {"role:slave", "master_link_status:up"}
    await shows(endpoint, wanted, "INFO", "replication")


async def shows(endpoint: Endpoint, wanted: set[str], *words: str) -> None:
    """Wait until the answer to a command has all of these lines."""
    while True:
        with contextlib.suppress(NodeReply):
            if wanted <= set((await told(endpoint, *words)).split("\r\n")):
                return
        await asyncio.sleep(0.02)


def redis_cluster(_: str, given: Mapping[str, str]) -> RedisCluster:
    """The system with these options; raises UsageError if one is wrong."""
    return RedisCluster(given)


PLUGIN: Plugin[SystemFactory] = Plugin(
    "redis_cluster",
    "Redis Cluster: three primaries that own the keys, and replicas that take over",
    redis_cluster,
    OPTIONS,
)
