"""Why a key is not linearizable: the operations in conflict, in words, as a graph.

A verdict nobody can follow is worth little. So an anomaly names few operations, says in
one or two sentences why no order can hold them, and draws the order that they force:

- `realtime`: a returned before b was invoked;
- `reads-from`: b returned the value that a wrote;
- `must-precede`: a has to come first for a reason that stands on the edge.

A cycle among these is the contradiction. It is found directly where a value has been
replaced, whole and for good, before an operation that depends on it began: the stale
read, the lost update. For anything more involved, the smallest set of operations that
can't be ordered is named (`shrink`), with every state that the object could have had.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from checkers.linearizability.calls import (
    NEVER,
    Call,
    client_positions,
    earliest,
    partition,
)
from checkers.linearizability.containers import Counter, Nothing
from checkers.linearizability.lost import LOST_WRITE, find_lost
from checkers.linearizability.search import search
from checkers.linearizability.shrink import shrink
from checkers.linearizability.specification import UNOBSERVED, Operation, freeze, show
from checkers.linearizability.windows import Effort
from harness.history import NO_COMPLETION
from harness.history.columns import FAIL
from harness.verdict import Anomaly, new_witness

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    import networkx as nx

    from checkers.linearizability.budget import Budget
    from checkers.linearizability.conflict import Conflict
    from checkers.linearizability.deciders import Narrowed
    from checkers.linearizability.lost import Lost
    from checkers.linearizability.outcome import Outcome
    from checkers.linearizability.shrink import Core
    from checkers.linearizability.specification import Model
    from checkers.linearizability.zones import Columns, Violation
    from harness.history import History, Op

OPS_MAX: Final = 60
"""Operations in a witness; of a larger conflict the latest are shown."""

STATES_MAX: Final = 6
"""States named in a sentence; all are in the details."""

REPEATED_MAX: Final = 5_000
"""Calls that are searched for partial linearizations, though a decider knows better."""

PARTIALS_EFFORT_MAX: Final = 10_000
"""Configurations that such a search may look at: some hundredths of a second."""

PERHAPS_INITIAL: Final = "perhaps_initial"
"""In an anomaly's details: the value that was read, which nobody had written, where it
may have been there from the start."""

INITIAL_CHARS_MAX: Final = 40
"""Of a value that could be given as an option in a sentence."""

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


def named(calls: Sequence[Call], outcome: Outcome) -> list[list[int]]:
    """The partial linearizations that a search came to, by history position."""
    return [[calls[i].position for i in partial] for partial in outcome.partials]


def ends_prefix(stuck: Call, calls: Sequence[Call]) -> dict[str, Any]:
    """What details say of the call with whose return `calls` cease to have an order."""
    before = sum(call.returned < stuck.returned for call in calls)
    return {
        "first_impossible_op": stuck.position,
        "linearizable_prefix_calls": before,
    }


def depends_on(operation: Operation) -> tuple[Hashable] | None:
    """The value that the state must have for it, in a tuple; None for no such value."""
    if operation.f == "read":
        return (operation.result,)
    return (operation.argument,) if operation.f == "cas" else None


def leaves(operation: Operation) -> tuple[Hashable] | None:
    """The value that the state has after it, in a tuple; None when that depends."""
    if operation.f in {"read", "cas"}:
        return (operation.result,)
    return (operation.argument,) if operation.f == "write" else None


def produces(operation: Operation, value: Hashable) -> bool:
    """Whether it is a write, or a cas, of `value`."""
    return operation.f in {"write", "cas"} and leaves(operation) == (value,)


def excludes(operation: Operation, value: Hashable) -> bool:
    """Whether the state surely is not `value` right after it."""
    if operation.f == "cas-mismatch":
        return operation.argument == value
    after = leaves(operation)
    return after is not None and after != (value,)


@dataclass(frozen=True)
class Replaced:
    """The argument that a value had been replaced before `stale` depended on it.

    Attributes:
        stale: The operation that depends on the value.
        producers: All operations that could have brought the value about.
        early: Shows that the value had come: it returned before `later` was invoked.
            None for the initial value.
        later: An operation on another value, after `early`.
        fresh: An operation on that other value that returned before `stale` was
            invoked; often the same as `later`.
        source: The operation that wrote the other value, where it is known.
    """

    stale: Call
    producers: tuple[Call, ...]
    early: Call | None
    later: Call
    fresh: Call
    source: Call | None = None


@dataclass
class Witness:
    """A graph under construction; its vertices are history positions."""

    words: Words
    graph: nx.DiGraph[int] = field(default_factory=new_witness)

    def add(self, *calls: Call) -> None:
        """Calls that take part."""
        self.graph.add_nodes_from(call.position for call in calls)

    def edge(self, a: Call, b: Call, kind: str, reason: str) -> None:
        """One reason for a to come before b; the first one given stays."""
        if a is not b and not self.graph.has_edge(a.position, b.position):
            self.graph.add_edge(a.position, b.position, kind=kind, reason=reason)

    def realtime(self, a: Call, b: Call) -> None:
        """A returned before b was invoked."""
        words = self.words
        self.edge(
            a,
            b,
            "realtime",
            f"{words.noun(a)} returned {words.ahead(a, b)} {words.noun(b)} began",
        )

    def reads_from(self, writer: Call, reader: Call) -> None:
        """The reader returned, or replaced, what the writer wrote."""
        words = self.words
        self.edge(
            writer,
            reader,
            "reads-from",
            f"{words.past(reader)}, which {words.actor(writer)} wrote",
        )

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

    def ahead(self, a: Call, b: Call) -> str:
        """How long a's return came before b's invocation: "120 ms before"."""
        began, returned = self.history[b.position], self.history[a.position]
        if a.returned == NEVER or began.type != "invoke":
            return "before"
        if returned.type == "invoke":
            returned = self.history[self.history.completion[a.position]]
        gap = began.time - returned.time
        return f"{duration(gap)} before" if gap > 0 else "before"


class Explainer:
    """Explains the broken keys of one history."""

    def __init__(self, history: History, model: Model) -> None:
        self.history = history
        self.model = model
        self.words = Words(history, model)

    # Zones

    def zones(self, table: Columns, cut: Columns, violation: Violation) -> Anomaly:
        """The anomaly for a key that zones found broken.

        Args:
            table: All calls.
            cut: Those up to where the key ceased to be linearizable.
            violation: What is wrong with the key then.

        Cost: linear in the calls on broken keys, and once in the history.
        """
        of_key = cut.key == violation.key
        (row,) = np.flatnonzero(of_key & (cut.returned == violation.position)).tolist()
        details = {
            "first_impossible_op": int(cut.position[row]),
            "linearizable_prefix_calls": int((cut.returned[of_key] != NEVER).sum()) - 1,
        }
        first = self.cluster(cut, violation.key, violation.first)
        if violation.flaw != "conflict":
            reader = min(first, key=lambda call: call.returned)
            whole = self.cluster(table, violation.key, violation.first)
            later = [call for call in whole if call.operation.f in self.model.writes]
            other = of_key & (cut.value != violation.first)
            at_first = not (other & (cut.returned < reader.invoked)).any()
            return self.unwritten(reader, later, details, at_first=at_first)
        second = self.cluster(cut, violation.key, violation.second)
        if min_return(second) < min_return(first) and violation.first != 0:
            first, second = second, first
        return self.replaced(conflict(first, second), details)

    def cluster(self, table: Columns, key: int, value: int) -> list[Call]:
        """The calls on one value of a key, in order of invocation."""
        rows = np.flatnonzero((table.key == key) & (table.value == value)).tolist()
        calls = []
        for row in rows:
            position, returned = int(table.position[row]), int(table.returned[row])
            first = self.history[position]
            alone = first.type != "invoke"
            end = position if alone else self.history.completion[position]
            completed = None if returned == NEVER else self.history[end]
            operation = self.model.operation(first, completed)
            assert operation is not None
            calls.append(Call(operation, int(table.invoked[row]), returned, position))
        return calls

    # Search

    def search(
        self, calls: Sequence[Call], outcome: Outcome, budget: Budget
    ) -> Anomaly:
        """The anomaly for a key that the search found broken."""
        assert outcome.stuck is not None
        stuck = calls[outcome.stuck]
        details: dict[str, Any] = {
            **ends_prefix(stuck, calls),
            "partial_linearizations": named(calls, outcome),
        }
        return self.simple(calls, stuck, details) or self.involved(
            calls, shrink(calls, self.model, stuck, budget), stuck, details
        )

    def simple(
        self, calls: Sequence[Call], stuck: Call, details: dict[str, Any]
    ) -> Anomaly | None:
        """An argument without search, if there is one."""
        if isinstance(self.model, Counter):
            return self.out_of_bounds(calls, stuck, details)
        wanted = depends_on(stuck.operation) if self.model.reads else None
        if wanted is None:
            return None
        if any(call.operation.f in self.model.appends for call in calls):
            evidence = find_outgrown(calls, stuck, self.model)
            return None if evidence is None else self.outgrown(stuck, evidence, details)
        value = wanted[0]
        if value == self.model.initial:
            producers = [c for c in calls if produces(c.operation, value)]
        else:
            producers = [
                c for c in calls if produces(c.operation, value) and c is not stuck
            ]
            if all(c.invoked > stuck.returned for c in producers):
                at_first = not any(
                    call.returned < stuck.invoked and excludes(call.operation, value)
                    for call in calls
                )
                return self.unwritten(stuck, producers, details, at_first=at_first)
        argument = find_replaced(calls, stuck, value, producers, self.model)
        return None if argument is None else self.replaced(argument, details)

    # Polynomial deciders

    def decided(
        self, calls: Sequence[Call], found: Narrowed, budget: Budget
    ) -> Anomaly:
        """The anomaly for a key, all of whose `calls` a decider found broken.

        What the decider says is searched again. A search that finds an order all the
        same would be a flaw of ours, which must not become a verdict.
        """
        conflict, stuck = found.conflict, found.stuck
        again = search(conflict.calls, self.model, Effort(budget), merge=False)
        assert again.linearizable is not True, conflict
        partials = named(conflict.calls, again)
        if len(found.calls) <= REPEATED_MAX:
            effort = Effort(budget, PARTIALS_EFFORT_MAX)
            whole = search(found.calls, self.model, effort, merge=False)
            assert whole.linearizable is not True, conflict
            if whole.linearizable is False:
                partials = named(found.calls, whole)
        details: dict[str, Any] = {
            "partial_linearizations": partials,
            "conflict_calls": len(conflict.calls),
        }
        if found.shortest:
            details |= ends_prefix(stuck, found.calls)
        else:
            details["impossible_by_op"] = stuck.position
        if self.model.reads:
            simple = self.simple(calls, stuck, details)
            if simple is not None:
                return simple
        return self.contradiction(conflict, found.calls, stuck, details)

    def contradiction(
        self,
        conflict: Conflict,
        calls: Sequence[Call],
        stuck: Call,
        details: dict[str, Any],
    ) -> Anomaly:
        """The anomaly that a conflict tells of."""
        positions = {call.position for call in conflict.calls}
        # As they were, where the conflict needs less of them.
        shown = [call for call in calls if call.position in positions]
        witness = Witness(self.words)
        witness.add(*shown)
        witness.all_realtime(shown[-OPS_MAX:])
        for a, b, reason in conflict.forced:
            witness.edge(a, b, "must-precede", reason)
        name, text = conflict.name, conflict.tell(self.words)
        if conflict.missing is not None:
            name, text = self.missed(name, text, stuck, witness, *conflict.missing)
        return self.anomaly(name, stuck, witness, text, details)

    def missed(
        self,
        name: str,
        text: str,
        stuck: Call,
        witness: Witness,
        f: str,
        value: Hashable,
    ) -> tuple[str, str]:
        """Name and sentence, where something was found that nobody had brought about.

        It may be that what would have brought it about failed, or began too late. The
        attempt is added to `witness`.

        Cost: linear in the history.
        """
        failed, later = self.attempts(stuck, f, value)
        if not failed and not later:
            return name, text
        past, thing = self.words.past(stuck), name.rpartition("-")[2]
        op = (failed or later)[0]
        witness.graph.add_edge(
            op.index,
            stuck.position,
            kind="reads-from",
            reason="though it failed" if failed else "though it began later",
        )
        if failed:
            what = f"{f} {show(value)}"
            return (
                f"failed-{thing}",
                f"{past}, but {only_failed(what, op, len(failed))}",
            )
        return f"{thing}-from-future", (
            f"{past}, and returned before process {op.process}'s {f} of "
            f"{show(value)} began, the first there was."
        )

    def attempts(
        self, stuck: Call, f: str, value: Hashable
    ) -> tuple[list[Op], list[Op]]:
        """Calls of `f` with `value` which failed, and those which began too late.

        One that failed is no explanation where it had not even begun.
        """
        key = freeze(self.history[stuck.position].key)
        failed, later = [], []
        invoked, completed = client_positions(self.history)
        began = earliest(self.history, invoked)
        columns = (began, invoked, completed)
        for start, i, j in zip(*(c.tolist() for c in columns), strict=True):
            op = self.history[i]
            if op.f != f or freeze(op.value) != value or freeze(op.key) != key:
                continue
            if j == NO_COMPLETION or self.history[j].type != "fail":
                later.append(op)
            elif start < stuck.returned:
                failed.append(op)
        return failed, later

    # Anomalies

    def anomaly(
        self,
        name: str,
        stuck: Call,
        witness: Witness,
        explanation: str,
        details: dict[str, Any],
    ) -> Anomaly:
        """An anomaly about the key of `stuck`."""
        lost = self.lost(stuck) if name == "stale-read" else None
        if lost is not None:
            name, explanation = LOST_WRITE, f"{self.lost_words(lost)}; {explanation}"
            witness.add(lost.write)
        return Anomaly(
            name,
            witness.ops,
            explanation,
            witness.graph,
            key=self.history[stuck.position].key,
            details=details,
        )

    def lost(self, stale: Call) -> Lost | None:
        """The acknowledged write that a stale read tells to be gone for good."""
        if not self.model.writes or self.model.appends:
            return None
        key = freeze(self.history[stale.position].key) if self.model.by_key else None
        calls = partition(self.history, self.model, only={key})[key]
        return find_lost(self.history, calls, stale, self.model)

    def lost_words(self, lost: Lost) -> str:
        """The clauses for a lost write."""
        where = "" if lost.node is None else f" on {lost.node}"
        count = len(lost.missed_by)
        reads = f"all {count} reads" if count > 1 else "the only read"
        return (
            f"{self.words.noun(lost.write)} was acknowledged and never seen again"
            f"{where}: {reads} that began later{where} found what was there before it, "
            f"the last one {duration(lost.last_ns)} later"
        )

    def unwritten(
        self,
        reader: Call,
        later: Sequence[Call],
        details: dict[str, Any],
        *,
        at_first: bool,
    ) -> Anomaly:
        """Something depends on a value that no successful or open write had written.

        Args:
            reader: What depends on it.
            later: Writes of the value that began after `reader` had returned.
            details: For the anomaly.
            at_first: Whether no other value certainly was there before `reader` began,
                so that it may have been the initial one.
        """
        value = show_wanted(reader)
        if at_first and len(value) <= INITIAL_CHARS_MAX:
            details = details | {PERHAPS_INITIAL: value}
        past = self.words.past(reader)
        failed = [
            i for began, i in self.failed_attempts(reader) if began < reader.returned
        ]
        if later and not failed:
            first = min(later, key=lambda call: call.invoked)
            return self.future(reader, first, details)
        witness = Witness(self.words)
        witness.add(reader)
        if not failed:
            text = f"{past}, but nobody ever wrote {value}."
            return self.anomaly(
                "read-of-unwritten-value", reader, witness, text, details
            )
        op = self.history[failed[0]]
        writer = Call(Operation("write", freeze(op.value)), op.index, NEVER, op.index)
        reason = f"{past}, which only a failed write wrote"
        witness.edge(writer, reader, "reads-from", reason)
        text = f"{past}, but {only_failed(f'write {value}', op, len(failed))}"
        return self.anomaly("read-of-failed-write", reader, witness, text, details)

    def future(self, reader: Call, writer: Call, details: dict[str, Any]) -> Anomaly:
        """A value was returned before anyone began to write it."""
        words = self.words
        witness = Witness(words)
        witness.realtime(reader, writer)
        witness.reads_from(writer, reader)
        text = (
            f"{words.past(reader)}, and returned {words.ahead(reader, writer)} "
            f"{words.noun(writer)} began, the first there was."
        )
        return self.anomaly("read-from-future", reader, witness, text, details)

    def replaced(self, why: Replaced, details: dict[str, Any]) -> Anomaly:
        """Something depends on a value that had been replaced before it began."""
        return self.anomaly(
            "stale-read" if why.stale.operation.f == "read" else "lost-update",
            why.stale,
            self.replaced_witness(why),
            self.replaced_words(why),
            details,
        )

    def replaced_words(self, why: Replaced) -> str:
        """The sentences for a value that had been replaced."""
        words = self.words
        value = show_wanted(why.stale)
        verb = self.model.noun(why.stale.operation).partition(" ")[0]
        text = (
            f"{words.past(why.stale)} although {words.noun(why.fresh)} had returned "
            f"{words.ahead(why.fresh, why.stale)} that {verb} began"
        )
        if why.early is None:
            return f"{text}, and {value} is only the initial value."
        return (
            f"{text}, and {value} had been replaced by then: {words.noun(why.early)} "
            f"had returned {words.ahead(why.early, why.later)} "
            f"{words.noun(why.later)} began."
        )

    def replaced_witness(self, why: Replaced) -> Witness:
        """The cycle: old value, new value, and back to the old."""
        words = self.words
        witness = Witness(words)
        witness.add(*why.producers[-OPS_MAX:])
        if why.early is not None:
            witness.realtime(why.early, why.later)
        witness.realtime(why.fresh, why.stale)
        if len(why.producers) == 1:
            (producer,) = why.producers
            witness.reads_from(producer, why.stale)
            if why.early is not None:
                witness.reads_from(producer, why.early)
        new = why.source or why.fresh
        if new is not why.fresh:
            witness.reads_from(new, why.fresh)
        if new is not why.later:
            witness.reads_from(new, why.later)
        value = show_wanted(why.stale)
        witness.edge(
            why.stale,
            new,
            "must-precede",
            f"{words.noun(new)} shows that {value} was replaced, and it did not come "
            "back, so whatever found it came first",
        )
        return witness

    def outgrown(self, stale: Call, evidence: Call, details: dict[str, Any]) -> Anomaly:
        """A read lacks something that had been appended before it began."""
        words = self.words
        witness = Witness(words)
        witness.realtime(evidence, stale)
        reason = f"{words.past(stale)}, which lacks what {words.noun(evidence)} shows"
        witness.edge(stale, evidence, "must-precede", reason)
        text = (
            f"{words.past(stale)} although {words.noun(evidence)} had returned "
            f"{words.ahead(evidence, stale)} that read began, and nothing replaced "
            "the value in between."
        )
        return self.anomaly("stale-read", stale, witness, text, details)

    def out_of_bounds(
        self, calls: Sequence[Call], read: Call, details: dict[str, Any]
    ) -> Anomaly | None:
        """A counter that only grows was read lower or higher than it can have been."""
        seen = read.operation.result
        adds = [call for call in calls if call.operation.f == "add"]
        if seen is None or any(amount(call) < 0 for call in adds):
            return None
        before = [call for call in adds if call.returned < read.invoked]
        begun = [call for call in adds if call.invoked < read.returned]
        assert isinstance(self.model.initial, int)
        assert isinstance(seen, int)
        least = self.model.initial + sum(map(amount, before))
        most = self.model.initial + sum(map(amount, begun))
        if least <= seen <= most:
            return None
        witness = Witness(self.words)
        involved = before if seen < least else begun
        witness.add(*involved[-OPS_MAX + 1 :], read)
        for call in involved[-OPS_MAX + 1 :]:
            if call.returned < read.invoked:
                witness.realtime(call, read)
        details = details | {"conflict_calls": len(involved) + 1}
        past = self.words.past(read)
        if seen < least:
            text = f"{past}, but {least} had been reached for certain when that began."
            return self.anomaly("stale-read", read, witness, text, details)
        text = f"{past}, but no more than {most} can have been reached by then."
        return self.anomaly("read-from-future", read, witness, text, details)

    def involved(
        self, calls: Sequence[Call], core: Core, stuck: Call, details: dict[str, Any]
    ) -> Anomaly:
        """Operations that can't be ordered, for no reason simpler than a search."""
        words = self.words
        shown = sorted(core.strong, key=lambda call: call.position)[-OPS_MAX:]
        witness = Witness(words)
        witness.add(*shown)
        witness.all_realtime(shown)
        states = core_states(core)
        details = details | {
            "conflict_calls": len(core.strong),
            "from_the_start": core.whole,
            "possible_states": [show(state) for state in states],
        }
        text = (
            f"{words.past(stuck)}, but no order of the {len(core.strong)} operations "
            "in conflict allows that"
        )
        if len(core.strong) == 1 and not self.model.reads:
            text = (
                f"{words.past(stuck)}, but whichever of the operations before it took "
                "effect, and in whatever order, it does not fit"
            )
        plain = all(type(state) in {str, int} for state in states)
        if states and (self.model.reads or plain):
            held = either([show(state) for state in states[:STATES_MAX]])
            more = ", ..." if len(states) > STATES_MAX and not self.model.reads else ""
            text += f": by then the value could only be {held}{more}"
        if not core.whole:
            text += ", whatever came before them"
        return self.anomaly(
            involved_name(calls, core, stuck, self.model),
            stuck,
            witness,
            text + ".",
            details,
        )

    # Failed writes

    def failed_attempts(self, reader: Call) -> list[tuple[int, int]]:
        """Writes of the value that `reader` depends on which failed.

        Returns:
            When each began, at the earliest, on the scale of `Call.invoked`, and its
            position; in order of position.
        """
        wanted = depends_on(reader.operation)
        assert wanted is not None
        key = freeze(self.history[reader.position].key)
        return self.failed_writes.get((key, wanted[0]), [])

    @cached_property
    def failed_writes(self) -> dict[tuple[Hashable, Hashable], list[tuple[int, int]]]:
        """(key, value) -> as from `failed_attempts`. Cost: linear in the history."""
        invoked, completed = client_positions(self.history)
        (at,) = np.nonzero(completed != NO_COMPLETION)
        at = at[self.history.columns.type[completed[at]] == FAIL]
        places = invoked[at]
        began = earliest(self.history, places)
        found: dict[tuple[Hashable, Hashable], list[tuple[int, int]]] = {}
        for start, i in zip(began.tolist(), places.tolist(), strict=True):
            op = self.history[i]
            value = op.value
            if op.f == "cas" and isinstance(value, list | tuple) and len(value) == 2:
                value = value[1]
            elif op.f not in self.model.writes:
                continue
            found.setdefault((freeze(op.key), freeze(value)), []).append((start, i))
        return found


