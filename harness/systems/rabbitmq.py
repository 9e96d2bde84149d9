"""RabbitMQ: queues of messages, one broker or a cluster.

Promise (RabbitMQ's documentation, "Reliability Guide" and "Consumer Acknowledgements
and Publisher Confirms"): a persistent message that was confirmed is not lost, and is
handed out again until it is acknowledged. How far that goes depends on the queue:

    quorum      replicated by Raft: confirmed once a majority has it on disk
    mirrored    classic, with a mirror on every node: confirmed once all mirrors that
                are in touch have it. A partition leaves each side a queue of its own;
                what one of them took in the meantime is dropped when they are united
                ("Clustering and Network Partitions"; jepsen.io/analyses and
                https://aphyr.com/posts/315-jepsen-rabbitmq)
    classic     on one node alone, and not there while that is down

`persistent=no` and `confirms=no` are the documented ways to lose messages: a broker
that restarts forgets what is not persistent, and without confirms a message counts as
enqueued once it is on its way.

An enqueue publishes; a dequeue asks for one message (`basic.get`), acknowledges it, and
answers. The acknowledgement has no answer: should it get lost, the message is handed
out again, which no queue of RabbitMQ rules out.

Errors: what the broker refuses before it acts is definite (`amqp.REFUSED`), and so is a
message that it returns because there is no queue. All others, a negative confirmation
too, leave the outcome open: a message whose delivery was lost with the connection comes
back only once the broker has noticed.

A node serves clients at its own port, and its peers at the port above: there is no
epmd. It notices within about `net_ticktime_s` that it is cut off from a peer; the usual
minute is longer than most runs. A broker that is started again while its peers are out
of reach does not serve until it has asked them.

A broker of 3.10 writes the name of a new replica of a quorum queue to its file a moment
later, without a sync (mended by https://github.com/rabbitmq/ra/pull/443). If it is
killed before, it begins an empty replica, which never leads when it is alone.
`prepare` waits until the name is in the file. A loss of power may take the queue
itself, and nothing comes out then.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import hashlib
import json
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from harness.errors import HarnessError, NodeReply, NotInstalledError, Timeout
from harness.host import nodefiles
from harness.options import Flag, OneOf, Whole
from harness.override import override
from harness.registry import Option, Plugin, settings
from harness.systems import cells
from harness.systems.amqp import Amqp
from harness.systems.services import EVERY
from harness.systems.software import VERSION, Debian, Recipe, Software
from harness.systems.translated import TranslatedClient
from harness.worlds.places import Endpoint, Launch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from harness.systems.system import SystemFactory
    from harness.workload import WireCodec, Workload
    from harness.worlds.places import NodePlace

OPTIONS = (
    Option(
        "queue",
        "quorum",
        "quorum: replicated by Raft; mirrored: on all nodes; classic: on one node",
        OneOf("quorum", "mirrored", "classic"),
    ),
    Option(
        "partitions",
        "pause_minority",
        "what a cluster does about partitions (cluster_partition_handling)",
        OneOf("pause_minority", "autoheal", "ignore"),
    ),
    Option("confirms", "true", "false: messages are published and forgotten", Flag()),
    Option("persistent", "true", "false: messages need not be on disk", Flag()),
    Option(
        "net_ticktime_s",
        "4",
        "silence after which a peer is taken for dead, give or take a quarter",
        Whole(1, 3600),
    ),
    VERSION,
)

_SERVER: Final = "usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server"

SOFTWARE = Software(
    "rabbitmq",
    (Recipe("3.10", Debian(("rabbitmq-server",)), _SERVER),),
    elsewhere=(f"/{_SERVER}",),
)
"""The program is a script; it says where Erlang is, which is what runs (`launch`)."""

QUEUE: Final = "queue"
"""The one queue; it is called as the workload's."""

USER: Final = "guest"
"""Name and password of the user that a new broker has."""

