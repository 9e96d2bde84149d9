"""The program beside each Maelstrom node: speaks to it over stdin and stdout.

    python maelstrom_bridge.py --nodes n1,n2,... --shown n0,n1,... [...] COMMAND...

It starts COMMAND, sends `init` (and what the workload tells its nodes first, such as
`topology`), and carries messages, by their destination:

    n1, n2, ...    to the router (`harness.worlds.os.router`), where faults strike
    c1, c2, ...    to the client whose request is answered
    lin-kv, ...    to the harness, which has the services; no fault strikes there

A node may know itself and the others by other names than the harness: those from n0
on. Everything that it reads and prints has these.

Maelstrom's own process does all this for its nodes. Here there is one for each node,
started and killed with it, so that a node's end takes along what it had not sent yet
and what it had not read, and a pause holds up both.

Clients and the harness speak the wire protocol of WIRE.md. A node is shown requests
under numbers that no other request of the run has: those of clients repeat on each
connection. A node may pass a request on, and any node may answer it: so an answer to
another node's request goes there by way of the harness, which meets no fault either.
The number tells whose request it was. Requests of the harness itself (`status`, ...)
are answered here, with error 10: many Maelstrom nodes end when they are asked for what
they do not know.

Standard library only, as the node's machine may have nothing else. Times are counted in
ticks, as a node's clocks may be skewed and its processes paused.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NoReturn, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

LINE_BYTES_MAX = 1 << 20
"""Longest line of a node, its newline not counted."""

WAITING_BYTES = 8 << 20
"""Bytes that may wait for a slow reader before no more is taken from others."""

REQUESTS_A_START = 1_000_000
"""Requests that a process numbers before its numbers are those of the next."""

TICK_S = 0.1
STRAYS_SHOWN = 3
"""Lines of stdout that are no messages which the node's log shows."""

CONTROL = "c-harness"
"""The harness itself, as the source and destination of messages (WIRE.md)."""

HARNESS_LINK = "harness_link"
"""Type of the request that makes a connection the one for services and reports."""

NOT_SUPPORTED, UNAVAILABLE = 10, 11
EX_OSERR, EX_NOT_FOUND = 71, 127

SERVICES = frozenset({"lin-kv", "seq-kv", "lww-kv", "lin-tso"})

Message = dict[str, Any]


class StrayError(ValueError):
    """A line of the node's stdout is no message; says why."""


