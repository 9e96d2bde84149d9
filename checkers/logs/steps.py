"""What clients of a log did, read from a history of Jepsen's kafka workload.

    {:f :send, :value [[:send k v]]}      ok: [[:send k [offset v]]]
    {:f :poll, :value [[:poll]]}          ok: [[:poll {k [[offset v] ...]}]]
    {:f :txn,  :value [...]}              both, as one transaction; [:abort] at the
                                          end takes it back, so that it fails
    {:f :assign, :value [k ...]}          also :subscribe; from now on only these keys
    {:f :commit}                          how far a client has come; changes no log

An offset is nil where the client never learned it. A transaction may say in
`:rebalance-log`, `[{:keys [k ...]} ...]`, which keys came and went while it ran. Other
functions, such as `:crash`, are left out, and the checker says so.

Keys may be numbers in sends and texts in polls, as JSON's maps have texts for keys; so
a number is the same key as its text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from checkers.functions import Functions
from checkers.tallies import bad_op, invocation, is_first
from checkers.values import element

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping

    from checkers.functions import Known
    from harness.history import History, Op

TRANSACTIONS = ("send", "poll", "txn")
ASSIGNMENTS = ("assign", "subscribe")

FUNCTIONS = Functions(
    "the kafka checker",
    {f: (f,) for f in (*TRANSACTIONS, *ASSIGNMENTS)}
    | {"commit": ("commit", "commit-offsets")},
)


@dataclass(frozen=True, slots=True)
class Record:
    """A message as somebody sent or polled it."""

    key: Hashable
    offset: int | None
    message: Hashable


@dataclass(slots=True)
class Step:
    """One call: a transaction, or an assignment of keys.

    Attributes:
        op: Its completion, or its invocation where it never returned.
        begun: The index of its invocation.
        role: What it is: one of TRANSACTIONS or ASSIGNMENTS.
        outcome: ok, fail or info.
        asks: Whether it polls, whatever it was given.
        sends, polls: The records, in order.
        assigned: The keys of an assignment, in order; None of a transaction.
        rewinds: An assignment that seeks to the beginning of its keys.
        rebalanced: Keys that came or went while it ran.
    """

    op: Op
    begun: int
    role: str
    outcome: str
    asks: bool = False
    sends: list[Record] = field(default_factory=list)
    polls: list[Record] = field(default_factory=list)
    assigned: Mapping[Hashable, None] | None = None
    rewinds: bool = False
    rebalanced: frozenset[Hashable] = frozenset()


@dataclass
class Steps:
    """All steps, and what keys and messages are called in sentences."""

    all: list[Step] = field(default_factory=list)
    messages: dict[Hashable, Any] = field(default_factory=dict)

    def transactions(self) -> Iterator[Step]:
        """The steps that are no assignments."""
        return (step for step in self.all if step.assigned is None)

    def show(self, message: Hashable) -> str:
        """A message for a sentence."""
        return repr(self.messages[message])


def by_key(records: Iterable[Record]) -> dict[Hashable, list[Record]]:
    """The records of each key, in order."""
    found: dict[Hashable, list[Record]] = {}
    for record in records:
        found.setdefault(record.key, []).append(record)
    return found


def read_steps(history: History, known: Known) -> Steps:
    """What clients did, in order of invocation. Cost: linear.

    Raises:
        HistoryError: An operation is none of this workload; the message names it.
    """
    steps = Steps()
    for first in history:
        role = known.role(first)
        if not role or not is_first(history, first):
            continue
        j = history.completion[first.index]
        last = first if j < 0 else history[j]
        outcome = "info" if last.type == "invoke" else last.type
        told = first if last.value is None else last
        step = Step(last, first.index, role, outcome)
        if role in TRANSACTIONS:
            _read_transaction(history, steps, step, told)
        elif role in ASSIGNMENTS:
            _read_assignment(history, step, told)
        else:
            continue
        steps.all.append(step)
    return steps


def _read_assignment(history: History, step: Step, told: Op) -> None:
    if not isinstance(told.value, list | tuple):
        raise bad_op(history, told, f"{told.f} of {told.value!r:.60}, no list of keys")
    step.assigned = dict.fromkeys(map(key_of, told.value))
    begun = invocation(history, step.op)
    extras = [op.extra or {} for op in (begun, step.op)]
    step.rewinds = any(extra.get("seek-to-beginning?") for extra in extras)


def _read_transaction(history: History, steps: Steps, step: Step, told: Op) -> None:
    if not isinstance(told.value, list | tuple):
        raise bad_op(
            history, told, f"{told.f} of {told.value!r:.60}, no list of sends and polls"
        )
    asked = invocation(history, told).value
    for micro_op in told.value:
        kind = micro_op[0] if isinstance(micro_op, list | tuple) and micro_op else None
        if kind == "send" and len(micro_op) == 3:
            _read_send(history, steps, step, told, micro_op)
        elif kind == "poll" and len(micro_op) in {1, 2}:
            polled = micro_op[1] if len(micro_op) == 2 else None
            step.asks = True
            _read_poll(history, steps, step, told, {} if polled is None else polled)
        elif kind != "abort" or len(micro_op) > 1:
            raise bad_op(
                history,
                told,
                f"{micro_op!r:.60} is neither ['send', key, message] nor ['poll', "
                "{key: [[offset, message], ...]}] nor ['abort']",
            )
    if isinstance(asked, list | tuple) and len(asked) == len(told.value):
        for before, after in zip(asked, told.value, strict=True):
            if _sent(before) != _sent(after):
                problem = f"was to do {before!r:.60}, and says it did {after!r:.60}"
                raise bad_op(history, told, problem)
    rebalances = (step.op.extra or {}).get("rebalance-log") or []
    step.rebalanced = frozenset(
        key_of(key)
        for rebalance in _list(history, step.op, rebalances)
        if isinstance(rebalance, dict)
        for key in _list(history, step.op, rebalance.get("keys") or [])
    )


def _sent(micro_op: Any) -> tuple[Hashable, Hashable] | None:
    """The key and the message of a send; None of a poll."""
    if not isinstance(micro_op, list | tuple) or len(micro_op) != 3:
        return None
    _, key, value = micro_op
    message = value[1] if isinstance(value, list | tuple) and len(value) == 2 else value
    return key_of(key), element(message)


def _list(history: History, op: Op, value: Any) -> Iterable[Any]:
    if not isinstance(value, list | tuple):
        raise bad_op(history, op, f"{value!r:.60} in its rebalance-log is no list")
    return value


def _read_send(
    history: History, steps: Steps, step: Step, told: Op, micro_op: Any
) -> None:
    _, key, value = micro_op
    offset = None
    if isinstance(value, list | tuple):
        if told.type == "invoke" or len(value) != 2:
            problem = "a list can't be told from [offset, message], so it is no message"
            raise bad_op(history, told, f"{micro_op!r:.60}: {problem}")
        offset, value = value
    step.sends.append(_record(history, steps, told, key, offset, value))


def _read_poll(
    history: History, steps: Steps, step: Step, told: Op, polled: Any
) -> None:
    if not isinstance(polled, dict):
        raise bad_op(history, told, f"poll of {polled!r:.60}, no map of keys")
    for key, pairs in polled.items():
        for pair in pairs if isinstance(pairs, list | tuple) else [pairs]:
            if not isinstance(pair, list | tuple) or len(pair) != 2:
                raise bad_op(history, told, f"{pair!r:.60} is no [offset, message]")
            step.polls.append(_record(history, steps, told, key, *pair))


def _record(
    history: History, steps: Steps, told: Op, key: Any, offset: Any, value: Any
) -> Record:
    if offset is not None and (type(offset) is not int or offset < 0):
        raise bad_op(history, told, f"{offset!r:.60} is no offset of key {key!r:.60}")
    message = element(value)
    steps.messages.setdefault(message, value)
    return Record(key_of(key), offset, message)


def key_of(key: Any) -> Hashable:
    """A key; a number and its text are the same."""
    return str(key) if type(key) is int else element(key)
