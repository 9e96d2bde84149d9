"""Which servers are members: they vote, and count when an entry is committed.

"A server always uses the latest configuration in its log, regardless of whether the
entry is committed" (thesis 4.1). An entry that is truncated takes its configuration
along, so the earlier ones are remembered as long as that may happen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

CHANGES = frozenset({"add_server", "remove_server"})
"""Types of the commands that hold a configuration, under "members"."""


class Members:
    """The configurations that the log holds, the latest of which is in use.

    Args:
        names: The members to begin with.
        index: The entry that says so; 0 when it is how the cluster began.

    Attributes:
        names: The members now.
        index: The entry that made them so.
    """

    __slots__ = ("history", "index", "names")

    def __init__(self, names: Iterable[str], index: int = 0) -> None:
        self.history: list[tuple[int, tuple[str, ...]]] = []
        self.adopt(index, names)

    def adopt(self, index: int, names: Iterable[str]) -> None:
        """Use the members of the entry at `index`, which is in the log now."""
        self.history.append((index, tuple(sorted(names))))
        self.index, self.names = self.history[-1]

    def truncate(self, first: int) -> None:
        """Drop the configurations of the entries from `first` on, which are gone."""
        while len(self.history) > 1 and self.history[-1][0] >= first:
            self.history.pop()
        self.index, self.names = self.history[-1]

    def compact(self, index: int) -> None:
        """Forget what was in use before the entry at `index`, which never goes."""
        while len(self.history) > 1 and self.history[1][0] <= index:
            del self.history[0]

    def as_of(self, index: int) -> tuple[int, tuple[str, ...]]:
        """The members that the entries up to `index` make, and which entry did."""
        return next(known for known in reversed(self.history) if known[0] <= index)
