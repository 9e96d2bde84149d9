"""What the harness needs to know about a system under test.

A `System` says how to start a node, when it serves, how to talk to it and which faults
it can bear. What it may be able to do beside is an ability (`harness.abilities`).
Everything else (spawning, networks, clocks) is the world's business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from harness.client import Client
    from harness.workload import Workload


@dataclass(frozen=True)
class Endpoint:
    """A TCP address."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class NodePlace:
    """Where a node lives and what it may touch.

    Attributes:
        name: "n1", "n2", ...
        listen: Where the node listens, for clients and peers alike. On the switch rung
            each node has an address of its own, so any other port there is free too.
        peers: For every other node, the endpoint at which *this* node reaches it.
        data_dir: A directory that survives kills.
        log_path: Where its stdout and stderr go.
        cluster: Every node's own `listen`, this one's included, in cluster order.
            Systems that need one address book for all (etcd) use it; it is what peers
            see only on the switch rung.
    """

    name: str
    listen: Endpoint
    peers: Mapping[str, Endpoint]
    data_dir: Path
    log_path: Path
    cluster: Mapping[str, Endpoint]


@dataclass(frozen=True)
class Launch:
    """A command to run for a node, and what it needs.

    Attributes:
        argv: The command.
        env: Added to a small clean environment.
        cwd: Where it starts; None is where the controller runs.
        writable: Files and folders that it may write beside its data folder, its /tmp
            and its /dev/shm. They are there already, but for files in the run folder.
        trusted: It is not caged (`harness.osworld.cage`): it keeps the run's
            capabilities, and could harm the run. For systems that mount, or trace.
    """

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    writable: Sequence[Path] = ()
    trusted: bool = False


class System(Protocol):
    """A kind of system under test, configured (`--set KEY=VALUE`), ready to start."""

    name: str
    faults: frozenset[str]
    """Kinds of fault that it can bear; `harness.services.EVERY` for all that there are,
    those of others too."""
    rungs: frozenset[str]
    """Network rungs it can run on: "switch", "proxy"."""
    services: frozenset[str]
    """What its clients speak, whatever the workload (`harness.services`)."""
    invariants: tuple[str, ...]
    """Checkers that judge what its nodes observed (`harness.observations`)."""
    ready_timeout_s: float
    """How long a node may take from start to serving."""

    def launch(self, place: NodePlace) -> Launch:
        """The command that starts the node at `place`, and again after a kill."""
        ...

    async def ready(self, place: NodePlace) -> bool:
        """True once the node accepts requests; called repeatedly until it is."""
        ...

    def client(self, workload: Workload) -> Client:
        """A new, unopened client that speaks `workload` to one node."""
        ...


SystemFactory = Callable[[str, Mapping[str, str]], System]
"""Builds a system from the text after `name:` (adapters; else "") and its options.

Raises UsageError for options it does not know, naming the ones it does."""
