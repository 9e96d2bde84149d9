"""Patroni over PostgreSQL: a primary, standbys, and failover; etcd is beside each node.

Promise (Patroni's documentation, "Replication modes"), by `synchronous_mode`:

    off      Patroni's own default. COMMIT waits for no standby, so a failover loses
             what the new primary had not received. A primary that is cut off goes on
             to acknowledge until it demotes itself, and all of that is lost.
    on       COMMIT waits for a standby, and only such a one is promoted. If there is
             no standby to wait for, Patroni lets the primary commit alone.
    strict   as `on`, but the primary never commits alone

At one primary, PostgreSQL's promise holds for each isolation level
(`harness.systems.postgresql`). It does not always reach to the next primary, and
Patroni says so. A transaction that waits for a standby has committed locally, and is
visible there if the wait is cancelled ("it is still possible to lose transactions even
when using synchronous_mode_strict"). And without a watchdog, a primary that stood still
for longer than its lock lives serves for a moment what it had ("Watchdog support"): a
read may be stale, and with `off` a write may be lost.

A node is an etcd, Patroni, and PostgreSQL, which Patroni starts. PostgreSQL listens at
the node's own port, Patroni's REST interface at the next, etcd at the two above. If
etcd ends, the node has ended.

Faults: one loss of power or one failing disk of the primary is borne (it was tried with
`strict`, under `set`). A failover takes tens of seconds, so faults of these kinds that
follow each other after a few leave a cluster without a primary, and a run that can't be
judged.

Choices:
    The lock of the primary lives for 20 s, the shortest that Patroni takes. Primaries
    demote themselves if they can't renew it for some seconds (`retry_timeout` is 3 s).

    A client asks its own node first whether it can be written to, as libpq does for
    `target_session_attrs`, then the others, and stays connected. So clients stay with a
    primary that is cut off. The same errors are definite as on one server: a primary
    that demotes itself ends its connections.

    A pid that PostgreSQL finds in its lock file is from the node's life before, in
    which all processes ended together. So a starting node removes that file.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import json
import shlex
import sys
from typing import TYPE_CHECKING, Any, Final

from harness.errors import (
    TEMPORARILY_UNAVAILABLE,
    HarnessError,
    NodeReply,
    NotInstalledError,
    Timeout,
)
from harness.options import OneOf
from harness.override import override
from harness.registry import Option, Plugin, settings
from harness.systems import cells, postgresql
from harness.systems.etcd import Etcd, accepts
from harness.systems.postgresql import SQLClient, always, connect, failures
from harness.systems.software import ANY, VERSION, PyPI, Recipe, Software
from harness.worlds.places import Endpoint, Launch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.systems.postgresql import Connection
    from harness.systems.system import SystemFactory
    from harness.workload import WireCodec, Workload
    from harness.worlds.places import NodePlace

OPTIONS = (
    Option(
        "synchronous_mode",
        "strict",
        "whether COMMIT waits for a standby: never, if there is one, or always",
        OneOf("off", "on", "strict"),
    ),
    postgresql.ISOLATION,
    VERSION,
)

_REQUIREMENTS = (
    *("patroni[etcd3]=={version}", "psycopg2-binary>=2.9"),
    *("setuptools", "wheel"),  # python-etcd, which Patroni needs, comes as source.
)

SOFTWARE = Software(
    "patroni",
    tuple(
        Recipe(version, PyPI(_REQUIREMENTS), "patroni/__main__.py")
        for version in ("4.1.5", ANY)
    ),
    driver="asyncpg",
)

PROGRAMS: Final = (
    "pg_basebackup",
    "pg_controldata",
    "pg_ctl",
    "pg_isready",
    "pg_rewind",
)
"""What Patroni needs beside the server; archives with the server alone lack it."""

PREPARE_LIMIT_S: Final = 55.0
_CONTROL_TIMEOUT_S = 1.0

_MAKE_TABLE = postgresql.TABLE.replace("TABLE", "TABLE IF NOT EXISTS", 1)
_STANDBYS = "SELECT sync_state FROM pg_stat_replication WHERE state = 'streaming'"


class Patroni:
    """A cluster under Patroni as a `System`.

    Raises:
        UsageError: An option does not exist, or has no such value.
    """

    name = "patroni"
    faults = postgresql.NODE_FAULTS | postgresql.LINK_FAULTS
    rungs = frozenset({"switch"})  # One address book for all nodes.
    services = cells.SERVICES
    usual_nodes = 3
    invariants: tuple[str, ...] = ()
    ready_timeout_s = 300.0  # Copying a database over FUSE takes long.
    software = SOFTWARE

    def __init__(self, given: Mapping[str, str]) -> None:
        chosen = settings(self.name, OPTIONS, given)
        self._synchronous_mode: str = chosen["synchronous_mode"]
        self._isolation: str = chosen["isolation"].replace("-", " ")
        self._installed = functools.partial(SOFTWARE.find, chosen["version"])
        self._etcd = Etcd({})
        self._has_served: set[str] = set()

    def check_installed(self) -> None:
        """Raises NotInstalledError unless all programs are there, and a driver."""
        self._installed()
        self._etcd.check_installed()
        SOFTWARE.check_driver()
        folder = postgresql.programs_of(postgresql.SOFTWARE.find())
        lacking = [name for name in PROGRAMS if not (folder / name).exists()]
        if lacking:
            raise NotInstalledError(
                f"patroni: there is no {lacking[0]} in {folder}: "
                "splitbrain systems install postgresql"
            )

    def launch(self, place: NodePlace) -> Launch:
        """The command of a node; Patroni's configuration is written anew each time."""
        found, server = self._installed(), postgresql.SOFTWARE.find()
        etcd = self._etcd.launch(etcd_place(place))
        config = place.data_dir / "patroni.yml"
        # JSON is YAML.
        config.write_text(json.dumps(self._config(place), indent=2))
        script = _START.format(
            lock=shlex.quote(str(place.data_dir / "pg/postmaster.pid")),
            etcd=shlex.join(etcd.argv),
            patroni=shlex.join([sys.executable, "-P", "-m", "patroni", str(config)]),
        )
        env = {**server.env, **etcd.env, **found.env, "PYTHONUNBUFFERED": "1"}
        return Launch(["/bin/sh", "-ec", script], env)

    def _config(self, place: NodePlace) -> dict[str, Any]:
        """Patroni's configuration of a node."""
        folder = place.data_dir
        rest = str(Endpoint(place.listen.host, place.listen.port + 1))
        # Its own etcd first: Patroni takes another only if that one fails.
        hosts = [
            place.listen,
            *(e for n, e in place.cluster.items() if n != place.name),
        ]
        strict = self._synchronous_mode == "strict"
        everybody = {"username": "postgres"}
        return {
            "scope": "splitbrain",
            "name": place.name,
            "restapi": {"listen": rest, "connect_address": rest},
            "etcd3": {"hosts": [str(etcd_endpoint(host)) for host in hosts]},
            "bootstrap": {
                "dcs": {
                    "ttl": 20,
                    "loop_wait": 1,
                    "retry_timeout": 3,
                    "synchronous_mode": strict or self._synchronous_mode == "on",
                    "synchronous_mode_strict": strict,
                    "postgresql": {"use_pg_rewind": True, "parameters": _PARAMETERS},
                },
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}],
            },
            "postgresql": {
                "listen": str(place.listen),
                "connect_address": str(place.listen),
                "data_dir": str(folder / "pg"),
                "bin_dir": str(postgresql.programs_of(postgresql.SOFTWARE.find())),
                "pgpass": str(folder / "pgpass"),
                "authentication": dict.fromkeys(
                    ("superuser", "replication", "rewind"), everybody
                ),
                "pg_hba": ["host all all all trust", "host replication all all trust"],
                "parameters": {"unix_socket_directories": ""},
                "basebackup": [{"checkpoint": "fast"}],
                "remove_data_directory_on_rewind_failure": True,
                "remove_data_directory_on_diverged_timelines": True,
            },
        }

    async def ready(self, place: NodePlace) -> bool:
        """True once the server accepts clients; after a restart, once etcd does.

        A node that restarts in a minority can't do more, and the plan must not wait for
        the partition to heal.
        """
        if place.name in self._has_served:
            return await accepts(etcd_endpoint(place.listen))
        if await _timeline(place.listen) is None:
            return False
        self._has_served.add(place.name)
        return True

    async def prepare(self, places: Sequence[NodePlace]) -> None:
        """Make the tables, once all standbys follow and one of them is waited for.

        Raises:
            Timeout: It does not come to that.
        """
        try:
            async with asyncio.timeout(PREPARE_LIMIT_S):
                while not await self._is_prepared(places):  # noqa: ASYNC110 - of nodes
                    await asyncio.sleep(0.2)
        except TimeoutError as error:
            text = f"no primary with its standbys within {PREPARE_LIMIT_S:.0f} s"
            raise Timeout(text) from error

    async def _is_prepared(self, places: Sequence[NodePlace]) -> bool:
        """Whether the cluster is whole; makes the tables then."""
        leader = await self.leader(places)
        for place in places:
            if place.name != leader:
                continue
            try:
                connection = await connect(place.listen, "read committed")
                try:
                    with failures(always):
                        rows = await connection.fetch(_STANDBYS)
                        states = [row["sync_state"] for row in rows]
                        waits = not {"sync", "quorum"}.isdisjoint(states)
                        asynchronous = self._synchronous_mode == "off"
                        if len(states) < len(places) - 1 or waits == asynchronous:
                            return False
                        await connection.execute(_MAKE_TABLE)
                        return True
                finally:
                    connection.terminate()
            except NodeReply:
                return False
        return False

    async def leader(self, places: Sequence[NodePlace]) -> str | None:
        """The primary; of several, the one on the newest timeline."""
        told = await asyncio.gather(*(_timeline(place.listen) for place in places))
        primaries = [
            (timeline, place.name)
            for place, timeline in zip(places, told, strict=True)
            if timeline
        ]
        return max(primaries)[1] if primaries else None

    def client(self, workload: Workload) -> PatroniClient:
        """A client that puts the workload's requests into SQL."""
        return PatroniClient(workload.codec, self._isolation)


