"""`attach:HOST:PORT,HOST:PORT,...`: nodes that somebody else runs, speaking WIRE.md.

They are called n1, n2, ... in the order in which they are named. Nothing of them is
started here, and faults go as far as their operator gives commands for them, for
instance

    --set kill_command="ssh {host} systemctl kill -s KILL my-node@{port}"
    --set start_command="ssh {host} systemctl start my-node@{port}"

Choices:
    Such nodes outlive a run, and remember it. A run that found the values of an earlier
    one under its keys would convict a right system. So each run has a word of its own
    in front of all keys and names of transactions. Services that have no keys (one set,
    one counter, one broadcast for all) can't be kept apart so, and are not served.
"""

from __future__ import annotations

import re
import secrets
import shlex
import shutil
import socket
import string
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError
from harness.options import Checked, Number, shown
from harness.override import override
from harness.registry import Option, Plugin, nearest, settings
from harness.systems.services import SERVICES
from harness.systems.wire import WireClient
from harness.systems.wire_system import WireSystem
from harness.workload import WireCodec
from harness.worlds.operator import TASKS, Operator, option_of
from harness.worlds.places import Endpoint, Launch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.errors import NodeReply
    from harness.history import Op
    from harness.systems.system import SystemFactory
    from harness.workload import Workload
    from harness.worlds.operator import Task
    from harness.worlds.places import NodePlace

ADDRESS = re.compile(
    r"(?:(?P<host>[A-Za-z0-9._-]+)|\[(?P<ipv6>[0-9A-Fa-f:.]+)\]):(?P<port>[0-9]{1,5})"
)
REACH_TIMEOUT_S = 2.0
COMMAND_CHARS_MAX = 10_000
KEYLESS = frozenset({"broadcast", "grow-set", "pn-counter"})
"""Services with one object for all clients of all runs."""
PLACEHOLDERS: Mapping[Task, tuple[str, ...]] = {
    task: ("node", "host", "port", *(("peers",) if task == "partition" else ()))
    for task in TASKS
}
MEANINGS: Mapping[Task, str] = {
    "kill": "kills {node}, so that it refuses connections, as kill -9 does",
    "start": "starts {node} again, with the data that it had",
    "pause": "stops {node}, as kill -STOP does",
    "resume": "lets it go on",
    "partition": "has {node} hear nothing of {peers} (HOST:PORT,...) any more",
    "heal": "has {node} hear everybody again",
}


def words_for(task: Task) -> Callable[[str], tuple[str, ...]]:
    """The parser of a command: in words, its placeholders checked, its program found.

    It raises UsageError for a command that can't be run.
    """

    def parse(text: str) -> tuple[str, ...]:
        try:
            words = shlex.split(text)
            fields = [f for word in words for f in string.Formatter().parse(word)]
        except ValueError as problem:
            raise UsageError(str(problem)) from problem
        known = PLACEHOLDERS[task]
        for _, name, spec, conversion in fields:
            if name is not None and (name not in known or spec or conversion):
                near = nearest(name, known)
                raise UsageError(
                    f"there is no placeholder {{{shown(name)}}}{near} (known: "
                    f"{', '.join(known)}; write a brace of its own twice)"
                )
        if words and "{" not in words[0] and shutil.which(words[0]) is None:
            raise UsageError(
                f"no program {shown(words[0])} is on PATH, or at that path"
            )
        return tuple(words)

    return parse


OPTIONS = (
    Option(
        "ready_timeout_s",
        "10",
        "how long a node may take to accept connections after start_command",
        Number(0.1, 3600.0),
    ),
    *(
        Option(
            option_of(task),
            "",
            f"a command, without a shell, that {meaning}",
            Checked(
                f"a command with {', '.join(PLACEHOLDERS[task])} in braces, or nothing",
                words_for(task),
                COMMAND_CHARS_MAX,
            ),
        )
        for task, meaning in MEANINGS.items()
    ),
)


