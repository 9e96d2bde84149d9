"""Events of a run that a trigger of a plan can wait for, as data.

    Observed   a node's protocol has made an `Observe` event known
    Logged     a line of a node's log matches a pattern
    Passed     a node has sent a message to another that a pattern names

`Event` is the sum of them, `NodeEvent` the sum of those that happen at one node. A
world counts the events that it was told to follow, by the nodes at which they happened:
its watcher (`harness.worlds.world.Watcher`) those of nodes, its network (`Network`)
messages.
"""

from __future__ import annotations

from dataclasses import dataclass


class _AtNode:
    """What happens at a node, or at any if it names none."""

    node: str | None

    @property
    def names(self) -> tuple[str, ...]:
        """The nodes that it names."""
        return () if self.node is None else (self.node,)

    def is_at(self, node: str) -> bool:
        """Whether it may happen at that node."""
        return self.node in {None, node}


@dataclass(frozen=True)
class Observed(_AtNode):
    """An `Observe` event of a kind.

    Attributes:
        kind: The kind: "became_leader".
        node: The node that observes it; None for any.
    """

    kind: str
    node: str | None = None


@dataclass(frozen=True)
class Logged(_AtNode):
    """A line in a node's log.

    Attributes:
        pattern: A regular expression that is found in the line.
        node: The node whose log it is; None for any.
    """

    pattern: str
    node: str | None = None


@dataclass(frozen=True)
class Passed:
    """A message that a node sends to another.

    Attributes:
        pattern: A regular expression over bytes (`network.compiled`) that is found in
            what passes between the nodes; each match is a message.
        sender: The node that sends it; None for any.
        receiver: The node that it is for; None for any.
    """

    pattern: str
    sender: str | None = None
    receiver: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The nodes that it names."""
        return tuple(n for n in (self.sender, self.receiver) if n is not None)

    def is_on(self, link: tuple[str, str]) -> bool:
        """Whether it may pass over that link."""
        return self.sender in {None, link[0]} and self.receiver in {None, link[1]}


NodeEvent = Observed | Logged
Event = NodeEvent | Passed

Where = tuple[str, ...]
"""The nodes at which an event happened, in its order; most happen at one, and messages
at their sender and their receiver."""