_PARAMETERS: Final = {
    "max_connections": 100,
    "shared_buffers": "32MB",
    "deadlock_timeout": "100ms",  # Its 1 s is longer than clients wait.
    "wal_log_hints": "on",  # pg_rewind needs it.
}

_START = """
rm -f {lock}
( {etcd}; kill -KILL $$ ) &
exec {patroni}
"""
"""In the subshell, too, $$ is the shell that becomes Patroni."""


class PatroniClient(SQLClient):
    """A client of whichever node is the primary.

    Args:
        codec: The workload's codec.
        isolation: The isolation level of all transactions.
    """

    def __init__(self, codec: WireCodec, isolation: str) -> None:
        super().__init__(codec)
        self._isolation = isolation
        self._place: NodePlace | None = None
        self._connection: Connection | None = None

    @override
    async def open(self, place: NodePlace) -> None:
        """Remember the node; a primary is looked for when there is a request."""
        self._place = place

    @override
    async def close(self) -> None:
        if self._connection is not None:
            self._connection.terminate()

    @override
    async def connection_for(self, body: Mapping[str, Any]) -> Connection:
        if self._place is None:
            raise HarnessError("a client was used before it was opened")
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._find_primary(self._place)
        return self._connection

    async def _find_primary(self, place: NodePlace) -> Connection:
        """A connection to the first node that says that it is a primary."""
        others = (e for name, e in place.cluster.items() if name != place.name)
        for endpoint in (place.listen, *others):
            try:
                connection = await connect(endpoint, self._isolation)
            except NodeReply:
                continue
            try:
                with failures(always):
                    if await connection.fetchval(_READ_ONLY) == "off":
                        return connection
            except NodeReply:
                pass
            connection.terminate()
        text = "no node is a primary"
        raise NodeReply(definite=True, text=text, code=TEMPORARILY_UNAVAILABLE)


