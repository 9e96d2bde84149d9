"""Majorities of the members, by the latest configuration in the log (thesis 4.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from reference_impls.raft.log import Log


@dataclass(eq=False)
class Quorum:
    """Majorities of the configuration in use; other servers don't count."""

    node: str  # this server
    log: Log  # holds the configuration

    def majority(self) -> int:
        """How many members are more than half of them."""
        return len(self.log.members.names) // 2 + 1

    def is_quorum(self, servers: Iterable[str]) -> bool:
        """True if a majority of the members are among `servers`."""
        members = self.log.members.names
        return len(set(servers).intersection(members)) >= self.majority()

    def reached_by_majority(self, values: Mapping[str, int], own: int) -> int:
        """The highest number that a majority of the members has reached.

        A leader that is no member, as it is about to leave, doesn't count itself
        (thesis 4.2.2).

        Args:
            values: How far each of the other servers has come.
            own: How far this one has.
        """
        reached = [
            own if name == self.node else values.get(name, 0)
            for name in self.log.members.names
        ]
        reached.sort(reverse=True)
        return reached[self.majority() - 1]
