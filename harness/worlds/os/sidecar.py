"""A helper process that carries traffic, and the socket over which it gets its orders.

Both networks carry their traffic in a process of its own, forked before the controller
starts its event loop, so that traffic and controller don't wait for each other. They
talk over a socket pair in messages of JSON behind a four-byte length: `SetRules`,
`AskCounters` and `Stop`, each answered by one `Answer`.

Either side notices when the other ends: the sidecar by end-of-file and, if the kernel
offers it, by a signal that can't be ignored; the controller by end-of-file at the next
question, which then raises HarnessError with the sidecar's own last words.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
import sys
import traceback
from typing import TYPE_CHECKING, Protocol

import msgspec

from harness.errors import EXIT_HARNESS, HarnessError
from harness.host import syscalls
from harness.override import override
from harness.worlds.network import Link, LinkCounters, LinkRule, Network

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from harness.worlds.places import NodePlace

_LENGTH = struct.Struct("!I")
_CLOSE_S = 2.0
"""How long a sidecar may take to stop before it is killed."""


class SetRules(msgspec.Struct, tag="set_rules"):
    """The order to replace all rules; links that it doesn't name are healthy."""

    rules: list[tuple[str, str, LinkRule]]


class AskCounters(msgspec.Struct, tag="ask_counters"):
    """The order to tell what each link has done so far."""


class Stop(msgspec.Struct, tag="stop"):
    """The order to end; end-of-file is the answer."""


class Answer(msgspec.Struct):
    """The answer to an order.

    Attributes:
        counters: All counters, in answer to `AskCounters`.
        problem: The traceback of a failure; the sidecar's last words.
    """

    counters: list[tuple[str, str, LinkCounters]] = []
    problem: str = ""


Order = SetRules | AskCounters | Stop


class Carrier(Protocol):
    """The work of a sidecar; called between two pieces of traffic, never during one."""

    def set_rules(self, rules: Mapping[Link, LinkRule]) -> None:
        """Put the rules in force before returning."""
        ...

    def counters(self) -> Mapping[Link, LinkCounters]:
        """Counts of what each directed link did since the run began."""
        ...


class OrderSocket:
    """The sidecar's end of the socket pair; it is readable when `serve` has work."""

    def __init__(self, control: socket.socket, carrier: Carrier) -> None:
        self._control = control
        self._carrier = carrier
        self._decode = msgspec.json.Decoder(Order).decode

    def fileno(self) -> int:
        """The descriptor to wait on, as for select."""
        return self._control.fileno()

    def serve(self) -> bool:
        """Carry out one order and answer it; False if the sidecar is to end."""
        body = _receive(self._control)
        if body is None:
            return False
        order: Order = self._decode(body)
        match order:
            case SetRules(rules):
                self._carrier.set_rules({(a, b): rule for a, b, rule in rules})
                answer = Answer()
            case AskCounters():
                counters = self._carrier.counters()
                answer = Answer([(a, b, count) for (a, b), count in counters.items()])
            case Stop():
                return False
        self._control.sendall(_framed(answer))
        return True


