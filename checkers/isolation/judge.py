"""From dependencies to a verdict: what was asked for, what was found, and why.

The checkers of transactions share this part. Each infers dependencies from values; here
session order and real time are added, cycles are looked for, and a verdict is reached.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol

from checkers.isolation import models
from checkers.isolation.cycles import CycleSearch
from checkers.isolation.evidence import CyclicByClass, OpenWriter
from checkers.isolation.execution import Answer
from checkers.isolation.graph import NOTHING, Kind, assemble
from checkers.isolation.levels import LEVELS, satisfies
from checkers.isolation.proof import is_serial
from checkers.isolation.reasons import linked
from checkers.isolation.serial import Order
from checkers.isolation.telling import Teller, anomaly
from checkers.isolation.transactions import Outcome, collect
from checkers.isolation.unfolded import look_closer
from checkers.isolation.writers import WriterSearch
from checkers.linearizability.budget import Budget, LimitExceeded
from harness.history import HistoryError
from harness.host.collector import collector_paused
from harness.verdict import CheckResult, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from checkers.isolation.accesses import Accesses
    from checkers.isolation.evidence import Evidence
    from checkers.isolation.graph import Graph
    from checkers.isolation.inference import Inference
    from checkers.isolation.question import Question
    from checkers.isolation.transactions import Transactions
    from checkers.isolation.walks import Cycle
    from checkers.isolation.writers import Choice
    from harness.history import History
    from harness.verdict import Anomaly, Limits

    Infer = Callable[[Transactions, Callable[[], None]], Inference]

    class Columns(Protocol):
        """Makes columns of transactions, as `checkers.isolation.columns` does."""

        def __call__(
            self,
            transactions: Transactions,
            pause: Callable[[], None],
            *,
            repeatable: bool,
        ) -> Accesses | None:
            """Who read and wrote what; None if they don't tell."""
            ...


class IsolationChecker:
    """Judges the transactions of a history.

    Attributes:
        streams: Values are looked at once, in turn; see `Checker`.

    Args:
        question: What is asked.
        infer: Makes dependencies from transactions.
        columns: Makes columns of reads and writes, for levels that are decided by
            these alone; None if the checker has no such levels.
    """

    streams = True

    @property
    def final_on_prefix(self) -> Collection[str]:
        """All that was asked for but a garbage read, whose value may yet be written.

        Of a right history, the transactions of a prefix alone are right too, and so are
        open ones without those that nobody saw. For each cycle among these is one among
        all, with as many anti-dependencies: without the versions that were written
        later, one leads to the next version that is left, to which the others led
        (Adya 1999, 4.4.1).

        An open transaction may turn out to have failed. If somebody saw it, that is
        G1a. So a model that allows G1a has no final anomalies.
        """
        asked = self.question.anomalies
        return asked - {"garbage-read"} if "G1a" in asked else ()

    def __init__(
        self,
        question: Question,
        infer: Infer,
        columns: Columns | None = None,
    ) -> None:
        self.question = question
        self.infer = infer
        self.columns = columns

    def check(self, history: History, limits: Limits) -> CheckResult:
        """Judge `history`.

        Raises:
            HistoryError: It holds what is no transaction; one line that names the op.
        """
        budget = Budget(limits)
        trial = Trial(self.question, budget)
        try:
            with collector_paused():
                transactions = collect(history)
                if self.columns and trial.decide(transactions, self.columns):
                    return trial.result()
                trial.hold(transactions, self.infer)
        except LimitExceeded as limit:
            trial.limit = str(limit)
        except HistoryError as problem:
            raise HistoryError(f"{history.source}: {problem}") from None
        return trial.result()


