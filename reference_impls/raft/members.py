"""Which servers are members: they vote, and count when an entry is committed.

A member is a name and an *incarnation*: a server that was removed and comes back with
an empty disk has forgotten what it promised, so it is another server, which nobody may
take for the first. Otherwise its acknowledgements and votes would count in
configurations that hold the first, and majorities that must meet would not.

"A server always uses the latest configuration in its log, regardless of whether the
entry is committed" (thesis 4.1). An entry that is truncated takes its configuration
along, so the earlier ones are remembered as long as that may happen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CHANGES = frozenset({"add", "remove"})
"""Types of the commands that hold a configuration, under "members"."""


NONE: Mapping[str, int] = {}


class Members:
    """The configurations that the log holds, the latest of which is in use.

    Args:
        names: The members to begin with.
        index: The entry that says so; 0 when it is how the cluster began.
        incarnations: Of those whose incarnation isn't 0.

    Attributes:
        names: The members now.
        index: The entry that made them so.
        incarnations: Of those whose incarnation isn't 0.
    """

    __slots__ = ("history", "incarnations", "index", "names")

    def __init__(
        self,
        names: Iterable[str],
        index: int = 0,
        incarnations: Mapping[str, int] = NONE,
    ) -> None:
        self.history: list[tuple[int, tuple[str, ...], Mapping[str, int]]] = []
        self.adopt(index, names, incarnations)

    def adopt(
        self, index: int, names: Iterable[str], incarnations: Mapping[str, int] = NONE
    ) -> None:
        """Use the members of the entry at `index`, which is in the log now."""
        self.history.append((index, tuple(sorted(names)), incarnations))
        self.index, self.names, self.incarnations = self.history[-1]

    def has(self, name: str, incarnation: int) -> bool:
        """Whether that incarnation of a server is a member."""
        return name in self.names and self.incarnations.get(name, 0) == incarnation

    def truncate(self, first: int) -> None:
        """Drop the configurations of the entries from `first` on, which are gone."""
        while len(self.history) > 1 and self.history[-1][0] >= first:
            self.history.pop()
        self.index, self.names, self.incarnations = self.history[-1]

    def compact(self, index: int) -> None:
        """Forget what was in use before the entry at `index`, which never goes."""
        while len(self.history) > 1 and self.history[1][0] <= index:
            del self.history[0]

    def as_of(self, index: int) -> tuple[int, tuple[str, ...], Mapping[str, int]]:
        """The members that the entries up to `index` make, and which entry did.

        Returns:
            The entry's index, the names, and the incarnations that aren't 0.
        """
        return next(known for known in reversed(self.history) if known[0] <= index)