class Sidecar:
    """The controller's side: forks the process, gives orders, notices its death.

    Args:
        name: The sidecar's name in errors: "switch", "proxy".
        links: All directed links.
        capabilities: The fields of LinkRule that it can put in force.
        serve: Runs in the new process until its control socket says stop.
    """

    def __init__(
        self,
        name: str,
        links: Collection[Link],
        capabilities: frozenset[str],
        serve: Callable[[socket.socket], None],
    ) -> None:
        self._name = name
        self._links = frozenset(links)
        self._refused = frozenset(LinkRule.__dataclass_fields__) - capabilities
        self._turn = asyncio.Lock()
        self._decode = msgspec.json.Decoder(Answer).decode
        self._closed = False
        self._obituary = ""
        self._socket, theirs = socket.socketpair()
        self.pid = _fork_serving(name, serve, theirs, self._socket)
        theirs.close()
        self._socket.setblocking(False)

    async def set_rules(self, rules: Mapping[Link, LinkRule]) -> None:
        """Replace all rules; returns once they are in force.

        Raises:
            HarnessError: The sidecar has died, or can't put a rule in force.
        """
        for link, rule in rules.items():
            self._check(link, rule)
        await self._ask(SetRules([(a, b, rule) for (a, b), rule in rules.items()]))

    async def counters(self) -> dict[Link, LinkCounters]:
        """Counts of what each directed link did since the run began.

        Raises:
            HarnessError: The sidecar has died.
        """
        answer = await self._ask(AskCounters())
        return {(a, b): count for a, b, count in answer.counters}

    async def close(self) -> None:
        """Stop the process and wait until it is gone. A second call does nothing.

        Raises:
            HarnessError: The sidecar had died, and nobody had noticed yet.
        """
        if self._closed:
            return
        self._closed = True
        noticed = bool(self._obituary)
        if not noticed:
            await self._stop()
        self._socket.close()
        if self._obituary and not noticed:
            raise HarnessError(self._obituary)

    async def _stop(self) -> None:
        try:
            async with asyncio.timeout(_CLOSE_S), self._turn:
                await self._send(Stop())
                last_words = await self._receive()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            last_words = None
        status = self._wait()
        if last_words is not None or status != 0:
            self._bury(last_words, status)

    def _check(self, link: Link, rule: LinkRule) -> None:
        if link not in self._links:
            raise HarnessError(f"there is no link {link[0]} -> {link[1]}")
        healthy = LinkRule()
        for field in self._refused:
            if getattr(rule, field) != getattr(healthy, field):
                raise HarnessError(f"the {self._name} can't do {field} on a link")

    async def _ask(self, order: Order) -> Answer:
        # Shielded: a caller that is cancelled between question and answer would leave
        # its answer to the next caller.
        return await asyncio.shield(self._exchange(order))

    async def _exchange(self, order: Order) -> Answer:
        async with self._turn:
            if self._closed:
                raise HarnessError(f"the {self._name} is closed")
            if self._obituary:
                raise HarnessError(self._obituary)
            await self._send(order)
            answer = await self._receive()
            if answer is None or answer.problem:
                self._bury(answer, self._wait())
                raise HarnessError(self._obituary)
            return answer

    async def _send(self, order: Order) -> None:
        # If the sidecar is dead, its last words may still be there to read.
        with contextlib.suppress(ConnectionError):
            await asyncio.get_running_loop().sock_sendall(self._socket, _framed(order))

    async def _receive(self) -> Answer | None:
        """The next answer; None at end-of-file."""
        header = await self._read(_LENGTH.size)
        if header is None:
            return None
        body = await self._read(_LENGTH.unpack(header)[0])
        return None if body is None else self._decode(body)

    async def _read(self, size: int) -> bytes | None:
        loop = asyncio.get_running_loop()
        data = b""
        while len(data) < size:
            try:
                more = await loop.sock_recv(self._socket, size - len(data))
            except ConnectionError:
                return None
            if not more:
                return None
            data += more
        return data

    def _wait(self) -> int:
        """The sidecar's exit code or -signal; a short wait, as its socket is closed."""
        with contextlib.suppress(ChildProcessError):
            return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return 0

    def _bury(self, last_words: Answer | None, status: int) -> None:
        end = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
        self._obituary = f"the {self._name} process died ({end})"
        if last_words is not None:
            self._obituary += f":\n{last_words.problem}"


class CarriedNetwork(Network):
    """A `Network` whose traffic a sidecar carries; a rung adds how it is set up.

    Attributes:
        netns_fds: Node -> its network namespace, for the warden that spawns the node;
            empty if nodes share the controller's.
        carrier_pid: The process of the sidecar.
    """

    def __init__(
        self,
        places: Mapping[str, NodePlace],
        netns_fds: Mapping[str, int],
        sidecar: Sidecar,
    ) -> None:
        self.places = places
        self.netns_fds = netns_fds
        self.carrier_pid = sidecar.pid
        self._sidecar = sidecar

    @override
    async def set_rules(self, rules: Mapping[Link, LinkRule]) -> None:
        await self._sidecar.set_rules(rules)

    @override
    async def counters(self) -> Mapping[Link, LinkCounters]:
        return await self._sidecar.counters()

    @override
    async def close(self) -> None:
        await self._sidecar.close()


def _fork_serving(
    name: str,
    serve: Callable[[socket.socket], None],
    control: socket.socket,
    controllers_end: socket.socket,
) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid != 0:
        return pid
    status = EXIT_HARNESS
    # No exception may unwind into the controller's frames: its code would run twice.
    try:
        # Stop signals are for the controller, which needs us while it cleans up.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        syscalls.die_with(parent)
        if sys.platform.startswith("linux"):
            syscalls.set_process_name(f"sb-{name}")
        controllers_end.close()
        serve(control)
        status = 0
    except BaseException:  # a forked child's last words go to the controller
        with contextlib.suppress(OSError):
            control.sendall(_framed(Answer(problem=traceback.format_exc())))
    finally:
        os._exit(status)


def _framed(message: Order | Answer) -> bytes:
    body = msgspec.json.encode(message)
    return _LENGTH.pack(len(body)) + body


def _receive(control: socket.socket) -> bytes | None:
    """The next message, waiting for all of it; None at end-of-file."""
    header = control.recv(_LENGTH.size, socket.MSG_WAITALL)
    if len(header) < _LENGTH.size:
        return None
    size = _LENGTH.unpack(header)[0]
    body = control.recv(size, socket.MSG_WAITALL)
    return body if len(body) == size else None
