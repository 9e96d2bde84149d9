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

Each operation is judged by those before it. A write that is open in a prefix explains
more there than it will once it is known what became of it, so an anomaly is final.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from checkers.findings import draw
from checkers.functions import Functions
from checkers.tallies import bad_op, invocation, is_first, outcome, verdict_of
from checkers.values import element, kind
from harness.registry import Plugin, settings
from harness.verdict import Anomaly, CheckResult, Limits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from checkers.functions import Known
    from harness.history import History, Op
    from harness.verdict import CheckerFactory

FUNCTIONS = Functions(
    "the causal checker",
    {"write": ("write",), "read": ("read",), "read-init": ("read-init",)},
)

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
    """Judges registers by the causal order of their operations."""

    final_on_prefix = frozenset({"broken-link", "unexpected-value"})

    def __init__(self, options: Mapping[str, str]) -> None:
        settings("the causal checker", (), options)

    def check(self, history: History, limits: Limits) -> CheckResult:
        """Judge `history`. Cost: operations times a register's doubtful writes.

        Raises:
            HistoryError: A value that is no whole number, or a link of another kind
                than positions are; or see `Functions.of`.
        """
        known = FUNCTIONS.of(history)
        registers: dict[Any, _Register] = {}
        anomalies: list[Anomaly] = []
        operations, judged, doubt = 0, 0, ""
        for op in _in_order(history, known):
            register = registers.setdefault(element(op.key), _Register())
            role = known.role(op)
            if role == "write":
                doubt = _write(history, register, op) or doubt
            if op.type != "ok" or register.is_broken:
                continue
            if role:
                operations += 1
                judged += role != "write" or _link(op) not in (None, INIT)
                anomaly = _step(history, register, op, role)
                if anomaly is not None:
                    register.is_broken = True
                    anomalies.append(anomaly)
            register.last = op
        return verdict_of(
            anomalies,
            {"registers": len(registers), "operations": operations},
            judged=judged,
            empty="no read succeeded, and no operation that follows on another",
            doubt=doubt,
            known=known,
        )


def _in_order(history: History, known: Known) -> list[Op]:
    """The clients' ops; first those that may have begun before all others.

    That is a call of unknown outcome whose invocation is not on record.

    An op that the checker knows nothing of is among them if it has a position, as the
    next one may say that it follows on it.

    Raises:
        HistoryError: See `CausalChecker.check`.
    """
    ops = []
    for op in history:
        role = known.role(op)
        if role or (op.is_client and _position(op) is not None):
            ops.append(op)
        tells = op.type == "ok" or (role == "write" and is_first(history, op))
        if not role or not tells or type(op.value) is int:
            continue
        if role == "write":
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
    """Take note of an event of a write.

    Returns:
        Why it is out of turn; empty if it is not.
    """
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


def _link(op: Op) -> Any:
    return (op.extra or {}).get("link")


def _position(op: Op) -> Any:
    return (op.extra or {}).get("position")


def _step(history: History, register: _Register, op: Op, role: str) -> Anomaly | None:
    """Let an ok operation happen.

    Returns:
        None, or the anomaly: why it can't have happened.
    """
    last, link = register.last, _link(op)
    position = None if last is None else _position(last)
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
    if role == "write":
        register.values = {op.value}
        return None
    # What is sure comes first: a doubtful write that need not have taken effect yet
    # can still explain a later read.
    sure = {value for value in register.values if _fits(op, role, value)}
    if sure:
        register.values = sure
        return None
    seen_now = [one for one in register.doubtful if _fits(op, role, one.value)]
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
    position = _position(last)
    if kind(link) != kind(position):
        raise bad_op(
            history,
            op,
            f"the link is {link!r:.60}, {kind(link)}, and the position of op "
            f"{last.index} is {kind(position)}",
        )


def _fits(op: Op, role: str, value: int) -> bool:
    """Whether a read can have seen `value`."""
    if role == "read-init" and value == 0:
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
        witness=draw([(before.index, op.index, "causal", reason)]),
        key=op.key,
    )


PLUGIN: Plugin[CheckerFactory] = Plugin(
    "causal",
    "operations on a register appear in the causal order in which they were issued",
    CausalChecker,
)
