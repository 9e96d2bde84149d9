"""`maelstrom:COMMAND`: unmodified nodes of Maelstrom, over stdin and stdout.

Maelstrom (Kingsbury) is a workbench for learning distributed systems: its nodes read
messages from stdin and print messages to stdout, a JSON object a line, and whatever
sockets they would need is the workbench's affair. Here a program of ours stands beside
each node (`programs/maelstrom_bridge.py`); messages between nodes pass through a
process in which faults strike single messages (`harness.worlds.os.router`); clients
speak the wire protocol to the program beside the node; and the services that Maelstrom
offers to its nodes are objects in the harness (`maelstrom_services.py`). A node that is
killed starts with `init` again, as in Maelstrom's newest version: messages that were on
their way to it are gone, and of its memory nothing is left.

Choices: the node runs in the directory in which splitbrain was started, where
Maelstrom's would run in /tmp, as commands such as `go run .` name files relative to it.
Files that outlive a kill may be kept in /tmp, of which each node has one of its own, or
in the folder that SPLITBRAIN_DATA names. Braces in COMMAND mean nothing.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, cast

from harness.errors import HarnessError
from harness.options import Flag, Number, OneOf, Whole
from harness.override import override
from harness.registry import Option, Plugin, settings
from harness.systems import launch as launching
from harness.systems.abilities import Custom
from harness.systems.maelstrom_services import services
from harness.systems.wire import (
    CONTROL_NAME,
    LineSplitter,
    MalformedError,
    Message,
    WireCounters,
    decode,
    encode,
)
from harness.systems.wire_system import READY_CONNECT_TIMEOUT_S, WireSystem, environment
from harness.workload import Opening
from harness.worlds.places import Launch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.systems.maelstrom_services import Service
    from harness.systems.system import SystemFactory
    from harness.workload import Workload
    from harness.worlds.places import NodePlace

BRIDGE = Path(__file__).parent / "programs" / "maelstrom_bridge.py"

PATIENCE_S = 2.0
"""How much longer we wait for a node to be ready than the program beside it waits for
answers to `init`: it says what is wrong, and we could only say that something is."""

CONVERGING = {"settle_s": "10"}
CUSTOMS = {
    "echo": Custom("echo"),
    "unique-ids": Custom("unique_ids"),
    "broadcast": Custom("gossip", CONVERGING),
    "gossip": Custom("gossip", CONVERGING),
    "g-set": Custom("g_set", CONVERGING),
    "g-counter": Custom("pn_counter", {**CONVERGING, "decrements": "false"}),
    "pn-counter": Custom("pn_counter", CONVERGING),
    "lin-kv": Custom("register"),
    "txn-list-append": Custom("list_append"),
    "txn-rw-register": Custom("rw_register", {"initial": "0"}),
    "kafka": Custom("kafka"),
}
"""Maelstrom's names of workloads. As there, nodes have ten seconds to converge."""

OPTIONS = (
    Option(
        "latency_ms",
        "0",
        "how long messages between nodes take, on average; those of clients take none",
        Number(0.0, 10_000.0),
    ),
    Option(
        "latency_dist",
        "constant",
        "how that is distributed",
        OneOf("constant", "uniform", "exponential"),
    ),
    Option(
        "first_node",
        "1",
        "the number in the first node's name, as nodes see it: 0 as in Maelstrom's "
        "--node-count, for nodes that rely on it",
        Whole(0, 1),
    ),
    Option(
        "ready_timeout_s",
        "10",
        "how long a node may take to answer init",
        Number(0.1, 3600.0),
    ),
    Option(
        "log_net_send",
        "false",
        "a node's log has each message that the node sends",
        Flag(),
    ),
    Option(
        "log_net_recv",
        "false",
        "a node's log has each message that the node receives",
        Flag(),
    ),
    *(each for each in launching.OPTIONS if each.name != "ready_timeout_s"),
)


