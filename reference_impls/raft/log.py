"""The log: entries by index from 1 on, of which a snapshot may have replaced the first.

The entry at `base` stands in for all entries up to there. AppendEntries needs its index
and term, so they are still known; its command isn't.

Some entries hold a configuration, which is in use as long as they are in the log.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from reference_impls.raft.members import CHANGES, NONE, Members

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reference_impls import kv
    from reference_impls.actor import Record
    from reference_impls.core import Outbox

NOOP: kv.Command = {"type": "noop"}


class Entry(NamedTuple):
    """A log entry; a list of two in JSON."""

    term: int
    command: kv.Command


class Log:
    """Entries by index, and the members that they make.

    Args:
        out: Where entries are made durable.
        members: The configuration of a log that holds none.

    Attributes:
        base: The last index that a snapshot covers; 0 without one.
        entries: `entries[i]` has index `base + i`; the first is the stand-in.
        members: The configurations in this log.
    """

    __slots__ = ("base", "entries", "members", "out")

    def __init__(self, out: Outbox, members: Members) -> None:
        self.out = out
        self.members = members
        self.begin_after(0, 0)

    def begin_after(self, base: int, term: int) -> None:
        """Hold nothing, after a snapshot that ends at `base` with an entry of `term`.

        Both are 0 for a log that never held any.
        """
        self.base = base
        self.entries = [Entry(term, NOOP)]

    @property
    def last_index(self) -> int:
        """Index of the last entry; 0 for a log that never held any."""
        return self.base + len(self.entries) - 1

    @property
    def last_term(self) -> int:
        """Term of the last entry; 0 for a log that never held any."""
        return self.entries[-1].term

    def __getitem__(self, index: int) -> Entry:
        assert index > self.base, f"entry {index} is compacted away"
        return self.entries[index - self.base]

    def term_at(self, index: int) -> int:
        """Term of the entry at `index`, which is `base` or later."""
        assert index >= self.base, f"entry {index} is compacted away"
        return self.entries[index - self.base].term

    def since(self, first: int, count: int | None = None) -> list[Entry]:
        """At most `count` entries from `first` on, which is later than `base`."""
        assert first > self.base, f"entry {first} is compacted away"
        start = first - self.base
        return self.entries[start : None if count is None else start + count]

    def last_index_of_term(self, term: int) -> int:
        """The last index whose entry is known to be of `term`; -1 if there is none."""
        i = bisect_right(self.entries, term, key=_term) - 1
        return self.base + i if i >= 0 and self.entries[i].term == term else -1

    # --- changes -----------------------------------------------------------------

    def extend(self, entries: Sequence[Entry]) -> None:
        """Append; a configuration counts from now on (thesis 4.1)."""
        first = self.last_index + 1
        self.entries.extend(entries)
        for index, entry in enumerate(entries, first):
            if entry.command["type"] in CHANGES:
                self.members.adopt(
                    index,
                    entry.command["members"],
                    entry.command.get("incarnations", NONE),
                )
                names = list(self.members.names)
                self.out.observe("members", index=index, members=names)

    def truncate(self, first: int) -> None:
        """Drop the entries from `first` on, and the configurations they hold."""
        assert first > self.base, f"entry {first} is compacted away"
        del self.entries[first - self.base :]
        self.members.truncate(first)

    def compact(self, index: int, term: int) -> None:
        """Replace the entries up to `index`, of `term`, by a stand-in.

        If this log holds that very entry, the entries after it stay. If not, they
        followed a different entry, and go too (paper 7, Figure 13, rules 6 and 7).
        """
        assert index >= self.base, f"entry {index} is compacted away"
        holds_it = index <= self.last_index and self.term_at(index) == term
        later = self.entries[index - self.base + 1 :] if holds_it else []
        self.begin_after(index, term)
        self.entries += later

    # --- the disk ----------------------------------------------------------------

    def persist(self, first: int, entries: Sequence[Entry]) -> None:
        """Make durable that the log from `first` on is `entries`."""
        self.out.persist({"first": first, "entries": entries})

    def recover(self, record: Record) -> None:
        """Take back the entries that the record holds, if any.

        Entries in a record with a snapshot follow the snapshot. A record of `persist`
        says where its entries begin.
        """
        if "entries" in record:
            first = record.get("first", self.base + 1)
            self.truncate(first)
            self.extend([Entry(term, command) for term, command in record["entries"]])


def _term(entry: Entry) -> int:
    """The key for a search by term, which never falls along a log."""
    return entry.term
