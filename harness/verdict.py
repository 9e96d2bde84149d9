"""Verdicts: three values, named anomalies, and witnesses that can be drawn.

`VALID < UNKNOWN < INVALID`; combining several verdicts is `max`, as in Jepsen's
`merge-valid`. Empty is not valid: a checker that had nothing to judge answers UNKNOWN
and says so. A checker that crashes is UNKNOWN with its traceback (`check_safe`).
"""

from __future__ import annotations

import enum
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from harness.errors import UsageError

if TYPE_CHECKING:
    import networkx as nx

    from harness.history import History, Op

Subject = TypeVar("Subject")
Share = TypeVar("Share")
Done = TypeVar("Done")


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
    """The worst of `verdicts`; UNKNOWN if there are none (empty is not valid)."""
    return max(verdicts, default=Verdict.UNKNOWN)


def where_vacuous(result: CheckResult, verdict: Verdict) -> CheckResult:
    """`result`, with this verdict if there was nothing to judge."""
    return replace(result, verdict=verdict) if result.vacuous else result


def new_witness() -> nx.DiGraph[int]:
    """An empty graph for `Anomaly.witness`.

    networkx is imported here: that takes 0.1 s, and most checks never need a graph.
    """
    import networkx as nx

    return nx.DiGraph()


NOTHING_TO_JUDGE = "nothing to judge"
"""The beginning of `CheckResult.reason` if the history shows nothing."""


def nothing_to_judge(why: str) -> str:
    """The reason of a result where nothing happened that could have been wrong."""
    return f"{NOTHING_TO_JUDGE}: {why}"


OPERATIONS = "operations"
OBSERVATIONS = "observations"
"""The histories that indices refer to: `history.jsonl`, or nodes' observations."""


@dataclass(frozen=True)
class Anomaly:
    """One thing that must not happen, and the proof that it did.

    Attributes:
        name: The field's name for it: `stale-read`, `G1c`, `lost-update`, ...
        ops: Indices of the operations in conflict, in the history that was judged.
        explanation: One or two sentences that say why these operations are impossible.
        witness: Directed graph; vertices are indices as in `ops`, edges carry `kind`
            (`realtime`, `reads-from`, `ww`, ...) and `reason` (a sentence).
        key: The independent key concerned, if the history has several.
        details: Other facts for readers; JSON-able.
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
    """The result of one checker.

    Attributes:
        verdict: The three-valued outcome.
        anomalies: Every anomaly found; not empty if INVALID.
        not_models: Weakest consistency models that the history breaks.
        reason: Why the verdict is UNKNOWN; empty otherwise. It begins with
            NOTHING_TO_JUDGE if the history holds nothing that could be wrong.
        remarks: Sentences that belong beside any verdict: parts of the history that it
            does not rest on, and oddities.
        stats: Counts and figures for the report; JSON-able. If not all anomalies are
            explained, its `anomalies` has the number of each name.
        over: The history that the anomalies' indices refer to: OPERATIONS of clients,
            or OBSERVATIONS, which `harness.history.observations` makes a history of.
        promised: Whether a run must keep this promise, so that the verdict counts.
        untried: Why VALID proves nothing, if so: all operations that could contradict
            the others are pending. The sentence is among the remarks, too.
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
        """Whether it is UNKNOWN as nothing was to be judged; others call that valid."""
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


class Helpers(Protocol):
    """Other machines that take shares of a check's work.

    Attributes:
        count: How many shares are worked on at a time.
    """

    count: int

    def each(
        self,
        work: Callable[[Subject, Share], Done],
        about: Subject,
        of: Sequence[Share],
    ) -> Iterator[Done]:
        """What `work(about, share)` comes to for each share, as they are done.

        All are pickled, `about` once.

        Raises:
            HarnessError: A share could not be worked on.
        """
        ...


@dataclass(frozen=True)
class Limits:
    """Resources a check may use; past them it answers UNKNOWN with what it proved.

    Attributes:
        time_s: Wall-clock seconds for the whole check; None for no limit.
        memory_mb: Megabytes of resident memory the check may add; None for no limit.
        helpers: Who takes a share of the work if there is much; None for nobody.
    """

    time_s: float | None = None
    memory_mb: int | None = None
    helpers: Helpers | None = None


