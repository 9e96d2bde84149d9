"""Every model: what it accepts, what it refuses, and how its violations are told."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from checkers.linearizability.budget import Budget
from checkers.linearizability.calls import NEVER, partition
from checkers.linearizability.models import MODELS, find_model
from checkers.linearizability.search import search
from checkers.linearizability.specification import ILLEGAL
from checkers.linearizable import LinearizableChecker, build
from checkers.tests.histories import (
    CONTAINERS,
    FEWER,
    MANY,
    histories,
    history,
)
from harness.errors import UsageError
from harness.history import History, HistoryError, Op
from harness.verdict import CheckResult, Limits, Verdict, where_vacuous

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from checkers.linearizability.calls import Call
    from checkers.linearizability.specification import Model, State

NO_LIMITS = Limits()


def model_of(kind: str) -> Model:
    names = {"unique": "register", "unique-cas": "cas-register"}
    return MODELS[names.get(kind, kind.removeprefix("shrinking-"))].build("")


def check(text: str, model: str, **options: str) -> CheckResult:
    return build({"model": model, **options}).check(history(text), NO_LIMITS)


def verdict(judged: History, model: Model) -> Verdict:
    checker = LinearizableChecker(model)
    return where_vacuous(checker.check(judged, NO_LIMITS), Verdict.VALID).verdict


QUEUES = ["fifo-queue", "unordered-queue", "priority-queue", "stack"]

KINDS = ("register", "unique", "unique-cas", "cas-register", "kv", "mutex",
         "multi-register", *CONTAINERS)  # fmt: skip


@st.composite
def any_kind(
    draw: st.DrawFn, /, kinds: Sequence[str] = KINDS, **shape: Any
) -> tuple[str, History]:
    """A kind of object, and a history of one."""
    kind = draw(st.sampled_from(kinds))
    return kind, draw(histories(kind, **shape))


@MANY
@given(any_kind(("unique-cas", *CONTAINERS), keys=2, steps=44, lies=False))
def test_a_correct_object_is_never_convicted(drawn: tuple[str, History]) -> None:
    kind, judged = drawn
    assert verdict(judged, model_of(kind)) is Verdict.VALID


# Planted anomalies

PLANTED = [
    ("register", "stale-read", "0 write 1; 0 write 2; 1 read -> 1"),
    ("cas-register", "lost-update", "0 write 1; 1 cas [1, 2]; 2 cas [1, 3]"),
    ("cas-register", "stale-read", "0 write 1; 1 cas [1, 2]; 2 read -> 1"),
    ("cas-register", "read-of-unwritten-value", "0 write 1; 1 cas [7, 2]; 1 read -> 2"),
    ("multi-register", "nonlinearizable", "0 txn [['w', 1, 1]]; 1 txn [['r', 1, 2]]"),
    ("mutex", "double-acquire", "0 acquire; 1 acquire"),
    ("fenced-lock", "double-acquire", "0 acquire -> 2; 0 release 2; 1 acquire -> 1"),
    ("kv", "stale-read", "0 append 'a'; 0 append 'b'; 1 get -> 'a'"),
    ("counter", "stale-read", "0 add 2; 1 read -> 1"),
    ("counter", "read-from-future", "0 add 2; 1 read -> 3"),
    ("counter", "nonlinearizable", "0 add 2; 0 decrement; 1 read -> 5"),
    ("gset", "stale-read", "0 add 1; 1 read -> []"),
    ("gset", "unknown-element", "0 add 1; 1 read -> [1, 2]"),
    ("gset", "duplicate-element", "0 add 1; 1 read -> [1, 1]"),
    ("gset", "element-from-future", "1 contains 1 -> True; 0 add 1"),
    ("set", "stale-read", "0 add 1; 0 remove 1; 1 contains 1 -> True"),
    ("set", "set-violation", "0 add 1; 0 remove 1; 1 remove 1 -> True"),
    ("set", "nonlinearizable", "0 add 1; 0 add 2; 0 remove 1; 1 read -> [1, 2]"),
    ("fifo-queue", "fifo-violation", "0 enqueue 1; 0 enqueue 2; 1 dequeue -> 2"),
    ("fifo-queue", "false-empty", "0 enqueue 1; 1 dequeue -> nil"),
    ("fifo-queue", "duplicate-value", "0 enqueue 1; 1 dequeue -> 1; 2 dequeue -> 1"),
    ("fifo-queue", "unknown-value", "0 enqueue 1; 1 dequeue -> 9"),
    ("fifo-queue", "value-from-future", "1 dequeue -> 9; 0 enqueue 9"),
    ("unordered-queue", "false-empty", "0 enqueue 1; 1 dequeue -> nil"),
    ("unordered-queue", "unknown-value", "0 enqueue 1; 1 dequeue -> 2"),
    ("priority-queue", "priority-violation", "0 enqueue 2; 0 enqueue 1; 0 dequeue 2"),
    ("priority-queue", "false-empty", "0 enqueue 1; 1 dequeue -> nil"),
    ("stack", "lifo-violation", "0 push 1; 0 push 2; 1 pop -> 1; 1 pop -> 2"),
    ("stack", "false-empty", "0 push 1; 1 pop -> nil"),
]  # fmt: skip


def sequential(text: str) -> str:
    """Lines for `history` from calls such as `0 read -> 1`, one after the other."""
    lines = []
    for call in text.split(";"):
        did, _, result = call.strip().partition(" -> ")
        process, f, *value = did.split(maxsplit=2)
        lines.append(f"{process} invoke {f} {value[0] if value else 'nil'}")
        lines.append(f"{process} ok {f} {result or (value[0] if value else 'nil')}")
    return "\n".join(lines)


@pytest.mark.parametrize(("model", "name", "text"), PLANTED)
@pytest.mark.parametrize("algorithm", ["auto", "search"])
def test_a_planted_anomaly_is_found_and_told(
    model: str, name: str, text: str, algorithm: str
) -> None:
    result = check(sequential(text), model, algorithm=algorithm)
    assert result.verdict is Verdict.INVALID
    (anomaly,) = result.anomalies
    if algorithm == "auto":
        assert anomaly.name == name
    assert anomaly.explanation.endswith(".")
    assert anomaly.explanation.startswith("process ")
    assert anomaly.details["first_impossible_op"] in anomaly.ops
    assert anomaly.witness is not None
    assert set(anomaly.witness.nodes) == set(anomaly.ops)


def test_every_model_has_a_planted_anomaly() -> None:
    assert {model for model, _, _ in PLANTED} == set(MODELS)


def test_a_queue_that_is_not_fifo_is_told_with_who_was_ahead() -> None:
    text = "0 enqueue 1; 0 enqueue 2; 1 dequeue -> 2; 1 dequeue -> 1"
    (anomaly,) = check(sequential(text), "fifo-queue").anomalies
    assert anomaly.ops == (0, 2, 4)
    assert anomaly.explanation == (
        "process 1 dequeued 2 from n2 although 1 was ahead of it and had not been "
        "dequeued: process 0's enqueue of 1 had returned 1.0 ms before process 0's "
        "enqueue of 2 began."
    )


def test_what_a_failed_insert_put_in_must_not_come_out() -> None:
    text = "0 invoke enqueue 9\n0 fail enqueue 9\n1 invoke dequeue\n1 ok dequeue 9"
    (anomaly,) = check(text, "fifo-queue").anomalies
    assert anomaly.name == "failed-value"
    assert anomaly.ops == (0, 2)
    text = "0 invoke add 9\n0 fail add 9\n1 invoke read\n1 ok read [9]"
    (anomaly,) = check(text, "gset").anomalies
    assert anomaly.name == "failed-element"
    # It can't have been an attempt that nobody had begun.
    text = "1 invoke read\n1 ok read [9]\n0 invoke add 9\n0 fail add 9"
    (anomaly,) = check(text, "gset").anomalies
    assert (anomaly.name, anomaly.ops) == ("unknown-element", (0,))
    text = "0 invoke add 9\n0 fail add 9\n" * 2 + "1 invoke read\n1 ok read [9]"
    (anomaly,) = check(text, "gset").anomalies
    assert "but all 2 attempts to add 9 by then failed" in anomaly.explanation


@FEWER
@given(any_kind(("unique-cas", *CONTAINERS), keys=2, steps=40))
def test_what_is_told_names_its_operations(drawn: tuple[str, History]) -> None:
    kind, judged = drawn
    checker = LinearizableChecker(model_of(kind))
    for anomaly in checker.check(judged, NO_LIMITS).anomalies:
        event(f"{kind}: {anomaly.name}")
        assert anomaly.ops
        assert anomaly.witness is not None
        assert set(anomaly.witness.nodes) == set(anomaly.ops)
        assert all(judged[i].key == anomaly.key for i in anomaly.ops)
        assert anomaly.explanation.endswith(".")
        assert anomaly.details["first_impossible_op"] in anomaly.ops
        assert anomaly.as_json()["witness"]["nodes"]


@FEWER
@given(any_kind(keys=2, steps=40), st.sampled_from(["auto", "search"]))
def test_a_read_is_never_explained_by_what_began_after_it_had_ended(
    drawn: tuple[str, History], algorithm: str
) -> None:
    kind, judged = drawn
    if kind == "multi-register":
        return
    checker = LinearizableChecker(model_of(kind), algorithm=algorithm)
    for anomaly in checker.check(judged, NO_LIMITS).anomalies:
        assert anomaly.witness is not None
        if anomaly.name.endswith("from-future"):
            continue
        for source, target, edge in anomaly.witness.edges(data=True):
            if edge["kind"] == "reads-from":
                event(anomaly.name)
                assert source < judged.completion[target], anomaly


# Metamorphic: what must not change a verdict


def renamed(judged: History, kind: str) -> History:
    """Later, by other processes, on another key, other values where that is all one."""

    def rename(value: Any) -> Any:
        if isinstance(value, list):
            return [rename(item) for item in value]
        if type(value) is not int or kind == "counter":
            return value
        return value + 1000 if kind == "priority-queue" else f"v{value}"

    return History(
        [
            Op(
                op.index,
                op.time + 10**12,
                op.process + 70 if isinstance(op.process, int) else op.process,
                op.type,
                op.f,
                op.value if kind in {"kv", "multi-register"} else rename(op.value),
                None if kind == "multi-register" else f"key {op.key}",
            )
            for op in judged
        ]
    )


@FEWER
@given(any_kind(steps=36))
def test_other_times_values_and_processes_change_no_verdict(
    drawn: tuple[str, History],
) -> None:
    kind, judged = drawn
    model = model_of(kind)
    assert verdict(renamed(judged, kind), model) is verdict(judged, model)


@FEWER
@given(any_kind([k for k in KINDS if k != "multi-register"], keys=2, steps=36))
def test_splitting_a_history_by_key_changes_no_verdict(
    drawn: tuple[str, History],
) -> None:
    kind, judged = drawn
    model = model_of(kind)
    parts = []
    for key in (0, 1):
        own = [op for op in judged if op.key == key]
        ops = [
            Op(i, op.time, op.process, op.type, op.f, op.value, op.key)
            for i, op in enumerate(own)
        ]
        parts.append(verdict(History(ops), model))
    assert verdict(judged, model) is max(parts)


def fitting(kind: str, state: State) -> tuple[str, Any, Any] | None:
    """A call that changes nothing and fits the state: function, argument, result."""
    match kind, state:
        case (("counter" | "register" | "cas-register" | "unique" | "unique-cas"), _):
            return "read", None, state
        case "kv", _:
            return "get", None, state
        case (("set" | "gset"), frozenset()):
            return "read", None, sorted(state)
        case "shrinking-set", frozenset():
            return "contains", 3, 3 in state
        case "multi-register", frozenset():
            return "txn", [["r", "a", None]], [["r", "a", dict(state).get("a")]]
        case "stack", ():
            return "pop", None, None
        case "fifo-queue", ():
            return "dequeue", None, None
        case (("unordered-queue" | "priority-queue"), frozenset()) if state == {
            frozenset()
        }:
            return "dequeue", None, None
        case _:
            return None


@FEWER
@given(any_kind([k for k in KINDS if k != "mutex"], steps=28))
def test_a_call_that_fits_and_changes_nothing_keeps_a_history_valid(
    drawn: tuple[str, History],
) -> None:
    kind, judged = drawn
    model = model_of(kind)
    calls: Sequence[Call] = partition(judged, model).get(None, [])
    outcome = search(calls, model, Budget(NO_LIMITS), merge=False)
    if not outcome.linearizable:
        return
    state = model.initial
    for i in outcome.order:
        state = model.step(state, calls[i].operation)
    assert state is not ILLEGAL
    more = fitting(kind, state)
    if more is None:
        return
    event(kind)
    f, argument, result = more
    n = len(judged)
    end = [Op(n, 0, 999, "invoke", f, argument), Op(n + 1, 0, 999, "ok", f, result)]
    assert verdict(History([*judged, *end]), model) is Verdict.VALID


# Bad input


@pytest.mark.parametrize(
    ("model", "line", "complaint"),
    [
        ("fifo-queue", "0 invoke push 1", "it has enqueue, dequeue"),
        ("stack", "0 invoke enqueue 1", "it has push, pop"),
        ("fifo-queue", "0 invoke enqueue", "nil can't be inserted"),
        ("priority-queue", "0 invoke enqueue {}", "wants a number or text"),
        ("priority-queue", "0 invoke enqueue float('nan')", "wants a number or text"),
        ("priority-queue", "0 invoke enqueue True", "wants a number or text"),
        ("set", "0 invoke union [1]", "it has add, remove, contains, read"),
        ("gset", "0 invoke remove 1", "it has add, contains, read"),
        ("counter", "0 invoke add 1.5", "wants a whole number, got 1.5"),
        ("counter", "0 invoke add float('nan')", "wants a whole number"),
        ("counter", "0 invoke add True", "wants a whole number, got True"),
        ("counter", "0 invoke write 1", "it has add, increment, decrement, read"),
        ("fenced-lock", "0 invoke read", "it has acquire, use, release"),
    ],
)
def test_an_invocation_that_makes_no_sense_is_refused_and_named(
    model: str, line: str, complaint: str
) -> None:
    with pytest.raises(HistoryError) as refused:
        check(line, model)
    assert str(refused.value).startswith("history: op 0: ")
    assert complaint in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("model", "text", "complaint"),
    [
        ("gset", "0 invoke read\n0 ok read 7", "op 1: read: wants a list of elements"),
        (
            "set",
            "0 invoke contains 1\n0 ok contains 1",
            "op 1: contains: wants true",
        ),
        ("counter", "0 invoke read\n0 ok read '1'", "op 1: read: wants a whole number"),
        ("counter", "0 invoke read\n0 ok read", "op 1: read: wants a whole number"),
    ],
)
def test_a_result_that_makes_no_sense_is_refused_and_named(
    model: str, text: str, complaint: str
) -> None:
    with pytest.raises(HistoryError) as refused:
        check(text, model)
    assert complaint in str(refused.value)


ODD = ["nil", "True", "1", "1.0", "float('nan')", "10**400", "-10**400", "'1'", "''",
       "[]", "[1, [2, {'a': None}]]", "{'k': [1]}", "float('inf')"]  # fmt: skip


@pytest.mark.parametrize("model", ["register", "fifo-queue", "stack", "gset", "set",
                                   "unordered-queue", "priority-queue"])  # fmt: skip
@pytest.mark.parametrize("value", ODD)
def test_odd_values_get_an_honest_verdict_or_are_refused(
    model: str, value: str
) -> None:
    put, get = {
        "register": ("write", "read"),
        "stack": ("push", "pop"),
        "gset": ("add", "read"),
        "set": ("add", "read"),
    }.get(model, ("enqueue", "dequeue"))
    seen = f"[{value}]" if get == "read" and model != "register" else value
    other = "[nil, 'x']" if get == "read" and model != "register" else "'other'"
    start = f"0 invoke {put} {value}\n0 ok {put} {value}\n1 invoke {get}\n1 ok {get} "
    try:
        right, wrong = check(start + seen, model), check(start + other, model)
    except HistoryError:
        with pytest.raises(HistoryError, match="op 0: "):
            check(start + seen, model)
        return
    assert right.verdict is Verdict.VALID
    assert wrong.verdict is Verdict.INVALID


def test_numbers_come_before_texts_in_a_priority_queue() -> None:
    text = "0 enqueue 'a'; 0 enqueue 10; 1 dequeue -> {}; 1 dequeue -> {}"
    good = check(sequential(text.format("10", "'a'")), "priority-queue")
    assert good.verdict is Verdict.VALID
    bad = check(sequential(text.format("'a'", "10")), "priority-queue")
    assert bad.verdict is Verdict.INVALID


@pytest.mark.parametrize(
    ("model", "initial"),
    [
        ("fifo-queue", "3"),
        ("set", "{}"),
        ("counter", "1.5"),
        ("priority-queue", "[null]"),
        ("gset", "[1"),
    ],
)
def test_a_first_state_that_makes_no_sense_is_the_users_error(
    model: str, initial: str
) -> None:
    with pytest.raises(UsageError):
        find_model(model, initial)


@pytest.mark.parametrize(
    ("model", "initial", "text"),
    [
        ("fifo-queue", "[1, 2]", "0 dequeue -> 1; 0 dequeue -> 2; 0 dequeue -> nil"),
        ("stack", "[1, 2]", "0 pop -> 2; 0 pop -> 1; 0 pop -> nil"),
        ("priority-queue", "[2, 1]", "0 dequeue -> 1; 0 dequeue -> 2"),
        ("unordered-queue", "[1, 1]", "0 dequeue -> 1; 0 dequeue -> 1"),
        ("set", "[1]", "0 remove 1 -> True; 0 read -> []"),
        ("gset", "[1]", "0 contains 1 -> True; 0 read -> [1]"),
        ("counter", "5", "0 add 2; 0 read -> 7; 0 decrement; 0 read -> 6"),
    ],
)
def test_an_object_may_begin_in_another_state(
    model: str, initial: str, text: str
) -> None:
    given_start = check(sequential(text), model, initial=initial)
    assert given_start.verdict is Verdict.VALID
    assert check(sequential(text), model).verdict is Verdict.INVALID


# Plans


@pytest.mark.parametrize(
    ("model", "text", "algorithm", "why"),
    [
        ("register", "0 write 1; 1 read -> 1", "zones", "no value is written twice"),
        ("register", "0 write 1; 0 write 1; 1 read -> 1", "search",
         "1 is written twice, in ops 0 and 2"),
        ("cas-register", "0 write 1; 0 cas [1, 2]; 0 read -> 2", "chains",
         "every value is written once, by write or cas"),
        ("cas-register", "0 cas [nil, 2]; 0 cas [2, nil]; 0 read -> nil", "search",
         "op 2 writes nil, the initial value, again"),
        ("kv", "0 append 'a'; 0 get -> 'a'", "search", "op 0 is append"),
        ("fifo-queue", "0 enqueue 1; 0 enqueue 1; 1 dequeue -> 1", "aspects",
         "it is certain which dequeue took which value"),
        ("unordered-queue", "0 enqueue 1; 1 dequeue -> 1", "covering", "told apart"),
        ("priority-queue", "0 enqueue 1; 1 dequeue -> 1", "covering", "told apart"),
        ("stack", "0 push 1; 1 pop -> 1", "bottoms", "every value is pushed once"),
        ("set", "0 add 1; 0 contains 1 -> True", "sets", "elements can be told apart"),
        ("set", "0 add 1; 0 remove 1; 0 read -> []", "search",
         "op 4 reads the whole set, and op 2 is a remove"),
        ("counter", "0 add 1; 0 read -> 1", "search",
         "no other algorithm knows the counter model"),
    ],
)  # fmt: skip
def test_a_plan_tells_which_algorithm_and_why(
    model: str, text: str, algorithm: str, why: str
) -> None:
    result = check(sequential(text), model, **{"explain-plan": "true"})
    assert result.verdict is Verdict.VALID
    (step,) = result.stats["plan"]
    assert step["algorithm"] == algorithm
    assert why in step["why"]
    assert result.stats["algorithms"] == {algorithm: 1}


NESTED = """
    0 invoke enqueue 1
    1 invoke enqueue 1
    1 ok enqueue 1
    0 ok enqueue 1
