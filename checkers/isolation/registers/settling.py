"""What neither single reads nor cycles tell, whoever open reads are of.

Weak levels are defined by axioms of their own (`checkers.isolation.weak` and
`guarantees`); orders of writes that nothing tells are found by elimination
(`checkers.isolation.elimination`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkers.isolation import guarantees, weak
from checkers.isolation.elimination import Elimination
from checkers.isolation.graph import session_edges

if TYPE_CHECKING:
    from collections.abc import Callable

    from checkers.isolation.question import Question
    from checkers.isolation.registers.inference import Registers


def settle_orders(
    registers: Registers,
    question: Question,
    found: frozenset[str],
    pause: Callable[[], None],
) -> None:
    """Add to the findings what breaks axioms, and what no order of writes explains.

    Args:
        registers: The history.
        question: What is asked.
        found: Names of the cycles found.
        pause: Called now and then; may raise.
    """
    findings, anomalies = registers.findings, question.anomalies
    elimination = None
    if not found.union(findings.counts) & anomalies:
        exhaustive = registers.sources.is_search_exhaustive
        elimination = Elimination(registers, pause, exhaustive=exhaustive)
        is_sure = not registers.open and not findings.counts
        if is_sure and elimination.proves_all(question):
            return
    sessions = session_edges(registers.transactions)
    counted = sessions if question.counts_sessions else None
    weak.judge(registers, findings, anomalies, counted, pause)
    if question.is_about_sessions:
        guarantees.judge(registers, findings, anomalies, pause)
    if elimination and not findings.counts.keys() & anomalies:
        elimination.run(question)
        registers.remark = elimination.remark
