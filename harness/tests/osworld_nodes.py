"""Helpers for tests of the os world: isolated test bodies, and nodes that obey."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing.connection
import os
import select
import socket
import time
import traceback
from typing import TYPE_CHECKING, Any

import psutil

from harness.worlds.os.namespaces import in_netns, run_isolated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from harness.worlds.network import Link, LinkCounters, LinkRule
    from harness.worlds.os.proxy import ProxyNetwork
    from harness.worlds.os.switch import SwitchNetwork

DEADLINE_S = 10.0


def isolated(body: Callable[[], None]) -> None:
    """Run a test's body in fresh namespaces; its failure is the test's."""
    words_out, words_in = os.pipe()

    def main() -> int:
        try:
            body()
        except BaseException:
            os.write(words_in, traceback.format_exc().encode()[-60_000:])
            return 1
        return 0

    with os.fdopen(words_out) as words:
        status = run_isolated(main)
        os.close(words_in)
        assert status == 0, words.read()


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait until the condition holds, or fail."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"never came true: {what}"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Agent:
    """A process where a node would be, which runs what the test tells it to.

    Functions are module-level ones of this module, called with plain arguments.
    """

    def __init__(self, netns: int | None) -> None:
        ours, theirs = multiprocessing.connection.Pipe()
        self._pipe = ours
        self.pid = os.fork()
        if self.pid == 0:
            with contextlib.suppress(BaseException):
                ours.close()
                _obey(theirs, netns)
            os._exit(0)
        theirs.close()

    def begin(self, function: Callable[..., Any], *arguments: object) -> None:
        self._pipe.send((function, arguments))

    def finish(self) -> Any:
        problem, result = self._pipe.recv()
        assert not problem, problem
        return result

    def has_answered_within(self, limit_s: float) -> bool:
        return self._pipe.poll(limit_s)

    def call(self, function: Callable[..., Any], *arguments: object) -> Any:
        self.begin(function, *arguments)
        return self.finish()

    def end(self) -> None:
        # Closing alone would not do: agents forked later hold copies of our end.
        self._pipe.send(None)
        os.waitpid(self.pid, 0)


class Cluster:
    """A network, an agent at each node, and an event loop to give rules on."""

    def __init__(self, network: SwitchNetwork | ProxyNetwork) -> None:
        self.network = network
        self.agents = {
            name: Agent(network.netns_fds.get(name)) for name in network.places
        }
        for name, place in network.places.items():
            self.agents[name].call(listen, place.listen.host, place.listen.port)
        self._runner = asyncio.Runner()

    def rules(self, rules: Mapping[Link, LinkRule]) -> None:
        self._runner.run(self.network.set_rules(rules))

    def counters(self) -> Mapping[Link, LinkCounters]:
        return self._runner.run(self.network.counters())

    def peer(self, source: str, target: str) -> tuple[str, int]:
        there = self.network.places[source].peers[target]
        return (there.host, there.port)

    def connections(self) -> set[Link]:
        """Links over which a new connection can be made, all tried at once."""
        for name, agent in self.agents.items():
            peers = {other: self.peer(name, other) for other in self._others(name)}
            agent.begin(reachable, peers)
        return {(a, b) for a in self.agents for b in self.agents[a].finish()}

    def links(self) -> set[Link]:
        return {(a, b) for a in self.agents for b in self._others(a)}

    def _others(self, name: str) -> list[str]:
        return [other for other in self.agents if other != name]

    def end(self) -> None:
        for agent in self.agents.values():
            agent.end()
        self._runner.run(self.network.close())
        self._runner.close()


@contextlib.contextmanager
def cluster(network: SwitchNetwork | ProxyNetwork) -> Iterator[Cluster]:
    """A cluster that ends with the block."""
    one = Cluster(network)
    try:
        yield one
    finally:
        one.end()


def _obey(pipe: multiprocessing.connection.Connection, netns: int | None) -> None:
    with contextlib.ExitStack() as stack:
        if netns is not None:
            stack.enter_context(in_netns(netns))
        while order := pipe.recv():
            function, arguments = order
            try:
                pipe.send(("", function(*arguments)))
            except Exception:
                pipe.send((traceback.format_exc(), None))


# What agents can do. State is of the agent's process.

_sockets: dict[str, socket.socket] = {}


def listen(host: str, port: int) -> None:
    """For TCP; and for datagrams on the same port. Handshakes need no accept."""
    _sockets["listener"] = socket.create_server((host, port), backlog=200)
    _sockets["datagrams"] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    _sockets["datagrams"].bind((host, port))


def reachable(peers: Mapping[str, tuple[str, int]]) -> list[str]:
    """Peers to which a connection can be made; the first SYN decides."""
    trying: dict[int, tuple[str, socket.socket]] = {}
    poll = select.poll()
    for name, address in peers.items():
        attempt = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        attempt.setblocking(False)
        attempt.connect_ex(address)
        trying[attempt.fileno()] = (name, attempt)
        poll.register(attempt, select.POLLOUT)
    done: list[str] = []
    deadline = time.monotonic() + 0.7
    while trying and (left_s := deadline - time.monotonic()) > 0:
        for descriptor, _ in poll.poll(left_s * 1e3):
            name, attempt = trying.pop(descriptor)
            poll.unregister(descriptor)
            if attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                done.append(name)
            attempt.close()
    for _, attempt in trying.values():
        attempt.close()
    return done


def connect(host: str, port: int) -> None:
    _sockets["stream"] = socket.create_connection((host, port), DEADLINE_S)
    _sockets["stream"].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def accept() -> None:
    _sockets["stream"] = _sockets["listener"].accept()[0]


def send(data: bytes) -> None:
    _sockets["stream"].settimeout(DEADLINE_S)
    _sockets["stream"].sendall(data)


def end_sending() -> None:
    _sockets["stream"].shutdown(socket.SHUT_WR)


def stop_listening() -> None:
    _sockets.pop("listener").close()


def is_reset(host: str, port: int) -> bool:
    """Whether a connection ends with a reset, be it at once, not with an end."""
    try:
        connect(host, port)
        _sockets["stream"].recv(1)
    except ConnectionResetError:
        return True
    return False


def fate_of_stream(limit_s: float) -> str:
    """What becomes of the connection within a while: reset, ended, heard or open."""
    _sockets["stream"].settimeout(limit_s)
    try:
        return "heard" if _sockets["stream"].recv(1) else "ended"
    except TimeoutError:
        return "open"
    except ConnectionResetError:
        return "reset"


def hang_up() -> None:
    _sockets.pop("stream").close()


def receive(size: int, timeout_s: float) -> bytes | None:
    """Exactly `size` bytes, less at the end of the stream; None if none come."""
    stream, data = _sockets["stream"], b""
    stream.settimeout(timeout_s)
    try:
        while len(data) < size and (more := stream.recv(size - len(data))):
            data += more
    except TimeoutError:
        return data or None
    return data


def echo(times: int) -> None:
    """Send back what comes, byte by byte."""
    stream = _sockets["stream"]
    stream.settimeout(DEADLINE_S)
    for _ in range(times):
        stream.sendall(stream.recv(1))


def round_trips(times: int) -> list[float]:
    """Seconds that each of some echoes took."""
    taken = []
    for _ in range(times):
        start = time.monotonic()
        send(b"?")
        assert receive(1, DEADLINE_S) == b"?"
        taken.append(time.monotonic() - start)
    return taken


def send_datagrams(host: str, port: int, count: int) -> None:
    """Numbered ones, slowly enough for every buffer on the way."""
    for number in range(count):
        _sockets["datagrams"].sendto(b"%d" % number, (host, port))
        if number % 50 == 49:
            time.sleep(0.002)


def collect_datagrams(quiet_s: float) -> list[int]:
    """The numbers that arrive, in order, until none has for a while."""
    datagrams, numbers = _sockets["datagrams"], []
    datagrams.settimeout(DEADLINE_S)
    try:
        while True:
            numbers.append(int(datagrams.recv(100)))
            datagrams.settimeout(quiet_s)
    except TimeoutError:
        return numbers


def checksum_errors() -> int:
    """UDP datagrams that this namespace dropped for a wrong checksum, or IP headers."""
    with open("/proc/thread-self/net/snmp") as lines:
        tables = [line.split() for line in lines]
    values = {
        (names[0], name): int(value)
        for names, numbers in zip(tables[::2], tables[1::2], strict=True)
        for name, value in zip(names[1:], numbers[1:], strict=True)
    }
    return values["Udp:", "InErrors"] + values["Ip:", "InHdrErrors"]
