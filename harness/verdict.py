"""Verdicts: three values, named anomalies, and witnesses that can be drawn.

`VALID < UNKNOWN < INVALID`; combining several verdicts is `max`, as in Jepsen's
`merge-valid`. Empty is not valid: a checker that had nothing to judge answers UNKNOWN
and says so. A checker that crashes is UNKNOWN with its traceback (`check_safe`).
"""

from __future__ import annotations

import enum
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from harness.errors import UsageError

if TYPE_CHECKING:
    import networkx as nx

    from harness.history import History


class Verdict(enum.IntEnum):
    """The outcome of a check, ordered so that `max` combines."""

    VALID = 0
    UNKNOWN = 1
    INVALID = 2

    def __str__(self) -> str:
        return self.name.lower()

    @staticmethod
    def parse(text: str) -> Verdict:
        """The verdict called `text`. Raises KeyError for any other word."""
        return {str(verdict): verdict for verdict in Verdict}[text]


def combine(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst of `verdicts`; UNKNOWN when there are none (empty is not valid)."""
    return max(verdicts, default=Verdict.UNKNOWN)


def where_vacuous(result: CheckResult, verdict: Verdict) -> CheckResult:
    """`result`, but with this verdict if nothing was judged."""
    return replace(result, verdict=verdict) if result.vacuous else result


def new_witness() -> nx.DiGraph[int]:
    """A graph without vertices; see `Anomaly.witness`.

    Most checks never need one, and networkx takes 0.1 s to import.
    """
    import networkx as nx

    return nx.DiGraph()


NOTHING_TO_JUDGE = "nothing to judge"
"""How `CheckResult.reason` begins where the history shows nothing."""

OPERATIONS = "operations"
OBSERVATIONS = "observations"
"""What indices refer to: `history.jsonl`, or what nodes observed of themselves."""


@dataclass(frozen=True)
class Anomaly:
    """One thing that must not happen, and the proof that it did.

    Attributes:
        name: The field's name for it: `stale-read`, `G1c`, `lost-update`, ...
        ops: Indices of the operations in conflict, in the history that was judged.
        explanation: One or two sentences: why these operations are impossible.
        witness: Directed graph; vertices are indices as in `ops`, edges carry `kind`
            (`realtime`, `reads-from`, `ww`, ...) and `reason` (a sentence).
        key: The independent key concerned, where the history has several.
        details: Anything else a reader may want; JSON-able.
    """

    name: str
    ops: tuple[int, ...]
    explanation: str
    witness: nx.DiGraph[int] | None = None
    key: Any = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The anomaly as plain data, the witness as node and edge lists."""
        out: dict[str, Any] = {
            "name": self.name,
            "ops": list(self.ops),
            "explanation": self.explanation,
        }
        if self.key is not None:
            out["key"] = self.key
        if self.details:
            out["details"] = dict(self.details)
        if self.witness is not None:
            out["witness"] = {
                "nodes": list(self.witness.nodes),
                "edges": [
                    {"source": a, "target": b, **data}
                    for a, b, data in self.witness.edges(data=True)
                ],
            }
        return out


@dataclass(frozen=True)
class CheckResult:
    """What one checker found.

    Attributes:
        verdict: The three-valued outcome.
        anomalies: Every anomaly found; non-empty when INVALID.
        not_models: Weakest consistency models that the history breaks.
        reason: Why the verdict is UNKNOWN; empty otherwise. It begins with
            NOTHING_TO_JUDGE where nothing happened that could have been wrong.
        remarks: Sentences that belong beside the verdict, whatever it is: what it does
            not rest on, or what is odd.
        stats: Counts and figures for the report; JSON-able. Where not all anomalies
            are explained, `anomalies` has the number of each name.
        over: What the anomalies' indices refer to: OPERATIONS of clients, or
            OBSERVATIONS, the history that `harness.history.observations` makes of them.
        promised: Whether a run must keep this promise, so that the verdict counts.
        untried: Why VALID shows nothing, if so: all that could have contradicted the
            rest is pending. Stands among the remarks, too.
    """

    verdict: Verdict
    anomalies: tuple[Anomaly, ...] = ()
    not_models: tuple[str, ...] = ()
    reason: str = ""
    stats: Mapping[str, Any] = field(default_factory=dict)
    over: str = OPERATIONS
    promised: bool = True
    remarks: tuple[str, ...] = ()
    untried: str = ""

    @property
    def vacuous(self) -> bool:
        """Whether it is UNKNOWN because nothing was there; others call that valid."""
        is_empty = self.reason.startswith(NOTHING_TO_JUDGE)
        return is_empty and self.verdict is Verdict.UNKNOWN

    def as_json(self) -> dict[str, Any]:
        """The result as it stands in verdict.json."""
        out: dict[str, Any] = {
            "verdict": str(self.verdict),
            "anomalies": [anomaly.as_json() for anomaly in self.anomalies],
            "not": list(self.not_models),
            "stats": dict(self.stats),
        }
        if self.reason:
            out["reason"] = self.reason
        if self.remarks:
            out["remarks"] = list(self.remarks)
        if self.over != OPERATIONS:
            out["over"] = self.over
        if not self.promised:
            out["promised"] = False
        return out


@dataclass(frozen=True)
class Limits:
    """Resources a check may use; past them it answers UNKNOWN with what it proved.

    Attributes:
        time_s: Wall-clock seconds for the whole check, or None.
        memory_mb: Megabytes of resident memory the check may add, or None.
    """

    time_s: float | None = None
    memory_mb: int | None = None


class Checker(Protocol):
    """A pure judge of histories; may be `Streaming`, `Observing` or `Presuming` too."""

    def check(self, history: History, limits: Limits) -> CheckResult:
        """Judge `history` within `limits`.

        Raises:
            UsageError: The history holds operations that this checker can't judge; one
                line that names the operation.
        """
        ...


@runtime_checkable
class Streaming(Protocol):
    """A checker that looks at values in turn, and at few of them twice.

    Attributes:
        streams: Whether that is so: then it is given long histories as
            `harness.history.formats.lean.LeanOps`.
    """

    streams: bool


@runtime_checkable
class Observing(Protocol):
    """A checker that may judge what nodes observed of themselves.

    Attributes:
        observes: Whether it does, beside what clients did or in its place.
    """

    observes: bool


@runtime_checkable
class Presuming(Protocol):
    """A checker to which an operation that never came may be evidence.

    Attributes:
        presume_end: The anomalies that are found so: a run that was cut off is not
            convicted of them.
    """

    presume_end: Collection[str]


def presumed(checker: Checker) -> Collection[str]:
    """The anomalies that a checker finds by what never came."""
    return checker.presume_end if isinstance(checker, Presuming) else ()


@dataclass(frozen=True)
class Unpromised:
    """A checker of more than was promised: its result is shown, and never counts."""

    checker: Checker

    @property
    def presume_end(self) -> Collection[str]:
        """See `Presuming`."""
        return presumed(self.checker)

    def check(self, history: History, limits: Limits) -> CheckResult:
        """See `Checker.check`. Trouble is told here, as it must not count either."""
        return replace(judge(self.checker, history, limits), promised=False)


def of_run(result: CheckResult) -> CheckResult:
    """What a result says of a run, which has to show that promises were kept.

    A recorded history may be judged by its pending operations alone; a run whose
    operations were all left pending was no test.
    """
    if not result.untried or result.verdict is not Verdict.VALID:
        return result
    return replace(
        result,
        verdict=Verdict.UNKNOWN,
        reason=f"{NOTHING_TO_JUDGE}: {result.untried}",
        remarks=tuple(each for each in result.remarks if each != result.untried),
    )


def of_prefix(checker: Checker, result: CheckResult) -> CheckResult:
    """What a result says of a history that would have gone on."""
    unseen = presumed(checker)
    left = tuple(a for a in result.anomalies if a.name not in unseen)
    if len(left) == len(result.anomalies):
        return result
    names = ", ".join(sorted({a.name for a in result.anomalies} & set(unseen)))
    return replace(
        result,
        verdict=Verdict.INVALID if left else Verdict.UNKNOWN,
        anomalies=left,
        reason=f"the history was cut off, so {names} can't be told",
    )


CheckerFactory = Callable[[Mapping[str, str]], Checker]
"""Builds a checker from `--option K=V` texts; raises UsageError for unknown ones."""


def check_safe(checker: Checker, history: History, limits: Limits) -> CheckResult:
    """Like `checker.check`, but a crash of the checker is UNKNOWN with traceback.

    Whatever a checker trips over, the other checkers' verdicts and the run's data must
    survive.

    Raises:
        UsageError: The history holds what this checker can't judge: bad input, not a
            crash.
    """
    try:
        return checker.check(history, limits)
    except UsageError:
        raise
    except (Exception, SystemExit):
        # A bug of the checker is no verdict, and the others' verdicts still count.
        return CheckResult(
            Verdict.UNKNOWN,
            reason="the checker crashed: " + traceback.format_exc(limit=20),
            stats={"crashed": True},
        )


def judge(checker: Checker, history: History, limits: Limits) -> CheckResult:
    """Like `check_safe`, but what the checker can't judge is UNKNOWN too, with why."""
    try:
        return check_safe(checker, history, limits)
    except UsageError as bad:
        return CheckResult(Verdict.UNKNOWN, reason=str(bad))
