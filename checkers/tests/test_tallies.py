"""Checkers that count: sets, counters, queues, ids, banks and leaders."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import registry
from harness.errors import UsageError
from harness.history import History, HistoryError, Op
from harness.verdict import CheckResult, Limits, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.history import OpType

NO_LIMITS = Limits()


def history(*events: tuple[int, str, str, Any]) -> History:
    """(process, type, f, value) events; process p talks to node p mod 3 + 1."""
    ops = []
    for index, (process, kind, f, value) in enumerate(events):
        op = Op(index, index, process, cast("OpType", kind), f, value)
        op.node = f"n{process % 3 + 1}"
        ops.append(op)
    return History(ops)


def check(name: str, judged: History, **options: str) -> CheckResult:
    given_options = {key.replace("_", "-"): value for key, value in options.items()}
    checker = registry.find("checker", name).factory(given_options)
    result: CheckResult = checker.check(judged, NO_LIMITS)
    return result


def names(result: CheckResult) -> set[str]:
    return {anomaly.name for anomaly in result.anomalies}


class Service:
    """A correct service in one place; operations happen somewhere in their intervals.

    Drives random clients over `apply(f, value) -> result`, so whatever it records is
    a history of a correct system, crashed and failed operations included.
    """

    def __init__(self, random: Random, apply: Callable[[str, Any], Any]) -> None:
        self._random = random
        self._apply = apply
        self.ops: list[Op] = []
        self._open: dict[int, tuple[Op, bool]] = {}
        self._results: dict[int, Any] = {}
        self._next_process = 0

    def _record(self, op: Op) -> Op:
        op.index = op.time = len(self.ops)
        self.ops.append(op)
        return op

    def run(self, todo: list[tuple[str, Any]], *, crashes: bool = True) -> History:
        todo = list(todo)
        while todo or self._open:
            waiting = [p for p, (_, done) in self._open.items() if not done]
            finished = [p for p, (_, done) in self._open.items() if done]
            choices = ["invoke"] * bool(todo and len(self._open) < 4)
            choices += ["happen"] * bool(waiting) + ["return"] * bool(finished)
            choices += ["crash"] * bool(
                crashes and waiting and self._random.random() < 0.1
            )
            match self._random.choice(choices):
                case "invoke":
                    f, value = todo.pop(0)
                    self._next_process += 1
                    op = Op(0, 0, self._next_process, "invoke", f, value)
                    self._open[self._next_process] = (self._record(op), False)
                case "happen":
                    process = self._random.choice(waiting)
                    op, _ = self._open[process]
                    self._results[process] = self._apply(op.f, op.value)
                    self._open[process] = (op, True)
                case "return":
                    process = self._random.choice(finished)
                    op, _ = self._open.pop(process)
                    self._record(op.ok(self._results[process]))
                case _:
                    process = self._random.choice(waiting)
                    op, _ = self._open.pop(process)
                    if self._random.random() < 0.5:
                        self._record(op.fail())
                    else:
                        if self._random.random() < 0.5:
                            self._apply(op.f, op.value)
                        self._record(op.info())
        return History(self.ops)


def correct_set(seed: int, *, crashes: bool = True) -> History:
    random, held = Random(seed), []

    def apply(f: str, value: Any) -> Any:
        if f == "add":
            held.append(value)
            return value
        return list(held)

    adds = [("add", i) for i in range(random.randint(1, 12))]
    reads = [("read", None)] * random.randint(1, 8)
    todo: list[tuple[str, Any]] = [*adds, *reads]
    random.shuffle(todo)
    return Service(random, apply).run([*todo, ("read", None)], crashes=crashes)


def correct_counter(seed: int) -> History:
    random, total = Random(seed), [0]

    def apply(f: str, value: Any) -> Any:
        if f == "add":
            total[0] += value
            return value
        return total[0]

    todo = [
        random.choice([("read", None), ("add", random.randint(0, 5))])
        for _ in range(random.randint(1, 25))
    ]
    return Service(random, apply).run([*todo, ("read", None)])


def correct_queue(seed: int) -> History:
    random, line = Random(seed), []

    def apply(f: str, value: Any) -> Any:
        if f == "enqueue":
            line.append(value)
            return value
        return line.pop(0) if line else None

    todo: list[tuple[str, Any]] = [("enqueue", i) for i in range(random.randint(1, 10))]
    todo += [("dequeue", None)] * random.randint(1, 10)
    random.shuffle(todo)
    return Service(random, apply).run([*todo, *[("dequeue", None)] * 12])


SEEDS = st.integers(0, 10**9)


@given(seed=SEEDS)
def test_no_false_alarm_on_a_correct_set(seed: int) -> None:
    judged = correct_set(seed)
    for name in ("set", "set-full"):
        assert check(name, judged).verdict is not Verdict.INVALID
    assert check("set-full", judged, linearizable="true").verdict is not Verdict.INVALID


@given(seed=SEEDS)
def test_no_false_alarm_on_a_correct_counter(seed: int) -> None:
    assert check("counter", correct_counter(seed)).verdict is not Verdict.INVALID


@given(seed=SEEDS)
def test_no_false_alarm_on_a_correct_queue(seed: int) -> None:
    judged = correct_queue(seed)
    assert check("total-queue", judged).verdict is not Verdict.INVALID
    assert check("queue", judged).verdict is not Verdict.INVALID


@pytest.mark.parametrize(
    ("name", "correct"),
    [
        ("set", correct_set),
        ("set-full", correct_set),
        ("counter", correct_counter),
        ("queue", correct_queue),
        ("total-queue", correct_queue),
    ],
)
@given(seed=SEEDS)
def test_no_false_alarm_where_only_completions_were_recorded(
    name: str, correct: Callable[[int], History], seed: int
) -> None:
    ends = [op for op in correct(seed) if op.type != "invoke"]
    for i, op in enumerate(ends):
        op.index = i
    judged = History(ends, strict=False)
    assert check(name, judged).verdict is not Verdict.INVALID


@given(seed=SEEDS)
def test_an_element_that_vanishes_from_the_last_reads_is_lost(seed: int) -> None:
    judged = correct_set(seed, crashes=False)
    added = next(op.value for op in judged if (op.type, op.f) == ("ok", "add"))
    known = next(
        op.index for op in judged if (op.type, op.f, op.value) == ("ok", "add", added)
    )
    # A read that begins when all is done, and misses it.
    end = len(judged)
    last = next(op for op in reversed(judged.ops) if (op.type, op.f) == ("ok", "read"))
    missing = [x for x in last.value if x != added]
    ops = [
        *judged.ops,
        Op(end, end, 999, "invoke", "read"),
        Op(end + 1, end + 1, 999, "ok", "read", missing),
    ]
    assert known < end
    for name in ("set", "set-full"):
        result = check(name, History(ops))
        assert result.verdict is Verdict.INVALID
        assert "lost" in names(result)


def test_an_element_in_a_read_that_nobody_added_is_unexpected() -> None:
    judged = history((1, "invoke", "read", None), (1, "ok", "read", [5]))
    assert names(check("set", judged)) == {"unexpected"}


def test_an_element_read_twice_is_a_duplicate() -> None:
    judged = history(
        (1, "invoke", "add", 5),
        (1, "ok", "add", 5),
        (1, "invoke", "read", None),
        (1, "ok", "read", [5, 5]),
    )
    assert names(check("set-full", judged)) == {"duplicate"}


def test_a_stale_read_is_wrong_only_where_linearizability_is_asked_for() -> None:
    judged = history(
        (1, "invoke", "add", 5),
        (1, "ok", "add", 5),
        (2, "invoke", "read", None),
        (2, "ok", "read", []),
        (2, "invoke", "read", None),
        (2, "ok", "read", [5]),
    )
    assert check("set-full", judged).verdict is Verdict.VALID
    strict = check("set-full", judged, linearizable="true")
    assert names(strict) == {"stale-read"}
    assert strict.anomalies[0].ops == (0, 1, 2, 3)


@given(seed=SEEDS, off=st.sampled_from([-1, 1]))
def test_a_counter_read_out_of_its_bounds_is_found(seed: int, off: int) -> None:
    judged = correct_counter(seed)
    last = judged.ops[-1]
    if (last.type, last.f) != ("ok", "read"):
        return
    sure = sum(o.value for o in judged if (o.type, o.f) == ("ok", "add"))
    tried = sum(
        op.value
        for op, done in judged.calls()
        if op.f == "add" and (done is None or done.type != "fail")
    )
    begun = judged.completion[last.index]
    before = sum(o.value for o in judged.ops[:begun] if (o.type, o.f) == ("ok", "add"))
    last.value = before - 1 if off < 0 else tried + 1
    assert sure <= tried
    assert names(check("counter", judged)) == {"out-of-bounds"}


@pytest.mark.parametrize("value", [-1, "x", 1.5, True, None])
def test_a_counter_that_goes_down_is_refused(value: Any) -> None:
    with pytest.raises(HistoryError, match="op 0: add of"):
        check("counter", history((1, "invoke", "add", value)))


def test_what_was_enqueued_and_never_comes_out_is_lost() -> None:
    judged = history(
        (1, "invoke", "enqueue", "a"),
        (1, "ok", "enqueue", "a"),
        (1, "invoke", "enqueue", "b"),
        (1, "ok", "enqueue", "b"),
        (2, "invoke", "dequeue", None),
        (2, "ok", "dequeue", "b"),
    )
    result = check("total-queue", judged)
    assert names(result) == {"lost"}
    assert "'a' was enqueued by process 1" in result.anomalies[0].explanation


def test_a_dequeue_of_unknown_outcome_may_have_taken_what_is_missing() -> None:
    judged = history(
        (1, "invoke", "enqueue", "a"),
        (1, "ok", "enqueue", "a"),
        (2, "invoke", "dequeue", None),
        (2, "info", "dequeue", None),
        (3, "invoke", "dequeue", None),
        (3, "ok", "dequeue", None),
    )
    assert check("total-queue", judged).verdict is Verdict.UNKNOWN


def test_what_nobody_enqueued_is_unexpected() -> None:
    judged = history((2, "invoke", "dequeue", None), (2, "ok", "dequeue", "x"))
    assert names(check("total-queue", judged)) == {"unexpected"}
    assert names(check("queue", judged)) == {"unexpected"}


def test_an_element_that_comes_out_twice_was_in_only_once() -> None:
    judged = history(
        (1, "invoke", "enqueue", "a"),
        (1, "ok", "enqueue", "a"),
        (2, "invoke", "dequeue", None),
        (2, "ok", "dequeue", "a"),
        (2, "invoke", "dequeue", None),
        (2, "ok", "dequeue", "a"),
    )
    assert names(check("queue", judged)) == {"unexpected"}
    tolerant = check("total-queue", judged)
    assert tolerant.verdict is Verdict.VALID
    assert tolerant.stats["duplicated"] == 1


def test_true_and_one_are_two_ids() -> None:
    judged = history(
        (1, "invoke", "generate", None),
        (1, "ok", "generate", 1),
        (1, "invoke", "generate", None),
        (1, "ok", "generate", True),
    )
    assert check("unique-ids", judged).verdict is Verdict.VALID


BALANCES: list[tuple[Any, str | None]] = [
    ({"a": 60, "b": 40}, None),
    ({"a": 60, "b": 41}, "wrong-total"),
    ({"a": 110, "b": -10}, "negative-value"),
    ({"a": 100, "b": None}, "nil-balance"),
    ({"a": 60, "c": 40}, "unexpected-key"),
]


@pytest.mark.parametrize(("balances", "anomaly"), BALANCES)
def test_a_bank_adds_up(balances: Any, anomaly: str | None) -> None:
    judged = history(
        (1, "invoke", "read", None),
        (1, "ok", "read", {"a": 50, "b": 50}),
        (1, "invoke", "read", None),
        (1, "ok", "read", balances),
    )
    assert names(check("bank", judged)) == ({anomaly} if anomaly else set())


def test_a_bank_may_let_accounts_owe() -> None:
    judged = history(
        (1, "invoke", "read", None), (1, "ok", "read", {"a": 110, "b": -10})
    )
    assert check("bank", judged, negative_balances="true").verdict is Verdict.VALID


def status(process: int, role: str, term: int) -> list[tuple[int, str, str, Any]]:
    value = {"role": role, "term": term, "leader": None}
    return [(process, "invoke", "status", None), (process, "ok", "status", value)]


def test_two_leaders_in_one_term_are_one_too_many() -> None:
    fine = history(
        *status(0, "leader", 1), *status(1, "leader", 2), *status(2, "follower", 2)
    )
    assert check("one_leader", fine).verdict is Verdict.VALID
    split = history(*status(0, "leader", 2), *status(1, "leader", 2))
    result = check("one_leader", split)
    assert names(result) == {"two-leaders"}
    assert result.anomalies[0].explanation.startswith("n1 and n2 both said")


def test_more_terms_with_leaders_than_were_asked_for_are_too_many() -> None:
    judged = history(
        *status(0, "leader", 1), *status(1, "leader", 4), *status(1, "leader", 4),
        *status(2, "follower", 9), *status(2, "leader", 6),
    )  # fmt: skip
    assert check("one_leader", judged, terms_max="3").verdict is Verdict.VALID
    result = check("one_leader", judged, terms_max="2")
    assert names(result) == {"unstable-leadership"}
    (anomaly,) = result.anomalies
    assert anomaly.ops == (1, 3, 9)
    assert anomaly.explanation == (
        "3 terms had leaders (n1 in term 1, n2 in term 4 and n3 in term 6), though no "
        "more than 2 were to be: every change stops the service for an election."
    )
    for nonsense in ("0", "-1", "x"):
        with pytest.raises(UsageError, match="terms-max"):
            check("one_leader", judged, terms_max=nonsense)


@pytest.mark.parametrize(
    "name",
    [name for name in registry.plugins("checker") if name != "log-file-pattern"],
)
def test_nothing_to_judge_is_unknown(name: str) -> None:
    result = check(name, History([]))
    assert result.verdict is Verdict.UNKNOWN
    assert result.reason
    assert result.vacuous


@pytest.mark.parametrize(
    ("name", "options"),
    [("set", {"x": "1"}), ("bank", {"total_amount": "lots"}), ("counter", {"v": "1"})],
)
def test_wrong_options_are_refused(name: str, options: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        check(name, History([]), **options)
