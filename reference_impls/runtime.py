"""Runs a protocol core as a process: the one place with clocks, disks and sockets.

    python -m reference_impls.runtime PROTOCOL [--option KEY=VALUE ...] [--mutant NAME]
    python -m reference_impls.runtime PROTOCOL --describe

PROTOCOL names a module of this package that has `SUMMARY`, `FORMAT_VERSION`, `OPTIONS`,
`MOMENTS` (kinds of event that are worth a fault), `MESSAGES` (types of message between
nodes) and `build(node, peers, options, core) -> Actor`; it is imported when asked for.
NAME is a core with one rule broken, out of `reference_impls.mutants.PROTOCOL`. The rest
comes from the environment: SPLITBRAIN_NODE, SPLITBRAIN_LISTEN (host:port),
SPLITBRAIN_PEERS (JSON, peer's name -> host:port), SPLITBRAIN_DATA (a folder), and, if
set, SPLITBRAIN_OBSERVE (a file to which every Observe is appended as a line of JSON).

One thread, and turns of one loop:

1. Wait for sockets and timers. Read what has arrived; the core takes one step per
   message. The clocks are read after the bytes: otherwise a process that is stopped in
   between would judge a message by a time before the message was sent.
2. Fire the timers that are due. Those of 0 ms come last: they close a batch.
3. Write out messages that needn't wait, make the turn's records durable with one
   fdatasync, then write out the messages that had to wait.

So a batch forms by itself: what arrives while the disk works belongs to the next turn.

Peers are trusted to be what they say they are: the faults here are crashes and bad
networks, not lies. Clients aren't trusted at all.

Beside the protocol's own, every node answers `init`, `echo`, `status` and `clock`.

Choices: the loop is written on epoll, because importing asyncio alone takes longer
(25 ms) than a node may need to start, and because batching needs to know where a turn
ends. Exit status: 64 bad usage, 65 the data folder can't be used, 71 the machine
refuses (address in use, disk failed), 70 the protocol broke one of its invariants.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import re
import selectors
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any, NoReturn

from reference_impls.actor import (
    MALFORMED_REQUEST,
    NODE_NOT_FOUND,
    Actor,
    Body,
    CancelTimer,
    Effect,
    Flag,
    Now,
    Observe,
    Option,
    Persist,
    Received,
    Reply,
    Send,
    SetTimer,
    TimerFired,
    error,
    settings,
)
from reference_impls.json_text import encode as encode_json
from reference_impls.transport import (
    CONNECTIONS_MAX,
    HELLO,
    Connection,
    PeerLink,
    Peers,
    Stream,
    listen,
)
from reference_impls.wal import Identity, WalError, WriteAheadLog
from reference_impls.wire import (
    PEER_LINE_BYTES_MAX,
    MalformedError,
    decode,
    encode_reply,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

EXIT_USAGE = 64
EXIT_DATA = 65
EXIT_INVARIANT = 70
EXIT_MACHINE = 71

RUNTIME_OPTIONS = (
    Option(
        "fsync",
        "true",
        "wait for the disk before answering; false survives a killed process, but "
        "not a machine without power",
        Flag(),
    ),
)
"""Options that every protocol has."""

QUIET = frozenset(
    {
        "accepted",
        "appended",
        "applied",
        "chosen",
        "committed",
        "decided",
        "delivered",
        "learned",
        "precommitted",
        "precommitting",
        "promised",
        "proposed",
        "voted",
    }
)
"""Observations too frequent for the log on stderr."""

ACCEPT_AGAIN = ("listener", "")
ACCEPT_AGAIN_MS = 100

MALFORMED_LINES_MAX = 100
"""Malformed lines after which a connection is closed."""


class Node:
    """An actor with its clocks, timers, log and sockets.

    Args:
        name: This node's name.
        actor: The protocol core, not started yet.
        address: Where to listen.
        peers: Every other node's name and address.
        wal: The open log.
        observe_path: A file for observations, or None.

    Raises:
        OSError: From the constructor: the node can't listen at the address.
    """

    def __init__(
        self,
        name: str,
        actor: Actor,
        address: tuple[str, int],
        peers: Mapping[str, tuple[str, int]],
        wal: WriteAheadLog,
        observe_path: str | None,
    ) -> None:
        self.name = name
        self.actor = actor
        self.wal = wal
        self.observations = Observations(name, observe_path)
        self.selector = selectors.DefaultSelector()
        self.timers = Timers()
        self.alarms: dict[str | tuple[str, str], Callable[[], None]] = {}
        self.listener = listen(address)
        self.accept_again()
        self.connections: set[Connection] = set()
        self.links = {
            peer: PeerLink(
                name,
                peer,
                where,
                self.selector,
                self.on_line,
                self.alarm_setter(peer),
            )
            for peer, where in peers.items()
        }
        self.peers = Peers(name, self.links)
        for peer, link in self.links.items():
            self.alarms["link", peer] = link.on_alarm
        self.alarms[ACCEPT_AGAIN] = self.accept_again
        self.dirty: set[Stream] = set()  # with bytes to write
        # messages that wait until the records before them are durable
        self.held: list[tuple[Stream, bytes]] = []
        # the body that was sent last, and its JSON
        self.encoded: tuple[Body | None, bytes] = (None, b"")
        self.counters = dict.fromkeys(
            ("received", "sent", "replies", "malformed", "misdirected", "closed"), 0
        )
        self.carry_out_one: dict[type[Effect], Callable[[Any], None]] = {
            Persist: self.persist,
            Send: self.send,
            Reply: self.reply,
            SetTimer: self.set_timer,
            CancelTimer: self.cancel_timer,
            Observe: self.observe,
        }

    # --- the loop ----------------------------------------------------------------

    def run(self) -> NoReturn:
        """Serve until killed."""
        self.carry_out(self.actor.start(self.wal.recovered))
        self.wal.recovered = []
        for link in self.links.values():
            link.connect()
        self.log(f"listens, pid {os.getpid()}")
        self.flush()
        while True:
            self.turn()

    def turn(self) -> None:
        """One turn of the loop."""
        for key, mask in self.selector.select(self.timers.wait_s()):
            key.data(mask)
        self.fire_timers()
        self.flush()

    def fire_timers(self) -> None:
        """Fire timers until none is due; a timer of 0 ms may set another."""
        while (name := self.timers.pop_due()) is not None:
            if isinstance(name, str):
                self.carry_out(self.actor.step(TimerFired(name, read_clocks())))
            else:
                self.alarms[name]()

    def flush(self) -> None:
        """Write out, make records durable, write out the messages that had to wait."""
        # Observations go before messages. After a kill in between, others would act on
        # a message whose observation is missing. Records are handed to the operating
        # system before either: what a message says, told too early or not, is lost with
        # the power and not with the process.
        if self.wal.pending:
            self.wal.write()
            self.observations.flush()
            self.flush_sockets()
            self.wal.sync()
            for out, data in self.held:
                self.queue(out, data)
            self.held.clear()
            self.observations.release()
        self.observations.flush()
        self.flush_sockets()

    def flush_sockets(self) -> None:
        """Write each socket's messages with one system call."""
        while self.dirty:
            self.dirty.pop().flush()

    # --- effects -----------------------------------------------------------------

    def carry_out(self, effects: Sequence[Effect]) -> None:
        """Carry out effects in order."""
        for effect in effects:
            self.carry_out_one[type(effect)](effect)

    def persist(self, effect: Persist) -> None:
        """Append a record, which the end of the turn makes durable."""
        self.wal.append(effect.record, replaces=effect.replaces)

    def send(self, effect: Send) -> None:
        """Send to a peer; a body that goes to several is encoded once."""
        body, data = self.encoded
        if body is not effect.body:
            data = encode_json(effect.body).encode()
            self.encoded = (effect.body, data)
        self.counters["sent"] += 1
        dest = effect.dest
        self.emit(self.peers.way_to(dest), self.links[dest].frame(data))

    def reply(self, effect: Reply) -> None:
        """Send an answer back on the connection by which the request came."""
        request = effect.request
        stream = request.channel
        assert isinstance(stream, Stream)
        self.counters["replies"] += 1
        data = encode_reply(self.name, request.src, request.body, effect.body)
        self.emit(stream, data)

    def emit(self, out: Stream, data: bytes) -> None:
        """Queue bytes at once, or once the records appended before them are durable."""
        if self.wal.pending:
            self.held.append((out, data))
        else:
            self.queue(out, data)

    def queue(self, out: Stream, data: bytes) -> None:
        """Queue bytes for the next `flush_sockets`."""
        out.write(data)
        self.dirty.add(out)

    def set_timer(self, effect: SetTimer) -> None:
        """Start a timer now."""
        if effect.patience_ms:
            self.timers.set_unless_set(effect.name, effect.patience_ms)
        else:
            self.timers.set(effect.name, effect.min_ms, effect.max_ms)

    def cancel_timer(self, effect: CancelTimer) -> None:
        """Stop a timer now."""
        self.timers.cancel(effect.name)

    def observe(self, effect: Observe) -> None:
        """Record an observation; log it too, unless its kind is frequent."""
        self.observations.add(effect, waits=bool(self.wal.pending))
        if effect.kind not in QUIET:
            fields = " ".join(f"{k}={v}" for k, v in effect.fields.items())
            self.log(f"{effect.kind} {fields}")

    def alarm_setter(self, peer: str) -> Callable[[float], None]:
        """The function by which the link to `peer` sets its alarm."""
        return lambda after_ms: self.timers.set(("link", peer), after_ms, after_ms)

    # --- what arrives ------------------------------------------------------------

    def on_accept(self, mask: int) -> None:
        """Accept all connections that are waiting."""
        while True:
            try:
                sock, _ = self.listener.accept()
            except BlockingIOError:
                return
            except OSError as e:
                # Perhaps no descriptor is left. The listener stays ready, so the loop
                # would spin.
                self.log(f"can't accept for {ACCEPT_AGAIN_MS} ms: {e}")
                self.selector.unregister(self.listener)
                self.timers.set(ACCEPT_AGAIN, ACCEPT_AGAIN_MS, ACCEPT_AGAIN_MS)
                return
            if len(self.connections) >= CONNECTIONS_MAX:
                sock.close()
                self.log(f"refused a connection: {CONNECTIONS_MAX} are open")
                continue
            self.connections.add(
                Connection(sock, self.selector, self.on_line, self.on_close)
            )

    def accept_again(self) -> None:
        """Wait for connections."""
        self.selector.register(self.listener, selectors.EVENT_READ, self.on_accept)

    def on_close(self, connection: Connection, why: str) -> None:
        """Forget a connection that ended; log `why` unless it is empty."""
        self.connections.discard(connection)
        self.peers.forget(connection)
        if why:
            self.counters["closed"] += 1
            self.log(f"closed a connection: it {why}")

    def on_line(self, stream: Stream, line: bytes) -> None:
        """Handle one line, which anyone may have sent."""
        try:
            src, dest, body = decode(line)
        except MalformedError as e:
            self.on_malformed(stream, e)
            return
        self.counters["received"] += 1
        if dest != self.name:
            self.counters["misdirected"] += 1
            text = f"this is {self.name}, not {dest}"
            self.answer(stream, src, body, error(NODE_NOT_FOUND, text))
            return
        link = self.links.get(src)
        if link is not None:
            stream.line_bytes_max = PEER_LINE_BYTES_MAX
            if not link.connected:
                link.on_heard()
            if body["type"] == HELLO:
                self.peers.on_hello(src, stream)
                return
        elif body["type"] in OWN_REQUESTS:
            reply = OWN_REQUESTS[body["type"]](self, body)
            self.answer(stream, src, body, reply)
            return
        event = Received(src, body, read_clocks(), stream)
        self.carry_out(self.actor.step(event))

    def on_malformed(self, stream: Stream, flaw: MalformedError) -> None:
        """Answer what is wrong with a line; close a connection that sent too many."""
        self.counters["malformed"] += 1
        stream.malformed += 1
        if stream.malformed == 1:
            self.log(f"malformed: {flaw.text}")
        reply = error(MALFORMED_REQUEST, flaw.text)
        self.answer(stream, flaw.src, flaw.body, reply)
        if stream.malformed >= MALFORMED_LINES_MAX:
            stream.close(f"sent {stream.malformed} malformed lines")

    def answer(self, stream: Stream, dest: str, request: Body, reply: Body) -> None:
        """Answer for the node itself, at once: such an answer rests on no record."""
        self.queue(stream, encode_reply(self.name, dest, request, reply))

    # --- what a node answers by itself -------------------------------------------

    def status(self, body: Body) -> dict[str, Any]:
        """The core's status, and what the runtime counted."""
        peers = {peer: link.connected for peer, link in self.links.items()}
        return {
            "type": "status_ok",
            **self.actor.status(),
            "connected": peers,
            "counters": self.counters,
        }

    def log(self, text: str) -> None:
        """Write a line to stderr, with the time by this node's own clock."""
        seconds, rest = divmod(time.time_ns(), 1_000_000_000)
        at = time.strftime("%H:%M:%S", time.gmtime(seconds))
        sys.stderr.write(f"{at}.{rest // 1_000_000:03d} {self.name} {text}\n")
        sys.stderr.flush()


