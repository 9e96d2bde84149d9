"""MariaDB Galera Cluster: servers that certify each other's transactions.

Promise (MariaDB's documentation, "About Galera Replication"): every node takes writes.
At COMMIT a transaction is broadcast in one order for all, and aborted if another one
that it did not see wrote the same rows. A node applies the transactions of others some
time after they were acknowledged.

Weaknesses that are documented or published:

    sync_wait=0     A read does not wait for what the node has yet to apply, so it may
                    be stale, in a healthy cluster ("wsrep_sync_wait").
    isolation       Only writes are certified, and locks of reads hold on one node. So
                    across nodes no level is serializable, and updates may be lost
                    (https://jepsen.io/analyses/mariadb-galera-cluster-12.1.2).
    flush_log_at_trx_commit
                    With 0 or 2, what was acknowledged is lost if all nodes crash or
                    lose power together (the same report).
    log_bin=off     The usual setting. What other clients have read may be lost if all
                    nodes lose power, as commits are seen before they are durable; so it
                    is on here.

With `clients=first` all clients speak to the first node, and the others are there to
take over: then its locks are locks of all clients.

Nodes: the first one begins the cluster, once. All of them start from the same data,
which the install has made and which has a place in the order of transactions, so no
state has to be transferred in the beginning. A node that comes back looks for its own
place there (`--wsrep-recover`, as Debian's `galera_recovery` does); the others send it
what it lacks, or all that they have (rsync). A node that has no majority does not
serve, but stays up and waits for one. If there is none and won't be one, the most
advanced node begins the cluster anew (`programs/galera_node.py`).

Errors are those of `harness.systems.mariadb`, but for two. 1047, "WSREP has not yet
prepared node for application use", is raised before a statement is carried out, so it
is definite. 1213 says that a transaction lost against another; but the library gives it
too for one that was aborted while its broadcast failed (wsrep-lib, `transaction.cpp`),
and others may have received that. So it is definite only if the node is still among a
majority when it is asked afterwards. All other errors of COMMIT leave the outcome open.

A node serves clients at its own port. Those after it are for peers: messages, the two
kinds of transfers, and what nodes tell each other about their state.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from harness.errors import NodeReply, UsageError
from harness.options import OneOf, Whole
from harness.override import override
from harness.registry import Option, Plugin, settings
from harness.systems import cells, mariadb
from harness.systems.mariadb import MariaDBClient, connect, execute, failures
from harness.systems.programs.galera_node import Config
from harness.systems.services import EVERY
from harness.systems.software import VERSION, Debian, Install, Recipe, Software
from harness.visible import visible_line
from harness.worlds.places import Launch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from harness.systems.system import SystemFactory
    from harness.workload import Workload
    from harness.worlds.places import NodePlace

OPTIONS = (
    *mariadb.TRANSACTIONS,
    Option(
        "sync_wait",
        "7",
        "wsrep_sync_wait, the statements that wait for what was acknowledged: "
        "1 reads, 2 updates, 4 inserts, or a sum of these; 0 none",
        Whole(0, 7),
    ),
    Option(
        "clients",
        "own",
        "first: all speak to the first node; own: each speaks to its own",
        OneOf("own", "first"),
    ),
    VERSION,
)

PROGRAM: Final = "usr/sbin/mariadbd"
LIBRARY: Final = "usr/lib/libgalera_smm.so"

REPLICATED: Final[Mapping[str, str]] = {
    "binlog-format": "ROW",
    "innodb-autoinc-lock-mode": "2",
    "wsrep-on": "on",
}
"""What the library asks for."""

PROVIDER: Final[Mapping[str, str]] = {
    "evs.keepalive_period": "PT0.2S",
    "evs.inactive_check_period": "PT0.2S",
    "evs.suspect_timeout": "PT1S",
    "evs.inactive_timeout": "PT3S",
    "evs.install_timeout": "PT3S",
    "gcache.size": "32M",
    "pc.recovery": "no",  # `programs/galera_node.py` sees to it.
    "pc.wait_prim_timeout": "P1D",  # Later it would give up, and end.
}
"""Options of the library. Its time-outs are a fifth of the usual ones."""

_CONTROL_TIMEOUT_S = 1.0

_WAIT = "SET wsrep_sync_wait = 7"
_HAS_TABLE = "SELECT 1 FROM cells LIMIT 1"

DATA: Final = "data"
"""The folder of an install from which all nodes start."""


def make_data(folder: Path) -> None:
    """Make the data from which nodes start: a cluster of one server that has ended.

    Args:
        folder: The install's.

    Raises:
        UsageError: The server can't be started.
    """
    libraries = ":".join(map(str, folder.glob("usr/lib/*-linux-gnu")))
    found = Install("", folder, folder / PROGRAM, {"LD_LIBRARY_PATH": libraries}, "")
    alone = {
        **REPLICATED,
        "datadir": folder / DATA,
        "socket": mariadb.SOCKET,
        "innodb-flush-method": "nosync",
        "wsrep-provider": folder / LIBRARY,
        "wsrep-provider-options": "gmcast.listen_addr=tcp://127.0.0.1:0;gcache.size=1M",
        "wsrep-node-address": "127.0.0.1",
        "wsrep-cluster-address": "gcomm://",
    }
    flags = ["--skip-networking", "--skip-grant-tables", "--wsrep-new-cluster"]
    server = [*mariadb.program(found), *flags, *mariadb.arguments(alone)]
    script = _MAKE_DATA.format(
        folder=shlex.quote(str(folder)),
        data=DATA,
        make=mariadb.making(found, mariadb.MAKE_DATABASE),
        server=shlex.join(server),
    )
    done = subprocess.run(
        ["/bin/sh", "-ec", script],
        env={**os.environ, **found.env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    if done.returncode:
        said = visible_line(done.stdout[-300:])
        raise UsageError(f"its server can't make a database: {said}")


_MAKE_DATA = """
exec 2>&1
cd {folder}
new=$PWD/{data}
mkdir "$new"
{make}
{server} > log 2>&1 &
server=$!
while ! grep -q 'Synchronized with group' log; do
    kill -0 $server || {{ cat log; exit 1; }}
    sleep 0.1