EMULATOR: Final = (
    *("-W", "w"),
    *("-S", "1:1", "-SDcpu", "1:1", "-SDio", "1", "-A", "2"),
    *("-sbwt", "none", "-sbwtdcpu", "none", "-sbwtdio", "none"),
)
"""Small brokers that don't keep a processor busy while they wait."""

CONTROL_TIMEOUT_S = 1.0
PREPARE_S = 40.0
NAMES_BYTES_MAX: Final = 1 << 20
"""As much is read of the file in which a broker keeps the names of its replicas."""


class RabbitMQ:
    """RabbitMQ as a `System`.

    Raises:
        UsageError: An option does not exist, or has no such value.
    """

    name = "rabbitmq"
    faults = frozenset({EVERY})
    rungs = frozenset({"switch"})  # One address book for all nodes.
    services = frozenset({"queue"})
    usual_nodes = 3
    software = SOFTWARE
    invariants: tuple[str, ...] = ()
    ready_timeout_s = 90.0
    leader_pattern = rf"'{QUEUE}' in vhost '/': (?:candidate -> leader|Promoting)"

    def __init__(self, given: Mapping[str, str]) -> None:
        chosen = settings(self.name, OPTIONS, given)
        self._queue: str = chosen["queue"]
        self._partitions: str = chosen["partitions"]
        self._confirms: bool = chosen["confirms"]
        self._persistent: bool = chosen["persistent"]
        self._net_ticktime_s: int = chosen["net_ticktime_s"]
        self._installed = functools.partial(SOFTWARE.find, chosen["version"])

    def check_installed(self) -> None:
        """Raises NotInstalledError unless there is a broker."""
        self._installed()

    def launch(self, place: NodePlace) -> Launch:
        """The Erlang emulator with the broker in it, as RabbitMQ's scripts start it.

        The scripts themselves have the folders of Debian in them, and start an epmd.
        Only the applications that the broker can't do without are on the path, and no
        plug-in: it starts in half the time.
        """
        script = self._installed().program
        server, erlang = script.parents[1], script.parents[4] / "erlang"
        programs = max(erlang.glob("erts-*/bin"), default=erlang / "bin")
        folder = place.data_dir
        self._configure(place)
        applications = needed(server / "plugins")
        # Where the broker looks for plug-ins, and for what its configuration may say.
        known = folder / "plugins" / applications[0].name
        known.parent.mkdir(exist_ok=True)
        if not known.is_symlink():
            known.symlink_to(applications[0])
        name = broker_name(place.listen)
        peers_port = str(peer_endpoint(place.listen).port)
        interface = place.listen.host.replace(".", ",")
        kernel = {
            "inet_dist_use_interface": f"{{{interface}}}",
            "net_ticktime": str(self._net_ticktime_s),
            # As in RabbitMQ's own script: it looks after partitions itself.
            "prevent_overlapping_partitions": "false",
        }
        argv = [
            str(programs / "beam.smp"),
            *EMULATOR,
            *("--", "-root", str(erlang), "-bindir", str(programs)),
            *("-progname", "erl", "--", "-home", str(folder), "--"),
            *("-noshell", "-noinput", "-boot", "start_sasl"),
            *("-pa", *(str(path / "ebin") for path in applications)),
            *("-s", "rabbit", "boot"),
            *("-name", name, "-setcookie", "splitbrain"),
            *("-start_epmd", "false", "-erl_epmd_port", peers_port),
            *(
                word
                for key, value in kernel.items()
                for word in ("-kernel", key, value)
            ),
            *("-syslog", "logger", "[]", "-syslog", "syslog_error_logger", "false"),
        ]
        env = {
            "HOME": str(folder),
            "ROOTDIR": str(erlang),
            "BINDIR": str(programs),
            "EMU": "beam",
            "PROGNAME": "erl",
            "ERL_CRASH_DUMP_SECONDS": "0",
            "RABBITMQ_HOME": str(server),
            "RABBITMQ_NODENAME": name,
            "RABBITMQ_USE_LONGNAME": "true",
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "rabbitmq-env.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_PLUGINS_DIR": str(folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_LOGS": "-",
        }
        return Launch(argv, {**self._installed().env, **env})

    def _configure(self, place: NodePlace) -> None:
        """Write the broker's configuration, and what it is to have from the start."""
        config = {
            "listeners.tcp.1": place.listen,
            "loopback_users": "none",
            "cluster_partition_handling": self._partitions,
            "mnesia_table_loading_retry_timeout": 2000,
            "mnesia_table_loading_retry_limit": 1000,
        }
        for number, listen in enumerate(place.cluster.values(), 1):
            key = f"cluster_formation.classic_config.nodes.{number}"
            config[key] = broker_name(listen)
        if self._queue == "mirrored":
            path = place.data_dir / "definitions.json"
            path.write_text(json.dumps(definitions(), indent=1))
            config["load_definitions"] = path
        lines = [f"{name} = {value}\n" for name, value in config.items()]
        (place.data_dir / "rabbitmq.conf").write_text("".join(lines))

    async def ready(self, place: NodePlace) -> bool:
        """True once the broker serves."""
        connection = Amqp(place.listen, USER)
        try:
            async with asyncio.timeout(CONTROL_TIMEOUT_S):
                await connection.connect()
        except (NodeReply, TimeoutError):
            return False
        finally:
            await connection.close()
        return True

    async def prepare(self, places: Sequence[NodePlace]) -> None:
        """Make the queue, and wait until every node knows it, after a kill too.

        Raises:
            Timeout: It is not so in time.
        """
        kind = "quorum" if self._queue == "quorum" else "classic"
        told = ""
        try:
            async with asyncio.timeout(PREPARE_S):
                for place in places:
                    passive = place is not places[0]
                    # Nodes are asked, and can't call us.
                    while told := await self._declare(place, kind, passive=passive):  # noqa: ASYNC110
                        await asyncio.sleep(0.1)
                    if kind == "quorum":
                        told = "its replica is not on disk"
                        while not remembers(place):  # noqa: ASYNC110
                            await asyncio.sleep(0.1)
        except TimeoutError as error:
            text = f"{place.name} has no queue after {PREPARE_S:.0f} s: {told}"
            raise Timeout(text) from error

    async def _declare(self, place: NodePlace, kind: str, *, passive: bool) -> str:
        """Declare the queue through a node; returns why it could not be done."""
        connection = Amqp(place.listen, USER)
        try:
            async with asyncio.timeout(5 * CONTROL_TIMEOUT_S):
                arguments = {"x-queue-type": kind}
                await connection.declare(QUEUE, arguments, passive=passive)
        except NodeReply as error:
            return str(error)
        except TimeoutError:
            return "no answer"
        finally:
            await connection.close()
        return ""

    def client(self, workload: Workload) -> RabbitMQClient:
        """A client that puts the workload's requests into AMQP's words."""
        return RabbitMQClient(
            workload.codec, confirms=self._confirms, persistent=self._persistent
        )


class RabbitMQClient(TranslatedClient):
    """Requests of a workload, carried out through one broker.

    Args:
        codec: The workload's codec.
        confirms: The option `confirms`.
        persistent: The option `persistent`.
    """

    def __init__(self, codec: WireCodec, *, confirms: bool, persistent: bool) -> None:
        super().__init__(codec)
        self._confirms = confirms
        self._persistent = persistent
        self._connection: Amqp | None = None

    @override
    async def open(self, place: NodePlace) -> None:
        self._connection = Amqp(place.listen, USER, confirms=self._confirms)
        await self._connection.connect()

    @override
    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    @override
    async def answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        if self._connection is None:
            raise HarnessError("a client was used before it was opened")
        match body:
            case {"type": "txn", "txn": [["append", str() as queue, value]]}:
                message = json.dumps(value).encode()
                await self._connection.publish(
                    queue, message, persistent=self._persistent
                )
                return {"type": "txn_ok", "txn": [["append", queue, value]]}
            case {"type": "txn", "txn": [["pop", str() as queue, None]]}:
                value = await taken(self._connection, queue)
                return {"type": "txn_ok", "txn": [["pop", queue, value]]}
            case _:
                text = "queues take one element, or give one"
                raise cells.refusal(cells.NOT_SUPPORTED, text)


async def taken(connection: Amqp, queue: str) -> Any:
    """The element at the front of a queue, acknowledged; None if there is none.

    Raises:
        NodeReply: Nobody knows whether one was taken, unless it is a definite failure.
    """
    delivery = await connection.get(queue)
    if delivery is None:
        return None
    try:
        value = msgspec.json.decode(delivery.body)
    except (ValueError, RecursionError) as error:
        text = f"handed out {delivery.body!r:.100}"
        raise NodeReply(definite=False, text=text) from error
    # If this gets lost, the element is handed out again.
    with contextlib.suppress(NodeReply):
        await connection.acknowledge(delivery)
    return value


def remembers(place: NodePlace) -> bool:
    """Whether a broker that is killed now still knows its replica of the queue."""
    name = broker_name(place.listen)
    path = place.data_dir / "mnesia" / name / "quorum" / name / "names.dets"
    try:
        with nodefiles.open_plain(path) as names:
            return f"%2F_{QUEUE}".encode() in names.read(NAMES_BYTES_MAX)
    except OSError:
        return False


def needed(plugins: Path) -> list[Path]:
    """The folders of the applications that the broker needs, its own first.

    Raises:
        NotInstalledError: It isn't there as a whole.
    """
    folders = {path.name.partition("-")[0]: path for path in plugins.iterdir()}
    names = ["rabbit"]
    for name in names:  # It grows meanwhile.
        try:
            told = (folders[name] / "ebin" / f"{name}.app").read_text()
        except (OSError, KeyError) as error:
            text = f"rabbitmq lacks {name}: splitbrain systems install rabbitmq"
            raise NotInstalledError(text) from error
        listed = re.search(r"{applications,\s*\[([^]]*)\]", told)
        others = re.findall(r"\w+", listed[1] if listed else "")
        names += [other for other in others if other in folders and other not in names]
    return [folders[name] for name in dict.fromkeys(names)]


def definitions() -> dict[str, Any]:
    """What a broker is to have from the start so that all its queues are mirrored.

    Only a policy makes mirrors, and a broker that is given definitions makes no user.
    """
    salt = b"salt"
    digest = hashlib.sha256(salt + USER.encode()).digest()
    policy = {"ha-mode": "all", "ha-sync-mode": "automatic"}
    return {
        "vhosts": [{"name": "/"}],
        "users": [
            {
                "name": USER,
                "password_hash": base64.b64encode(salt + digest).decode(),
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": "",
            }
        ],
        "permissions": [
            {"user": USER, "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}
        ],
        "policies": [
            {
                "vhost": "/",
                "name": "mirrors",
                "pattern": "",
                "apply-to": "queues",
                "definition": policy,
                "priority": 0,
            }
        ],
    }


def broker_name(listen: Endpoint) -> str:
    """How the broker that listens there is called among its peers."""
    return f"rabbit@{listen.host}"


def peer_endpoint(listen: Endpoint) -> Endpoint:
    """Where a broker listens to others: the port above the clients'."""
    return Endpoint(listen.host, listen.port + 1)


def rabbitmq(_: str, given: Mapping[str, str]) -> RabbitMQ:
    """The system with these options; raises UsageError if one is wrong."""
    return RabbitMQ(given)


PLUGIN: Plugin[SystemFactory] = Plugin(
    "rabbitmq",
    "RabbitMQ, one broker or a cluster (Debian's rabbitmq-server)",
    rabbitmq,
    OPTIONS,
)