def echo(node: Node, body: Body) -> dict[str, Any]:
    """Maelstrom's echo."""
    return {"type": "echo_ok", "echo": body.get("echo")}


def init(node: Node, body: Body) -> dict[str, Any]:
    """Maelstrom's init, which tells a node nothing new here."""
    return {"type": "init_ok"}


def clock(node: Node, body: Body) -> dict[str, Any]:
    """The node's clocks as the node sees them."""
    now = read_clocks()
    return {"type": "clock_ok", "wall_ns": now.wall_ns, "mono_ns": now.mono_ns}


OWN_REQUESTS: Mapping[str, Callable[[Node, Body], dict[str, Any]]] = {
    "init": init,
    "echo": echo,
    "status": Node.status,
    "clock": clock,
}


class Timers:
    """Deadlines on the monotonic clock, by name. A dict and a scan do for so few.

    A monotonic clock that runs backwards is a broken machine, or a harness that plays
    one. Deadlines then move back with it: the process would otherwise stand still for
    as long as the clock was set back. A clock that leaps ahead makes everything due.
    """

    def __init__(self) -> None:
        self.deadlines_ns: dict[str | tuple[str, str], int] = {}
        self.last_ns = time.monotonic_ns()

    def now_ns(self) -> int:
        """The monotonic clock, with deadlines moved if it ran backwards."""
        now_ns = time.monotonic_ns()
        if now_ns < self.last_ns:
            back_ns = self.last_ns - now_ns
            for name in self.deadlines_ns:
                self.deadlines_ns[name] -= back_ns
        self.last_ns = now_ns
        return now_ns

    def set(self, name: str | tuple[str, str], min_ms: float, max_ms: float) -> None:
        """(Re)start a timer with a duration drawn evenly from the bounds."""
        after_ms = min_ms + (max_ms - min_ms) * draw() if max_ms > min_ms else min_ms
        self.deadlines_ns[name] = self.now_ns() + int(after_ms * 1e6)

    def set_unless_set(self, name: str, after_ms: float) -> None:
        """Start a timer that may be running already: then it fires no later."""
        if name not in self.deadlines_ns:
            self.set(name, after_ms, after_ms)

    def cancel(self, name: str) -> None:
        """Stop a timer."""
        self.deadlines_ns.pop(name, None)

    def wait_s(self) -> float | None:
        """How long until the next is due; None when there is none."""
        if not self.deadlines_ns:
            return None
        now_ns = self.now_ns()  # first: it may move the deadlines
        return max(0.0, (min(self.deadlines_ns.values()) - now_ns) / 1e9)

    def pop_due(self) -> str | tuple[str, str] | None:
        """The timer that was due first, taken off; None when none is due."""
        if not self.deadlines_ns:
            return None
        now_ns = self.now_ns()  # first: it may move the deadlines
        if min(self.deadlines_ns.values()) > now_ns:
            return None  # as in most turns, so this comes before the search for a name
        name = min(self.deadlines_ns, key=self.deadlines_ns.__getitem__)
        del self.deadlines_ns[name]
        return name


