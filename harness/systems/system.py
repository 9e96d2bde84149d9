"""The interface of a system under test.

A `System` says how to start a node, when it serves, how to talk to it and which faults
it can bear. Things that only some systems can do are abilities (`abilities`).
Everything else (spawning, networks, clocks) is the world's business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from harness.systems.client import Client
    from harness.workload import Workload
    from harness.worlds.places import Launch, NodePlace


class System(Protocol):
    """A kind of system under test, configured (`--set KEY=VALUE`), ready to start."""

    name: str
    faults: frozenset[str]
    """Kinds of fault that it can bear; `services.EVERY` stands for all."""
    rungs: frozenset[str]
    """Network rungs it can run on: "switch", "proxy", "router"."""
    services: frozenset[str]
    """The services that its clients speak (`harness.systems.services`)."""
    invariants: tuple[str, ...]
    """Checkers that judge what its nodes observed (`harness.history.observations`)."""
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
"""Builds a system from the text after `name:` ("" unless it is an adapter) and options.

Raises UsageError for an option that it does not know, naming those that it has."""