def only_failed(what: str, op: Op, count: int) -> str:
    """That all of `count` attempts failed, the first of which was `op`; a clause."""
    if count == 1:
        attempts = (
            f"the only attempt to {what} by then, by process {op.process}, failed"
        )
    else:
        attempts = f"all {count} attempts to {what} by then failed"
    return f"{attempts}, and what failed must never be seen."


def amount(call: Call) -> int:
    """What a call adds to a counter."""
    assert isinstance(call.operation.argument, int)
    return call.operation.argument


def either(words: Sequence[str]) -> str:
    """A choice: "1", "1 or 2", "1, 2 or 3"."""
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def with_initial(anomalies: Sequence[Anomaly]) -> list[Anomaly]:
    """The anomalies, with a hint where another initial value would explain some.

    Systems under test begin with 0 as often as with nothing. If all values that were
    found and that nobody had written are one, and it was found before any other, that
    is more likely than a system which invents values.
    """
    found = [anomaly.details.get(PERHAPS_INITIAL) for anomaly in anomalies]
    invented = [
        value
        for value, anomaly in zip(found, anomalies, strict=True)
        if value is not None or anomaly.name == "read-of-unwritten-value"
    ]
    if len(set(invented)) != 1 or invented[0] is None:
        return list(anomalies)
    value = invented[0]
    option = shlex.quote(f"initial={value}")
    hint = f" If {value} was there from the start, check with --option {option}."
    return [
        anomaly
        if here is None
        else replace(anomaly, explanation=anomaly.explanation + hint)
        for here, anomaly in zip(found, anomalies, strict=True)
    ]


