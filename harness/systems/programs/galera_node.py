"""A node of the galera system: a mariadbd, and what an operator does about it.

`python -m harness.systems.programs.galera_node CONFIG`, a JSON file with the fields of
`Config`.

A server that has lost its majority waits for it. If all servers lost theirs by crashes,
they wait for ever, and the manual sends for an operator ("Recovering the Primary
Component"), who looks for the most advanced node and has it begin the cluster anew.
Here the nodes do so: each answers at a port of its own whether it has a majority, and
its place in the order of transactions. A server is started once

    some other node has a majority, which it joins, or
    all other nodes answer that they have none, and it is the most advanced of all.

So nobody begins anew beside a majority. While servers run that have lost theirs, the
second rule waits NO_MAJORITY_S, as they may still find each other by themselves.

A server that ends before it has served, such as one whose donor died, is started again.
If it ends later, so does this program, with its status.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from harness.host.syscalls import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import FrameType

LOOK_S = 0.2
ASK_TIMEOUT_S = 0.5
NO_MAJORITY_S = 5.0
BEGIN_S = 20.0

POSITION = re.compile(r"WSREP: Recovered position:\s*([0-9a-f-]{36}):(-?\d+)")
CLUSTER_STATUS, LAST_COMMITTED = "wsrep_cluster_status", "wsrep_last_committed"
STATUS = f"SHOW STATUS WHERE variable_name IN ('{CLUSTER_STATUS}', '{LAST_COMMITTED}')"
NOWHERE = ("00000000-0000-0000-0000-000000000000", -1)
"""The place of a server that has to be sent everything."""

TRANSFER = "sst_in_progress"
"""The file that is there while state is transferred."""

GRASTATE = """# GALERA saved state
version: 2.1
uuid:    {uuid}
seqno:   -1
safe_to_bootstrap: 1
"""


class Config(NamedTuple):
    """What a node needs to know.

    Attributes:
        server: The command of its server.
        name: Its name.
        answers: Node -> host and port at which it answers others, in cluster order.
        socket: The server's socket for clients of this machine, from its data folder.
        data: The server's data folder.
        begins: Whether it begins the cluster at its first start.
    """

    server: Sequence[str]
    name: str
    answers: dict[str, tuple[str, int]]
    socket: str
    data: str
    begins: bool


class Told(NamedTuple):
    """What a node says of itself.

    Attributes:
        primary: Whether it has a majority, or begins a cluster.
        serves: Whether its server answers, be it to say that it has no majority.
        runs: Whether its server runs.
        seqno: Its place in the order of transactions; -1 if it has none.
    """

    primary: bool
    serves: bool
    runs: bool
    seqno: int


class Node:
    """The server, started and ended as this program's docstring says."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._server: subprocess.Popen[bytes] | None = None
        self._place: tuple[str, int] | None = None
        """Up to where the data goes, as it was found when the server did not run: the
        name of an order of transactions, and a number; None if the server's own state
        says so, as it does at the first start."""
        self._told: Told | None = None
        """What others are told; None while the place is being looked for."""
        self._begins_until = 0.0
        """Until when the server, told to begin a cluster, may take to say that it did;
        by the monotonic clock."""
        self._ends = False

    def end(self, number: int, _: FrameType | None) -> None:
        """Pass on a signal that ends the node."""
        self._ends = True
        if self._server is not None:
            self._server.send_signal(number)

    def run(self) -> int:
        """Look after the server until it ends; returns its status."""
        began = Path(self._config.data).parent / "began"
        if began.exists():
            self._recover()
        else:
            began.touch()
            folder = os.open(began.parent, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)
            self._start(begin=self._config.begins)
        has_served = False
        leaderless_since = time.monotonic()
        while True:
            time.sleep(LOOK_S)
            status = None if self._server is None else self._server.poll()
            if self._ends and (self._server is None or status is not None):
                return status or 0
            if status is not None:
                if has_served:
                    return status if status >= 0 else 128 - status
                self._recover()
            own = self._told = self._look()
            has_served |= own.serves
            others = {} if own.primary else self._ask_all()
            if own.primary or not is_leaderless(others):
                leaderless_since = time.monotonic()
            leaderless_s = time.monotonic() - leaderless_since
            match next_step(self._config.name, own, others, leaderless_s):
                case "join":
                    self._start(begin=False)
                case "give up":
                    self._recover()
                    leaderless_since = time.monotonic()
                case "begin":
                    self._begin()
                    leaderless_since = time.monotonic()
                case "wait":
                    pass

    def _look(self) -> Told:
        """What is known of this node now."""
        begins = time.monotonic() < self._begins_until
        runs = self._server is not None
        status = self._status() if runs else {}
        if LAST_COMMITTED not in status:
            seqno = NOWHERE[1] if self._place is None else self._place[1]
            return Told(begins, serves=False, runs=runs, seqno=seqno)
        primary = status.get(CLUSTER_STATUS) == "Primary"
        if primary:
            self._begins_until = 0.0
        seqno = int(status[LAST_COMMITTED])
        return Told(primary or begins, serves=True, runs=True, seqno=seqno)

    def answer(self, listener: socket.socket) -> None:
        """Tell whoever connects what was seen last, for ever."""
        while True:
            connection, _ = listener.accept()
            with contextlib.suppress(OSError), connection:
                if self._told is not None:
                    connection.sendall(json.dumps(self._told).encode())

    def _ask_all(self) -> dict[str, Told | None]:
        """What every node but this one tells, None if it doesn't answer; in order."""
        nodes = self._config.answers
        return {
            name: ask(at) for name, at in nodes.items() if name != self._config.name
        }

    def _begin(self) -> None:
        """Begin the cluster anew."""
        if self._server is None:
            self._start(begin=True)
            return
        self._begins_until = time.monotonic() + BEGIN_S
        self._told = self._look()
        say("has the server begin the cluster anew")
        self._ask_server("SET GLOBAL wsrep_provider_options = 'pc.bootstrap=1'")

    def _start(self, *, begin: bool) -> None:
        arguments = []
        if self._place is not None:
            uuid, seqno = self._place
            arguments.append(f"--wsrep-start-position={uuid}:{seqno}")
            if begin:
                state = Path(self._config.data) / "grastate.dat"
                state.write_text(GRASTATE.format(uuid=uuid))
        if begin:
            arguments.append("--wsrep-new-cluster")
        say(f"starts the server {' '.join(arguments)}")
        self._begins_until = time.monotonic() + BEGIN_S if begin else 0.0
        self._server = self._spawn(arguments)
        self._told = self._look()

    def _recover(self) -> None:
        """End the server if it runs, and find the place up to which its data goes.

        Raises:
            SystemExit: The data can't be read.
        """
        self._told = None
        if self._server is not None:
            self._server.kill()
            self._server.wait()
        self._server, self._begins_until = None, 0.0
        data = Path(self._config.data)
        marker = data / TRANSFER
        if marker.exists() and is_half_copied(data, marker):
            self._place = NOWHERE
        else:
            reader = self._spawn(["--wsrep-recover"], stderr=subprocess.PIPE)
            said = reader.communicate()[1].decode(errors="replace")
            found = POSITION.findall(said)
            if not found:
                say(said)
                sys.exit("galera_node: the data can't be read")
            self._place = (found[-1][0], int(found[-1][1]))
            # Else later changes of the data would look like those of a transfer.
            marker.unlink(missing_ok=True)

    def _spawn(self, arguments: Sequence[str], **more: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*self._config.server, *arguments],
            preexec_fn=functools.partial(die_with_parent, signal.SIGKILL),
            **more,
        )

    def _status(self) -> dict[str, str]:
        """Status variables of the server; none if it doesn't serve."""
        return dict(self._ask_server(STATUS))

    def _ask_server(self, statement: str) -> Sequence[tuple[str, str]]:
        """The rows of the server's answer; none if it doesn't serve."""
        import pymysql

        try:
            with (
                pymysql.connect(
                    unix_socket=self._config.socket,
                    user="root",
                    connect_timeout=1,
                    read_timeout=1,
                ) as connection,
                connection.cursor() as cursor,
            ):
                cursor.execute(statement)
                return list(cursor.fetchall())
        except (pymysql.err.MySQLError, OSError):
            return []


