"""Settles what no version order tells about registers: is there an execution at all?

First choices of which write came first are pruned (`checkers.isolation.polygraph`). If
that shows no contradiction and leaves some open, an execution is looked for that keeps
to what is known (`checkers.isolation.schedule`). If there is one, the history is right;
if none is found, that proves nothing, and is remarked upon.

Histories too long for pruning get cheaper orders instead: those that read atomic
forces, and those that real time forces upon reads.
"""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from checkers.isolation.findings import show
from checkers.isolation.graph import NOTHING, STEP
from checkers.isolation.polygraph import Choice, Polygraph, Writes, questions
from checkers.isolation.schedule import Schedule
from checkers.isolation.transactions import Outcome
from checkers.isolation.weak import Visibility

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from checkers.isolation.polygraph import Question
    from checkers.isolation.registers import Registers

NEIGHBOURS_MAX = 32
"""Writers of a key, back from the one that was read, that real time is asked about."""


class Elimination:
    """The search for what is wrong, or for a proof that all is right.

    Args:
        registers: The history. Findings are added to its findings.
        pause: Called now and then; may raise.

    Attributes:
        remark: What stays open; empty if nothing.
    """

    def __init__(self, registers: Registers, pause: Callable[[], None]) -> None:
        self.registers = registers
        self.pause = pause
        self.remark = ""
        self.readers: dict[int, list[int]] = defaultdict(list)
        for read in registers.reads:
            if not read.again:
                self.readers[read.version].append(read.row)
        self.writes = Writes(
            self._final_versions(),
            registers.writer,
            self.readers,
            registers.before.note,
        )

    def run(self, anomalies: frozenset[str]) -> None:
        """Settle the strongest question behind these anomalies.

        Weaker ones are put as well if that is answered in the negative, to know the
        weakest model that is broken.
        """
        for question in questions(anomalies):
            polygraph = Polygraph(
                self.registers.transactions,
                self.registers,
                self.writes,
                question,
                self.pause,
            )
            if not self._settle(polygraph) and question.serial:
                return

    def _settle(self, polygraph: Polygraph) -> bool:
        """Put one question; whether the answer is that something is wrong."""
        open_choices: list[Choice] = []
        if polygraph.is_small:
            contradiction, open_choices = polygraph.prune()
            if contradiction is not None:
                if self.registers.findings.wants(contradiction.name):
                    self.registers.findings.add(contradiction)
                return True
            if not open_choices:
                return False
        else:
            polygraph.assume(sorted(set(self._cheap_orders(polygraph.question))))
        if not self._is_explained(polygraph) and not self.remark:
            self.remark = self._describe(open_choices)
        return False

    def _describe(self, choices: list[Choice]) -> str:
        """What stays open, in a clause."""
        text = "the order in which some keys were written stays open"
        if choices:
            name, writer = self.registers.transactions.name, self.registers.writer
            a, b = (name(writer[version]) for version in choices[0])
            key = self.registers.key_of[choices[0].a]
            text += f", such as that of {a} and {b} for key {show(key)}"
        return text

    def _final_versions(self) -> dict[Hashable, list[int]]:
        """Key -> what committed transactions left in it."""
        registers = self.registers
        happened = {registers.writer[read.version] for read in registers.reads}
        versions: dict[Hashable, list[int]] = defaultdict(list)
        for row, writes in enumerate(registers.writes):
            if registers.transactions.outcome[row] == Outcome.OK or row in happened:
                for key, version in writes.items():
                    if registers.writer[version] == row:
                        versions[key].append(version)
        return versions

    def _cheap_orders(self, question: Question) -> Iterator[Choice]:
        """Orders that take no reachability to find."""
        for order in Visibility(self.registers, sessions=False).read_atomic():
            if self.registers.writer[order.read] != NOTHING:
                yield Choice(order.seen, order.read)
        if question.level == 2 and self.registers.transactions.has_realtime:
            yield from self._overwritten_in_time()

    def _overwritten_in_time(self) -> Iterator[Choice]:
        """What was there before a read of another version began, that replaced it."""
        start, end = self.registers.transactions.start, self.registers.transactions.end
        writer = self.registers.writer
        for versions in self.writes.by_key.values():
            in_order = sorted(versions, key=lambda version: start[writer[version]])
            begun = [start[writer[version]] for version in in_order]
            for version in in_order:
                readers = self.readers.get(version)
                if not readers:
                    continue
                begin, latest = start[writer[version]], max(start[r] for r in readers)
                upto = bisect.bisect_left(begun, end[writer[version]])
                for other in in_order[max(0, upto - NEIGHBOURS_MAX) : upto]:
                    # One that had ended before is known to be earlier anyway.
                    if other != version and begin < end[writer[other]] < latest:
                        yield Choice(other, version)

    # Executions

    def _is_explained(self, polygraph: Polygraph) -> bool:
        """Whether an execution is found."""
        return any(
            Schedule(
                self.registers,
                polygraph.edges,
                polygraph.size,
                serial=polygraph.question.serial,
                priority=priority,
            ).exists()
            for priority in self._priorities(polygraph)
        )

    def _priorities(self, polygraph: Polygraph) -> Iterator[list[int]]:
        """What may go first where nothing tells: who began first, who ended first.

        Where nobody knows when, the one with the fewest before it in its session.
        """
        rows = self.registers.transactions
        auxiliary = (polygraph.graph.potential[len(rows) :] // STEP).tolist()
        if rows.has_realtime:
            yield [*rows.start, *auxiliary]
            yield [*rows.end, *auxiliary]
            return
        lengths: Counter[int] = Counter()
        places = []
        for process in rows.process:
            lengths[process] += 1
            places.append(lengths[process])
        yield [*places, *auxiliary]
