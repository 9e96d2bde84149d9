"""Majorities of the members, by the latest configuration in the log (thesis 4.1)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from reference_impls.raft.log import Log


@dataclass(eq=False)
class Quorum:
    """Majorities of the configuration in use; other servers don't count."""

    node: str  # this server
    incarnation: int  # how often its disk was emptied
    log: Log  # holds the configuration

    # the latest incarnation that each of the others has shown
    shown: dict[str, int] = field(default_factory=dict)

    def show(self, server: str, incarnation: int) -> bool:
        """Note which incarnation of a server speaks; False for one that is no more."""
        latest = self.shown.get(server, 0)
        self.shown[server] = max(latest, incarnation)
        return incarnation >= latest

    def counts(self, server: str) -> bool:
        """Whether a server, as it shows itself, is a member."""
        own = server == self.node
        incarnation = self.incarnation if own else self.shown.get(server, 0)
        return self.log.members.has(server, incarnation)

    def majority(self) -> int:
        """How many members are more than half of them."""
        return len(self.log.members.names) // 2 + 1

    def is_quorum(self, servers: Iterable[str]) -> bool:
        """True if a majority of the members are among `servers`."""
        return len(set(filter(self.counts, servers))) >= self.majority()

    def reached_by_majority(self, values: Mapping[str, int], own: int) -> int:
        """The highest number that a majority of the members has reached.

        A leader that is no member, as it is about to leave, doesn't count itself
        (thesis 4.2.2).

        Args:
            values: How far each of the other servers has come.
            own: How far this one has.
        """
        members, shown, node = self.log.members, self.shown, self.node
        reached = []
        # `counts` for each member, written out: every answer asks for this.
        for name in members.names:
            if name == node:
                value, incarnation = own, self.incarnation
            else:
                value, incarnation = values.get(name, 0), shown.get(name, 0)
            is_member = members.incarnations.get(name, 0) == incarnation
            reached.append(value if is_member else 0)
        reached.sort(reverse=True)
        return reached[self.majority() - 1]
