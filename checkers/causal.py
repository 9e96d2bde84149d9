"""A causal register: each client's operations appear in the order it issued them.

Jepsen's `causal`. One client issues a causal order to each register, such as read-init,
write 1, read, write 2, read. Each ok operation has a `position` in that order, and the
next one says in `link` on which it follows: the position that was last seen, or "init".
A register holds 0 at first.

- `link` is "init" or the position of the last ok operation on the register.
- Writes count up from 1.
- A read gives what was written last, or nil; read-init gives 0 while nothing is.

Choices: a write of unknown outcome may have taken effect at any time after it was
invoked, or never, where Jepsen takes it for not done. And what is written is the
client's doing, so a write that does not count up is no anomaly, but makes the verdict
unknown; numbers of writes that failed, or may have, can be left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from checkers.tallies import (
    bad_op,
    chain,
    element,
    invocation,
    is_first,
    kind,
    outcome,
    verdict_of,
)
from harness.registry import Plugin, settings
from harness.verdict import Anomaly, CheckResult, Limits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.history import History, Op
    from harness.verdict import CheckerFactory

FUNCTIONS = ("write", "read", "read-init")

INIT = "init"


@dataclass(slots=True)
class _Register:
    """What is known of one register.

    Attributes:
        values: What it may hold, if no more of the doubtful writes took effect.
        doubtful: Writes of unknown outcome that nobody saw yet.
        last: The last ok operation.
        counter: What the last ok write wrote.
        asked: The largest number asked to be written.
        is_broken: It has an anomaly; what follows tells nothing.
    """

    values: set[int] = field(default_factory=lambda: {0})
    doubtful: list[Op] = field(default_factory=list)
    last: Op | None = None
    counter: int = 0
    asked: int = 0
    is_broken: bool = False


class CausalChecker:
    """See the module."""

    def __init__(self, options: Mapping[str, str]) -> None:
        settings("the causal checker", (), options)

    def check(self, history: History, limits: Limits) -> CheckResult:
        """See `Checker.check`. Cost: operations times a register's doubtful writes.

        Raises:
            HistoryError: An unknown function, a value that is no whole number, or a
                link of another kind than positions are.
        """
        registers: dict[Any, _Register] = {}
        anomalies: list[Anomaly] = []
        judged, doubt = 0, ""
        for op in _in_order(history):
            register = registers.setdefault(element(op.key), _Register())
            if op.f == "write":
                doubt = _write(history, register, op) or doubt
            if op.type != "ok" or register.is_broken:
                continue
            judged += 1
            anomaly = _step(history, register, op)
            if anomaly is not None:
                register.is_broken = True
                anomalies.append(anomaly)
            register.last = op
        return verdict_of(
            anomalies,
            {"registers": len(registers), "operations": judged},
            judged=judged,
            empty="no operation succeeded",
            doubt=doubt,
        )


def _in_order(history: History) -> list[Op]:
    """The clients' ops; what nobody invoked on record may have begun before them all.

    Raises:
        HistoryError: See `CausalChecker.check`.
    """
    ops = [op for op in history if op.is_client]
    for op in ops:
        if op.f not in FUNCTIONS:
            known = ", ".join(FUNCTIONS)
            raise bad_op(history, op, f"{op.f!r}: the causal checker knows {known}")
        tells = op.type == "ok" or (op.f == "write" and is_first(history, op))
        if not tells or type(op.value) is int:
            continue
        if op.f == "write":
            raise bad_op(
                history,
                op,
                f"write of {op.value!r:.60}: writes count up from 1 (a history of "
                "Jepsen's independent keys is read with --independent)",
            )
        if op.value is not None:
            problem = f"{op.f} of {op.value!r:.60}, which is no whole number"
            raise bad_op(history, op, problem)
    return sorted(ops, key=lambda op: op.type != "info" or not is_first(history, op))


def _write(history: History, register: _Register, op: Op) -> str:
    """Take note of an event of a write; why it is out of turn, if it is."""
    in_turn = True
    if is_first(history, op):
        if outcome(history, op) == "info":
            register.doubtful.append(op)
        in_turn = op.value <= register.asked + 1
        register.asked = max(register.asked, op.value)
    if op.type == "ok":
        in_turn &= op.value > register.counter
        register.counter = op.value
    if in_turn:
        return ""
    return f"op {op.index} writes {op.value} out of turn: writes count up from 1"


def _step(history: History, register: _Register, op: Op) -> Anomaly | None:
    """Let an ok operation happen, or say why it can't have happened."""
    extra = op.extra or {}
    last = register.last
    link = extra.get("link")
    position = None if last is None else (last.extra or {}).get("position")
    if link not in (INIT, position):
        if last is not None and None not in (link, position):
            _same_kind(history, op, link, last)
        return _anomaly(
            "broken-link",
            history,
            register,
            op,
            f"process {op.process} says that its {op.f} follows position {link!r}, but "
            f"the last that was seen is {position!r}",
        )
    if op.f == "write":
        register.values = {op.value}
        return None
    # What is sure comes first: a doubtful write that need not have taken effect yet
    # can still explain a later read.
    sure = {value for value in register.values if _fits(op, value)}
    if sure:
        register.values = sure
        return None
    seen_now = [write for write in register.doubtful if _fits(op, write.value)]
    if not seen_now:
        held = " or ".join(map(str, sorted(register.values)))
        doubtful = [str(write.value) for write in register.doubtful]
        also = f" (or {' or '.join(doubtful)}, of which nobody knows)" * bool(doubtful)
        return _anomaly(
            "unexpected-value",
            history,
            register,
            op,
            f"process {op.process} read {op.value!r} where the register held {held}"
            + also,
        )
    register.values = {write.value for write in seen_now}
    if len(register.values) == 1:
        register.doubtful.remove(seen_now[0])
    return None


def _same_kind(history: History, op: Op, link: Any, last: Op) -> None:
    """Raises HistoryError where a link can't be compared with the last position."""
    position = (last.extra or {}).get("position")
    if kind(link) != kind(position):
        raise bad_op(
            history,
            op,
            f"the link is {link!r:.60}, {kind(link)}, and the position of op "
            f"{last.index} is {kind(position)}",
        )


def _fits(op: Op, value: int) -> bool:
    """Whether a read can have seen `value`."""
    if op.f == "read-init" and value == 0:
        return type(op.value) is int and op.value == 0
    return op.value is None or (type(op.value) is int and op.value == value)


def _anomaly(
    name: str, history: History, register: _Register, op: Op, problem: str
) -> Anomaly:
    before = register.last
    ops = (invocation(history, op).index, op.index)
    if before is None:
        return Anomaly(name, ops, f"As its first operation, {problem}.", key=op.key)
    reason = f"op {op.index} was issued after op {before.index}"
    return Anomaly(
        name,
        (before.index, *ops),
        f"After op {before.index}, {before.f} of {before.value!r}, {problem}.",
        witness=chain((before.index, op.index, "causal", reason)),
        key=op.key,
    )


PLUGIN: Plugin[CheckerFactory] = Plugin(
    "causal",
    "operations on a register appear in the causal order in which they were issued",
    CausalChecker,
)
