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
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.host.syscalls import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

LOOK_S = 0.2
ASK_TIMEOUT_S = 0.5
NO_MAJORITY_S = 5.0

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
        socket: The server's socket for clients of this machine.
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
        self._reads = True
        """Whether the place is being looked for, so that there is nothing to tell."""
        self._begins = False
        """Whether the server was told to begin a cluster, and hasn't said so yet."""
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
        alone_since = None
        while True:
            time.sleep(LOOK_S)
            status = None if self._server is None else self._server.poll()
            if self._ends and (self._server is None or status is not None):
                return status or 0
            if status is not None:
                if has_served:
                    return status if status >= 0 else 128 - status
                self._recover()
            own = self.tell()
            has_served |= own.serves
            others = [] if own.primary else self._ask_all()
            if own.primary or None in others:
                alone_since = None
            elif any(told is not None and told.primary for told in others):
                alone_since = None
                if self._server is None:
                    self._start(begin=False)
            else:
                alone_since = alone_since or time.monotonic()
                told_all = [own, *(told for told in others if told is not None)]
                some_run = any(told.runs for told in told_all)
                if some_run and time.monotonic() - alone_since < NO_MAJORITY_S:
                    continue
                alone_since = None
                if own.runs and not own.serves:
                    self._recover()
                elif self._is_first(own, others):
                    self._begin()

    def tell(self) -> Told:
        """What is known of this node."""
        runs = self._server is not None
        status = self._status() if runs else {}
        if LAST_COMMITTED not in status:
            seqno = NOWHERE[1] if self._place is None else self._place[1]
            return Told(self._begins, serves=False, runs=runs, seqno=seqno)
        primary = status.get(CLUSTER_STATUS) == "Primary"
        self._begins &= not primary
        seqno = int(status[LAST_COMMITTED])
        return Told(primary or self._begins, serves=True, runs=True, seqno=seqno)

    def answer(self, listener: socket.socket) -> None:
        """Tell whoever connects, for ever; nothing while there is nothing to tell."""
        while True:
            connection, _ = listener.accept()
            with contextlib.suppress(OSError), connection:
                if not self._reads:
                    connection.sendall(json.dumps(self.tell()).encode())

    def _ask_all(self) -> list[Told | None]:
        """What the other nodes tell; None for one that doesn't answer."""
        name = self._config.name
        return [ask(at) for other, at in self._config.answers.items() if other != name]

    def _is_first(self, own: Told, others: Sequence[Told | None]) -> bool:
        """Whether this is the most advanced node; of several, the first in order."""
        names = [name for name in self._config.answers if name != self._config.name]
        seqnos = {n: told.seqno for n, told in zip(names, others, strict=True) if told}
        seqnos[self._config.name] = own.seqno
        best = max(seqnos.values())
        first = next(n for n in self._config.answers if seqnos.get(n) == best)
        return first == self._config.name

    def _begin(self) -> None:
        """Begin the cluster anew."""
        if self._server is None:
            self._start(begin=True)
            return
        self._begins = True
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
        self._begins = begin
        self._server = self._spawn(arguments)
        self._reads = False

    def _recover(self) -> None:
        """End the server if it runs, and find the place up to which its data goes.

        Raises:
            SystemExit: The data can't be read.
        """
        self._reads = True
        if self._server is not None:
            self._server.kill()
            self._server.wait()
        self._server, self._begins = None, False
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
        self._reads = False

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
    node = Node(config)
    signal.signal(signal.SIGTERM, node.end)
    host, port = config.answers[config.name]
    listener = socket.create_server((host, port))
    threading.Thread(target=node.answer, args=(listener,), daemon=True).start()
    return node.run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