done
kill $server
wait $server
rm "$new"/aria_log* "$new"/galera.cache log
"""


SOFTWARE = Software(
    "galera",
    (
        Recipe(
            "10.11",
            Debian(("mariadb-server", "galera-4", "rsync")),
            PROGRAM,
            finish=make_data,
        ),
    ),
    driver="aiomysql",
)


class Galera:
    """MariaDB Galera Cluster as a `System`.

    Raises:
        UsageError: An option does not exist, or has no such value.
    """

    name = "galera"
    faults = frozenset({EVERY})
    rungs = frozenset({"switch"})  # One address book for all nodes.
    services = cells.SERVICES
    usual_nodes = 3
    software = SOFTWARE
    invariants: tuple[str, ...] = ()
    ready_timeout_s = 60.0

    def __init__(self, given: Mapping[str, str]) -> None:
        chosen = settings(self.name, OPTIONS, given)
        self._settled = {
            **mariadb.transactions(chosen),
            "wsrep-sync-wait": chosen["sync_wait"],
        }
        self._only_first = chosen["clients"] == "first"
        self._installed = functools.partial(SOFTWARE.find, chosen["version"])

    def check_installed(self) -> None:
        """Raises NotInstalledError unless there is a server, and a driver for it."""
        SOFTWARE.check_driver()
        self._installed()

    def check_nodes(self, nodes: Sequence[str]) -> None:
        """Raises UsageError for one node, which has nobody to certify with."""
        if len(nodes) < 2:
            raise UsageError("galera: a cluster has two nodes or more (--nodes 3)")

    def launch(self, place: NodePlace) -> Launch:
        """The command of a server; at its first start it makes its data folder."""
        found = self._installed()
        assert found.folder is not None, "there is no Galera that is not installed"
        host, port = place.listen.host, place.listen.port
        provider = {
            **PROVIDER,
            "gmcast.listen_addr": f"tcp://{host}:{port + 1}",
            "ist.recv_addr": f"{host}:{port + 2}",
        }
        members = ",".join(f"{e.host}:{e.port + 1}" for e in place.cluster.values())
        settled = {
            **self._settled,
            **REPLICATED,
            "wsrep-provider": found.folder / LIBRARY,
            "wsrep-provider-options": ";".join(f"{k}={v}" for k, v in provider.items()),
            "wsrep-cluster-name": "splitbrain",
            "wsrep-cluster-address": f"gcomm://{members}",
            "wsrep-node-name": place.name,
            "wsrep-node-address": host,
            "wsrep-node-incoming-address": place.listen,
            "wsrep-sst-method": "rsync",
            "wsrep-sst-receive-address": f"{host}:{port + 3}",
        }
        answers = {n: (e.host, e.port + 4) for n, e in place.cluster.items()}
        config = Config(
            server=[*mariadb.program(found), *mariadb.serving(place, settled)],
            name=place.name,
            answers=answers,
            socket=mariadb.SOCKET,
            data=str(mariadb.data_folder(place)),
            begins=place.name == next(iter(answers)) and not place.joins,
        )
        path = place.data_dir / "node.json"
        path.write_text(json.dumps(config._asdict()))
        module = "harness.systems.programs.galera_node"
        node = [sys.executable, "-P", "-m", module, str(path)]
        copy = f'cp -R {shlex.quote(str(found.folder / DATA))}/. "$new"'
        script = f"{mariadb.unless_made(place, copy)}\nexec {shlex.join(node)}"
        # The scripts that transfer state look for programs of the install.
        programs = f"{found.folder / 'usr/bin'}:/usr/sbin:/usr/bin:/sbin:/bin"
        env = {**found.env, "PATH": programs, "PYTHONUNBUFFERED": "1"}
        return Launch(["/bin/sh", "-ec", script], env)

    async def ready(self, place: NodePlace) -> bool:
        """True once the server has caught up with a majority, and serves."""
        try:
            async with asyncio.timeout(_CONTROL_TIMEOUT_S):
                connection = await connect(place.listen)
                try:
                    with failures(connection):
                        return await is_so(connection, "wsrep_ready", "ON")
                finally:
                    connection.close()
        except (NodeReply, TimeoutError):
            return False

    async def prepare(self, places: Sequence[NodePlace]) -> None:
        """Make our table, and wait until every node has it.

        Raises:
            NodeReply: A node refuses.
        """
        for statement, at in (mariadb.TABLE, places[:1]), (_HAS_TABLE, places[1:]):
            for place in at:
                connection = await connect(place.listen)
                try:
                    with failures(connection):
                        await execute(connection, _WAIT)
                        await execute(connection, statement)
                finally:
                    connection.close()

    def client(self, workload: Workload) -> GaleraClient:
        """A client that puts the workload's requests into SQL."""
        return GaleraClient(workload.codec, only_first=self._only_first)