class Checker(Protocol):
    """A pure judge of histories; may be `Observing`, `Presuming` or `Conclusive`, too.

    One that looks at values in turn may be `Streaming`.
    """

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
        streams: Whether the checker does that. Then it is given long histories as
            `harness.history.formats.lean.LeanOps`.
    """

    streams: bool


@runtime_checkable
class Observing(Protocol):
    """A checker that may judge nodes' observations of themselves.

    Attributes:
        observes: Whether it judges them, beside the operations of clients or instead.
    """

    observes: bool


@runtime_checkable
class Presuming(Protocol):
    """A checker to which the absence of an operation may be evidence.

    Attributes:
        presume_end: The anomalies found by such evidence. A run that was cut off is not
            convicted of them.
    """

    presume_end: Collection[str]


def presumed(checker: Checker) -> Collection[str]:
    """The anomalies that a checker concludes from the absence of operations."""
    return checker.presume_end if isinstance(checker, Presuming) else ()


@runtime_checkable
class Conclusive(Protocol):
    """A checker that may convict a run before it has ended.

    Attributes:
        final_on_prefix: The anomalies whose discovery in a prefix of a history makes
            every history that begins so INVALID, though perhaps by another name.

    In a prefix, an operation without a completion is one that nobody knows about yet:
    it may still be ok with any value, fail, or end in info. What nodes observed is cut
    off at each node by itself, and what is on their disks at the end is not known. It
    may be taken for granted that clients give each value once (what they write, append,
    send or propose, and the names of their transactions), and that they use what the
    system gives out, such as tokens, only once it was told to somebody.

    An anomaly that a later operation can heal is not among them: one that rests on what
    was not read, not answered, not decided or not written until then.
    """

    final_on_prefix: Collection[str]


class Following(Protocol):
    """A judgement that goes on with a run, and looks at each event once."""

    def feed(self, events: Sequence[Op]) -> Iterator[str]:
        """Judge what has come since the last call.

        Yields:
            The names of final anomalies, as they are found. Whoever wants all events to
            be judged has to take them all.
        """
        ...


@runtime_checkable
class Incremental(Protocol):
    """A `Conclusive` checker that need not begin anew when a history has grown.

    Only for what nodes observe: there may be a hundred times as many events as
    operations. Events of one node come in their order.
    """

    def follow(self, source: str) -> Following:
        """Begin to judge a run; `source` is that of the history (`History.source`).

        It convicts of nothing that `check` would not find in the whole history, but may
        leave out rules that need to see everything.
        """
        ...


class Placed(NamedTuple):
    """An operation in an order: its index, and the object after it, as text."""

    op: int
    after: str


@dataclass(frozen=True)
class Orders:
    """The orders in which operations on one key may have taken effect.

    Attributes:
        key: The key, as the history has it.
        calls: How many operations there are that constrain the object.
        initial: The object before the first of them, as text.
        orders: If the key has an order, that is the only one. Else some of the longest,
            up to the end of the longest prefix that has any; they end in different
            states. Empty if none was found.
        stuck: The index of the operation that comes next in no order; None if there is
            none.
        states: In how many states the longest orders may end; 0 if that is not known.
        why: Why there are no orders; a clause, empty if there are.
    """

    key: Any
    calls: int
    initial: str
    orders: tuple[tuple[Placed, ...], ...] = ()
    stuck: int | None = None
    states: int = 0
    why: str = ""


@runtime_checkable
class Ordering(Protocol):
    """A checker that can show the orders that its verdict rests on."""

    def orders(
        self, history: History, keys: Collection[Any] | None, limits: Limits
    ) -> Iterator[Orders]:
        """The orders of some keys of `history`, or of all, the shortest keys first.

        Raises:
            UsageError: The history holds operations that this checker can't judge.
        """
        ...


def ordering(checker: Checker) -> Ordering | None:
    """The checker that shows orders: this one, or the one that it goes by."""
    inner: object = checker
    while inner is not None and not isinstance(inner, Ordering):
        inner = getattr(inner, "checker", None)
    return inner


def orders_safe(
    checker: Ordering, history: History, keys: Collection[Any] | None, limits: Limits
) -> tuple[list[Orders], str]:
    """What `checker.orders` yields, and why there is no more; a clause or empty.

    Whoever shows orders has a verdict to show, too, which a crash must not cost.
    """
    found: list[Orders] = []
    try:
        found.extend(checker.orders(history, keys, limits))
    except UsageError as bad:
        return found, str(bad)
    except (Exception, SystemExit) as crash:  # a checker's or a model's, or a user's
        return found, f"the checker crashed: {type(crash).__name__}: {crash}"
    return found, ""


class _EveryName(frozenset[str]):
    """Holds whatever name it is asked for."""

    def __contains__(self, name: object) -> bool:
        return True


EVERY_ANOMALY: Collection[str] = _EveryName({"*"})
"""Of a checker none of whose anomalies can be healed, whatever it calls them."""


class AllOf(frozenset[str]):
    """The names of all anomalies that a checker knows, none of which can be healed.

    So a name that is not among them is a mistake (`--until-anomaly`).
    """


def final_on_prefix(checker: Checker) -> Collection[str]:
    """The anomalies by which `checker` convicts a run that goes on."""
    return checker.final_on_prefix if isinstance(checker, Conclusive) else ()


def convicting(checker: Checker, result: CheckResult) -> Iterator[str]:
    """The names of the anomalies by which `result`, of a prefix, is final."""
    if result.verdict is Verdict.INVALID and result.promised:
        final = final_on_prefix(checker)
        yield from (a.name for a in result.anomalies if a.name in final)


@dataclass(frozen=True)
class Unpromised:
    """A checker of something not promised: its result is shown, but never counts."""

    checker: Checker

    @property
    def presume_end(self) -> Collection[str]:
        """The anomalies that the checker concludes from the absence of operations."""
        return presumed(self.checker)

    def check(self, history: History, limits: Limits) -> CheckResult:
        """Judge `history`; if the checker can't, or crashes, the result says so."""
        return replace(judge(self.checker, history, limits), promised=False)


def of_run(result: CheckResult) -> CheckResult:
    """The result for a run: UNKNOWN if all its operations were left pending.

    A recorded history may be valid by its pending operations alone. But a run has to
    show that promises were kept, and one that left all operations pending was no test.
    """
    if not result.untried or result.verdict is not Verdict.VALID:
        return result
    return replace(
        result,
        verdict=Verdict.UNKNOWN,
        reason=nothing_to_judge(result.untried),
        remarks=tuple(each for each in result.remarks if each != result.untried),
    )


def of_prefix(checker: Checker, result: CheckResult) -> CheckResult:
    """The result for a history that was cut off, without presumed anomalies."""
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

    A bug of one checker must not cost the other checkers' verdicts and the run's data.

    Raises:
        UsageError: The history holds operations that this checker can't judge, which is
            bad input and no crash.
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
    """Like `check_safe`, but a history that the checker can't judge is UNKNOWN, too."""
    try:
        return check_safe(checker, history, limits)
    except UsageError as bad:
        return CheckResult(Verdict.UNKNOWN, reason=str(bad))