def draw() -> float:
    """A number drawn evenly from [0, 1).

    Importing `random` instead would cost 3 ms of a node's start.
    """
    return int.from_bytes(os.urandom(6), "little") / (1 << 48)


class Observations:
    """Appends observations to a file as lines of JSON; does nothing without a path."""

    def __init__(self, node: str, path: str | None) -> None:
        self.node_json = encode_json(node)
        self.seq = 0
        self.lines: list[str] = []
        self.held: list[str] = []
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self.fd = os.open(path, flags, 0o644) if path else -1

    def add(self, effect: Observe, *, waits: bool) -> None:
        """Add a line with a sequence number, this node's clocks, kind and fields.

        Args:
            effect: What was observed.
            waits: It isn't known before `release`.
        """
        if self.fd < 0:
            return
        fields = f",{encode_json(effect.fields)[1:]}" if effect.fields else "}"
        line = (
            f'{{"seq":{self.seq},"mono_ns":{time.monotonic_ns()},'
            f'"wall_ns":{time.time_ns()},"node":{self.node_json},'
            f'"kind":"{effect.kind}"{fields}'
        )
        self.seq += 1
        (self.held if waits else self.lines).append(line)

    def release(self) -> None:
        """What had to wait is known with the next `flush`."""
        self.lines += self.held
        self.held.clear()

    def flush(self) -> None:
        """Hand what is known to the kernel."""
        if self.lines:
            os.write(self.fd, ("\n".join(self.lines) + "\n").encode())
            self.lines.clear()


