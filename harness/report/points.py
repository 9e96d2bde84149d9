"""Orders in which operations may have taken effect, as a report shows them.

Of a key that is linearizable, each operation has a *point*, an instant at which it may
have taken effect; of one that is not, there are the longest orders, to be stepped
through. Checkers that can (`verdict.Ordering`) find them when a report is made, and
whoever does not read it pays nothing: the verdict stands before.

Of long runs nothing is looked for but what anomalies need, unless somebody asks.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from harness.errors import HarnessError, UsageError
from harness.history import History
from harness.report import figures
from harness.report.witness import call_text
from harness.run import judges
from harness.run.store import RunFolder
from harness.verdict import Limits, ordering, orders_safe
from harness.visible import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from harness.report.folder import Call, Recording
    from harness.report.witness import Witness
    from harness.verdict import Ordering, Orders, Placed

CALLS_MAX: Final = 10_000
"""Operations of a run of which all points are found without being asked for."""

BROKEN_CALLS_MAX: Final = 200_000
"""Operations of a run whose broken keys are looked at without being asked for."""

SECONDS_MAX: Final = 1.0
"""What each of the two may take."""

ASKED_SECONDS_MAX: Final = 120.0
"""What they may take if somebody asked."""

STEPS_MAX: Final = 20
"""The last steps of each order that are shown."""

STATE_CHARS_MAX: Final = 120

EVERY_KEY: Final = ""
"""Asks for the points of all keys."""


class Step(NamedTuple):
    """An operation in an order, and the object after it, as text."""

    call: Call
    text: str
    after: str


@dataclass(frozen=True)
class Way:
    """The end of an order of a broken key.

    Attributes:
        placed: How many operations the order holds.
        before: The object before the first step that is shown.
        steps: The last steps.
        after: The object after them.
    """

    placed: int
    before: str
    steps: tuple[Step, ...]
    after: str


@dataclass(frozen=True)
class HowFar:
    """How far any order of a broken key gets; `ways` may be none.

    Attributes:
        stuck: The operation that comes next in none of them.
        said: What it is, in a few characters.
        ways: A few of the longest orders, with different ends.
        states: In how many states the longest may end; 0 if nobody counted them.
        why: Why there are no orders.
    """

    stuck: Call | None
    said: str
    ways: tuple[Way, ...]
    states: int
    why: str

    @property
    def lines(self) -> list[str]:
        """In two lines: how far it gets, and what comes next in no order."""
        if self.stuck is None or not self.ways:
            return [f"No order to look at: {self.why}."] if self.why else []
        few = [figures.clip(way.after, 60) for way in self.ways]
        rest = self.states - len(few)
        more = f", or {figures.plural(rest, 'other state')}" if rest > 0 else ""
        placed = figures.plural(self.ways[0].placed, "operation")
        return [
            f"The longest orders hold {placed}; then the object is "
            f"{' or '.join(few)}{more}.",
            f"Op {self.stuck.number}, {self.said}, comes next in none of them.",
        ]


@dataclass
class Points:
    """What the checkers showed.

    Attributes:
        calls, times, states: By point, in order of time: the position of the operation,
            when it may have taken effect in us, and the object after that.
        keys: How many keys have points.
        far: (checker, key as text) -> how far any order of it gets.
        why: Why operations that one would look for have no points; a sentence or "".
    """

    calls: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    keys: int = 0
    far: dict[tuple[str, str], HowFar] = field(default_factory=dict)
    why: str = ""


def of_run(
    folder: Recording, anomalies: Sequence[Witness], asked: str | None = None
) -> Points:
    """The points of a run, and how far orders of its broken keys get.

    Args:
        folder: The run.
        anomalies: Those whose keys are looked at.
        asked: A key as text, or EVERY_KEY; None for what is quickly done.
    """
    out = Points()
    judge = _judge(folder)
    if judge is None:
        return out
    name, checker = judge
    keys = keys_called(folder, asked) if asked else None
    broken = [_key(w) for w in anomalies if w.checker == name and w.calls]
    is_long = asked is None and len(folder.calls) > CALLS_MAX
    if is_long:
        out.why = "The run is long, so linearization points are found only on request"
    if asked is None and len(folder.calls) > BROKEN_CALLS_MAX:
        why = "the run is long, so ask for it with splitbrain report RUN --points KEY"
        out.far = {
            (name, figures.value(key)): HowFar(None, "", (), 0, why) for key in broken
        }
        return out
    if is_long and not broken:
        return out
    history = History(folder.ops, strict=False, source="history.jsonl")
    limits = Limits(SECONDS_MAX if asked is None else ASKED_SECONDS_MAX)
    if broken:
        found, _ = orders_safe(checker, history, broken, limits)
        at = folder.call_by_index
        out.far = far(name, found, lambda op: folder.calls[at[op]])
    if is_long:
        return out
    found, why = orders_safe(checker, history, keys, limits)
    points: list[Point] = []
    for each in found:
        if each.stuck is None and each.orders:
            out.keys += 1
            points += placed(folder, each)
        why = why or each.why
    points.sort(key=lambda point: point.time_us)
    out.calls = [point.call for point in points]
    out.times = [point.time_us for point in points]
    out.states = [point.after for point in points]
    out.why = f"Some keys have none: {figures.clip(why, 300)}" if why else ""
    return out


def keys_called(folder: Recording, text: str) -> list[Any]:
    """The keys of a run that are written so.

    Raises:
        UsageError: There are none.
    """
    known = {figures.value(call.invoke.key): call.invoke.key for call in folder.calls}
    found = [key for said, key in known.items() if text in {said, figures.plain(key)}]
    if not found:
        few = ", ".join(figures.clip(said, 20) for said in list(known)[:8] if said)
        raise UsageError(
            f"{folder.path} has no operation on a key {figures.clip(text, 40)!r} "
            f"(it has {few or 'no keys'})"
        )
    return found


def _judge(folder: Recording) -> tuple[str, Ordering] | None:
    """The checker of a run that can show orders, with its name, if there is one."""
    if any(op.index != position for position, op in enumerate(folder.ops)):
        return None  # lines are missing, so indices of a verdict mean other operations
    try:
        checkers = judges.of_operations(RunFolder(folder.path).test().spec)
    except (HarnessError, UsageError):
        return None
    for name, checker in checkers.items():
        if (able := ordering(checker)) is not None:
            return name, able
    return None


def _key(witness: Witness) -> Any:
    """The key of an anomaly, as the history has it."""
    return witness.calls[0].invoke.key


# Of a key that is linearizable


class Point(NamedTuple):
    """When an operation, by its position, may have taken effect; the object then."""

    call: int
    time_us: int
    after: str


def placed(folder: Recording, shown: Orders) -> list[Point]:
    """The points of a key, in its order, each between invocation and return.

    An order leaves each operation a span of time: not before anything ahead of it was
    invoked, nor after anything behind it returned. Operations that share the end of
    their spans share the time that is left until then.
    """
    (order,) = shown.orders
    calls = [folder.call_by_index[step.op] for step in order]
    ends, end_ns = [0.0] * len(calls), folder.end_ns
    for n in range(len(calls) - 1, -1, -1):
        call = folder.calls[calls[n]]
        if call.done is not None and call.outcome == "ok":
            end_ns = min(end_ns, call.done.time)
        ends[n] = end_ns
    sharing = Counter(ends)
    points, time_ns = [], 0.0
    for call_at, end_ns, step in zip(calls, ends, order, strict=True):
        time_ns = max(time_ns, folder.calls[call_at].invoke.time)
        time_ns += max(0.0, end_ns - time_ns) / (sharing[end_ns] + 1)
        sharing[end_ns] -= 1
        points.append(Point(call_at, int(time_ns / 1000), shown_state(step.after)))
    return points


def shown_state(text: str) -> str:
    """The state of an object, on one line."""
    return figures.clip(visible(text).replace("\n", " "), STATE_CHARS_MAX)


# Of a broken key


def far(
    checker: str, found: Sequence[Orders], call_of: Callable[[int], Call | None]
) -> dict[tuple[str, str], HowFar]:
    """By checker and key, how far any order gets.

    Args:
        checker: The name of the checker, as anomalies have it.
        found: What it showed.
        call_of: The operation that an index stands for.
    """
    return {
        (checker, figures.value(each.key)): how_far(each, call_of) for each in found
    }


def how_far(shown: Orders, call_of: Callable[[int], Call | None]) -> HowFar:
    """How far any order of a key gets; empty if it has an order, or none was found."""
    stuck = None if shown.stuck is None else call_of(shown.stuck)
    if stuck is None:
        return HowFar(None, "", (), 0, figures.clip(shown.why, 300))
    ways = []
    for order in shown.orders:
        tail = order[-STEPS_MAX:]
        before = (
            order[-len(tail) - 1].after if len(order) > len(tail) else shown.initial
        )
        ways.append(
            Way(
                len(order),
                shown_state(before),
                tuple(_steps(tail, call_of)),
                shown_state(order[-1].after if order else shown.initial),
            )
        )
    return HowFar(stuck, call_text(stuck), tuple(ways), shown.states, shown.why)


def _steps(
    order: Sequence[Placed], call_of: Callable[[int], Call | None]
) -> Iterator[Step]:
    for op, after in order:
        call = call_of(op)
        if call is not None:
            yield Step(call, call_text(call), shown_state(after))