# Arguments


def min_return(calls: Sequence[Call]) -> int:
    """When the first of `calls` returned."""
    return min(call.returned for call in calls)


def show_wanted(call: Call) -> str:
    """The value that a call depends on, as text."""
    wanted = depends_on(call.operation)
    assert wanted is not None
    return show(wanted[0])


def conflict(old: Sequence[Call], new: Sequence[Call]) -> Replaced:
    """The argument for two clusters that conflict, where `old` began first.

    Cost: linear. That the calls exist follows from the zones: `old` has a call invoked
    after one of `new` returned, and it is a read, as the write of `old` was invoked
    before any of `old` returned, which was before any of `new` did.
    """
    writers = [call for call in old if call.operation.f == "write"]
    fresh = min(new, key=lambda call: call.returned)
    stale = min(
        (call for call in old if call.invoked > fresh.returned),
        key=lambda call: call.invoked,
    )
    source = next((call for call in new if call.operation.f == "write"), None)
    if not writers:  # the initial value: everything else comes later
        return Replaced(stale, (), None, fresh, fresh, source)
    early = min(old, key=lambda call: call.returned)
    later = min(
        (call for call in new if call.invoked > early.returned),
        key=lambda call: (call is not fresh, call is not source, call.invoked),
    )
    return Replaced(stale, tuple(writers), early, later, fresh, source)


