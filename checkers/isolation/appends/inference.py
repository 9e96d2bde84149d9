"""Everything that the values of a list-append history tell, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkers.isolation.appends.accusations import Accusations
from checkers.isolation.appends.edges import Dependencies
from checkers.isolation.appends.losses import look_for_lost_appends
from checkers.isolation.appends.reasons import Grounds, Reasons
from checkers.isolation.appends.repeats import choices
from checkers.isolation.appends.scan import scan
from checkers.isolation.appends.settling import Settling
from checkers.isolation.appends.versions import Versions
from checkers.isolation.graph import no_edges
from checkers.isolation.inference import Inference
from checkers.isolation.serial import SerialSearch
from checkers.isolation.transactions import no_pause
from checkers.isolation.writers import Assignment
from harness.override import override

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from checkers.isolation.evidence import Doubt, Evidence
    from checkers.isolation.graph import Column, Kind
    from checkers.isolation.question import Question
    from checkers.isolation.reasons import Why
    from checkers.isolation.transactions import MicroOps, Transactions
    from checkers.isolation.unfolded import About, Script
    from checkers.isolation.walks import Cycle
    from checkers.isolation.writers import Choice, Group


class Appends(Inference):
    """What values tell, each part by the module that finds it.

    Attributes:
        lists: What was read and appended.
        versions: The version orders.
        reasons: What dependencies are about.

    Args:
        transactions: The history.
        pause: Called now and then; may raise.
        own_writes_show: Whether a transaction reads what it appended itself, or keeps
            to its snapshot.
        linearizable_keys: Whether real time counts on each key.
        failed_may_show: Whether reads may see what failed transactions appended, by
            what is asked.

    Raises:
        HistoryError: From the constructor: it is no history of appends and reads.
    """

    def __init__(
        self,
        transactions: Transactions,
        pause: Callable[[], None] = no_pause,
        *,
        own_writes_show: bool = True,
        linearizable_keys: bool = False,
        failed_may_show: bool = False,
    ) -> None:
        self.transactions = transactions
        self._pause = pause
        self._own_writes_show = own_writes_show
        labels = transactions.labels
        self._assignment = labels if isinstance(labels, Assignment) else None
        self.undecided: Doubt | None = None
        self.remark: Doubt | None = None
        self.lists, self.findings = scan(
            transactions, pause, own_writes_show=own_writes_show
        )
        self.has_reads = self.lists.has_reads
        self.versions = Versions(self.lists)
        self.reasons = Reasons(self.versions)
        accusations = Accusations(self.lists, self.versions, self.findings)
        accusations.of_keys()
        self.choices: Sequence[Choice] = ()
        self.dependencies = no_edges()
        self._accesses: tuple[Column, Column] | None = None
        if self._assignment is None:
            self.choices = choices(self.lists, failed_may_show=failed_may_show)
        if self.choices:
            return
        self.versions.place_reads()
        accusations.of_reads()
        if transactions.has_realtime and len(self.lists.reads):
            look_for_lost_appends(self.lists, self.versions, self.findings)
        self._dependencies = Dependencies(self.lists, self.versions)
        self.dependencies = self._dependencies.edges
        if linearizable_keys:
            self._accesses = self.lists.accesses()

    @property
    @override
    def accesses(self) -> tuple[Column, Column] | None:
        return self._accesses

    @override
    def serial_search(self) -> SerialSearch | None:
        if any(len(key.branches) > 1 for key in self.versions.keys):
            return None
        return SerialSearch(
            self.transactions,
            {key.name: key.branches[0].value for key in self.versions.keys},
            self._pause,
            own_writes_show=self._own_writes_show,
        )

    @override
    def grounds(self, found: Evidence, cycle: Cycle | None) -> set[Group]:
        if self._assignment is None:
            return set()
        grounds = Grounds(self.transactions, self.versions, self._assignment)
        return grounds.of(found, cycle)

    @override
    def judge(
        self, question: Question, found: frozenset[str], pause: Callable[[], None]
    ) -> None:
        settling = Settling(
            self._dependencies, self.reasons, self.findings, question, pause
        )
        settling.judge_sessions()
        found = found.union(self.findings.counts)
        if not found & question.anomalies and self._dependencies.unread:
            self.remark = settling.eliminate(self)

    @override
    def script(self, _row: int, micro_ops: MicroOps) -> Script:
        return self.reasons.script(micro_ops)

    @override
    def about(self, kind: Kind, via: int) -> About:
        return self.reasons.about(kind, via)

    @override
    def reason(self, source: int, _target: int, kind: Kind, via: int) -> Why:
        return self.reasons.why(source, kind, via)