def parsed(line: bytes) -> Message:
    """The message on a line of the node's stdout.

    Raises:
        StrayError: There is none.
    """
    try:
        told = json.loads(line, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise StrayError("it is no JSON") from None
    if not isinstance(told, dict):
        raise StrayError("it is no JSON object")
    for name in ("src", "dest"):
        if not isinstance(told.get(name), str):
            raise StrayError(f"it has no {name}")
    if not isinstance(told.get("body"), dict):
        raise StrayError("its body is no object")
    return told


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def as_line(message: Message) -> bytes:
    """The message as a line.

    Raises:
        ValueError, RecursionError: It has a number that JSON has not, or too many
            levels.
    """

    def dumped(*, ascii_only: bool) -> bytes:
        text = json.dumps(
            message, separators=(",", ":"), allow_nan=False, ensure_ascii=ascii_only
        )
        return text.encode() + b"\n"

    try:
        return dumped(ascii_only=False)
    except UnicodeEncodeError:  # half of a surrogate pair
        return dumped(ascii_only=True)


def latency(
    mean_ms: float, distribution: str, chance: random.Random
) -> Callable[[], float]:
    """Draws seconds that a message takes, as Maelstrom's `--latency-dist` has it."""
    mean_s = mean_ms / 1000
    if not mean_s or distribution == "constant":
        return lambda: mean_s
    if distribution == "uniform":
        return lambda: chance.uniform(0.0, 2 * mean_s)
    return lambda: chance.expovariate(1 / mean_s)


class _Lines(asyncio.Protocol):
    """One end of a stream of lines; holds up others when it can't write any more.

    Attributes:
        transport: The stream; None before there is one, and once it has ended.
        oversize: Lines that were dropped, as they were too long.
    """

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.oversize = 0
        self._rest = bytearray()
        self._dropping = False
        self._sources: Callable[[], list[_Lines]] = list

    def holds_up(self, sources: Callable[[], list[_Lines]]) -> None:
        """Have these not read while too much waits to be written here."""
        self._sources = sources

    def write(self, line: bytes) -> None:
        """Send a line, if the stream has not ended."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(line)

    def hold(self) -> None:
        """Read no more for now."""
        if self.transport is not None:
            self.transport.pause_reading()

    def go_on(self) -> None:
        """Read again."""
        if self.transport is not None:
            self.transport.resume_reading()

    def take(self, line: bytes) -> None:
        """Handle a line that came."""

    def ended(self) -> None:
        """Handle the end of the stream."""

    # Callbacks of the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        if hasattr(transport, "set_write_buffer_limits"):
            transport.set_write_buffer_limits(high=WAITING_BYTES)

    def data_received(self, data: bytes) -> None:
        *lines, last = data.split(b"\n")
        for line in lines:
            self._extend(line)
            whole, dropped = bytes(self._rest), self._dropping
            self._rest.clear()
            self._dropping = False
            if not dropped:
                self.take(whole)
        self._extend(last)

    def _extend(self, piece: bytes) -> None:
        if self._dropping:
            return
        self._rest += piece
        if len(self._rest) > LINE_BYTES_MAX:
            self.oversize += 1
            self._dropping = True
            self._rest.clear()

    def pause_writing(self) -> None:
        for source in self._sources():
            source.hold()

    def resume_writing(self) -> None:
        for source in self._sources():
            source.go_on()

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        self.ended()


class _Stdout(_Lines):
    """What the node prints."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self._bridge = bridge

    def take(self, line: bytes) -> None:
        self._bridge.from_node(line)


class _FromRouter(_Lines):
    """The connection to the router: messages of other nodes."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self._bridge = bridge

    def take(self, line: bytes) -> None:
        self._bridge.give(line + b"\n")

    def ended(self) -> None:
        self._bridge.give_up("the router is gone", EX_OSERR)


class _Caller(_Lines):
    """A connection of a client, or of the harness."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self._bridge = bridge

    def take(self, line: bytes) -> None:
        # Of what the harness sends all makes sense.
        with contextlib.suppress(ValueError, RecursionError):
            self._bridge.from_caller(self, parsed(line))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._bridge.callers.add(self)

    def ended(self) -> None:
        self._bridge.callers.discard(self)
        if self._bridge.harness is self:
            self._bridge.harness = None


class Bridge:
    """A Maelstrom node, and what it is connected to.

    Args:
        name: The node's name.
        nodes: All nodes' names, in order.
        shown: The names that the nodes know.
        starts: How often the node was started before.
        opening: Body of a request that the node gets behind `init`; None for none.
        draw_latency_s: Draws how long a message to a node or service takes.
        patience_s: How long the node may take to answer `init`.
        log_net: What the node's log has of its messages: "send", "recv".
    """

    def __init__(
        self,
        name: str,
        nodes: Sequence[str],
        shown: Sequence[str],
        starts: int,
        opening: Message | None,
        draw_latency_s: Callable[[], float],
        patience_s: float,
        log_net: Sequence[str],
    ) -> None:
        self._name = name
        self._log_net = log_net
        self._peers = dict(zip(shown, nodes, strict=True))
        self._place = nodes.index(name)
        self._shown = shown[self._place]
        init = {"type": "init", "node_id": self._shown, "node_ids": list(shown)}
        self._openings = [init]
        self._openings += [opening] if opening is not None else []
        self._draw_latency_s = draw_latency_s
        self._ticks_left = round(patience_s / TICK_S)
        self._patience_s = patience_s
        self._ended: asyncio.Future[int]
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self.stdin = _Lines()
        self.callers: set[_Caller] = set()
        self.harness: _Caller | None = None
        self._stdout = _Stdout(self)
        self._router = _FromRouter(self)
        self._unsent: list[bytes] = []  # for the harness, before it has connected
        self._messages = 0
        self._requests = starts * REQUESTS_A_START
        # Number of a request -> who asked, its name, and the number that it gave.
        self._asked: dict[int, tuple[_Caller | None, str, Any]] = {}
        self._counts = dict.fromkeys(("printed", "unknown", "to_n0", "oversize"), 0)
        self._told: Mapping[str, Any] = {}
        self._first_stray = ""

    async def run(self, command: Sequence[str], host: str, port: int) -> int:
        """Carry messages until the node has ended; its exit status."""
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        loop.set_exception_handler(self._failed)
        router = os.environ.get("SPLITBRAIN_ROUTER", "")
        if router:
            there, _, at = router.rpartition(":")
            await loop.create_connection(lambda: self._router, there, int(at))
            self._router.write(self._name.encode() + b"\n")
            self._router.hold()  # until the node knows its name
        try:
            await loop.create_server(lambda: _Caller(self), host, port)
        except OSError as error:
            log(f"{self._name} can't listen on {host}:{port}: {error.strerror}")
            return EX_OSERR
        try:
            self._process = process = start(command)
        except OSError as error:
            log(f"{command[0]} can't be started: {error.strerror}")
            return EX_NOT_FOUND
        await loop.connect_write_pipe(lambda: self.stdin, process.stdin)
        await loop.connect_read_pipe(lambda: self._stdout, process.stdout)
        self.stdin.holds_up(lambda: [self._router, *self.callers])
        self._router.holds_up(lambda: [self._stdout])
        self._pidfd = os.pidfd_open(process.pid)
        loop.add_reader(self._pidfd, self._node_ended)
        loop.add_signal_handler(signal.SIGTERM, process.terminate)
        self._open()
        while not self._ended.done():
            await asyncio.wait([self._ended], timeout=TICK_S)
            self._tick()
        return self._ended.result()

    @property
    def ready(self) -> bool:
        """Whether the node has answered all that comes before clients' requests."""
        return not self._openings

    def give(self, line: bytes) -> None:
        """Let the node read a message."""
        if "recv" in self._log_net:
            log_message("recv", line)
        self.stdin.write(line)

    def from_node(self, line: bytes) -> None:
        """Carry a message that the node printed, or tell that it is none."""
        try:
            message = parsed(line)
            if "send" in self._log_net:
                log_message("send", line)
            self._carry(message)
        except StrayError as problem:
            self._stray(line, str(problem))
        except (ValueError, RecursionError) as problem:
            self._stray(line, f"it can't be passed on: {problem}")

    def _carry(self, message: Message) -> None:
        dest = message["dest"]
        if dest == self._shown:
            self._to_node(message["src"], message["body"])
        elif dest in self._peers:
            line = as_line(self._numbered(message["src"], dest, message["body"]))
            late_s = self._draw_latency_s()
            to = self._peers[dest].encode()
            self._router.write(b"%b %.6f %b" % (to, late_s, line))
        elif dest in SERVICES:
            line = as_line(message)
            self._after_latency(lambda: self._to_harness(line))
        else:
            self._answer(message)

    def from_caller(self, caller: _Caller, message: Message) -> None:
        """Handle a message of a client, or of the harness or one of its services."""
        body, src = message["body"], message["src"]
        if caller is self.harness and message["dest"] == self._name:
            self._after_latency(lambda: self._to_node(src, body))
        elif caller is self.harness:
            self._answer(message)
        elif body.get("type") == HARNESS_LINK:
            self.harness = caller
            caller.holds_up(lambda: [self._stdout])
            unsent, self._unsent = self._unsent, []
            for each in unsent:
                caller.write(each)
            self._told = {}
            self._report()
        elif src == CONTROL:
            text = "a Maelstrom node is not asked for that"
            self._refuse(caller, message, NOT_SUPPORTED, text)
        elif not self.ready:
            text = f"{self._name} has not answered init yet"
            self._refuse(caller, message, UNAVAILABLE, text)
        else:
            self._ask(caller, src, body)

    def give_up(self, why: str, status: int) -> None:
        """End the node, and this program, for a reason of our own."""
        if not self._ended.done():
            log(why)
            if self._process is not None:
                self._process.kill()
            self._ended.set_result(status)

    def _ask(self, caller: _Caller | None, src: str, body: Message) -> None:
        self._requests += 1
        number = self._requests * len(self._peers) + self._place
        self._asked[number] = caller, src, body.get("msg_id")
        self._to_node(src, {**body, "msg_id": number})

    def _answer(self, message: Message) -> None:
        """Give an answer to the client that asked, here or at another node."""
        dest, body = message["dest"], message["body"]
        number = body.get("in_reply_to")
        if type(number) is not int:
            number = self._place  # nobody's
        known = self._asked.get(number)
        if number > 0 and number % len(self._peers) != self._place:
            self._to_harness(as_line(message))
            return
        if known is None or known[1] != dest:
            self._counts["unknown"] += 1
            if self._counts["unknown"] <= STRAYS_SHOWN:
                log(f"nobody waits for this message: {shown(as_line(message))}")
            self._counts["to_n0"] += dest == "n0"
            return
        del self._asked[number]
        caller, _, theirs = known
        if caller is None:
            self._opened(body)
        else:
            answer = {**body, "in_reply_to": theirs}
            caller.write(as_line({"src": self._name, "dest": dest, "body": answer}))

    def _refuse(self, caller: _Caller, message: Message, code: int, text: str) -> None:
        body = {
            "type": "error",
            "in_reply_to": message["body"].get("msg_id"),
            "code": code,
            "text": text,
        }
        answer = {"src": self._name, "dest": message["src"], "body": body}
        caller.write(as_line(answer))

    def _open(self) -> None:
        """Send the node the next of the requests that come before clients'."""
        if self._openings:
            self._ask(None, "c0", self._openings[0])

    def _opened(self, answer: Message) -> None:
        asked = self._openings[0]["type"]
        if answer.get("type") != f"{asked}_ok":
            why = answer.get("text") or answer.get("code") or answer.get("type")
            self.give_up(f"{self._name} answered {asked} with {why!r:.200}", 1)
            return
        self._openings.pop(0)
        self._open()
        if self.ready:
            self._router.go_on()
        self._report()

    def _to_node(self, src: str, body: Message) -> None:
        self.give(as_line(self._numbered(src, self._shown, body)))

    def _numbered(self, src: str, dest: str, body: Message) -> Message:
        """A message with a number that no other has, as Maelstrom's have one."""
        self._messages += 1
        number = self._messages * len(self._peers) + self._place
        return {"id": number, "src": src, "dest": dest, "body": body}

    def _after_latency(self, carry: Callable[[], None]) -> None:
        late_s = self._draw_latency_s()
        if late_s:
            asyncio.get_running_loop().call_later(late_s, carry)
        else:
            carry()

    def _to_harness(self, line: bytes) -> None:
        if self.harness is None:
            self._unsent.append(line)
        else:
            self.harness.write(line)

    def _stray(self, line: bytes, why: str) -> None:
        self._counts["printed"] += 1
        self._first_stray = self._first_stray or shown(line)
        if self._counts["printed"] <= STRAYS_SHOWN:
            log(
                f"stdout is for messages, and this line is none, as {why}: "
                f"{shown(line)}; print to stderr what is for people"
            )

    def _tick(self) -> None:
        self._counts["oversize"] = self._stdout.oversize
        self._report()
        if self.ready or self._ended.done():
            return
        self._ticks_left -= 1
        if self._ticks_left <= 0:
            asked = self._openings[0]["type"]
            printed = (
                f"; it printed what is no message: {self._first_stray}"
                if self._first_stray
                else ""
            )
            self.give_up(
                f"{self._name} did not answer {asked} with {asked}_ok within "
                f"{self._patience_s:g} s{printed}",
                1,
            )

    def _report(self) -> None:
        """Tell the harness what is new."""
        now = {"type": "report", "ready": self.ready, **self._counts}
        if self.harness is not None and now != self._told:
            self._told = now
            report = {"src": self._name, "dest": CONTROL, "body": now}
            self.harness.write(as_line(report))

    def _failed(
        self, loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]
    ) -> None:
        """End, rather than go on without what a callback should have done."""
        del loop
        cause = context.get("exception")
        self.give_up(f"the program beside the node failed: {cause!r}", EX_OSERR)

    def _node_ended(self) -> None:
        process = self._process
        if process is None or process.poll() is None or self._ended.done():
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._pidfd)
        # What the node printed last is still in the pipe, and reaches its readers.
        loop.call_later(TICK_S, self._end, process.returncode)

    def _end(self, status: int) -> None:
        if not self._ended.done():
            self._ended.set_result(status)