def find_replaced(
    calls: Sequence[Call],
    stale: Call,
    value: Hashable,
    producers: Sequence[Call],
    model: Model,
) -> Replaced | None:
    """The argument that `value` had been replaced before `stale` began, if any.

    It takes an operation that began after all `producers` were through, shows another
    value, and returned before `stale` began. A producer is through when it returned;
    the only one there is, also when its value was seen.
    """
    relevant = [call for call in producers if call.invoked < stale.returned]
    through = {call.position: call for call in relevant}
    if len(relevant) == 1 and value != model.initial:
        (only,) = relevant
        seen = [
            call
            for call in calls
            if depends_on(call.operation) == (value,) and call is not stale
        ]
        through[only.position] = min([only, *seen], key=lambda call: call.returned)
    early = max(through.values(), key=lambda call: call.returned, default=None)
    since = -1 if early is None else early.returned
    evidence = [
        call
        for call in calls
        if since < call.invoked
        and call.returned < stale.invoked
        and excludes(call.operation, value)
    ]
    if not evidence:
        return None
    fresh = min(evidence, key=lambda call: (call.operation.f == "read", call.returned))
    return Replaced(stale, tuple(relevant), early, fresh, fresh)


def find_outgrown(calls: Sequence[Call], stale: Call, model: Model) -> Call | None:
    """An append or read that returned before `stale` began, and that it knows not of.

    Nothing that replaces the value may come between the two.
    """
    text = stale.operation.result
    if not isinstance(text, str):
        return None
    replacers = [
        call
        for call in calls
        if call.invoked < stale.returned
        and call.operation.f not in model.appends
        and not model.read_only(call.operation)
    ]
    settled = max((call.returned for call in replacers), default=-1)
    for call in calls:
        if not settled < call.invoked or call.returned >= stale.invoked:
            continue
        f, argument, result = call.operation
        if f in model.appends and str(argument) not in text:
            return call
        if f == "read" and not text.startswith(str(result)):
            return call
    return None