async def _timeline(endpoint: Endpoint) -> int | None:
    """The timeline of a primary; 0 for a standby, None if there is no answer."""
    try:
        async with asyncio.timeout(_CONTROL_TIMEOUT_S):
            connection = await connect(endpoint, "read committed")
            try:
                with failures(always):
                    told = await connection.fetchval(_TIMELINE)
            finally:
                connection.terminate()
    except (NodeReply, TimeoutError):
        return None
    return told if type(told) is int else 0


_READ_ONLY: Final = "SHOW transaction_read_only"
"""Standbys answer "on". They refuse any SELECT at serializable."""

_TIMELINE: Final = """
SELECT CASE WHEN pg_is_in_recovery() THEN 0
    ELSE (SELECT timeline_id FROM pg_control_checkpoint()) END
"""


def etcd_endpoint(listen: Endpoint) -> Endpoint:
    """Where the etcd beside a node serves; its peers are at the port above."""
    return Endpoint(listen.host, listen.port + 2)


def etcd_place(place: NodePlace) -> NodePlace:
    """The place of the etcd beside a node."""
    return dataclasses.replace(
        place,
        listen=etcd_endpoint(place.listen),
        cluster={name: etcd_endpoint(e) for name, e in place.cluster.items()},
    )


def patroni(_: str, given: Mapping[str, str]) -> Patroni:
    """The system with these options; raises UsageError if one is wrong."""
    return Patroni(given)


PLUGIN: Plugin[SystemFactory] = Plugin(
    "patroni",
    "Patroni (PyPI) over PostgreSQL: a primary, standbys and failover, by etcd",
    patroni,
    OPTIONS,
)