def read_clocks() -> Now:
    """This node's clocks, now."""
    return Now(time.time_ns(), time.monotonic_ns())


# --- command line ----------------------------------------------------------------


def fail(status: int, text: str) -> NoReturn:
    """End with one line on stderr."""
    sys.stderr.write(f"reference_impls.runtime: {text}\n")
    raise SystemExit(status)


def load(protocol: str) -> Any:
    """The protocol's module. The name is checked first: it becomes an import."""
    if not re.fullmatch(r"[a-z_0-9]+(\.[a-z_0-9]+)*", protocol):
        fail(EXIT_USAGE, f"{protocol!r} is no name of a protocol")
    name = f"reference_impls.{protocol}"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as e:
        if e.name is None or not name.startswith(e.name):
            raise
        fail(EXIT_USAGE, f"there is no protocol {protocol!r}")
    if not hasattr(module, "build"):
        fail(EXIT_USAGE, f"{protocol!r} is no protocol: it has no build()")
    return module


def describe(protocol: str, module: Any) -> str:
    """The protocol and its options as JSON."""
    options = [
        {
            "name": option.name,
            "default": option.default,
            "meaning": option.meaning,
            "takes": option.kind.told,
            "choices": list(getattr(option.kind, "choices", ())),
        }
        for option in (*module.OPTIONS, *RUNTIME_OPTIONS)
    ]
    return json.dumps(
        {"protocol": protocol, "summary": module.SUMMARY, "options": options}, indent=2
    )