def core_states(core: Core) -> list[Hashable]:
    """Every state the object could be in when the conflict came to a head."""
    states = {
        state: None
        for outcome in core.outcomes
        for state in outcome.states
        if state is not UNOBSERVED
    }
    return sorted(states, key=repr)


LOCK_ANOMALIES: Mapping[str, str] = {
    "acquire": "double-acquire",
    "use": "use-without-lock",
    "release": "release-of-free-lock",
}
"""By operation: what is wrong when a lock should not have allowed it."""


def involved_name(calls: Sequence[Call], core: Core, stuck: Call, model: Model) -> str:
    """The name for a conflict that only a search can show.

    A value is stale when whatever brought it about was over before `stuck` began.
    """
    f = stuck.operation.f
    if f in LOCK_ANOMALIES:
        return LOCK_ANOMALIES[f]
    wanted = depends_on(stuck.operation) if model.reads else None
    if wanted is None:
        return "nonlinearizable"
    if f == "cas" and any(
        call.operation.f == "cas" and depends_on(call.operation) == wanted
        for call in core.strong
        if call.position != stuck.position
    ):
        return "lost-update"
    if any(
        produces(call.operation, wanted[0])
        and call.invoked < stuck.returned
        and call.returned > stuck.invoked
        for call in calls
        if call is not stuck
    ):
        return "nonlinearizable"
    return "stale-read" if f == "read" else "lost-update"
