"""Which of several writers was read: is there any choice that explains the history?

If a value was written more than once, a read of it may be of any of its writers. A
history satisfies a model just when it does so with some choice of a source for each of
these reads. "VeriStrong" (2025, arXiv 2511.14067) puts the choices into a polygraph and
lets a solver make them. Here they are made outside of it, and each choice is judged
like a history whose values are unique:

1. First come proofs that need no choice: the likeliest sources in real time may satisfy
   even the strictest model, and some execution may show just these values
   (`checkers.isolation.replay`). So do anomalies that need none: reads that may be of
   several sources order nothing then.
2. Then all reads are of their likeliest sources. If that explains the history, it is
   right.
3. Otherwise some of these choices are wrong together. Choices are taken out as long as
   the others alone leave something wrong (Junker, "QuickXplain", 2004); those that
   remain must not be made together again. The next try keeps to all that was learnt so
   far. If no choice is left, nothing explains the history.

Each judgement takes as long as that of the whole history, and there may be
exponentially many. So their number is limited, unless search=exhaustive was asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from checkers.isolation import models
from checkers.isolation.conflicts import avoid, paced
from checkers.isolation.evidence import Case, NoSources, Supposed
from checkers.isolation.execution import Answer
from checkers.isolation.judge import Trial
from checkers.isolation.polygraph import questions
from checkers.isolation.question import Question
from checkers.isolation.registers.settling import settle_orders
from checkers.isolation.replay import Replay
from checkers.linearizability.budget import Budget, LimitExceeded
from harness.verdict import Limits, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from checkers.isolation.conflicts import Conflict
    from checkers.isolation.evidence import Doubt, Evidence
    from checkers.isolation.registers.inference import Registers

JUDGEMENTS_MAX = 1000
"""Judgements after which the search gives up, unless it is told not to."""

JUDGED_TRANSACTIONS_MAX = 1_000_000
"""Most judgements times transactions, some 30 seconds. Five are made in any case."""

TOLD_MAX = 4
"""Wrong choices whose consequences a sentence tells."""

_STRICTEST = Question.parse({"consistency": ("strict-serializable",), "anomalies": ()})

_WITH_SNAPSHOTS = models.WITH_SESSIONS | models.weaker_models(
    "strong-snapshot-isolation"
)
"""Models that follow from snapshot isolation in real time."""

Choice = tuple[int, int]
"""The place of a read, and the row that it is of, or INITIAL."""


class Wrong(NamedTuple):
    """Choices that can't all be right.

    Attributes:
        choices: The choices.
        finding: What they lead to.
    """

    choices: tuple[Choice, ...]
    finding: Evidence


class _Supposition(Trial):
    """The trial of a history in which some sources are supposed."""

    def __init__(self, question: Question, pause: Callable[[], None]) -> None:
        super().__init__(question, Budget(Limits()))
        self._pause = pause

    def pause(self) -> None:
        self._pause()


def settle(
    registers: Registers,
    question: Question,
    found: frozenset[str],
    pause: Callable[[], None],
) -> None:
    """Add to the findings what neither single values nor cycles tell.

    Anomalies that do not depend on whose the reads are come first. Then the sources of
    open reads are tried.

    Args:
        registers: The history.
        question: What is asked.
        found: Names of the cycles found.
        pause: Called now and then; may raise.
    """
    assignments = None
    is_clean = not found.union(registers.findings.counts) & question.anomalies
    if is_clean and registers.open:
        exhaustive = registers.sources.is_search_exhaustive
        assignments = Assignments(registers, question, pause, exhaustive=exhaustive)
        if assignments.proves_all():
            return
    settle_orders(registers, question, found, pause)
    if assignments and not registers.findings.counts.keys() & question.anomalies:
        registers.remark = None
        assignments.run()


class Assignments:
    """The search for sources of all reads.

    Args:
        registers: The history. What is found is added to its findings, and what stays
            open is its `undecided`.
        question: What is asked.
        exhaustive: Never give up, but for limits of time and memory.
        pause: Called now and then; may raise.
    """

    def __init__(
        self,
        registers: Registers,
        question: Question,
        pause: Callable[[], None],
        *,
        exhaustive: bool,
    ) -> None:
        self.registers = registers
        self.question = question
        self.pause = pause
        size = len(registers.transactions)
        self._left = min(JUDGEMENTS_MAX, max(5, JUDGED_TRANSACTIONS_MAX // (size + 1)))
        self._exhaustive = exhaustive
        self._sources = {one.place: one.sources for one in registers.open}
        self._wrong: list[Wrong] = []
        self._unsettled: Doubt | None = None

    def proves_all(self) -> bool:
        """Whether an execution is found that is as strict as anything asked."""
        registers = self.registers
        if not registers.transactions.has_realtime or registers.findings.counts:
            return False
        return self._is_strict() or self._is_replayed()

    def run(self) -> None:
        """Find sources that explain the history, or that there are none."""
        forbidden: list[Conflict] = []
        try:
            while chosen := self._next(forbidden):
                verdict, finding = self._try(chosen)
                if verdict is Verdict.VALID:
                    return
                if finding is None:
                    forbidden.append(chosen)
                    continue
                wrong = self._smallest(list(chosen.items()), finding)
                self._wrong.append(wrong)
                forbidden.append(dict(wrong.choices))
        except LimitExceeded as limit:
            self.registers.undecided = self.registers.open_source(str(limit))
            return
        if self._unsettled:
            self.registers.remark = self._unsettled
            return
        self.registers.findings.note(self._no_sources())

    def _is_strict(self) -> bool:
        """Whether the likeliest sources satisfy the strictest model, hence any.

        Real time leaves few sources, and few orders.
        """
        likely = self.registers.at_best(_STRICTEST.anomalies, settle_orders)
        return self._judge(likely, _STRICTEST)[0] is Verdict.VALID

    def _is_replayed(self) -> bool:
        """Whether an execution in real time is found, which needs no sources."""
        rows, deeds = self.registers.transactions, self.registers.deeds()
        asked = self.question.asked
        modes = [False]
        if asked and _WITH_SNAPSHOTS.issuperset(asked):
            modes.append(True)
        return any(
            Replay(rows, deeds, self.pause, snapshots=snapshots).finds()
            for snapshots in modes
        )

    # Choosing

    def _next(self, forbidden: Sequence[Conflict]) -> dict[int, int] | None:
        """A source for each open read, the likeliest unless a conflict forbids it.

        Returns:
            None if every choice is forbidden.
        """
        chosen = {place: sources[0] for place, sources in self._sources.items()}
        concerned = sorted(set().union(*forbidden))
        sources_of, steps = self._sources.__getitem__, paced(self.pause)
        found = avoid(forbidden, chosen, concerned, sources_of, steps)
        return chosen if found is Answer.FOUND else None

    # Judging

    def _try(self, chosen: Mapping[int, int]) -> tuple[Verdict, Evidence | None]:
        """Judge the history with these sources; the verdict and what is wrong.

        Raises:
            LimitExceeded: Too many judgements, or the check's own limits are met.
        """
        if not self._left and not self._exhaustive:
            raise LimitExceeded("search=exhaustive goes on until it is settled")
        self._left -= 1
        registers = self.registers.supposing(chosen, settle_orders)
        verdict, finding = self._judge(registers, self.question)
        if verdict is Verdict.UNKNOWN and not registers.open:
            self._unsettled = registers.remark
        return verdict, finding

    def _judge(
        self, registers: Registers, question: Question
    ) -> tuple[Verdict, Evidence | None]:
        self.pause()
        trial = _Supposition(question, self.pause)
        trial.hold(registers.transactions, lambda _rows, _pause: registers)
        wrong = [f for f, _ in trial.findings() if f.name in question.anomalies]
        if wrong:
            return Verdict.INVALID, min(wrong, key=lambda finding: len(finding.rows))
        return Verdict.UNKNOWN if registers.remark else Verdict.VALID, None

    def _smallest(self, choices: list[Choice], finding: Evidence) -> Wrong:
        """Some of the choices that are wrong by themselves; all of them are needed."""
        rows = set(finding.rows)
        reads = self.registers.reads
        near = [choice for choice in choices if reads[choice[0]].row in rows]
        if len(near) < len(choices):
            closer = self._try(dict(near))[1]
            if closer is not None:
                choices, finding = near, closer
        found = [finding]

        def is_wrong(part: Iterable[Choice]) -> bool:
            finding = self._try(dict(part))[1]
            if finding is not None:
                found.append(finding)
            return finding is not None

        def needed(
            background: list[Choice], added: bool, part: list[Choice]
        ) -> list[Choice]:
            """The choices of `part` that it takes to be wrong with the background."""
            if added and is_wrong(background):
                return []
            if len(part) == 1:
                return part
            half = len(part) // 2
            one, other = part[:half], part[half:]
            second = needed(background + one, True, other)
            first = needed(background + second, bool(second), one)
            return first + second

        smallest = needed([], False, choices) if len(choices) > 1 else choices
        return Wrong(tuple(smallest), found[-1])

    # What is wrong

    def _no_sources(self) -> NoSources:
        """Why no choice is right."""
        self._wrong.sort(key=lambda wrong: len(wrong.choices))
        told = self._wrong[:TOLD_MAX]
        rows = dict.fromkeys(row for wrong in told for row in wrong.finding.rows)
        cases = [
            Case(tuple(map(self._suppose, wrong.choices)), wrong.finding)
            for wrong in told
        ]
        key, left_out = told[0].finding.key, len(self._wrong) - len(told)
        return NoSources(self._name(), tuple(rows), key, tuple(cases), left_out)

    def _suppose(self, choice: Choice) -> Supposed:
        place, source = choice
        registers = self.registers
        row, version, *_ = registers.reads[place]
        value, key = registers.value_of[version], registers.key_of[version]
        return Supposed(value, key, row, source)

    def _name(self) -> str:
        """The most special anomaly that all wrong choices lead to.

        If they have none in common, the anomaly that the strictest question is about.
        """
        names = [models.generalizations(wrong.finding.name) for wrong in self._wrong]
        common = frozenset.intersection(*names) & self.question.anomalies
        if common:
            return max(sorted(common), key=lambda n: len(models.generalizations(n)))
        strictest = [question.name for question in questions(self.question.anomalies)]
        strictest += [
            name
            for model in self.question.asked
            for name in reversed(models.MODELS[model][1])
        ]
        return strictest[0] if strictest else self._wrong[0].finding.name