def parse_arguments(arguments: Sequence[str]) -> tuple[dict[str, str], str]:
    """Parse `--option K=V`, any number of times, and `--mutant NAME`.

    Between a flag and its value stands a space or `=`.

    Returns:
        Options by name, and the mutant's name or "".
    """
    given: dict[str, str] = {}
    mutant = ""
    rest = list(arguments)
    while rest:
        flag, _, text = rest.pop(0).partition("=")
        if flag not in {"--option", "--mutant"}:
            fail(EXIT_USAGE, f"unknown argument {flag!r}; {USAGE}")
        text = text or (rest.pop(0) if rest else "")
        if flag == "--mutant":
            mutant = text or fail(EXIT_USAGE, "--mutant needs a name")
            continue
        name, equals, value = text.partition("=")
        if not equals:
            fail(EXIT_USAGE, f"--option needs KEY=VALUE, not {text!r}")
        given[name] = value
    return given, mutant


def find_mutant(protocol: str, name: str) -> Any:
    """The protocol's mutant of that name."""
    module = f"reference_impls.mutants.{protocol}"
    try:
        mutants = importlib.import_module(module).MUTANTS
    except ModuleNotFoundError as e:
        if e.name != module:
            raise
        mutants = {}
    if name not in mutants:
        known = ", ".join(mutants) or "none"
        fail(EXIT_USAGE, f"{protocol} has no mutant {name!r} (there are: {known})")
    return mutants[name]


