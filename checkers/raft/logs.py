"""The logs of Raft's servers, rebuilt event by event from what each observed.

Each server's log is rebuilt from its own events alone, as nothing orders the events of
different servers. A crash may take the events of a server's last instant. So after it
only entries known to be committed are certain, and the others once `recovered` confirms
them by the log's end (by log matching).

Events (`harness.history.observations`; kind and fields, others are passed over):

    became_leader{term, last_log_index}      became_follower{term}
    became_candidate{term}
    voted{term, candidate, last_log_index?, last_log_term?}: its candidate's log
    appended{first, entries: [[term, command], ...]}
    truncated{first, last}                   committed{first, last, term?}
    applied{index, term?, ...}               lost_quorum{term}
    installed_snapshot{index, term, last_log_index}
    recovered{term?, voted_for?, last_log_index?, last_log_term?}      restarted{}
    joins{}: a server that is no member starts with an empty disk, by an operator's will
    on_disk{term, voted_for, first, prev_log_term, entries, last_log_index,
            last_log_term}: what was read from its data folder after the run
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from checkers.findings import name_of
from checkers.values import freeze

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from harness.history import History, Op

TERM = (int, list)
"""What a term is: a number, or the ballot of a protocol whose ballots are pairs."""

FIELDS: Mapping[str, Mapping[str, type | tuple[type, ...]]] = {
    "became_leader": {"term": TERM},
    "became_candidate": {"term": TERM},
    "voted": {"term": TERM, "candidate": str},
    "appended": {"first": int, "entries": list},
    "truncated": {"first": int},
    "committed": {"first": int, "last": int},
    "applied": {"index": int},
    "installed_snapshot": {"index": int, "last_log_index": int},
    "on_disk": {"first": int, "entries": list, "last_log_index": int},
}
"""What an event must have to be understood; a kind that isn't here needs nothing."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """An entry that a server's log held, and the event that says so."""

    term: Any
    command: Any
    op: int

    def same(self, other: Entry) -> bool:
        """Whether it is the same entry, wherever it was seen."""
        if self.command is not other.command and self.command != other.command:
            return False
        return bool(self.term == other.term)


def within(known: Mapping[int, Any], first: int, last: int) -> list[int]:
    """The indices from `first` to `last` that are known, in order.

    Costs no more than all that is known: a node may say that its log ends anywhere.
    """
    if first == last:
        return [first] if first in known else []
    if last - first < len(known):
        return [i for i in range(first, last + 1) if i in known]
    return sorted(i for i in known if first <= i <= last)


@dataclass
class Log:
    """A server's log, as far as its events tell.

    Attributes:
        entries: By index; an index up to `last` that is missing is unknown.
        last: Index of the last entry; None after a restart, until it is known again.
        base: Index and term of the entry that a snapshot ends with.
        committed: Highest index that the server ever knew to be committed.
    """

    entries: dict[int, Entry] = field(default_factory=dict)
    last: int | None = 0
    base: tuple[int, Any] = (0, 0)
    committed: int = 0

    def drop(self, first: int) -> dict[int, Entry]:
        """Entries from `first` on go; returns those that were known, by index."""
        if self.last is None:
            last = max(self.entries, default=0)
        else:
            last = self.last
            self.last = min(last, first - 1)
        if first > last:
            return {}
        return {i: self.entries.pop(i) for i in within(self.entries, first, last)}

    def append(self, first: int, entries: list[Entry]) -> None:
        """The log holds `entries` from `first` on, and nothing behind them."""
        self.entries.update(enumerate(entries, first))
        self.last = first + len(entries) - 1

    def restart(self) -> None:
        """Only what is committed is certain; the end of the log is not known."""
        self.last = None
        for index in [i for i in self.entries if i > self.committed]:
            del self.entries[index]

    def install(self, index: int, term: Any, last: int) -> None:
        """A snapshot covers all up to `index`; the log now ends at `last`.

        If the log held another entry at `index`, the snapshot took the place of
        whatever was not committed before it, too (paper, Figure 13, rule 7).
        """
        if self.term_at(index) != term:
            for i in within(self.entries, self.committed + 1, index):
                del self.entries[i]
        self.drop(last + 1)
        self.last = last
        self.base = (index, term)
        self.committed = max(self.committed, index)

    def read(self, first: int, prev_term: Any, entries: list[Entry]) -> None:
        """The log from `first` on was read; what a snapshot stands in for is kept."""
        self.entries = {i: e for i, e in self.entries.items() if i < first}
        self.base = (first - 1, prev_term)
        self.append(first, entries)

    def term_at(self, index: int) -> Any:
        """Term of the entry at `index`; 0 before the first, None when not known."""
        if index == 0:
            return 0
        if index in self.entries:
            return self.entries[index].term
        return self.base[1] if index == self.base[0] else None

    def stands_for(self, index: int, entry: Entry) -> bool:
        """Whether it holds that entry, or a snapshot that covers it."""
        own = self.entries.get(index)
        return index <= self.base[0] or (own is not None and own.same(entry))


class Change(msgspec.Struct, frozen=True, gc=False):
    """An event, with the server's log after it, and what it took off the log."""

    op: Op
    log: Log
    gone: Mapping[int, Entry]


