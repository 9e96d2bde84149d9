"""Settles what no version order tells about registers: is there an execution at all?

First an execution is looked for that keeps to all known orders
(`checkers.isolation.execution`). If there is one, the history is right. If there is
none, or the search gives up, choices of which write came first are pruned
(`checkers.isolation.polygraph`), unless the history is too long for that. Pruning may
find a short contradiction, or orders that make the search for an execution easy.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from checkers.isolation import models
from checkers.isolation.evidence import OpenOrder, OpenWrites
from checkers.isolation.execution import Accesses, Answer, Execution, guesses
from checkers.isolation.graph import NOTHING, Kind
from checkers.isolation.polygraph import (
    Choice,
    Polygraph,
    Question,
    Writes,
    all_questions,
    questions,
)
from checkers.isolation.transactions import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from checkers.isolation.evidence import Evidence
    from checkers.isolation.graph import Column, Edges
    from checkers.isolation.question import Question as Asked
    from checkers.isolation.registers.inference import Registers


_OF_EVENTS = frozenset({"G-update", "G-MSR"})
"""Anomalies for which no orders are tried."""


class _Search(NamedTuple):
    """A search for an execution, the polygraph it began with, and its answer."""

    polygraph: Polygraph
    execution: Execution
    answer: Answer


class Elimination:
    """The search for what is wrong, or for a proof that all is right.

    Args:
        registers: The history. Findings are added to its findings.
        exhaustive: Never give up, but for limits of time and memory.
        pause: Called now and then; may raise.

    Attributes:
        remark: What stays open; None if nothing.
    """

    def __init__(
        self, registers: Registers, pause: Callable[[], None], *, exhaustive: bool
    ) -> None:
        self.registers = registers
        self.exhaustive = exhaustive
        self.pause = pause
        self.remark: OpenWrites | None = None
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
        self._accesses = self._list_accesses(self.writes)
        self._searches: dict[Question, _Search] = {}

    def proves_all(self, asked: Asked) -> bool:
        """Whether an execution is found that is as strict as anything asked.

        It proves all that is asked. The strictest execution is looked for first: real
        time leaves few choices, so the search for it ends soon.
        """
        level = 2 if self.registers.transactions.has_realtime else 1
        proofs = [Question("G2-item" + models.LEVELS[level], True, level)]
        proofs += [
            part
            for part in questions(asked.anomalies)
            if part.serial and not part.of_cursors
        ][:1]
        return any(
            self._search(proof).answer is Answer.FOUND
            for proof in proofs
            if proof.level >= asked.level
        )

    def run(self, asked: Asked) -> None:
        """Settle the strongest question behind what is asked.

        If something is wrong, settle weaker ones as well, to know the weakest model
        that is broken.
        """
        settled = questions(asked.anomalies)
        for question in settled:
            if not self._settle(question) and question.serial:
                break
        if set(asked.asked) - models.DECIDED and all(q.of_cursors for q in settled):
            self._settle_between(asked)

    def _settle_between(self, asked: Asked) -> None:
        """Settle models that are not defined by one sequence of events.

        The known orders contradict none of them. If a stronger model is satisfied, so
        are they; otherwise choices are tried, for the models that these decide.
        """
        level = int(asked.counts_sessions)
        stronger = Question("G-SI" + models.LEVELS[level], False, level)
        if "G-update" in asked.anomalies:
            stronger = Question("G2-item", True, 0)
        if self._search(stronger).answer is Answer.FOUND:
            return
        parts = [part for part in all_questions(asked.anomalies) if part.parallel]
        if "G-prefix" in asked.anomalies:
            parts.append(Question("G-prefix", False, 1, prefix=True))
        is_open = bool(_OF_EVENTS & asked.anomalies)
        if not parts and not is_open:
            # Monotonic view has no question of its own, but one close above it.
            consistent_view = Question("G-single", False, 0, parallel=True)
            is_known_broken = not self._polygraph(consistent_view).is_right()
            is_open = (is_known_broken and bool(self.writes.choices())) or any(
                self._try(consistent_view)
            )
        left: list[Choice] = []
        for part in parts:
            finding, left = self._try(part)
            if finding is None:
                is_open |= bool(left)
            else:
                self.registers.findings.note(finding)
        if is_open and not self.remark:
            self.remark = self._open(left)

    def _try(self, question: Question) -> tuple[Evidence | None, list[Choice]]:
        """Settle a question by trying choices.

        Returns:
            What is wrong, None if nothing is known to be; the choices that stay open.
        """
        polygraph = self._polygraph(question)
        if not polygraph.may_be_settled(exhaustive=self.exhaustive):
            return None, self.writes.choices()
        return polygraph.settle(exhaustive=self.exhaustive)

    def _polygraph(self, question: Question) -> Polygraph:
        return Polygraph(
            self.registers.transactions,
            self.registers,
            self._dependencies(question),
            self._writes(question),
            question,
            self.pause,
        )

    def _search(self, question: Question) -> _Search:
        """Look for an execution; the answer is kept for each question."""
        if question not in self._searches:
            polygraph = self._polygraph(question)
            execution = self._execution(polygraph)
            search = _Search(polygraph, execution, execution.search())
            self._searches[question] = search
        return self._searches[question]

    def _settle(self, question: Question) -> bool:
        """Settle one question; returns whether something is wrong."""
        polygraph, execution, answer = self._search(question)
        if answer is Answer.FOUND:
            return False
        choices: list[Choice] = []
        if polygraph.is_small:
            finding, choices = polygraph.prune()
            if finding is not None:
                self.registers.findings.note(finding)
                return True
            if not choices:
                return False
            if answer is Answer.GAVE_UP:
                execution = self._execution(polygraph)
                answer = execution.search()
        if answer is Answer.IMPOSSIBLE:
            if self.registers.findings.wants(question.name):
                assert execution.dilemma is not None
                implied, dilemma = execution.implied, execution.dilemma.rows
                found = polygraph.contradiction(implied, dilemma)
                self.registers.findings.keep(found)
            return True
        if answer is Answer.GAVE_UP and not self.remark:
            self.remark = self._open(choices)
        return False

    def _open(self, choices: list[Choice]) -> OpenWrites:
        """What stays open, with an example."""
        choice = next(iter(choices or self.writes.choices()), None)
        if choice is None:
            return OpenWrites(None)
        writer = self.registers.writer
        key = self.registers.key_of[choice.a]
        return OpenWrites(OpenOrder(writer[choice.a], writer[choice.b], key))

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

    # What counts

    def _writes(self, question: Question) -> Writes:
        """Choices, and the reads that count."""
        if not question.of_cursors:
            return self.writes
        key_of, written = self.registers.key_of, self.registers.writes
        readers = {
            version: [row for row in rows if key_of[version] in written[row]]
            for version, rows in self.readers.items()
        }
        return replace(self.writes, readers=readers)

    def _dependencies(self, question: Question) -> Edges:
        """Dependencies, less the rw edges of reads that don't count."""
        registers, edges = self.registers, self.registers.dependencies
        if not question.of_cursors:
            return edges
        keep = edges.kind != Kind.RW
        for i in np.flatnonzero(~keep).tolist():
            low = int(registers.before.low[edges.via[i]])
            keep[i] = registers.key_of[low] in registers.writes[edges.source[i]]
        return edges.where(keep)

    # Executions

    def _list_accesses(self, writes: Writes) -> Accesses:
        """Who wrote what, and who read what from whom."""
        registers = self.registers
        number = {key: i for i, key in enumerate(writes.by_key)}
        written = (
            (registers.writer[version], number[key])
            for key, versions in writes.by_key.items()
            for version in versions
        )
        read = (
            (row, number[registers.key_of[version]], registers.writer[version])
            for version, rows in writes.readers.items()
            # A value that nobody wrote is an anomaly, and has no known order.
            if registers.key_of[version] in number
            and (
                registers.writer[version] != NOTHING
                or registers.value_of[version] is None
            )
            for row in rows
            if row != registers.writer[version]
        )
        return Accesses(*_columns(written, 2), *_columns(read, 3))

    def _execution(self, polygraph: Polygraph) -> Execution:
        transactions = self.registers.transactions
        begins, commits = guesses(
            transactions,
            polygraph.graph.potential[len(transactions) :],
            serial=polygraph.question.serial,
        )
        accesses = self._accesses
        if polygraph.writes is not self.writes:
            accesses = self._list_accesses(polygraph.writes)
        return Execution(
            accesses,
            polygraph.edges,
            begins,
            commits,
            serial=polygraph.question.serial,
            exhaustive=self.exhaustive,
            pause=self.pause,
        )


def _columns(rows: Iterable[tuple[int, ...]], width: int) -> Column:
    """Tuples of `width` numbers as columns."""
    numbers = np.fromiter(itertools.chain.from_iterable(rows), np.int64)
    return numbers.reshape(-1, width).T.copy()