class AttachSystem(WireSystem):
    """Nodes that somebody else runs.

    Args:
        addresses: Node -> where it listens.
        given: The options that the user set.

    Raises:
        UsageError: An option does not exist, or a value is impossible.
    """

    name = "attach"
    services = frozenset(SERVICES) - KEYLESS

    def __init__(
        self, addresses: Mapping[str, Endpoint], given: Mapping[str, str]
    ) -> None:
        super().__init__()
        chosen = settings("attach", OPTIONS, given)
        self.ready_timeout_s: float = chosen["ready_timeout_s"]
        commands = {task: chosen[option_of(task)] for task in TASKS}
        self.operator = Operator(addresses, {t: w for t, w in commands.items() if w})
        self.usual_nodes = len(addresses)
        self._word = secrets.token_hex(4)

    def check_nodes(self, nodes: Sequence[str]) -> None:
        """Refuse a number of nodes that isn't that of the addresses.

        Raises:
            UsageError: It isn't.
        """
        if len(nodes) != self.usual_nodes:
            raise UsageError(
                f"attach: there are {self.usual_nodes} addresses, and --nodes says "
                f"{len(nodes)}; leave --nodes out"
            )

    def check_reachable(self) -> None:
        """Refuse nodes that don't run.

        Raises:
            UsageError: One accepts no connections.
        """
        for node, at in self.operator.addresses.items():
            try:
                address = (at.host, at.port)
                socket.create_connection(address, REACH_TIMEOUT_S).close()
            except OSError as problem:
                why = problem.strerror or str(problem)
                raise UsageError(
                    f"attach: {node} accepts no connections at {at} ({why}); start it "
                    "first, as attach: starts nothing"
                ) from problem

    @override
    def launch(self, place: NodePlace) -> Launch:
        """The operator's command, which the world fills in."""
        return Launch(self.operator.commands["start"])

    @override
    def client(self, workload: Workload) -> WireClient:
        """A client whose keys are this run's own."""
        codec = OwnKeys(workload.codec, self._word)
        return WireClient(codec, self.counters, self.dial)


class OwnKeys(WireCodec):
    """A codec with a run's word in front of all keys and names of transactions.

    Args:
        codec: The workload's own codec.
        word: The word.
    """

    def __init__(self, codec: WireCodec, word: str) -> None:
        self._codec = codec
        self._word = word
        self._keys: dict[str, Any] = {}  # as nodes know them -> as the workload does

    @override
    def request(self, op: Op) -> dict[str, Any]:
        body = self._codec.request(op)
        for name in ("key", "id"):
            if name in body:
                body[name] = self._own(body[name])
        if "txn" in body:
            body["txn"] = [[f, self._own(k), v] for f, k, v in body["txn"]]
        if "offsets" in body:
            body["offsets"] = {self._own(k): v for k, v in body["offsets"].items()}
        if "keys" in body:
            body["keys"] = [self._own(key) for key in body["keys"]]
        return body

    @override
    def completion(self, op: Op, body: Mapping[str, Any]) -> Op:
        out = dict(body)
        if isinstance(txn := body.get("txn"), list):
            out["txn"] = [
                [m[0], self._theirs(m[1]), *m[2:]]
                if isinstance(m, list) and len(m) > 1
                else m
                for m in txn
            ]
        for name in ("msgs", "offsets", "decisions", "votes", "coordinated"):
            if isinstance(told := body.get(name), dict):
                # What other runs have left there is not this one's business.
                out[name] = {
                    self._keys[key]: value
                    for key, value in told.items()
                    if key in self._keys
                }
        return self._codec.completion(op, out)

    @override
    def on_error(self, op: Op, error: NodeReply) -> Op | None:
        return self._codec.on_error(op, error)

    def _own(self, key: Any) -> str:
        """A key of the workload, as nodes know it."""
        own = f"{self._word}-{key}" if isinstance(key, str) else f"{self._word}.{key}"
        self._keys[own] = key
        return own

    def _theirs(self, key: Any) -> Any:
        """A key that a node named, as the workload knows it."""
        return self._keys.get(key, key) if isinstance(key, str) else key


def addresses(text: str) -> dict[str, Endpoint]:
    """Node -> where it listens, from `HOST:PORT,HOST:PORT,...`.

    Raises:
        UsageError: An address is none, or comes twice.
    """
    found: dict[str, Endpoint] = {}
    for i, written in enumerate(text.split(","), start=1):
        match = ADDRESS.fullmatch(written.strip())
        if match is None or not 0 < int(match["port"]) < 65_536:
            raise UsageError(
                f"attach: {written.strip()!r:.60} is no address; write "
                "attach:HOST:PORT,HOST:PORT,... with a comma between nodes"
            )
        endpoint = Endpoint(match["host"] or match["ipv6"], int(match["port"]))
        if endpoint in found.values():
            raise UsageError(f"attach: {endpoint} comes twice; each node has its own")
        found[f"n{i}"] = endpoint
    return found


def attach(text: str, given: Mapping[str, str]) -> AttachSystem:
    """The system with these options; raises UsageError if one is wrong."""
    return AttachSystem(addresses(text), given)


PLUGIN: Plugin[SystemFactory] = Plugin(
    "attach",
    "attach:HOST:PORT,... tests nodes that somebody else runs (WIRE.md)",
    attach,
    OPTIONS,
    adapter=True,
)
