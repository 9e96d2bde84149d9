"""Events of a run that a trigger of a plan can wait for, as data.

    Observed   a node's protocol has made an `Observe` event known
    Logged     a line of a node's log matches a pattern

`Event` is the sum of them. A world counts the events that it was told to follow, by the
nodes at which they happened (`harness.worlds.world.Watcher`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Observed:
    """An `Observe` event of a kind.

    Attributes:
        kind: The kind: "became_leader".
        node: The node that observes it; None for any.
    """

    kind: str
    node: str | None = None

    def is_at(self, node: str) -> bool:
        """Whether it may happen at that node."""
        return self.node in {None, node}


@dataclass(frozen=True)
class Logged:
    """A line in a node's log.

    Attributes:
        pattern: A regular expression that is found in the line.
        node: The node whose log it is; None for any.
    """

    pattern: str
    node: str | None = None

    def is_at(self, node: str) -> bool:
        """Whether it may happen at that node."""
        return self.node in {None, node}


Event = Observed | Logged

Where = tuple[str, ...]
"""The nodes at which an event happened, in its order; most happen at one."""
