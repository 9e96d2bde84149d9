"""Real node processes on loopback, for tests."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
DEADLINE_S = 20.0


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """The first true value of `condition`, which may raise OSError meanwhile."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        try:
            if value := condition():
                return value
        except OSError:
            pass
        time.sleep(0.005)
    raise AssertionError(f"waited {DEADLINE_S} s for {what}")


class NodeClient:
    """A blocking client of one node."""

    def __init__(self, name: str, port: int) -> None:
        self.node = name
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
        self.file = self.sock.makefile("rb")
        self.msg_id = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.sock.close()

    def send(self, **body: Any) -> int:
        self.msg_id += 1
        frame = {
            "src": "c1",
            "dest": self.node,
            "body": {**body, "msg_id": self.msg_id},
        }
        self.sock.sendall(json.dumps(frame).encode() + b"\n")
        return self.msg_id

    def receive(self) -> dict[str, Any]:
        line = self.file.readline()
        if not line:
            raise ConnectionResetError("the node closed the connection")
        body: dict[str, Any] = json.loads(line)["body"]
        return body

    def call(self, **body: Any) -> dict[str, Any]:
        msg_id = self.send(**body)
        reply = self.receive()
        assert reply["in_reply_to"] == msg_id
        return reply


class Processes:
    """A cluster, all of whose processes end with the `with` block."""

    def __init__(
        self, directory: Path, count: int, *options: str, protocol: str = "raft"
    ) -> None:
        self.directory = directory
        self.protocol = protocol
        self.names = [f"n{i + 1}" for i in range(count)]
        self.ports = dict(zip(self.names, free_ports(count), strict=True))
        self.options = options
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        for name in self.names:
            self.start(name)
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self.running):
            self.kill(name)

    def environment(self, name: str) -> dict[str, str]:
        peers = {n: f"127.0.0.1:{p}" for n, p in self.ports.items() if n != name}
        return {
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": str(ROOT),
            "SPLITBRAIN_NODE": name,
            "SPLITBRAIN_LISTEN": f"127.0.0.1:{self.ports[name]}",
            "SPLITBRAIN_PEERS": json.dumps(peers),
            "SPLITBRAIN_DATA": str(self.directory / name),
            "SPLITBRAIN_OBSERVE": str(self.directory / f"{name}.observe"),
        }

    def start(self, name: str) -> None:
        argv = [sys.executable, "-S", "-m", "reference_impls.runtime", self.protocol]
        for option in self.options:
            argv += ["--option", option]
        with (self.directory / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                argv, env=self.environment(name), stdout=log, stderr=log, cwd="/"
            )

    def kill(self, name: str) -> None:
        process = self.running.pop(name)
        process.kill()
        process.wait()

    def signal(self, name: str, number: signal.Signals) -> None:
        self.running[name].send_signal(number)

    def client(self, name: str) -> NodeClient:
        client = wait_for(
            lambda: NodeClient(name, self.ports[name]), f"{name} to listen"
        )
        assert isinstance(client, NodeClient)
        return client

    def call(self, name: str, **body: Any) -> dict[str, Any]:
        with self.client(name) as client:
            return client.call(**body)

    def call_until_ok(self, name: str, **body: Any) -> dict[str, Any]:
        """Repeat a harmless or unique request until it isn't refused."""

        def attempt() -> dict[str, Any] | None:
            reply = self.call(name, **body)
            return None if reply.get("code") in {0, 11, 13} else reply

        reply: dict[str, Any] = wait_for(attempt, f"{name} to serve {body}")
        return reply

    def leader(self, *, without: str | None = None) -> str:
        """The leader that all nodes agree on, and which isn't `without`."""
        voters = [name for name in self.running if name != without]

        def agreed() -> str | None:
            said = [self.call(name, type="status") for name in voters]
            leaders = {(status["leader"], status["term"]) for status in said}
            leader: str | None = leaders.pop()[0]
            return None if leaders or leader == without else leader

        leader: str = wait_for(agreed, f"{voters} to agree on a leader")
        return leader

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text()

    def observations(self, name: str) -> list[dict[str, Any]]:
        text = (self.directory / f"{name}.observe").read_text()
        return [json.loads(line) for line in text.splitlines()]
