"""Times reference nodes on loopback: operations a second, and what they cost.

Five Raft nodes without fsync, and clients that do as little as a client can: one epoll
loop, a connection and a key for each client, and one request under way on each. So
almost all of the time is that of the nodes. There are no namespaces, no switch and no
history; `splitbrain run` has all of these.

A client's key is its own, so it knows what each answer must be, and checks it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import psutil

from harness.errors import HarnessError
from harness.systems.wire import Message, decode, encode
from harness.worlds.os.ports import claim_block

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

HOST = "127.0.0.1"
NODES = ("n1", "n2", "n3", "n4", "n5")
CLIENTS_PER_NODE = 10
WARM_UP_OPS = 20
"""Operations of each client before the clock starts: by then there is a leader."""
START_LIMIT_S = 20.0
WARM_UP_TURN_S = 0.05
POLL_S = 0.005
READ_BYTES = 1 << 16

Body = dict[str, Any]


class Client:
    """A client, with its connection, its key, and one request under way.

    Attributes:
        done: Its operations that succeeded.
        refused: Those that were answered with an error, as before there is a leader.
    """

    def __init__(self, number: int, node: str, port: int, next_request: Next) -> None:
        self.number = number
        self.node = node
        self.done = 0
        self.refused = 0
        self.sock = socket.create_connection((HOST, port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._name = f"c{number}"
        self._next_request = next_request
        self._msg_id = 0
        self._value = 0  # what its key holds, unless the last request was refused
        self._turn = 0
        self._wanted: Body = {}
        self._unread = b""

    def ask(self) -> None:
        """Send the next request."""
        request, self._wanted = self._next_request(self.number, self._turn, self._value)
        self._msg_id += 1
        request["msg_id"] = self._msg_id
        self.sock.sendall(encode(Message(self._name, self.node, request)))

    def hear(self) -> None:
        """Take the answer, if it is whole, and ask again.

        Raises:
            HarnessError: It is not what it must be, or the node has gone.
        """
        data = self.sock.recv(READ_BYTES)
        if not data:
            raise HarnessError(f"{self.node} closed the connection")
        line, newline, rest = (self._unread + data).partition(b"\n")
        if not newline:
            self._unread = line
            return
        self._unread = rest
        answer = decode(line).body
        if answer.pop("in_reply_to", None) != self._msg_id:
            raise HarnessError(f"{self.node} answered something else: {line!r:.200}")
        if answer == self._wanted:
            self.done += 1
            self._turn += 1
            self._value = self._turn
        elif answer.get("type") == "error":
            # The request may have taken effect, so the key is written anew.
            self.refused += 1
            self._turn = 0
        else:
            wanted = msgspec.json.encode(self._wanted)
            raise HarnessError(f"{self.node} answered {line!r:.200}, not {wanted!r}")
        self.ask()


Next = Callable[[int, int, int], tuple[Body, Body]]
"""A client's next request and its answer; from the client's number, the operations that
it has done since it was refused, and what its key holds."""


def echo(number: int, turn: int, value: int) -> tuple[Body, Body]:
    """What the node itself answers, whatever its protocol."""
    said = f"please echo {turn}"
    return {"type": "echo", "echo": said}, {"type": "echo_ok", "echo": said}


def write(number: int, turn: int, value: int) -> tuple[Body, Body]:
    """An entry of the log, which a majority has to store."""
    return {"type": "write", "key": number, "value": turn + 1}, {"type": "write_ok"}


def mixed(number: int, turn: int, value: int) -> tuple[Body, Body]:
    """A write, a read, a compare-and-set that succeeds, a read, and so on."""
    match turn % 4:
        case 0:
            return write(number, turn, value)
        case 2:
            body = {"type": "cas", "key": number, "from": turn - 1, "to": turn + 1}
            return body, {"type": "cas_ok"}
        case _:
            wanted = {"type": "read_ok", "value": turn}
            return {"type": "read", "key": number}, wanted


LOADS: Mapping[str, Next] = {"echo": echo, "write": write, "mixed": mixed}


def measure(folder: Path, load: str, limit_s: float) -> dict[str, Any]:
    """Operations a second of all clients, and the processor time of each.

    Returns:
        `ops_s`; and `client_s` and `nodes_s`, seconds of processor time an operation,
        of the process of all clients, and of all nodes together.

    Raises:
        HarnessError: The nodes don't serve, or answered what is wrong.
    """
    with cluster(folder) as (ports, processes), contextlib.ExitStack() as open_sockets:
        clients = [
            Client(number, node, port, LOADS[load])
            for number, (node, port) in enumerate([*ports.items()] * CLIENTS_PER_NODE)
        ]
        for client in clients:
            open_sockets.enter_context(client.sock)
            client.ask()
        warm_up(clients)
        done = sum(client.done for client in clients)
        nodes = [psutil.Process(process.pid) for process in processes]
        begun, own, theirs = time.perf_counter(), time.process_time(), cpu_s(nodes)
        talk(clients, limit_s)
        seconds = time.perf_counter() - begun
        done = sum(client.done for client in clients) - done
        if not done:
            raise HarnessError("the nodes served nothing")
        return {
            "ops_s": done / seconds,
            "client_s": (time.process_time() - own) / done,
            "nodes_s": (cpu_s(nodes) - theirs) / done,
        }


def warm_up(clients: list[Client]) -> None:
    """Let clients talk until all have been served for a while.

    Raises:
        HarnessError: Some are not.
    """
    deadline_s = time.monotonic() + START_LIMIT_S
    while min(client.done for client in clients) < WARM_UP_OPS:
        if time.monotonic() > deadline_s:
            raise HarnessError(f"the nodes don't serve after {START_LIMIT_S:g} s")
        talk(clients, WARM_UP_TURN_S)


def talk(clients: list[Client], limit_s: float) -> None:
    """Let clients talk for some seconds."""
    hear = {client.sock.fileno(): client.hear for client in clients}
    deadline_s = time.perf_counter() + limit_s
    with select.epoll() as epoll:
        for descriptor in hear:
            epoll.register(descriptor, select.EPOLLIN)
        while (left_s := deadline_s - time.perf_counter()) > 0:
            for descriptor, _ in epoll.poll(left_s):
                hear[descriptor]()


def cpu_s(processes: list[psutil.Process]) -> float:
    """Processor time that processes have taken so far."""
    times = [process.cpu_times() for process in processes]
    return sum(each.user + each.system for each in times)


@contextlib.contextmanager
def cluster(
    folder: Path,
) -> Iterator[tuple[dict[str, int], list[subprocess.Popen[bytes]]]]:
    """Ports and processes of nodes that serve, until the block ends.

    Raises:
        HarnessError: A node does not serve.
    """
    block = claim_block(len(NODES))
    ports = dict(zip(NODES, block.ports, strict=True))
    processes: list[subprocess.Popen[bytes]] = []
    with block.claim:
        try:
            processes += [start(folder, node, ports) for node in NODES]
            deadline_s = time.monotonic() + START_LIMIT_S
            for node, port in ports.items():
                wait_until_it_listens(node, port, deadline_s)
            yield ports, processes
        finally:
            for process in processes:
                process.kill()
                process.wait()


def start(folder: Path, node: str, ports: Mapping[str, int]) -> subprocess.Popen[bytes]:
    """Start a node, whose log and data lie in `folder`."""
    argv = [sys.executable, "-P", "-m", "reference_impls.runtime", "raft"]
    peers = {name: f"{HOST}:{port}" for name, port in ports.items() if name != node}
    environment = {
        **os.environ,
        "SPLITBRAIN_NODE": node,
        "SPLITBRAIN_LISTEN": f"{HOST}:{ports[node]}",
        "SPLITBRAIN_PEERS": json.dumps(peers),
        "SPLITBRAIN_DATA": str(folder / node),
        "SPLITBRAIN_OBSERVE": str(folder / f"{node}.observe"),
    }
    with (folder / f"{node}.log").open("ab") as log:
        return subprocess.Popen(
            [*argv, "--option", "fsync=false"], env=environment, stdout=log, stderr=log
        )


def wait_until_it_listens(node: str, port: int, deadline_s: float) -> None:
    """Wait until a node accepts connections.

    Raises:
        HarnessError: It doesn't, by that time of the monotonic clock.
    """
    while time.monotonic() < deadline_s:
        with contextlib.suppress(OSError), socket.create_connection((HOST, port)):
            return
        time.sleep(POLL_S)
    raise HarnessError(f"{node} does not listen after {START_LIMIT_S:g} s")
