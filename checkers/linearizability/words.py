"""Phrases for calls and durations, and the graph that a witness is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from checkers.linearizability.arguments import depends_on
from checkers.linearizability.calls import NEVER
from checkers.linearizability.containers import Nothing
from checkers.linearizability.specification import show
from harness.verdict import new_witness

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    import networkx as nx

    from checkers.linearizability.calls import Call
    from checkers.linearizability.specification import Model
    from harness.history import History, Op

READING: Final = frozenset({"read", "dequeue", "pop"})
"""What brings something back *from* a node; all else is done *on* it."""

UNITS: Final = ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us"), (1, "ns"))


def duration(nanoseconds: int) -> str:
    """A duration with two or three digits: "120 ms", "3.2 s"."""
    for size, unit in UNITS:
        if nanoseconds >= size:
            amount = nanoseconds / size
            return f"{amount:.1f} {unit}" if amount < 10 else f"{amount:.0f} {unit}"
    return "0 ns"


def listed(values: Iterable[Hashable]) -> str:
    """The values, one after the other: "1, 2, 3"."""
    return ", ".join(map(show, values))


def wanted(call: Call) -> str:
    """The value that a call depends on, as text."""
    value = depends_on(call.operation)
    assert value is not None
    return show(value[0])


def only_failed(what: str, failed: Sequence[Op]) -> str:
    """That all attempts failed, which must never be seen; a clause and a full stop."""
    attempts = f"all {len(failed)} attempts to {what} by then failed"
    if len(failed) == 1:
        (op,) = failed
        attempts = (
            f"the only attempt to {what} by then, by process {op.process}, failed"
        )
    return f"{attempts}, and what failed must never be seen."


@dataclass(frozen=True)
class Words:
    """Turns calls into phrases."""

    history: History
    model: Model

    def actor(self, call: Call) -> str:
        """Who did it."""
        return f"process {self.history[call.position].process}"

    def past(self, call: Call) -> str:
        """What happened, as a clause: "process 7 read 3 from n2"."""
        did = self.model.describe(call.operation)
        if call.returned == NEVER:
            did = f"perhaps {did}"
        node = self.history[call.position].node
        f, _, result = call.operation
        brought = f in READING and not isinstance(result, Nothing)
        where = f" {'from' if brought else 'on'} {node}"
        return f"{self.actor(call)} {did}{where if node else ''}"

    def noun(self, call: Call) -> str:
        """The call as a thing: "process 4's write of 5"."""
        return f"{self.actor(call)}'s {self.model.noun(call.operation)}"

    def verb(self, call: Call) -> str:
        """The kind of thing that the call is: "read"."""
        return self.model.noun(call.operation).partition(" ")[0]

    def ahead(self, a: Call, b: Call) -> str:
        """How long a's return came before b's invocation: "120 ms before"."""
        began, returned = self.history[b.position], self.history[a.position]
        if a.returned == NEVER or began.type != "invoke":
            return "before"
        if returned.type == "invoke":
            returned = self.history[self.history.completion[a.position]]
        gap = began.time - returned.time
        return f"{duration(gap)} before" if gap > 0 else "before"

    def although(self, late: Call, early: Call) -> str:
        """That `late` did what it did after `early` had returned; a clause."""
        return (
            f"{self.past(late)} although {self.noun(early)} had returned "
            f"{self.ahead(early, late)} that began"
        )

    def too_early(self, found: Call, source: Call) -> str:
        """That `found` returned before `source`, which it needs, began; a sentence."""
        return (
            f"{self.past(found)}, and returned {self.ahead(found, source)} "
            f"{self.noun(source)} began, the first there was."
        )


@dataclass
class Witness:
    """A graph under construction; its vertices are history positions.

    Edges are of three kinds:

    - `realtime`: a returned before b was invoked;
    - `reads-from`: b returned the value that a wrote;
    - `must-precede`: a has to come first for a reason that stands on the edge.
    """

    words: Words
    graph: nx.DiGraph[int] = field(default_factory=new_witness)

    def add(self, *calls: Call) -> None:
        """Calls that take part."""
        self.graph.add_nodes_from(call.position for call in calls)

    def link(self, a: int, b: int, kind: str, reason: str) -> None:
        """One reason for a to come before b; the first one given stays."""
        if a != b and not self.graph.has_edge(a, b):
            self.graph.add_edge(a, b, kind=kind, reason=reason)

    def must_precede(self, a: Call, b: Call, reason: str) -> None:
        """A has to come before b."""
        self.link(a.position, b.position, "must-precede", reason)

    def realtime(self, a: Call, b: Call) -> None:
        """A returned before b was invoked."""
        words = self.words
        began = f"{words.ahead(a, b)} {words.noun(b)} began"
        reason = f"{words.noun(a)} returned {began}"
        self.link(a.position, b.position, "realtime", reason)

    def reads_from(self, writer: Call, reader: Call) -> None:
        """The reader returned, or replaced, what the writer wrote."""
        words = self.words
        reason = f"{words.past(reader)}, which {words.actor(writer)} wrote"
        self.link(writer.position, reader.position, "reads-from", reason)

    def all_realtime(self, calls: Sequence[Call]) -> None:
        """The real-time order of `calls`, without what follows from the rest."""
        import networkx as nx

        order: nx.DiGraph[int] = nx.DiGraph()
        order.add_nodes_from(range(len(calls)))
        order.add_edges_from(
            (i, j)
            for i, a in enumerate(calls)
            for j, b in enumerate(calls)
            if a.returned < b.invoked
        )
        for i, j in nx.transitive_reduction(order).edges:
            self.realtime(calls[i], calls[j])

    @property
    def ops(self) -> tuple[int, ...]:
        """The positions that take part, in order."""
        return tuple(sorted(self.graph.nodes))