class Logs:
    """The logs of all servers, rebuilt event by event; each server's are in order."""

    def __init__(self) -> None:
        self._of: dict[str, Log] = defaultdict(Log)
        self._tails: dict[str, dict[int, Entry]] = defaultdict(dict)
        # Index -> the command that was seen there last. Servers mostly tell the same,
        # and what is one object need not be compared again.
        self._commands: dict[int, Any] = {}

    def replay(self, events: Iterable[Op]) -> Iterator[Change]:
        """What the next events change. Cost: linear in events and entries."""
        for op in events:
            if not op.is_client and is_understood(op):
                yield self._change(op)

    def _change(self, op: Op) -> Change:
        node, tails = name_of(op), self._tails
        log = self._of[node]
        gone: Mapping[int, Entry] = {}
        match op.f:
            case "appended":
                first = op.value["first"]
                entries = self._entries_of(op, first)
                gone = log.drop(first)
                log.append(first, entries)
            case "truncated":
                gone = log.drop(op.value["first"])
            case "committed":
                log.committed = max(log.committed, op.value["last"])
            case "joins":
                log = self._of[node] = Log()
                tails.pop(node, None)
            case "restarted":
                tails[node] = dict(log.entries)
                log.restart()
            case "recovered":
                gone = forgotten(tails[node], op.value)
                confirm(log, tails[node], op.value)
            case "on_disk":
                gone = forgotten(log.entries, op.value)
                prev_term = freeze(op.value.get("prev_log_term"))
                log.read(op.value["first"], prev_term, entries_of(op))
            case "installed_snapshot":
                log.install(op.value["index"], term_of(op), op.value["last_log_index"])
            case _:
                pass
        return Change(op, log, gone)

    def _entries_of(self, op: Op, first: int) -> list[Entry]:
        """The entries of an `appended`; commands seen before are the same objects."""
        commands, at = self._commands, op.index
        entries = []
        for index, (term, command) in enumerate(op.value["entries"], first):
            seen = commands.get(index)
            if type(seen) is not type(command) or seen != command:
                seen = commands[index] = command
            entries.append(Entry(term if type(term) is int else freeze(term), seen, at))
        return entries


def replay(history: History) -> Iterator[Change]:
    """Rebuild all logs of a history, event by event."""
    return Logs().replay(history)


def is_understood(op: Op) -> bool:
    """Whether an event has the fields of its kind."""
    value = op.value
    if not isinstance(value, dict):
        return False
    needs = FIELDS.get(op.f)
    if needs is None:
        return True
    for name, kind in needs.items():
        if not isinstance(value.get(name), kind):
            return False
    return "entries" not in needs or are_entries(value)


def are_entries(fields: Mapping[str, Any]) -> bool:
    """Whether an event's entries are pairs of term and command."""
    for entry in fields["entries"]:
        if not (
            isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], TERM)
        ):
            return False
    return True


def term_of(op: Op) -> Any:
    """The term that an event tells, or None."""
    term = op.value.get("term")
    return term if type(term) is int else freeze(term)


def entries_of(op: Op) -> list[Entry]:
    """The entries of an `appended`."""
    return [
        Entry(freeze(term), command, op.index) for term, command in op.value["entries"]
    ]


def confirm(log: Log, tail: Mapping[int, Entry], fields: Mapping[str, Any]) -> None:
    """A server tells, as it starts, where its log ends.

    If it had that very entry there before, it still has all up to there (log matching).
    """
    last, term = fields.get("last_log_index"), freeze(fields.get("last_log_term"))
    if not isinstance(last, int):
        return
    log.last = last
    if last in tail and tail[last].term == term:
        log.entries.update((i, e) for i, e in tail.items() if i <= last)


def forgotten(
    tail: Mapping[int, Entry], fields: Mapping[str, Any]
) -> Mapping[int, Entry]:
    """What the log held before the crash, and holds no more.

    A shorter log alone proves nothing: the server may have replaced its end in its last
    instant, unseen. But then its last entry is not the one that it had at that index.
    """
    last, term = fields.get("last_log_index"), freeze(fields.get("last_log_term"))
    if not isinstance(last, int) or last >= max(tail, default=0):
        return {}
    had = tail[last].term if last in tail else None
    if last and (had is None or had != term):
        return {}
    return {i: tail[i] for i in sorted(tail) if i > last}