USAGE = (
    "usage: python -m reference_impls.runtime PROTOCOL "
    "[--describe | --option KEY=VALUE ... --mutant NAME]"
)


def environment(name: str) -> str:
    """The value of an environment variable; exits if it isn't set."""
    value = os.environ.get(name, "")
    if not value:
        fail(EXIT_USAGE, f"{name} is not set")
    return value


def parse_address(text: Any, what: str) -> tuple[str, int]:
    """The host and port of `text`, "host:port"; exits if it is something else."""
    host, _, port = text.rpartition(":") if isinstance(text, str) else ("", "", "")
    if not host or not port.isdecimal() or int(port) > 65_535:
        fail(EXIT_USAGE, f"{what}: {text!r} is not host:port")
    return host.strip("[]"), int(port)


def parse_peers(text: str) -> dict[str, tuple[str, int]]:
    """Peer -> address, out of SPLITBRAIN_PEERS; exits if they aren't well formed."""

    def once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        for name in names:
            if names.count(name) > 1:
                fail(EXIT_USAGE, f"SPLITBRAIN_PEERS names {name} twice")
        return dict(pairs)

    try:
        peers = json.loads(text, object_pairs_hook=once_each)
    except ValueError as e:
        fail(EXIT_USAGE, f"SPLITBRAIN_PEERS is not JSON: {e}")
    if not isinstance(peers, dict):
        fail(EXIT_USAGE, "SPLITBRAIN_PEERS is no JSON object")
    return {
        name: parse_address(where, f"SPLITBRAIN_PEERS, {name}")
        for name, where in peers.items()
    }


def make_node(
    protocol: str, module: Any, given: Mapping[str, str], mutant: str
) -> Node:
    """The node that the environment describes."""
    changed: dict[str, Any] = {}
    log = WriteAheadLog
    if mutant:
        found = find_mutant(protocol, mutant)
        changed, log = {"core": found.core}, found.log or log
    try:
        options = settings((*module.OPTIONS, *RUNTIME_OPTIONS), given)
        name = environment("SPLITBRAIN_NODE")
        peers = parse_peers(environment("SPLITBRAIN_PEERS"))
        peers.pop(name, None)
        actor: Actor = module.build(name, tuple(peers), options, **changed)
    except ValueError as e:
        fail(EXIT_USAGE, f"{protocol}: {e}")
    address = parse_address(environment("SPLITBRAIN_LISTEN"), "SPLITBRAIN_LISTEN")
    try:
        identity = Identity(protocol, module.FORMAT_VERSION, name)
        wal = log(environment("SPLITBRAIN_DATA"), identity, fsync=options["fsync"])
        if wal.note:
            sys.stderr.write(f"{name} {wal.note}\n")
        observe_path = os.environ.get("SPLITBRAIN_OBSERVE")
        return Node(name, actor, address, peers, wal, observe_path)
    except WalError as e:
        fail(EXIT_DATA, str(e))
    except OSError as e:
        fail(EXIT_MACHINE, f"{name}: {e}")


def tune_collector() -> None:
    """Collect cycles rarely: a log of many small dicts makes each full pass slow."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def main(arguments: Sequence[str]) -> None:
    """Run the command line that the module's docstring describes."""
    if not arguments or arguments[0].startswith("-"):
        fail(EXIT_USAGE, USAGE)
    protocol, *rest = arguments
    module = load(protocol)
    if rest == ["--describe"]:
        sys.stdout.write(describe(protocol, module) + "\n")
        return
    node = make_node(protocol, module, *parse_arguments(rest))
    tune_collector()
    try:
        node.run()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except AssertionError:
        traceback.print_exc()
        fail(EXIT_INVARIANT, f"{node.name}: the protocol broke an invariant; stopping")
    except OSError as e:
        fail(EXIT_MACHINE, f"{node.name}: {e}")


if __name__ == "__main__":
    main(sys.argv[1:])
