"""From dependencies to a verdict: what was asked for, what was found, and why.

Shared by the checkers of transactions. Each infers what it can from values; this part
puts session order and real time to it, looks for cycles, and tells what they mean.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from checkers.isolation import models
from checkers.isolation.cycles import CycleSearch
from checkers.isolation.findings import Finding, explain, tell
from checkers.isolation.graph import Kind, assemble
from checkers.isolation.transactions import Outcome, collect
from checkers.isolation.unfolded import REMARKS, look_closer
from checkers.linearizability.budget import Budget, LimitExceeded
from harness.collector import collector_paused
from harness.history import HistoryError
from harness.verdict import Anomaly, CheckResult, Verdict, new_witness

if TYPE_CHECKING:
    from collections.abc import Callable

    from checkers.isolation.findings import Inference
    from checkers.isolation.graph import Graph
    from checkers.isolation.question import Question
    from checkers.isolation.transactions import Transactions
    from checkers.isolation.walks import Cycle
    from harness.history import History
    from harness.verdict import Limits


class IsolationChecker:
    """Judges the transactions of a history.

    Attributes:
        streams: Values are looked at once, in turn; see `Checker`.

    Args:
        question: What is asked.
        infer: Makes dependencies from transactions.
    """

    streams = True

    def __init__(
        self,
        question: Question,
        infer: Callable[[Transactions, Callable[[], None]], Inference],
    ) -> None:
        self.question = question
        self.infer = infer

    def check(self, history: History, limits: Limits) -> CheckResult:
        """Judge `history`.

        Raises:
            HistoryError: It holds what is no transaction; one line that names the op.
        """
        budget = Budget(limits)
        trial = Trial(self.question, budget)
        try:
            with collector_paused():
                trial.hold(collect(history), self.infer)
        except LimitExceeded as limit:
            trial.limit = str(limit)
        except HistoryError as problem:
            raise HistoryError(f"{history.source}: {problem}") from None
        return trial.result()


class Trial:
    """One check, and what it has shown so far."""

    def __init__(self, question: Question, budget: Budget) -> None:
        self.question = question
        self.budget = budget
        self.limit = ""
        self.transactions: Transactions | None = None
        self.inference: Inference | None = None
        self.search: CycleSearch | None = None
        self.edges: Counter[str] = Counter()

    def hold(
        self,
        transactions: Transactions,
        infer: Callable[[Transactions, Callable[[], None]], Inference],
    ) -> None:
        """Look for everything that was asked.

        Raises:
            HistoryError: The history is malformed.
            LimitExceeded: A limit ended the work; what was found stays.
        """
        self.transactions = transactions
        self.pause()
        self.inference = infer(transactions, self.pause)
        self.pause()
        level = self.question.level
        accesses = self.inference.accesses
        graph = assemble(transactions, self.inference.dependencies, level, accesses)
        self.count_edges(graph)
        self.search = CycleSearch(graph, self.pause)
        self.search.run(level if accesses is None else 2)
        if "prefix" in self.question.asked:
            self.search.run_prefix()
        closer = look_closer(
            transactions, self.inference, graph, self.search.found, self.pause
        )
        self.search.found |= closer
        found = frozenset(self.search.found)
        self.inference.judge(self.question, found, self.pause)

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
        findings = self.findings()
        names = {finding.name for finding in findings}
        broken = [f for f in findings if f.name in self.question.anomalies]
        verdict, reason = self.verdict(broken=bool(broken))
        rank = {name: i for i, name in enumerate(_BY_GRAVITY)}
        broken.sort(key=lambda finding: rank[finding.name])
        stats = self.stats()
        if beyond := sorted(names - self.question.anomalies):
            stats["also_found"] = beyond
        return CheckResult(
            verdict,
            tuple(map(self.anomaly, broken)),
            self.question.weakest_broken(names) if broken else (),
            reason,
            stats,
        )

    def verdict(self, *, broken: bool) -> tuple[Verdict, str]:
        """INVALID needs one anomaly; VALID needs that all was looked at."""
        if broken:
            return Verdict.INVALID, self.limit
        outcomes = self.transactions.outcome if self.transactions else []
        if self.limit:
            return Verdict.UNKNOWN, self.limit
        if Outcome.OK not in outcomes:
            return Verdict.UNKNOWN, (
                f"nothing to judge: none of {len(outcomes)} transactions committed"
            )
        assert self.inference is not None
        if self.inference.undecided:
            return Verdict.UNKNOWN, self.inference.undecided
        if self.inference.remark:
            return Verdict.UNKNOWN, "nothing is wrong, but " + self.inference.remark
        return Verdict.VALID, ""

    def findings(self) -> list[Finding]:
        """All anomalies found, whatever was asked."""
        out: list[Finding] = []
        if self.inference is not None:
            out += self.inference.findings.examples
        if self.search is not None:
            for cycles in self.search.found.values():
                out += map(self.told, cycles)
        return out

    def told(self, cycle: Cycle) -> Finding:
        """A cycle in words."""
        assert self.transactions is not None
        assert self.inference is not None
        reasons = explain(self.transactions, self.inference, cycle.steps)
        finding = tell(self.transactions, cycle.name, reasons)
        if remark := REMARKS.get(cycle.name):
            first, last = map(self.transactions.name, finding.rows[:: len(reasons) - 1])
            remark = " " + remark.format(first=first, last=last)
            finding = replace(finding, text=finding.text + remark)
        if not cycle.is_shortest:
            text = finding.text + " There may be a shorter cycle of this kind."
            finding = replace(finding, text=text)
        return finding

    def anomaly(self, finding: Finding) -> Anomaly:
        """A finding as reports want it: with operations instead of rows."""
        assert self.transactions is not None
        ops = self.transactions.ops
        witness = new_witness()
        witness.add_nodes_from(ops[row] for row in finding.rows)
        for edge in finding.reasons:
            witness.add_edge(
                ops[edge.source], ops[edge.target], kind=edge.kind, reason=edge.text
            )
        return Anomaly(
            finding.name,
            tuple(ops[row] for row in finding.rows),
            finding.text,
            witness,
            finding.key,
        )

    def stats(self) -> dict[str, Any]:
        """Figures for the report."""
        outcomes = Counter(self.transactions.outcome if self.transactions else [])
        counts = Counter(self.inference.findings.counts if self.inference else {})
        if self.search is not None:
            counts |= Counter({name: len(c) for name, c in self.search.found.items()})
        return {
            "models": list(self.question.asked),
            "transactions": sum(outcomes.values()),
            "committed": outcomes[Outcome.OK],
            "edges": dict(self.edges),
            "anomalies": dict(counts),
            "seconds": round(self.budget.seconds(), 3),
        }


_BY_GRAVITY = (
    "garbage-read",
    "duplicate-elements",
    "cyclic-versions",
    "G0",
    *(name for name in models.ANOMALIES if name != "G0"),
)
