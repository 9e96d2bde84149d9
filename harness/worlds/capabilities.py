"""What faults can do in a world: what a nemesis needs, and what a world has to offer.

Both say it in the same words, a set for each thing that nemeses act on: `Network` (the
fields of `LinkRule`), `Processes`, `Clocks`; disks will be one more field here. Before
a run starts, each nemesis' needs are held against the world's offer, and what can't be
had is refused. No world is trusted to be able to do everything: the simulator says what
it can do, as the others.
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
]
"""A field of `harness.worlds.network.LinkRule`."""
ClockName: TypeAlias = Literal["wall", "mono"]
Act: TypeAlias = Literal["kill", "pause"]

LINK_FIELDS: frozenset[LinkField] = frozenset(get_args(LinkField))
CLOCKS: tuple[ClockName, ...] = ("wall", "mono")


@dataclass(frozen=True)
class Capabilities:
    """What can be done, or is needed.

    Attributes:
        network: To links between nodes.
        processes: To node processes.
        clocks: The clocks of nodes that can be skewed.
    """

    network: frozenset[LinkField] = frozenset()
    processes: frozenset[Act] = frozenset()
    clocks: frozenset[ClockName] = frozenset()

    def __or__(self, other: Capabilities) -> Capabilities:
        """Both together."""
        return Capabilities(
            self.network | other.network,
            self.processes | other.processes,
            self.clocks | other.clocks,
        )

    def lacking(self, able: Capabilities) -> dict[str, list[str]]:
        """What of this `able` has not, by what is acted on."""
        missing = {
            each.name: sorted(getattr(self, each.name) - getattr(able, each.name))
            for each in fields(self)
        }
        return {name: words for name, words in missing.items() if words}


@dataclass(frozen=True)
class Offer:
    """What a world can do on this machine.

    Attributes:
        who: Who can do it: "the proxy network", "the simulator".
        able: All that it can do.
        why_not: What is acted on, "clocks" say, and why nothing can be done to it.
    """

    who: str
    able: Capabilities
    why_not: Mapping[str, str] = field(default_factory=dict)

    def refusal(self, needs: Capabilities) -> str:
        """Why not all of `needs` can be had here; empty when it can."""
        for name, missing in needs.lacking(self.able).items():
            if name in self.why_not:
                return self.why_not[name]
            return f"{self.who} can't do {', '.join(missing)}"
        return ""