class GaleraClient(MariaDBClient):
    """Requests of a workload, carried out in SQL.

    Args:
        codec: The workload's codec.
        only_first: Whether they go to the first node, whoever the client's own is.
    """

    def __init__(self, codec: Any, *, only_first: bool) -> None:
        super().__init__(codec)
        self._only_first = only_first

    @override
    async def open(self, place: NodePlace) -> None:
        if self._only_first:
            place = replace(place, listen=next(iter(place.cluster.values())))
        await super().open(place)

    @override
    async def answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return await super().answer(body)
        except NodeReply as error:
            if error.code == mariadb.TXN_CONFLICT and not await self._has_majority():
                text = f"{error.text} (the node has no majority)"
                raise NodeReply(definite=False, text=text) from error
            raise

    async def _has_majority(self) -> bool:
        """Whether the node says that it is in the primary component."""
        try:
            with failures(None):
                connection = await self._connected()
                return await is_so(connection, "wsrep_cluster_status", "Primary")
        except NodeReply:
            return False


async def is_so(connection: mariadb.Connection, name: str, value: str) -> bool:
    """Whether a status variable of the server has that value."""
    statement = "SHOW STATUS WHERE variable_name = %s AND value = %s"
    return await execute(connection, statement, name, value) == 1


def galera(_: str, given: Mapping[str, str]) -> Galera:
    """The system with these options; raises UsageError if one is wrong."""
    return Galera(given)


PLUGIN: Plugin[SystemFactory] = Plugin(
    "galera",
    "MariaDB Galera Cluster, whose nodes all take writes",
    galera,
    OPTIONS,
)
