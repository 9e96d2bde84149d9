"""What can be inferred from the values of a history, whatever kind of values they are.

Dependencies between transactions, and what is wrong with single values. Cycles among
the dependencies are found elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from checkers.isolation.reasons import Explains
from checkers.isolation.unfolded import Unfolds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from checkers.findings import Findings
    from checkers.isolation.evidence import Doubt, Evidence
    from checkers.isolation.graph import Column, Edges
    from checkers.isolation.question import Question
    from checkers.isolation.serial import SerialSearch
    from checkers.isolation.walks import Cycle
    from checkers.isolation.writers import Choice, Group


class Inference(Explains, Unfolds, Protocol):
    """Dependencies inferred from what transactions read and wrote.

    Attributes:
        dependencies: The ww, wr and rw edges.
        findings: Anomalies that are no cycles of these.
        undecided: Why nothing but anomalies can be proved; None if all can.
        remark: What remains in doubt though nothing is wrong; None if nothing.
        has_reads: Whether a committed transaction read anything at all.
        choices: Elements of which it has to be chosen who wrote them; while there are
            any, nothing else was inferred.
    """

    dependencies: Edges
    findings: Findings[Evidence]
    undecided: Doubt | None
    remark: Doubt | None
    has_reads: bool
    choices: Sequence[Choice]

    def serial_search(self) -> SerialSearch | None:
        """Looks for orders of transactions, whoever wrote what; None if it can't."""
        ...

    def grounds(self, found: Evidence, cycle: Cycle | None) -> set[Group]:
        """What was chosen that an anomaly rests on, or more than that.

        Args:
            found: The anomaly.
            cycle: The same, if it is a cycle.
        """
        ...

    @property
    def accesses(self) -> tuple[Column, Column] | None:
        """Rows and the numbers of the keys that they read or wrote.

        None unless real time counts on each key by itself.
        """
        ...

    def judge(
        self, question: Question, found: frozenset[str], pause: Callable[[], None]
    ) -> None:
        """Add to `findings` what neither single values nor cycles tell.

        Args:
            question: What is asked.
            found: Names of the cycles found.
            pause: Called now and then; may raise.
        """
        ...
