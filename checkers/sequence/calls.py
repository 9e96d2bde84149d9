"""Reads, writes and cas of a history, by session, each read with the write it saw.

Every value is written at most once to a key, which names the writer of what is read. A
key for which that isn't so is left out, and so is what never happened: failed calls,
and writes of unknown outcome that nobody saw. Such a write that somebody saw happened,
after all that its session did before.

A completion without an invocation on record is a call all the same: all that counts is
the order of a session's calls, which is that of its completions.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from checkers.functions import Functions
from checkers.tallies import Kinds, acknowledged, bad_op, is_first
from checkers.values import freeze
from harness.history import NO_COMPLETION

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from checkers.functions import Known
    from harness.history import History, Op

FUNCTIONS = Functions(
    "the sequential checker",
    {"write": ("write",), "read": ("read",), "cas": ("cas",)},
    source="write",
)

NEVER = 1 << 62
"""Position of what has no position: a completion that never came."""

Version = tuple["Hashable", "Hashable"]
"""A key and a value of it; the value None is the one before any write."""


@dataclass(slots=True)
class Call:
    """One operation that happened.

    Attributes:
        op: Index of its invocation.
        session: The client process.
        place: Its position among the calls of its session.
        sees: The version it read, or None for a plain write.
        makes: The version it wrote, or None for a plain read.
        shown: Index of the first completion that shows that it has happened.
    """

    op: int
    session: int
    place: int
    sees: Version | None
    makes: Version | None
    shown: int


class Unwritten(NamedTuple):
    """A read of what nobody wrote, by a call that happened.

    Attributes:
        op: Index of its ok completion, or of its invocation where there is none.
        version: What it read.
        failed: Index of a failed write of that, if there is one.
    """

    op: int
    version: Version
    failed: int | None


@dataclass
class Calls:
    """The calls of a history.

    Attributes:
        calls: In order of invocation.
        sessions: Session -> positions in `calls`, in order.
        writer: Version -> position in `calls`.
        unwritten: Reads of what nobody wrote.
        left_out: Keys for which a value was written twice.
        reads: How many calls read.
    """

    calls: list[Call] = field(default_factory=list)
    sessions: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    writer: dict[Version, int] = field(default_factory=dict)
    unwritten: list[Unwritten] = field(default_factory=list)
    left_out: list[Any] = field(default_factory=list)
    reads: int = 0


@dataclass(slots=True)
class Attempt:
    """A client's call, as the history tells it.

    Attributes:
        invoke: Where the history first tells of it.
        role: What it is: read, write or cas.
        done: Its completion, if there is one.
        outcome: ok, fail or info.
        end: Index of an ok completion, else NEVER.
        sees, makes: See `Call`.
    """

    invoke: Op
    role: str
    done: Op | None
    outcome: str
    end: int
    sees: Version | None
    makes: Version | None


def attempts(history: History, known: Known) -> Iterator[Attempt]:
    """All reads, writes and cas, those that failed included.

    Raises:
        HistoryError: A cas of something else than two values, or an acknowledgement of
            another kind than what was asked for.
    """
    for op in history:
        role = known.role(op)
        if not role or not is_first(history, op):
            continue
        done = None if op.type == "invoke" else op
        if history.completion[op.index] != NO_COMPLETION:
            done = history[history.completion[op.index]]
        outcome = "info" if done is None else done.type
        key = freeze(op.key)
        at = done.index if done is not None and outcome == "ok" else NEVER
        if at != NEVER and role != "read":
            acknowledged(history, history[at])
        if role == "read":
            value = None if done is None else freeze(done.value)
            yield Attempt(op, role, done, outcome, at, (key, value), None)
        elif role == "write":
            yield Attempt(op, role, done, outcome, at, None, (key, freeze(op.value)))
        elif isinstance(op.value, list | tuple) and len(op.value) == 2:
            before, after = map(freeze, op.value)
            yield Attempt(op, role, done, outcome, at, (key, before), (key, after))
        else:
            raise bad_op(history, op, f"cas of {op.value!r:.60}, which is no pair")


def kinds_written(found: list[Attempt]) -> Kinds:
    """What kinds of values were written to each key."""
    kinds = Kinds()
    for attempt in found:
        if attempt.makes is not None:
            value = attempt.invoke.value
            written = value[1] if attempt.role == "cas" else value
            kinds.note(attempt.makes[0], written)
    return kinds


def seen_value(attempt: Attempt) -> Any:
    """What a read or a cas saw, as the history has it."""
    if attempt.role == "cas":
        return attempt.invoke.value[0]
    return None if attempt.done is None else attempt.done.value


def gather(history: History, known: Known) -> Calls:
    """The calls that happened. Cost: linear.

    Raises:
        HistoryError: See `attempts`; or a read of a value of a kind that nobody wrote.
    """
    found = list(attempts(history, known))
    written = Counter(a.makes for a in found if a.makes and a.outcome != "fail")
    twice = {key for (key, value), n in written.items() if n > 1 or value is None}
    found = [a for a in found if (a.sees or a.makes or (None,))[0] not in twice]
    calls = Calls(left_out=sorted(twice, key=repr))
    kinds = kinds_written(found)
    shown = first_shown(found)
    failed = {a.makes: a.invoke.index for a in found if a.outcome == "fail" and a.makes}
    makers = {a.makes for a in found if a.makes in shown and a.outcome != "fail"}
    for attempt in found:
        happened = attempt.outcome == "ok" or (
            attempt.outcome == "info" and attempt.makes in shown
        )
        if not happened:
            continue
        sees = attempt.sees
        if sees is not None and sees[1] is not None and sees not in makers:
            told = attempt.done or attempt.invoke
            kinds.judge(history, told, sees[0], seen_value(attempt))
            op = attempt.invoke.index if attempt.end == NEVER else attempt.end
            calls.unwritten.append(Unwritten(op, sees, failed.get(sees)))
            sees = None
        if sees is not None or attempt.makes is not None:
            add(calls, attempt, sees, shown)
    return calls


def first_shown(found: list[Attempt]) -> dict[Version, int]:
    """Versions that exist, with the first completion that shows it.

    A cas of unknown outcome whose version was seen has itself seen another, and so on.
    """
    shown: dict[Version, int] = {}
    unsure = {a.makes: a for a in found if a.outcome == "info" and a.makes is not None}

    def show(version: Version | None, at: int) -> None:
        while version is not None and at < shown.get(version, NEVER + 1):
            shown[version] = at
            maker = unsure.get(version)
            version = maker.sees if maker is not None else None

    for attempt in found:
        if attempt.outcome == "ok":
            show(attempt.makes, attempt.end)
            show(attempt.sees, attempt.end)
    return shown


def add(
    calls: Calls, attempt: Attempt, sees: Version | None, shown: dict[Version, int]
) -> None:
    """Take note of one more call that happened."""
    session = attempt.invoke.process
    assert isinstance(session, int)
    own = calls.sessions[session]
    at = attempt.end
    if attempt.makes is not None:
        at = min(at, shown.get(attempt.makes, NEVER))
        calls.writer[attempt.makes] = len(calls.calls)
    calls.reads += sees is not None
    own.append(len(calls.calls))
    calls.calls.append(
        Call(attempt.invoke.index, session, len(own) - 1, sees, attempt.makes, at)
    )
