"""Capabilities of worlds: those that a nemesis needs, and those that a world offers.

Both are told in the same words, a set for each thing that nemeses act on: `Network`
(the fields of `LinkRule`), `Processes`, `Clocks` and `Disks`. Before a run starts, each
nemesis' needs are held against the world's offer, and the run is refused if the world
lacks one. No world is trusted to be able to do everything: the simulator, too, says
what it can do.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping

LinkField: TypeAlias = Literal[
    "cut",
    "delay_ms",
    "jitter_ms",
    "loss",
    "duplicate",
    "reorder",
    "corrupt",
    "bandwidth_kbit_s",
    "mtu_bytes",
    "reset",
    "half_open",
    "messages",
]
"""The name of a field of `harness.worlds.network.LinkRule`."""
ClockName: TypeAlias = Literal["wall", "mono"]
Act: TypeAlias = Literal["kill", "pause", "starve", "limit", "empty"]
"""Processes can be ended, stopped, kept from running most of the time, and limited in
descriptors or memory. To empty is to take away what a node that is down has stored."""
DiskAct: TypeAlias = Literal["power", "errors", "slow", "full", "decay", "stale"]
"""Power can be cut; operations on some files can fail, or take long; the whole disk can
be full; what is durable can decay, and what a sync has overwritten can come back."""

ACTS: frozenset[Act] = frozenset(get_args(Act))
LINK_FIELDS: frozenset[LinkField] = frozenset(get_args(LinkField))
CLOCKS: tuple[ClockName, ...] = ("wall", "mono")
DISK_ACTS: frozenset[DiskAct] = frozenset(get_args(DiskAct))


@dataclass(frozen=True)
class Capabilities:
    """Kinds of interference with nodes: those that a world offers, or a fault needs.

    Attributes:
        network: What is done to links between nodes.
        processes: What is done to node processes.
        clocks: Which clocks of nodes are skewed.
        disks: What is done to disks of nodes.
    """

    network: frozenset[LinkField] = frozenset()
    processes: frozenset[Act] = frozenset()
    clocks: frozenset[ClockName] = frozenset()
    disks: frozenset[DiskAct] = frozenset()

    def __or__(self, other: Capabilities) -> Capabilities:
        """The capabilities of either."""
        return Capabilities(
            self.network | other.network,
            self.processes | other.processes,
            self.clocks | other.clocks,
            self.disks | other.disks,
        )

    def lacking(self, able: Capabilities) -> dict[str, list[str]]:
        """Thing acted on ("network", ...) -> what is needed of it and `able` lacks."""
        missing = {
            each.name: sorted(getattr(self, each.name) - getattr(able, each.name))
            for each in fields(self)
        }
        return {name: words for name, words in missing.items() if words}


@dataclass(frozen=True)
class Offer:
    """The capabilities of a world on this machine.

    Attributes:
        who: The name for messages: "the proxy network", "the simulator".
        able: All that it can do.
        why_not: Thing acted on ("clocks", ...) -> why nothing can be done to it here;
            or a single capability ("half_open", ...) -> why this can't be had.
    """

    who: str
    able: Capabilities
    why_not: Mapping[str, str] = field(default_factory=dict)

    def refusal(self, needs: Capabilities) -> str:
        """Why the world can't do all of `needs`; empty if it can."""
        for name, missing in needs.lacking(self.able).items():
            if name in self.why_not:
                return self.why_not[name]
            for word in missing:
                if word in self.why_not:
                    return f"{self.who} can't do {word}: {self.why_not[word]}"
            return f"{self.who} can't do {', '.join(missing)}"
        return ""