def is_half_copied(data: Path, marker: Path) -> bool:
    """Whether data were written after a transfer of state began, whose marker it is.

    A transfer is over before the server opens its files.
    """
    began_ns = marker.stat().st_mtime_ns
    files = [*data.rglob("*.ibd"), *data.glob("ibdata*"), *data.glob("ib_logfile*")]
    return any(file.stat().st_mtime_ns > began_ns for file in files)


def say(text: str) -> None:
    """A line in the node's log."""
    sys.stdout.write(f"galera_node: {text}\n")
    sys.stdout.flush()


Step = Literal["wait", "join", "give up", "begin"]
"""To do nothing; to start the server so that it joins the others; to end a server that
never came to serve, and wait; to begin the cluster anew."""


def is_leaderless(others: Mapping[str, Told | None]) -> bool:
    """Whether all other nodes answer, and none has a majority."""
    return all(told is not None and not told.primary for told in others.values())


def next_step(
    name: str, own: Told, others: Mapping[str, Told | None], leaderless_s: float
) -> Step:
    """What a node does next.

    Args:
        name: The node.
        own: What it tells of itself.
        others: What the others tell.
        leaderless_s: For how long `is_leaderless` has held.
    """
    if own.primary:
        return "wait"
    if any(told is not None and told.primary for told in others.values()):
        return "wait" if own.runs else "join"
    if not is_leaderless(others):
        return "wait"
    told_all = {name: own, **{n: told for n, told in others.items() if told}}
    some_run = any(told.runs for told in told_all.values())
    if some_run and leaderless_s < NO_MAJORITY_S:
        return "wait"
    if own.runs and not own.serves:
        return "give up"
    # Of nodes that are equally far, the first by name.
    first = min(told_all, key=lambda n: (-told_all[n].seqno, n))
    return "begin" if first == name else "wait"


def ask(at: tuple[str, int]) -> Told | None:
    """What the node at an address tells; None if it doesn't answer, or nonsense."""
    try:
        with (
            socket.create_connection(at, ASK_TIMEOUT_S) as connection,
            connection.makefile("rb") as answer,
        ):
            return Told(*json.loads(answer.read(1000)))
    except (OSError, ValueError, TypeError):
        return None


def main(arguments: Sequence[str]) -> int:
    """Run the node; returns the server's status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("config", type=Path)
    given = parser.parse_args(arguments)
    config = Config(**json.loads(given.config.read_text()))
    os.chdir(config.data)
    node = Node(config)
    signal.signal(signal.SIGTERM, node.end)
    host, port = config.answers[config.name]
    listener = socket.create_server((host, port))
    threading.Thread(target=node.answer, args=(listener,), daemon=True).start()
    return node.run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