@dataclass
class MaelstromCounters(WireCounters):
    """Counts of what nodes sent.

    Attributes:
        printed: Lines of stdout that are no messages.
        to_n0: Messages to a node n0, where the first one is n1.
        service_messages: Requests to services, and the answers to them.
    """

    printed: int = 0
    to_n0: int = 0
    service_messages: int = 0


class Maelstrom(WireSystem):
    """Maelstrom nodes as a `System`.

    Args:
        words: The command, in words.
        given: The options that the user set.

    Raises:
        UsageError: An option does not exist, or a value is impossible.
    """

    name = "maelstrom"
    rungs = frozenset({"router"})
    services = frozenset(
        {
            *("register", "cas", "txn-append", "txn-register", "log", "grow-set"),
            *("pn-counter", "ids", "echo", "gossip"),
        }
    )
    customs: Mapping[str, Custom] = CUSTOMS
    usual_rate = 100.0
    usually_also: Sequence[str] = ("availability", "messages")

    def __init__(self, words: Sequence[str], given: Mapping[str, str]) -> None:
        super().__init__()
        chosen = settings(self.name, OPTIONS, given)
        self._patience_s: float = chosen["ready_timeout_s"]
        self.ready_timeout_s = self._patience_s + PATIENCE_S
        self.leader_pattern: str = chosen["leader_pattern"]
        self.counters: MaelstromCounters = MaelstromCounters()
        self._words = words
        self._first: int = chosen["first_node"]
        self._latency = [
            *("--latency-ms", str(chosen["latency_ms"])),
            *("--latency-dist", chosen["latency_dist"]),
        ]
        self._log_net = [how for how in ("send", "recv") if chosen[f"log_net_{how}"]]
        self._passed = launching.passed_environment(chosen["pass_env"])
        self._writable = [
            *launching.named_folders(words),
            *launching.writable_paths(chosen["writable"]),
        ]
        self._trusted: bool = chosen["trusted"]
        self._cwd = Path.cwd()
        self._opening: Opening | None = None
        self._offered = services(Random(self.name), time.monotonic)
        self._links: dict[str, HarnessLink] = {}
        self._starts: Counter[str] = Counter()

    def attune(self, workload: Workload) -> None:
        """Take note of what the workload's nodes are told first."""
        self._opening = workload if isinstance(workload, Opening) else None

    @override
    def launch(self, place: NodePlace) -> Launch:
        """The command of the program beside the node, which starts the node."""
        self._links.pop(place.name, None)
        self._starts[place.name] += 1
        nodes = list(place.cluster)
        shown = [f"n{self._first + place}" for place in range(len(nodes))]
        opening = self._opening.opening(shown) if self._opening is not None else None
        router = next(iter(place.peers.values()), "")
        return Launch(
            [
                *(sys.executable, "-I", "-S", str(BRIDGE)),
                *("--nodes", ",".join(nodes)),
                *("--shown", ",".join(shown)),
                *("--starts", str(self._starts[place.name] - 1)),
                *("--patience-s", str(self._patience_s)),
                *("--opening", "" if opening is None else json.dumps(opening)),
                *("--log-net", ",".join(self._log_net)),
                *self._latency,
                *self._words,
            ],
            {**self._passed, **environment(place), "SPLITBRAIN_ROUTER": str(router)},
            self._cwd,
            self._writable,
            self._trusted,
        )

    @override
    async def ready(self, place: NodePlace) -> bool:
        """True once the node has answered `init` and what the workload tells it.

        It may need services before that, so they are connected first.
        """
        link = self._links.get(place.name)
        if link is None or link.is_closed:
            link = await self._connect(place)
            if link is None:
                return False
            self._links[place.name] = link
        return link.ready

    @override
    async def leader(self, places: Sequence[NodePlace]) -> str | None:
        """None: Maelstrom has no request for that, though logs may show it."""
        return None

    async def _connect(self, place: NodePlace) -> HarnessLink | None:
        listen, nodes = place.listen, list(place.cluster)
        loop = asyncio.get_running_loop()

        def pass_on(message: Message) -> None:
            """Give an answer to the node that was asked; the number tells which."""
            number = message.body.get("in_reply_to")
            asked = nodes[number % len(nodes)] if type(number) is int else ""
            if asked in self._links:
                self._links[asked].forward(message)

        try:
            async with asyncio.timeout(READY_CONNECT_TIMEOUT_S):
                _, link = await loop.create_connection(
                    lambda: HarnessLink(
                        place.name, self._offered, self.counters, pass_on
                    ),
                    listen.host,
                    listen.port,
                )
        except (TimeoutError, OSError):
            return None
        return link