"""
OPEN = "2 invoke dequeue\n2 info dequeue\n"


@pytest.mark.parametrize(
    ("model", "text", "algorithm", "why"),
    [
        ("fifo-queue", NESTED, "search", "ops 0 and 1, both of 1, may have come first"),
        ("fifo-queue", OPEN + sequential("0 enqueue 2; 0 enqueue 1; 0 enqueue 2"),
         "search", "so it matters which of them the open op 0 took"),
        ("unordered-queue", NESTED, "covering", "or nothing was found empty"),
        ("unordered-queue", NESTED + sequential("3 dequeue -> 1; 3 dequeue"), "search",
         "may have come first, and op 6 found it empty"),
    ],
)  # fmt: skip
def test_a_plan_tells_why_equal_values_can_not_be_told_apart(
    model: str, text: str, algorithm: str, why: str
) -> None:
    text += "\n4 invoke dequeue\n4 ok dequeue 1"
    (step,) = check(text, model, **{"explain-plan": "true"}).stats["plan"]
    assert (step["algorithm"], why in step["why"]) == (algorithm, True), step


def test_no_plan_is_shown_unless_it_is_asked_for() -> None:
    assert "plan" not in check(sequential("0 write 1; 0 read -> 1"), "register").stats


@pytest.mark.parametrize(
    ("model", "algorithm", "text", "why"),
    [
        ("counter", "chains", "0 add 1; 0 read -> 1", "it knows no counter"),
        ("stack", "bottoms", "0 push 1; 0 push 1; 0 pop -> 1", "1 goes in twice"),
    ],
)
def test_an_algorithm_that_is_insisted_on_and_unfit_says_so(
    model: str, algorithm: str, text: str, why: str
) -> None:
    result = check(sequential(text), model, algorithm=algorithm)
    assert result.verdict is Verdict.UNKNOWN
    assert f"{algorithm} can't decide it: {why}" in result.reason


# Limits


@pytest.mark.parametrize("kind", ["unique-cas", *QUEUES, "gset", "shrinking-set"])
def test_a_decider_stops_when_its_time_is_up(kind: str) -> None:
    put, get = CONTAINERS.get(kind, ("write", "read"))
    get = {"gset": "contains", "shrinking-set": "contains"}.get(kind, get)
    ops: list[Op] = []
    for i in range(3000):
        argument = i if get == "contains" else None
        result = True if get == "contains" else i
        first = [("invoke", put, i), ("ok", put, i)]
        rest: list[tuple[str, str, Any]] = [
            ("invoke", get, argument),
            ("ok", get, result),
        ]
        if kind == "unique-cas":
            rest[:1] = [("invoke", "cas", [i, -i - 1]), ("ok", "cas", [i, -i - 1]),
                        ("invoke", get, None)]  # fmt: skip
            rest[-1] = ("ok", get, -i - 1)
        for type_, f, value in first + rest:
            ops.append(Op(len(ops), len(ops), 0, type_, f, value))
    checker = LinearizableChecker(model_of(kind))
    started_s = time.monotonic()
    stopped = checker.check(History(ops), Limits(time_s=0.0))
    assert stopped.verdict is Verdict.UNKNOWN
    assert "the time limit of 0 s ran out" in stopped.reason
    assert time.monotonic() - started_s < 20
    assert checker.check(History(ops), NO_LIMITS).verdict is Verdict.VALID


# Your own models

MODEL_FILE = '''
from dataclasses import dataclass


@dataclass(frozen=True)
class Account:
    balance: int = 0
    reads = {"read"}

    def step(self, op):
        match op.f:
            case "deposit":
                return Account(self.balance + op.argument)
            case "withdraw" if op.argument <= self.balance:
                return Account(self.balance - op.argument)
            case "read" if op.result == self.balance:
                return self


@dataclass(frozen=True)
class Pool:
    """Gives out any of its numbers; tells them when they come back."""

    left: frozenset = frozenset({1, 2, 3})

    def step(self, op):
        if op.f == "take":
            for number in self.left:
                if op.result == number:
                    yield Pool(self.left - {number})
        elif op.f == "shuffle":
            yield from (Pool(frozenset({n})) for n in self.left)
        elif op.f == "count" and op.result == len(self.left):
            yield self


@dataclass(frozen=True)
class Broken:
    def step(self, op):
        return 1 / 0


@dataclass(frozen=True)
class Numeric:
    def step(self, op):
        return 7


@dataclass(frozen=True)
class Stubborn:
    value: list = None

    def step(self, op):
        return Stubborn([1])


@dataclass(frozen=True)
class Twofold:
    n: int = 0
    reads = {"read"}

    def step(self, op):
        return [Twofold(1), Twofold(2)]


@dataclass
class Mutable:
    def step(self, op):
        return self


@dataclass(frozen=True)
class Needy:
    start: int

    def step(self, op):
        return self


@dataclass(frozen=True)
class Stepless:
    pass


class Plain:
    def step(self, op):
        return self
'''


@pytest.fixture
def models(tmp_path: Path) -> str:
    path = tmp_path / "bank.py"
    path.write_text(MODEL_FILE)
    return str(path)


def test_a_model_of_ones_own_judges(models: str) -> None:
    account = f"{models}:Account"
    text = "0 deposit 5; 1 withdraw 3; 1 read -> {}"
    assert check(sequential(text.format(2)), account).verdict is Verdict.VALID
    wrong = check(sequential(text.format(3)), account)
    assert wrong.verdict is Verdict.INVALID
    (anomaly,) = wrong.anomalies
    assert anomaly.explanation.startswith("process 1 did read -> 3")
    assert anomaly.details["first_impossible_op"] == 4
    over = check(sequential("0 deposit 1; 1 withdraw 3"), account)
    assert over.verdict is Verdict.INVALID
    rich = check(sequential("1 withdraw 3; 1 read -> 7"), account, initial="10")
    assert rich.verdict is Verdict.VALID
    named = check(
        sequential("1 withdraw 3; 1 read -> 7"), account, initial='{"balance": 10}'
    )
    assert named.verdict is Verdict.VALID


def test_an_open_operation_of_a_model_of_ones_own_may_have_happened(
    models: str,
) -> None:
    open_ = "0 invoke deposit 5\n0 info deposit 5\n"
    account = f"{models}:Account"
    assert check(open_ + sequential("1 read -> 5"), account).verdict is Verdict.VALID
    assert check(open_ + sequential("1 read -> 0"), account).verdict is Verdict.VALID
    assert check(open_ + sequential("1 read -> 3"), account).verdict is Verdict.INVALID


def test_a_nondeterministic_model_may_be_in_any_of_its_states(models: str) -> None:
    pool = f"{models}:Pool"
    open_ = "0 invoke take\n0 info take\n"
    fine = sequential("1 take -> 1; 1 take -> 3; 1 count -> 0")
    assert check(open_ + fine, pool).verdict is Verdict.VALID
    twice = sequential("1 take -> 1; 1 take -> 1")
    assert check(open_ + twice, pool).verdict is Verdict.INVALID
    # A shuffle leaves one number, and nobody knows which: 2 will do, and then not 3.
    assert check(sequential("0 shuffle; 1 take -> 2"), pool).verdict is Verdict.VALID
    both = sequential("0 shuffle; 1 take -> 2; 1 take -> 3")
    assert check(both, pool).verdict is Verdict.INVALID


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("Missing", "there is no dataclass 'Missing'"),
        ("Plain", "there is no dataclass 'Plain'"),
        ("Stepless", "has no method step(self, op)"),
        ("Mutable", "unhashable type"),
        ("Needy", "missing 1 required positional argument"),
    ],
)
def test_a_class_that_is_no_model_is_refused(
    models: str, name: str, complaint: str
) -> None:
    with pytest.raises(UsageError) as refused:
        find_model(f"{models}:{name}")
    assert complaint in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("Broken", "Broken.step raised ZeroDivisionError: division by zero"),
        ("Numeric", "step returned 7 for poke"),
        ("Stubborn", "unhashable type: 'list'"),
        ("Twofold", "can't have `reads`"),
    ],
)
def test_a_step_that_misbehaves_is_bad_input_and_names_the_operation(
    models: str, name: str, complaint: str
) -> None:
    with pytest.raises(UsageError) as refused:
        check(sequential("0 poke 1"), f"{models}:{name}")
    assert complaint in str(refused.value)
    assert "poke" in str(refused.value)


@pytest.mark.parametrize(
    "name", ["nosuchmodule:Class", "no/such/file.py:Class", "regsiter", "json:loads"]
)
def test_a_model_that_is_not_there_is_the_users_error(name: str) -> None:
    with pytest.raises(UsageError) as refused:
        find_model(name)
    assert "\n" not in str(refused.value)


def test_a_model_that_is_misspelt_is_told_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean fifo-queue"):
        find_model("fifo-qeue")


@dataclass(frozen=True)
class Toggle:
    """On or off."""

    on: bool = False

    def step(self, op: Any) -> Toggle | None:
        if op.f == "flip":
            return Toggle(not self.on)
        return self if op.result == self.on else None


def test_a_model_in_a_module_is_found_by_its_name() -> None:
    name = f"{__name__}:Toggle"
    assert check(sequential("0 flip; 0 look -> True"), name).verdict is Verdict.VALID
    assert check(sequential("0 flip; 0 look -> False"), name).verdict is Verdict.INVALID


def test_calls_of_a_container_that_nobody_saw_return_are_open() -> None:
    text = "0 invoke dequeue\n0 info dequeue\n1 invoke enqueue 1\n1 ok enqueue 1"
    calls = partition(history(text), model_of("fifo-queue"))[None]
    assert [call.returned for call in calls] == [NEVER, 3]


def test_sets_of_possible_states_are_shown_in_one_order_whatever_their_hashes() -> None:
    text = """
        0 invoke txn [['write', 'a', 1], ['write', 'b', 2]]
        1 invoke txn [['write', 'a', 3], ['write', 'b', 4]]
        2 invoke txn [['read', 'b', 9]]
        2 ok txn [['read', 'b', 9]]
    """
    checker = build({"model": "multi-register"})
    (anomaly,) = checker.check(history(text), Limits()).anomalies
    assert anomaly.details["possible_states"] == [
        '[["a", 1], ["b", 2]]',
        '[["a", 3], ["b", 4]]',
        "[]",
    ]
