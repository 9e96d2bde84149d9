"""Small random histories of any kind of call, for checkers that count."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from checkers.tests.histories import MILLISECOND_NS
from harness import registry
from harness.history import History, Op
from harness.verdict import CheckResult, Limits

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Call:
    """One client operation: what is asked, how it ends, and what comes of it."""

    f: str
    asked: Any = None
    outcome: str = "ok"
    got: Any = None
    key: Any = None
    extra: dict[str, Any] | None = None


OUTCOMES = st.sampled_from(["ok", "ok", "ok", "ok", "fail", "info", "never"])


def calls(
    f: str, asked: st.SearchStrategy[Any], got: st.SearchStrategy[Any] | None = None
) -> st.SearchStrategy[Call]:
    """Calls of `f`; what they get is what they asked unless `got` says more."""
    made = st.builds(Call, st.just(f), asked, OUTCOMES)
    if got is None:
        return made.map(lambda call: replace(call, got=call.asked))
    return st.builds(lambda call, value: replace(call, got=value), made, got)


@st.composite
def histories(
    draw: st.DrawFn, call: st.SearchStrategy[Call], *, size_max: int = 8
) -> History:
    """Calls with overlapping intervals, in few processes; those that crash are gone."""
    drawn = draw(st.lists(call, max_size=size_max))
    tokens: list[int] = []
    for i in reversed(range(len(drawn))):
        # How much of what begins later happens before it ends.
        until = draw(st.integers(0, len(tokens)))
        tokens = [i, *tokens[:until], i, *tokens[until:]]
    return interleave(drawn, tokens)


def interleave(drawn: list[Call], tokens: list[int]) -> History:
    """The first mention of a call in `tokens` invokes it, the second completes it."""
    ops: list[Op] = []
    running: dict[int, int] = {}
    free, fresh = [0], 1

    def record(kind: Any, process: int, call: Call, value: Any) -> None:
        i = len(ops)
        ops.append(Op(i, i * MILLISECOND_NS, process, kind, call.f, value, call.key))

    for token in tokens:
        call = drawn[token]
        if token not in running:
            if not free:
                free, fresh = [fresh], fresh + 1
            running[token] = free.pop()
            record("invoke", running[token], call, call.asked)
            ops[-1].extra = call.extra
            continue
        process = running[token]
        if call.outcome == "never":
            continue
        record(
            call.outcome,
            process,
            call,
            call.got if call.outcome == "ok" else call.asked,
        )
        ops[-1].extra = call.extra
        if call.outcome != "info":
            free.append(process)
    return History(ops)


def in_turn(*drawn: Call) -> History:
    """Calls one after the other."""
    return interleave(list(drawn), [i for i in range(len(drawn)) for _ in (0, 1)])


def check(name: str, judged: History, **options: str) -> CheckResult:
    """What the checker of that name says."""
    given = {key.replace("_", "-"): value for key, value in options.items()}
    checker = registry.find("checker", name).factory(given)
    result: CheckResult = checker.check(judged, Limits())
    for anomaly in result.anomalies:
        assert anomaly.explanation.endswith(".")
        assert all(0 <= i < len(judged) for i in anomaly.ops)
    return result


def names(result: CheckResult) -> set[str]:
    """The names of the anomalies found."""
    return {anomaly.name for anomaly in result.anomalies}


def altered(judged: History, change: Callable[[Op], dict[str, Any]]) -> History:
    """A copy with some fields of each op replaced."""
    ops = []
    for op in judged:
        fields = {name: getattr(op, name) for name in op.__struct_fields__}
        ops.append(Op(**{**fields, **change(op)}))
    return History(ops)


def elsewhere(judged: History) -> History:
    """The same an hour later, by processes with names, and with a nemesis at work."""
    ops: list[Op] = []
    for op in altered(judged, lambda op: {"time": op.time + 3600 * 10**9}):
        assert type(op.process) is int
        op.process = f"client-{1000 - op.process}"
        i = op.index = len(ops) + 1
        ops += [Op(i - 1, op.time, "nemesis", "info", "add", 99), op]
    return History(ops)
