"""Raft, the reference system: `reference_impls.raft` under the shared runtime."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from harness.override import override
from harness.registry import Plugin
from harness.systems.reference import KEY_VALUE, ReferenceSystem, core_options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.systems.system import SystemFactory
    from harness.worlds.places import Launch, NodePlace
    from reference_impls.actor import Actor

OPTIONS = core_options("raft")

SERVICES = KEY_VALUE | {"leader", "membership"}


class Raft(ReferenceSystem):
    """Raft, whose servers may also join a cluster that runs.

    A server that joins with an empty disk is told how often that happened to it. So it
    is another server to the others, and waits to be added.
    """

    def __init__(self, given: Mapping[str, str]) -> None:
        super().__init__("raft", OPTIONS, given, SERVICES, ("raft_invariants",))
        self.interchangeable = not self.options["initial_members"]

    @property
    @override
    def beyond_cores(self) -> str:
        """Leases ask for clocks that run alike; all else is safe without any."""
        leases = "clocks that run at nearly the same rate, as reads=lease does"
        return leases if self.options["reads"] == "lease" else super().beyond_cores

    def build_joining(self, node: str, peers: Sequence[str], times: int) -> Actor:
        """A core for a server that is no member until it is added."""
        return self.build_with(node, peers, {"incarnation": times})

    @override
    def launch(self, place: NodePlace) -> Launch:
        launch = super().launch(place)
        if not place.joins:
            return launch
        incarnation = f"incarnation={place.joins}"
        return replace(launch, argv=[*launch.argv, "--option", incarnation])


def raft(_: str, given: Mapping[str, str]) -> Raft:
    """The system with these options; raises UsageError if one is wrong."""
    return Raft(given)


PLUGIN: Plugin[SystemFactory] = Plugin(
    "raft",
    "Raft with a key-value service, our reference implementation",
    raft,
    OPTIONS,
)