def shown(line: bytes) -> str:
    """The beginning of a line, for a log."""
    return repr(line[:200].decode(errors="replace").rstrip("\n"))


def log(text: str) -> None:
    """Add a line to the node's log."""
    with contextlib.suppress(OSError):
        os.write(2, f"[splitbrain] {text}\n".encode())


def log_message(how: str, line: bytes) -> None:
    """Add a whole message to the node's log, and whether it was sent or received."""
    log(f"{how} {line.decode(errors='replace').strip()}")


def start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start the node, in our environment without what is for this program.

    Raises:
        OSError: It can't be started.
    """
    ours = ("SPLITBRAIN_ROUTER", "SPLITBRAIN_LISTEN", "SPLITBRAIN_PEERS")
    env = {name: text for name, text in os.environ.items() if name not in ours}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, env=env)


def main() -> NoReturn:
    """Run the node, and end as it does."""
    options = argparse.ArgumentParser()
    options.add_argument("--latency-ms", type=float, default=0.0)
    options.add_argument("--latency-dist", default="constant")
    options.add_argument("--patience-s", type=float, default=10.0)
    options.add_argument("--nodes", required=True)
    options.add_argument("--shown", required=True)
    options.add_argument("--starts", type=int, default=0)
    options.add_argument("--opening", default="")
    options.add_argument("--log-net", default="")
    options.add_argument("command", nargs=argparse.REMAINDER)
    given = options.parse_args()
    name = os.environ["SPLITBRAIN_NODE"]
    host, _, port = os.environ["SPLITBRAIN_LISTEN"].rpartition(":")
    chance = random.Random(f"latency {name}")
    bridge = Bridge(
        name,
        given.nodes.split(","),
        given.shown.split(","),
        given.starts,
        json.loads(given.opening) if given.opening else None,
        latency(given.latency_ms, given.latency_dist, chance),
        given.patience_s,
        given.log_net.split(","),
    )
    status = asyncio.run(bridge.run(given.command, host, int(port)))
    if status < 0:  # a signal ended the node, and so it ends us
        with contextlib.suppress(OSError):  # of SIGKILL nobody sets what it does
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


if __name__ == "__main__":
    main()