class Trial:
    """One check, and what it has shown so far.

    Attributes:
        question: What is asked.
        budget: What it may cost.
        limit: The limit that ended it; empty if none did.
        transactions: The history.
        inference: What values tell, in the world that was looked at last.
        search: The cycles found in that world.
        edges: Kind of edges -> how many there are.
        doubt: Why that world tells nothing of the others; None if it does.
        proved: Anomalies of all worlds; None if there is one world, or none are known.
        is_exhausted: Whether all worlds have anomalies, but different ones; `proved`
            has those of the last.
        impossible: That no order of transactions is right, if that was found.
        worlds: Assignments of writers tried so far; see `checkers.isolation.writers`.
        decided_by: The proof that what was asked for holds, in words; if there is one,
            nothing else is looked for.
    """

    def __init__(self, question: Question, budget: Budget) -> None:
        self.question = question
        self.budget = budget
        self.limit = ""
        self.transactions: Transactions | None = None
        self.inference: Inference | None = None
        self.search: CycleSearch | None = None
        self.edges: Counter[str] = Counter()
        self.doubt: OpenWriter | None = None
        self.proved: list[Evidence] | None = None
        self.is_exhausted = False
        self.impossible: Evidence | None = None
        self.worlds = 0
        self.decided_by = ""

    def decide(self, transactions: Transactions, columns: Columns) -> bool:
        """Whether columns of numbers prove that what was asked for holds.

        A weak level is tried by its own axiom, a strict one by an order of all
        transactions. If there is no proof, `hold` finds out what is wrong.

        Raises:
            LimitExceeded: A limit ended the work.
        """
        self.transactions = transactions
        self.pause()
        model = self.question.strictest
        level = LEVELS.get(model) if self.question.is_of_models else None
        if level is None and model not in _SERIAL:
            return False
        repeatable = level is None or level.repeatable
        accesses = columns(transactions, self.pause, repeatable=repeatable)
        if accesses is None:
            return False
        if level is None:
            decided_by = "an order of all transactions"
            holds = is_serial(transactions, accesses, self.pause)
        else:
            decided_by = f"the axiom of {level.axiom.value}"
            holds = satisfies(accesses, level, self.pause)
        if holds:
            self.edges["wr"] = int((accesses.writer != NOTHING).sum())
            self.decided_by = decided_by
        return holds

    def hold(
        self,
        transactions: Transactions,
        infer: Infer,
    ) -> None:
        """Look for everything that was asked.

        Raises:
            HistoryError: The history is malformed.
            LimitExceeded: A limit ended the work; what was found stays.
        """
        self.transactions = transactions
        self.pause()
        self.inference = infer(transactions, self.pause)
        if self.inference.choices:
            # Before anything else, as a limit may be met from here on.
            self.doubt = _open_writer(self.inference.choices[0])
        self.pause()
        if self.inference.choices:
            if self.try_orders(transactions, self.inference):
                return
            self.try_writers(transactions, self.inference.choices, infer)
        else:
            self.look_for_anomalies(transactions, self.inference)

    def try_orders(self, transactions: Transactions, inference: Inference) -> bool:
        """Whether an order of transactions is found that proves all that is asked."""
        strictest = Order.REAL_TIME if transactions.has_realtime else Order.SESSIONS
        wanted = {
            min(order, strictest): model
            for model, order in _SERIAL.items()
            if self.question.anomalies <= models.proscribed(model)
        }
        search = inference.serial_search() if wanted else None
        if search is None:
            return False
        for order, model in wanted.items():
            answer = search.run(order)
            if answer is Answer.FOUND:
                self.proved, self.doubt = [], None
                return True
            if answer is Answer.IMPOSSIBLE and self.question.asked == (model,):
                self.impossible = search.refuted(order)
        return False

    def try_writers(
        self,
        transactions: Transactions,
        choices: Sequence[Choice],
        infer: Infer,
    ) -> None:
        """Look for an assignment of writers under which nothing is wrong.

        Ends as well when no assignment is left, or an anomaly rests on no choice.
        """
        search = WriterSearch(choices, self.pause)
        most = min(WORLDS_MAX, max(WORLDS_MIN, WORK_MAX // len(transactions)))
        if self.impossible is not None:
            most = WORLDS_MIN  # it is invalid; these may find a better reason
        while assignment := search.next():
            if self.worlds == most:
                search.gave_up = "there may be more"
                break
            self.worlds += 1
            transactions.relabel(assignment)
            self.search = None
            inference = self.inference = infer(transactions, self.pause)
            self.look_for_anomalies(transactions, inference)
            broken = [
                (finding, search.open(inference.grounds(finding, cycle)))
                for finding, cycle in self.findings()
                if finding.name in self.question.anomalies
            ]
            certain = [finding for finding, grounds in broken if not grounds]
            if certain or not broken:
                self.proved = certain or None
                self.doubt = None
                return
            for _, grounds in broken:
                search.refute(grounds)
        if search.gave_up:
            self.doubt = _open_writer(choices[0], self.worlds, search.gave_up)
            return
        lists_differ = any(
            finding.name == "incompatible-order"
            and not inference.grounds(finding, cycle)
            for finding, cycle in self.findings()
        )
        if not lists_differ:
            # In lists that disagree, the same element may have different writers.
            self.proved = [finding for finding, _ in broken]
            self.is_exhausted = True
            self.doubt = None

    def look_for_anomalies(
        self, transactions: Transactions, inference: Inference
    ) -> None:
        """Look for cycles, and for all else that was asked, in one world."""
        level = self.question.level
        accesses = inference.accesses
        graph = assemble(transactions, inference.dependencies, level, accesses)
        self.count_edges(graph)
        self.search = CycleSearch(graph, self.pause)
        self.search.run(level if accesses is None else 2)
        if "prefix" in self.question.asked:
            self.search.run_prefix()
        closer = look_closer(
            transactions, inference, graph, self.search.found, self.pause
        )
        self.search.found |= closer
        found = frozenset(self.search.found)
        inference.judge(self.question, found, self.pause)

    def pause(self) -> None:
        """Raise LimitExceeded when time or memory is up."""
        if limit := self.budget.exceeded():
            raise LimitExceeded(limit)

    def count_edges(self, graph: Graph) -> None:
        """Figures for the report."""
        for kind in Kind:
            if kind != Kind.PASS:
                self.edges[kind.name.lower()] = int((graph.edges.kind == kind).sum())

    # The answer

    def result(self) -> CheckResult:
        """The verdict, and what it rests on."""
        if self.doubt and self.impossible is not None:
            self.doubt, self.is_exhausted = None, True
            self.proved = [self.impossible]
        findings = self.settled()
        names = {finding.name for finding in findings}
        broken = [f for f in findings if f.name in self.question.anomalies]
        verdict, reason = self.verdict(broken=bool(broken))
        broken.sort(key=_weight)
        stats = self.stats()
        if beyond := sorted(names - self.question.anomalies):
            stats["also_found"] = beyond
        return CheckResult(
            verdict,
            self.told(broken),
            self.not_models(names) if broken else (),
            reason,
            stats,
        )

    def told(self, found: Sequence[Evidence]) -> tuple[Anomaly, ...]:
        """Anomalies as reports want them."""
        if self.transactions is None:
            return ()
        return tuple(anomaly(self.transactions, evidence) for evidence in found)

    def settled(self) -> list[Evidence]:
        """All anomalies that are certain, whatever was asked."""
        if self.doubt:
            return []
        if self.proved is not None:
            return self.proved
        return [finding for finding, _ in self.findings()]

    def not_models(self, names: set[str]) -> tuple[str, ...]:
        """The weakest models that are broken."""
        if self.is_exhausted:
            # Anomalies of one world may break models that another world satisfies.
            return self.question.asked if len(self.question.asked) == 1 else ()
        return self.question.weakest_broken(names)

    def verdict(self, *, broken: bool) -> tuple[Verdict, str]:
        """INVALID needs one anomaly; VALID needs that everything was looked at."""
        if broken:
            return Verdict.INVALID, self.limit
        if self.decided_by:
            return Verdict.VALID, ""
        outcomes = list(self.transactions.outcome) if self.transactions else []
        if self.limit:
            return Verdict.UNKNOWN, self.limit
        if self.doubt and self.transactions is not None:
            return Verdict.UNKNOWN, Teller(self.transactions).doubt(self.doubt)
        if Outcome.OK not in outcomes:
            return Verdict.UNKNOWN, (
                f"nothing to judge: none of {len(outcomes)} transactions committed"
            )
        assert self.inference is not None
        if not self.inference.has_reads:
            return Verdict.UNKNOWN, (
                f"nothing to judge: none of {outcomes.count(Outcome.OK)} committed "
                "transactions read anything"
            )
        assert self.transactions is not None
        teller = Teller(self.transactions)
        if self.inference.undecided:
            return Verdict.UNKNOWN, teller.doubt(self.inference.undecided)
        if self.inference.remark:
            doubt = teller.doubt(self.inference.remark)
            return Verdict.UNKNOWN, f"nothing is wrong, but {doubt}"
        return Verdict.VALID, ""

    def findings(self) -> list[tuple[Evidence, Cycle | None]]:
        """All anomalies found in the last world, whatever was asked."""
        out: list[tuple[Evidence, Cycle | None]] = []
        if self.inference is not None:
            out += ((finding, None) for finding in self.inference.findings.examples)
        if self.search is not None:
            for cycles in self.search.found.values():
                out += ((self.evidence(cycle), cycle) for cycle in cycles)
        return out

    def evidence(self, cycle: Cycle) -> CyclicByClass:
        """A cycle with the reasons of its steps."""
        assert self.inference is not None
        steps = tuple(linked(self.inference, cycle.steps))
        rows = tuple(step.source for step in steps)
        return CyclicByClass(cycle.name, rows, None, steps, cycle.is_shortest)

    def stats(self) -> dict[str, Any]:
        """Figures for the report."""
        outcomes = Counter(self.transactions.outcome if self.transactions else [])
        counts = Counter(self.inference.findings.counts if self.inference else {})
        if self.doubt or self.proved is not None:
            counts = Counter(finding.name for finding in self.settled())
        elif self.search is not None:
            counts |= Counter({name: len(c) for name, c in self.search.found.items()})
        return {
            "models": list(self.question.asked),
            "transactions": sum(outcomes.values()),
            "committed": outcomes[Outcome.OK],
            "edges": dict(self.edges),
            "anomalies": dict(counts),
            **({"worlds": self.worlds} if self.worlds else {}),
            **({"decided_by": self.decided_by} if self.decided_by else {}),
            "seconds": round(self.budget.seconds(), 3),
        }


_SERIAL = {
    "strict-serializable": Order.REAL_TIME,
    "strong-session-serializable": Order.SESSIONS,
    "serializable": Order.NOTHING,
}
"""Model -> the order that proves it, with all weaker models."""

WORLDS_MIN, WORLDS_MAX = 20, 500
"""Most assignments of writers that are tried, for long and for short histories."""

WORK_MAX = 50_000
"""Assignments times transactions looked at, unless WORLDS_MIN assignments are more."""


def _open_writer(choice: Choice, worlds: int = 0, gave_up: str = "") -> OpenWriter:
    """The doubt about an element whose writer has to be chosen."""
    key, element = choice.group
    writers = tuple(candidate.row for candidate in choice.candidates)
    return OpenWriter(element, key, writers, worlds, gave_up)


def _weight(found: Evidence) -> tuple[int, int, int, int]:
    """Sorts anomalies: those that are easiest to understand, and surest, come first.

    Few operations come before many. What values show is surest, then what real time
    shows, then the order of a process. A lost append comes before the cycles that it is
    part of.
    """
    kinds = {link.kind for link in found.links()}
    strength = 2 if "process" in kinds else 1 if "realtime" in kinds else 0
    is_lost = found.name != "lost-append"
    return len(set(found.rows)), is_lost, strength, _RANK[found.name]


_BY_GRAVITY = (
    "garbage-read",
    "duplicate-elements",
    "cyclic-versions",
    "G0",
    *(name for name in models.ANOMALIES if name != "G0"),
)
_RANK = {name: i for i, name in enumerate(_BY_GRAVITY)}