class HarnessLink(asyncio.Protocol):
    """Our connection to the program beside a node: services, and what it reports.

    Args:
        node: The node's name.
        offered: The services, by name.
        counters: Gets what is reported.
        pass_on: Takes answers to requests that other nodes were sent.

    Attributes:
        ready: Whether the node has answered all that comes before clients' requests.
        is_closed: Whether the connection has ended, as it does with the node.
    """

    def __init__(
        self,
        node: str,
        offered: Mapping[str, Service],
        counters: MaelstromCounters,
        pass_on: Callable[[Message], None],
    ) -> None:
        self.ready = False
        self.is_closed = False
        self._node = node
        self._offered = offered
        self._counters = counters
        self._pass_on = pass_on
        self._splitter = LineSplitter()
        self._transport: asyncio.Transport
        self._reported: dict[str, int] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say who we are."""
        self._transport = cast("asyncio.Transport", transport)
        self.forward(Message(CONTROL_NAME, self._node, {"type": "harness_link"}))

    def data_received(self, data: bytes) -> None:
        """Serve requests, and take reports."""
        for line in self._splitter.feed(data):
            try:
                message = decode(line)
            except MalformedError:
                self._counters.malformed += 1
                continue
            if message.dest in self._offered:
                self._serve(message)
            elif message.dest == CONTROL_NAME:
                self._take(message.body)
            else:
                self._pass_on(message)

    def forward(self, message: Message) -> None:
        """Send a message on to the program beside the node, if it is still there."""
        if self.is_closed:
            return
        try:
            line = encode(message)
        except HarnessError:  # it is too long, as the value that it carries is
            self._counters.oversize += 1
            return
        self._transport.write(line)

    def connection_lost(self, error: Exception | None) -> None:
        """Note that the program beside the node has ended."""
        self.is_closed = True

    def _serve(self, message: Message) -> None:
        self._counters.service_messages += 2
        answer = self._offered[message.dest].answer(message.src, message.body)
        self.forward(Message(message.dest, self._node, answer))

    def _take(self, report: Mapping[str, Any]) -> None:
        self.ready = report.get("ready") is True
        for name, counter in REPORTED.items():
            count = report.get(name)
            if type(count) is int and 0 <= count < 1 << 53:
                more = count - self._reported.get(name, 0)
                self._reported[name] = count
                total = getattr(self._counters, counter)
                setattr(self._counters, counter, total + max(0, more))


REPORTED: Mapping[str, str] = {
    "printed": "printed",
    "unknown": "unknown",
    "to_n0": "to_n0",
    "oversize": "oversize",
}
"""Count in a report -> the counter that it adds to."""


def maelstrom(command: str, given: Mapping[str, str]) -> Maelstrom:
    """The system with these options; raises UsageError if one is wrong."""
    words = launching.split_words(command, "maelstrom", "python3 echo.py")
    program = launching.find_program(words[0], "maelstrom")
    return Maelstrom([program, *words[1:]], given)


PLUGIN: Plugin[SystemFactory] = Plugin(
    "maelstrom",
    "maelstrom:COMMAND starts nodes of Maelstrom, unmodified (MAELSTROM.md)",
    maelstrom,
    OPTIONS,
    adapter=True,
)
