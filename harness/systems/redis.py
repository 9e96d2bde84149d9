"""Redis: one server, or a primary with replicas and a Sentinel beside each.

Promise (redis.io, "Redis persistence", "Redis replication" and "High availability with
Redis Sentinel"): a server carries out one command at a time, so each server by itself
is linearizable. What it acknowledged survives kills, as it is in the kernel by then;
losses of power it survives with `appendfsync=always`, while `everysec` may lose a
second and `no` more.

With several nodes, replication is asynchronous. A write is acknowledged before any
replica has it, and a failover to a replica without it loses it; a primary that is cut
off goes on to acknowledge writes that are dropped once it learns that it was replaced
("Sentinel ... does not guarantee that acknowledged writes are retained";
https://aphyr.com/posts/283-jepsen-redis). `min_replicas` has a primary refuse writes
while it has not heard from so many replicas for a second: that narrows the window and
does not close it. So several nodes are expected to be convicted.

A node serves clients at its own port; its Sentinel listens at the port above. Clients
ask the node that they are connected to, and no other: a replica refuses what writes,
and also what reads, as every read here is a script that might write (`#!lua` without
flags), which replicas refuse. `reads=any` reads from replicas, which is stale.

Errors: what Redis refuses before it carries anything out is definite (`DEFINITE`). A
connection that is lost after a command was sent leaves its outcome open. A read has no
effects, so it failed.

Transactions and locks are optimistic: WATCH the cells, read them, decide in the client
(`harness.systems.cells`), MULTI and EXEC; EXEC answers nil if a cell has changed, and
all is tried again, TRIES_MAX times. Compare-and-set is one script.
"""

from __future__ import annotations

import asyncio
import functools
import json
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from harness.errors import (
    TEMPORARILY_UNAVAILABLE,
    HarnessError,
    NodeReply,
    UsageError,
)
from harness.options import OneOf, Whole
from harness.override import override
from harness.registry import Option, Plugin, settings
from harness.systems import cells
from harness.systems.resp import Answer, Resp, ServerError
from harness.systems.services import EVERY
from harness.systems.software import BINARY, VERSION, Debian, Recipe, Software
from harness.systems.translated import TranslatedClient
from harness.worlds.places import Endpoint, Launch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.systems.system import SystemFactory
    from harness.workload import WireCodec, Workload
    from harness.worlds.places import NodePlace

APPENDFSYNC = Option(
    "appendfsync",
    "always",
    "when the log of commands is synced: before each answer, every second, never",
    OneOf("always", "everysec", "no"),
)

MIN_REPLICAS = Option(
    "min_replicas",
    "0",
    "replicas that a primary must have heard from to accept writes",
    Whole(0, 100),
)

OPTIONS = (
    APPENDFSYNC,
    MIN_REPLICAS,
    Option(
        "down_after_ms",
        "500",
        "silence after which a Sentinel takes a node for dead",
        Whole(10, 3_600_000),
    ),
    Option(
        "reads",
        "primary",
        "any reads from whatever node is asked, which may be stale",
        OneOf("primary", "any"),
    ),
    VERSION,
    BINARY,
)

SOFTWARE = Software(
    "redis",
    (Recipe("7.0", Debian(("redis-server",)), "usr/bin/redis-server"),),
    program="redis-server",
)

MASTER = "splitbrain"
"""Sentinel's name for the primary with its replicas."""

DEFINITE = frozenset(
    {
        "READONLY",  # it is a replica
        "NOREPLICAS",  # min-replicas-to-write
        "MISCONF",  # its disk fails
        "LOADING",
        "MASTERDOWN",
        "EXECABORT",
        "OOM",
        "WRONGTYPE",
        # Answered by nodes of a cluster (`harness.systems.redis_cluster`).
        "MOVED",
        "ASK",
        "CLUSTERDOWN",
        "TRYAGAIN",
        "CROSSSLOT",
    }
)
"""First words of the errors that are raised before anything is carried out."""

QUOTES = '""'
"""How files of configuration have an empty text."""

TXN_CONFLICT = 30
TRIES_MAX = 20
CONTROL_TIMEOUT_S = 0.5

READ = "return redis.call('MGET', unpack(KEYS))"
READ_ON_PRIMARY = f"#!lua\n{READ}"
"""A script that says that it may write: replicas refuse it (READONLY)."""

COMPARE_AND_SET = """#!lua
local held = redis.call('GET', KEYS[1])
if held == false then return -1 end
if held ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""


class Redis:
    """Redis as a `System`.

    Raises:
        UsageError: An option does not exist, or has no such value.
    """

    name = "redis"
    faults = frozenset({EVERY})
    rungs = frozenset({"switch"})  # One address book for all nodes.
    services = cells.SERVICES
    usual_nodes = 1
    software = SOFTWARE
    invariants: tuple[str, ...] = ()
    ready_timeout_s = 10.0

    def __init__(self, given: Mapping[str, str]) -> None:
        chosen = settings(self.name, OPTIONS, given)
        self._appendfsync: str = chosen["appendfsync"]
        self._min_replicas: int = chosen["min_replicas"]
        self._down_after_ms: int = chosen["down_after_ms"]
        self._read = READ if chosen["reads"] == "any" else READ_ON_PRIMARY
        self._installed = functools.partial(
            SOFTWARE.find, chosen["version"], chosen["binary"]
        )

    def check_installed(self) -> None:
        """Raises NotInstalledError unless there is a server."""
        self._installed()

    def check_nodes(self, nodes: Sequence[str]) -> None:
        """Raises UsageError for two nodes: their Sentinels would have no majority."""
        if len(nodes) == 2:
            raise UsageError(
                "redis: two nodes can't fail over, as one Sentinel is no majority "
                "(--nodes 1, or 3 and more)"
            )

    def launch(self, place: NodePlace) -> Launch:
        """A server; with other nodes, a Sentinel beside it.

        Files of configuration are written once: the programs keep their roles in them.
        """
        found = self._installed()
        folder = place.data_dir
        config = server(place, self._appendfsync)
        if len(place.cluster) == 1:
            flags = [word for k, v in config.items() for word in (f"--{k}", v)]
            return Launch([str(found.program), *flags], found.env)
        self._configure(place, {**config, **replicating(place, self._min_replicas)})
        module = "harness.systems.programs.redis_node"
        return Launch(
            [sys.executable, "-P", "-m", module, str(found.program), str(folder)],
            {**found.env, "PYTHONUNBUFFERED": "1"},
        )

    def _configure(self, place: NodePlace, config: Mapping[str, str]) -> None:
        (first, primary), *_ = place.cluster.items()
        lines = [f"{name} {value or QUOTES}" for name, value in config.items()]
        if place.name != first:
            lines.append(f"replicaof {primary.host} {primary.port}")
        sentinel = sentinel_endpoint(place.listen)
        quorum = len(place.cluster) // 2 + 1
        monitored = (
            f"sentinel monitor {MASTER} {primary.host} {primary.port} {quorum}",
            f"sentinel down-after-milliseconds {MASTER} {self._down_after_ms}",
            f"sentinel failover-timeout {MASTER} {6 * self._down_after_ms}",
        )
        watch = [
            f"bind {sentinel.host}",
            f"port {sentinel.port}",
            f"sentinel announce-ip {sentinel.host}",
            f"bind-source-addr {sentinel.host}",
            f"dir {place.data_dir}",
            "protected-mode no",
            *monitored,
        ]
        for name, text in (("redis.conf", lines), ("sentinel.conf", watch)):
            file = place.data_dir / name
            if not file.exists():
                file.write_text("\n".join(text) + "\n")

    async def ready(self, place: NodePlace) -> bool:
        """True once the server answers, and its Sentinel knows all others.

        They find each other within some seconds, and remember; before, nobody would
        fail over.
        """
        if await ask(place.listen, "PING") != b"PONG":
            return False
        if len(place.cluster) == 1:
            return True
        known = said_by(await ask_sentinel(place))
        return known.get("num-other-sentinels") == str(len(place.cluster) - 1)

    def client(self, workload: Workload) -> RedisClient:
        """A client that puts the workload's requests into Redis' words."""
        return RedisClient(workload.codec, self._read)

    async def leader(self, places: Sequence[NodePlace]) -> str | None:
        """The primary in the newest configuration that a Sentinel knows."""
        if len(places) and len(places[0].cluster) == 1:
            return places[0].name
        told = await asyncio.gather(*map(ask_sentinel, places))
        known = [found for answer in told if (found := primary_in(said_by(answer)))]
        by_listen = {str(place.listen): place.name for place in places}
        return by_listen.get(max(known)[1]) if known else None


class RedisClient(TranslatedClient):
    """Requests of a workload, carried out by one server.

    Args:
        codec: The workload's codec.
        read: The script that reads.
    """

    def __init__(self, codec: WireCodec, read: str) -> None:
        super().__init__(codec)
        self._read = read
        self._resp: Resp | None = None

    @override
    async def open(self, place: NodePlace) -> None:
        self._resp = Resp(place.listen)
        await self._resp.connect()

    @override
    async def close(self) -> None:
        if self._resp is not None:
            await self._resp.close()

    @override
    async def answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        names = cells.cells_of(body)
        if cells.is_read(body):
            return cells.decide(body, await self._held(names))[0]
        if body["type"] == "write":
            await self._command("SET", names[0], encoded(body["value"]))
            return {"type": "write_ok"}
        if body["type"] == "cas":
            return await self._cas(body, names[0])
        for _ in range(TRIES_MAX):
            answer = await self._transact(body, names)
            if answer is not None:
                return answer
        text = f"lost against another transaction {TRIES_MAX} times"
        raise NodeReply(definite=True, text=text, code=TXN_CONFLICT)

    async def _cas(self, body: Mapping[str, Any], name: str) -> dict[str, Any]:
        texts = (encoded(body["from"]), encoded(body["to"]))
        outcome = await self._command("EVAL", COMPARE_AND_SET, 1, name, *texts)
        if outcome == 1:
            return {"type": "cas_ok"}
        if outcome == 0:
            raise cells.refusal(cells.PRECONDITION_FAILED, "it holds another value")
        if outcome == -1:
            raise cells.refusal(cells.KEY_DOES_NOT_EXIST, "there is no such key")
        raise NodeReply(definite=False, text=f"answered cas with {outcome!r:.100}")

    async def _transact(
        self, body: Mapping[str, Any], names: Sequence[str]
    ) -> dict[str, Any] | None:
        """Try a transaction once; None if another one came between."""
        try:
            await self._command("WATCH", *names)
            answer, writes = cells.decide(body, await self._held(names))
            if not writes:
                await self._command("UNWATCH")
                return answer
            await self._command("MULTI")
            for name, value in writes.items():
                await self._command("SET", name, encoded(value))
        except NodeReply as error:
            # Nothing is carried out before EXEC. What is half said is forgotten.
            await self.close()
            raise NodeReply(definite=True, text=error.text, code=error.code) from error
        done = await self._command("EXEC")
        if done is None:
            return None
        if done != [b"OK"] * len(writes):
            raise NodeReply(definite=False, text=f"answered EXEC with {done!r:.100}")
        return answer

    async def _held(self, names: Sequence[str]) -> dict[str, Any]:
        """The values of cells, of those that have one."""
        try:
            told = await self._command("EVAL", self._read, len(names), *names)
        except NodeReply as error:
            raise NodeReply(definite=True, text=error.text, code=error.code) from error
        return held_in(told, names)

    async def _command(self, *words: str | int) -> Answer:
        """The answer to a command.

        Raises:
            NodeReply: Redis says why it did not carry it out (definite), or the outcome
                is open.
        """
        if self._resp is None:
            raise HarnessError("a client was used before it was opened")
        try:
            return await self._resp.command(*words)
        except ServerError as error:
            raise error_of(error) from error


def server(place: NodePlace, appendfsync: str) -> dict[str, str]:
    """The configuration that every server needs, by name."""
    return {
        "bind": place.listen.host,
        "port": str(place.listen.port),
        "dir": str(place.data_dir),
        "protected-mode": "no",
        "save": "",
        "appendonly": "yes",
        "appendfsync": appendfsync,
        # All that was acknowledged is to be there after a kill: never rewritten.
        "auto-aof-rewrite-percentage": "0",
    }


def replicating(place: NodePlace, min_replicas: int) -> dict[str, str]:
    """The configuration of a server that has or is a replica, by name."""
    return {
        # Replicas and Sentinels tell each other where they are.
        "replica-announce-ip": place.listen.host,
        "bind-source-addr": place.listen.host,
        "repl-diskless-sync-delay": "0",
        "min-replicas-to-write": str(min_replicas),
        "min-replicas-max-lag": "1",
    }


def held_in(told: Any, names: Sequence[str]) -> dict[str, Any]:
    """The values that a read answered; lacks missing cells.

    Raises:
        NodeReply: The answer is not of that shape; a definite failure, as a read has no
            effects.
    """
    try:
        return {
            name: msgspec.json.decode(text)
            for name, text in zip(names, told, strict=True)
            if text is not None
        }
    except (ValueError, TypeError) as error:
        text = f"answered a read with {told!r:.100}"
        raise NodeReply(definite=True, text=text) from error


async def ask(endpoint: Endpoint, *words: str) -> Answer:
    """The answer to one command; None if there is none in time."""
    resp = Resp(endpoint)
    try:
        async with asyncio.timeout(CONTROL_TIMEOUT_S):
            return await resp.command(*words)
    except (NodeReply, ServerError, TimeoutError):
        return None
    finally:
        await resp.close()


async def ask_sentinel(place: NodePlace) -> Answer:
    """What a node's Sentinel says of the primary; None if it says nothing in time."""
    return await ask(sentinel_endpoint(place.listen), "SENTINEL", "MASTER", MASTER)


def said_by(answer: Answer) -> dict[str, str]:
    """The fields of what a Sentinel says; none if it is something else."""
    texts = answer if isinstance(answer, list) else []
    words = [text.decode(errors="replace") for text in texts if isinstance(text, bytes)]
    return dict(zip(words[::2], words[1::2], strict=False))


def primary_in(said: Mapping[str, str]) -> tuple[int, str] | None:
    """The epoch of a Sentinel's configuration, and where the primary in it listens."""
    try:
        return int(said["config-epoch"]), f"{said['ip']}:{said['port']}"
    except (KeyError, ValueError):
        return None


def error_of(error: ServerError) -> NodeReply:
    """What an error that Redis answered means for the operation."""
    text = str(error)
    definite = text.partition(" ")[0] in DEFINITE
    code = TEMPORARILY_UNAVAILABLE if definite else None
    return NodeReply(definite=definite, text=text, code=code)


def encoded(value: Any) -> str:
    """A value as JSON. Equal values give equal texts, which cas needs."""
    return json.dumps(value, sort_keys=True)


def sentinel_endpoint(listen: Endpoint) -> Endpoint:
    """Where a node's Sentinel listens: the port above the server's."""
    return Endpoint(listen.host, listen.port + 1)


def redis(_: str, given: Mapping[str, str]) -> Redis:
    """The system with these options; raises UsageError if one is wrong."""
    return Redis(given)


PLUGIN: Plugin[SystemFactory] = Plugin(
    "redis",
    "Redis: one server, or a primary, replicas and Sentinels (Debian's redis-server)",
    redis,
    OPTIONS,
)
